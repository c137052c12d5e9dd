package ingest_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// trusting is a world whose store counts as tried, so that Prepare comes to the marker
// at once.
func trusting(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	if err := w.journal.SelfTestPassed(t.Context(), w.vault.Describe()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) allTold(name string) (all []ingest.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Name == name {
			all = append(all, e)
		}
	}
	return all
}

func signer(key *stationkey.Key, namespace string) func([]byte) ([]byte, error) {
	return func(message []byte) ([]byte, error) { return key.Sign(namespace, message) }
}

func TestABucketIsMarkedOnceAndKnownAgain(t *testing.T) {
	t.Parallel()
	w := trusting(t)
	for range 2 {
		if err := w.station.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.restart()
	}
	m, err := w.vault.CheckMarker(t.Context(), "", func(message, signature []byte) error {
		_, err := w.evidence.Ring.Verify(ingest.MarkerNamespace, message, signature, w.journal.Now())
		return err
	})
	if err != nil || m.Station != w.cfg.ID || m.Bucket != w.store.Bucket {
		t.Errorf("%+v, %v", m, err)
	}
	seen, err := w.journal.BucketID(t.Context(), w.vault.Describe())
	if marked := w.allTold("storage.marked"); err != nil || seen != m.BucketID || len(marked) != 1 || marked[0].Level != ingest.Info || !strings.Contains(marked[0].Message, seen) {
		t.Errorf("the journal knows bucket %q, %v; it was told %v", seen, err, marked)
	}
	for _, e := range w.allTold("storage.audit") {
		t.Errorf("told: %s", e.Message)
	}
}

// A bucket is not marked with what the station itself would not believe: the marker is
// locked, and no other can take its place.
func TestARingThatDoesNotTrustMarkersMakesNone(t *testing.T) {
	t.Parallel()
	w := trusting(t)
	ring := &stationkey.Ring{}
	if err := ring.Add(stationkey.Signer{Principal: w.cfg.ID, Key: w.evidence.Key.Public(), Namespaces: []string{"ingestd-manifest"}}); err != nil {
		t.Fatal(err)
	}
	evidence := w.evidence
	evidence.Ring = ring
	if err := ingest.NewStation(w.cfg, w.vault, w.journal, evidence).Prepare(t.Context()); !errors.Is(err, stationkey.ErrUntrusted) {
		t.Errorf("a ring that does not trust markers: %v", err)
	}
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Errorf("no marker was to be there: %v", err)
	}
}

func TestMarkersOfOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		known   bool   // the other station's key is in the ring
		station string // that the marker names
		signs   string // own, other, stranger or ended
		purpose string
		says    string // of the event; empty: refused
	}{
		"not known here":            {false, "OTHER-01", "other", ingest.MarkerNamespace, "was not checked"},
		"known here":                {true, "OTHER-01", "other", ingest.MarkerNamespace, "marked by station OTHER-01;"},
		"known, signed by another":  {true, "OTHER-01", "stranger", ingest.MarkerNamespace, ""},
		"known, signed by ours":     {true, "OTHER-01", "own", ingest.MarkerNamespace, ""},
		"ours, signed by another":   {true, "TEST-01", "stranger", ingest.MarkerNamespace, ""},
		"ours, signed by the other": {true, "TEST-01", "other", ingest.MarkerNamespace, ""},
		"ours, for another purpose": {true, "TEST-01", "own", "ingestd-manifest", ""},
		"of no station":             {false, "", "stranger", ingest.MarkerNamespace, ""},
		// By a key that had ended, with a time that its thief has chosen.
		"known, key has ended": {true, "OTHER-01", "ended", ingest.MarkerNamespace, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := trusting(t)
			keys := map[string]*stationkey.Key{"own": w.evidence.Key}
			for _, other := range []string{"other", "stranger", "ended"} {
				key, err := stationkey.Create(filepath.Join(t.TempDir(), other), other)
				if err != nil {
					t.Fatal(err)
				}
				keys[other] = key
			}
			if c.known {
				anHourAgo := time.Now().Add(-time.Hour)
				if err := errors.Join(w.evidence.Ring.Add(stationkey.Signer{Principal: "OTHER-01", Key: keys["other"].Public()}),
					w.evidence.Ring.Add(stationkey.Signer{Principal: "OTHER-01", Key: keys["ended"].Public(), ValidBefore: anHourAgo})); err != nil {
					t.Fatal(err)
				}
			}
			earlier := w.store
			earlier.Now = func() time.Time { return time.Now().Add(-2 * time.Hour) }
			maker, err := storage.Open(t.Context(), earlier)
			if err != nil {
				t.Fatal(err)
			}
			made, err := maker.MakeMarker(t.Context(), c.station, signer(keys[c.signs], c.purpose))
			if err != nil {
				t.Fatal(err)
			}
			err = w.station.Prepare(t.Context())
			seen, journalErr := w.journal.BucketID(t.Context(), w.vault.Describe())
			if journalErr != nil {
				t.Fatal(journalErr)
			}
			marked := w.allTold("storage.marked")
			if c.says == "" {
				if !errors.Is(err, storage.ErrWrongBucket) || seen != "" || len(marked) != 0 {
					t.Errorf("%v; bucket %q is known, told %v", err, seen, marked)
				}
				return
			}
			if err != nil || seen != made.BucketID || len(marked) != 1 || !strings.Contains(marked[0].Message, c.says) {
				t.Errorf("%v; bucket %q is known, want %q; told %v, want %q", err, seen, made.BucketID, marked, c.says)
			}
		})
	}
}

