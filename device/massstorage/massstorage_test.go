package massstorage_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/massstorage"
	"github.com/bodyworn/ingestd/device/usb"
)

var footage = map[string]string{
	"DCIM/100MEDIA/A.MP4": strings.Repeat("footage ", 700_000), // large: past the page cache
	"DCIM/100MEDIA/B.MP4": "short",
	"记录/说明.txt":           "声音",
	"Param.ini":           "[ZFY]\nDevNo=NMQ0031\nPolNo=15050031\n",
}

// The promise to the recorder: all is read, nothing is written, no one else meets
// the mount. On new kernels and on old ones.
func TestADiskIsReadWithoutATrace(t *testing.T) {
	for _, kernel := range []string{"new", "old"} {
		t.Run(kernel, func(t *testing.T) {
			if kernel == "old" {
				massstorage.OnAnOldKernel(t)
			}
			img := ext4(t, footage)
			before := sum(t, img)
			disk := loop(t, img)
			r := open(t, fixed(disk))
			if mounted(t, disk.Node) {
				t.Error("the mount is in the mount table")
			}
			if id := r.Identity(); id.Driver != "mass-storage" || id.Serial.Value != "NMQ0031" || id.Officer.Value != "15050031" {
				t.Errorf("the identity is %+v", id)
			}
			found := inventory(t, r)
			for name, want := range footage {
				if got, err := read(t, r, found[name]); err != nil || got != want {
					t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
				}
			}
			if len(found) != len(footage)+3 {
				t.Errorf("the inventory is %q", paths(found))
			}
			// Another program can't have it for writing.
			if _, err := mountOrdinary(t, disk.Node, 0); err == nil {
				t.Error("another program could mount it for writing")
			}
			if fd, err := unix.Open(disk.Node, unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
				if _, err := unix.Pwrite(fd, make([]byte, 512), 1<<20); err == nil {
					t.Error("another program could write to the disk")
				}
				_ = unix.Close(fd)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			fd, err := unix.Open(disk.Node, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Errorf("after Close the disk is still in use: %v", err)
			} else {
				_ = unix.Close(fd)
			}
			if sum(t, img) != before {
				t.Error("the disk is not as it was")
			}
		})
	}
}

// A recorder that lost its power leaves a journal. What is visible is read, the
// journal stays, and the session can't end as safe: newest files may be in it.
func TestAJournalIsNeitherReplayedNorForgotten(t *testing.T) {
	img := ext4(t, footage)
	disk := loop(t, img)
	dir, err := mountOrdinary(t, disk.Node, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "NEW.MP4"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	crashed := image(t, 0)
	data, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(crashed, data, 0o600), unix.Unmount(dir, 0)); err != nil {
		t.Fatal(err)
	}
	before := sum(t, crashed)
	r := open(t, fixed(loop(t, crashed)))
	found := inventory(t, r)
	if e := found["."]; !errors.Is(e.Err, device.ErrNeedsPerson) {
		t.Errorf("the inventory hides that the journal was not replayed: %+v", e)
	}
	if got, err := read(t, r, found["DCIM/100MEDIA/B.MP4"]); err != nil || got != "short" {
		t.Errorf("%q, %v", got, err)
	}
	h, err := r.Health(t.Context())
	if err != nil || len(h.Volumes) != 1 || h.Volumes[0].Trouble == "" {
		t.Errorf("the trouble is not told: %+v, %v", h, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if sum(t, crashed) != before {
		t.Error("the journal was replayed onto the card")
	}
}

func TestADiskThatAnotherProgramMountedIsNotTaken(t *testing.T) {
	disk := loop(t, ext4(t, footage))
	if _, err := mountOrdinary(t, disk.Node, unix.MS_RDONLY); err != nil {
		t.Fatal(err)
	}
	_, err := massstorage.Open(t.Context(), fixed(disk))
	if !errors.Is(err, unix.EBUSY) || !errors.Is(err, device.ErrNeedsPerson) {
		t.Errorf("the error is %v", err)
	}
}

func TestWhatCannotBeReadIsListed(t *testing.T) {
	good := loop(t, ext4(t, footage))
	other := image(t, 4)
	if err := os.WriteFile(other, []byte(strings.Repeat("unknown ", 1<<19)), 0o600); err != nil {
		t.Fatal(err)
	}
	unknown, blank := loop(t, other), loop(t, image(t, 4))
	unknown.LUN, blank.LUN = 1, 2
	noMedium := usb.Disk{Name: "none", Node: "/dev/none", LUN: 3}
	r := open(t, fixed(noMedium, blank, unknown, good))
	found := inventory(t, r)
	if e := found["lun1"]; !errors.Is(e.Err, device.ErrNeedsPerson) {
		t.Errorf("the unknown disk is %+v in the inventory", e)
	}
	e := found["lun0/DCIM/100MEDIA/B.MP4"]
	if got, err := read(t, r, e); err != nil || got != "short" {
		t.Errorf("%q, %v", got, err)
	}
	for path, e := range found {
		if path != "lun1" && e.Err != nil || !strings.HasPrefix(path, "lun0") && path != "lun1" {
			t.Errorf("%q: %v", path, e.Err)
		}
	}
	h, err := r.Health(t.Context())
	if err != nil || len(h.Volumes) != 3 || h.FreeBytes != nil {
		t.Errorf("%+v, %v", h, err)
	}
	if h.Volumes[0].Label.Value != "BODYCAM" || h.Volumes[0].FileSystem != "ext4" || h.Volumes[0].Trouble != "" || h.Volumes[1].Trouble == "" {
		t.Errorf("%+v", h.Volumes)
	}
	vols := r.Volumes()
	if len(vols) != 1 || vols[0].Name != "lun0" || vols[0].Label != "BODYCAM" {
		t.Fatalf("%+v", vols)
	}
	if text, err := fs.ReadFile(vols[0].FS, "DCIM/100MEDIA/B.MP4"); err != nil || string(text) != "short" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := fs.ReadDir(vols[0].FS, "DCIM"); err != nil {
		t.Error(err)
	}
}

func TestNothingReadableNeedsAPerson(t *testing.T) {
	write := func(text string, at int64) string {
		img := image(t, 4)
		f, err := os.OpenFile(img, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte(text), at)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return img
	}
	brokenExt := ext4(t, nil)
	f, err := os.OpenFile(brokenExt, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 4), 1024+4) // no blocks at all
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, img, says string }{
		{"encrypted", write("LUKS\xba\xbe\x00\x02", 0), "encrypted"},
		{"unknown", write("?", 77777), "not known"},
		{"empty", image(t, 4), "empty"},
		{"other", write("NTFS    ", 3), "ntfs"},
		{"broken", brokenExt, "ext4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := massstorage.Open(t.Context(), fixed(loop(t, c.img)))
			if !errors.Is(err, device.ErrNeedsPerson) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "lun0") {
				t.Errorf("the error is %v", err)
			}
			t.Log(err)
		})
	}
	if _, err := massstorage.Open(t.Context(), fixed()); !errors.Is(err, device.ErrNeedsPerson) {
		t.Errorf("without a disk the error is %v", err)
	}
}

