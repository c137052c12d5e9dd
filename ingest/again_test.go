package ingest_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

const large = 2*partSize + 7

func isCompletion(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Get("uploadId") != ""
}

// throwAway lets the store lose the parts of an upload, as one does whose
// completion was cut off.
func (w *world) throwAway(r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/"+w.store.Bucket+"/")
	core := minio.Core{Client: w.server.Client()}
	if err := core.AbortMultipartUpload(w.t.Context(), w.store.Bucket, key, r.URL.Query().Get("uploadId")); err != nil {
		w.t.Error(err)
	}
}

func (w *world) put(key, body string) {
	w.t.Helper()
	if _, err := w.server.Client().PutObject(w.t.Context(), w.store.Bucket, key, strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{DisableContentSha256: true}); err != nil {
		w.t.Error(err)
	}
}

func fileOf(t *testing.T, r ingest.Report, path string) *journal.File {
	t.Helper()
	for _, f := range r.Files {
		if f.Entry.Path == path {
			return f
		}
	}
	t.Fatalf("%s is not in the report", path)
	return nil
}

// A completion that was cut off can leave neither an object nor parts. The file is
// still on the recorder: it is sent again in the same session.
func TestPartsThatTheStoreHasLostAreSentAgain(t *testing.T) {
	t.Parallel()
	for most, want := range map[int32]journal.FileState{1: journal.Verified, 2: journal.Verified, 100: journal.Corrupt} {
		w := newWorld(t)
		var lost atomic.Int32
		w.through(&line{request: func(r *http.Request) int {
			if isCompletion(r) && footageOf(r, "b.mp4") && lost.Add(1) <= most {
				w.throwAway(r)
			}
			return 0
		}})
		card := t.TempDir()
		write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": large, "c.mp4": large})
		r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.check(card, r)
		again := int(min(most, 2))
		if stateOf(r, "b.mp4") != want || r.Safe != (want == journal.Verified) || w.saw("ingest.sent_again") != again {
			t.Errorf("lost %d times: %s, b.mp4 is %s, %d events tell of another try", most, r.State, stateOf(r, "b.mp4"), w.saw("ingest.sent_again"))
		}
		if read := int64(1000 + large + (1+again)*large); r.BytesRead != read {
			t.Errorf("lost %d times: %d bytes were read, want %d", most, r.BytesRead, read)
		}
		if stateOf(r, "c.mp4") != journal.Verified {
			t.Errorf("c.mp4 is %s", stateOf(r, "c.mp4"))
		}
	}
}

// Where the key holds other bytes, they stay and the file gets another key.
func TestAKeyThatIsTakenAtCompletion(t *testing.T) {
	t.Parallel()
	for _, partsToo := range []bool{false, true} {
		aKeyThatIsTaken(t, partsToo)
	}
}

func aKeyThatIsTaken(t *testing.T, partsToo bool) {
	w := newWorld(t)
	var taken atomic.Bool
	w.through(&line{request: func(r *http.Request) int {
		if isCompletion(r) && footageOf(r, "b.mp4") && taken.CompareAndSwap(false, true) {
			if partsToo {
				w.throwAway(r)
			}
			w.put(strings.TrimPrefix(r.URL.Path, "/"+w.store.Bucket+"/"), "other bytes")
		}
		return 0
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"b.mp4": large})
	r := w.mustDock(card, ingest.Options{})
	first := r.Session.Prefix + "footage/b.mp4"
	if key := fileOf(t, r, "b.mp4").Object.Key; !r.Safe || key == first || !strings.HasPrefix(key, first) {
		t.Errorf("%s, b.mp4 is %s", r.State, key)
	}
	if body, _ := w.fetch(first, ""); string(body) != "other bytes" {
		t.Error("what was there is there no more")
	}
	if w.saw("ingest.sent_again") != 1 {
		t.Errorf("%d events tell of another try", w.saw("ingest.sent_again"))
	}
}

// The same after a crash between the last part and the completion.
func TestPartsThatAreLostBeforeASessionGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var down atomic.Bool
	w.through(&line{request: func(r *http.Request) int {
		if isCompletion(r) && !down.Swap(true) {
			w.throwAway(r)
		}
		if down.Load() {
			return http.StatusServiceUnavailable
		}
		return 0
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"b.mp4": large})
	r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil)
	if err == nil || stateOf(r, "b.mp4") != journal.Completing {
		t.Fatalf("%v, b.mp4 is %s", err, stateOf(r, "b.mp4"))
	}
	w.mend()
	again := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if !again.Safe || again.Session.ID != r.Session.ID || w.saw("ingest.sent_again") != 1 {
		t.Errorf("%s, session %s after %s, %d events tell of another try", again.State, again.Session.ID, r.Session.ID, w.saw("ingest.sent_again"))
	}
}

