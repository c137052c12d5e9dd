package ingest_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

func TestAPulledCableResumesAtTheLastDurablePart(t *testing.T) {
	t.Parallel()
	const parts = 6
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": parts*partSize - 5, "c.mp4": 1000})
	pulled := &faults{atByte: func(e device.Entry, at int64) error {
		if e.Path == "b.mp4" && at > 4*partSize {
			return device.ErrRemoved
		}
		return nil
	}}
	r, err := w.dock(card, ingest.Options{Recorder: "R1"}, pulled)
	if !errors.Is(err, device.ErrRemoved) || r.State != ingest.RemovedEarly || r.Safe {
		t.Fatalf("%s, safe %v, %v", r.State, r.Safe, err)
	}
	if w.saw("slot.removed_early") != 1 {
		t.Error("no event tells of it")
	}
	w.restart() // the station too
	again := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if !again.Safe || !again.Resumed || again.Session.ID != r.Session.ID {
		t.Fatalf("%s, resumed %v, session %s after %s", again.State, again.Resumed, again.Session.ID, r.Session.ID)
	}
	if s, err := w.journal.Session(t.Context(), r.Session.ID); err != nil || s.EarlyRemovals == nil || *s.EarlyRemovals != 1 {
		t.Errorf("the session was taken too early once: %+v, %v", s.EarlyRemovals, err)
	}
	// At least three parts were durable; behind the last one 64 KiB are compared.
	if most := int64((parts-3)*partSize + 1000 + 64<<10); again.BytesRead > most {
		t.Errorf("%d bytes were read again, at most %d were due", again.BytesRead, most)
	}
}

func TestAFileThatChangedMeanwhileIsNotContinued(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		// Same size and time, other bytes at the seam: only reading them tells.
		"at the seam": func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for i := range body {
				body[i] ^= 1
			}
			if err := os.WriteFile(path, body, 0o600); err != nil {
				return err
			}
			return os.Chtimes(path, info.ModTime(), info.ModTime())
		},
		"its time": func(path string) error { return os.Chtimes(path, time.Now(), time.Now()) },
		"gone":     os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			card := t.TempDir()
			write(t, card, map[string]int{"b.mp4": 4 * partSize, "c.mp4": 100})
			pulled := &faults{atByte: func(e device.Entry, at int64) error {
				if at > 3*partSize {
					return device.ErrRemoved
				}
				return nil
			}}
			if _, err := w.dock(card, ingest.Options{Recorder: "R1"}, pulled); !errors.Is(err, device.ErrRemoved) {
				t.Fatal(err)
			}
			if err := change(filepath.Join(card, "b.mp4")); err != nil {
				t.Fatal(err)
			}
			r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			w.check(card, r)
			if state := stateOf(r, "b.mp4"); (state == journal.Verified) != r.Safe {
				t.Errorf("b.mp4 is %s and the recorder %s", state, r.State)
			}
			if name == "its time" && !r.Safe {
				t.Errorf("a file that is there in a newer form ended as %s: %s", stateOf(r, "b.mp4"), r.State)
			}
			if stateOf(r, "c.mp4") != journal.Verified {
				t.Error("c.mp4 was not taken in")
			}
		})
	}
}

func TestAnotherCardInTheSameReaderIsAnotherSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir() // of no known recorder
	write(t, card, map[string]int{"a.mp4": 100, "b.mp4": 3 * partSize})
	pulled := &faults{atByte: func(e device.Entry, at int64) error {
		if e.Path == "b.mp4" && at > 2*partSize {
			return device.ErrRemoved
		}
		return nil
	}}
	first, err := w.dock(card, ingest.Options{}, pulled)
	if !errors.Is(err, device.ErrRemoved) {
		t.Fatal(err)
	}
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.Rename(card, kept); err != nil {
		t.Fatal(err)
	}
	write(t, card, map[string]int{"a.mp4": 200, "z.mp4": 10})
	other := w.mustDock(card, ingest.Options{})
	if other.Session.ID == first.Session.ID || other.Resumed || !other.Safe {
		t.Errorf("the other card: session %s after %s, resumed %v, %s", other.Session.ID, first.Session.ID, other.Resumed, other.State)
	}
	if err := errors.Join(os.RemoveAll(card), os.Rename(kept, card)); err != nil {
		t.Fatal(err)
	}
	back := w.mustDock(card, ingest.Options{})
	if back.Session.ID != first.Session.ID || !back.Safe {
		t.Errorf("the first card is back: session %s after %s, %s", back.Session.ID, first.Session.ID, back.State)
	}
}

func TestUnknownRecordersAreComparedByteByByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := t.TempDir(), t.TempDir()
	write(t, a, map[string]int{"v.mp4": 3 << 20})
	info, err := os.Stat(filepath.Join(a, "v.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(filepath.Join(a, "v.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	body[3<<19] ^= 1 // in the middle, outside the first and last MiB
	path := filepath.Join(b, "v.mp4")
	if err := errors.Join(os.WriteFile(path, body, 0o600), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	w.mustDock(a, ingest.Options{})
	if r := w.mustDock(b, ingest.Options{}); r.Totals.Stored != 1 {
		t.Errorf("a file of another card that agrees in name, size, time and ends was called %s", stateOf(r, "v.mp4"))
	}
	if r := w.mustDock(a, ingest.Options{}); r.Totals.Identical != 1 {
		t.Errorf("the same card again is %s", stateOf(r, "v.mp4"))
	}
	// A known recorder is compared whole where that is configured.
	w.cfg.IdenticalFull = true
	w.restart()
	w.mustDock(a, ingest.Options{Recorder: "R1"})
	if r := w.mustDock(b, ingest.Options{Recorder: "R1"}); r.Totals.Stored != 1 {
		t.Errorf("with the full comparison it was called %s", stateOf(r, "v.mp4"))
	}
}

func TestACancelledSessionStaysOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 3 * partSize})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := w.station.Ingest(ctx, device.Docking{Slot: "1", Open: func(context.Context) (device.Recorder, error) {
		real, err := folder.Open(card)
		return &faults{Recorder: real, atByte: func(_ device.Entry, at int64) error {
			if at > partSize {
				cancel()
			}
			return nil
		}}, err
	}}, ingest.Options{Recorder: "R1"})
	if !errors.Is(err, context.Canceled) || r.Safe {
		t.Errorf("%s, safe %v, %v", r.State, r.Safe, err)
	}
	s, err := w.journal.Session(t.Context(), r.Session.ID)
	if err != nil || s.State != journal.StateOpen {
		t.Errorf("session is %s, %v", s.State, err)
	}
	if again := w.mustDock(card, ingest.Options{Recorder: "R1"}); !again.Safe || again.Session.ID != r.Session.ID {
		t.Errorf("%s, session %s after %s", again.State, again.Session.ID, r.Session.ID)
	}
}

// What was verified before a session was cut off may not be in the store any more
// when it goes on: a bucket was thrown away and made anew. It is asked for again.
func TestWhatTheStoreHasLostMeanwhileIsStoredAgain(t *testing.T) {
	t.Parallel()
	for name, docked := range map[string]bool{"verified in this session": false, "identical to an earlier one": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			card := t.TempDir()
			write(t, card, map[string]int{"a.mp4": 1000})
			lostKey := ""
			if docked {
				lostKey = fileOf(t, w.mustDock(card, ingest.Options{Recorder: "R1"}), "a.mp4").Object.Key
			}
			write(t, card, map[string]int{"b.mp4": 3 * partSize})
			r, err := w.dock(card, ingest.Options{Recorder: "R1"}, &faults{atByte: func(e device.Entry, at int64) error {
				if e.Path != "b.mp4" || at < partSize {
					return nil
				}
				for w.saw("ingest.file_done") == 0 && !docked { // a.mp4 is verified beside
					time.Sleep(time.Millisecond)
				}
				return device.ErrRemoved
			}})
			if !errors.Is(err, device.ErrRemoved) {
				t.Fatal(err)
			}
			before := fileOf(t, r, "a.mp4")
			if !before.State.Good() || docked && before.Object.Key != lostKey {
				t.Fatalf("a.mp4 is %s as %s", before.State, before.Object.Key)
			}
			w.through(&line{request: func(r *http.Request) int {
				if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/"+before.Object.Key) {
					return http.StatusNotFound
				}
				return 0
			}})
			again := w.mustDock(card, ingest.Options{Recorder: "R1"})
			after := fileOf(t, again, "a.mp4")
			if !again.Safe || !again.Resumed || after.State != journal.Verified || after.Object.Key == before.Object.Key || after.Entry.Note != "" {
				t.Errorf("%s; a.mp4 is %s as %s, note %q", again.State, after.State, after.Object.Key, after.Entry.Note)
			}
			if w.saw("verify.mismatch") != 1 {
				t.Errorf("%d alarms tell of the loss", w.saw("verify.mismatch"))
			}
		})
	}
}

