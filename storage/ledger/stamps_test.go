package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/ledger"
)

const stampsIn = "STATION-1/ledger"

// notary stamps by repeating what it gets: what makes a stamp true is for storage/tsa.
func notary(_ context.Context, signed []byte) ([]byte, error) {
	return append([]byte("seen: "), signed...), nil
}

func checkNotary(stamp, signed []byte) (time.Time, error) {
	if !bytes.Equal(stamp, append([]byte("seen: "), signed...)) {
		return time.Time{}, errors.New("it is over other bytes")
	}
	return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), nil
}

func TestTheLastCheckpointIsStampedOnce(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir())
	b := newBucket()
	stamp := func() (int64, bool) {
		t.Helper()
		size, stamped, err := l.StampLast(t.Context(), b, stampsIn, notary)
		if err != nil {
			t.Fatal(err)
		}
		return size, stamped
	}
	if size, stamped := stamp(); size != 0 || stamped {
		t.Errorf("of an empty bucket: %d, %v", size, stamped)
	}
	from := 0
	for _, lines := range []int{2, 3, 1} {
		appendN(t, l, from, lines)
		from += lines
		if err := l.Publish(t.Context(), b, stampsIn); err != nil {
			t.Fatal(err)
		}
		if lines == 3 {
			continue // not stamped at the time; the next one covers it
		}
		want, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		if size, stamped := stamp(); size != want || !stamped {
			t.Errorf("%d, %v, want %d", size, stamped, want)
		}
		if size, stamped := stamp(); size != want || stamped {
			t.Errorf("again: %d, %v, want %d", size, stamped, want)
		}
	}
	var stamps []string
	for key := range b.objects {
		if strings.Contains(key, "/timestamp/") {
			stamps = append(stamps, key)
		}
	}
	slices.Sort(stamps)
	if !slices.Equal(stamps, []string{stampsIn + "/timestamp/0000000000000002.tsr", stampsIn + "/timestamp/0000000000000006.tsr"}) {
		t.Errorf("%v", stamps)
	}
	seen, err := ledger.VerifyStamps(t.Context(), b, stampsIn, checkNotary)
	if err != nil || len(seen.Findings) != 0 || seen.Held != 2 || seen.Last.Size != 6 || seen.Last.Time.Year() != 2026 {
		t.Errorf("%+v, %v", seen, err)
	}
	// They are in nobody's way.
	report, err := ledger.VerifyPublished(t.Context(), b, stampsIn, "", ledger.Keys{station.PublicKey()}, origin)
	if err != nil || !report.Sound() || len(report.Told) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	appendN(t, l, from, 1)
	if err := l.Publish(t.Context(), b, stampsIn); err != nil {
		t.Error(err)
	}
}

func TestAStampThatFailsIsMadeByTheNextCall(t *testing.T) {
	t.Parallel()
	for _, how := range []string{failedNotStored, failedStored, failedLate} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				l := open(t, t.TempDir())
				b := newBucket()
				appendN(t, l, 0, 2)
				if err := l.Publish(t.Context(), b, stampsIn); err != nil {
					t.Fatal(err)
				}
				b.calls, b.failAt, b.how = 0, at, how
				if _, _, err := l.StampLast(t.Context(), b, stampsIn, notary); err == nil {
					if at < 4 {
						t.Errorf("it made %d calls", at-1)
					}
					return
				}
				b.failAt = 0
				if size, _, err := l.StampLast(t.Context(), b, stampsIn, notary); err != nil || size != 2 {
					t.Errorf("after call %d: size %d, %v", at, size, err)
				}
				b.arrive()
				seen, err := ledger.VerifyStamps(t.Context(), b, stampsIn, checkNotary)
				if err != nil || len(seen.Findings) != 0 || seen.Held != 1 {
					t.Errorf("after call %d: %+v, %v", at, seen, err)
				}
			}
		})
	}
	l := open(t, t.TempDir())
	b := newBucket()
	appendN(t, l, 0, 1)
	if err := l.Publish(t.Context(), b, stampsIn); err != nil {
		t.Fatal(err)
	}
	away := errors.New("the authority is away")
	objects := len(b.objects)
	if _, _, err := l.StampLast(t.Context(), b, stampsIn, func(context.Context, []byte) ([]byte, error) { return nil, away }); !errors.Is(err, away) || len(b.objects) != objects {
		t.Errorf("%v, %d objects", err, len(b.objects))
	}
}