func TestDisksThatComeLaterAreRead(t *testing.T) {
	first, late := loop(t, ext4(t, footage)), loop(t, ext4(t, map[string]string{"LATE.MP4": "late"}))
	late.LUN = 1
	now := []usb.Disk{first}
	r := open(t, massstorage.Config{Disks: func() []usb.Disk { return now }})
	if found := inventory(t, r); found["Param.ini"].Kind != device.KindFile {
		t.Errorf("with one volume the paths are %q", paths(found))
	}
	now = append(now, late)
	found := inventory(t, r)
	if got, err := read(t, r, found["lun1/LATE.MP4"]); err != nil || got != "late" {
		t.Errorf("%q, %v, %q", got, err, paths(found))
	}
	if _, ok := found["Param.ini"]; !ok {
		t.Errorf("the first volume's paths have changed: %q", paths(found))
	}
	now = []usb.Disk{late}
	err := r.Inventory(t.Context(), func(device.Entry) error { return nil })
	if !errors.Is(err, device.ErrRemoved) {
		t.Errorf("with a disk gone the error is %v", err)
	}
	swapped := first
	swapped.Size /= 2 // another card in the same reader
	now = []usb.Disk{swapped, late}
	if err := r.Inventory(t.Context(), func(device.Entry) error { return nil }); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("with another card the error is %v", err)
	}
}

