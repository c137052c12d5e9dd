package massstorage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

// ClockFile is the file from which a recorder takes the time when it starts, and
// which it then deletes. Makes differ in name and form: TIMESET.TXT with
// "2006-01-02 15:04:05", time.txt with "2006/01/02 15:04:05".
type ClockFile struct {
	// Name in the root of the volume.
	Name string
	// Layout is the text in the form of package time, with its line end if the
	// recorder wants one.
	Layout string
	// Label chooses the volume. Empty: the first that can be read.
	Label string
}

// maxClockFile bounds what is read of a clock file that was left.
const maxClockFile = 64

// ClockFileLeft is the text of a clock file that is still on the card, and so was
// not taken by the recorder when it last started. Unknown: there is none.
func (r *Recorder) ClockFileLeft() device.Fact {
	v := r.clockVolume()
	if v == nil || v.mount == nil {
		return device.Fact{}
	}
	name := r.config.ClockFile.Name
	f, err := regularFS{v.mount.root}.Open(name)
	if err != nil {
		return device.Fact{} // not there; or the inventory will say why
	}
	defer func() { _ = f.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxClockFile))
	if err != nil {
		return device.Fact{} // reading it as footage will tell
	}
	return device.Fact{Source: name + " on the card", Value: fmt.Sprintf("%q", strings.TrimSpace(string(text)))}
}

func (r *Recorder) clockVolume() *volume {
	if r.config.ClockFile == nil {
		return nil
	}
	for _, v := range r.volumes {
		if v.mount != nil && (r.config.ClockFile.Label == "" || r.config.ClockFile.Label == v.found.Label) {
			return v
		}
	}
	return nil
}

// SetClock implements device.ClockSetter where the profile names a clock file; it
// is the only thing that is ever written to a card. The session calls it after
// the last file is stored, so that trouble here can't touch footage that is
// nowhere else. Nothing is written to a file system that was not unmounted in
// order or has errors, nor to a write-protected card.
func (r *Recorder) SetClock(ctx context.Context) (device.ClockSetting, error) {
	if r.config.ClockFile == nil {
		return device.ClockSetting{}, device.ErrNoClock
	}
	v := r.clockVolume()
	if v == nil {
		return device.ClockSetting{}, fmt.Errorf("set the clock by %s: its volume is not there or can't be read", r.config.ClockFile.Name)
	}
	if v.found.Dirty || v.found.Faulty || v.found.JournalPending || v.found.FileSystem == "iso9660" {
		return device.ClockSetting{}, fmt.Errorf("set the clock by %s: nothing is written to %s (%s): %s", r.config.ClockFile.Name, v.key, v.found.FileSystem, v.trouble())
	}
	if err := ctx.Err(); err != nil {
		return device.ClockSetting{}, err
	}
	// From here to the end without ctx: what was begun is finished.
	setting, text, err := r.writeClock(context.WithoutCancel(ctx), v)
	if err == nil {
		err = v.checkClock(r.config.ClockFile.Name, text)
	}
	if err != nil {
		return device.ClockSetting{}, fmt.Errorf("set the clock by %s on %s: %w", r.config.ClockFile.Name, v.key, err)
	}
	return setting, nil
}

// writeClock leaves the volume mounted read-only again, also after errors if it
// can.
//
//  1. The read-only mount is closed. A crash here leaves the card as it was.
//  2. Writing is allowed and the volume mounted for it: FAT and exFAT are marked
//     as in use on the card.
//  3. The file is written and synced. A crash or a pull between 2 and 4 leaves the
//     mark, and perhaps half a file; footage is not touched.
//  4. It is unmounted: the mark is gone, all of it is on the card.
//  5. Writing is refused again and the volume mounted read-only.
func (r *Recorder) writeClock(ctx context.Context, v *volume) (setting device.ClockSetting, text string, err error) {
	reading := v.mount
	v.mount, v.files = nil, nil
	if err := reading.close(); err != nil {
		v.unclosed = reading
		v.err = err
		return setting, "", err
	}
	m, err := mountNode(ctx, v.node, v.found.FileSystem, r.config.Zone, true)
	if err == nil {
		now := time.Now()
		text = ClockText(now.In(r.config.Zone), r.config.ClockFile.Layout)
		err = writeClockFile(m, r.config.ClockFile.Name, text)
		if closeErr := m.close(); closeErr != nil {
			v.unclosed = m
			err = errors.Join(err, closeErr)
		}
		setting = device.ClockSetting{
			Method: fmt.Sprintf("%s with %q was written to the card; the recorder takes it when it starts next", r.config.ClockFile.Name, strings.TrimSpace(text)),
			SetAt:  now,
			After: device.ClockReading{
				Kind:        device.ClockUnknown,
				Method:      "the recorder takes the time when it starts next, so that its clock can't be read again before that",
				StationTime: time.Now(),
			},
		}
	}
	if mountErr := v.mountFiles(ctx); mountErr != nil {
		v.err = mountErr
		err = errors.Join(err, fmt.Errorf("mount it read-only again: %w", mountErr))
	}
	return setting, text, err
}

func writeClockFile(m *mount, name, text string) error {
	info, err := m.root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s on the card is no regular file: %s", name, info.Mode().Type())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for %s: %w", name, m.node.orRemoved(err))
	}
	f, err := m.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, m.node.orRemoved(err))
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, m.node.orRemoved(err))
	}
	return nil
}

// checkClock reads what was written from the card, through the new mount.
func (v *volume) checkClock(name, want string) error {
	f, err := regularFS{v.mount.root}.Open(name)
	if err != nil {
		return fmt.Errorf("read it again: %w", v.node.orRemoved(err))
	}
	defer func() { _ = f.Close() }() // only read from
	got, err := io.ReadAll(io.LimitReader(f, int64(len(want))+1))
	if err != nil {
		return fmt.Errorf("read it again: %w", v.node.orRemoved(err))
	}
	if string(got) != want {
		return fmt.Errorf("read again it has %d bytes that are not the %d written", len(got), len(want))
	}
	return nil
}

// ClockText is what is written at the time now. A parser is known that makes minute
// 00 and second 00 into 01, so that these are avoided: by the nearest time without
// them, at most half a minute away. That is nothing against the time that passes
// until the recorder starts.
func ClockText(now time.Time, layout string) string {
	at := now.Round(0).Truncate(time.Second)
	switch {
	case at.Minute() == 0 && at.Second() < 30:
		at = at.Add(-time.Duration(at.Second()+1) * time.Second) // 59:59
	case at.Minute() == 0:
		at = at.Add(time.Duration(61-at.Second()) * time.Second) // 01:01
	case at.Second() == 0:
		at = at.Add(time.Second)
	}
	return at.Format(layout)
}
