package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodyworn/ingestd/storage/ledger"
)

const prefix = "STATION-1/ledger"

func verifyPublished(t *testing.T, b *bucket, dir string) *ledger.Report {
	t.Helper()
	report, err := ledger.VerifyPublished(t.Context(), b, prefix, dir, ledger.Keys{station.PublicKey()}, origin)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// checkPublished proves from outside that the bucket alone holds the log.
func checkPublished(t *testing.T, b *bucket, dir string, size int64) {
	t.Helper()
	if report := verifyPublished(t, b, dir); !report.Sound() || len(report.Told) != 0 || report.Checkpoint.Size != size {
		t.Fatalf("size %d, want %d; %v, told %v", report.Checkpoint.Size, size, report.Findings, report.Told)
	}
	fetched := filepath.Join(t.TempDir(), "ledger")
	got, unsigned, err := ledger.Fetch(t.Context(), b, prefix, fetched, ledger.Keys{station.PublicKey()}, origin)
	if err != nil || got != size || unsigned != 0 {
		t.Fatalf("fetched %d and %d: %v", got, unsigned, err)
	}
	head := readFile(t, fetched, "entries.jsonl")
	if !bytes.HasPrefix(readFile(t, dir, "entries.jsonl"), head) {
		t.Fatal("other lines were fetched")
	}
	open(t, fetched) // repairs nothing: see open
	checkSound(t, fetched, size)
}

func TestPublishAndFetch(t *testing.T) {
	t.Parallel()
	dir, b := t.TempDir(), newBucket()
	l := open(t, dir)
	publish := func() {
		t.Helper()
		if err := l.Publish(t.Context(), b, prefix); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	if len(b.objects) != 0 {
		t.Errorf("an empty log is published: %v", b.objects)
	}
	appendN(t, l, 0, 3)
	publish()
	publish()
	appendN(t, l, 3, 4)
	publish()
	publish()
	want := []string{
		prefix + "/checkpoint/0000000000000003", prefix + "/checkpoint/0000000000000007",
		prefix + "/entries/0000000000000000-0000000000000003.jsonl", prefix + "/entries/0000000000000003-0000000000000007.jsonl",
	}
	if got := slices.Sorted(maps.Keys(b.objects)); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	checkPublished(t, b, dir, 7)
	appendN(t, l, 7, 1) // not published yet
	checkPublished(t, b, dir, 7)

	// A station that was lost goes on with what the bucket has.
	again := filepath.Join(t.TempDir(), "ledger")
	if _, _, err := ledger.Fetch(t.Context(), b, prefix, again, ledger.Keys{station.PublicKey()}, origin); err != nil {
		t.Fatal(err)
	}
	appendN(t, open(t, again), 20, 2)
	if err := open(t, again).Publish(t.Context(), b, prefix); err != nil {
		t.Fatal(err)
	}
	checkPublished(t, b, again, 9)
	// The old folder, should it come back, has another history then.
	if err := l.Publish(t.Context(), b, prefix); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("a shorter folder publishes: %v", err)
	}
	appendN(t, l, 30, 5)
	if err := l.Publish(t.Context(), b, prefix); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("another history publishes: %v", err)
	}
	if report := verifyPublished(t, b, dir); report.Sound() {
		t.Error("another history is sound")
	}
	if _, _, err := ledger.Fetch(t.Context(), b, prefix, again, ledger.Keys{station.PublicKey()}, origin); err == nil {
		t.Error("a folder was overwritten")
	}
	if _, _, err := ledger.Fetch(t.Context(), b, "none", filepath.Join(t.TempDir(), "x"), ledger.Keys{station.PublicKey()}, origin); err == nil {
		t.Error("nothing was fetched without an error")
	}
}

func TestLongLogsAreCutIntoSegments(t *testing.T) {
	t.Parallel()
	dir, b := t.TempDir(), newBucket()
	l := open(t, dir)
	var batch []ledger.Entry
	for n := range 6 {
		e := entry(n)
		e.Detail = map[string]string{"x": strings.Repeat("x", ledger.MaxLine-2000)}
		batch = append(batch, e)
	}
	if _, err := l.Append(t.Context(), batch...); err != nil {
		t.Fatal(err)
	}
	if err := l.Publish(t.Context(), b, prefix); err != nil {
		t.Fatal(err)
	}
	if len(b.objects) != 4 {
		t.Errorf("%d objects", len(b.objects))
	}
	for key, body := range b.objects {
		if len(body) > 5<<20 {
			t.Errorf("%s has %d bytes", key, len(body))
		}
	}
	if report := verifyPublished(t, b, ""); !report.Sound() || report.Checkpoint.Size != 6 {
		t.Errorf("%v", report)
	}
}

