package custody_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/policy"
	"github.com/bodyworn/ingestd/storage/storetest"
)

const (
	standard36 = "default: {months: 36, why: w}\n"
	standard12 = "default: {months: 12, why: w}\n"
	forTags    = "default: {months: 6, why: w}\nrules:\n  - {name: evidence, match: {tag: [证据]}, months: 24, why: 归档}\n" +
		"  - {name: major, match: {tag: [重大案件]}, months: permanent, why: 永久保存}\n"
)

func lengthen(t *testing.T, d *custody.Desk) custody.Lengthened {
	t.Helper()
	r, err := d.Lengthen(t.Context(), everything)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A rule that asks for more lengthens everything of a session that is stored already,
// the objects that it shares with another one, and what tells of it; one that asks for
// less shortens nothing. A plain client sees the dates.
func TestRulesThatGrowLengthenWhatIsStored(t *testing.T) {
	onEachStore(t, func(t *testing.T, p *depot) {
		card := p.card("a.mp4", "b.mp4")
		first, second := p.take(card, "R1"), p.take(card, "R1") // identical files, documents of its own
		six := storage.RetainUntil(first.EndedAt, 6, p.cfg.Location)
		p.mustBeLocked(six, 6, p.shown(first.Prefix))

		// Only the second one: its footage is the first one's.
		r, err := p.deskWith(standard12).Lengthen(t.Context(), func(s journal.Session) bool { return s.ID == second.ID })
		if err != nil || len(r.Extended) != 1 || r.Sessions != 1 || r.Extended[0].Objects != 6 {
			t.Errorf("%+v, %v", r, err)
		}
		twelve := storage.RetainUntil(second.EndedAt, 12, p.cfg.Location)
		p.mustBeLocked(twelve, 4, p.shown(second.Prefix))
		p.mustBeLocked(twelve, 2, p.footage(first))
		p.mustBeLocked(six, 4, p.documents(first))

		d := p.deskWith(standard36)
		var told []int
		d.Progress = func(done, _ int) { told = append(told, done) }
		r = lengthen(t, d)
		if len(r.Extended) != 2 || r.Sessions != 2 || r.Stays != 0 || r.Undecided != 0 || len(told) == 0 {
			t.Errorf("%+v", r)
		}
		until := storage.RetainUntil(second.EndedAt, 36, p.cfg.Location)
		p.mustBeLocked(until, 10, p.shown(first.Prefix, second.Prefix))
		evidence := p.shown("station-1/ledger/", "station-1/keys/")
		p.mustBeLocked(until, len(evidence), evidence)
		if len(evidence) < 4 {
			t.Errorf("only %d objects of ledger and key", len(evidence))
		}
		if s := p.session(first.ID); !s.RetainUntil.Equal(until) || s.Permanent {
			t.Errorf("the journal has %s, permanent %v", s.RetainUntil, s.Permanent)
		}
		lines := p.lines("retention.extended")
		if len(lines) != 3 {
			t.Fatalf("%d lines in the ledger", len(lines))
		}
		for _, l := range lines[1:] {
			if l.Detail["to"] != until.Format("2006-01-02T15:04:05Z07:00") || l.Detail["rule"] != policy.DefaultRule || l.Detail["months"] != "36" ||
				l.Detail["permanent"] != "false" || l.Detail["why"] != "w" || l.Detail["objects"] != "6" || l.Actor != "uid 1" || l.Recorder != "R1" {
				t.Errorf("%+v", l)
			}
		}

		before := p.shown("station-1/")
		if r := lengthen(t, p.deskWith(standard36)); len(r.Extended) != 0 || r.Stays != 0 {
			t.Errorf("once more: %+v", r)
		}
		if r := lengthen(t, p.deskWith(standard12)); len(r.Extended) != 0 || r.Stays != 2 {
			t.Errorf("by less: %+v", r)
		}
		if r := lengthen(t, p.desk("uid 1")); len(r.Extended) != 0 || r.Stays != 2 {
			t.Errorf("by the months alone: %+v", r)
		}
		if !same(before, p.shown("station-1/")) || len(p.lines("retention.extended")) != 3 {
			t.Error("something was changed where nothing was to do")
		}
		p.mustBeSound()
	})
}

// An object that another session keeps for longer is not shortened, and is no trouble.
func TestASharedObjectKeepsTheLongerLock(t *testing.T) {
	onEachStore(t, func(t *testing.T, p *depot) {
		card := p.card("a.mp4", "b.mp4")
		first, second := p.take(card, "R1"), p.take(card, "R1")
		d := p.deskWith(strings.Replace(forTags, "months: 6", "months: 12", 1))
		if _, err := d.Tag(t.Context(), second.ID, []string{"证据"}, ""); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{second.ID, first.ID} {
			if r, err := d.Lengthen(t.Context(), func(s journal.Session) bool { return s.ID == id }); err != nil || len(r.Extended) != 1 {
				t.Errorf("%+v, %v", r, err)
			}
		}
		until := storage.RetainUntil(second.EndedAt, 24, p.cfg.Location)
		p.mustBeLocked(until, 2, p.footage(first))
		p.mustBeLocked(until, 4, p.documents(second))
		p.mustBeLocked(storage.RetainUntil(first.EndedAt, 12, p.cfg.Location), 4, p.documents(first))
		if r := lengthen(t, d); len(r.Extended) != 0 {
			t.Errorf("once more: %+v", r)
		}
		p.mustBeSound()
	})
}

// Without a retention file the months count.
func TestMonthsThatGrowLengthenWhatIsStored(t *testing.T) {
	t.Parallel()
	p := newDepot(t, storetest.Embedded(t))
	s := p.take(p.card("a.mp4"), "R1")
	d := p.desk("uid 1")
	d.Months = 9
	if r := lengthen(t, d); len(r.Extended) != 1 || r.Extended[0].Rule != "retention.months" || r.Extended[0].Months != 9 {
		t.Errorf("%+v", r)
	}
	p.mustBeLocked(storage.RetainUntil(s.EndedAt, 9, p.cfg.Location), 5, p.shown(s.Prefix))
}

// A tag lengthens by the rule that asks for it, and to take it off shortens nothing. A
// session that is open is sealed by its tags.
func TestATagLengthensAndItsRemovalShortensNothing(t *testing.T) {
	onEachStore(t, func(t *testing.T, p *depot) {
		s := p.take(p.card("a.mp4"), "R1")
		d := p.deskWith(forTags)
		added, err := d.Tag(t.Context(), s.ID, []string{"证据", "证据", "普通"}, "案件移送")
		if err != nil || len(added) != 2 {
			t.Fatalf("%v, %v", added, err)
		}
		if unknown := d.NoRuleAsksFor(added); len(unknown) != 1 || unknown[0] != "普通" {
			t.Errorf("no rule asks for %v", unknown)
		}
		if r := lengthen(t, d); len(r.Extended) != 1 || r.Extended[0].Rule != "evidence" {
			t.Errorf("%+v", r)
		}
		until := storage.RetainUntil(s.EndedAt, 24, p.cfg.Location)
		p.mustBeLocked(until, 5, p.shown(s.Prefix))
		if again, err := d.Tag(t.Context(), s.ID, []string{"证据"}, ""); err != nil || len(again) != 0 {
			t.Errorf("again: %v, %v", again, err)
		}

		if err := d.Untag(t.Context(), s.ID, "证据", "标错"); err != nil {
			t.Fatal(err)
		}
		if r := lengthen(t, d); len(r.Extended) != 0 || r.Stays != 1 {
			t.Errorf("without the tag: %+v", r)
		}
		p.mustBeLocked(until, 5, p.shown(s.Prefix))
		if err := d.Untag(t.Context(), s.ID, "证据", "标错"); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("a tag that is not there: %v", err)
		}
		lines, removed := p.lines("tag.added"), p.lines("tag.removed")
		if len(lines) != 2 || lines[0].Detail["tag"] != "证据" || lines[0].Reason != "案件移送" || lines[0].Session != s.ID || len(removed) != 1 || removed[0].Reason != "标错" {
			t.Errorf("the ledger: %+v, %+v", lines, removed)
		}

		card := p.card("open.mp4")
		open, err := p.dock(card, "R2", true)
		if err == nil {
			t.Fatal("the card was to fail")
		}
		if _, err := d.Tag(t.Context(), open.Session.ID, []string{"证据"}, ""); err != nil {
			t.Fatal(err)
		}
		p.cfg.Policy = d.Policy
		sealed := p.take(card, "R2")
		if sealed.ID != open.Session.ID {
			t.Fatal("it was not resumed")
		}
		p.mustBeLocked(storage.RetainUntil(sealed.EndedAt, 24, p.cfg.Location), 5, p.shown(sealed.Prefix))
		p.mustBeSound()
	})
}

