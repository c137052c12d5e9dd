// Package massstorage reads a recorder that shows itself as one or more disks:
// USB mass storage. It stands between package usb, which says which disks a
// recorder has, and the session, to which it gives a device.Recorder.
//
// Probe looks at what is on a disk; the file systems are then mounted read-only,
// each for this program alone and nowhere in the file tree, and read by package
// folder. The kernel is told to refuse every write to the disks. What can't be
// read is in the inventory with an error, so that a recorder of which a part was
// not seen is never called safe.
//
// A volume is a file system on a partition or on a whole disk. Its name is made of
// the disk's LUN and the partition's number, lun0-part1, and stays the same when
// sda becomes sdb. With one volume the paths are as on the card; with several each
// path begins with the volume's name.
package massstorage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
)

// Config says which recorder is opened.
type Config struct {
	// Disks lists the recorder's disks as they are now. It is called again with
	// each inventory, and after errors, to see what has come and gone.
	Disks func() []usb.Disk
	// Identity is what is known already, as from USB and the profile. What it
	// leaves open is looked for in Param.ini on the volumes.
	Identity device.Identity
	// Zone is the time zone of the recorder's clock, by which FAT's times are to be
	// understood. Nil: that of the station.
	Zone *time.Location
	// ClockFile is set only where the profile says that the recorder takes its time
	// from a file. Nil: nothing is ever written.
	ClockFile *ClockFile
}

// Recorder is a docked recorder that is read as disks. As every device.Recorder
// it is used by one goroutine at a time.
type Recorder struct {
	config   Config
	identity device.Identity
	volumes  []*volume // in the order of LUN and partition, what came later last
	// prefixed says that paths begin with the volume's name. It is settled when the
	// recorder is opened: paths must not change under a session.
	prefixed bool
	closed   bool
}

var (
	_ device.Recorder    = (*Recorder)(nil)
	_ device.ClockSetter = (*Recorder)(nil)
)

