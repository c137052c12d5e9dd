package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/storetest"
	"github.com/bodyworn/ingestd/storage/tsa"
)

// stampedBy gives the station an authority.
func (w *world) stampedBy(a *storetest.StampAuthority) {
	w.t.Helper()
	w.cfg.Timestamp = &tsa.Authority{URL: a.URL, CAFile: a.CAFile}
	w.restart()
}

// stamps are the keys of the stamps in the bucket.
func (w *world) stamps() (keys []string) {
	w.t.Helper()
	for o := range w.server.Client().ListObjectsIter(w.t.Context(), w.store.Bucket, minio.ListObjectsOptions{Prefix: w.cfg.ID + "/ledger/timestamp/", Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			w.t.Fatal(o.Err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func TestTheLedgerIsStamped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := storetest.NewStampAuthority(t, storetest.StampOptions{})
	w.stampedBy(a)
	if err := w.station.StampLedger(t.Context()); err != nil || a.Asked() != 0 {
		t.Errorf("with no ledger in the bucket: asked %d times, %v", a.Asked(), err)
	}
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	w.mustDock(card, ingest.Options{Recorder: "R1"})
	for range 2 {
		if err := w.station.StampLedger(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if a.Asked() != 1 || w.saw("timestamp.stored") != 1 || w.saw("timestamp.failed") != 0 {
		t.Errorf("asked %d times", a.Asked())
	}
	size, err := w.evidence.Ledger.Size()
	if err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprintf("TEST-01/ledger/timestamp/%016d.tsr", size)
	if keys := w.stamps(); len(keys) != 1 || keys[0] != key {
		t.Fatalf("%v, want %s", keys, key)
	}
	stamp, info := w.fetch(key, "")
	checkpoint, _ := w.fetch(fmt.Sprintf("TEST-01/ledger/checkpoint/%016d", size), "")
	if err := a.Verify(stamp, checkpoint); err != nil {
		t.Error(err)
	}
	until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if mode := info.Metadata.Get("X-Amz-Object-Lock-Mode"); mode != "COMPLIANCE" || err != nil || until.Before(time.Now().In(w.cfg.Location).AddDate(0, 6, 0)) {
		t.Errorf("lock %q until %s (%v)", mode, until, err)
	}
	v := ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.ID, Ring: w.evidence.Ring}
	if found, err := v.All(t.Context()); err != nil || len(found.Findings) != 0 {
		t.Errorf("it is in the way of verify: %+v, %v", found.Findings, err)
	}
}

func TestAStampThatFailsIsToldAndComesWithTheNextCheckpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := storetest.NewStampAuthority(t, storetest.StampOptions{})
	w.stampedBy(a)
	a.Answer(func(rw http.ResponseWriter, _ []byte, _ func([]byte) []byte) {
		http.Error(rw, "busy", http.StatusServiceUnavailable)
	})
	for i := range 2 {
		card := t.TempDir()
		write(t, card, map[string]int{fmt.Sprintf("%d.mp4", i): 1000})
		if r := w.mustDock(card, ingest.Options{Recorder: "R1"}); !r.Safe {
			t.Errorf("%s", r.State)
		}
		if err := w.station.StampLedger(t.Context()); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("%v", err)
		}
		if failed := w.saw("timestamp.failed"); failed != i+1 || len(w.stamps()) != 0 {
			t.Errorf("%d failures are told, stamps %v", failed, w.stamps())
		}
	}
	a.Answer(nil)
	if err := w.station.StampLedger(t.Context()); err != nil || len(w.stamps()) != 1 {
		t.Errorf("%v, %v", w.stamps(), err)
	}
}

// A recorder is safe while the authority has not answered, and the stamp comes when it
// does.
func TestFootageDoesNotWaitForAStamp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := storetest.NewStampAuthority(t, storetest.StampOptions{})
	w.stampedBy(a)
	asked, answer := make(chan struct{}, 100), make(chan struct{})
	a.Answer(func(rw http.ResponseWriter, query []byte, reply func([]byte) []byte) {
		asked <- struct{}{}
		<-answer
		rw.Write(reply(query))
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.station.KeepStamping(ctx)
	}()
	for i := range 3 {
		card := t.TempDir()
		write(t, card, map[string]int{fmt.Sprintf("%d.mp4", i): 1000})
		if r := w.mustDock(card, ingest.Options{Recorder: "R1"}); !r.Safe {
			t.Errorf("%s", r.State)
		}
		if i == 0 {
			<-asked
		}
	}
	if len(w.stamps()) != 0 || w.saw("timestamp.stored") != 0 {
		t.Error("there is a stamp that nobody gave")
	}
	// Had the session waited, it would have been for this event.
	w.mu.Lock()
	for _, e := range w.events {
		if e.Name == "timestamp.failed" {
			t.Error("the stamp was given up before the first recorder was safe")
		}
		if e.Name == "ingest.finished" {
			break
		}
	}
	w.mu.Unlock()
	close(answer)
	size, err := w.evidence.Ledger.Size()
	if err != nil {
		t.Fatal(err)
	}
	last := fmt.Sprintf("TEST-01/ledger/timestamp/%016d.tsr", size)
	for deadline := time.Now().Add(time.Minute); !slices.Contains(w.stamps(), last); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("stamps %v, want %s", w.stamps(), last)
		}
	}
	stop()
	<-ended
}