func TestTextsThatAreNoTags(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " ", "a\nb", "\x1b[2J", " a", "a ", strings.Repeat("证", 101), "\xff", "a\u200bb"} {
		if custody.CheckTag(text) == nil {
			t.Errorf("%q was taken", text)
		}
	}
	for _, text := range []string{"证据", "a b", strings.Repeat("证", 100)} {
		if err := custody.CheckTag(text); err != nil {
			t.Error(err)
		}
	}
}

// What is permanent is locked for a hundred years and stays permanent when no rule says
// so any more.
func TestPermanentStaysPermanent(t *testing.T) {
	t.Parallel()
	p := newDepot(t, storetest.Embedded(t))
	s := p.take(p.card("a.mp4"), "R1")
	d := p.deskWith(forTags)
	if _, err := d.Tag(t.Context(), s.ID, []string{"重大案件"}, ""); err != nil {
		t.Fatal(err)
	}
	if r := lengthen(t, d); len(r.Extended) != 1 || !r.Extended[0].Permanent {
		t.Errorf("%+v", r)
	}
	until := storage.RetainUntil(s.EndedAt, policy.PermanentMonths, p.cfg.Location)
	if err := d.Untag(t.Context(), s.ID, "重大案件", "标错"); err != nil {
		t.Fatal(err)
	}
	// The same length, but not permanent.
	for _, rules := range []string{standard12, "default: {months: 1200, why: w}\n"} {
		if r := lengthen(t, p.deskWith(rules)); len(r.Extended) != 0 || r.Stays != 1 {
			t.Errorf("%+v", r)
		}
	}
	if s := p.session(s.ID); !s.Permanent || !s.RetainUntil.Equal(until) {
		t.Errorf("permanent %v until %s", s.Permanent, s.RetainUntil)
	}
	p.mustBeLocked(until, 5, p.shown(s.Prefix))

	// The lock is long enough already; that it is permanent is written all the same.
	other := p.take(p.card("b.mp4"), "R2")
	lengthen(t, p.deskWith("default: {months: 1200, why: w}\n"))
	if p.session(other.ID).Permanent {
		t.Error("months alone are not permanent")
	}
	if r := lengthen(t, p.deskWith("default: {months: permanent, why: w}\n")); len(r.Extended) != 1 || !p.session(other.ID).Permanent {
		t.Errorf("%+v", r)
	}
	if l := p.lines("retention.extended"); len(l) != 3 || l[2].Detail["permanent"] != "true" {
		t.Errorf("the ledger: %+v", l)
	}
}

