package gadget

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrUnplugged says that the gadget is off the bus.
var ErrUnplugged = errors.New("the gadget was unplugged")

// ErrOverflow says that the next packet does not fit into what the host gave room
// for, which a host controller calls babble. Nothing of the packet is lost: the
// host has not acknowledged it.
var ErrOverflow = errors.New("the packet is larger than the room the host gave")

// Device is a Function on a bus. It answers the standard requests and keeps the
// endpoints; whoever carries the packets calls Control, Out and In. All methods may
// be called from any goroutine. It is a Queue for its function.
type Device struct {
	fn   Function
	desc Descriptors
	gone chan struct{} // closed by Unplug

	// calling is held while a method of fn runs: they are called one at a time.
	// It is taken before mu, never after.
	calling sync.Mutex

	// mu guards what follows. It is never held while fn or a reader of fn runs, so
	// that these may use the Queue.
	mu            sync.Mutex
	unplugged     bool
	configuration uint8 // 0: addressed, not configured (USB 2.0 §9.1.1.4)
	endpoints     map[uint8]*endpoint
}

// NewDevice plugs fn in. The error says what its descriptors lack.
func NewDevice(fn Function) (*Device, error) {
	d := &Device{fn: fn, desc: fn.Descriptors(), gone: make(chan struct{}), endpoints: map[uint8]*endpoint{}}
	if len(d.desc.Interfaces) == 0 {
		return nil, errors.New("gadget: the function has no interface; give it one in Descriptors")
	}
	for i, face := range d.desc.Interfaces {
		for _, e := range face.Endpoints {
			switch number := e.Address & 0x0f; {
			case number == 0 || e.Address&0x70 != 0:
				return nil, fmt.Errorf("gadget: interface %d: %#02x is no endpoint address; it is 1 to 15, with bit 7 for IN", i, e.Address)
			case d.endpoints[e.Address] != nil:
				return nil, fmt.Errorf("gadget: interface %d: endpoint %#02x is there twice", i, e.Address)
			case e.PacketSize < 1 || e.PacketSize > 1024:
				return nil, fmt.Errorf("gadget: endpoint %#02x: a packet of %d bytes; it is 1 to 1024", e.Address, e.PacketSize)
			}
			d.endpoints[e.Address] = &endpoint{Endpoint: e, face: i, turn: make(chan struct{}, 1), changed: make(chan struct{})}
		}
	}
	if p, ok := fn.(Plugger); ok {
		d.calling.Lock()
		defer d.calling.Unlock()
		p.Plugged(d)
	}
	return d, nil
}

// Out hands one transfer of the host to the function, and returns when it has
// taken it. zero says that the host ends it with a zero-length packet if data fills
// its last packet. data is the function's from then on. The error is ErrStall,
// ErrUnplugged, or what the function said, and the endpoint is halted then.
func (d *Device) Out(address uint8, data []byte, zero bool) error {
	d.calling.Lock()
	defer d.calling.Unlock()
	d.mu.Lock()
	e := d.endpoints[address]
	err := d.usable(e)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	if err = d.fn.Out(d, address, data); err == nil && zero && len(data) > 0 && len(data)%e.PacketSize == 0 {
		err = d.fn.Out(d, address, nil)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unplugged {
		return ErrUnplugged // the acknowledgement went to nobody
	}
	if err != nil {
		e.halted = true
	}
	return err
}

// usable says why nothing can be sent to or from e just now. Called with mu held.
func (d *Device) usable(e *endpoint) error {
	switch {
	case d.unplugged:
		return ErrUnplugged
	case e == nil || d.configuration == 0 || e.halted:
		return ErrStall
	}
	return nil
}

// In reads one transfer from an IN endpoint: until p is full or a short packet
// came. The count is right with an error as well: these bytes were transferred and
// do not come again. Errors are ErrStall, ErrUnplugged, ErrOverflow and that of ctx.
func (d *Device) In(ctx context.Context, address uint8, p []byte) (int, error) {
	d.mu.Lock()
	e := d.endpoints[address]
	d.mu.Unlock()
	if e == nil || address&0x80 == 0 {
		return 0, ErrStall
	}
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	t := transfer{p: p}
	for {
		d.mu.Lock()
		done, err := d.move(e, &t)
		changed := e.changed
		d.mu.Unlock()
		for _, r := range t.taken {
			r.Sent()
		}
		t.taken = nil
		if done || err != nil {
			return t.n, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return t.n, ctx.Err()
		}
	}
}

// Send implements Queue.
func (d *Device) Send(address uint8, r io.Reader, n int64) {
	d.queue(address, &message{r: r, size: n, left: n})
}

// SendCounted implements Queue.
func (d *Device) SendCounted(address uint8, r io.Reader, n int64) {
	if n == 0 {
		return // not even a packet
	}
	d.queue(address, &message{r: r, size: n, left: n, counted: true})
}

// Halt implements Queue.
func (d *Device) Halt(address uint8) {
	d.queue(address, &message{halt: true})
}

func (d *Device) queue(address uint8, m *message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.endpoints[address]
	switch {
	case e == nil || d.unplugged:
		return
	case address&0x80 == 0:
		e.halted = e.halted || m.halt
		return
	}
	e.queued = append(e.queued, m)
	e.settle()
	e.signal()
}

// Drop implements Queue.
func (d *Device) Drop(address uint8) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.endpoints[address]; e != nil {
		e.queued = nil
		e.signal()
	}
}

// Unplug implements Queue. A second time it does nothing.
func (d *Device) Unplug() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unplugged {
		return
	}
	d.unplugged = true
	close(d.gone)
	for _, e := range d.endpoints {
		e.queued = nil
		e.signal()
	}
}

// Unplugged implements Queue.
func (d *Device) Unplugged() <-chan struct{} { return d.gone }

// Descriptors are those of the function when it was plugged in.
func (d *Device) Descriptors() Descriptors { return d.desc }
