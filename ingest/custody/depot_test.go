package custody_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/policy"
	"github.com/bodyworn/ingestd/storage/stationkey"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// stores are those that what is promised of locks and holds is shown on.
var stores = map[string]func(testing.TB) *storetest.Server{
	"embedded": storetest.Embedded,
	"minio":    func(t testing.TB) *storetest.Server { return storetest.MinIO(t, false) },
}

// onEachStore runs a test on every store.
func onEachStore(t *testing.T, test func(*testing.T, *depot)) {
	t.Parallel()
	for name, start := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newDepot(t, start(t)))
		})
	}
}

// depot is a station with a real store and what it has stored, which a test questions
// with a plain S3 client.
type depot struct {
	t        *testing.T
	server   *storetest.Server
	store    storage.Config
	cfg      ingest.Config
	dir      string
	vault    *storage.Vault
	journal  *journal.Journal
	evidence ingest.Evidence
}

func newDepot(t *testing.T, server *storetest.Server) *depot {
	t.Helper()
	p := &depot{t: t, server: server, store: server.Config(), dir: t.TempDir()}
	p.store.Name = "store" // also where it is reached by another way
	p.cfg = ingest.Config{
		ID: "station-1", Location: storetest.Zone, Software: "ingestd test", Parallel: 2, PartSize: 5 << 20, BufferMemory: 20 << 20,
		Verification: ingest.ReadBack, Patience: time.Second, Events: func(ingest.Event) {},
	}
	var err error
	if p.journal, err = journal.Open(p.dir, journal.Share); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.journal.Close() })
	p.store.Now = p.journal.Now
	if p.vault, err = storage.Open(t.Context(), p.store); err != nil {
		t.Fatal(err)
	}
	if p.evidence.Key, err = stationkey.Create(filepath.Join(p.dir, "station.key"), p.cfg.ID); err != nil {
		t.Fatal(err)
	}
	p.evidence.Ring = &stationkey.Ring{}
	if err := p.evidence.Ring.Add(stationkey.Signer{Principal: p.cfg.ID, Key: p.evidence.Key.Public()}); err != nil {
		t.Fatal(err)
	}
	if p.evidence.Ledger, err = ledger.Open(t.Context(), filepath.Join(p.dir, "ledger"), ingest.LedgerSigner(p.evidence.Key, p.cfg.ID), func(ledger.Repair) {}); err != nil {
		t.Fatal(err)
	}
	if err := p.journal.SelfTestPassed(t.Context(), p.vault.Describe()); err != nil { // storage's tests show it
		t.Fatal(err)
	}
	if err := p.station().Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *depot) station() *ingest.Station {
	return ingest.NewStation(p.cfg, p.vault, p.journal, p.evidence)
}

// desk is one at which a person gives orders.
func (p *depot) desk(person string) *custody.Desk {
	return &custody.Desk{
		Station: p.station(), Vault: p.vault, Journal: p.journal, Evidence: p.evidence,
		Location: p.cfg.Location, Months: storage.FloorMonths, Person: person, Actor: person,
	}
}

// deskWith is one with a retention file in force.
func (p *depot) deskWith(rules string) *custody.Desk {
	p.t.Helper()
	d := p.desk("uid 1")
	var err error
	if d.Policy, err = policy.Parse("rules.yaml", []byte("version: 1\n"+rules)); err != nil {
		p.t.Fatal(err)
	}
	return d
}

// by reaches the store another way from here on.
func (p *depot) by(store storage.Config) *depot {
	p.t.Helper()
	other := *p
	store.Name, store.Now, store.Bucket = p.store.Name, p.journal.Now, p.store.Bucket
	var err error
	if other.vault, err = storage.Open(p.t.Context(), store); err != nil {
		p.t.Fatal(err)
	}
	return &other
}

// dock takes a folder in. A recorder that fails makes its session stay open.
func (p *depot) dock(dir, recorder string, fails bool) (ingest.Report, error) {
	return p.station().Ingest(p.t.Context(), device.Docking{Slot: filepath.Base(dir), Open: func(context.Context) (device.Recorder, error) {
		r, err := folder.Open(dir)
		if err == nil && fails {
			return failing{r}, nil
		}
		return r, err
	}}, ingest.Options{Recorder: recorder, Officer: "052507"})
}

type failing struct{ device.Recorder }

func (failing) Open(context.Context, device.Entry, int64) (device.File, error) {
	return nil, device.ErrRemoved
}

// card makes a folder with files, each with its name for content.
func (p *depot) card(names ...string) string {
	p.t.Helper()
	dir := p.t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("footage "+name), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	return dir
}

