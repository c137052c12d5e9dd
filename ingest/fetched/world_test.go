package fetched_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/fetched"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

const (
	station = "NMQ-01"
	first   = station + "/2026-11-23/20261123-175500-x8m2p4qa"
	second  = station + "/2026-11-24/20261124-181402-k3f9wq2a"
)

var docked = time.Date(2026, 11, 23, 17, 55, 0, 0, time.FixedZone("", 8*3600))

// world is what somebody has fetched of a station that has sealed two sessions: the
// second knows one file from the first, and could not read another.
type world struct {
	t       *testing.T
	dir     string // holds NMQ-01
	key     *stationkey.Key
	ring    *stationkey.Ring
	ledgers []string // copies of the published ledger: after each session
	notes   [][]byte // the checkpoints of these
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "fetched"), ring: &stationkey.Ring{}}
	var err error
	w.key = w.newKey(station)
	w.trust(w.ring, station, w.key)
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger"), ingest.LedgerSigner(w.key, station), func(r ledger.Repair) { t.Error(r) })
	w.must(err)
	store := folderStore(filepath.Join(t.TempDir(), "bucket"))
	for i, s := range []struct {
		prefix string
		files  []manifest.File
	}{
		{first, []manifest.File{
			w.file(first, "DCIM/a.MP4", "footage of the first"), w.file(first, "DCIM/b.MP4", "more footage"),
			w.file(first, "图 片.JPG", "a picture"), w.file(first, "empty", ""),
			{Path: "DCIM", Kind: device.KindDir, Result: "noted"},
		}},
		{second, []manifest.File{
			{Path: "DCIM/a.MP4", Kind: device.KindFile, Size: 20, Result: "identical", IdenticalTo: "20261123-175500-x8m2p4qa", SHA256: hexSum("footage of the first"),
				Object: &manifest.Object{Key: first + "/footage/DCIM/a.MP4"}},
			w.file(second, "DCIM/c.MP4", "footage of the second"),
			{Path: "bad.MP4", Kind: device.KindFile, Size: 12, Result: "unreadable", Reason: "input/output error"},
		}},
	} {
		result := []string{"sealed", "failed"}[i]
		m := &manifest.Manifest{
			Schema: manifest.Schema, Files: s.files, Station: manifest.Station{ID: station, Key: w.key.Fingerprint()},
			Session: manifest.Session{ID: filepath.Base(s.prefix), Result: result, DockedAt: docked, RetainUntil: docked.AddDate(0, 7, 0)},
			Vault:   manifest.Vault{Bucket: "footage", Prefix: s.prefix + "/"},
			Totals:  []manifest.Totals{{Files: 4, Bytes: 41, Stored: 4}, {Files: 3, Bytes: 53, Stored: 1, Identical: 1, NotStored: 1}}[i],
		}
		sum := w.documents(s.prefix, m, w.key)
		_, err := l.Append(t.Context(), ledger.Entry{
			Time: docked.Add(time.Duration(i) * time.Hour), Station: station, Actor: "station", Event: "session." + result, Session: m.Session.ID,
			Objects: []ledger.Object{{Key: s.prefix + "/manifest.json", SHA256: sum}},
		})
		w.must(err)
		w.must(l.Publish(t.Context(), store, "ledger"))
		kept := filepath.Join(t.TempDir(), "ledger")
		w.must(os.CopyFS(kept, os.DirFS(filepath.Join(string(store), "ledger"))))
		note, err := l.Checkpoint()
		w.must(err)
		w.ledgers, w.notes = append(w.ledgers, kept), append(w.notes, note)
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) newKey(comment string) *stationkey.Key {
	w.t.Helper()
	key, err := stationkey.Create(filepath.Join(w.t.TempDir(), "key"), comment)
	w.must(err)
	return key
}

func (w *world) trust(ring *stationkey.Ring, principal string, key *stationkey.Key) {
	w.t.Helper()
	w.must(ring.Add(stationkey.Signer{Principal: principal, Key: key.Public(), Namespaces: []string{manifest.Namespace}}))
}

func (w *world) file(prefix, name, content string) manifest.File {
	w.t.Helper()
	key := prefix + "/footage/" + name
	w.write(key, content)
	return manifest.File{Path: name, Kind: device.KindFile, Size: int64(len(content)), Result: "verified", SHA256: hexSum(content), Object: &manifest.Object{Key: key}}
}

// documents writes both documents with their signatures, and gives the manifest's sum.
func (w *world) documents(at string, m *manifest.Manifest, key *stationkey.Key) string {
	w.t.Helper()
	body, err := m.Encode()
	w.must(err)
	sum := hexSum(string(body))
	w.signed(at+"/manifest.json", string(body), key)
	w.signed(at+"/SHA256SUMS", string(m.Sums(sum)), key)
	return sum
}

func (w *world) signed(name, body string, key *stationkey.Key) {
	w.t.Helper()
	sig, err := key.Sign(manifest.Namespace, []byte(body))
	w.must(err)
	w.write(name, body)
	w.write(name+".sig", string(sig))
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, content string) {
	w.t.Helper()
	w.must(errors.Join(os.MkdirAll(filepath.Dir(w.path(name)), 0o700), os.WriteFile(w.path(name), []byte(content), 0o600)))
}

func (w *world) read(name string) string {
	w.t.Helper()
	body, err := os.ReadFile(w.path(name))
	w.must(err)
	return string(body)
}

// copied is the same world with a folder of its own, to be spoilt.
func (w *world) copied(t *testing.T) *world {
	t.Helper()
	c := *w
	c.t, c.dir = t, filepath.Join(t.TempDir(), "fetched")
	c.must(os.CopyFS(c.dir, os.DirFS(w.dir)))
	c.ledgers = nil
	for _, l := range w.ledgers {
		to := filepath.Join(t.TempDir(), "ledger")
		c.must(os.CopyFS(to, os.DirFS(l)))
		c.ledgers = append(c.ledgers, to)
	}
	return &c
}

// options are those of a checker who has all there is.
func (w *world) options() fetched.Options {
	return fetched.Options{Ring: w.ring, Ledger: w.ledgers[1], Checkpoints: w.notes}
}

func (w *world) check(dir string, o fetched.Options) *fetched.Report {
	w.t.Helper()
	r, err := fetched.Check(w.t.Context(), dir, o)
	w.must(err)
	return r
}

func hexSum(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// folderStore is a bucket as a client that fetches all of it leaves it.
type folderStore string

func (s folderStore) Create(_ context.Context, key string, body []byte) error {
	at := filepath.Join(string(s), key)
	if _, err := os.Lstat(at); err == nil {
		return ledger.ErrExists
	}
	return errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, body, 0o600))
}

func (s folderStore) Get(_ context.Context, key string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(s), key))
}

func (s folderStore) List(_ context.Context, prefix string) (keys []string, err error) {
	entries, err := os.ReadDir(filepath.Join(string(s), prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		keys = append(keys, prefix+e.Name())
	}
	return keys, err
}