// A bit that flips on the way back is not a corrupt object.
func TestOneWrongReadBackIsReadOnceMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.through(&line{answer: func(r *http.Response) error {
		// Until it was seen: a connection that breaks has its bytes come again untold.
		if r.Request.Method == http.MethodGet && footageOf(r.Request, "a.mp4") && w.saw("verify.reread") == 0 {
			r.Body = &flipping{r.Body, 500}
		}
		return nil
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	r := w.mustDock(card, ingest.Options{})
	if !r.Safe || w.saw("verify.reread") != 1 || w.saw("verify.mismatch") != 0 || w.objects() != 5 {
		t.Errorf("%s; %d and %d events; %d objects", r.State, w.saw("verify.reread"), w.saw("verify.mismatch"), w.objects())
	}
}

// An object that is corrupt stays where it is, is known as such everywhere, and
// the footage is stored again under another key.
func TestACorruptObjectIsQuarantinedAndItsFileStoredAgain(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, large} {
		w := newWorld(t)
		w.through(&line{answer: func(r *http.Response) error {
			if r.Request.Method == http.MethodGet && footageOf(r.Request, "a.mp4") {
				r.Body = &flipping{r.Body, int64(size / 2)}
			}
			return nil
		}})
		card := t.TempDir()
		write(t, card, map[string]int{"a.mp4": size, "b.mp4": 10})
		r := w.mustDock(card, ingest.Options{Recorder: "R1"})
		w.mend()
		bad := r.Session.Prefix + "footage/a.mp4"
		if !r.Safe || fileOf(t, r, "a.mp4").Object.Key == bad || w.saw("verify.mismatch") != 1 || w.saw("ingest.sent_again") != 1 {
			t.Fatalf("%s, a.mp4 is %s; %d and %d events", r.State, fileOf(t, r, "a.mp4").Object.Key, w.saw("verify.mismatch"), w.saw("ingest.sent_again"))
		}
		for _, f := range w.manifestOf(r).Files {
			if tells := strings.Contains(f.Note, bad); tells != (f.Path == "a.mp4") {
				t.Errorf("the manifest notes of %s: %q", f.Path, f.Note)
			}
		}
		v := &ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.ID, Ring: w.evidence.Ring}
		for name, verify := range map[string]func() (ingest.Verification, error){
			"all":     func() (ingest.Verification, error) { return v.All(t.Context()) },
			"session": func() (ingest.Verification, error) { return v.Sessions(t.Context(), []string{r.Session.ID}) },
		} {
			result, err := verify()
			if err != nil || len(result.Findings) != 0 || len(result.Quarantined) != 1 || result.Quarantined[0].Key != bad ||
				!strings.Contains(result.Quarantined[0].Detail, "SHA-256") {
				t.Errorf("%s: %+v, %v", name, result, err)
			}
		}
		if again := w.mustDock(card, ingest.Options{Recorder: "R1"}); again.Totals.Identical != 2 {
			t.Errorf("docked again: %d identical, %d stored", again.Totals.Identical, again.Totals.Stored)
		}
	}
}

