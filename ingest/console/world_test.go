package console_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/console"
	"github.com/bodyworn/ingestd/ingest/continuity"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
	"github.com/bodyworn/ingestd/storage/storetest"
)

const password = "correct horse battery"

var beijing = time.FixedZone("CST", 8*3600)

// world is a console over a real journal and a real ledger, with an account for each
// role and a session for each of two officers. Nothing here reads footage, so there is
// no store.
type world struct {
	t        *testing.T
	dir      string
	journal  *journal.Journal
	evidence ingest.Evidence
	book     *accounts.Book
	console  *console.Console
	server   *httptest.Server
	station  *ingest.Station
	store    *storetest.Server // nil but in storedWorld
	vault    *storage.Vault    // of store
	rules    rulesFile
	two      atomic.Bool // a second person is needed
	shelf    shelf
	weaker   bool         // sessions that are added are checked by the server only
	ahead    atomic.Int64 // how far the clock of the delays is set ahead, in nanoseconds

	mu     sync.Mutex
	events []ingest.Event // guarded by mu
}

func newWorld(t *testing.T, change func(*console.Options)) *world {
	t.Helper()
	return newWorldOf(&world{t: t, dir: t.TempDir()}, change)
}

func newWorldOf(w *world, change func(*console.Options)) *world {
	t := w.t
	t.Helper()
	w.open(change)
	w.server = httptest.NewServer(w.console.Handler())
	t.Cleanup(w.server.Close)
	return w
}

// open makes all but a listener.
func (w *world) open(change func(*console.Options)) {
	t := w.t
	t.Helper()
	var err error
	if w.journal, err = journal.Open(w.dir, journal.Share); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	key, err := stationkey.Create(filepath.Join(w.dir, "station.key"), "TEST-01")
	if err != nil {
		t.Fatal(err)
	}
	w.evidence.Key = key
	if w.evidence.Ledger, err = ledger.Open(t.Context(), filepath.Join(w.dir, "ledger"), ingest.LedgerSigner(key, "TEST-01"), func(ledger.Repair) {}); err != nil {
		t.Fatal(err)
	}
	if w.store != nil {
		w.openStore()
	}
	w.station = ingest.NewStation(ingest.Config{
		ID: "TEST-01", Slots: []string{"1", "2"}, Location: beijing, Verification: ingest.ReadBack, PartSize: 5 << 20, BufferMemory: 10 << 20, StationClock: func() device.StationClock { return device.StationClock{Synchronised: true} },
	}, w.vault, w.journal, w.evidence)
	begun := time.Now() // the book's time goes on by waitOut alone: a slow machine waits for nothing by itself
	w.book = accounts.NewBook(w.journal, w.station.Record, func() time.Time { return begun.Add(time.Duration(w.ahead.Load())) })
	for _, a := range []accounts.Account{
		{Name: "wang", Role: accounts.Officer, Officer: "012345"}, {Name: "li", Role: accounts.Auditor}, {Name: "it", Role: accounts.ITStaff}, {Name: "wulan", Role: accounts.Admin},
	} {
		if err := w.journal.AddUser(t.Context(), journal.User{
			Name: a.Name, Role: string(a.Role), Officer: a.Officer, Hash: hashOnce(), MadeAt: w.journal.Now(), ChangedAt: w.journal.Now(),
		}); err != nil {
			t.Fatal(err)
		}
	}
	w.addSession("20261124-083107-aaaaaaaa", "012345", "DSJ-0412", journal.StateSealed)
	w.addSession("20261124-090210-bbbbbbbb", "067890", "DSJ-0420", journal.StateFailed)
	o := console.Options{
		Station: w.station, Journal: w.journal, Evidence: w.evidence, Accounts: w.book, Location: beijing, Listen: "127.0.0.1:0", Footage: &w.shelf,
		Continuity: func() *continuity.Examiner {
			return &continuity.Examiner{Journal: w.journal, Zone: beijing, Profiles: func() (profile.Set, error) { return profile.Load(os.DirFS("../../configs/recorders"), "") }}
		},
		Events: func(e ingest.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
	if w.vault != nil {
		o.Desk, o.Retention = w.desk, &w.rules
	}
	if change != nil {
		change(&o)
	}
	if w.console, err = console.New(o); err != nil {
		t.Fatal(err)
	}
}

// hashOnce is the hash of the password that all accounts have: making it takes long, as
// it must.
var hashOnce = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	j, err := journal.Open(dir, journal.Share)
	if err != nil {
		panic(err)
	}
	defer j.Close()
	nowhere := func(context.Context, ledger.Entry) error { return nil }
	if err := accounts.NewBook(j, nowhere, nil).Add(context.Background(), accounts.Account{Name: "any", Role: accounts.Admin}, password, "test"); err != nil {
		panic(err)
	}
	u, err := j.User(context.Background(), "any")
	if err != nil {
		panic(err)
	}
	return u.Hash
})