// interrupted gives a way to the store on which the nth request of a kind ends the work.
func interrupted(t *testing.T, p *depot, kind string, n int) (context.Context, *depot) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	store := p.store
	return ctx, p.by(storetest.Later(t, store, 0, func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPut && r.URL.Query().Has(kind) {
			if n--; n == 0 {
				cancel()
			}
		}
	}))
}

// Cut off at any request, it is finished by the next one, and told once.
func TestAnExtensionThatIsCutOffIsFinished(t *testing.T) {
	onEachStore(t, func(t *testing.T, p *depot) {
		first, second := p.take(p.card("a.mp4", "b.mp4"), "R1"), p.take(p.card("c.mp4"), "R2")
		for i, n := range []int{1, 4, 8, 11} {
			rules := fmt.Sprintf("default: {months: %d, why: w}\n", 24+i)
			told := len(p.lines("retention.extended"))
			ctx, way := interrupted(t, p, "retention", n)
			if _, err := way.deskWith(rules).Lengthen(ctx, everything); !errors.Is(err, context.Canceled) {
				t.Errorf("cut off at %d it gives %v", n, err)
			}
			for range 2 {
				if _, err := p.deskWith(rules).Lengthen(t.Context(), everything); err != nil {
					t.Fatal(err)
				}
			}
			d, err := p.deskWith(rules).Policy.Decide(policy.Facts{Docked: first.DockedAt, Stored: first.EndedAt}, p.cfg.Location)
			if err != nil {
				t.Fatal(err)
			}
			longest := d.Until
			for _, o := range p.shown(first.Prefix, second.Prefix) {
				if o.until.Before(longest) {
					t.Errorf("cut off at %d: %s is locked until %s", n, o.key, o.until)
				}
			}
			if more := len(p.lines("retention.extended")) - told; more > 2 {
				t.Errorf("cut off at %d: %d lines for two sessions", n, more)
			}
		}
		p.mustBeSound()
	})
}

