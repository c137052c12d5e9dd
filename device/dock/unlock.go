package dock

import (
	"context"
	"errors"
	"fmt"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

// unlock talks to a recorder that wants commands before it shows its files: it logs
// in, asks who it is and what its clock and battery say, sets the clock if it is
// set so, and makes the recorder a disk.
func (o *opening) unlock(ctx context.Context, d usb.Device, iface int) (err error) {
	commands := *o.profile.Commands
	password, _ := o.Passwords.For(d.Serial, fmt.Sprintf("%04x:%04x", d.Vendor, d.Product), o.profile.Name)
	if err := o.checkPassword(ctx, d, commands, password); err != nil {
		return err
	}
	pipe, err := o.pipe(ctx, d, iface)
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, pipe.Close())
		}
	}()
	talk, err := vendorcmd.New(pipe, commands, password)
	if err != nil {
		return err
	}
	told := &told{}
	if err := o.ask(ctx, talk, told); err != nil {
		return o.refused(ctx, d, password, err)
	}
	if commands.DiskMode == nil {
		o.told = told
		return nil
	}
	o.plug.Expect(switchWithin)
	if err := talk.DiskMode(ctx); err != nil {
		return o.refused(ctx, d, password, err)
	}
	o.told = told
	closed = true
	if err := pipe.Close(); err != nil && !errors.Is(err, device.ErrRemoved) {
		return err
	}
	return nil // openDisks waits for the disk
}

// ask logs in and has the recorder tell what it can. An answer that is odd or missing
// leaves that unknown; it is no reason to leave footage on the recorder.
func (o *opening) ask(ctx context.Context, talk *vendorcmd.Session, told *told) (err error) {
	if err := talk.Login(ctx); err != nil {
		return err
	}
	// The clock first: what is done to a recorder may change it (第十条).
	if told.clock, err = talk.Clock(ctx, o.zone()); ends(ctx, err) {
		return err
	}
	if told.identity, err = talk.Identity(ctx); ends(ctx, err) {
		return err
	}
	if told.battery, err = talk.Battery(ctx); ends(ctx, err) {
		return err
	}
	return o.setByCommand(ctx, talk, told)
}

// ends reports whether nothing more can be said to the recorder.
func ends(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || errors.Is(err, device.ErrRemoved) || errors.Is(err, device.ErrNeedsPerson))
}

// refused remembers a password that the recorder did not take.
func (o *opening) refused(ctx context.Context, d usb.Device, password string, err error) error {
	if errors.Is(err, vendorcmd.ErrRefused) || errors.Is(err, device.ErrNeedsPerson) {
		err = errors.Join(err, o.remember(ctx, d, password))
	}
	return err
}

// checkPassword makes sure that no password is tried on a recorder twice.
func (o *opening) checkPassword(ctx context.Context, d usb.Device, commands vendorcmd.Commands, password string) error {
	if commands.Login == nil || password == "" || d.Serial == "" || o.Refusals == nil {
		return nil
	}
	refused, err := o.Refusals.WasPasswordRefused(ctx, d.Serial, password)
	if err == nil && refused {
		err = fmt.Errorf("it has refused this password before, and is not asked again so that it does not lock itself: %w: correct recorders.passwords_file", device.ErrNeedsPerson)
	}
	return err
}

func (o *opening) remember(ctx context.Context, d usb.Device, password string) error {
	if d.Serial == "" || password == "" || o.Refusals == nil {
		return nil // one without a number can't be told from another
	}
	return o.Refusals.PasswordRefused(context.WithoutCancel(ctx), d.Serial, password)
}

// setByCommand has to come before the recorder becomes a disk, and so before its
// footage is stored. Nothing is lost by it: what such a recorder's clock was worth
// follows from its footage afterwards.
func (o *opening) setByCommand(ctx context.Context, talk *vendorcmd.Session, told *told) error {
	if o.profile.Clock.Set != profile.ByCommand || !o.SetClocks {
		return nil
	}
	if o.MaySetClock != nil {
		told.notSet = o.MaySetClock()
	}
	if told.notSet != nil {
		return nil //nolint:nilerr // the session tells it
	}
	set, err := talk.SetClock(ctx, o.zone())
	switch {
	case ends(ctx, err):
		return err
	case err != nil:
		told.notSet = err
	default:
		told.set = &set
	}
	return nil
}
