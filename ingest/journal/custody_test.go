package journal_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

// twoSessions are ended; the second one found the first one's file identical.
func twoSessions(t *testing.T, j *journal.Journal) (until time.Time) {
	t.Helper()
	until = time.Date(2027, 5, 25, 0, 0, 0, 0, time.UTC)
	for _, id := range []string{"s1", "s2"} {
		s := journal.Session{ID: id, State: journal.StateSealed, Recorder: "R1", Prefix: "T/2026-11-24/" + id + "/", DockedAt: until, EndedAt: until, RetainUntil: until, Bucket: "B"}
		if err := j.SaveSession(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		f := &journal.File{Session: id, Entry: device.Entry{Path: "a.mp4", Kind: device.KindFile, Size: 1}, State: journal.Verified,
			Object: storage.Object{Key: "k", VersionID: "v", RetainUntil: until}}
		if id == "s2" {
			f.State, f.Origin = journal.Identical, "s1"
		}
		noted := &journal.File{Session: id, Entry: device.Entry{Path: "dir", Kind: device.KindDir}, State: journal.Noted}
		if err := j.AddFiles(t.Context(), []*journal.File{f, noted}); err != nil {
			t.Fatal(err)
		}
	}
	return until
}

// Neither a lock nor what is permanent is ever taken back, and what people have done
// outlives a session that is saved again.
func TestALockOnlyGrowsInTheJournal(t *testing.T) {
	j := open(t, t.TempDir())
	defer j.Close()
	until := twoSessions(t, j)
	longer := until.AddDate(1, 0, 0)
	look := func(id string, lock time.Time, permanent bool) {
		t.Helper()
		s, err1 := j.Session(t.Context(), id)
		files, err2 := j.Files(t.Context(), id)
		if err := errors.Join(err1, err2); err != nil || !s.RetainUntil.Equal(lock) || s.Permanent != permanent ||
			!files[0].Object.RetainUntil.Equal(lock) || !files[1].Object.RetainUntil.IsZero() {
			t.Errorf("%s: until %s, permanent %v, its file %s, a folder %s, %v", id, s.RetainUntil, s.Permanent, files[0].Object.RetainUntil, files[1].Object.RetainUntil, err)
		}
	}
	for _, step := range []struct {
		to        time.Time
		permanent bool
		lock      time.Time
		is        bool
	}{{longer, false, longer, false}, {until, true, longer, true}, {until, false, longer, true}} {
		if err := j.Lengthened(t.Context(), "s1", step.to, step.permanent); err != nil {
			t.Fatal(err)
		}
		look("s1", step.lock, step.is)
	}
	look("s2", until, false)
	if last, err := j.LongestLock(t.Context()); err != nil || !last.Equal(longer) {
		t.Errorf("the longest lock: %s, %v", last, err)
	}
	if err := j.Disposed(t.Context(), "s2", until); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"s1", "s2"} {
		s, err := j.Session(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		s.Permanent, s.DisposedAt = false, time.Time{}
		if err := j.SaveSession(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	s1, err1 := j.Session(t.Context(), "s1")
	s2, err2 := j.Session(t.Context(), "s2")
	if err := errors.Join(err1, err2); err != nil || !s1.Permanent || !s2.DisposedAt.Equal(until) {
		t.Errorf("saved again: permanent %v, disposed of at %s, %v", s1.Permanent, s2.DisposedAt, err)
	}
	for id, want := range map[string][]string{"s1": {"s2"}, "s2": {"s1"}, "s3": nil} {
		if got, err := j.Sharing(t.Context(), id); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s shares with %v, want %v, %v", id, got, want, err)
		}
	}
}

func TestTagsAreKept(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	at := twoSessions(t, j)
	for _, tag := range []journal.Tag{{"s1", "证据", at, "uid 1"}, {"s1", "证据", at.Add(time.Hour), "uid 2"}, {"s1", "a", at, "uid 1"}, {"s2", "证据", at, "uid 1"}} {
		if err := j.AddTag(t.Context(), tag); err != nil {
			t.Fatal(err)
		}
	}
	if j.AddTag(t.Context(), journal.Tag{Session: "nowhere", Tag: "x", AddedAt: at}) == nil {
		t.Error("a session that is not there was tagged")
	}
	if err := errors.Join(j.RemoveTag(t.Context(), "s1", "a"), j.Close()); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	defer j.Close()
	one, err1 := j.Tags(t.Context(), "s1")
	all, err2 := j.Tags(t.Context(), "")
	if err := errors.Join(err1, err2); err != nil || len(one) != 1 || len(all) != 2 || one[0].AddedBy != "uid 1" || !one[0].AddedAt.Equal(at) || one[0].Tag != "证据" {
		t.Errorf("%+v, %+v, %v", one, all, err)
	}
}

// A hold counts in every state but the last, and what it keeps never changes.
func TestHoldsAreKept(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	at := twoSessions(t, j)
	h := journal.Hold{ID: "H1", State: journal.HoldSetting, Case: "案1", Reason: "r", AskedFor: "officer 1", AddedAt: at, AddedBy: "uid 1",
		Of: []journal.Held{{Session: "s1"}, {Session: "s2", Path: "\xd6\xb4.mp4"}}}
	if err := j.AddHold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if j.AddHold(t.Context(), journal.Hold{ID: "H2", State: journal.HoldSetting, AddedAt: at, Of: []journal.Held{{Session: "s1"}, {Session: "nowhere"}}}) == nil {
		t.Error("a session that is not there is on hold")
	}
	if _, err := j.Hold(t.Context(), "H2"); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("a part of a hold was written: %v", err)
	}
	for _, state := range []journal.HoldState{journal.HoldHeld, journal.HoldAsked, journal.HoldReleasing, journal.HoldReleased} {
		h.State = state
		if state != journal.HoldHeld {
			h.ReleaseAskedAt, h.ReleaseAskedBy = at, "uid 2"
		}
		if state == journal.HoldReleased {
			h.ReleasedAt, h.ReleasedBy, h.ReleaseReason = at, "uid 3", "结案"
		}
		saved := h
		saved.Of, saved.Case, saved.Reason = nil, "another", "another" // what was asked stays
		if err := errors.Join(j.SaveHold(t.Context(), saved), j.Close()); err != nil {
			t.Fatal(err)
		}
		j = open(t, dir)
		if got, err := j.Hold(t.Context(), "H1"); err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v, want %+v, %v", got, h, err)
		}
		for _, id := range []string{"s1", "s2"} {
			if on, err := j.HoldsOn(t.Context(), id); err != nil || (len(on) == 1) != (state != journal.HoldReleased) {
				t.Errorf("%s: %d holds on %s, %v", state, len(on), id, err)
			}
		}
	}
	defer j.Close()
	if all, err := j.Holds(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

// What a plan lists is what was shown, to the byte, whatever becomes of it.
func TestPlansAreKept(t *testing.T) {
	j := open(t, t.TempDir())
	defer j.Close()
	at := time.Date(2027, 5, 25, 0, 0, 0, 0, time.UTC)
	p := journal.Plan{ID: "P1", State: journal.PlanOpen, MadeAt: at, MadeBy: "uid 1", Body: []byte("{\"a\": 1}\n\x00")}
	if err := j.SavePlan(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	p.State, p.AskedAt, p.AskedBy, p.AppliedAt, p.AppliedBy = journal.PlanApplied, at, "uid 1", at.Add(time.Hour), "uid 2"
	other := p
	other.Body, other.MadeBy = []byte("{}"), "uid 9"
	if err := errors.Join(j.SavePlan(t.Context(), other), j.SavePlan(t.Context(), journal.Plan{ID: "P2", State: journal.PlanVoid, MadeAt: at.Add(time.Minute), Body: []byte("{}")})); err != nil {
		t.Fatal(err)
	}
	if got, err := j.Plan(t.Context(), "P1"); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%+v, want %+v, %v", got, p, err)
	}
	if all, err := j.Plans(t.Context()); err != nil || len(all) != 2 || all[0].ID != "P2" {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := j.Plan(t.Context(), "P3"); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// How long the ledger is locked in a store is remembered for each, and only grows.
func TestTheLockOfTheLedgerIsRemembered(t *testing.T) {
	j := open(t, t.TempDir())
	defer j.Close()
	at := time.Date(2027, 5, 25, 0, 0, 0, 0, time.UTC)
	if got, err := j.EvidenceLocked(t.Context(), "a"); err != nil || !got.IsZero() {
		t.Errorf("%s, %v", got, err)
	}
	for _, until := range []time.Time{at, at.AddDate(1, 0, 0), at} {
		if err := j.LockedEvidence(t.Context(), "a", until); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := j.EvidenceLocked(t.Context(), "a"); err != nil || !got.Equal(at.AddDate(1, 0, 0)) {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := j.EvidenceLocked(t.Context(), "b"); err != nil || !got.IsZero() {
		t.Errorf("another store: %s, %v", got, err)
	}
}

// One works at a time, also of two processes; whoever waits can be told to stop.
func TestTurnsAreTaken(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	defer j.Close()
	other, err := journal.Open(dir, journal.Share)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	giveBack, err := j.TakeTurn(t.Context(), "holds")
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []*journal.Journal{j, other} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := who.TakeTurn(ctx, "holds"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("two have it: %v", err)
		}
		cancel()
	}
	free, err := other.TakeTurn(t.Context(), "lengthen")
	if err := errors.Join(err, giveBack()); err != nil {
		t.Fatal(err)
	}
	again, err := other.TakeTurn(t.Context(), "holds")
	if err := errors.Join(err, free(), again()); err != nil {
		t.Error(err)
	}
}

// The release before this one knew no custody. Its sessions are neither permanent nor
// disposed of, lie in no known bucket, and all that is new can be written.
func TestTheReleaseBeforeCustodyIsBroughtUpToDate(t *testing.T) {
	dir := t.TempDir()
	old, err := os.ReadFile("testdata/schema-3.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(string(old) + `PRAGMA user_version = 3;
		INSERT INTO sessions (id, state, recorder, officer, slot, identity, clock, health, prefix, verification, docked_at, ended_at, retain_until, reason, manifest_key, manifest_version, manifest_sha256)
		VALUES ('s1','sealed','R1','052507','1','{}','{"kind":"unknown"}','{}','T/2026-11-24/s1/','readback','2026-11-24T00:00:00Z','2026-11-24T00:00:00Z','2027-05-25T00:00:00.000000000Z','','k','v','');`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		j := open(t, dir)
		s, err := j.Session(t.Context(), "s1")
		if err != nil || s.Permanent || !s.DisposedAt.IsZero() || s.Bucket != "" || s.Officer != "052507" || s.RetainUntil.Year() != 2027 {
			t.Errorf("%+v, %v", s, err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, dir)
	defer j.Close()
	now := j.Now()
	if err := errors.Join(
		j.AddTag(t.Context(), journal.Tag{Session: "s1", Tag: "证据", AddedAt: now}),
		j.AddHold(t.Context(), journal.Hold{ID: "H", State: journal.HoldHeld, AddedAt: now, Of: []journal.Held{{Session: "s1"}}}),
		j.SavePlan(t.Context(), journal.Plan{ID: "P", State: journal.PlanOpen, MadeAt: now, Body: []byte("{}")}),
		j.Lengthened(t.Context(), "s1", now.AddDate(3, 0, 0), true),
	); err != nil {
		t.Error(err)
	}
	if err := j.Disposed(t.Context(), "s1", now); !errors.Is(err, journal.ErrKept) {
		t.Errorf("what is kept permanently was given up: %v", err)
	}
	if s, err := j.Session(t.Context(), "s1"); err != nil || !s.Permanent || !s.DisposedAt.IsZero() || s.RetainUntil.Year() < 2029 {
		t.Errorf("%+v, %v", s, err)
	}
}