// take stores a card and gives its session.
func (p *depot) take(dir, recorder string) journal.Session {
	p.t.Helper()
	r, err := p.dock(dir, recorder, false)
	if err != nil || !r.Safe {
		p.t.Fatalf("%s, %v", r.State, err)
	}
	return p.session(r.Session.ID)
}

func (p *depot) session(id string) journal.Session {
	p.t.Helper()
	s, err := p.journal.Session(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// object is what a plain client is shown of a version.
type object struct {
	key, version string
	until        time.Time
	held         bool
}

// shown asks for everything below some prefixes.
func (p *depot) shown(prefixes ...string) (all []object) {
	p.t.Helper()
	client, bucket := p.server.Client(), p.store.Bucket
	for _, prefix := range prefixes {
		for o := range client.ListObjectsIter(p.t.Context(), bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: true}) {
			info, err := client.StatObject(p.t.Context(), bucket, o.Key, minio.StatObjectOptions{VersionID: o.VersionID})
			if err := errors.Join(o.Err, err); err != nil {
				p.t.Fatal(err)
			}
			until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
			if err != nil || info.Metadata.Get("X-Amz-Object-Lock-Mode") != "COMPLIANCE" {
				p.t.Fatalf("%s has no lock: %v", o.Key, err)
			}
			all = append(all, object{o.Key, o.VersionID, until, info.Metadata.Get("X-Amz-Object-Lock-Legal-Hold") == "ON"})
		}
	}
	return all
}

// footage of a session that is its own.
func (p *depot) footage(s journal.Session) []object {
	return slices.DeleteFunc(p.shown(s.Prefix), func(o object) bool { return !strings.HasPrefix(o.key, s.Prefix+"footage/") })
}

func (p *depot) documents(s journal.Session) []object {
	return slices.DeleteFunc(p.shown(s.Prefix), func(o object) bool { return strings.HasPrefix(o.key, s.Prefix+"footage/") })
}

// mustBeHeld tells of objects that are or are not.
func (p *depot) mustBeHeld(want bool, count int, objects []object) {
	p.t.Helper()
	if len(objects) != count {
		p.t.Errorf("%d objects, want %d", len(objects), count)
	}
	for _, o := range objects {
		if o.held != want {
			p.t.Errorf("%s: on hold is %v, want %v", o.key, o.held, want)
		}
	}
}

// mustBeLocked tells of objects whose lock does not end when it must.
func (p *depot) mustBeLocked(until time.Time, count int, objects []object) {
	p.t.Helper()
	if len(objects) != count {
		p.t.Errorf("%d objects, want %d", len(objects), count)
	}
	for _, o := range objects {
		if !o.until.Equal(until) {
			p.t.Errorf("%s is locked until %s, want %s", o.key, o.until, until)
		}
	}
}

// lines gives what the ledger has under the name of an event.
func (p *depot) lines(event string) (all []ledger.Entry) {
	p.t.Helper()
	for line, err := range p.evidence.Ledger.Read(p.t.Context(), 0) {
		if err != nil {
			p.t.Fatal(err)
		}
		if line.Entry.Event == event {
			all = append(all, line.Entry)
		}
	}
	return all
}

// mustBeSound has the ledger and all that is stored verified.
func (p *depot) mustBeSound() {
	p.t.Helper()
	origin := ingest.LedgerOrigin(p.cfg.ID)
	report, err := ledger.Verify(p.t.Context(), filepath.Join(p.dir, "ledger"), ledger.Keys{p.evidence.Key.Public()}, origin)
	if err != nil || !report.Sound() {
		p.t.Errorf("the ledger: %+v, %v", report, err)
	}
	v := &ingest.Verifier{Vault: p.vault, Journal: p.journal, Station: p.cfg.ID, Ring: p.evidence.Ring}
	if r, err := v.All(p.t.Context()); err != nil || len(r.Findings) > 0 {
		p.t.Errorf("what is stored: %+v, %v", r.Findings, err)
	}
}

// change gets at the journal as only somebody at its disk can.
func (p *depot) change(statement string, args ...any) {
	p.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.dir, journal.FileName)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = db.Exec(statement, args...)
	if err := errors.Join(err, db.Close()); err != nil {
		p.t.Fatal(err)
	}
}

func everything(journal.Session) bool { return true }

// same tells whether two listings are.
func same(a, b []object) bool {
	text := func(all []object) []byte {
		var out bytes.Buffer
		for _, o := range all {
			out.WriteString(o.key + o.version + o.until.String() + "\n")
		}
		return out.Bytes()
	}
	return bytes.Equal(text(a), text(b))
}
