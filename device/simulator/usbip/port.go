package usbip

import (
	"context"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// lookAgain is how often the status file is read while the kernel takes a device
// away. sysfs gives no event for it.
const lookAgain = 10 * time.Millisecond

// Port is one socket of the controller, into which one gadget after the other is
// plugged. A recorder that changes its mode does so by leaving and coming back in
// the same socket:
//
//	port := usbip.NewPort(usbip.Controller{}, 0)
//	config.Switch = func() { switched <- port.Replace(ctx, disk, time.Second) }
//	err := port.Plug(ctx, textgadget.New(config))
//
// It may be used from any goroutine.
type Port struct {
	controller Controller
	number     int
	turn       chan struct{} // held while link changes
	link       *Link
}

// NewPort is the port of c with that number.
func NewPort(c Controller, number int) *Port {
	return &Port{controller: c, number: number, turn: make(chan struct{}, 1)}
}

// Plug plugs fn in, as soon as the kernel has taken away what was there before.
func (p *Port) Plug(ctx context.Context, fn gadget.Function) error {
	return p.change(ctx, func() error { return p.plug(ctx, fn) })
}

// Unplug pulls what is plugged in, and waits until the kernel has taken it away.
func (p *Port) Unplug(ctx context.Context) error {
	return p.change(ctx, func() error { return p.pull(ctx) })
}

// Replace pulls what is plugged in, waits until the kernel has taken it away and the
// pause has passed, as a recorder needs some time to start in its other mode, and
// plugs fn into the same port.
func (p *Port) Replace(ctx context.Context, fn gadget.Function, pause time.Duration) error {
	return p.change(ctx, func() error {
		if err := p.pull(ctx); err != nil {
			return err
		}
		if err := wait(ctx, pause); err != nil {
			return fmt.Errorf("virtual USB port %d is empty: %w", p.number, err)
		}
		return p.plug(ctx, fn)
	})
}

// Link is what is plugged in, or was last. Nil before the first.
func (p *Port) Link() *Link {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	return p.link
}

func (p *Port) change(ctx context.Context, do func() error) error {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("virtual USB port %d is being changed: %w", p.number, ctx.Err())
	}
	defer func() { <-p.turn }()
	return do()
}

func (p *Port) plug(ctx context.Context, fn gadget.Function) error {
	if p.link != nil {
		select {
		case <-p.link.pulled:
		default:
			return fmt.Errorf("virtual USB port %d: something is plugged in; pull it first", p.number)
		}
	}
	if err := p.empty(ctx); err != nil {
		return err
	}
	link, err := p.controller.Attach(fn, p.number)
	if err != nil {
		return err
	}
	p.link = link
	return nil
}

func (p *Port) pull(ctx context.Context) error {
	if p.link != nil {
		p.link.Unplug()
	}
	return p.empty(ctx)
}

// empty waits until the kernel shows the port as free.
func (p *Port) empty(ctx context.Context) error {
	for {
		s, err := p.controller.Status(p.number)
		if err != nil {
			return err
		}
		if s.Free {
			return nil
		}
		if err := wait(ctx, lookAgain); err != nil {
			return fmt.Errorf("virtual USB port %d is not free: %w", p.number, err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
