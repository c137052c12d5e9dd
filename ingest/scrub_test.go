package ingest_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
)

// scrub runs the station's scrubbing until the test ends it.
func (w *world) scrub(every time.Duration, bandwidth int64) (stop func()) {
	w.cfg.ScrubEvery, w.cfg.ScrubBandwidth = every, bandwidth
	w.station.Change(w.cfg)
	ctx, cancel := context.WithCancel(w.t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { w.station.Scrub(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		ended.Wait()
	})
	w.t.Cleanup(stop)
	return stop
}

// Every session is read again when it is due, each time with a dated proof, and no
// faster than the budget allows.
func TestStoredSessionsAreReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := t.TempDir(), t.TempDir()
	write(t, first, map[string]int{"a.mp4": 1 << 20})
	write(t, second, map[string]int{"b.mp4": 1000})
	r1, r2 := w.mustDock(first, ingest.Options{}), w.mustDock(second, ingest.Options{})
	if p, err := w.journal.LastScrub(t.Context(), r1.Session.ID); err != nil || p != nil {
		t.Errorf("there is a proof before anything was read: %+v, %v", p, err)
	}
	began := time.Now()
	stop := w.scrub(time.Millisecond, 4<<20)
	w.told("scrub.done", "5 objects read again, 0 findings")
	if took, least := time.Since(began), time.Second/4; took < least {
		t.Errorf("1 MiB was read in %s; at 4 MiB a second it takes %s", took, least)
	}
	for w.saw("scrub.done") < 4 { // the other one, and both again
		time.Sleep(time.Millisecond)
	}
	stop()
	for _, r := range []ingest.Report{r1, r2} {
		p, err := w.journal.LastScrub(t.Context(), r.Session.ID)
		if err != nil || p == nil || p.Objects != 5 || p.Findings != 0 || p.Bytes < r.Totals.Bytes || !p.At.After(r.Session.EndedAt) {
			t.Errorf("the proof of %s is %+v, %v", r.Session.ID, p, err)
		}
	}
}

func TestNothingIsReadAgainBeforeItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	r := w.mustDock(card, ingest.Options{})
	w.scrub(time.Hour, 1<<30)
	time.Sleep(200 * time.Millisecond)
	if p, err := w.journal.LastScrub(t.Context(), r.Session.ID); err != nil || p != nil || w.saw("scrub.done") != 0 {
		t.Errorf("it was read: %+v, %v", p, err)
	}
}

// What rots in the store is told as an alarm, proven with its finding, and no
// longer taken for a copy of what is on the recorder.
func TestReadingAgainFindsRot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 1000})
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	w.through(&line{answer: func(a *http.Response) error {
		if a.Request.Method == http.MethodGet && footageOf(a.Request, "a.mp4") {
			a.Body = &flipping{a.Body, 3}
		}
		return nil
	}})
	stop := w.scrub(time.Millisecond, 1<<30)
	w.told("scrub.done", "1 findings")
	stop()
	e := w.told("verify.mismatch", "footage/a.mp4")
	if e.Level != ingest.Alarm || e.Session != r.Session.ID {
		t.Errorf("told: %+v", e)
	}
	if p, err := w.journal.LastScrub(t.Context(), r.Session.ID); err != nil || p == nil || p.Findings != 1 {
		t.Errorf("the proof is %+v, %v", p, err)
	}
	w.mend()
	if again := w.mustDock(card, ingest.Options{Recorder: "R1"}); again.Totals.Stored != 1 || again.Totals.Identical != 1 {
		t.Errorf("docked again: %d stored, %d identical", again.Totals.Stored, again.Totals.Identical)
	}
}

// A recorder that is read comes first: reading again stops in the middle of an
// object, and begins it anew afterwards.
func TestReadingAgainGivesWayToRecorders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stored, docked := t.TempDir(), t.TempDir()
	write(t, stored, map[string]int{"a.mp4": 2 << 20})
	write(t, docked, map[string]int{"b.mp4": 1000})
	r := w.mustDock(stored, ingest.Options{})
	var begun atomic.Int32
	w.through(&line{request: func(q *http.Request) int {
		if q.Method == http.MethodGet && strings.HasSuffix(q.URL.Path, "/footage/a.mp4") {
			begun.Add(1)
		}
		return 0
	}})
	w.scrub(time.Millisecond, 1<<20) // two seconds for a.mp4
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	until("it is not read again", func() bool { return begun.Load() == 1 })
	gate, reading := make(chan struct{}), make(chan struct{})
	open, reads := sync.OnceFunc(func() { close(gate) }), sync.OnceFunc(func() { close(reading) })
	defer open()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := w.dock(docked, ingest.Options{Recorder: "R1"}, &faults{atByte: func(device.Entry, int64) error { reads(); <-gate; return nil }}); err != nil {
			t.Error(err)
		}
	}()
	<-reading
	time.Sleep(3 * time.Second) // longer than what is left of a.mp4 takes
	if n := begun.Load(); n != 1 || w.saw("scrub.done") != 0 {
		t.Errorf("while a recorder is read, the store is read %d times, %d sessions are done", n, w.saw("scrub.done"))
	}
	open()
	<-done
	w.told("scrub.done", "5 objects read again, 0 findings")
	if p, err := w.journal.LastScrub(t.Context(), r.Session.ID); begun.Load() < 2 || err != nil || p == nil || p.Bytes <= 2<<20 {
		t.Errorf("a.mp4 was begun %d times; the proof is %+v, %v", begun.Load(), p, err)
	}
}
