package ingest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
	"github.com/bodyworn/ingestd/storage/storetest"
)

const partSize = 5 << 20 // the least that S3 allows

// world is a station with a real store, which a test can restart and question.
type world struct {
	t        *testing.T
	server   *storetest.Server
	store    storage.Config
	cfg      ingest.Config
	dir      string // of the journal
	vault    *storage.Vault
	journal  *journal.Journal
	evidence ingest.Evidence
	station  *ingest.Station

	mu     sync.Mutex
	events []ingest.Event // guarded by mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, storetest.Embedded(t))
}

func newWorldOn(t *testing.T, server *storetest.Server) *world {
	t.Helper()
	w := &world{t: t, server: server, dir: t.TempDir()}
	w.store = w.server.Config()
	w.cfg = ingest.Config{
		ID: "TEST-01", Name: "测试站", Location: time.FixedZone("CST", 8*3600), Software: "ingestd test",
		Parallel: 4, PartSize: partSize, BufferMemory: 8 * partSize, Verification: ingest.ReadBack,
		Patience: time.Second,
		Events: func(e ingest.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
			if !isDocumented(e) {
				t.Errorf("%s of level %s is not among EventKinds", e.Name, e.Level)
			}
		},
	}
	w.start()
	t.Cleanup(func() {
		if w.journal == nil {
			return // it could not be opened again, which is told
		}
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// start opens journal and vault, as a fresh process does.
func (w *world) start() {
	w.t.Helper()
	var err error
	// A child that another test is just starting holds our lock until it has become
	// its own program.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if w.journal, err = journal.Open(w.dir, journal.Own); err == nil {
			break
		}
		if !errors.Is(err, journal.ErrLocked) || time.Now().After(deadline) {
			w.t.Fatal(err)
		}
	}
	w.store.Now, w.store.Location = w.journal.Now, w.cfg.Location
	if w.vault, err = storage.Open(w.t.Context(), w.store); err != nil {
		w.t.Fatal(err)
	}
	w.openEvidence()
	w.station = ingest.NewStation(w.cfg, w.vault, w.journal, w.evidence)
}

// openEvidence makes the station's key once.
func (w *world) openEvidence() {
	w.t.Helper()
	path := filepath.Join(w.dir, "station.key")
	key, err := stationkey.Load(path)
	if errors.Is(err, stationkey.ErrNone) {
		key, err = stationkey.Create(path, w.cfg.ID)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.evidence.Key, w.evidence.Ring = key, &stationkey.Ring{}
	if err := w.evidence.Ring.Add(stationkey.Signer{Principal: w.cfg.ID, Key: key.Public()}); err != nil {
		w.t.Fatal(err)
	}
	if w.evidence.Ledger, err = ledger.Open(w.t.Context(), filepath.Join(w.dir, "ledger"), ingest.LedgerSigner(key, w.cfg.ID), func(r ledger.Repair) {
		w.t.Errorf("the ledger was put right: %s", r)
	}); err != nil {
		w.t.Fatal(err)
	}
}

func isDocumented(e ingest.Event) bool {
	return slices.ContainsFunc(ingest.EventKinds, func(k ingest.EventKind) bool {
		return k.Name == e.Name && slices.Contains(k.Levels, e.Level)
	})
}

func (w *world) restart() {
	w.t.Helper()
	if err := w.journal.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.start()
}

// saw counts the events of a name.
func (w *world) saw(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if e.Name == name {
			n++
		}
	}
	return n
}

// dock ingests a directory; faults, which may be nil, gets between.
func (w *world) dock(dir string, o ingest.Options, faults *faults) (ingest.Report, error) {
	w.t.Helper()
	return w.station.Ingest(w.t.Context(), device.Docking{
		Slot: filepath.Base(dir),
		Open: func(context.Context) (device.Recorder, error) {
			r, err := folder.Open(dir)
			if err != nil || faults == nil {
				return r, err
			}
			faults.Recorder = r
			return faults, nil
		},
	}, o)
}

func (w *world) mustDock(dir string, o ingest.Options) ingest.Report {
	w.t.Helper()
	r, err := w.dock(dir, o, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.check(dir, r)
	return r
}

// faults is a folder's recorder with something wrong. It is thin: what it does
// not spoil is the real driver's.
type faults struct {
	device.Recorder
	// opened is called before a file is opened; its error is the open's.
	opened func(e device.Entry) error
	// atByte is called with each file's position before a read; its error is the
	// read's.
	atByte func(e device.Entry, offset int64) error
	// listed may change the inventory.
	listed func(e device.Entry) device.Entry
	close  error
}

func (f *faults) Inventory(ctx context.Context, found func(device.Entry) error) error {
	return f.Recorder.Inventory(ctx, func(e device.Entry) error {
		if f.listed != nil {
			e = f.listed(e)
		}
		return found(e)
	})
}

func (f *faults) Open(ctx context.Context, e device.Entry, offset int64) (device.File, error) {
	if f.opened != nil {
		if err := f.opened(e); err != nil {
			return nil, err
		}
	}
	file, err := f.Recorder.Open(ctx, e, offset)
	if err != nil || f.atByte == nil {
		return file, err
	}
	return &faultyFile{File: file, faults: f, entry: e, offset: offset}, nil
}

func (f *faults) Close() error { return errors.Join(f.Recorder.Close(), f.close) }

type faultyFile struct {
	device.File
	faults *faults
	entry  device.Entry
	offset int64
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if err := f.faults.atByte(f.entry, f.offset); err != nil {
		return 0, err
	}
	n, err := f.File.Read(p)
	f.offset += int64(n)
	return n, err
}

// check proves the promises from outside, with a plain S3 client and not with
// our own reading code: what the report calls stored is in the store, whole,
// once and locked for six months; everything on the card is accounted for; safe
// is said only if nothing is missing.
func (w *world) check(card string, r ingest.Report) {
	w.t.Helper()
	client, bucket := w.server.Client(), w.store.Bucket
	m := w.manifestOf(r)
	onCard := map[string]bool{}
	if err := filepath.WalkDir(card, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a path that is longer than the system takes at once
		}
		if rel, _ := filepath.Rel(card, p); rel != "." {
			onCard[rel] = d.Type().IsRegular()
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	stored := map[string]string{} // path → SHA-256
	missing := 0
	for _, f := range r.Files {
		if f.State.Bad() {
			missing++
		}
		if f.Entry.Kind != device.KindFile || f.State.Bad() {
			continue
		}
		body, info := w.fetch(f.Object.Key, f.Object.VersionID)
		sum := sha256.Sum256(body)
		stored[f.Entry.Path] = hex.EncodeToString(sum[:])
		if got := hex.EncodeToString(sum[:]); got != f.SHA256 {
			w.t.Errorf("%q: stored bytes have SHA-256 %s, the journal says %s", f.Entry.Path, got, f.SHA256)
		}
		if mode := info.Metadata.Get("X-Amz-Object-Lock-Mode"); mode != "COMPLIANCE" {
			w.t.Errorf("%q: lock mode %q", f.Entry.Path, mode)
		}
		until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil || until.Before(f.StoredAt.In(w.cfg.Location).AddDate(0, 6, 0).Truncate(time.Second)) {
			w.t.Errorf("%q: stored %s, locked until %s (%v): below six months", f.Entry.Path, f.StoredAt, until, err)
		}
		versions := 0
		for o := range client.ListObjectsIter(w.t.Context(), bucket, minio.ListObjectsOptions{Prefix: f.Object.Key, Recursive: true, WithVersions: true}) {
			if o.Key == f.Object.Key {
				versions++
			}
		}
		if versions != 1 {
			w.t.Errorf("%q: %d versions in the store", f.Entry.Path, versions)
		}
	}
	listed := map[string]bool{}
	for _, f := range r.Files {
		listed[f.Entry.Path] = true
	}
	for path, regular := range onCard {
		if !listed[path] {
			w.t.Errorf("%q is on the card and has no result", path)
		}
		if sum, ok := stored[path]; ok && regular {
			if got := w.sumOf(filepath.Join(card, path)); got != sum {
				w.t.Errorf("%q: the card has SHA-256 %s, the store %s", path, got, sum)
			}
		}
	}
	if r.Safe != (missing == 0) {
		w.t.Errorf("safe is %v with %d paths not stored", r.Safe, missing)
	}
	if (r.State == ingest.Safe) != r.Safe {
		w.t.Errorf("state %s with safe %v", r.State, r.Safe)
	}
	if len(m.Files) != len(r.Files) {
		w.t.Errorf("the manifest lists %d paths, the session has %d", len(m.Files), len(r.Files))
	}
}

func (w *world) manifestOf(r ingest.Report) *manifest.Manifest {
	w.t.Helper()
	body, _ := w.fetch(r.Session.Manifest.Key, r.Session.Manifest.VersionID)
	m, err := manifest.Decode(body)
	if err != nil {
		w.t.Fatal(err)
	}
	sums, _ := w.fetch(r.Session.Prefix+manifest.SumsFileName, "")
	sum := sha256.Sum256(body)
	if !bytes.Contains(sums, []byte(hex.EncodeToString(sum[:])+"  "+manifest.FileName)) {
		w.t.Errorf("SHA256SUMS does not list the manifest:\n%s", sums)
	}
	return m
}

func (w *world) fetch(key, version string) ([]byte, minio.ObjectInfo) {
	w.t.Helper()
	o, err := w.server.Client().GetObject(w.t.Context(), w.store.Bucket, key, minio.GetObjectOptions{VersionID: version})
	if err != nil {
		w.t.Fatal(err)
	}
	defer o.Close()
	body, err := io.ReadAll(o)
	if err != nil {
		w.t.Fatalf("fetch %s: %v", key, err)
	}
	info, err := w.server.Client().StatObject(w.t.Context(), w.store.Bucket, key, minio.StatObjectOptions{VersionID: version})
	if err != nil {
		w.t.Fatal(err)
	}
	return body, info
}

func (w *world) sumOf(path string) string {
	w.t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		w.t.Logf("read %s: %v", path, err)
		return ""
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// objects counts everything in the bucket but the self-test's.
func (w *world) objects() int {
	w.t.Helper()
	n := 0
	for o := range w.server.Client().ListObjectsIter(w.t.Context(), w.store.Bucket, minio.ListObjectsOptions{Prefix: w.cfg.ID + "/", Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			w.t.Fatal(o.Err)
		}
		if name := strings.TrimPrefix(o.Key, w.cfg.ID+"/"); !strings.HasPrefix(name, "ledger/") && !strings.HasPrefix(name, "keys/") {
			n++
		}
	}
	return n
}

// write puts files with given sizes below dir; their content tells their name.
func write(t *testing.T, dir string, files map[string]int) {
	t.Helper()
	for name, size := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%s %d of %d\n", name, size, size)
		body := bytes.Repeat([]byte(line), size/len(line)+1)[:size]
		// Every part of a large file differs, so that a part in the wrong place
		// shows.
		for i := 0; i+8 < size; i += 1 << 16 {
			copy(body[i:], fmt.Sprintf("%08x", i))
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// publishedLedger gives the lines of the ledger that are in the bucket.
func (w *world) publishedLedger() string {
	w.t.Helper()
	var lines strings.Builder
	for o := range w.server.Client().ListObjectsIter(w.t.Context(), w.store.Bucket, minio.ListObjectsOptions{Prefix: ingest.LedgerPrefix(w.cfg.ID) + "/entries/", Recursive: true}) {
		if o.Err != nil {
			w.t.Fatal(o.Err)
		}
		body, _ := w.fetch(o.Key, "")
		lines.Write(body)
	}
	return lines.String()
}
