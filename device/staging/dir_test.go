package staging_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bodyworn/ingestd/device/staging"
)

func TestAFolderThatOthersCanEnterIsRefused(t *testing.T) {
	b := newBench(t)
	if err := errors.Join(b.Close(), os.Chmod(b.path, 0o750)); err != nil {
		t.Fatal(err)
	}
	if d, err := staging.Open(b.path, b.key); err == nil {
		t.Error("it was opened")
		_ = d.Close()
	}
	// A disk that is not mounted has no folder to make another in.
	if d, err := staging.Open(filepath.Join(t.TempDir(), "disk", "staging"), b.key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing parent gives %v, %v", d, err)
	}
}

func TestOpenDeletesOnlyItsOwnRubbish(t *testing.T) {
	b := newBench(t)
	made, err := b.stage(t.Context(), openFolder(t, card(t)))
	if err != nil {
		t.Fatal(err)
	}
	keep := []string{made.ID, "lost+found", "20260102T030405Z-0000000g.partial", "notes.partial", "20260102T030405Z-00000000"}
	rubbish := []string{"20260102T030405Z-00000001.partial", "20260102T030405Z-00000002.removed"}
	for _, name := range append(slices.Clone(keep[1:]), rubbish...) {
		if err := os.Mkdir(filepath.Join(b.path, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.path, name, "000001.age"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.reopen(t)
	for _, name := range keep {
		if _, err := os.Stat(filepath.Join(b.path, name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	for _, name := range rubbish {
		if _, err := os.Stat(filepath.Join(b.path, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", name)
		}
	}
	// A sealed folder without a record is damage, never rubbish, and hides no other.
	copies, err := b.Copies(t.Context())
	if len(copies) != 1 || copies[0].ID != made.ID || !errors.Is(err, staging.ErrDamaged) {
		t.Errorf("copies are %v, %v", copies, err)
	}
}