func TestStampsThatDoNotHold(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir())
	honest := newBucket()
	for range 2 {
		appendN(t, l, 0, 2)
		if err := l.Publish(t.Context(), honest, stampsIn); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.StampLast(t.Context(), honest, stampsIn, notary); err != nil {
			t.Fatal(err)
		}
	}
	const two, four = stampsIn + "/timestamp/0000000000000002.tsr", stampsIn + "/timestamp/0000000000000004.tsr"
	for name, c := range map[string]struct {
		spoil func(b *bucket)
		kind  string
		held  int
	}{
		"that of another":     {func(b *bucket) { b.objects[two], b.objects[four] = b.objects[four], b.objects[two] }, ledger.FindingStamp, 0},
		"garbage":             {func(b *bucket) { b.objects[two] = []byte("x") }, ledger.FindingStamp, 1},
		"empty":               {func(b *bucket) { b.objects[four] = nil }, ledger.FindingStamp, 1},
		"another checkpoint":  {func(b *bucket) { b.objects[stampsIn+"/checkpoint/0000000000000004"] = []byte("x") }, ledger.FindingStamp, 1},
		"no checkpoint":       {func(b *bucket) { delete(b.objects, stampsIn+"/checkpoint/0000000000000004") }, ledger.FindingStamp, 1},
		"a size of its own":   {func(b *bucket) { b.objects[stampsIn+"/timestamp/4.tsr"] = b.objects[four] }, ledger.FindingForeign, 2},
		"something else":      {func(b *bucket) { b.objects[stampsIn+"/timestamp/readme"] = nil }, ledger.FindingForeign, 2},
		"no stamps, no words": {func(b *bucket) { delete(b.objects, two); delete(b.objects, four) }, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBucket()
			b.objects = maps.Clone(honest.objects)
			c.spoil(b)
			seen, err := ledger.VerifyStamps(t.Context(), b, stampsIn, checkNotary)
			if err != nil || seen.Held != c.held || (c.kind == "") != (len(seen.Findings) == 0) || (seen.Last == nil) != (c.held == 0) {
				t.Fatalf("%+v, %v", seen, err)
			}
			for _, f := range seen.Findings {
				if f.Kind != c.kind {
					t.Errorf("%s", f)
				}
			}
		})
	}
}

// Who can write to the bucket gets no stamp for a checkpoint that the station has not
// signed.
func TestNobodyElsesCheckpointIsStamped(t *testing.T) {
	t.Parallel()
	for name, note := range map[string]func(own []byte) []byte{
		"not signed":         func([]byte) []byte { return []byte(origin + "\n9\ncm9vdA==\n") },
		"of another size":    func(own []byte) []byte { return own },
		"of a forger's hand": func([]byte) []byte { return readFile(t, forged(t, keyOf("other"), entry(0)), "checkpoint") },
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, t.TempDir())
			b := newBucket()
			appendN(t, l, 0, 2)
			if err := l.Publish(t.Context(), b, stampsIn); err != nil {
				t.Fatal(err)
			}
			b.objects[stampsIn+"/checkpoint/0000000000000009"] = note(b.objects[stampsIn+"/checkpoint/0000000000000002"])
			_, _, err := l.StampLast(t.Context(), b, stampsIn, func(context.Context, []byte) ([]byte, error) {
				t.Error("it was asked for a stamp")
				return nil, nil
			})
			if !errors.Is(err, ledger.ErrBroken) {
				t.Errorf("%v", err)
			}
		})
	}
}