// A bad sector is that file's trouble; if the disk is gone it is the recorder's.
func TestABadSectorIsToldFromARemoval(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<20)
	img := ext4(t, map[string]string{"BIG.MP4": big})
	disk := loop(t, img)
	gone := false
	r := open(t, massstorage.Config{Disks: func() []usb.Disk {
		if gone {
			return nil
		}
		return []usb.Disk{disk}
	}})
	found := inventory(t, r)
	// The device loses its end, where the file's data goes on to.
	if err := os.Truncate(img, 9<<20); err != nil {
		t.Fatal(err)
	}
	node, err := os.Open(disk.Node)
	if err != nil {
		t.Fatal(err)
	}
	_, err = node.ReadAt(make([]byte, 512), 31<<20)
	_ = node.Close() // only read from
	if !errors.Is(err, syscall.EIO) {
		t.Skipf("loop devices of this kernel give zeros where there is nothing: %v", err)
	}
	_, err = read(t, r, found["BIG.MP4"])
	if !errors.Is(err, syscall.EIO) || errors.Is(err, device.ErrRemoved) {
		t.Errorf("a bad sector gives %v", err)
	}
	gone = true
	if _, err := read(t, r, found["BIG.MP4"]); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("a removal gives %v", err)
	}
}

func TestCloseSaysWhenTheDiskIsStillInUse(t *testing.T) {
	massstorage.ReleaseWithin(t, 100*time.Millisecond)
	r := open(t, fixed(loop(t, ext4(t, footage))))
	f, err := r.Open(t.Context(), inventory(t, r)["DCIM/100MEDIA/B.MP4"], 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err == nil {
		t.Error("it is said to be released while a file is open")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	massstorage.ReleaseWithin(t, time.Minute)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// The kernel's FAT passes over parts of a folder that can't be read. The disk's
// own count of errors tells that files may be missing.
func TestReadErrorsWhileListingAreNotPassedOver(t *testing.T) {
	for _, c := range []struct {
		name   string
		errors []int64 // what the count is at each look
		told   bool
	}{
		{"none", []int64{3, 3}, false},
		{"once, then all could be read", []int64{3, 4, 4}, false},
		{"always", []int64{3, 4, 5, 6}, true},
		{"not countable", []int64{-1, -1}, false},
		{"not countable any more", []int64{0, -1, -1, -1}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			looks := 0
			massstorage.CountErrors(t, func() int64 {
				looks++
				return c.errors[min(looks, len(c.errors))-1]
			})
			r := open(t, fixed(loop(t, ext4(t, footage))))
			found := inventory(t, r)
			if told := found["."].Err != nil; told != c.told {
				t.Errorf("told: %t; %q", told, paths(found))
			}
			if looks != len(c.errors) {
				t.Errorf("the count was looked at %d times", looks)
			}
			if _, ok := found["DCIM/100MEDIA/A.MP4"]; !ok {
				t.Errorf("%q", paths(found))
			}
		})
	}
}

func TestPartitionsAreVolumes(t *testing.T) {
	// Partition 2 begins beyond the end: the kernel leaves it out.
	whole := image(t, 40)
	part := ext4(t, footage)
	data, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(whole, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := f.WriteAt(mbr([4][3]uint32{{0x83, 2048, 32 << 11}, {0x0c, 1 << 24, 2048}}), 0)
	_, err2 := f.WriteAt(data, 1<<20)
	if err := errors.Join(err1, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
	// Two loop devices stand for disk and partition: not every kernel makes
	// partitions of loop devices.
	disk, partition := loop(t, whole), loop(t, whole, "--offset", "1048576", "--sizelimit", "33554432")
	disk.Partitions = []usb.Partition{{Name: disk.Name + "p1", Node: partition.Node, Size: 32 << 20}}
	r := open(t, fixed(disk))
	found := inventory(t, r)
	if got, err := read(t, r, found["lun0-part1/DCIM/100MEDIA/B.MP4"]); err != nil || got != "short" {
		t.Errorf("%q, %v: %q", got, err, paths(found))
	}
	if e := found["lun0-part2"]; e.Err == nil {
		t.Errorf("the partition that the kernel does not show is not missed: %q", paths(found))
	}
}

func TestProfilesCannotOpenWhatHasEffects(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.Symlink("Param.ini", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	img := image(t, 8)
	tool(t, "mkfs.ext4", "-q", "-d", dir, img)
	vols := open(t, fixed(loop(t, img))).Volumes()
	for _, name := range []string{"fifo", "link", "../x", "missing"} {
		if f, err := vols[0].FS.Open(name); err == nil {
			t.Errorf("%s could be opened", name)
			_ = f.Close()
		}
	}
}
