package ledger_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/ledger"
)

const origin = "ingestd/STATION-1"

// stationKey is a Signer whose key comes from a word, so that a child process has
// the same.
type stationKey struct {
	name string
	key  ed25519.PrivateKey
}

func keyOf(word string) stationKey {
	seed := sha256.Sum256([]byte(word))
	return stationKey{origin, ed25519.NewKeyFromSeed(seed[:])}
}

func (k stationKey) Name() string                 { return k.name }
func (k stationKey) PublicKey() ed25519.PublicKey { return k.key.Public().(ed25519.PublicKey) }
func (k stationKey) SignRaw(m []byte) []byte      { return ed25519.Sign(k.key, m) }

var station = keyOf("station")

// noRepair is for ledgers that no crash has touched.
func noRepair(t *testing.T) func(ledger.Repair) {
	return func(r ledger.Repair) { t.Errorf("repair of what was whole: %v", r) }
}

func open(t *testing.T, dir string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), dir, station, noRepair(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var began = time.Date(2026, 8, 31, 9, 0, 0, 123456000, time.FixedZone("", 8*3600))

func entry(n int) ledger.Entry {
	return ledger.Entry{
		Time: began.Add(time.Duration(n) * time.Second), Clock: "synchronised, ±4 ms",
		Station: "STATION-1", Actor: "station", Event: "session.sealed",
		Session: fmt.Sprintf("20260831-%04d", n), Recorder: "REC<1>&2", Officer: "110123",
		Objects: []ledger.Object{{Key: fmt.Sprintf("a/b/%d.mp4", n), Version: "v1", SHA256: fmt.Sprintf("%064x", n)}},
		Reason:  "案件 42", Detail: map[string]string{"z": "last", "a": fmt.Sprint(n)},
	}
}

func appendN(t *testing.T, l *ledger.Ledger, from, count int) {
	t.Helper()
	for n := from; n < from+count; n++ {
		if _, err := l.Append(t.Context(), entry(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(t *testing.T, dir string, checkpoints ...[]byte) *ledger.Report {
	t.Helper()
	report, err := ledger.Verify(t.Context(), dir, ledger.Keys{station.PublicKey()}, origin, checkpoints...)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// checkSound proves from outside that a folder is whole and has this size.
func checkSound(t *testing.T, dir string, size int64, checkpoints ...[]byte) {
	t.Helper()
	report := verify(t, dir, checkpoints...)
	if !report.Sound() || len(report.Told) != 0 {
		t.Fatalf("findings %v, told %v", report.Findings, report.Told)
	}
	if report.Checkpoint.Size != size || report.Held != 1+len(checkpoints) {
		t.Fatalf("size %d, %d checkpoints held; want %d and %d", report.Checkpoint.Size, report.Held, size, 1+len(checkpoints))
	}
	_, err := os.Stat(filepath.Join(dir, "checkpoint.next"))
	if err == nil {
		t.Error("checkpoint.next is left")
	}
}

func readAll(t *testing.T, l *ledger.Ledger, from int64) []ledger.Stored {
	t.Helper()
	var all []ledger.Stored
	for s, err := range l.Read(t.Context(), from) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func readFile(t *testing.T, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t *testing.T, data []byte, parts ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(parts...), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
