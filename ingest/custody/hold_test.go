package custody_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/storetest"
)

func order(of ...journal.Held) custody.HoldOrder {
	return custody.HoldOrder{Case: "2026-0142", Reason: "行政复议", Of: of}
}

func hold(t *testing.T, d *custody.Desk, of ...journal.Held) journal.Hold {
	t.Helper()
	h, err := d.Hold(t.Context(), order(of...))
	if err != nil || h.State != journal.HoldHeld {
		t.Fatalf("%+v, %v", h, err)
	}
	return h
}

func release(t *testing.T, d *custody.Desk, id string) {
	t.Helper()
	if h, err := d.Release(t.Context(), id, "结案"); err != nil || h.State != journal.HoldReleased {
		t.Fatalf("%+v, %v", h, err)
	}
}

// delete asks the store, with its root key, to delete a version.
func (p *depot) delete(o object) error {
	return p.server.Client().RemoveObject(p.t.Context(), p.store.Bucket, o.key, minio.RemoveObjectOptions{VersionID: o.version})
}

// What is on hold can't be deleted, by nobody.
func TestWhatIsOnHoldStays(t *testing.T) {
	onEachStore(t, func(t *testing.T, p *depot) {
		s, other := p.take(p.card("a.mp4", "b.mp4"), "R1"), p.take(p.card("c.mp4"), "R2")
		d := p.desk("uid 1")
		h := hold(t, d, journal.Held{Session: s.ID}, journal.Held{Session: s.ID})
		p.mustBeHeld(true, 6, p.shown(s.Prefix))
		p.mustBeHeld(false, 5, p.shown(other.Prefix))
		saved, err := p.journal.Hold(t.Context(), h.ID)
		if err != nil || saved.State != journal.HoldHeld || saved.AddedBy != "uid 1" || len(saved.Of) != 1 {
			t.Errorf("%+v, %v", saved, err)
		}
		l := p.lines("hold.added")
		if len(l) != 1 || l[0].Detail["hold"] != h.ID || l[0].Detail["case"] != "2026-0142" || l[0].Detail["objects"] != "2" || len(l[0].Objects) != 2 ||
			l[0].Reason != "行政复议" || l[0].Session != s.ID || l[0].Actor != "uid 1" {
			t.Errorf("the ledger: %+v", l)
		}
		if p.server.Name == "embedded" { // elsewhere no test can wait for a lock to end; see storage's for short ones
			for _, o := range p.footage(s) {
				if err := p.server.Relock(p.store.Bucket, o.key, time.Now().Add(-time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, o := range p.shown(s.Prefix) {
			if err := p.delete(o); err == nil {
				t.Errorf("%s was deleted", o.key)
			}
		}
		p.mustBeHeld(true, 6, p.shown(s.Prefix))

		release(t, d, h.ID)
		p.mustBeHeld(false, 6, p.shown(s.Prefix))
		if l := p.lines("hold.released"); len(l) != 1 || l[0].Detail["hold"] != h.ID || l[0].Reason != "结案" {
			t.Errorf("the ledger: %+v", l)
		}
		if p.server.Name == "embedded" {
			for _, o := range p.footage(s) { // it was the hold that kept it, and nothing else
				if err := p.delete(o); err != nil {
					t.Errorf("%s, on no hold and under no lock: %v", o.key, err)
				}
			}
			return
		}
		p.mustBeSound()
	})
}

// Of several holds on the same footage, also by another session that has it too, all
// count until the last one is released.
func TestTheLastOfSeveralHoldsKeeps(t *testing.T) {
	onEachStore(t, func(t *testing.T, p *depot) {
		card := p.card("a.mp4", "b.mp4")
		first, second := p.take(card, "R1"), p.take(card, "R1") // its files are those of the first
		d := p.desk("uid 1")
		onFirst := hold(t, d, journal.Held{Session: first.ID})
		onSecond := hold(t, d, journal.Held{Session: second.ID})
		onA := hold(t, d, journal.Held{Session: second.ID, Path: "a.mp4"})
		again := hold(t, d, journal.Held{Session: first.ID})
		release(t, d, again.ID)
		p.mustBeHeld(true, 10, p.shown(first.Prefix, second.Prefix))

		release(t, d, onFirst.ID)
		p.mustBeHeld(true, 2, p.footage(first)) // the second session's
		p.mustBeHeld(false, 4, p.documents(first))
		p.mustBeHeld(true, 4, p.documents(second))

		release(t, d, onSecond.ID)
		for _, o := range p.footage(first) {
			if want := strings.HasSuffix(o.key, "/a.mp4"); o.held != want {
				t.Errorf("%s: on hold is %v", o.key, o.held)
			}
		}
		p.mustBeHeld(true, 4, p.documents(second))
		if on, err := p.journal.HoldsOn(t.Context(), second.ID); err != nil || len(on) != 1 || on[0].ID != onA.ID {
			t.Errorf("%+v, %v", on, err)
		}

		release(t, d, onA.ID)
		p.mustBeHeld(false, 10, p.shown(first.Prefix, second.Prefix))
		if _, err := d.Release(t.Context(), onA.ID, "结案"); err == nil {
			t.Error("it was released twice")
		}
		p.mustBeSound()
	})
}

// Two that are released at once leave nothing behind, and one that comes meanwhile
// keeps.
func TestHoldsThatAreReleasedAtOnce(t *testing.T) {
	t.Parallel()
	p := newDepot(t, storetest.Embedded(t))
	s := p.take(p.card("a.mp4", "b.mp4", "c.mp4"), "R1")
	for range 3 {
		d := p.desk("uid 1")
		h1, h2 := hold(t, d, journal.Held{Session: s.ID}), hold(t, d, journal.Held{Session: s.ID})
		var last journal.Hold
		var all sync.WaitGroup
		for _, id := range []string{h1.ID, h2.ID} {
			all.Go(func() {
				if _, err := p.desk("uid 1").Release(t.Context(), id, "结案"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			var err error
			if last, err = p.desk("uid 1").Hold(t.Context(), order(journal.Held{Session: s.ID})); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		p.mustBeHeld(true, 7, p.shown(s.Prefix))
		release(t, d, last.ID)
		p.mustBeHeld(false, 7, p.shown(s.Prefix))
	}
}

// Cut off at any request, a hold counts and a release does not; the same order again,
// or Retry, finishes it.
func TestHoldsThatAreCutOff(t *testing.T) {
	onEachStore(t, func(t *testing.T, p *depot) {
		s := p.take(p.card("a.mp4", "b.mp4"), "R1")
		d := p.desk("uid 1")
		for i, n := range []int{1, 3, 6} {
			ctx, way := interrupted(t, p, "legal-hold", n)
			h, err := way.desk("uid 1").Hold(ctx, order(journal.Held{Session: s.ID}))
			if err == nil || h.State != journal.HoldSetting {
				t.Fatalf("cut off at %d: %+v, %v", n, h, err)
			}
			if on, err := p.journal.HoldsOn(t.Context(), s.ID); err != nil || len(on) != 1 || on[0].State != journal.HoldSetting {
				t.Errorf("cut off at %d it does not count: %+v, %v", n, on, err)
			}
			if h, err = d.Retry(t.Context(), h.ID); err != nil || h.State != journal.HoldHeld {
				t.Fatalf("%+v, %v", h, err)
			}
			p.mustBeHeld(true, 6, p.shown(s.Prefix))
			if l := p.lines("hold.added"); len(l) != i+1 {
				t.Errorf("%d lines for %d holds", len(l), i+1)
			}

			ctx, way = interrupted(t, p, "legal-hold", n)
			if _, err := way.desk("uid 1").Release(ctx, h.ID, "结案"); err == nil {
				t.Fatal("it was not cut off")
			}
			if on, err := p.journal.HoldsOn(t.Context(), s.ID); err != nil || len(on) != 1 || on[0].State != journal.HoldReleasing {
				t.Errorf("cut off at %d it does not count: %+v, %v", n, on, err)
			}
			if i%2 == 0 {
				h, err = d.Retry(t.Context(), h.ID)
			} else {
				h, err = d.Release(t.Context(), h.ID, "结案")
			}
			if err != nil || h.State != journal.HoldReleased || h.ReleaseReason != "结案" {
				t.Fatalf("%+v, %v", h, err)
			}
			p.mustBeHeld(false, 6, p.shown(s.Prefix))
			if l := p.lines("hold.released"); len(l) != i+1 {
				t.Errorf("%d lines for %d releases", len(l), i+1)
			}
		}
		// Cut off before the ledger had it.
		h := journal.Hold{ID: "H1", State: journal.HoldSetting, Case: "1", Reason: "r", AddedAt: p.journal.Now(), AddedBy: "uid 1", Of: []journal.Held{{Session: s.ID}}}
		if err := p.journal.AddHold(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Retry(t.Context(), "H1"); err != nil {
			t.Fatal(err)
		}
		if l := p.lines("hold.added"); len(l) != 4 || l[3].Detail["hold"] != "H1" {
			t.Errorf("the ledger: %+v", l)
		}
		// Somebody has lifted it in the store: it is set once more.
		off := minio.LegalHoldDisabled
		for _, o := range p.footage(s) {
			if err := p.server.Client().PutObjectLegalHold(t.Context(), p.store.Bucket, o.key, minio.PutObjectLegalHoldOptions{VersionID: o.version, Status: &off}); err != nil {
				t.Fatal(err)
			}
		}
		if h, err := d.Retry(t.Context(), "H1"); err != nil || h.State != journal.HoldHeld {
			t.Errorf("%+v, %v", h, err)
		}
		p.mustBeHeld(true, 6, p.shown(s.Prefix))
		p.mustBeSound()
	})
}

// Only administrators release, and where it takes two, two.
func TestWhoMayRelease(t *testing.T) {
	t.Parallel()
	p := newDepot(t, storetest.Embedded(t))
	s := p.take(p.card("a.mp4"), "R1")
	h := hold(t, p.desk("uid 5"), journal.Held{Session: s.ID})
	by := func(person string, two bool) (journal.Hold, error) {
		d := p.desk(person)
		d.Administrators, d.TwoPersons = []string{"uid 1", "uid 2"}, two
		return d.Release(t.Context(), h.ID, "结案")
	}
	refused := 0
	mustRefuse := func(err error) {
		t.Helper()
		refused++
		if l := p.lines("hold.refused"); !errors.Is(err, custody.ErrRefused) || len(l) != refused || l[refused-1].Detail["hold"] != h.ID || l[refused-1].Reason == "" {
			t.Errorf("%v; the ledger: %+v", err, l)
		}
		if len(p.lines("hold.released")) != 0 {
			t.Error("the ledger says that it was released")
		}
		p.mustBeHeld(true, 5, p.shown(s.Prefix))
	}
	for _, two := range []bool{false, true} {
		_, err := by("uid 5", two)
		mustRefuse(err)
	}
	asked, err := by("uid 1", true)
	if err != nil || asked.State != journal.HoldAsked || asked.ReleaseAskedBy != "uid 1" || len(p.lines("hold.release_asked")) != 1 {
		t.Fatalf("%+v, %v", asked, err)
	}
	p.mustBeHeld(true, 5, p.shown(s.Prefix))
	_, err = by("uid 1", true)
	mustRefuse(err)
	_, err = by("uid 5", true)
	mustRefuse(err)
	if retried, err := p.desk("uid 5").Retry(t.Context(), h.ID); err != nil || retried.State != journal.HoldAsked {
		t.Errorf("what was asked is forgotten: %+v, %v", retried, err)
	}
	done, err := by("uid 2", true)
	if err != nil || done.State != journal.HoldReleased || done.ReleasedBy != "uid 2" || done.ReleaseAskedBy != "uid 1" {
		t.Fatalf("%+v, %v", done, err)
	}
	p.mustBeHeld(false, 5, p.shown(s.Prefix))
	if l := p.lines("hold.released"); len(l) != 1 || l[0].Detail["asked_by"] != "uid 1" || l[0].Actor != "uid 2" {
		t.Errorf("the ledger: %+v", l)
	}

	// A release that was cut off is finished by who may release.
	h = hold(t, p.desk("uid 5"), journal.Held{Session: s.ID})
	ctx, way := interrupted(t, p, "legal-hold", 1)
	if _, err := way.desk("uid 1").Release(ctx, h.ID, "结案"); err == nil {
		t.Fatal("it was not cut off")
	}
	d := p.desk("uid 5")
	d.Administrators = []string{"uid 1"}
	if _, err := d.Retry(t.Context(), h.ID); !errors.Is(err, custody.ErrRefused) {
		t.Errorf("%v", err)
	}
	d.Person = "uid 1"
	if h, err := d.Retry(t.Context(), h.ID); err != nil || h.State != journal.HoldReleased {
		t.Errorf("%+v, %v", h, err)
	}
	if _, err := d.Release(t.Context(), h.ID, " "); err == nil {
		t.Error("it was released without a reason")
	}
	p.mustBeSound()
}

// What can't be held is refused with why, and leaves no hold behind.
func TestWhatCanNotBeHeld(t *testing.T) {
	t.Parallel()
	p := newDepot(t, storetest.Embedded(t))
	d := p.desk("uid 1")
	s, gone, elsewhere := p.take(p.card("a.mp4"), "R1"), p.take(p.card("b.mp4"), "R2"), p.take(p.card("c.mp4"), "R3")
	open, err := p.dock(p.card("d.mp4"), "R4", true)
	if err == nil {
		t.Fatal("the card was to fail")
	}
	if err := p.journal.Disposed(t.Context(), gone.ID, gone.RetainUntil); err != nil {
		t.Fatal(err)
	}
	p.change("UPDATE sessions SET bucket = 'another' WHERE id = ?", elsewhere.ID)
	for says, of := range map[string]journal.Held{
		"still open": {Session: open.Session.ID}, "disposed of": {Session: gone.ID}, "another bucket": {Session: elsewhere.ID},
		"not found": {Session: "nowhere"}, "no stored recording": {Session: s.ID, Path: "z.mp4"},
	} {
		if h, err := d.Hold(t.Context(), order(journal.Held{Session: s.ID}, of)); err == nil || !strings.Contains(err.Error(), says) || h.ID != "" {
			t.Errorf("%s: %+v, %v", says, h, err)
		}
	}
	for _, o := range []custody.HoldOrder{{Reason: "r", Of: []journal.Held{{Session: s.ID}}}, {Case: "1", Of: []journal.Held{{Session: s.ID}}}, {Case: "1", Reason: "r"},
		{Case: "1", Reason: "\xff", Of: []journal.Held{{Session: s.ID}}}, {Case: "1", Reason: "r", AskedFor: "officer \xff", Of: []journal.Held{{Session: s.ID}}},
		{Case: strings.Repeat("x", 2001), Reason: "r", Of: []journal.Held{{Session: s.ID}}}} {
		if _, err := d.Hold(t.Context(), o); err == nil {
			t.Errorf("taken: %+v", o)
		}
	}
	if all, err := p.journal.Holds(t.Context()); err != nil || len(all) != 0 || len(p.lines("hold.added")) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	p.mustBeHeld(false, 5, p.shown(s.Prefix))

	day := func(n int) time.Time {
		y, m, d := s.DockedAt.In(p.cfg.Location).Date()
		return time.Date(y, m, d+n, 0, 0, 0, 0, p.cfg.Location)
	}
	for words, c := range map[string]struct {
		query custody.HoldQuery
		finds bool
	}{
		"officer 052507":              {custody.HoldQuery{Officer: "052507"}, true},
		"officer 1":                   {custody.HoldQuery{Officer: "1"}, false},
		"recorder R1":                 {custody.HoldQuery{Recorder: "R1"}, true},
		"recorder R2":                 {custody.HoldQuery{Recorder: "R2"}, false}, // disposed of
		"officer 052507, recorder R5": {custody.HoldQuery{Officer: "052507", Recorder: "R5"}, false},
		"docked from " + day(0).Format(time.DateOnly) + ", docked until " + day(0).Format(time.DateOnly): {custody.HoldQuery{From: day(0), To: day(0)}, true},
		"docked from " + day(1).Format(time.DateOnly):                                                    {custody.HoldQuery{From: day(1)}, false},
		"docked until " + day(-1).Format(time.DateOnly):                                                  {custody.HoldQuery{To: day(-1)}, false},
	} {
		of, left, err := d.Find(t.Context(), c.query)
		if c.query.Words() != words || c.finds != (len(of) == 1 && of[0].Session == s.ID) || c.finds != (err == nil) || err != nil && !errors.Is(err, custody.ErrNothing) {
			t.Errorf("%s (%s): %v, %v, %v", words, c.query.Words(), of, left, err)
		}
		if words == "officer 052507" && len(left) != 3 {
			t.Errorf("what was left out: %q", left)
		}
	}
}

// A hold on many objects names their digest, which anybody can compute.
func TestALongHoldNamesADigest(t *testing.T) {
	t.Parallel()
	p := newDepot(t, storetest.Embedded(t))
	var names []string
	for i := range 120 {
		names = append(names, strings.Repeat("x", i+1))
	}
	s := p.take(p.card(names...), "R1")
	hold(t, p.desk("uid 1"), journal.Held{Session: s.ID})
	p.mustBeHeld(true, 124, p.shown(s.Prefix))
	var list []string
	for _, o := range p.footage(s) {
		list = append(list, o.key+"\t"+o.version+"\n")
	}
	if l := p.lines("hold.added"); len(l) != 1 || len(l[0].Objects) != 0 || l[0].Detail["objects"] != "120" || l[0].Detail["objects_sha256"] != sortedSum(list) {
		t.Errorf("%+v", l)
	}
}

func sortedSum(lines []string) string {
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])
}