// Every call fails once, in every way; the log grows between the tries.
func TestPublishFailsAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, how := range []string{failedNotStored, failedStored, failedLate} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			for failAt, failed := 1, true; failed; failAt++ {
				dir, b := t.TempDir(), newBucket()
				l := open(t, dir)
				appendN(t, l, 0, 2)
				if err := l.Publish(t.Context(), b, prefix); err != nil {
					t.Fatal(err)
				}
				appendN(t, l, 2, 2)
				b.calls, b.failAt, b.how = 0, failAt, how
				err := l.Publish(t.Context(), b, prefix)
				if failed = err != nil; failed && !errors.Is(err, errInjected) {
					t.Fatal(err)
				}
				b.failAt = 0
				if report := verifyPublished(t, b, dir); !report.Sound() {
					t.Fatalf("call %d: in between, %v", failAt, report.Findings)
				}
				appendN(t, l, 4, 3)
				l = open(t, dir) // the station was started again
				if err := l.Publish(t.Context(), b, prefix); err != nil {
					t.Fatalf("call %d: %v", failAt, err)
				}
				b.arrive()
				checkPublished(t, b, dir, 7)
			}
		})
	}
}

// Reads fail too, and leave nothing half.
func TestFetchFailsAtEveryCall(t *testing.T) {
	t.Parallel()
	dir, b := t.TempDir(), newBucket()
	l := open(t, dir)
	for n := range 3 {
		appendN(t, l, n, 1)
		if err := l.Publish(t.Context(), b, prefix); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "ledger")
	for failAt, failed := 1, true; failed; failAt++ {
		b.calls, b.failAt = 0, failAt
		_, _, err := ledger.Fetch(t.Context(), b, prefix, to, ledger.Keys{station.PublicKey()}, origin)
		if failed = err != nil; failed && !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		b.calls = 0
		if _, err := ledger.VerifyPublished(t.Context(), b, prefix, dir, ledger.Keys{station.PublicKey()}, origin); failed && !errors.Is(err, errInjected) {
			t.Errorf("call %d: verify says %v", failAt, err)
		}
	}
	checkSound(t, to, 3)
	if left, err := filepath.Glob(filepath.Dir(to) + "/*"); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// The station is lost between a segment and its checkpoint.
func TestUnsignedLinesAreAdopted(t *testing.T) {
	t.Parallel()
	dir, b := t.TempDir(), newBucket()
	l := open(t, dir)
	appendN(t, l, 0, 2)
	if err := l.Publish(t.Context(), b, prefix); err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 2, 3)
	if err := l.Publish(t.Context(), b, prefix); err != nil {
		t.Fatal(err)
	}
	delete(b.objects, prefix+"/checkpoint/0000000000000005")
	if report := verifyPublished(t, b, ""); !report.Sound() || len(report.Told) != 1 || report.Told[0].Kind != ledger.FindingUnfinished {
		t.Fatalf("%v, told %v", report.Findings, report.Told)
	}
	to := filepath.Join(t.TempDir(), "ledger")
	size, unsigned, err := ledger.Fetch(t.Context(), b, prefix, to, ledger.Keys{station.PublicKey()}, origin)
	if err != nil || size != 2 || unsigned != 3 {
		t.Fatal(size, unsigned, err)
	}
	l = open(t, to)
	if _, err := l.Append(t.Context(), entry(9)); err == nil {
		t.Error("lines that are in the bucket were passed over")
	}
	waiting := readFile(t, to, "unsigned.jsonl")
	for n, want := range []int{3, 0, 0} {
		if n == 1 { // a crash before the file was removed
			writeFile(t, waiting, to, "unsigned.jsonl")
		}
		if adopted, err := l.AdoptUnsigned(t.Context()); err != nil || adopted != want {
			t.Fatal(n, adopted, err)
		}
	}
	checkSound(t, to, 5)
	if !bytes.Equal(readFile(t, to, "entries.jsonl"), readFile(t, dir, "entries.jsonl")) {
		t.Error("other lines were adopted")
	}
	appendN(t, l, 9, 1)
	if err := l.Publish(t.Context(), b, prefix); err != nil {
		t.Fatal(err)
	}
	checkPublished(t, b, to, 6)
	writeFile(t, []byte("7\n{}\n"), to, "unsigned.jsonl")
	if _, err := l.AdoptUnsigned(t.Context()); err == nil {
		t.Error("lines were adopted that do not go on from the end")
	}
	writeFile(t, []byte("6\n{}\n"), to, "unsigned.jsonl")
	if _, err := l.AdoptUnsigned(t.Context()); err == nil {
		t.Error("a line was adopted that is no entry")
	}
	handing, err := ledger.Rotated(entry(6), origin, station.PublicKey(), successor.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	line, err := handing.Encode()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, fmt.Appendf(nil, "6\n%s\n", line), to, "unsigned.jsonl")
	if _, err := l.AdoptUnsigned(t.Context()); err == nil {
		t.Error("a line was adopted that hands over to another key")
	}
}

