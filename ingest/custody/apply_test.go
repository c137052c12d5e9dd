package custody_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// checkGone proves from outside that exactly the objects of a plan are gone: every other
// version is where it was, there is no delete marker, the documents can be verified, and
// the ledger has the deletion, here and in the bucket, before and after.
func (a *archive) checkGone(p *custody.Plan, before []string) {
	a.Helper()
	want := slices.Clone(before)
	for _, s := range p.Disposable {
		if a.session(s.Session).DisposedAt.IsZero() {
			a.Errorf("the journal does not know that session %s is disposed of", s.Session)
		}
		for _, o := range s.Objects {
			n := len(want)
			if want = slices.DeleteFunc(want, func(v string) bool { return v == o.Key+" "+o.Version }); len(want) != n-1 {
				a.Errorf("%s was not there before", o.Key)
			}
		}
	}
	if after := a.versions(""); !slices.Equal(after, want) {
		a.Errorf("the store has %d versions, want %d:\n%s", len(after), len(want), strings.Join(after, "\n"))
	}
	var sessions []string
	for _, l := range a.lines("disposal.session") {
		sessions = append(sessions, l.Session)
		i := slices.IndexFunc(p.Disposable, func(s custody.Disposable) bool { return s.Session == l.Session })
		if i < 0 || len(l.Objects) != len(p.Disposable[i].Objects) || l.Detail["plan"] != p.ID || l.Detail["manifest_sha256"] != p.Disposable[i].Manifest.SHA256 {
			a.Errorf("a line of the ledger: %+v", l)
		}
	}
	slices.Sort(sessions)
	if len(sessions) != len(slices.Compact(slices.Clone(sessions))) || len(sessions) != len(p.Disposable) {
		a.Errorf("the ledger has the deletion of %v, the plan has %v", sessions, listed(p))
	}
	if n := len(a.lines("disposal.applied")); n != 1 {
		a.Errorf("%d lines disposal.applied", n)
	}
	report, err := a.station.VerifyLedger(a.Context())
	if err != nil || !report.Sound() {
		a.Errorf("the ledger: %+v, %v", report, err)
	}
	v := ingest.Verifier{Vault: a.desk("", 0).Vault, Journal: a.journal, Station: a.cfg.ID, Ring: a.evidence.Ring}
	r, err := v.All(a.Context())
	r.Findings = slices.DeleteFunc(r.Findings, func(f ingest.Finding) bool { return f.Problem == ingest.Unlocked }) // see age
	if err != nil || len(r.Findings) != 0 || r.Disposed != len(p.Disposable) {
		a.Errorf("verify: %+v, %v", r, err)
	}
	if plan, err := a.journal.Plan(a.Context(), p.ID); err != nil || plan.State != journal.PlanApplied {
		a.Errorf("the plan is %+v, %v", plan, err)
	}
}

func TestAPlanIsAppliedAndNothingElse(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	s := a.dock("R1", map[string]string{"DCIM/a.mp4": "footage a", "DCIM/b.mp4": "footage bb", "notes.txt": ""})
	other := a.dock("R2", map[string]string{"c.mp4": "footage c"})
	if err := a.journal.AddHold(t.Context(), journal.Hold{ID: "H1", State: journal.HoldSetting, AddedAt: time.Now(), Of: []journal.Held{{Session: other.ID}}}); err != nil {
		t.Fatal(err)
	}
	a.age()
	before := a.versions("")
	d := a.desk("uid 1", months(6))
	p := a.mustPlan(d, s.ID)
	// What is on its way to the store has been told before, in the bucket too.
	a.onDelete = func() {
		if n := len(a.lines("disposal.session")); n != 1 {
			t.Errorf("%d lines in the ledger when an object goes", n)
		}
		if a.session(s.ID).DisposedAt.IsZero() {
			t.Error("the journal does not know when an object goes")
		}
		size, err := a.evidence.Ledger.Size()
		report, err2 := a.station.VerifyLedger(t.Context())
		if err = errors.Join(err, err2); err != nil || report.Checkpoint.Size != size {
			t.Errorf("the bucket has not the %d lines of the ledger: %+v, %v", size, report, err)
		}
	}
	done, err := d.Apply(t.Context(), p.ID, "expired")
	if err != nil || done.Sessions != 1 || done.Objects != 3 || done.Bytes != 19 || len(done.Left) != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	a.onDelete = nil
	a.checkGone(p, before)
	if lines := a.lines("disposal.session"); lines[0].Reason != "expired" || lines[0].Actor != "uid 1" {
		t.Errorf("%+v", lines)
	}
	if _, err := d.Apply(t.Context(), p.ID, "again"); !errors.Is(err, custody.ErrRefused) || !strings.Contains(err.Error(), "was applied") {
		t.Errorf("applied twice: %v", err)
	}
	a.mustPlan(d)
	if _, err := d.Apply(t.Context(), "P20260101-nosuch", ""); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("an unknown plan: %v", err)
	}
}

