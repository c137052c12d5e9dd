package massstorage_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/massstorage"
	"github.com/bodyworn/ingestd/device/usb"
)

// tool runs a program of the system, and skips the test where there is none.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// image makes an empty image of so many MiB.
func image(t *testing.T, mib int64) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.img")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(mib<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// ext4 makes an image with these files in it, without mounting it.
func ext4(t *testing.T, files map[string]string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	img := image(t, 32)
	tool(t, "mkfs.ext4", append(append([]string{"-q", "-L", "BODYCAM", "-d", dir}, args...), img)...)
	return img
}

func supported(t *testing.T, fileSystem string) {
	t.Helper()
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil || !slices.Contains(strings.Fields(string(known)), fileSystem) {
		t.Skipf("this kernel has no %s", fileSystem)
	}
}

// loop makes a block device of an image.
func loop(t *testing.T, img string, args ...string) usb.Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a loop device needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("this kernel has no loop devices")
	}
	node := tool(t, "losetup", append(append([]string{"--find", "--show"}, args...), img)...)
	t.Cleanup(func() {
		setReadOnly(t, node, 0) // loop devices are used again
		tool(t, "losetup", "--detach", node)
	})
	info, err := os.Stat(img)
	if err != nil {
		t.Fatal(err)
	}
	return usb.Disk{Name: filepath.Base(node), Node: node, Size: info.Size()}
}

func setReadOnly(t *testing.T, node string, value int) {
	t.Helper()
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.IoctlSetPointerInt(fd, unix.BLKROSET, value), unix.Close(fd)); err != nil {
		t.Error(err)
	}
}

// fixed are disks that stay as they are.
func fixed(disks ...usb.Disk) massstorage.Config {
	return massstorage.Config{Disks: func() []usb.Disk { return disks }}
}

func open(t *testing.T, config massstorage.Config) *massstorage.Recorder {
	t.Helper()
	r, err := massstorage.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// inventory gives what is found by path, leaving out what mkfs made.
func inventory(t *testing.T, r device.Recorder) map[string]device.Entry {
	t.Helper()
	all := map[string]device.Entry{}
	if err := r.Inventory(t.Context(), func(e device.Entry) error {
		if _, twice := all[e.Path]; twice {
			t.Errorf("%q is listed twice", e.Path)
		}
		if !strings.HasSuffix(e.Path, "lost+found") {
			all[e.Path] = e
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func paths(entries map[string]device.Entry) []string {
	return slices.Sorted(maps.Keys(entries))
}

func read(t *testing.T, r device.Recorder, e device.Entry) (string, error) {
	t.Helper()
	f, err := r.Open(t.Context(), e, 0)
	if err != nil {
		return "", err
	}
	var all bytes.Buffer
	_, err = io.Copy(&all, f)
	return all.String(), errors.Join(err, f.Close())
}

func sum(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// mounted reports whether anyone can see the device in the mount table.
func mounted(t *testing.T, node string) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(table), " "+node+" ")
}

// mountOrdinary mounts as another program would.
func mountOrdinary(t *testing.T, node string, flags uintptr) (string, error) {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount(node, dir, "ext4", flags, "")
	if err == nil {
		t.Cleanup(func() { _ = unix.Unmount(dir, 0) }) // perhaps it is already
	}
	return dir, err
}
