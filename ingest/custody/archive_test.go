package custody_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// archive is a station with a real store and footage that can come of age in it.
type archive struct {
	*testing.T
	server   *storetest.Server
	store    storage.Config
	cfg      ingest.Config
	dir      string
	journal  *journal.Journal
	evidence ingest.Evidence
	station  *ingest.Station
	cards    int
	plan     string // made by a test that spoils it
	// unsynced: no time service keeps the station's clock.
	unsynced atomic.Bool
	// onDelete is called before a request to delete goes to the store; nil: nothing is.
	onDelete func()
	// onRequest sees every request before it goes to the store, and may have it answered
	// with an error of S3, by its code, instead; nil: all go there.
	onRequest func(*http.Request) (code string)
}

func newArchive(t *testing.T, server *storetest.Server) *archive {
	t.Helper()
	a := &archive{T: t, server: server, store: server.Config(), dir: t.TempDir()}
	a.store.Name = "store" // by whatever way it is reached
	a.cfg = ingest.Config{
		ID: "TEST-01", Location: storetest.Zone, Software: "ingestd test", Parallel: 1, PartSize: 5 << 20, BufferMemory: 20 << 20,
		Verification: ingest.ReadBack, Patience: time.Second,
		StationClock: func() device.StationClock {
			return device.StationClock{Synchronised: !a.unsynced.Load(), Why: "no time service keeps it"}
		},
	}
	var err error
	if a.journal, err = journal.Open(a.dir, journal.Share); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	a.store.Now = a.journal.Now
	vault, err := storage.Open(t.Context(), a.store)
	if err != nil {
		t.Fatal(err)
	}
	key, err := stationkey.Create(filepath.Join(a.dir, "station.key"), a.cfg.ID)
	if err != nil {
		t.Fatal(err)
	}
	a.evidence.Key, a.evidence.Ring = key, &stationkey.Ring{}
	if err := a.evidence.Ring.Add(stationkey.Signer{Principal: a.cfg.ID, Key: key.Public()}); err != nil {
		t.Fatal(err)
	}
	a.evidence.Ledger, err = ledger.Open(t.Context(), filepath.Join(a.dir, "ledger"), ingest.LedgerSigner(key, a.cfg.ID), func(r ledger.Repair) {
		t.Errorf("the ledger was put right: %s", r)
	})
	if err != nil {
		t.Fatal(err)
	}
	a.station = ingest.NewStation(a.cfg, vault, a.journal, a.evidence)
	if err := a.journal.SelfTestPassed(t.Context(), vault.Describe()); err != nil { // it takes seconds, and has tests of its own
		t.Fatal(err)
	}
	if err := a.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

// dock takes in a card with these files, name and content, and gives the session.
func (a *archive) dock(recorder string, files map[string]string) journal.Session {
	a.Helper()
	a.cards++
	card := filepath.Join(a.TempDir(), fmt.Sprintf("card%d", a.cards))
	for name, body := range files {
		path := filepath.Join(card, name)
		old := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC) // the same on every card, for identical files
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(body), 0o600), os.Chtimes(path, old, old)); err != nil {
			a.Fatal(err)
		}
	}
	r, err := a.station.Ingest(a.Context(), device.Docking{
		Slot: filepath.Base(card), Open: func(context.Context) (device.Recorder, error) { return folder.Open(card) },
	}, ingest.Options{Recorder: recorder, Officer: "150525"})
	if err != nil || !r.Safe {
		a.Fatalf("ingest: %s, %v", r.State, err)
	}
	return r.Session
}

// session gives what the journal has by now.
func (a *archive) session(id string) journal.Session {
	a.Helper()
	s, err := a.journal.Session(a.Context(), id)
	if err != nil {
		a.Fatal(err)
	}
	return s
}

// live has the ledger tell of as many days to come, as that of a station at work does.
func (a *archive) live(days int) {
	a.Helper()
	var told []ledger.Entry
	for i := range days {
		told = append(told, ledger.Entry{Time: time.Now().AddDate(0, 0, i+1), Station: a.cfg.ID, Actor: "station", Event: "retention.previewed"})
	}
	if _, err := a.evidence.Ledger.Append(a.Context(), told...); err != nil {
		a.Fatal(err)
	}
}

// age ends the locks of all footage in the embedded store, of a station that was at work.
func (a *archive) age() {
	a.Helper()
	a.live(90)
	a.expire()
}

// expire ends the locks alone.
func (a *archive) expire() {
	a.Helper()
	for _, v := range a.versions("") {
		if key, _, _ := strings.Cut(v, " "); strings.Contains(key, "/"+manifest.FootageDir) {
			if err := a.server.Relock(a.store.Bucket, key, time.Now().Add(-time.Minute)); err != nil {
				a.Fatal(err)
			}
		}
	}
}

