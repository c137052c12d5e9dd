package custody_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
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

// Whatever has changed since a plan was made, of what lets it be applied, has the whole
// plan refused: nothing is deleted, and the ledger says why.
func TestAPlanIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	type spoil func(a *archive, d *custody.Desk, s journal.Session, p *custody.Plan) *custody.Desk
	must := func(a *archive, err error) {
		a.Helper()
		if err != nil {
			a.Fatal(err)
		}
	}
	client := func(a *archive) *minio.Client { return a.server.Client() }
	for name, c := range map[string]struct {
		why   string
		void  bool // it will never be right again
		spoil spoil
	}{
		"older than seven days": {"older than 7 days", true, func(a *archive, _ *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			return a.desk("uid 1", months(6)+custody.PlanGoodFor+time.Minute)
		}},
		"other rules": {"rules have changed", true, func(a *archive, d *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			d.Policy = rules(a.T, "")
			return d
		}},
		"other months": {"rules have changed", true, func(_ *archive, d *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			d.Months = 7
			return d
		}},
		"a clock that nobody keeps": {"is not to be trusted", false, func(a *archive, d *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			a.unsynced.Store(true)
			return d
		}},
		"the station's clock a year ahead": {"what time it is", false, func(a *archive, _ *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			return a.deskBy("uid 1", months(18), months(6))
		}},
		"the store's clock a year ahead": {"what time it is", false, func(a *archive, _ *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			return a.deskBy("uid 1", months(6), months(18))
		}},
		"both clocks set back": {"set back", false, func(a *archive, _ *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			return a.desk("uid 1", months(6)-time.Hour)
		}},
		"a broken ledger": {"ledger", false, func(a *archive, d *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			path := filepath.Join(a.dir, "ledger", "entries.jsonl")
			body, err := os.ReadFile(path)
			must(a, err)
			must(a, os.WriteFile(path, []byte(strings.Replace(string(body), "R1", "R9", 1)), 0o600))
			a.Cleanup(func() { must(a, os.WriteFile(path, body, 0o600)) })
			return d
		}},
		"something else in the bucket's ledger": {"is not what was signed", false, func(a *archive, d *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			_, err := client(a).PutObject(a.Context(), a.store.Bucket, ingest.LedgerPrefix(a.cfg.ID)+"/entries/x", strings.NewReader("nobody"), 6, minio.PutObjectOptions{DisableContentSha256: true, Checksum: minio.ChecksumSHA256})
			must(a, err)
			return d
		}},
		"a plan that was changed": {"has no plan", true, func(a *archive, d *custody.Desk, s journal.Session, p *custody.Plan) *custody.Desk {
			plan, err := a.journal.Plan(a.Context(), p.ID)
			must(a, err)
			plan.ID, plan.Body = "P1", []byte(strings.ReplaceAll(string(plan.Body), p.ID, "P1"))
			must(a, a.journal.SavePlan(a.Context(), plan))
			p.ID = "P1"
			return d
		}},
		"another bucket": {"is of bucket", true, func(a *archive, _ *custody.Desk, _ journal.Session, p *custody.Plan) *custody.Desk {
			a.store.Name = "other"
			return a.desk("uid 1", months(6))
		}},
		"a hold": {"hold H1", true, func(a *archive, d *custody.Desk, s journal.Session, _ *custody.Plan) *custody.Desk {
			must(a, a.journal.AddHold(a.Context(), journal.Hold{ID: "H1", State: journal.HoldSetting, AddedAt: time.Now(), Of: []journal.Held{{Session: s.ID, Path: "a.mp4"}}}))
			return d
		}},
		"a hold in the store alone": {"legal hold", true, func(a *archive, d *custody.Desk, s journal.Session, p *custody.Plan) *custody.Desk {
			on := minio.LegalHoldEnabled
			o := p.Disposable[0].Objects[1]
			must(a, client(a).PutObjectLegalHold(a.Context(), a.store.Bucket, o.Key, minio.PutObjectLegalHoldOptions{VersionID: o.Version, Status: &on}))
			return d
		}},
		"a tag": {"rule t", true, func(a *archive, d *custody.Desk, s journal.Session, _ *custody.Plan) *custody.Desk {
			d.Policy = rules(a.T, "{name: t, match: {tag: [case]}, months: 9, why: t}")
			plan, err := d.Plan(a.Context(), time.Time{})
			must(a, err)
			a.plan = plan.ID
			must(a, a.journal.AddTag(a.Context(), journal.Tag{Session: s.ID, Tag: "case", AddedAt: time.Now()}))
			return d
		}},
		"a longer lock in the journal": {"lock", true, func(a *archive, d *custody.Desk, s journal.Session, _ *custody.Plan) *custody.Desk {
			must(a, a.journal.Lengthened(a.Context(), s.ID, s.RetainUntil.AddDate(0, 3, 0), false))
			return d
		}},
		"a longer lock that has ended too": {"is not what the plan shows", true, func(a *archive, d *custody.Desk, s journal.Session, _ *custody.Plan) *custody.Desk {
			must(a, a.journal.Lengthened(a.Context(), s.ID, s.RetainUntil.Add(time.Hour), false))
			return d
		}},
		"a longer lock in the store": {"the store keeps it", true, func(a *archive, d *custody.Desk, s journal.Session, p *custody.Plan) *custody.Desk {
			must(a, a.server.Relock(a.store.Bucket, p.Disposable[0].Objects[0].Key, time.Now().AddDate(0, 8, 0)))
			return d
		}},
		"kept for ever": {"permanently", true, func(a *archive, d *custody.Desk, s journal.Session, _ *custody.Plan) *custody.Desk {
			must(a, a.journal.Lengthened(a.Context(), s.ID, s.RetainUntil, true))
			return d
		}},
		"a newer session that needs an object": {"objects in common", true, func(a *archive, d *custody.Desk, s journal.Session, p *custody.Plan) *custody.Desk {
			a.refer(s, "R1")
			return d
		}},
		"a signature of somebody else": {"documents", true, func(a *archive, d *custody.Desk, s journal.Session, _ *custody.Plan) *custody.Desk {
			_, err := client(a).PutObject(a.Context(), a.store.Bucket, s.Prefix+"manifest.json.sig", strings.NewReader("nobody"), 6, minio.PutObjectOptions{DisableContentSha256: true, Checksum: minio.ChecksumSHA256})
			must(a, err)
			return d
		}},
		"a manifest that the journal does not know": {"documents", true, func(a *archive, d *custody.Desk, s journal.Session, _ *custody.Plan) *custody.Desk {
			s.Manifest.SHA256 = strings.Repeat("0", 64)
			must(a, a.journal.SaveSession(a.Context(), s))
			return d
		}},
		"no manifest": {"documents", true, func(a *archive, d *custody.Desk, s journal.Session, _ *custody.Plan) *custody.Desk {
			must(a, a.server.Relock(a.store.Bucket, s.Manifest.Key, time.Now().Add(-time.Hour)))
			must(a, client(a).RemoveObject(a.Context(), a.store.Bucket, s.Manifest.Key, minio.RemoveObjectOptions{VersionID: s.Manifest.VersionID}))
			return d
		}},
		"an object that is gone": {"does not have it", true, func(a *archive, d *custody.Desk, s journal.Session, p *custody.Plan) *custody.Desk {
			o := p.Disposable[0].Objects[0]
			must(a, client(a).RemoveObject(a.Context(), a.store.Bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.Version}))
			return d
		}},
		"an object that nobody lists": {"does not list", true, func(a *archive, d *custody.Desk, s journal.Session, _ *custody.Plan) *custody.Desk {
			_, err := client(a).PutObject(a.Context(), a.store.Bucket, s.Prefix+"footage/x", strings.NewReader("nobody"), 6, minio.PutObjectOptions{DisableContentSha256: true, Checksum: minio.ChecksumSHA256})
			must(a, err)
			return d
		}},
		"somebody who may not": {"custody.administrators", false, func(_ *archive, d *custody.Desk, _ journal.Session, _ *custody.Plan) *custody.Desk {
			d.Administrators = []string{"uid 2"}
			return d
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, d, first, _, p := planned(t)
			d = c.spoil(a, d, first, p)
			if a.plan != "" {
				p.ID = a.plan
			}
			if c.why == "ledger" { // which then takes no line about it either
				before := a.versions("")
				if _, err := d.Apply(t.Context(), p.ID, ""); !errors.Is(err, custody.ErrRefused) || !slices.Equal(before, a.versions("")) {
					t.Errorf("applied with %v", err)
				}
				return
			}
			a.refuses(d, p.ID, c.why)
			plan, err := a.journal.Plan(t.Context(), p.ID)
			if err != nil || (plan.State == journal.PlanVoid) != c.void {
				t.Errorf("the plan is %s, %v", plan.State, err)
			}
		})
	}
}

