// Package dock makes a recorder of what is plugged into a slot: it tells recorders
// from other things, finds the profile of their make, unlocks those that must be,
// and opens them as disks or over PTP, read-only.
//
// It stands between package usb, which sees a device, and the session, which gets
// a device.Docking. What is no recorder, and what the station's policy refuses, is
// never opened nor mounted.
package dock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/massstorage"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/device/ptp"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

const (
	// diskWithin is how long the disk of a device that says to have one may take: the
	// kernel waits a second before it looks, a large card some more.
	diskWithin = time.Minute
	// switchWithin is how long a recorder may take to come back as a disk.
	switchWithin = time.Minute
)

// Config is what a station knows of its recorders.
type Config struct {
	Profiles profile.Set
	Zone     *time.Location // of the station
	// Register looks a serial number up: the profile that is noted there, which may be
	// empty, and whether it is there at all.
	Register func(ctx context.Context, serial string) (profile string, there bool, err error)
	// RefuseUnregistered leaves what nobody knows unopened.
	RefuseUnregistered bool
	Passwords          vendorcmd.Passwords
	Refusals           Refusals
	// SetClocks allows what profiles allow. MaySetClock is asked right before a clock
	// is set by command, which comes before the footage is read; its error says why
	// not.
	SetClocks   bool
	MaySetClock func() error
	// OpenPipe opens an interface; nil: usb.OpenPipe.
	OpenPipe func(ctx context.Context, d usb.Device, iface int) (usb.Pipe, error)
}

// Refusals remembers over restarts which password a recorder has refused: some
// lock themselves up after a few wrong ones.
type Refusals interface {
	PasswordRefused(ctx context.Context, recorder, password string) error
	WasPasswordRefused(ctx context.Context, recorder, password string) (bool, error)
}

// Docking is what a session needs of a device in a slot.
func (c *Config) Docking(p *usb.Plug) device.Docking {
	o := &opening{Config: c, plug: p}
	return device.Docking{Slot: p.Slot(), Open: o.open, Removed: p.Removed(), Stays: true}
}

// opening is one docking over all tries to open it.
type opening struct {
	*Config
	plug    *usb.Plug
	profile *profile.Profile // nil: none is known
	// registered says that the register has the serial number that USB shows.
	registered bool
	// told is what the recorder told by command; nil: it was not asked. It is kept,
	// since it can't be asked again once it is a disk.
	told *told
}

// told is what was learned, and done, before a recorder became a disk.
type told struct {
	identity vendorcmd.Identity
	clock    device.ClockReading
	battery  *int
	set      *device.ClockSetting
	notSet   error
}

func (o *opening) open(ctx context.Context) (device.Recorder, error) {
	d := o.plug.Device()
	if o.told == nil {
		if err := o.recognise(ctx, d); err != nil {
			return nil, err
		}
		if o.profile != nil && o.profile.Commands != nil {
			if n, ok := o.profile.Commands.Interface.In(d); ok {
				if err := o.unlock(ctx, d, n); err != nil {
					return nil, fmt.Errorf("unlock %s: %w", called(d), err)
				}
			}
		}
	}
	if o.overPTP(d) {
		return o.openPTP(ctx, d)
	}
	return o.openDisks(ctx)
}

// recognise finds the profile, and refuses what is not to be opened.
func (o *opening) recognise(ctx context.Context, d usb.Device) error {
	noted := ""
	if o.Register != nil && d.Serial != "" {
		var err error
		if noted, o.registered, err = o.Register(ctx, d.Serial); err != nil {
			return err
		}
	}
	var known bool
	if noted == "" {
		o.profile, known = o.Profiles.ForUSB(d)
	} else if o.profile, known = o.Profiles.Named(noted); !known {
		return fmt.Errorf("%s: the register names the profile %q, which does not exist: %w: `ingestd recorders profiles` lists them", called(d), noted, device.ErrNeedsPerson)
	}
	if !known {
		o.profile = nil
	}
	commands := known && o.profile.Commands != nil
	if !commands && !d.Has(usb.ClassImage, 1) && !hasDisks(d) {
		return fmt.Errorf("%s has neither a disk nor a camera interface: %w", called(d), device.ErrNotARecorder)
	}
	if o.RefuseUnregistered && !o.registered && (!known || o.profile.Match.Any) {
		return fmt.Errorf("%s: its serial number is %s: %w: nothing of it was opened; add it with `ingestd recorders add` and dock it again", called(d), orUnknown(d.Serial), device.ErrUnregistered)
	}
	return nil
}

func hasDisks(d usb.Device) bool {
	for _, i := range d.Interfaces {
		if i.Class == usb.ClassMassStorage {
			return true
		}
	}
	return false
}