// months is the time until so many calendar months and a day from now.
func months(n int) time.Duration { return time.Until(time.Now().AddDate(0, n, 1)) }

// desk is one of a person when both clocks are ahead by so much.
func (a *archive) desk(person string, ahead time.Duration) *custody.Desk {
	a.Helper()
	return a.deskBy(person, ahead, ahead)
}

// deskBy is a desk whose station's clock and store's clock are ahead.
func (a *archive) deskBy(person string, station, store time.Duration) *custody.Desk {
	a.Helper()
	cfg := storetest.Later(a, a.store, store, func(r *http.Request) {
		if r.Method == http.MethodDelete && a.onDelete != nil {
			a.onDelete()
		}
	})
	inner := cfg.Endpoint
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", inner
			r.Out.Host = r.In.Host // which is signed
		},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if a.onRequest != nil {
				if code := a.onRequest(r); code != "" {
					body := "<Error><Code>" + code + "</Code><Message>spoilt by the test</Message></Error>"
					return &http.Response{
						StatusCode: http.StatusForbidden, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r,
						Header: http.Header{"Content-Type": {"application/xml"}, "Date": {time.Now().Add(store).UTC().Format(http.TimeFormat)}},
					}, nil
				}
			}
			return http.DefaultTransport.RoundTrip(r)
		}),
		ErrorLog: log.New(io.Discard, "", 0), // a test that cuts off says so itself
	})
	a.Cleanup(front.Close)
	cfg.Endpoint = strings.TrimPrefix(front.URL, "http://")
	cfg.Now = func() time.Time { return time.Now().Add(station) }
	vault, err := storage.Look(cfg)
	if err != nil {
		a.Fatal(err)
	}
	return &custody.Desk{
		Station: ingest.NewStation(a.cfg, vault, a.journal, a.evidence), Vault: vault, Journal: a.journal, Evidence: a.evidence,
		Location: a.cfg.Location, Months: 6, Person: person, Actor: person,
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// versions asks a plain S3 client for every version and delete marker below a prefix of
// the station, "KEY VERSION" each, the ledger's left out.
func (a *archive) versions(prefix string) (all []string) {
	a.Helper()
	for o := range a.server.Client().ListObjectsIter(a.Context(), a.store.Bucket, minio.ListObjectsOptions{Prefix: a.cfg.ID + "/" + prefix, Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			a.Fatal(o.Err)
		}
		if strings.HasPrefix(o.Key, ingest.LedgerPrefix(a.cfg.ID)) {
			continue
		}
		v := o.Key + " " + o.VersionID
		if o.IsDeleteMarker {
			v += " delete marker"
		}
		all = append(all, v)
	}
	slices.Sort(all)
	return all
}

// mustPlan makes a plan that lists exactly these sessions.
func (a *archive) mustPlan(d *custody.Desk, sessions ...string) *custody.Plan {
	a.Helper()
	p, err := d.Plan(a.Context(), time.Time{})
	if err != nil {
		a.Fatal(err)
	}
	if got := listed(p); !slices.Equal(got, sessions) {
		a.Fatalf("the plan lists %v, want %v; kept: %+v", got, sessions, p.Kept)
	}
	return p
}

func listed(p *custody.Plan) (ids []string) {
	for _, s := range p.Disposable {
		ids = append(ids, s.Session)
	}
	return ids
}

// lines gives the entries of an event in the ledger.
func (a *archive) lines(event string) (all []ledger.Entry) {
	a.Helper()
	for line, err := range a.evidence.Ledger.Read(a.Context(), 0) {
		if err != nil {
			a.Fatal(err)
		}
		if line.Entry.Event == event {
			all = append(all, line.Entry)
		}
	}
	return all
}

// refuses: the plan is not applied, nothing is gone, and the ledger says so with a reason.
func (a *archive) refuses(d *custody.Desk, plan, why string) {
	a.Helper()
	before, told := a.versions(""), len(a.lines("disposal.refused"))
	done, err := d.Apply(a.Context(), plan, "test")
	if !errors.Is(err, custody.ErrRefused) || !strings.Contains(err.Error(), why) {
		a.Errorf("applied with %v, want a refusal with %q", err, why)
	}
	if after := a.versions(""); len(before) == 0 || !slices.Equal(before, after) || done.Objects != 0 || done.Asked {
		a.Errorf("%d versions before, %d after, %+v", len(before), len(after), done)
	}
	lines := a.lines("disposal.refused")
	if len(lines) != told+1 || !strings.Contains(lines[len(lines)-1].Reason, why) || lines[len(lines)-1].Actor != d.Actor || lines[len(lines)-1].Detail["plan"] != plan {
		a.Errorf("the ledger has %+v, want one line more with %q", lines[told:], why)
	}
	if n := len(a.lines("disposal.session")) + len(a.lines("disposal.applied")); n != 0 {
		a.Errorf("%d lines of a disposal", n)
	}
}
