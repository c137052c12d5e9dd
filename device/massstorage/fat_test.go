package massstorage_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
)

// fats are the file systems of cards, with what the kernel needs to be told so
// that names are UTF-8 and times are those of UTC.
var fats = map[string]string{"vfat": "utf8=1,tz=UTC", "exfat": "iocharset=utf8,time_offset=0"}

// card makes a card in the given file system, which the kernel itself fills.
func card(t *testing.T, fileSystem string, files map[string]string, at time.Time) (img string, disk usb.Disk) {
	t.Helper()
	supported(t, fileSystem)
	img = image(t, 40)
	tool(t, "mkfs."+fileSystem, map[string]string{"vfat": "-n", "exfat": "-L"}[fileSystem], "BODYCAM", img)
	disk = loop(t, img)
	dir := t.TempDir()
	if err := unix.Mount(disk.Node, dir, fileSystem, 0, fats[fileSystem]); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Error(err)
		}
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	return img, disk
}

// The way of nearly all recorders: FAT and exFAT, with Chinese names, and times
// by the recorder's clock.
func TestCardsAreReadAsTheyAre(t *testing.T) {
	shown := time.Date(2026, 11, 24, 10, 20, 30, 0, time.UTC) // what the recorder's clock showed
	for fileSystem := range fats {
		t.Run(fileSystem, func(t *testing.T) {
			img, disk := card(t, fileSystem, footage, shown)
			before := sum(t, img)
			config := fixed(disk)
			config.Zone = time.FixedZone("CST", 8*3600)
			r := open(t, config)
			found := inventory(t, r)
			for name, want := range footage {
				if got, err := read(t, r, found[name]); err != nil || got != want {
					t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
				}
				// exFAT keeps the zone with the time, if the recorder wrote one.
				if at := found[name].ModTime; fileSystem == "vfat" && !at.Equal(shown.Add(-8*time.Hour)) {
					t.Errorf("%s: 10:20:30 on the card is read as %s", name, at.UTC())
				}
			}
			if mounted(t, disk.Node) {
				t.Error("the mount is in the mount table")
			}
			if vols := r.Volumes(); vols[0].Label != "BODYCAM" || vols[0].FileSystem != fileSystem {
				t.Errorf("%+v", vols)
			}
			h, err := r.Health(t.Context())
			if err != nil || h.FreeBytes == nil || *h.FreeBytes <= 0 || h.Volumes[0].Trouble != "" {
				t.Errorf("%+v, %v", h, err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if sum(t, img) != before {
				t.Error("the card is not as it was")
			}
		})
	}
}

// A recorder that was switched off hard leaves the mark of use on its card: it is
// read, the mark is told and stays, and nothing is written to such a card.
func TestADirtyCardIsReadAndLeftAsItIs(t *testing.T) {
	for fileSystem := range fats {
		t.Run(fileSystem, func(t *testing.T) {
			img, disk := card(t, fileSystem, footage, time.Now())
			f, err := os.OpenFile(disk.Node, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			at := map[string]int64{"vfat": 37, "exfat": 106}[fileSystem]
			mark := make([]byte, 512)
			_, err1 := f.ReadAt(mark, 0)
			mark[at] |= map[string]byte{"vfat": 1, "exfat": 2}[fileSystem]
			_, err2 := f.WriteAt(mark, 0)
			if err := errors.Join(err1, err2, f.Close()); err != nil {
				t.Fatal(err)
			}
			unix.Sync()
			before := sum(t, img)
			config := clocked(disk)
			r := open(t, config)
			if got, err := read(t, r, inventory(t, r)["DCIM/100MEDIA/A.MP4"]); err != nil || got != footage["DCIM/100MEDIA/A.MP4"] {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			h, err := r.Health(t.Context())
			if err != nil || !strings.Contains(h.Volumes[0].Trouble, "unmounted") {
				t.Errorf("%+v, %v", h, err)
			}
			if _, err := r.SetClock(t.Context()); err == nil {
				t.Error("the clock file was written to a dirty card")
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if sum(t, img) != before {
				t.Error("the card is not as it was")
			}
		})
	}
}

func TestTheClockFileIsWrittenToCards(t *testing.T) {
	for fileSystem := range fats {
		t.Run(fileSystem, func(t *testing.T) {
			_, disk := card(t, fileSystem, footage, time.Now())
			r := open(t, clocked(disk))
			if _, err := r.SetClock(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			// The card must not be marked as in use afterwards.
			r = open(t, clocked(disk))
			h, err := r.Health(t.Context())
			if err != nil || h.Volumes[0].Trouble != "" {
				t.Errorf("%+v, %v", h, err)
			}
			if left := r.ClockFileLeft(); !left.Known() {
				t.Error("the clock file is not there")
			}
			found := inventory(t, r)
			for name, want := range footage {
				if got, err := read(t, r, found[name]); err != nil || got != want {
					t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
				}
			}
		})
	}
}

// A broken file of FAT is that file's error; the rest is read.
func TestABrokenChainIsThatFilesError(t *testing.T) {
	img, disk := card(t, "vfat", footage, time.Now())
	node, err := os.OpenFile(disk.Node, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Everything behind the first entries of both tables is made to end: files of
	// several clusters are cut off.
	boot := make([]byte, 512)
	_, err = node.ReadAt(boot, 0)
	if err != nil {
		t.Fatal(err)
	}
	reserved, length := int64(boot[14])*512, (int64(boot[22])|int64(boot[23])<<8)*512
	if length == 0 {
		t.Skip("mkfs made FAT32, this test is for FAT16")
	}
	var errs []error
	for copies := range int64(2) {
		table := make([]byte, length)
		_, err := node.ReadAt(table, reserved+copies*length)
		errs = append(errs, err)
		for i := 4; i+1 < len(table); i += 2 {
			if table[i] != 0 || table[i+1] != 0 {
				table[i], table[i+1] = 0xff, 0xff
			}
		}
		_, err = node.WriteAt(table, reserved+copies*length)
		errs = append(errs, err)
	}
	if err := errors.Join(append(errs, node.Close())...); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	before := sum(t, img)
	r := open(t, fixed(disk))
	found := inventory(t, r)
	if got, err := read(t, r, found["DCIM/100MEDIA/A.MP4"]); err == nil && got == footage["DCIM/100MEDIA/A.MP4"] || errors.Is(err, device.ErrRemoved) {
		t.Errorf("a file whose chain is cut off gives %d bytes, %v", len(got), err)
	} else {
		t.Logf("%d bytes, %v", len(got), err)
	}
	if got, err := read(t, r, found["DCIM/100MEDIA/B.MP4"]); err != nil || got != "short" {
		t.Errorf("%q, %v", got, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if sum(t, img) != before {
		t.Error("the card is not as it was")
	}
}