// The store goes away while it is asked, and comes back without what it has just shown:
// what it said before that does not count.
func TestAStoreThatGoesAwayWhileAskedIsAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 1000, "c.mp4": 3 * partSize})
	r, err := w.dock(card, ingest.Options{Recorder: "R1"}, &faults{atByte: func(e device.Entry, at int64) error {
		if e.Path != "c.mp4" || at < partSize {
			return nil
		}
		for w.saw("ingest.file_done") < 2 { // the others are verified beside
			time.Sleep(time.Millisecond)
		}
		return device.ErrRemoved
	}})
	if !errors.Is(err, device.ErrRemoved) {
		t.Fatal(err)
	}
	a, b := fileOf(t, r, "a.mp4").Object.Key, fileOf(t, r, "b.mp4").Object.Key
	var shown atomic.Bool
	var away atomic.Int32
	w.through(&line{
		request: func(r *http.Request) int {
			if r.Method != http.MethodHead {
				return 0
			}
			switch {
			case strings.HasSuffix(r.URL.Path, "/"+a) && away.Load() > 0:
				return http.StatusNotFound
			case strings.HasSuffix(r.URL.Path, "/"+b):
				for !shown.Load() { // a.mp4 was there before
					time.Sleep(time.Millisecond)
				}
				if away.Add(1) <= 4 { // more than one request bridges
					return http.StatusServiceUnavailable
				}
			}
			return 0
		},
		answer: func(r *http.Response) error {
			if r.Request.Method == http.MethodHead && strings.HasSuffix(r.Request.URL.Path, "/"+a) {
				shown.Store(true)
			}
			return nil
		},
	})
	again := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if f := fileOf(t, again, "a.mp4"); !again.Safe || f.State != journal.Verified || f.Object.Key == a {
		t.Errorf("%s; a.mp4 is %s as %s", again.State, f.State, f.Object.Key)
	}
}

// The same for a session that was cut off while it was sealed: it is not sealed with
// a manifest that would say what is not true.
func TestWhatIsLostBeforeTheSealIsStoredAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 1000})
	lost := ""
	w.through(&line{request: func(r *http.Request) int {
		switch {
		case lost == "" && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/SHA256SUMS"):
			return http.StatusForbidden
		case lost != "" && r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/"+lost):
			return http.StatusNotFound
		}
		return 0
	}})
	r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil)
	if err == nil || r.Session.State != journal.StateSealing {
		t.Fatalf("%s, %v", r.Session.State, err)
	}
	lost = fileOf(t, r, "a.mp4").Object.Key
	w.restart()
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := w.journal.Session(t.Context(), r.Session.ID)
	if err != nil || s.State != journal.StateOpen || s.Reason == "" {
		t.Errorf("the session is %s: %s, %v", s.State, s.Reason, err)
	}
	again := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if f := fileOf(t, again, "a.mp4"); !again.Safe || again.Session.ID != r.Session.ID || f.State != journal.Verified || f.Object.Key == lost {
		t.Errorf("%s as session %s; a.mp4 is %s as %s", again.State, again.Session.ID, f.State, f.Object.Key)
	}
}
