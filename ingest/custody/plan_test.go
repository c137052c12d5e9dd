package custody_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/ingest/continuity"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/policy"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// reasonsOf gives the kinds of the reasons by which a plan keeps a session.
func reasonsOf(p *custody.Plan, session string) (kinds []custody.ReasonKind) {
	for _, k := range p.Kept {
		if k.Session == session {
			for _, r := range k.Reasons {
				kinds = append(kinds, r.Kind)
			}
		}
	}
	return kinds
}

func rules(t *testing.T, more string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("retention.yaml", []byte("version: 1\ndefault: {months: 6, why: 第十一条}\nrules: ["+more+"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPlanShowsWhatGoesAndWhy(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	s := a.dock("R1", map[string]string{"DCIM/a.mp4": "footage a", "DCIM/b.mp4": "footage bb"})
	held := a.dock("R1", map[string]string{"DCIM/c.mp4": "footage c"})
	a.age()
	if err := a.journal.AddHold(t.Context(), journal.Hold{ID: "H1", State: journal.HoldHeld, AddedAt: time.Now(), Of: []journal.Held{{Session: held.ID}}}); err != nil {
		t.Fatal(err)
	}
	if err := a.station.Record(t.Context(), ledger.Entry{Event: "playback.started", Session: s.ID}); err != nil {
		t.Fatal(err)
	}
	d := a.desk("uid 1", months(6))
	p := a.mustPlan(d, s.ID)
	item := p.Disposable[0]
	files, err := a.journal.Files(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	objects := 0
	for _, f := range files {
		if f.State != journal.Verified {
			continue
		}
		o := item.Objects[objects]
		if o.Key != f.Object.Key || o.Version != f.Object.VersionID || o.SHA256 != f.SHA256 || o.Size != f.Entry.Size {
			t.Errorf("object %+v, the journal has %+v", o, f.Object)
		}
		objects++
	}
	if objects != 2 || len(item.Objects) != 2 || item.Bytes != 19 || item.Files != 2 || item.Manifest.SHA256 != s.Manifest.SHA256 {
		t.Errorf("%+v", item)
	}
	if item.Recorder != "R1" || item.Officer != "150525" || !item.KeptUntil.Equal(s.RetainUntil) || item.DaysKept < 181 || item.DaysKept > 186 {
		t.Errorf("%+v", item)
	}
	if item.Viewed.Count != 1 || item.Viewed.Last == nil || item.Gaps != nil || len(item.NearHold) != 1 || item.NearHold[0] != "H1" {
		t.Errorf("viewed %+v, gaps %v, near %v", item.Viewed, item.Gaps, item.NearHold)
	}
	if kinds := reasonsOf(p, held.ID); len(kinds) != 1 || kinds[0] != custody.OnHold {
		t.Errorf("the other one is kept by %v", kinds)
	}
	if p.Totals != (custody.PlanTotals{Sessions: 1, Files: 2, Objects: 2, Bytes: 19, NearHold: 1, Kept: 1, GapTotals: custody.GapTotals{Unexamined: 1}}) {
		t.Errorf("totals %+v", p.Totals)
	}
	kept, err := a.journal.Plan(t.Context(), p.ID)
	if err != nil || kept.State != journal.PlanOpen {
		t.Fatalf("%+v, %v", kept, err)
	}
	var again custody.Plan
	if err := json.Unmarshal(kept.Body, &again); err != nil || again.ID != p.ID || again.Schema != "ingestd.disposal-plan/1" || !strings.Contains(string(kept.Body), `"open_gaps": null`) {
		t.Errorf("%v: %s", err, kept.Body)
	}
	sum := sha256.Sum256(kept.Body)
	if lines := a.lines("disposal.planned"); len(lines) != 1 || lines[0].Detail["sha256"] != hex.EncodeToString(sum[:]) || lines[0].Detail["plan"] != p.ID || lines[0].Actor != "uid 1" {
		t.Errorf("the ledger has %+v", lines)
	}
}

// Nothing is planned before its time, by either clock, by what rules ask for now, by
// a tag, a hold, a mark of permanence.
func TestAPlanKeepsWhatAnythingKeeps(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	s := a.dock("R1", map[string]string{"a.mp4": "footage"})
	for name, c := range map[string]struct {
		desk func() *custody.Desk
		want custody.ReasonKind
	}{
		"before its time": {func() *custody.Desk { return a.desk("p", 0) }, custody.Locked},
		"a day before":    {func() *custody.Desk { return a.desk("p", months(6)-4*24*time.Hour) }, custody.Locked},
		"locked in the store": {func() *custody.Desk {
			until := time.Now().AddDate(0, 8, 0)
			for _, v := range a.versions("") {
				if key, _, _ := strings.Cut(v, " "); strings.Contains(key, "/footage/") {
					if err := a.server.Relock(a.store.Bucket, key, until); err != nil {
						t.Fatal(err)
					}
				}
			}
			return a.desk("p", months(6))
		}, custody.Locked},
		"more months": {func() *custody.Desk { d := a.desk("p", months(6)); d.Months = 12; return d }, custody.Ruled},
		"a rule": {func() *custody.Desk {
			d := a.desk("p", months(6))
			d.Policy = rules(t, "{name: o, match: {officer: ['150525']}, months: 9, why: o}")
			return d
		}, custody.Ruled},
		"for ever by a rule": {func() *custody.Desk {
			d := a.desk("p", months(6))
			d.Policy = rules(t, "{name: o, match: {recorder: [R1]}, months: permanent, why: o}")
			return d
		}, custody.Permanent},
	} {
		d := c.desk()
		p := a.mustPlan(d)
		if kinds := reasonsOf(p, s.ID); len(kinds) != 1 || kinds[0] != c.want {
			t.Errorf("%s: kept by %v, want %s", name, kinds, c.want)
		}
		if p.ID != "" {
			t.Errorf("%s: a plan with nothing in it has id %s", name, p.ID)
		}
	}
	a.age()
	tagged := a.desk("p", months(6))
	tagged.Policy = rules(t, "{name: t, match: {tag: [case]}, months: 9, why: t}")
	a.mustPlan(tagged, s.ID)
	if err := a.journal.AddTag(t.Context(), journal.Tag{Session: s.ID, Tag: "case", AddedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if kinds := reasonsOf(a.mustPlan(tagged), s.ID); len(kinds) != 1 || kinds[0] != custody.Ruled {
		t.Errorf("with a tag: kept by %v", kinds)
	}
	if err := a.journal.Lengthened(t.Context(), s.ID, s.RetainUntil, true); err != nil {
		t.Fatal(err)
	}
	if kinds := reasonsOf(a.mustPlan(a.desk("p", months(6))), s.ID); len(kinds) != 1 || kinds[0] != custody.Permanent {
		t.Errorf("permanent: kept by %v", kinds)
	}
}

// A clock of the station that is alone ahead does not even make a plan.
func TestNoPlanByOneClockAlone(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	a.dock("R1", map[string]string{"a.mp4": "footage"})
	a.age()
	for name, d := range map[string]*custody.Desk{"station": a.deskBy("p", months(12), 0), "store": a.deskBy("p", 0, months(12))} {
		if _, err := d.Plan(t.Context(), time.Time{}); !errors.Is(err, custody.ErrRefused) {
			t.Errorf("%s ahead by a year: %v", name, err)
		}
	}
	if n := len(a.lines("disposal.refused")); n != 2 {
		t.Errorf("%d refusals in the ledger", n)
	}
}

// A preview of a later day shows what would go, and can't be applied, then or ever.
func TestAPreviewCanNotBeApplied(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	s := a.dock("R1", map[string]string{"a.mp4": "footage"})
	p, err := a.desk("p", 0).Plan(t.Context(), time.Now().AddDate(0, 7, 0))
	if err != nil || len(p.Disposable) != 1 || p.Disposable[0].Session != s.ID || p.AsOf == nil {
		t.Fatalf("%+v, %v", p, err)
	}
	a.age()
	a.refuses(a.desk("p", months(6)), p.ID, "void")
	if past, err := a.desk("p", months(6)).Plan(t.Context(), time.Now()); err != nil || past.ID != "" {
		t.Errorf("as of a day before its time: %+v, %v", past, err)
	}
}

func TestWhatExpiresSoonIsToldWithoutTheStore(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	s := a.dock("R1", map[string]string{"a.mp4": "footage", "b.mp4": "more"})
	held := a.dock("R2", map[string]string{"c.mp4": "footage c"})
	if err := a.journal.AddHold(t.Context(), journal.Hold{ID: "H1", State: journal.HoldHeld, AddedAt: time.Now(), Of: []journal.Held{{Session: held.ID}}}); err != nil {
		t.Fatal(err)
	}
	d := &custody.Desk{Journal: a.journal, Evidence: a.evidence, Location: a.cfg.Location, Months: 6}
	soon, err := d.Preview(t.Context(), 30)
	if err != nil || soon.Totals.Sessions != 0 {
		t.Errorf("within a month: %+v, %v", soon, err)
	}
	p, err := d.Preview(t.Context(), 190)
	if err != nil || len(p.Sessions) != 1 || p.Sessions[0].Session != s.ID || p.Totals != (custody.PreviewTotals{Sessions: 1, Recordings: 2, NeverViewed: 1, NearHold: 1, GapTotals: custody.GapTotals{Unexamined: 1}}) {
		t.Errorf("%+v, %v", p, err)
	}
	if want := "within 190 days 2 recordings in 1 sessions expire: 1 sessions never viewed, gaps 记录中断 not examined 未检查, 1 near a hold"; p.Words() != want {
		t.Errorf("%s", p.Words())
	}
}

// Signs of interruptions are counted, and told from what nobody could look into.
func TestSignsOfGapsAreCounted(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	clip := func(number int) string {
		return fmt.Sprintf("DCIM/100MEDIA/2026112408000%d_0001A_NMQ0001_%06d.MP4", number, number)
	}
	for _, s := range []journal.Session{
		a.dock("R1", map[string]string{clip(1): "footage", clip(3): "more", clip(7): "and more"}),
		a.dock("R2", map[string]string{clip(1): "footage of another", clip(2): "more of it"}),
	} {
		s.Identity.Profile = "zfy-paramini"
		if err := a.journal.SaveSession(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	a.dock("R3", map[string]string{"a.mp4": "footage of which nothing is known"})
	d := a.desk("uid 1", 0)
	d.Continuity = &continuity.Examiner{Journal: a.journal, Zone: a.cfg.Location, Profiles: func() (profile.Set, error) { return profile.Load(os.DirFS("../../configs/recorders"), "") }}
	soon, err := d.Preview(t.Context(), 190)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := d.Plan(t.Context(), a.journal.Now().AddDate(0, 7, 0))
	if err != nil {
		t.Fatal(err)
	}
	planned, previewed := map[string]*int{}, map[string]*int{}
	for _, s := range plan.Disposable {
		planned[s.Recorder] = s.Gaps
	}
	for _, s := range soon.Sessions {
		previewed[s.Recorder] = s.OpenGaps
	}
	for of, signs := range map[string]map[string]*int{"plan": planned, "preview": previewed} {
		if len(signs) != 3 || signs["R1"] == nil || *signs["R1"] != 2 || signs["R2"] == nil || *signs["R2"] != 0 || signs["R3"] != nil {
			t.Errorf("%s: %v", of, signs)
		}
	}
	const want = "with signs of gaps 记录中断 1, not examined 未检查 1"
	if plan.Totals.GapWords() != want || soon.Totals.GapWords() != want || !strings.Contains(soon.Words(), want) {
		t.Errorf("%s; %s", plan.Totals.GapWords(), soon.Words())
	}
}
