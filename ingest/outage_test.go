package ingest_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/device/staging"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// stagedWorld has a station with a staging disk and a store that can go away.
func stagedWorld(t *testing.T) (w *world, away *atomic.Bool) {
	t.Helper()
	w, away = newWorld(t), new(atomic.Bool)
	w.through(&line{request: func(*http.Request) int {
		if away.Load() {
			return http.StatusServiceUnavailable
		}
		return 0
	}})
	key, err := staging.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := staging.Open(filepath.Join(t.TempDir(), "staging"), key)
	if err != nil {
		t.Fatal(err)
	}
	dir.Reserve = 0
	t.Cleanup(func() {
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	})
	w.cfg.Staging = dir
	w.station = ingest.NewStation(w.cfg, w.vault, w.journal, w.evidence)
	return w, away
}

func (w *world) copies() []staging.Copy {
	w.t.Helper()
	all, err := w.cfg.Staging.Copies(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// While the store is away a recorder is copied to the staging disk and never called
// safe by that; when the store is back, the copy is stored by an ordinary session,
// though the recorder is gone, and only then removed.
func TestAStagedRecorderIsStoredLaterAndNotCalledSafeBefore(t *testing.T) {
	t.Parallel()
	w, away := stagedWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"A.MP4": 2*partSize + 7, "B.MP4": 1000, "Param.ini": 30})
	away.Store(true)
	removed := make(chan struct{})
	attended := make(chan struct{})
	go func() {
		defer close(attended)
		w.station.Attend(t.Context(), device.Docking{Slot: "1", Removed: removed, Open: func(context.Context) (device.Recorder, error) { return folder.Open(card) }})
	}()
	eventually(t, func() bool { return w.saw("staging.staged") == 1 })
	close(removed)
	<-attended
	if w.saw("ingest.finished") != 0 || len(w.copies()) != 1 {
		t.Errorf("with the store away: %d sessions finished, %d copies", w.saw("ingest.finished"), len(w.copies()))
	}

	ctx, stop := context.WithCancel(t.Context())
	var draining sync.WaitGroup
	draining.Go(func() { w.station.Drain(ctx) })
	eventually(t, func() bool { return w.saw("ingest.failed") > 1 }) // tried in vain
	if len(w.copies()) != 1 || w.saw("staging.removed") != 0 {
		t.Error("the copy is gone although nothing is stored")
	}
	stop()
	draining.Wait()
	away.Store(false)
	ctx, stop = context.WithCancel(t.Context())
	defer stop()
	draining.Go(func() { w.station.Drain(ctx) })
	eventually(t, func() bool { return w.saw("staging.removed") == 1 })
	stop()
	draining.Wait()
	if n := len(w.copies()); n != 0 {
		t.Errorf("%d copies are left", n)
	}
	w.checkStored(card, 1)
}

// A copy of which a part could not be read, or is damaged, is kept.
func TestAStagedCopyThatIsNotStoredInFullIsKept(t *testing.T) {
	t.Parallel()
	w, away := stagedWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"A.MP4": 1000, "B.MP4": 1000})
	away.Store(true)
	removed := make(chan struct{})
	attended := make(chan struct{})
	go func() {
		defer close(attended)
		w.station.Attend(t.Context(), device.Docking{Slot: "1", Removed: removed, Open: func(context.Context) (device.Recorder, error) {
			r, err := folder.Open(card)
			return &faults{Recorder: r, opened: func(e device.Entry) error {
				if e.Path == "B.MP4" {
					return errors.New("a bad sector")
				}
				return nil
			}}, err
		}})
	}()
	eventually(t, func() bool { return w.saw("staging.staged") == 1 })
	close(removed)
	<-attended
	away.Store(false)
	before := w.saw("ingest.failed")
	ctx, stop := context.WithCancel(t.Context())
	var draining sync.WaitGroup
	draining.Go(func() { w.station.Drain(ctx) })
	eventually(t, func() bool { return w.saw("ingest.failed") > before })
	time.Sleep(time.Second)
	stop()
	draining.Wait()
	if len(w.copies()) != 1 || w.saw("staging.removed") != 0 || w.saw("ingest.finished") != 0 {
		t.Errorf("%d copies are left, %d removed, %d sessions safe", len(w.copies()), w.saw("staging.removed"), w.saw("ingest.finished"))
	}
}

// checkStored checks from outside that the last session of the journal holds the card.
func (w *world) checkStored(card string, sessions int) {
	w.t.Helper()
	all, err := w.journal.Sessions(w.t.Context())
	if err != nil || len(all) != sessions || all[0].State != journal.StateSealed {
		w.t.Fatalf("%d sessions, the last is %+v; %v", len(all), all, err)
	}
	files, err := w.journal.Files(w.t.Context(), all[0].ID)
	if err != nil {
		w.t.Fatal(err)
	}
	w.check(card, ingest.Report{Session: all[0], Files: files, State: ingest.Safe, Safe: true})
}
