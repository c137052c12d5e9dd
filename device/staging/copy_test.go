package staging_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/staging"
)

func sum(s string) string {
	raw := sha256.Sum256([]byte(s))
	return hex.EncodeToString(raw[:])
}

// sealedSession is one that holds all of a fake recorder.
func sealedSession(r *fake) staging.SessionRef {
	ref := staging.SessionRef{ID: "20260103-aaaa", ManifestKey: "station/session/manifest.json", ManifestSHA256: sum("manifest")}
	for _, f := range r.files {
		ref.Verified = append(ref.Verified, staging.StoredFile{Path: f.Path, SHA256: sum(f.content)})
	}
	return ref
}

func TestOnlyASessionThatHoldsAllRemovesACopy(t *testing.T) {
	b, r := newBench(t), newFake("first", "last")
	made, err := b.stage(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	refusals := map[string]func(*staging.SessionRef){
		"no session":           func(s *staging.SessionRef) { s.ID = "" },
		"no manifest":          func(s *staging.SessionRef) { s.ManifestKey = "" },
		"no digest of it":      func(s *staging.SessionRef) { s.ManifestSHA256 = "unknown" },
		"a file missing":       func(s *staging.SessionRef) { s.Verified = s.Verified[1:] },
		"a file's other bytes": func(s *staging.SessionRef) { s.Verified[1].SHA256 = sum("other") },
		"a file's other name":  func(s *staging.SessionRef) { s.Verified[1].Path = "B" },
		"nothing":              func(s *staging.SessionRef) { *s = staging.SessionRef{} },
	}
	for name, spoil := range refusals {
		ref := sealedSession(r)
		spoil(&ref)
		if err := made.Remove(t.Context(), ref); !errors.Is(err, staging.ErrNotHeld) {
			t.Errorf("%s: %v", name, err)
		}
	}
	staged, err := made.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Remove(t.Context(), sealedSession(r)); !errors.Is(err, staging.ErrInUse) {
		t.Errorf("while it is open: %v", err)
	}
	for range 2 { // the second does nothing, nor counts
		if err := staged.Close(); err != nil {
			t.Fatal(err)
		}
	}
	checkSame(t, b.only(t), r)
	if err := made.Remove(t.Context(), sealedSession(r)); err != nil {
		t.Fatal(err)
	}
	b.checkEmpty(t)
	if err := made.Remove(t.Context(), sealedSession(r)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the second time: %v", err)
	}
	if _, err := made.Open(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened when it is gone: %v", err)
	}
}

func TestADamagedFileIsToldAndTheOthersAreRead(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20_000)
	other := strings.Repeat("fedcba9876543210", 20_000)
	harm := map[string]func(t *testing.T, folder string){
		"first byte":  func(t *testing.T, folder string) { flip(t, filepath.Join(folder, "000002.age"), 0) },
		"header":      func(t *testing.T, folder string) { flip(t, filepath.Join(folder, "000002.age"), 0.0004) },
		"middle byte": func(t *testing.T, folder string) { flip(t, filepath.Join(folder, "000002.age"), 0.5) },
		"last byte":   func(t *testing.T, folder string) { flip(t, filepath.Join(folder, "000002.age"), 1) },
		"cut off": func(t *testing.T, folder string) {
			if err := os.Truncate(filepath.Join(folder, "000002.age"), 100_000); err != nil {
				t.Fatal(err)
			}
		},
		"nothing left": func(t *testing.T, folder string) {
			if err := os.Truncate(filepath.Join(folder, "000002.age"), 0); err != nil {
				t.Fatal(err)
			}
		},
		"missing": func(t *testing.T, folder string) {
			if err := os.Remove(filepath.Join(folder, "000002.age")); err != nil {
				t.Fatal(err)
			}
		},
		"another of the same size in its place": func(t *testing.T, folder string) {
			data, err := os.ReadFile(filepath.Join(folder, "000003.age"))
			if err == nil {
				err = os.WriteFile(filepath.Join(folder, "000002.age"), data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, do := range harm {
		t.Run(name, func(t *testing.T) {
			b, r := newBench(t), newFake("first", big, other)
			made, err := b.stage(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			do(t, filepath.Join(b.path, made.ID))
			b.reopen(t)
			staged, err := b.only(t).Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = staged.Close() }()
			entries := inventory(t, staged)
			for _, offset := range []int64{0, 1000} {
				if got, err := read(t, staged, entries[1], offset); err == nil || errors.Is(err, device.ErrRemoved) {
					t.Errorf("from byte %d: %d bytes, %v", offset, len(got), err)
				} else if name != "missing" && !errors.Is(err, staging.ErrDamaged) {
					t.Errorf("from byte %d: %v is not said to be damage", offset, err)
				}
			}
			for _, i := range []int{0, 2} {
				if got, err := read(t, staged, entries[i], 0); err != nil || string(got) != r.files[i].content {
					t.Errorf("%q beside it: %d bytes, %v", entries[i].Path, len(got), err)
				}
			}
		})
	}
}

func TestADamagedRecordIsToldAndNothingIsDeleted(t *testing.T) {
	for _, at := range []float64{0, 0.5, 1} {
		b, r := newBench(t), newFake("first", "last")
		first, err := b.stage(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.stage(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		flip(t, filepath.Join(b.path, first.ID, "copy.json.age"), at)
		b.reopen(t)
		copies, err := b.Copies(t.Context())
		if !errors.Is(err, staging.ErrDamaged) || !strings.Contains(err.Error(), first.ID) || len(copies) != 1 || copies[0].ID != second.ID {
			t.Errorf("copies are %v, %v", copies, err)
		}
		if err := first.Remove(t.Context(), sealedSession(r)); err == nil {
			t.Error("a copy with a damaged record was removed")
		}
		if _, err := os.Stat(filepath.Join(b.path, first.ID, "000001.age")); err != nil {
			t.Error(err)
		}
	}
}

// A record that was moved to another copy must not speak for that.
func TestTheRecordOfAnotherCopyIsRefused(t *testing.T) {
	b, r := newBench(t), newFake("first")
	first, err := b.stage(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(b.path, first.ID), filepath.Join(b.path, "20260102T030405Z-00000000")); err != nil {
		t.Fatal(err)
	}
	if copies, err := b.Copies(t.Context()); len(copies) != 0 || !errors.Is(err, staging.ErrDamaged) {
		t.Errorf("copies are %v, %v", copies, err)
	}
}

// When the disk is pulled the session has to wait, not to give every file up.
func TestACopyThatVanishesIsARemovedRecorder(t *testing.T) {
	b := newBench(t)
	made, err := b.stage(t.Context(), newFake("first"))
	if err != nil {
		t.Fatal(err)
	}
	staged, err := made.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = staged.Close() }()
	entries := inventory(t, staged)
	if err := os.RemoveAll(filepath.Join(b.path, made.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := staged.Open(t.Context(), entries[0], 0); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("open gives %v", err)
	}
	if err := staged.Inventory(t.Context(), func(device.Entry) error { return nil }); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("inventory gives %v", err)
	}
}

// The digest that was taken from the recorder is compared again, whatever age says.
func TestBytesOfAnotherDigestAreDamage(t *testing.T) {
	b, r := newBench(t), newFake("first", "last")
	made, err := b.stage(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	record := b.record(t, made.ID)
	if n := bytes.Count(record, []byte(sum("first"))); n != 1 {
		t.Fatalf("the digest is %d times in the record", n)
	}
	b.setRecord(t, made.ID, bytes.Replace(record, []byte(sum("first")), []byte(sum("other")), 1))
	staged, err := made.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = staged.Close() }()
	entries := inventory(t, staged)
	if got, err := read(t, staged, entries[0], 0); !errors.Is(err, staging.ErrDamaged) {
		t.Errorf("it gives %q, %v", got, err)
	}
	if got, err := read(t, staged, entries[1], 0); err != nil || string(got) != "last" {
		t.Errorf("beside it: %q, %v", got, err)
	}
}
