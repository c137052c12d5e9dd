package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What root does in a station's folder the service, which is not root, can go on with.
func TestRootLeavesNothingOfItsOwn(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("it needs root")
	}
	p := newPlace(t, testConfig)
	if err := os.Mkdir(p.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	const service = 12345
	if err := os.Chown(p.path("state"), service, service); err != nil {
		t.Fatal(err)
	}
	p.must("recorders", "add", "NMQ0007")
	p.must("stats")
	files := 0
	if err := filepath.WalkDir(p.path("state"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			files++
			if is := info.Sys().(*syscall.Stat_t); is.Uid != service || is.Gid != service {
				t.Errorf("%s is of user %d and group %d", path, is.Uid, is.Gid)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if files < 4 {
		t.Errorf("only %d files", files)
	}
}
