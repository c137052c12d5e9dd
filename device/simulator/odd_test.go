package simulator_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/device/simulator"
)

func TestOddIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "odd")
	all, err := simulator.Odd(dir)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	made := 0
	for _, o := range all {
		if o.Skipped != "" {
			t.Logf("not made here: %q: %s", o.Path, o.Skipped)
			continue
		}
		made++
		info, err := root.Lstat(o.Path)
		if err != nil {
			t.Errorf("%q, %s: %v", o.Path, o.Why, err)
			continue
		}
		if info.Mode().Type() != o.Mode.Type() {
			t.Errorf("%q is %v, want %v", o.Path, info.Mode(), o.Mode)
		}
		locked := o.Mode.Perm() == 0 && (o.Mode.IsRegular() || o.Mode.IsDir())
		if (info.Mode().Perm() == 0) != locked {
			t.Errorf("%q is %v, want %v", o.Path, info.Mode(), o.Mode)
		}
		if o.Mode.IsRegular() && !locked {
			checkOddContent(t, root, o.Path)
		}
	}
	if counted := countEntries(t, root); counted != made {
		t.Errorf("%d entries on the card, %d listed", counted, made)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Errorf("remove the odd card: %v", err)
	}
}

func checkOddContent(t *testing.T, root *os.Root, path string) {
	t.Helper()
	f, err := root.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	var data bytes.Buffer
	if _, err := data.ReadFrom(f); err != nil {
		t.Error(err)
	}
	want := simulator.OddContent(path)
	switch {
	case strings.HasSuffix(path, "/zero.MP4"):
		want = nil
	case strings.HasSuffix(path, "/hard link 2.MP4"):
		want = simulator.OddContent(strings.Replace(path, "2", "1", 1))
	}
	if !bytes.Equal(data.Bytes(), want) {
		t.Errorf("%q holds %q, want %q", path, data.Bytes(), want)
	}
}

// countEntries counts what is not a folder with something in it, folder by
// folder, since some paths are longer than the system takes at once.
func countEntries(t *testing.T, root *os.Root) (count int) {
	t.Helper()
	dir, err := root.Open(".")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		if !info.IsDir() || info.Mode().Perm() == 0 {
			count++
			continue
		}
		below, err := root.OpenRoot(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		inside := countEntries(t, below)
		below.Close()
		count += max(inside, 1)
	}
	return count
}

func TestOddCoversEveryKind(t *testing.T) {
	all, err := simulator.Odd(filepath.Join(t.TempDir(), "odd"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[fs.FileMode]int{}
	longest := 0
	for _, o := range all {
		kinds[o.Mode.Type()]++
		longest = max(longest, len(o.Path))
	}
	for _, kind := range []fs.FileMode{0, fs.ModeDir, fs.ModeSymlink, fs.ModeNamedPipe, fs.ModeSocket, fs.ModeDevice | fs.ModeCharDevice} {
		if kinds[kind] == 0 {
			t.Errorf("nothing of kind %v", kind)
		}
	}
	if longest <= 4096 {
		t.Errorf("the longest path has %d bytes, want more than PATH_MAX", longest)
	}
}
