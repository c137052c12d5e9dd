package journal_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
)

func TestQuarantineKeepsTheFirstReason(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	first := journal.Quarantined{Key: "S/s1/a", Version: "v1", Session: "s1", File: 3, Reason: "rot", At: at}
	second := first
	second.Reason, second.At = "more rot", at.Add(time.Hour)
	if err := errors.Join(j.SaveSession(ctx, aSession("s1", "R1")), j.Quarantine(ctx, first), j.Quarantine(ctx, second), j.Close()); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	defer j.Close()
	all, err := j.QuarantinedOf(ctx, "s1")
	if err != nil || !reflect.DeepEqual(all, []journal.Quarantined{first}) {
		t.Errorf("%+v, %v", all, err)
	}
	if q, err := j.IsQuarantined(ctx, "S/s1/a", "v1"); err != nil || q == nil || *q != first {
		t.Errorf("%+v, %v", q, err)
	}
	if q, err := j.IsQuarantined(ctx, "S/s1/a", "v2"); err != nil || q != nil {
		t.Errorf("another version: %+v, %v", q, err)
	}
}

func TestTheSessionThatWasNotReadForLongest(t *testing.T) {
	ctx := t.Context()
	j := open(t, t.TempDir())
	defer j.Close()
	if s, _, err := j.LongestUnread(ctx, ""); err != nil || s != nil {
		t.Errorf("an empty journal has %+v, %v", s, err)
	}
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for i, id := range []string{"old", "new", "open", "released"} {
		s := aSession(id, "R1")
		s.State, s.EndedAt, s.RetainUntil = journal.StateSealed, day.AddDate(0, 0, i), j.Now().AddDate(0, 6, 0)
		switch id {
		case "open":
			s.State, s.EndedAt = journal.StateOpen, time.Time{}
		case "released":
			s.EndedAt, s.RetainUntil = day.AddDate(-1, 0, 0), day.AddDate(0, -1, 0)
		}
		if err := j.SaveSession(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	next := func(id string, at time.Time) {
		t.Helper()
		if s, since, err := j.LongestUnread(ctx, ""); err != nil || s == nil || s.ID != id || !since.Equal(at) {
			t.Errorf("%+v since %s, %v; want %s since %s", s, since, err, id, at)
		}
	}
	next("old", day)
	proof := journal.Scrub{Session: "old", At: day.AddDate(0, 1, 0), Objects: 3, Bytes: 7, Findings: 1}
	earlier := journal.Scrub{Session: "old", At: day.AddDate(0, 0, 5), Objects: 3, Bytes: 7}
	if err := errors.Join(j.Scrubbed(ctx, proof), j.Scrubbed(ctx, earlier)); err != nil {
		t.Fatal(err)
	}
	next("new", day.AddDate(0, 0, 1))
	if got, err := j.LastScrub(ctx, "old"); err != nil || got == nil || *got != proof {
		t.Errorf("the last proof is %+v, %v", got, err)
	}
	if got, err := j.LastScrub(ctx, "new"); err != nil || got != nil {
		t.Errorf("a session that was never read has %+v, %v", got, err)
	}
}
