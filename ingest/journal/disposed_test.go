package journal_test

import (
	"errors"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
)

// What the journal has against it in the very moment keeps the footage of a session,
// whatever was asked before.
func TestFootageIsGivenUpOnlyIfNothingKeepsIt(t *testing.T) {
	ctx := t.Context()
	expired := time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	now := expired.Add(time.Second)
	for name, c := range map[string]struct {
		keep func(j *journal.Journal) error
		kept bool
	}{
		"nothing": {func(*journal.Journal) error { return nil }, false},
		"a longer lock": {func(j *journal.Journal) error {
			return j.Lengthened(ctx, "s1", now.Add(time.Second), false)
		}, true},
		"for ever": {func(j *journal.Journal) error { return j.Lengthened(ctx, "s1", expired, true) }, true},
		"a hold": {func(j *journal.Journal) error {
			return j.AddHold(ctx, journal.Hold{ID: "H1", State: journal.HoldSetting, AddedAt: now, Of: []journal.Held{{Session: "s1", Path: "a"}}})
		}, true},
		"a hold that was released": {func(j *journal.Journal) error {
			return j.AddHold(ctx, journal.Hold{ID: "H1", State: journal.HoldReleased, AddedAt: now, Of: []journal.Held{{Session: "s1"}}})
		}, false},
		"a hold on a session that lists its object": {func(j *journal.Journal) error {
			return j.AddHold(ctx, journal.Hold{ID: "H1", State: journal.HoldHeld, AddedAt: now, Of: []journal.Held{{Session: "s2"}}})
		}, true},
		"a longer lock of that session": {func(j *journal.Journal) error {
			return j.Lengthened(ctx, "s2", now.Add(time.Second), false)
		}, true},
		"that session being open": {func(j *journal.Journal) error {
			s := aSession("s2", "R1")
			s.RetainUntil = expired
			return j.SaveSession(ctx, s)
		}, true},
		"that session being gone": {func(j *journal.Journal) error {
			return errors.Join(j.Disposed(ctx, "s2", now), j.Lengthened(ctx, "s2", now.Add(time.Hour), true))
		}, false},
		"its own being open": {func(j *journal.Journal) error {
			s := aSession("s1", "R1")
			s.RetainUntil = expired
			return j.SaveSession(ctx, s)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t, t.TempDir())
			defer j.Close()
			for _, id := range []string{"s1", "s2", "s3"} {
				s := aSession(id, "R1")
				s.State, s.RetainUntil = journal.StateSealed, expired
				if err := j.SaveSession(ctx, s); err != nil {
					t.Fatal(err)
				}
			}
			f := aFile("s2", "a")
			f.State, f.Origin = journal.Identical, "s1"
			if err := errors.Join(j.AddFiles(ctx, []*journal.File{f}), c.keep(j)); err != nil {
				t.Fatal(err)
			}
			err := j.Disposed(ctx, "s1", now)
			s, err2 := j.Session(ctx, "s1")
			if errors.Is(err, journal.ErrKept) != c.kept || err2 != nil || s.DisposedAt.IsZero() != c.kept || err != nil && !c.kept {
				t.Errorf("%v, disposed of at %v, %v", err, s.DisposedAt, err2)
			}
			if c.kept {
				return
			}
			if err := j.Disposed(ctx, "s1", now.Add(time.Hour)); err != nil {
				t.Error(err)
			}
			if s, err = j.Session(ctx, "s1"); err != nil || !s.DisposedAt.Equal(now) {
				t.Errorf("the second time: %v, %v", s.DisposedAt, err)
			}
			if err := j.AddHold(ctx, journal.Hold{ID: "H9", State: journal.HoldSetting, AddedAt: now, Of: []journal.Held{{Session: "s3"}, {Session: "s1"}}}); err == nil {
				t.Error("what is gone was held")
			}
			if holds, err := j.HoldsOn(ctx, "s3"); err != nil || len(holds) != 0 {
				t.Errorf("half of a hold: %v, %v", holds, err)
			}
		})
	}
}

func TestAnUnknownSessionIsNotDisposedOf(t *testing.T) {
	j := open(t, t.TempDir())
	defer j.Close()
	if err := j.Disposed(t.Context(), "nowhere", time.Now()); !errors.Is(err, journal.ErrNotFound) {
		t.Error(err)
	}
}

func TestWhatExpiresComesInOrder(t *testing.T) {
	ctx := t.Context()
	j := open(t, t.TempDir())
	defer j.Close()
	at := time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	for id, until := range map[string]time.Time{"late": at.Add(time.Hour), "b": at, "a": at.Add(-time.Hour), "gone": at.Add(-2 * time.Hour)} {
		s := aSession(id, "R1")
		s.State, s.RetainUntil = journal.StateFailed, until
		if err := j.SaveSession(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	open := aSession("open", "R1")
	open.RetainUntil = at
	if err := errors.Join(j.SaveSession(ctx, open), j.Disposed(ctx, "gone", at)); err != nil {
		t.Fatal(err)
	}
	all, err := j.Expiring(ctx, at)
	if err != nil || len(all) != 2 || all[0].ID != "a" || all[1].ID != "b" {
		t.Errorf("%+v, %v", all, err)
	}
}