// What the store still shows of a session that was disposed of is found.
func TestLeftOversOfADisposalAreFound(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	s := a.dock("R1", map[string]string{"a.mp4": "footage a"})
	if err := a.journal.Disposed(t.Context(), s.ID, s.RetainUntil); err != nil {
		t.Fatal(err)
	}
	v := ingest.Verifier{Vault: a.desk("", 0).Vault, Journal: a.journal, Station: a.cfg.ID, Ring: a.evidence.Ring}
	r, err := v.All(t.Context())
	if err != nil || r.Disposed != 1 || len(r.Findings) != 1 || r.Findings[0].Problem != ingest.Extra {
		t.Errorf("%+v, %v", r, err)
	}
}

// planned is an archive with a plan of two sessions that may be applied.
func planned(t *testing.T) (a *archive, d *custody.Desk, first, second journal.Session, p *custody.Plan) {
	t.Helper()
	a = newArchive(t, storetest.Embedded(t))
	first = a.dock("R1", map[string]string{"a.mp4": "footage a", "b.mp4": "footage b"})
	second = a.dock("R2", map[string]string{"c.mp4": "footage c"})
	a.age()
	d = a.desk("uid 1", months(6))
	return a, d, first, second, a.mustPlan(d, first.ID, second.ID)
}

func TestTwoPersonsDispose(t *testing.T) {
	t.Parallel()
	a, d, _, _, p := planned(t)
	before := a.versions("")
	d.TwoPersons, d.Administrators = true, []string{"uid 1", "uid 2"}
	done, err := d.Apply(t.Context(), p.ID, "first")
	if err != nil || !done.Asked || len(a.lines("disposal.asked")) != 1 || !slices.Equal(before, a.versions("")) {
		t.Fatalf("asked: %+v, %v", done, err)
	}
	a.refuses(d, p.ID, "another person")
	third := *d
	third.Person, third.Actor = "uid 3", "uid 3"
	a.refuses(&third, p.ID, "custody.administrators")
	second := *d
	second.Person, second.Actor = "uid 2", "uid 2"
	if done, err := second.Apply(t.Context(), p.ID, "second"); err != nil || done.Asked || done.Sessions != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	a.checkGone(p, before)
}

// The station's key may not delete. What it is refused goes on with that of whoever may,
// which does nothing else.
func TestAnotherKeyDeletes(t *testing.T) {
	t.Parallel()
	a, d, _, _, p := planned(t)
	before := a.versions("")
	a.onRequest = func(r *http.Request) string {
		if r.Method == http.MethodDelete {
			return "AccessDenied"
		}
		return ""
	}
	done, err := d.Apply(t.Context(), p.ID, "")
	if !errors.Is(err, custody.ErrRefused) || !errors.Is(err, storage.ErrDenied) || done.Objects != 0 || !slices.Equal(before, a.versions("")) {
		t.Fatalf("%+v, %v", done, err)
	}
	var others atomic.Int64
	cfg := storetest.Later(t, a.store, months(6), func(r *http.Request) {
		if r.Method != http.MethodDelete && r.Method != http.MethodHead && r.Method != http.MethodGet {
			others.Add(1)
		}
	})
	cfg.Now = func() time.Time { return time.Now().Add(months(6)) }
	if d.Disposer, err = storage.Look(cfg); err != nil {
		t.Fatal(err)
	}
	if done, err := d.Apply(t.Context(), p.ID, ""); err != nil || done.Objects != 3 || others.Load() != 0 {
		t.Fatalf("%+v, %v, %d other requests", done, err, others.Load())
	}
	a.checkGone(p, before)
}

// A hold that comes while a plan is being applied stops it there.
func TestAHoldStopsADisposalAtWork(t *testing.T) {
	t.Parallel()
	a, d, first, second, p := planned(t)
	a.onDelete = func() { // of the second one, which goes first
		if err := a.journal.AddHold(t.Context(), journal.Hold{ID: "H1", State: journal.HoldSetting, AddedAt: time.Now(), Of: []journal.Held{{Session: first.ID}}}); err != nil {
			t.Error(err)
		}
	}
	done, err := d.Apply(t.Context(), p.ID, "")
	if !errors.Is(err, custody.ErrRefused) || !errors.Is(err, journal.ErrKept) || done.Sessions != 1 || done.Objects != 1 || !slices.Equal(done.Left, []string{first.ID}) {
		t.Fatalf("%+v, %v", done, err)
	}
	if !a.session(first.ID).DisposedAt.IsZero() || a.session(second.ID).DisposedAt.IsZero() {
		t.Error("the wrong one is gone")
	}
	if lines := a.lines("disposal.refused"); len(lines) != 1 || lines[0].Detail["objects_deleted"] != "1" {
		t.Errorf("%+v", lines)
	}
	if n := len(a.versions(strings.TrimPrefix(first.Prefix, "TEST-01/") + "footage/")); n != 2 {
		t.Errorf("%d versions of what is on hold", n)
	}
	if err := a.journal.AddHold(t.Context(), journal.Hold{ID: "H2", State: journal.HoldSetting, AddedAt: time.Now(), Of: []journal.Held{{Session: second.ID}}}); err == nil {
		t.Error("what is gone was held")
	}
}