// Open mounts what is on the disks that are there now; disks without a medium are
// left out. It fails if nothing can be read: with device.ErrNeedsPerson for what
// is encrypted, unknown, damaged or in use, with device.ErrRemoved when the
// recorder is gone.
func Open(ctx context.Context, config Config) (*Recorder, error) {
	if config.Zone == nil {
		config.Zone = time.Local
	}
	if config.Identity.Driver == "" {
		config.Identity.Driver = "mass-storage"
	}
	r := &Recorder{config: config, identity: config.Identity}
	slots, err := r.partitionsShown(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range slots {
		r.volumes = append(r.volumes, openVolume(ctx, s, config))
	}
	if err := r.anythingReadable(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	filled := 0
	for _, v := range r.volumes {
		if !v.found.Blank {
			filled++
		}
	}
	r.prefixed = filled > 1
	for _, v := range r.volumes {
		v.prefixed = r.prefixed
		r.identify(v)
	}
	return r, nil
}

// partitionsShown looks for disks, and waits a little for the partitions of a
// disk on which there is a partition table: they come after the disk.
func (r *Recorder) partitionsShown(ctx context.Context) ([]slot, error) {
	for end := time.Now().Add(partitionsWithin); ; {
		slots := layout(r.config.Disks())
		complete := !slices.ContainsFunc(slots, func(s slot) bool { return s.missing })
		if complete || time.Now().After(end) {
			return slots, nil
		}
		for _, s := range slots {
			s.node.close()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(4 * pollEvery):
		}
	}
}

// partitionsWithin is how long the kernel may take to show a disk's partitions;
// 10 ms were seen.
const partitionsWithin = 2 * time.Second

func (r *Recorder) anythingReadable(ctx context.Context) error {
	var errs []error
	for _, v := range r.volumes {
		if v.err == nil && !v.found.Blank {
			return nil
		}
		if v.found.Blank {
			errs = append(errs, fmt.Errorf("%s (%s) is empty: no file system was ever made on it: %w", v.key, v.node.name, device.ErrNeedsPerson))
			continue
		}
		errs = append(errs, v.err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(errs) == 0 {
		return fmt.Errorf("%s has no disk with a medium in it: put its card in: %w", r.name(), device.ErrNeedsPerson)
	}
	return fmt.Errorf("nothing on %s can be read: %w", r.name(), errors.Join(errs...))
}

// name is what the recorder is called in messages.
func (r *Recorder) name() string {
	return strings.TrimSpace("the recorder " + r.identity.Place)
}

// identify fills what is not known of the identity from a volume's Param.ini.
func (r *Recorder) identify(v *volume) {
	if v.files == nil {
		return
	}
	id := v.files.Identity()
	if !r.identity.Serial.Known() {
		r.identity.Serial = id.Serial
	}
	if !r.identity.Officer.Known() {
		r.identity.Officer = id.Officer
	}
}

// Identity implements device.Recorder.
func (r *Recorder) Identity() device.Identity { return r.identity }

// SetIdentity replaces the identity with what a profile found on the volumes. It
// is called before the recorder is given to a session.
func (r *Recorder) SetIdentity(id device.Identity) { r.identity = id }

// SetClockFile names the file that the recorder takes its time from, as a profile
// found on the volumes says. It is called before the recorder is given to a session.
func (r *Recorder) SetClockFile(f ClockFile) { r.config.ClockFile = &f }

// Mounted is a volume that a profile may look into.
type Mounted struct {
	Name, Label, FileSystem string
	// FS opens regular files and folders only and can't write.
	FS fs.FS
}

// Volumes are the volumes that can be read.
func (r *Recorder) Volumes() []Mounted {
	var all []Mounted
	for _, v := range r.volumes {
		if v.mount != nil {
			all = append(all, Mounted{Name: v.key, Label: v.found.Label, FileSystem: v.found.FileSystem, FS: regularFS{v.mount.root}})
		}
	}
	return all
}

// regularFS never opens a link, a FIFO or a device, which could have effects.
type regularFS struct{ root *os.Root }

func (f regularFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	info, err := f.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it is neither a file nor a folder")}
	}
	return f.root.Open(name)
}

// Clock implements device.Recorder: disks don't tell the recorder's time.
func (r *Recorder) Clock(context.Context) (device.ClockReading, error) {
	return device.ClockReading{
		Kind:        device.ClockUnknown,
		Method:      "the recorder shows itself as a disk, and a disk has no clock that could be read",
		StationTime: time.Now(),
	}, nil
}

// Health implements device.Recorder. The sums are nil unless every volume could
// be read.
func (r *Recorder) Health(ctx context.Context) (device.Health, error) {
	var h device.Health
	var capacity, free int64
	complete := true
	for _, v := range r.volumes {
		told, err := v.health(ctx)
		if err != nil {
			return device.Health{}, err
		}
		h.Volumes = append(h.Volumes, told)
		switch {
		case v.found.Blank:
		case told.CapacityBytes == nil || told.FreeBytes == nil:
			complete = false
		default:
			capacity, free = capacity+*told.CapacityBytes, free+*told.FreeBytes
		}
	}
	if complete && len(h.Volumes) > 0 {
		h.CapacityBytes, h.FreeBytes = &capacity, &free
	}
	return h, nil
}

// Inventory implements device.Recorder. It looks at the disks again: volumes that
// have come since are mounted and listed, a disk that is gone is
// device.ErrRemoved. A volume that can't be read is one entry with its Err.
func (r *Recorder) Inventory(ctx context.Context, found func(device.Entry) error) error {
	if err := r.refresh(ctx); err != nil {
		return err
	}
	for _, v := range r.volumes {
		if err := v.inventory(ctx, found); err != nil {
			return err
		}
	}
	return nil
}

// refresh brings the volumes and the disks together.
func (r *Recorder) refresh(ctx context.Context) error {
	if r.closed {
		return fmt.Errorf("list %s: %w", r.name(), os.ErrClosed)
	}
	slots := layout(r.config.Disks())
	var kept []*volume
	for _, v := range r.volumes {
		i := slices.IndexFunc(slots, func(s slot) bool { return s.same(v.slot) })
		if i < 0 && v.mount != nil || v.node.left() {
			for _, s := range slots {
				s.node.close()
			}
			return fmt.Errorf("%s (%s) is not there any more: %w", v.key, v.node.name, device.ErrRemoved)
		}
		if i >= 0 && (v.err == nil || errors.Is(v.err, device.ErrNeedsPerson)) {
			slots[i].node.close()
			slots = slices.Delete(slots, i, i+1)
			kept = append(kept, v)
			continue
		}
		// Not readable the last time, for a reason that may have passed; or what
		// seemed a whole disk is shown with its partitions now.
		v.node.close()
	}
	r.volumes = kept
	for _, s := range slots {
		v := openVolume(ctx, s, r.config)
		v.prefixed = r.prefixed || r.bare() != nil
		v.key = r.unusedName(v.key)
		r.volumes = append(r.volumes, v)
	}
	return ctx.Err()
}

// bare is the volume whose paths are as on the card, if there is such a one.
func (r *Recorder) bare() *volume {
	i := slices.IndexFunc(r.volumes, func(v *volume) bool { return !v.prefixed && v.mount != nil })
	if i < 0 {
		return nil
	}
	return r.volumes[i]
}

// unusedName makes sure that the paths of a volume which came later are none of
// the first one's.
func (r *Recorder) unusedName(name string) string {
	bare := r.bare()
	for bare != nil {
		if _, err := bare.mount.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name += "+"
		if len(name) > 200 {
			break // a name that long is on no card
		}
	}
	return name
}

// Open implements device.Recorder.
func (r *Recorder) Open(ctx context.Context, e device.Entry, offset int64) (device.File, error) {
	name, rest, _ := strings.Cut(e.Path, "/")
	v := r.bare()
	for _, other := range r.volumes {
		if other.prefixed && other.key == name {
			v, e.Path = other, rest
		}
	}
	if v == nil || v.files == nil || r.closed {
		return nil, fmt.Errorf("open %q on the recorder: no volume that can be read has it: %w", e.Path, fs.ErrNotExist)
	}
	return v.files.Open(ctx, e, offset)
}

// Close implements device.Recorder: it unmounts everything and waits until the
// kernel has let go of the disks. They stay read-only until they are unplugged.
// After an error, such as for files that are still open, it can be called again.
func (r *Recorder) Close() error {
	r.closed = true
	var errs []error
	for _, v := range r.volumes {
		errs = append(errs, v.close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("release %s: %w", r.name(), err)
	}
	return nil
}
