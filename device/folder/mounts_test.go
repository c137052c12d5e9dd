package folder_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
)

func accessTime(t *testing.T, name string) time.Time {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return time.Unix(st.Atim.Unix())
}

func TestWatcherSeesMountsComeAndGo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	media := t.TempDir()
	point := filepath.Join(media, "my card") // with a space, as volume labels have
	if err := os.Mkdir(point, 0o700); err != nil {
		t.Fatal(err)
	}
	docked, gone := make(chan device.Docking, 4), make(chan string, 4)
	w := &folder.Watcher{
		Sources: []folder.Source{{Path: media, Kind: folder.Mounts, Slot: "3"}},
		Docked:  func(_ context.Context, d device.Docking) { docked <- d },
		Gone:    func(slot string) { gone <- slot },
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for range 2 { // the same card twice is two dockings
		if err := syscall.Mount("tmpfs", point, "tmpfs", syscall.MS_RDONLY, "size=1m"); err != nil {
			t.Skipf("this kernel or container does not let root mount: %v", err)
		}
		var d device.Docking
		select {
		case d = <-docked:
		case <-time.After(time.Minute):
			t.Fatal("the mount was not seen")
		}
		if d.Slot != "3" {
			t.Errorf("slot is %q", d.Slot)
		}
		if err := syscall.Unmount(point, 0); err != nil {
			t.Fatal(err)
		}
		select {
		case <-d.Removed:
		case <-time.After(time.Minute):
			t.Fatal("the removal was not seen")
		}
		<-gone
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