// called names a device for people.
func called(d usb.Device) string {
	name := fmt.Sprintf("the device %04x:%04x in port %s", d.Vendor, d.Product, d.Port)
	if d.ProductName != "" {
		name += fmt.Sprintf(" (%s)", d.ProductName)
	}
	return name
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func (o *opening) overPTP(d usb.Device) bool {
	if o.profile != nil {
		return o.profile.Access == profile.PTP
	}
	return d.Has(usb.ClassImage, 1) && !hasDisks(d)
}

func (o *opening) pipe(ctx context.Context, d usb.Device, iface int) (usb.Pipe, error) {
	if o.OpenPipe != nil {
		return o.OpenPipe(ctx, d, iface)
	}
	return usb.OpenPipe(ctx, d, iface)
}

func (o *opening) openPTP(ctx context.Context, d usb.Device) (device.Recorder, error) {
	iface := -1
	for _, i := range d.Interfaces {
		if i.Class == usb.ClassImage && i.SubClass == 1 {
			iface = i.Number
		}
	}
	if iface < 0 {
		return nil, fmt.Errorf("%s: its profile %s says PTP, and it has no such interface: %w: correct the profile, or the register", called(d), o.profile.Name, device.ErrNeedsPerson)
	}
	pipe, err := o.pipe(ctx, d, iface)
	if err != nil {
		return nil, err
	}
	config := ptp.Config{Identity: o.identity(d), Zone: o.Zone}
	if o.profile != nil {
		config.Zone = o.profile.Clock.Zone.Or(o.Zone)
		config.SetClock = o.SetClocks && o.profile.Clock.Set == profile.ByPTP
	}
	r, err := ptp.Open(ctx, pipe, config)
	if err != nil {
		return nil, errors.Join(err, pipe.Close())
	}
	id := r.Identity()
	opened := &recorder{Recorder: r, opening: o, id: id}
	if o.profile != nil {
		opened.identify(profile.Evidence{Device: d, PTP: id})
	}
	return opened, nil
}

func (o *opening) openDisks(ctx context.Context) (device.Recorder, error) {
	waiting, cancel := context.WithTimeout(ctx, diskWithin)
	defer cancel()
	d, err := o.plug.Wait(waiting, func(d usb.Device) bool { return medium(d.Disks) })
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%s showed no disk with a medium within %s: %w: is there a card in it?", called(o.plug.Device()), diskWithin, device.ErrNeedsPerson)
	}
	if err != nil {
		return nil, err
	}
	r, err := massstorage.Open(ctx, massstorage.Config{
		Disks: func() []usb.Disk { return o.plug.Device().Disks }, Identity: o.identity(d), Zone: o.zone(),
	})
	if err != nil {
		return nil, err
	}
	var volumes []profile.Volume
	for _, v := range r.Volumes() {
		volumes = append(volumes, profile.Volume{Label: v.Label, FS: v.FS})
	}
	if o.profile == nil {
		if found, ok := o.Profiles.ForVolumes(volumes, true); ok {
			mounted := o.zone()
			o.profile = found
			if o.zone() != mounted { // its times have been read as those of another zone
				if err := r.Close(); err != nil {
					return nil, err
				}
				return o.openDisks(ctx)
			}
		}
	}
	opened := &recorder{Recorder: r, opening: o, id: r.Identity()}
	if o.profile != nil {
		opened.identify(profile.Evidence{Device: d, Volumes: volumes, Answer: o.answer()})
		if f := o.profile.Clock.File; o.SetClocks && o.profile.Clock.Set == profile.ByFile && f != nil {
			r.SetClockFile(massstorage.ClockFile{Name: f.Path, Layout: f.Format})
		}
	}
	r.SetIdentity(opened.id)
	return opened, nil
}

func medium(disks []usb.Disk) bool {
	for _, d := range disks {
		if d.Size > 0 {
			return true
		}
	}
	return false
}

func (o *opening) zone() *time.Location {
	if o.profile != nil {
		return o.profile.Clock.Zone.Or(o.Zone)
	}
	return o.Zone
}

func (o *opening) answer() vendorcmd.Identity {
	if o.told == nil {
		return vendorcmd.Identity{}
	}
	return o.told.identity
}

// identity is what is known before the recorder is opened. The serial number of the
// USB descriptor is not in it: it may be a card reader's, or one that the maker of
// the chip gave to all, and only a profile or the register says that it is not.
func (o *opening) identity(d usb.Device) device.Identity {
	id := device.Identity{Place: d.Port}
	if o.registered {
		id.Serial = device.Told("USB serial number, as in the register", d.Serial)
	}
	if o.profile != nil {
		id.Profile = o.profile.Name
	}
	return id
}