func TestPublishersAtOnce(t *testing.T) {
	t.Parallel()
	dir, b := t.TempDir(), newBucket()
	var wg sync.WaitGroup
	for g := range 4 {
		l := open(t, dir)
		wg.Go(func() {
			for range 6 {
				e := entry(0)
				e.Session = fmt.Sprint(g)
				if _, err := l.Append(t.Context(), e); err != nil {
					t.Error(err)
				}
				if err := l.Publish(t.Context(), b, prefix); err != nil {
					t.Error(err)
				}
				report, err := ledger.VerifyPublished(t.Context(), b, prefix, dir, ledger.Keys{station.PublicKey()}, origin)
				if err == nil && !report.Sound() {
					t.Errorf("in between, %v", report.Findings)
				}
			}
		})
	}
	wg.Wait()
	checkPublished(t, b, dir, 24)
}

// Between the listing of one publisher and its first object, another must wait.
func TestPublishersWaitForEachOther(t *testing.T) {
	t.Parallel()
	dir, b := t.TempDir(), newBucket()
	one, two := open(t, dir), open(t, dir)
	appendN(t, one, 0, 1)
	slow := &meddled{bucket: b, listings: 3, act: func() {
		appendN(t, two, 1, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := two.Publish(ctx, b, prefix); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the other publisher says %v", err)
		}
	}}
	if err := one.Publish(t.Context(), slow, prefix); err != nil {
		t.Fatal(err)
	}
	if err := two.Publish(t.Context(), b, prefix); err != nil {
		t.Fatal(err)
	}
	checkPublished(t, b, dir, 2)
}

// A station publishes while its bucket is verified.
func TestVerifyPublishedMeanwhile(t *testing.T) {
	t.Parallel()
	for listings := 1; listings <= 3; listings++ {
		dir, b := t.TempDir(), newBucket()
		l := open(t, dir)
		appendN(t, l, 0, 1)
		if err := l.Publish(t.Context(), b, prefix); err != nil {
			t.Fatal(err)
		}
		busy := &meddled{bucket: b, listings: listings, act: func() {
			for n := range 2 {
				appendN(t, l, 1+n, 1)
				if err := l.Publish(t.Context(), b, prefix); err != nil {
					t.Error(err)
				}
			}
		}}
		report, err := ledger.VerifyPublished(t.Context(), busy, prefix, dir, ledger.Keys{station.PublicKey()}, origin)
		if err != nil || !report.Sound() {
			t.Errorf("after listing %d: %v, %v", listings, err, report)
		}
	}
}

// What was in the way of a segment or a checkpoint is compared.
func TestPublishComparesWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	appendN(t, l, 0, 2)
	random := rand.New(rand.NewPCG(1, 2))
	for _, key := range []string{"/entries/0000000000000000-0000000000000002.jsonl", "/entries/0000000000000000-0000000000000003.jsonl", "/checkpoint/0000000000000002"} {
		b := newBucket()
		b.objects[prefix+key] = fmt.Append(nil, random.Uint64(), "\n")
		if err := l.Publish(t.Context(), b, prefix); !errors.Is(err, ledger.ErrBroken) {
			t.Errorf("%s: publish says %v", key, err)
		}
		if len(b.objects) != 1 {
			t.Errorf("%s: published %v", key, slices.Collect(maps.Keys(b.objects)))
		}
	}
}

// slow is a bucket that hears of an end of the work while it stores.
type slow struct {
	*bucket
	stop context.CancelFunc
}

func (s slow) Create(ctx context.Context, key string, body []byte) error {
	s.stop()
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.bucket.Create(ctx, key, body)
}

// Who is told to end while it publishes leaves no lines in the bucket that count for
// nothing where the folder is lost, and begins nothing more.
func TestToldToEndWhileItPublishes(t *testing.T) {
	t.Parallel()
	dir, b := t.TempDir(), newBucket()
	l := open(t, dir)
	for n := range 6 { // in two segments
		e := entry(n)
		e.Detail = map[string]string{"x": strings.Repeat("x", ledger.MaxLine-2000)}
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	if err := l.Publish(ctx, slow{b, stop}, prefix); !errors.Is(err, context.Canceled) {
		t.Fatalf("it went on with the next segment: %v", err)
	}
	if len(b.objects) != 2 {
		t.Fatalf("%d objects", len(b.objects))
	}
	report := verifyPublished(t, b, dir)
	checkPublished(t, b, dir, report.Checkpoint.Size)
}

// stuck is a bucket that does not answer.
type stuck struct{ *bucket }

func (stuck) Create(ctx context.Context, _ string, _ []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

// A store that does not answer keeps nobody from ending.
func TestToldToEndWhileTheStoreIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, b := t.TempDir(), newBucket()
		l := open(t, dir)
		appendN(t, l, 0, 3)
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		begun := time.Now()
		if err := l.Publish(ctx, stuck{b}, prefix); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if took := time.Since(begun); took != 21*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}
