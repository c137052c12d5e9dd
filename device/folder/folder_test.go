package folder_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/device/simulator"
)

func inventory(t *testing.T, r device.Recorder) []device.Entry {
	t.Helper()
	var all []device.Entry
	if err := r.Inventory(t.Context(), func(e device.Entry) error {
		all = append(all, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func open(t *testing.T, dir string) *folder.Recorder {
	t.Helper()
	r, err := folder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestInventoryLeavesNothingOut(t *testing.T) {
	dir := t.TempDir()
	made, err := simulator.Odd(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]device.Entry{}
	r := open(t, dir)
	for _, e := range inventory(t, r) {
		found[e.Path] = e
	}
	for _, o := range made {
		if o.Skipped != "" {
			t.Logf("%q could not be made here: %s", o.Path, o.Skipped)
			continue
		}
		e, ok := found[o.Path]
		if !ok {
			t.Errorf("%q (%s) is not in the inventory", o.Path, o.Why)
			continue
		}
		want := device.KindFile
		switch {
		case o.Mode.IsDir():
			want = device.KindDir
		case o.Mode&os.ModeSymlink != 0:
			want = device.KindLink
		case !o.Mode.IsRegular():
			want = device.KindSpecial
		}
		if e.Kind != want {
			t.Errorf("%q is listed as %s, it is %s", o.Path, e.Kind, want)
		}
	}
}

func TestLinksAndSpecialsAreNeverOpened(t *testing.T) {
	dir := t.TempDir()
	if _, err := simulator.Odd(dir); err != nil {
		t.Fatal(err)
	}
	// A link to a file beside it too: the file itself is listed, and read once.
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "target"), []byte("x"), 0o600), os.Symlink("target", filepath.Join(dir, "beside"))); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir)
	for _, e := range inventory(t, r) {
		if e.Kind == device.KindFile || e.Kind == device.KindDir {
			continue
		}
		// A FIFO without a writer would block for ever, a link would lead out.
		if f, err := r.Open(t.Context(), e, 0); err == nil {
			t.Errorf("%s %q could be opened", e.Kind, e.Path)
			_ = f.Close()
		}
	}
}

func TestReadingLeavesTheCardAsItWas(t *testing.T) {
	dir := t.TempDir()
	if _, err := (simulator.Card{Clips: 1, ClipLength: time.Second}).Write(dir); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	clips, err := filepath.Glob(filepath.Join(dir, "DCIM/100MEDIA/*.MP4"))
	if err != nil || len(clips) == 0 {
		t.Fatal(clips, err)
	}
	if err := os.Chtimes(clips[0], old, old); err != nil {
		t.Fatal(err)
	}
	before := accessTime(t, clips[0])
	r := open(t, dir)
	for _, e := range inventory(t, r) {
		if e.Kind != device.KindFile {
			continue
		}
		f, err := r.Open(t.Context(), e, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := accessTime(t, clips[0]); !after.Equal(before) {
		t.Errorf("reading moved the access time from %s to %s", before, after)
	}
}

func TestIdentityComesFromTheCard(t *testing.T) {
	dir := t.TempDir()
	if _, err := (simulator.Card{Recorder: "NMQ0031", Officer: "000000", Clips: -1}).Write(dir); err != nil {
		t.Fatal(err)
	}
	id := open(t, dir).Identity()
	if id.Serial.Value != "NMQ0031" || id.Serial.Source == "" {
		t.Errorf("serial is %+v", id.Serial)
	}
	if id.Officer.Known() {
		t.Errorf("the unset officer of the factory is taken for %+v", id.Officer)
	}
}

func TestARemovedCardIsToldFromAMissingFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "card")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, dir)
	entries := inventory(t, r)
	if err := os.Remove(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(t.Context(), entries[0], 0); err == nil || errors.Is(err, device.ErrRemoved) {
		t.Errorf("one missing file gives %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(t.Context(), entries[1], 0); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("a missing card gives %v", err)
	}
	if err := r.Inventory(t.Context(), func(device.Entry) error { return nil }); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("the inventory of a missing card gives %v", err)
	}
}

func TestAReplacedFileShowsInStat(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	if err := os.WriteFile(name, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir)
	f, err := r.Open(t.Context(), inventory(t, r)[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(name+"2", []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+"2", name); err != nil {
		t.Fatal(err)
	}
	if size, _, err := f.Stat(); err != nil || size != int64(len("another")) {
		t.Errorf("the replaced file shows %d bytes, %v", size, err)
	}
}

func TestWatcherDocksWhatSettlesAndAgainWhatChanges(t *testing.T) {
	drop := t.TempDir()
	docked, gone := make(chan string, 10), make(chan string, 10)
	w := &folder.Watcher{
		Sources: []folder.Source{{Path: drop, Kind: folder.Folders}},
		Settle:  300 * time.Millisecond,
		Docked: func(ctx context.Context, d device.Docking) {
			r, err := d.Open(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			var names []string
			if err := r.Inventory(ctx, func(e device.Entry) error {
				names = append(names, e.Path)
				return nil
			}); err != nil {
				t.Error(err)
			}
			docked <- d.Slot + ":" + filepath.Join(names...)
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		},
		Gone:    func(slot string) { gone <- slot },
		Trouble: func(err error) { t.Log(err) },
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	next := func(ch chan string) string {
		t.Helper()
		select {
		case s := <-ch:
			return s
		case <-time.After(time.Minute):
			t.Fatal("nothing was seen")
			return ""
		}
	}
	card := filepath.Join(drop, "card")
	if err := os.MkdirAll(card, 0o700); err != nil {
		t.Fatal(err)
	}
	// It grows faster than it settles, so it must be taken whole.
	for _, name := range []string{"1", "2", "3", "4", "5", "6"} {
		if err := os.WriteFile(filepath.Join(card, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // the copying, not a wait for a result
	}
	if got := next(docked); got != "card:1/2/3/4/5/6" {
		t.Errorf("docked %q before it had settled", got)
	}
	if err := os.WriteFile(filepath.Join(card, "7"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := next(docked); got != "card:1/2/3/4/5/6/7" {
		t.Errorf("docked again %q", got)
	}
	if err := os.RemoveAll(card); err != nil {
		t.Fatal(err)
	}
	if got := next(gone); got != "card" {
		t.Errorf("gone is %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if rest := len(docked); rest != 0 {
		t.Errorf("%d dockings too many", rest)
	}
}

func TestInventoryIsInOrder(t *testing.T) {
	dir := t.TempDir()
	if err := simulator.Many(dir, 300, 10); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range inventory(t, open(t, dir)) {
		if e.Kind == device.KindFile {
			paths = append(paths, e.Path)
		}
	}
	if len(paths) != 300 || !slices.IsSorted(paths) {
		t.Errorf("%d files, in order %v", len(paths), slices.IsSorted(paths))
	}
}

// Large files are read past the page cache; what arrives must be the same, from
// any offset and at any length, and the end where it is.
func TestLargeFilesAreReadWhole(t *testing.T) {
	dir := t.TempDir()
	want := make([]byte, 9<<20+12345)
	for i := 0; i+4 <= len(want); i += 4 {
		binary.LittleEndian.PutUint32(want[i:], uint32(i))
	}
	for _, size := range []int{4 << 20, 4<<20 + 1, 5 << 20, len(want)} {
		name := fmt.Sprint(size)
		if err := os.WriteFile(filepath.Join(dir, name), want[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		r := open(t, dir)
		for _, offset := range []int64{0, 4096, 1 << 20, 3<<20 + 65536, 777, int64(size) - 1, int64(size)} {
			f, err := r.Open(t.Context(), device.Entry{Path: name, Kind: device.KindFile, Size: int64(size)}, offset)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(f)
			if err != nil || !bytes.Equal(got, want[offset:size]) {
				t.Errorf("%d bytes from %d: %d bytes came, %v", size, offset, len(got), err)
			}
			if n, err := f.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("behind the end: %d bytes, %v", n, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		// Closed in the middle, nothing is left behind.
		f, err := r.Open(t.Context(), device.Entry{Path: name, Kind: device.KindFile, Size: int64(size)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(f, make([]byte, 100)); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The root may be reached by its descriptor alone; what says that the card is gone
// is then the caller's. That holds also for who reads with io.Copy.
func TestAnOpenRootIsReadAsACard(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Param.ini"), []byte("[ZFY]\nDevNo=NMQ0031\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	gone, asked := false, 0
	r := folder.OpenRoot(root, "sda1", func(error) bool {
		asked++
		return gone
	})
	if id := r.Identity(); id.Place != "sda1" || id.Serial.Value != "NMQ0031" {
		t.Errorf("the identity is %+v", id)
	}
	if h, err := r.Health(t.Context()); err != nil || h.FreeBytes == nil || *h.CapacityBytes < *h.FreeBytes {
		t.Errorf("%+v, %v", h, err)
	}
	found := inventory(t, r)
	if len(found) != 1 || asked == 0 {
		t.Errorf("%v, asked %d times", found, asked)
	}
	f, err := r.Open(t.Context(), found[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := f.(io.WriterTo); ok {
		t.Error("io.Copy passes by Read, which tells a removal")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	gone = true
	missing := device.Entry{Path: "missing", Kind: device.KindFile}
	if _, err := r.Open(t.Context(), missing, 0); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("the error is %v", err)
	}
	if _, err := r.Health(t.Context()); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("the error is %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