func TestAuditTellsErrorsAndWarningsOnly(t *testing.T) {
	t.Parallel()
	w := trusting(t)
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		free int64
		err  error
		want []ingest.Level
	}{
		"room":         {50, nil, nil},
		"little room":  {5, nil, []ingest.Level{ingest.Warn}},
		"full":         {0, nil, []ingest.Level{ingest.Alarm}},
		"can't be had": {50, errors.New("no such folder"), []ingest.Level{ingest.Warn}},
	} {
		w.mu.Lock()
		w.events = nil
		w.mu.Unlock()
		w.cfg.StoreSpace = func() (free, total int64, err error) { return c.free, 100, c.err }
		w.station = ingest.NewStation(w.cfg, w.vault, w.journal, w.evidence)
		findings, err := w.station.Audit(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		told := w.allTold("storage.audit")
		if len(told) != len(c.want) || len(c.want) > 0 && (told[0].Level != c.want[0] || !strings.HasPrefix(told[0].Message, storage.CheckFreeSpace)) {
			t.Errorf("%s: told %+v, want %v", name, told, c.want)
		}
		notes := 0
		for _, f := range findings {
			if f.Severity == storage.SeverityNote {
				notes++
			}
		}
		if notes == 0 {
			t.Errorf("%s: the notes are not among what it returns: %+v", name, findings)
		}
	}
}

func TestAnAuditOfAStoreThatIsAwayIsQuiet(t *testing.T) {
	t.Parallel()
	w := trusting(t)
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.server.Kill()
	if findings, err := w.station.Audit(t.Context()); !errors.Is(err, storage.ErrUnavailable) || findings != nil {
		t.Errorf("%v, %v", findings, err)
	}
	// A bucket that is another one is told, though nothing of it can be seen.
	w.server.Start(t)
	w.store.Bucket = "elsewhere"
	look, err := storage.Look(w.store)
	if err != nil {
		t.Fatal(err)
	}
	if told := w.allTold("storage.audit"); len(told) != 0 {
		t.Errorf("told %+v", told)
	}
	w.station = ingest.NewStation(w.cfg, look, w.journal, w.evidence)
	if _, err := w.station.Audit(t.Context()); !errors.Is(err, storage.ErrNotFound) {
		t.Error(err)
	}
	if told := w.allTold("storage.audit"); len(told) != 1 || told[0].Level != ingest.Alarm || told[0].Err == nil {
		t.Errorf("told %+v of a bucket that is gone", told)
	}
}

// The first look comes at once, and the loop ends with its context.
func TestKeepAuditingBeginsAtOnce(t *testing.T) {
	t.Parallel()
	w := trusting(t)
	ctx, stop := context.WithCancel(t.Context())
	looked := make(chan struct{}, 1)
	w.cfg.StoreSpace = func() (free, total int64, err error) {
		looked <- struct{}{}
		return 50, 100, nil
	}
	w.station = ingest.NewStation(w.cfg, w.vault, w.journal, w.evidence)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.station.KeepAuditing(ctx)
	}()
	<-looked
	stop()
	<-ended
}