// What was found corrupt after its session is not called identical: the recorder
// may be the last place where the file is.
func TestWhatWasFoundCorruptIsTakenFromTheRecorderAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 1000})
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	o := fileOf(t, r, "a.mp4").Object
	if err := w.journal.Quarantine(t.Context(), journal.Quarantined{Key: o.Key, Version: o.VersionID, Session: r.Session.ID, Reason: "rot", At: w.journal.Now()}); err != nil {
		t.Fatal(err)
	}
	again := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if stateOf(again, "a.mp4") != journal.Verified || stateOf(again, "b.mp4") != journal.Identical {
		t.Errorf("a.mp4 is %s, b.mp4 %s", stateOf(again, "a.mp4"), stateOf(again, "b.mp4"))
	}
}

func TestASampleCanBeDrawnAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	files := map[string]int{}
	for i := range 19 {
		files[strings.Repeat("x", i+1)+".mp4"] = 100 + i
	}
	write(t, card, files)
	r := w.mustDock(card, ingest.Options{}) // 19 files and a manifest
	v := &ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.ID, Ring: w.evidence.Ring}
	sample := func(percent float64, seed uint64) ingest.Verification {
		result, err := v.Sample(t.Context(), percent, seed)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	one, same := sample(21, 7), sample(21, 7)
	if s := *one.Sample; s != (ingest.Sample{Seed: 7, Percent: 21, Population: 20, Size: 5}) || one.Bytes != same.Bytes || one.Bytes == 0 || len(one.Findings) != 0 {
		t.Errorf("%+v of %+v, then %+v", *one.Sample, one, same)
	}
	if s := sample(0.001, 1).Sample; s.Size != 1 {
		t.Errorf("the smallest sample has %d", s.Size)
	}
	// A whole sample finds what is wrong, whatever the seed.
	o := fileOf(t, r, "x.mp4").Object
	w.through(&line{answer: func(a *http.Response) error {
		if a.Request.Method == http.MethodGet && strings.HasSuffix(a.Request.URL.Path, o.Key) {
			a.Body = &flipping{a.Body, 3}
		}
		return nil
	}})
	v.Vault, v.Journal = w.vault, w.journal
	if all := sample(100, 3); all.Sample.Size != 20 || len(all.Findings) != 1 || all.Findings[0].Problem != ingest.Mismatch || all.Findings[0].Key != o.Key {
		t.Errorf("%+v: %+v", *all.Sample, all.Findings)
	}
}

// A file that was begun and comes back in another form is remembered as it is now,
// or whoever looks at it later would call it wrong.
func TestAFileThatCameBackLongerIsRememberedSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"b.mp4": 4 * partSize})
	pulled := &faults{atByte: func(_ device.Entry, at int64) error {
		if at > 3*partSize {
			return device.ErrRemoved
		}
		return nil
	}}
	if _, err := w.dock(card, ingest.Options{Recorder: "R1"}, pulled); !errors.Is(err, device.ErrRemoved) {
		t.Fatal(err)
	}
	write(t, card, map[string]int{"b.mp4": 4*partSize + 5})
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	files, err := w.journal.Files(t.Context(), r.Session.ID)
	if err != nil || len(files) != 1 || files[0].Entry.Size != 4*partSize+5 || !files[0].Entry.ModTime.Equal(fileOf(t, r, "b.mp4").Entry.ModTime) {
		t.Errorf("the journal has %+v, %v", files[0].Entry, err)
	}
	v := &ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.ID, Ring: w.evidence.Ring}
	if result, err := v.Sample(t.Context(), 100, 1); err != nil || len(result.Findings) != 0 {
		t.Errorf("%+v, %v", result.Findings, err)
	}
	if again := w.mustDock(card, ingest.Options{Recorder: "R1"}); again.Totals.Identical != 1 {
		t.Errorf("docked again it is %s", stateOf(again, "b.mp4"))
	}
}