func (w *world) addSession(id, officer, recorder string, state journal.SessionState) {
	w.t.Helper()
	docked, err := time.ParseInLocation("20060102-150405", id[:15], beijing)
	if err != nil {
		w.t.Fatal(err)
	}
	offset, uncertainty := 192*time.Second, 50*time.Millisecond
	s := journal.Session{
		ID: id, State: state, Officer: officer, Recorder: recorder, Slot: "3", Verification: ingest.ReadBack, DockedAt: docked, EndedAt: docked.Add(time.Minute),
		RetainUntil: docked.AddDate(0, 6, 0), Clock: device.ClockReading{Kind: device.ClockMeasured, Method: "PTP 0x5011", Offset: &offset, Uncertainty: &uncertainty},
		Condition: journal.Condition{Verdict: device.ClockOff},
		Manifest:  journal.ManifestRef{Key: "TEST-01/" + id + "/manifest.json", VersionID: "1", SHA256: strings.Repeat("9f1c", 16)},
	}
	if w.weaker {
		s.Verification = ingest.ChecksumOnly
	}
	if state == journal.StateOpen {
		s.EndedAt, s.RetainUntil, s.Manifest = time.Time{}, time.Time{}, journal.ManifestRef{}
	}
	if err := w.journal.SaveSession(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
	var files []*journal.File
	for i := range 3 {
		f := &journal.File{Session: id, Entry: device.Entry{Path: fmt.Sprintf("DCIM/100/%04d.MP4", i), Kind: device.KindFile, Size: 1 << 30, ModTime: docked}, State: journal.Verified, Verification: s.Verification, SHA256: strings.Repeat("ab", 32)}
		f.Object = storage.Object{Key: "TEST-01/" + id + "/footage/" + f.Entry.Path, VersionID: fmt.Sprintf("v%d", i)}
		if i == 2 {
			f.Entry.Size = 300_000 // small enough to be fetched
		}
		if state == journal.StateFailed && i == 2 {
			f.State, f.Reason, f.SHA256, f.Object = journal.Unreadable, "input/output error", "", storage.Object{}
		}
		files = append(files, f)
	}
	if err := w.journal.AddFiles(w.t.Context(), files); err != nil {
		w.t.Fatal(err)
	}
}

// browser is somebody with a cookie jar, who does not follow redirects.
type browser struct {
	w      *world
	client *http.Client
}

func (w *world) browser() *browser {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &browser{w, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (w *world) login(name string) *browser {
	w.t.Helper()
	b := w.browser()
	if a := b.post("/login", url.Values{"name": {name}, "password": {password}}); a.status != http.StatusSeeOther {
		w.t.Fatalf("login of %s: %d\n%s", name, a.status, a.body)
	}
	return b
}

// cookies are those for the server's own name, as they are sent.
func (b *browser) cookies() string {
	b.w.t.Helper()
	u, err := url.Parse(b.w.server.URL)
	if err != nil {
		b.w.t.Fatal(err)
	}
	var all []string
	for _, c := range b.client.Jar.Cookies(u) {
		all = append(all, c.String())
	}
	return strings.Join(all, "; ")
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (b *browser) do(r *http.Request) answer {
	b.w.t.Helper()
	res, err := b.client.Do(r)
	if err != nil {
		b.w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	if strings.Contains(string(body), "⟦") {
		b.w.t.Errorf("%s %s: a message is missing:\n%s", r.Method, r.URL, body)
	}
	if res.StatusCode == http.StatusInternalServerError {
		b.w.mu.Lock()
		defer b.w.mu.Unlock()
		b.w.t.Logf("%s %s: %+v", r.Method, r.URL, b.w.events)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

func (b *browser) request(method, path string, form url.Values) *http.Request {
	b.w.t.Helper()
	r, err := http.NewRequestWithContext(b.w.t.Context(), method, b.w.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.w.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

func (b *browser) get(path string) answer { return b.do(b.request(http.MethodGet, path, nil)) }

func (b *browser) post(path string, form url.Values) answer {
	return b.do(b.request(http.MethodPost, path, form))
}

// waitOut lets the time pass that wrong passwords cost.
func (w *world) waitOut() { w.ahead.Add(int64(10 * time.Minute)) }

// lines are the entries of the ledger with an event.
func (w *world) lines(event string) (all []ledger.Entry) {
	w.t.Helper()
	for s, err := range w.evidence.Ledger.Read(w.t.Context(), 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		if s.Entry.Event == event {
			all = append(all, s.Entry)
		}
	}
	return all
}

// blockLedger has every line refused, as after a fetch that nobody has looked at.
func (w *world) blockLedger() (unblock func()) {
	w.t.Helper()
	path := filepath.Join(w.dir, "ledger", "unsigned.jsonl")
	if err := os.WriteFile(path, []byte("0\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			w.t.Fatal(err)
		}
	}
}
