package journal_test

import (
	"errors"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
)

func TestWhatTheLedgerWasToldIsRemembered(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	if told, err := j.Told(ctx, "settings"); err != nil || told != "" {
		t.Errorf("a new journal: %q, %v", told, err)
	}
	if err := errors.Join(j.SetTold(ctx, "settings", "one"), j.SetTold(ctx, "settings", "two"), j.SetTold(ctx, "audit", "three"),
		j.SawBucket(ctx, "store", "ID"), j.LedgerPublished(ctx, "store", 9), j.Close()); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	defer j.Close()
	for matter, want := range map[string]string{"settings": "two", "audit": "three", "setting": ""} {
		if told, err := j.Told(ctx, matter); err != nil || told != want {
			t.Errorf("%s: %q, %v, want %q", matter, told, err, want)
		}
	}
	if err := j.ForgetTold(ctx); err != nil {
		t.Fatal(err)
	}
	one, err1 := j.Told(ctx, "settings")
	id, err2 := j.BucketID(ctx, "store")
	size, err3 := j.PublishedLedger(ctx, "store")
	if err := errors.Join(err1, err2, err3); err != nil || one != "" || id != "ID" || size != 9 {
		t.Errorf("forgotten: %q, bucket %q, %d lines, %v", one, id, size, err)
	}
}

// What a store has held once is never forgotten for less.
func TestThePublishedSizeOnlyGrows(t *testing.T) {
	ctx := t.Context()
	j := open(t, t.TempDir())
	defer j.Close()
	want := int64(0)
	for _, size := range []int64{0, 9, 10, 9, 100, 20} {
		want = max(want, size)
		err := j.LedgerPublished(ctx, "a", size)
		if got, getErr := j.PublishedLedger(ctx, "a"); err != nil || getErr != nil || got != want {
			t.Errorf("after %d: %d, want %d (%v, %v)", size, got, want, err, getErr)
		}
	}
	if other, err := j.PublishedLedger(ctx, "b"); err != nil || other != 0 {
		t.Errorf("another store: %d, %v", other, err)
	}
}

func TestARecorderIsRemovedFromTheRegister(t *testing.T) {
	ctx := t.Context()
	j := open(t, t.TempDir())
	defer j.Close()
	if err := errors.Join(j.AddRecorder(ctx, journal.Recorder{Serial: "R1", AddedAt: time.Now()}), j.AddRecorder(ctx, journal.Recorder{Serial: "R2", AddedAt: time.Now()}),
		j.RemoveRecorder(ctx, "R1")); err != nil {
		t.Fatal(err)
	}
	if err := j.RemoveRecorder(ctx, "R1"); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if all, err := j.Recorders(ctx); err != nil || len(all) != 1 || all[0].Serial != "R2" {
		t.Errorf("%+v, %v", all, err)
	}
}
