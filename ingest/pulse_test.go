package ingest_test

import (
	"database/sql"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// told waits for an event of a name that has text in its message.
func (w *world) told(name, text string) ingest.Event {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		for _, e := range w.events {
			if e.Name == name && strings.Contains(e.Message, text) {
				w.mu.Unlock()
				return e
			}
		}
		w.mu.Unlock()
		if time.Now().After(deadline) {
			w.t.Fatalf("nothing tells %s %q", name, text)
		}
	}
}

// A session that stands still says so, once, and why; it says too that it goes on.
func TestAStandstillIsToldWithItsReason(t *testing.T) {
	t.Parallel()
	for reason, hold := range map[string]func(w *world, gate <-chan struct{}) *faults{
		"the recorder has not answered": func(_ *world, gate <-chan struct{}) *faults {
			return &faults{atByte: func(device.Entry, int64) error { <-gate; return nil }}
		},
		"the store has not answered": func(w *world, gate <-chan struct{}) *faults {
			w.through(&line{request: func(r *http.Request) int {
				if footageOf(r, "b.mp4") {
					<-gate
				}
				return 0
			}})
			return nil
		},
		"the journal, on the disk of state_dir, has not answered": func(w *world, gate <-chan struct{}) *faults {
			return &faults{opened: func(device.Entry) error { w.lockJournal(gate); return nil }}
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cfg.StallAfter = 300 * time.Millisecond
			w.restart()
			gate := make(chan struct{})
			open := sync.OnceFunc(func() { close(gate) })
			defer open()
			f := hold(w, gate)
			card := t.TempDir()
			write(t, card, map[string]int{"b.mp4": large})
			done := make(chan ingest.Report, 1)
			go func() {
				r, err := w.dock(card, ingest.Options{Recorder: "R1"}, f)
				if err != nil {
					t.Error(err)
				}
				done <- r
			}()
			// A loaded machine may have stood still before, for another reason.
			e := w.told("ingest.stalled", reason)
			if e.Level != ingest.Warn || e.Recorder != "R1" || e.Session == "" || e.Took < w.cfg.StallAfter {
				t.Errorf("told: %+v", e)
			}
			open()
			if r := <-done; !r.Safe {
				t.Errorf("it ended as %s", r.State)
			}
			w.told("ingest.moving", "")
			if n, m := w.saw("ingest.stalled"), w.saw("ingest.moving"); m > n {
				t.Errorf("%d times it stood, %d times it went on", n, m)
			}
		})
	}
}

// To wait for one's turn is told too, but is no warning.
func TestARecorderInTheQueueSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Parallel, w.cfg.StallAfter = 1, 300*time.Millisecond
	w.restart()
	gate, reading := make(chan struct{}), make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	first, second := t.TempDir(), t.TempDir()
	write(t, first, map[string]int{"a.mp4": 1000})
	write(t, second, map[string]int{"a.mp4": 1000})
	var all sync.WaitGroup
	begun := sync.OnceFunc(func() { close(reading) })
	all.Go(func() {
		if _, err := w.dock(first, ingest.Options{Recorder: "R1"}, &faults{atByte: func(device.Entry, int64) error { begun(); <-gate; return nil }}); err != nil {
			t.Error(err)
		}
	})
	<-reading
	all.Go(func() {
		if _, err := w.dock(second, ingest.Options{Recorder: "R2"}, nil); err != nil {
			t.Error(err)
		}
	})
	if e := w.told("ingest.stalled", "its turn"); e.Recorder != "R2" || e.Level != ingest.Info {
		t.Errorf("told: %+v", e)
	}
	open()
	all.Wait()
}

// lockJournal keeps everybody from writing until gate opens, as a disk does that
// hangs.
func (w *world) lockJournal(gate <-chan struct{}) {
	db, err := sql.Open("sqlite", filepath.Join(w.dir, journal.FileName)+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	if err != nil {
		w.t.Error(err)
		return
	}
	tx, err := db.Begin()
	if err != nil {
		w.t.Error(err)
		return
	}
	go func() {
		<-gate
		if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
			w.t.Error(err)
		}
	}()
}
