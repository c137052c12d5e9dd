package ingest_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
)

// withSM3 is a world whose station computes SM3 too.
func withSM3(t *testing.T) *world {
	t.Helper()
	for _, tool := range []string{"openssl", "cksum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	w := newWorld(t)
	w.cfg.SM3 = true
	w.restart()
	return w
}

// opensslSM3 is what openssl says of bytes.
func opensslSM3(t *testing.T, body []byte) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", "dgst", "-sm3", "-r")
	cmd.Stdin = strings.NewReader(string(body))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))[0]
}

// checkSM3 proves by openssl and cksum, from the bucket, that every SM3 in the manifest
// is that of the stored bytes, and that SM3SUMS lists them; unknown has the paths whose
// SM3 can't be known, and which say so. It gives the manifest.
func (w *world) checkSM3(r ingest.Report, unknown ...string) *manifest.Manifest {
	w.t.Helper()
	isUnknown := map[string]bool{}
	for _, path := range unknown {
		isUnknown[path] = true
	}
	m := w.manifestOf(r)
	dir := w.t.TempDir()
	put := func(key string) {
		body, _ := w.fetch(key, "")
		path := filepath.Join(dir, strings.TrimPrefix(key, m.Vault.Prefix))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, body, 0o600)); err != nil {
			w.t.Fatal(err)
		}
	}
	listed := 1 // the manifest itself
	for _, f := range m.Files {
		if f.Object == nil {
			continue
		}
		body, _ := w.fetch(f.Object.Key, f.Object.VersionID)
		says := strings.Contains(f.Note, "SM3 unknown")
		switch {
		case isUnknown[f.Path] != (f.SM3 == "") || says != (f.SM3 == ""):
			w.t.Errorf("%q has SM3 %q and note %q", f.Path, f.SM3, f.Note)
		case f.SM3 != "" && f.SM3 != opensslSM3(w.t, body):
			w.t.Errorf("%q: SM3 is %s, openssl says %s", f.Path, f.SM3, opensslSM3(w.t, body))
		}
		if strings.HasPrefix(f.Object.Key, m.Vault.Prefix) {
			put(f.Object.Key)
			if f.SM3 != "" {
				listed++
			}
		}
	}
	if m.HasSM3() {
		put(r.Session.Prefix + manifest.FileName)
		put(r.Session.Prefix + manifest.SM3FileName)
		cmd := exec.CommandContext(w.t.Context(), "cksum", "-a", "sm3", "--strict", "-c", manifest.SM3FileName)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), ": OK\n") != listed {
			w.t.Errorf("cksum: %v, want %d\n%s", err, listed, out)
		}
	}
	v := ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.ID, Ring: w.evidence.Ring}
	if found, err := v.All(w.t.Context()); err != nil || len(found.Findings) != 0 {
		w.t.Errorf("%+v, %v", found.Findings, err)
	}
	return m
}

