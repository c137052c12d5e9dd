package journal_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
)

func TestCounts(t *testing.T) {
	j, ctx := open(t, t.TempDir()), t.Context()
	defer j.Close()
	count := func() journal.Counts {
		t.Helper()
		c, err := j.Counts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	none := journal.Counts{Sessions: map[journal.SessionState]int{journal.StateOpen: 0, journal.StateSealing: 0, journal.StateSealed: 0, journal.StateFailed: 0}}
	if c := count(); !reflect.DeepEqual(c, none) {
		t.Errorf("of an empty journal: %+v", c)
	}
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for id, s := range map[string]struct {
		state journal.SessionState
		until time.Time
	}{
		"open": {journal.StateOpen, time.Time{}}, "kept": {journal.StateSealed, future}, "expired": {journal.StateSealed, past}, "failed": {journal.StateFailed, past},
		"permanent": {journal.StateSealed, past}, "disposed": {journal.StateSealed, past},
	} {
		session := aSession(id, "R1")
		session.State, session.RetainUntil = s.state, s.until
		if err := j.SaveSession(ctx, session); err != nil {
			t.Fatal(err)
		}
	}
	good := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	if err := errors.Join(
		j.Lengthened(ctx, "permanent", past, true), j.Disposed(ctx, "disposed", time.Now()),
		j.AddHold(ctx, journal.Hold{ID: "h1", State: journal.HoldHeld}), j.AddHold(ctx, journal.Hold{ID: "h2", State: journal.HoldReleasing}),
		j.AddHold(ctx, journal.Hold{ID: "h3", State: journal.HoldReleased}),
		j.Quarantine(ctx, journal.Quarantined{Key: "k", Version: "v", Session: "kept"}),
		j.Scrubbed(ctx, journal.Scrub{Session: "kept", At: good}), j.Scrubbed(ctx, journal.Scrub{Session: "kept", At: good.Add(time.Hour), Findings: 1}),
	); err != nil {
		t.Fatal(err)
	}
	want := journal.Counts{
		Sessions: map[journal.SessionState]int{journal.StateOpen: 1, journal.StateSealing: 0, journal.StateSealed: 4, journal.StateFailed: 1},
		Expired:  2, Holds: 2, Quarantined: 1, LastGoodScrub: good,
	}
	if c := count(); !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, want %+v", c, want)
	}
}