// refer adds a session that is still open and lists an object of another one, as ingest
// does when it finds a file identical.
func (a *archive) refer(to journal.Session, recorder string) {
	a.Helper()
	files, err := a.journal.Files(a.Context(), to.ID)
	if err != nil {
		a.Fatal(err)
	}
	i := slices.IndexFunc(files, func(f *journal.File) bool { return f.State == journal.Verified })
	f := *files[i]
	f.Session, f.State, f.Origin = "newer", journal.Identical, to.ID
	if err := errors.Join(
		a.journal.SaveSession(a.Context(), journal.Session{ID: "newer", State: journal.StateOpen, Recorder: recorder, Prefix: "TEST-01/2026-01-01/newer/", DockedAt: time.Now()}),
		a.journal.AddFiles(a.Context(), []*journal.File{&f}),
	); err != nil {
		a.Fatal(err)
	}
}

// A question to the store that is not answered is not answered with no: what protects
// footage and can't be read keeps it.
func TestWhatCanNotBeReadKeeps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refused bool
		spoil   func(r *http.Request) bool
	}{
		"holds":                  {true, func(r *http.Request) bool { return r.URL.Query().Has("legal-hold") }},
		"versioning":             {true, func(r *http.Request) bool { return r.URL.Query().Has("versioning") }},
		"the lock of the bucket": {true, func(r *http.Request) bool { return r.URL.Query().Has("object-lock") }},
		"the marker":             {true, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, storage.MarkerKey) }},
		"manifests":              {true, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/manifest.json") }},
		"objects": {true, func(r *http.Request) bool {
			return r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/footage/")
		}},
		"the ledger's checkpoint": {true, func(r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/ledger/checkpoint/") && r.Method == http.MethodGet
		}},
		// What the bucket does not get, nobody else could see: nothing goes then.
		"writes to the ledger": {false, func(r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/ledger/") && r.Method == http.MethodPut
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, d, first, second, p := planned(t)
			before := a.versions("")
			hits := atomic.Int64{}
			a.onRequest = func(r *http.Request) string {
				if c.spoil(r) {
					hits.Add(1)
					return "AccessDenied"
				}
				return ""
			}
			done, err := d.Apply(t.Context(), p.ID, "")
			if err == nil || errors.Is(err, custody.ErrRefused) != c.refused || done.Objects != 0 || hits.Load() == 0 {
				t.Errorf("%+v, %v after %d refused requests", done, err, hits.Load())
			}
			if n := len(a.lines("disposal.refused")); (n == 1) != c.refused {
				t.Errorf("%d lines of a refusal", n)
			}
			if !slices.Equal(before, a.versions("")) || !a.session(first.ID).DisposedAt.IsZero() || !a.session(second.ID).DisposedAt.IsZero() {
				t.Error("something is gone")
			}
			a.onRequest = nil
			if done, err := d.Apply(t.Context(), p.ID, ""); err != nil || done.Objects != 3 {
				t.Errorf("afterwards: %+v, %v", done, err)
			}
			a.checkGone(p, before)
		})
	}
}

// Station and store may share a clock that was set ahead, by as much as one likes: the
// days in between are not in the ledger.
func TestTimeThatTheStationHasNotSeenDoesNotCount(t *testing.T) {
	t.Parallel()
	a := newArchive(t, storetest.Embedded(t))
	s := a.dock("R1", map[string]string{"a.mp4": "footage"})
	a.expire()
	d := a.desk("uid 1", months(12))
	p := a.mustPlan(d, s.ID)
	a.refuses(d, p.ID, "tells of 1 days") // today
	a.live(88)
	a.refuses(d, p.ID, "tells of 89 days")
	a.live(89)
	if done, err := d.Apply(t.Context(), p.ID, "test"); err != nil || done.Objects != 1 {
		t.Errorf("after 90 days: %+v, %v", done, err)
	}
}
