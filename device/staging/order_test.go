package staging_test

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

// The kernel tells what happened in the folders, in order: a copy gets its name
// when all of it was written, and is not touched after that.
func TestTheNameComesLast(t *testing.T) {
	b, r := newBench(t), newFake("first", strings.Repeat("x", 3_000_000), "last")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }() // only read from
	watch := func(dir string) int32 {
		wd, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MODIFY|unix.IN_MOVE|unix.IN_DELETE|unix.IN_CLOSE_WRITE)
		if err != nil {
			t.Fatal(err)
		}
		return int32(wd)
	}
	root, folder := watch(b.path), int32(-1)
	r.opened = func(e device.Entry) error {
		if e.Path == "a" {
			partial, err := filepath.Glob(filepath.Join(b.path, "*.partial"))
			if err != nil || len(partial) != 1 {
				t.Fatal(partial, err)
			}
			folder = watch(partial[0])
		}
		return nil
	}
	made, err := b.stage(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, e := range events(t, fd) {
		if e.watch == folder && e.mask&unix.IN_CLOSE_WRITE != 0 || e.watch == root && e.mask&unix.IN_MOVED_TO != 0 {
			order = append(order, e.name)
		}
		if e.watch == folder && slices.Contains(order, made.ID) {
			t.Errorf("%s was touched when the copy had its name: %#x", e.name, e.mask)
		}
	}
	want := []string{"000001.age", "000002.age", "000003.age", "copy.json.age", made.ID}
	if !slices.Equal(order, want) {
		t.Errorf("written in the order %q, not %q", order, want)
	}
}

type event struct {
	watch int32
	mask  uint32
	name  string
}

// events are those that wait; none was lost, or the test says so.
func events(t *testing.T, fd int) (all []event) {
	t.Helper()
	buf := make([]byte, 1<<20)
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
		size := int(binary.NativeEndian.Uint32(rest[12:]))
		e := event{watch: int32(binary.NativeEndian.Uint32(rest)), mask: binary.NativeEndian.Uint32(rest[4:])}
		if e.mask&unix.IN_Q_OVERFLOW != 0 {
			t.Fatal("events were lost")
		}
		name, _, _ := bytes.Cut(rest[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size], []byte{0})
		e.name = string(name)
		all = append(all, e)
		rest = rest[unix.SizeofInotifyEvent+size:]
	}
	return all
}