func TestSM3OfWhatIsTakenIn(t *testing.T) {
	t.Parallel()
	w := withSM3(t)
	card := t.TempDir()
	write(t, card, map[string]int{"empty": 0, "small.jpg": 1000, "part.mp4": partSize, "large.mp4": 3*partSize + 5, "DCIM/edges.mp4": 2<<20 + 1})
	// The examples of GB/T 32905-2016, annex A.
	examples := map[string]string{
		"abc":                      "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
		strings.Repeat("abcd", 16): "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732",
	}
	for text := range examples {
		if err := os.WriteFile(filepath.Join(card, text[:3]+fmt.Sprint(len(text))), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := w.checkSM3(w.mustDock(card, ingest.Options{Recorder: "R1"}))
	for text, want := range examples {
		for _, f := range m.Files {
			if f.Path == text[:3]+fmt.Sprint(len(text)) && f.SM3 != want {
				t.Errorf("%q has SM3 %s, the standard says %s", text, f.SM3, want)
			}
		}
	}
	// Docked again nothing is stored, and what is known stays known.
	again := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if again.Totals.Identical != 7 {
		t.Errorf("%+v", again.Totals)
	}
	w.checkSM3(again)
}

func TestSM3AfterACut(t *testing.T) {
	t.Parallel()
	const parts = 6
	w := withSM3(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": parts*partSize - 5, "c.mp4": 1000})
	pulled := &faults{atByte: func(e device.Entry, at int64) error {
		if e.Path == "b.mp4" && at > 4*partSize {
			return device.ErrRemoved
		}
		return nil
	}}
	if _, err := w.dock(card, ingest.Options{Recorder: "R1"}, pulled); !errors.Is(err, device.ErrRemoved) {
		t.Fatal(err)
	}
	w.restart()
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if most := int64((parts-3)*partSize + 1000 + 64<<10); !r.Resumed || r.BytesRead > most {
		t.Errorf("resumed %v, %d bytes were read again", r.Resumed, r.BytesRead)
	}
	w.checkSM3(r)
}

// What was not read as a whole with SM3 asked for has none, which is said.
func TestSM3IsNotGuessed(t *testing.T) {
	t.Parallel()
	w := withSM3(t)
	w.cfg.SM3 = false
	w.restart()
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 4*partSize + 1, "c.mp4": 1000})
	pulled := &faults{atByte: func(e device.Entry, at int64) error {
		if e.Path == "b.mp4" && at > 3*partSize {
			return device.ErrRemoved
		}
		return nil
	}}
	if _, err := w.dock(card, ingest.Options{Recorder: "R1"}, pulled); !errors.Is(err, device.ErrRemoved) {
		t.Fatal(err)
	}
	w.cfg.SM3 = true
	w.restart()
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if !r.Resumed || r.BytesRead > 3*partSize {
		t.Errorf("resumed %v, %d bytes were read again", r.Resumed, r.BytesRead)
	}
	w.checkSM3(r, "a.mp4", "b.mp4")
	w.checkSM3(w.mustDock(card, ingest.Options{Recorder: "R1"}), "a.mp4", "b.mp4")
	// Read as a whole to be recognised, they are known.
	w.cfg.IdenticalFull = true
	w.restart()
	full := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if full.Totals.Identical != 3 {
		t.Errorf("%+v", full.Totals)
	}
	w.checkSM3(full)
	// And the other way round: what knows it is not asked for it.
	w.cfg.SM3, w.cfg.IdenticalFull = false, false
	w.restart()
	m := w.manifestOf(w.mustDock(card, ingest.Options{Recorder: "R1"}))
	for _, f := range m.Files {
		if f.SM3 != "" || strings.Contains(f.Note, "SM3") {
			t.Errorf("%+v", f)
		}
	}
	w.restart()
}

// The state of another version of the library is no reason to leave footage behind.
func TestAStateOfSM3ThatCannotBeReadLeavesItUnknown(t *testing.T) {
	t.Parallel()
	w := withSM3(t)
	card := t.TempDir()
	write(t, card, map[string]int{"b.mp4": 4*partSize + 1, "c.mp4": 1000})
	pulled := &faults{atByte: func(e device.Entry, at int64) error {
		if at > 3*partSize {
			return device.ErrRemoved
		}
		return nil
	}}
	if _, err := w.dock(card, ingest.Options{Recorder: "R1"}, pulled); !errors.Is(err, device.ErrRemoved) {
		t.Fatal(err)
	}
	if err := w.journal.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(w.dir, journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	// Behind "sm3" is the version: 3.
	done, err := db.ExecContext(t.Context(), "UPDATE parts SET sha256_state = unhex(replace(hex(sha256_state), '736D3303', '736D3302')) WHERE instr(hex(sha256_state), '736D3303')")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%d states were changed, %v", n, err)
	}
	w.start()
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if !r.Resumed || r.BytesRead > 3*partSize {
		t.Errorf("resumed %v, %d bytes were read again", r.Resumed, r.BytesRead)
	}
	w.checkSM3(r, "b.mp4")
}

func TestWithoutSM3ThereIsNoneOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 2*partSize + 1})
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	body, _ := w.fetch(r.Session.Manifest.Key, "")
	if strings.Contains(string(body), `"sm3"`) || strings.Contains(string(body), "SM3 unknown") {
		t.Errorf("the manifest speaks of SM3:\n%s", body)
	}
	for o := range w.server.Client().ListObjectsIter(t.Context(), w.store.Bucket, minio.ListObjectsOptions{Prefix: r.Session.Prefix, Recursive: true}) {
		if strings.Contains(o.Key, "SM3") {
			t.Errorf("there is %s", o.Key)
		}
	}
	if known, err := w.journal.SM3s(t.Context(), r.Session.ID); err != nil || len(known) != 0 {
		t.Errorf("%v, %v", known, err)
	}
}

// A crash between any two documents leaves the same ones to be stored, without the
// recorder.
func TestSealingWithSM3GoesOnWithoutTheRecorder(t *testing.T) {
	t.Parallel()
	for _, cut := range []string{"/SHA256SUMS.sig", "/SM3SUMS", "/SM3SUMS.sig", "/manifest.json.sig", "/manifest.json"} {
		t.Run(cut, func(t *testing.T) {
			t.Parallel()
			w := withSM3(t)
			var down atomic.Bool
			w.through(&line{request: func(r *http.Request) int {
				if strings.HasSuffix(r.URL.Path, cut) {
					down.Store(true)
				}
				if down.Load() {
					return http.StatusServiceUnavailable
				}
				return 0
			}})
			card := t.TempDir()
			write(t, card, map[string]int{"a.mp4": 1000})
			r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil)
			if err == nil || r.Safe {
				t.Fatalf("%s, safe %v", r.State, r.Safe)
			}
			w.cfg.SM3 = false // what was written is what is stored
			w.mend()
			if err := w.station.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r.Session, err = w.journal.Session(t.Context(), r.Session.ID); err != nil {
				t.Fatal(err)
			}
			w.checkSM3(r)
			if docs, err := w.journal.Documents(t.Context(), r.Session.ID); err != nil || docs.SM3Sums != nil || docs.SM3SumsSig != nil {
				t.Errorf("the journal keeps %+v, %v", docs, err)
			}
		})
	}
}
