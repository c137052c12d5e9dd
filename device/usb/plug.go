package usb

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device"
)

// pollEvery is how often a Plug that is waited for is looked at. The kernel tells
// nobody below /dev/bus/usb of disks and interfaces that come to a device, and it
// is one folder of sysfs, for a few seconds.
const pollEvery = 100 * time.Millisecond

// Plug is one thing plugged into one port, also over re-enumerations that were
// announced by Expect. Its methods may be called from any goroutine.
type Plug struct {
	slot, port string
	tree       *tree
	poke       func() // has the watcher look
	removed    chan struct{}

	mu sync.Mutex
	// device and id are of the enumeration that counts, as last seen.
	device Device
	id     identity
	// expecting says that another enumeration is to come until the time until.
	expecting bool
	until     time.Time
	// turn counts Expects and enumerations: what was read before one of them must
	// not be taken for what came after.
	turn  int
	ended bool
}

// Slot is the name of the socket it is plugged into.
func (p *Plug) Slot() string { return p.slot }

// Removed is closed when the device is gone for good.
func (p *Plug) Removed() <-chan struct{} { return p.removed }

// Device is the device as it is now, with the disks that it has by now; when it is
// gone, as it was last seen.
func (p *Plug) Device() Device {
	p.refresh()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.device
}

// Expect says that the device is about to leave and to come back in this port, as
// one does that is unlocked or switches its mode: that is the same docking. It is
// called before what makes the device leave.
//
// If the device has left and is not back within that time, it is removed. If it
// has not left by then, the expectation ends, and the device counts as it is.
func (p *Plug) Expect(within time.Duration) {
	p.mu.Lock()
	p.expecting, p.until = true, time.Now().Add(within)
	p.turn++
	p.mu.Unlock()
	p.poke() // to be there when the time is over
}

// Wait returns the device as soon as it is as wished, and has been for two looks in
// a row: partitions come a moment after their disk. After Expect it waits for the
// device to come back. ready is called from Wait only.
//
// The error is device.ErrRemoved when the device is gone for good, else the
// context's.
func (p *Plug) Wait(ctx context.Context, ready func(Device) bool) (Device, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last *Device
	for {
		switch d, ok := p.refresh(); {
		case !ok || !ready(d):
			last = nil
		case last != nil && reflect.DeepEqual(*last, d):
			return d, nil
		default:
			last = &d
		}
		select {
		case <-p.removed:
			return Device{}, fmt.Errorf("slot %s, port %s: %w", p.slot, p.port, device.ErrRemoved)
		case <-ctx.Done():
			return Device{}, fmt.Errorf("wait for the device in slot %s, port %s: %w", p.slot, p.port, ctx.Err())
		case <-tick.C:
		}
	}
}

// refresh looks at the port. It reports whether the device that counts is there
// and whole.
func (p *Plug) refresh() (Device, bool) {
	p.mu.Lock()
	turn, ended := p.turn, p.ended
	p.mu.Unlock()
	if ended {
		return Device{}, false
	}
	seen, there := p.tree.look(p.port)
	if !there || seen.unfinished != nil {
		return Device{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || turn != p.turn {
		return Device{}, false
	}
	if !p.meet(seen, true, time.Now()) {
		p.poke() // another one: the watcher ends this docking
		return Device{}, false
	}
	return p.device, p.id == seen.id && !p.expecting
}

// meet takes what a look at the port showed, and reports whether it still is this
// docking. mu is held.
func (p *Plug) meet(seen sighting, there bool, now time.Time) bool {
	whole := there && seen.unfinished == nil
	late := p.expecting && !now.Before(p.until)
	switch {
	case there && seen.id == identity{}:
		return true // not known is not gone
	case there && seen.id == p.id:
		if whole {
			p.device = seen.device
		}
		if late {
			p.expecting = false // it never left
			p.turn++
		}
		return true
	case p.expecting && whole && seen.device.Class != ClassHub:
		// It may be late by now; but it was not given up before it was seen.
		p.device, p.id, p.expecting = seen.device, seen.id, false
		p.turn++
		return true
	default:
		return p.expecting && !late
	}
}