// An object that two sessions list goes with both, and stays for either.
func TestIdenticalFilesGoTogether(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	files := map[string]string{"a.mp4": "footage a"}
	first := a.dock("R1", files)
	files["b.mp4"] = "footage b"
	second := a.dock("R1", files)
	third := a.dock("R1", files) // has nothing of its own
	a.age()
	d := a.desk("uid 1", months(6))
	if err := a.journal.Lengthened(t.Context(), third.ID, third.RetainUntil.AddDate(0, 1, 0), false); err != nil {
		t.Fatal(err)
	}
	p := a.mustPlan(d)
	if a, b := reasonsOf(p, first.ID), reasonsOf(p, second.ID); len(a) != 1 || a[0] != custody.Shared || len(b) != 1 || b[0] != custody.Shared {
		t.Errorf("kept by %v and %v", a, b)
	}
	if err := a.journal.Disposed(t.Context(), first.ID, d.Vault.Now()); !errors.Is(err, journal.ErrKept) {
		t.Errorf("the journal gives up what another session lists: %v", err)
	}
	before := a.versions("")
	d = a.desk("uid 1", months(8))
	p = a.mustPlan(d, first.ID, second.ID, third.ID)
	if n := len(p.Disposable[0].Objects) + len(p.Disposable[1].Objects) + len(p.Disposable[2].Objects); n != 2 || len(p.Disposable[2].Objects) != 0 || p.Disposable[2].Files != 2 {
		t.Errorf("%d objects: %+v", n, p.Disposable)
	}
	if done, err := d.Apply(t.Context(), p.ID, ""); err != nil || done.Sessions != 3 || done.Objects != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	a.checkGone(p, before)
}

func TestTheStationDisposesByItself(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	s := a.dock("R1", map[string]string{"a.mp4": "footage a"})
	a.age()
	before := a.versions("")
	at := months(6)
	day := func(after time.Duration) (custody.Round, error) {
		d := a.desk("uid 0", at+after)
		d.Administrators = []string{"uid 5"} // people, not the station
		return d.Automatic(t.Context())
	}
	r, err := day(0)
	if err != nil || r.Applied != nil || r.Planned == nil || r.Planned.MadeBy != "station" {
		t.Fatalf("%+v, %v", r, err)
	}
	if again, err := day(time.Hour); err != nil || again.Applied != nil || again.Planned != nil || !slices.Equal(before, a.versions("")) {
		t.Errorf("the same day: %+v, %v", again, err)
	}
	two := a.desk("uid 0", at+24*time.Hour)
	two.TwoPersons = true
	if _, err := two.Automatic(t.Context()); !errors.Is(err, custody.ErrRefused) {
		t.Errorf("where two persons must confirm: %v", err)
	}
	next, err := day(24 * time.Hour)
	if err != nil || next.Applied == nil || next.Applied.Sessions != 1 || next.Planned != nil {
		t.Fatalf("the next day: %+v, %v", next, err)
	}
	a.checkGone(r.Planned, before)
	if a.session(s.ID).DisposedAt.IsZero() || a.lines("disposal.applied")[0].Actor != "station" {
		t.Error("not by the station")
	}
}

// On a store that keeps its locks by a clock of its own, no plan of ours can do harm:
// it is refused there, and what is there is told.
func TestAStoreThatKeepsItsLocksEndsADisposal(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.MinIO(t, false))
	s := a.dock("R1", map[string]string{"a.mp4": "footage a", "b.mp4": "footage b"})
	before := a.versions("")
	a.mustPlan(a.desk("uid 1", 0))
	d := a.desk("uid 1", months(6)) // MinIO itself knows better
	p := a.mustPlan(d, s.ID)
	a.unsynced.Store(true)
	a.refuses(d, p.ID, "is not to be trusted")
	a.unsynced.Store(false)
	a.refuses(a.deskBy("uid 1", months(18), months(6)), p.ID, "what time it is")
	on, off := minio.LegalHoldEnabled, minio.LegalHoldDisabled
	o := p.Disposable[0].Objects[0]
	hold := func(status *minio.LegalHoldStatus) {
		t.Helper()
		if err := a.server.Client().PutObjectLegalHold(t.Context(), a.store.Bucket, o.Key, minio.PutObjectLegalHoldOptions{VersionID: o.Version, Status: status}); err != nil {
			t.Fatal(err)
		}
	}
	a.live(90)
	hold(&on)
	a.refuses(d, p.ID, "legal hold")
	hold(&off)
	p = a.mustPlan(d, s.ID)
	done, err := d.Apply(t.Context(), p.ID, "")
	if !errors.Is(err, custody.ErrRefused) || done.Objects != 0 || !slices.Equal(before, a.versions("")) || !slices.Equal(done.Left, []string{s.ID}) {
		t.Errorf("%+v, %v", done, err)
	}
	if lines := a.lines("disposal.refused"); !strings.Contains(lines[len(lines)-1].Reason, "does not go") {
		t.Errorf("the ledger has %+v", lines[len(lines)-1])
	}
}