// Two processes that do it at once tell the ledger once.
func TestTwoThatLengthenAtOnce(t *testing.T) {
	t.Parallel()
	p := newDepot(t, storetest.Embedded(t))
	for _, name := range []string{"a", "b", "c"} {
		p.take(p.card(name), "R"+name)
	}
	var all sync.WaitGroup
	for range 2 {
		other := *p
		var err error
		if other.journal, err = journal.Open(p.dir, journal.Share); err != nil {
			t.Fatal(err)
		}
		d := other.deskWith(standard36)
		all.Go(func() {
			if _, err := d.Lengthen(t.Context(), everything); err != nil {
				t.Error(err)
			}
			if err := other.journal.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(p.lines("retention.extended")); n != 3 {
		t.Errorf("%d lines for three sessions", n)
	}
	p.mustBeSound()
}

// A session that has lost an object is told, is not called extended, and keeps none of
// the others waiting, of its own or of other sessions.
func TestAMissingObjectIsToldAndTheOthersGoOn(t *testing.T) {
	onEachStore(t, func(t *testing.T, p *depot) {
		before := p.take(p.card("d.mp4"), "R3")
		hurt, well := p.take(p.card("a.mp4", "b.mp4"), "R1"), p.take(p.card("c.mp4"), "R2")
		p.change("UPDATE files SET version = '01980000-0000-7000-8000-000000000000' WHERE session = ? AND path = CAST('a.mp4' AS BLOB)", hurt.ID)
		r, err := p.deskWith(standard36).Lengthen(t.Context(), everything)
		if !errors.Is(err, storage.ErrNotFound) || !strings.Contains(err.Error(), hurt.ID) || strings.Contains(err.Error(), well.ID) {
			t.Errorf("%v", err)
		}
		if len(r.Extended) != 2 || r.Extended[0].Session != well.ID || r.Extended[1].Session != before.ID || len(p.lines("retention.extended")) != 2 {
			t.Errorf("%+v", r)
		}
		if s := p.session(hurt.ID); !s.RetainUntil.Equal(hurt.RetainUntil) {
			t.Errorf("the journal has %s", s.RetainUntil)
		}
		until := storage.RetainUntil(well.EndedAt, 36, p.cfg.Location)
		p.mustBeLocked(until, 5, p.shown(well.Prefix))
		extended := 0
		for _, o := range p.shown(hurt.Prefix) {
			if o.until.Equal(until) {
				extended++
			}
		}
		if extended != 5 { // all but the one that the journal has lost
			t.Errorf("%d of its objects are locked for longer", extended)
		}
	})
}

// What the policy can't decide is told, and keeps what it has.
func TestUndecidedIsTold(t *testing.T) {
	t.Parallel()
	p := newDepot(t, storetest.Embedded(t))
	odd, well := p.take(p.card("a.mp4"), "R1"), p.take(p.card("b.mp4"), "R2")
	p.change("UPDATE sessions SET ended_at = '' WHERE id = ?", odd.ID)
	r, err := p.deskWith(standard36).Lengthen(t.Context(), everything)
	if !errors.Is(err, policy.ErrFacts) || !strings.Contains(err.Error(), odd.ID) || r.Undecided != 1 || len(r.Extended) != 1 || r.Extended[0].Session != well.ID {
		t.Errorf("%+v, %v", r, err)
	}
	p.mustBeLocked(odd.RetainUntil, 5, p.shown(odd.Prefix))

	// What the months ask for is known all the same.
	p.change("UPDATE sessions SET docked_at = '' WHERE id = ?", well.ID)
	d := p.deskWith(standard36)
	d.Months = 40
	r, err = d.Lengthen(t.Context(), everything)
	if !errors.Is(err, policy.ErrFacts) || !strings.Contains(err.Error(), well.ID) || r.Undecided != 2 || len(r.Extended) != 1 || r.Extended[0].Rule != "retention.months" {
		t.Errorf("%+v, %v", r, err)
	}
	p.mustBeLocked(storage.RetainUntil(well.EndedAt, 40, p.cfg.Location), 5, p.shown(well.Prefix))
}

// Sessions of another bucket, and those that were disposed of, are left alone.
func TestWhatIsNotHereIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := newDepot(t, storetest.Embedded(t))
	elsewhere, gone := p.take(p.card("a.mp4"), "R1"), p.take(p.card("b.mp4"), "R2")
	p.change("UPDATE sessions SET bucket = 'another' WHERE id = ?", elsewhere.ID)
	if err := p.journal.Disposed(t.Context(), gone.ID, gone.RetainUntil); err != nil {
		t.Fatal(err)
	}
	before := p.shown(elsewhere.Prefix, gone.Prefix)
	r := lengthen(t, p.deskWith(standard36))
	if r.Sessions != 0 || r.Elsewhere != 1 || len(r.Extended) != 0 || !same(before, p.shown(elsewhere.Prefix, gone.Prefix)) {
		t.Errorf("%+v", r)
	}
}
