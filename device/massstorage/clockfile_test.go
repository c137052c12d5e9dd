package massstorage_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/massstorage"
	"github.com/bodyworn/ingestd/device/usb"
)

const timeSet = "2006-01-02 15:04:05"

func clocked(disks ...usb.Disk) massstorage.Config {
	config := fixed(disks...)
	config.Zone = time.FixedZone("CST", 8*3600)
	config.ClockFile = &massstorage.ClockFile{Name: "TIMESET.TXT", Layout: timeSet}
	return config
}

func TestTheClockFileIsWrittenAndNothingElse(t *testing.T) {
	disk := loop(t, ext4(t, footage))
	r := open(t, clocked(disk))
	if left := r.ClockFileLeft(); left.Known() {
		t.Errorf("a clock file is said to be left: %+v", left)
	}
	before := inventory(t, r)
	began := time.Now()
	set, err := r.SetClock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if set.After.Kind != device.ClockUnknown || set.SetAt.Before(began) || set.Method == "" {
		t.Errorf("%+v", set)
	}
	// The card can still be read, and not be written.
	after := inventory(t, r)
	text, err := read(t, r, after["TIMESET.TXT"])
	if err != nil {
		t.Fatal(err)
	}
	written, err := time.ParseInLocation(timeSet, text, time.FixedZone("CST", 8*3600))
	if err != nil || written.Sub(set.SetAt).Abs() > time.Minute {
		t.Errorf("%q was written at %s: %v", text, set.SetAt, err)
	}
	if !strings.Contains(set.Method, text) {
		t.Errorf("the method does not say what was written: %q", set.Method)
	}
	for name, want := range footage {
		if got, err := read(t, r, after[name]); err != nil || got != want || !after[name].ModTime.Equal(before[name].ModTime) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
	if len(after) != len(before)+1 {
		t.Errorf("the card has %q", paths(after))
	}
	if _, err := mountOrdinary(t, disk.Node, 0); err == nil {
		t.Error("after it was set the card can be written")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// At the next docking the file shows that the recorder did not take it.
	if left := open(t, clocked(disk)).ClockFileLeft(); !strings.Contains(left.Value, text) {
		t.Errorf("the file that was left is %+v", left)
	}
}

func TestTheClockFileIsNotWritten(t *testing.T) {
	protected := func(t *testing.T) massstorage.Config { return clocked(loop(t, ext4(t, footage), "--read-only")) }
	for _, c := range []struct {
		name   string
		config func(t *testing.T) massstorage.Config
		is     error
	}{
		{"where no profile says so", func(t *testing.T) massstorage.Config { return fixed(loop(t, ext4(t, footage))) }, device.ErrNoClock},
		{"to a write-protected card", protected, unix.EROFS},
		{"to a card with errors", func(t *testing.T) massstorage.Config {
			img := ext4(t, footage)
			tool(t, "debugfs", "-w", "-R", "set_super_value state 2", img)
			return clocked(loop(t, img))
		}, nil},
		{"over a folder of that name", func(t *testing.T) massstorage.Config {
			return clocked(loop(t, ext4(t, map[string]string{"TIMESET.TXT/x": "", "DCIM/100MEDIA/B.MP4": "short"})))
		}, nil},
		{"through a link", func(t *testing.T) massstorage.Config {
			img := ext4(t, footage)
			tool(t, "debugfs", "-w", "-R", "symlink TIMESET.TXT DCIM/100MEDIA/B.MP4", img)
			return clocked(loop(t, img))
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open(t, c.config(t))
			before := inventory(t, r)
			set, err := r.SetClock(t.Context())
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !set.SetAt.IsZero() {
				t.Errorf("%+v, %v", set, err)
			}
			t.Log(err)
			after := inventory(t, r)
			if got, err := read(t, r, after["DCIM/100MEDIA/B.MP4"]); err != nil || got != "short" || len(after) != len(before) {
				t.Errorf("footage: %q, %v; %q", got, err, paths(after))
			}
		})
	}
	t.Run("in a session that was cancelled", func(t *testing.T) {
		r := open(t, clocked(loop(t, ext4(t, footage))))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.SetClock(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, ok := inventory(t, r)["TIMESET.TXT"]; ok {
			t.Error("it was written")
		}
	})
}

// A file that is open keeps the volume from being unmounted: then nothing is
// written.
func TestTheClockFileWaitsForNoOne(t *testing.T) {
	massstorage.ReleaseWithin(t, 100*time.Millisecond)
	img := ext4(t, footage)
	r := open(t, clocked(loop(t, img)))
	f, err := r.Open(t.Context(), inventory(t, r)["DCIM/100MEDIA/B.MP4"], 0)
	if err != nil {
		t.Fatal(err)
	}
	before := sum(t, img)
	if _, err := r.SetClock(t.Context()); err == nil {
		t.Error("the clock was set while a file was read")
	}
	if sum(t, img) != before {
		t.Error("the card is not as it was")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	massstorage.ReleaseWithin(t, time.Minute)
}

func TestClockTextAvoidsZeros(t *testing.T) {
	for at, want := range map[string]string{
		"2026-11-24 10:20:30": "2026-11-24 10:20:30",
		"2026-11-24 10:20:00": "2026-11-24 10:20:01",
		"2026-11-24 10:00:00": "2026-11-24 09:59:59",
		"2026-11-24 10:00:29": "2026-11-24 09:59:59",
		"2026-11-24 10:00:30": "2026-11-24 10:01:01",
		"2027-01-01 00:00:00": "2026-12-31 23:59:59",
	} {
		now, err := time.Parse(timeSet, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := massstorage.ClockText(now, timeSet); got != want {
			t.Errorf("at %s: %s, not %s", at, got, want)
		}
	}
}
