package gadget

import (
	"context"
	"errors"
	"fmt"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
)

// Pipe is a usb.Pipe to a gadget in the same process, for tests of drivers without
// a kernel. Its transfers go through a Device, and so have the packets that they
// would have on a bus.
type Pipe struct {
	device  *Device
	face    int
	in, out Endpoint // of address 0 where the interface has none
	closed  chan struct{}
	err     error // why it can't be used at all
}

var _ usb.Pipe = (*Pipe)(nil)

// ErrClosed says that the pipe was closed by the driver itself.
var ErrClosed = errors.New("the pipe is closed")

// NewPipe plugs fn in, configures it and claims the interface with the index face.
// What is wrong with its descriptors each method of the Pipe says.
func NewPipe(fn Function, face int) *Pipe {
	p := &Pipe{face: face, closed: make(chan struct{})}
	if p.device, p.err = NewDevice(fn); p.err != nil {
		return p
	}
	faces := p.device.desc.Interfaces
	if face < 0 || face >= len(faces) {
		p.err = fmt.Errorf("gadget: there is no interface %d, only %d of them", face, len(faces))
		return p
	}
	for _, e := range faces[face].Endpoints {
		switch in := e.Address&directionIn != 0; {
		case e.Interrupt:
		case in && p.in.Address == 0:
			p.in = e
		case !in && p.out.Address == 0:
			p.out = e
		}
	}
	_, p.err = p.device.Control(Setup{Request: requestSetConfiguration, Value: configurationValue}, nil)
	return p
}

// Device is the gadget at the other end; nil if it could not be plugged in.
func (p *Pipe) Device() *Device { return p.device }

// Unplug pulls the gadget, as a pulled cable does.
func (p *Pipe) Unplug() {
	if p.device != nil {
		p.device.Unplug()
	}
}

// Send implements usb.Pipe. What the function was busy with when ctx ended, it may
// still take.
func (p *Pipe) Send(ctx context.Context, data []byte, end bool) error {
	if p.err == nil && p.out.Address == 0 {
		return fmt.Errorf("send: interface %d has no bulk OUT endpoint", p.face)
	}
	data = append([]byte(nil), data...) // the function keeps it, the caller uses its own again
	_, err := p.run(ctx, func() ([]byte, error) { return nil, p.device.Out(p.out.Address, data, end) })
	if err != nil {
		return fmt.Errorf("send %d bytes: %w", len(data), err)
	}
	return nil
}

// Receive implements usb.Pipe. A message of which nothing was received when ctx
// ended stays; of one that was under way, n bytes are in data and the rest stays.
// Room for a part of a packet only gives ErrOverflow, as on a bus.
func (p *Pipe) Receive(ctx context.Context, data []byte) (int, error) {
	if p.err == nil && p.in.Address == 0 {
		return 0, fmt.Errorf("receive: interface %d has no bulk IN endpoint", p.face)
	}
	if err := p.unusable(ctx); err != nil {
		return 0, fmt.Errorf("receive: %w", err)
	}
	n, err := p.device.In(ctx, p.in.Address, data)
	if err != nil {
		return n, fmt.Errorf("receive: %w after %d of at most %d bytes", told(err), n, len(data))
	}
	return n, nil
}

// Control implements usb.Pipe.
func (p *Pipe) Control(ctx context.Context, requestType, request uint8, value uint16, data []byte) (int, error) {
	setup := Setup{RequestType: requestType, Request: request, Value: value, Index: uint16(p.face), Length: uint16(len(data))}
	if len(data) > 0xffff {
		return 0, fmt.Errorf("control request %#02x: %d bytes; a request has 65535 at most", request, len(data))
	}
	var out []byte
	if requestType&directionIn == 0 {
		out = append([]byte(nil), data...)
	}
	in, err := p.run(ctx, func() ([]byte, error) { return p.device.Control(setup, out) })
	if err != nil {
		return 0, fmt.Errorf("control request %#02x: %w", request, err)
	}
	if requestType&directionIn == 0 {
		return len(out), nil
	}
	return copy(data, in), nil
}

// ClearHalt implements usb.Pipe.
func (p *Pipe) ClearHalt(in bool) error {
	e := p.out
	if in {
		e = p.in
	}
	if p.err == nil && e.Address == 0 {
		return fmt.Errorf("clear halt: interface %d has no such endpoint", p.face)
	}
	setup := Setup{RequestType: recipientEndpoint, Request: requestClearFeature, Value: featureEndpointHalt, Index: uint16(e.Address)}
	if _, err := p.run(context.Background(), func() ([]byte, error) { return p.device.Control(setup, nil) }); err != nil {
		return fmt.Errorf("clear halt of endpoint %#02x: %w", e.Address, err)
	}
	return nil
}

// PacketSize implements usb.Pipe.
func (p *Pipe) PacketSize() int { return p.in.PacketSize }

// Close implements usb.Pipe. The gadget stays plugged in.
func (p *Pipe) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *Pipe) unusable(ctx context.Context) error {
	if p.err != nil {
		return told(p.err)
	}
	select {
	case <-p.closed:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// run waits for do, which goes through the function, no longer than ctx and the
// gadget last: a function that hangs is one of the things to be tried.
func (p *Pipe) run(ctx context.Context, do func() ([]byte, error)) ([]byte, error) {
	if err := p.unusable(ctx); err != nil {
		return nil, err
	}
	type result struct {
		in  []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		in, err := do()
		done <- result{in, err}
	}()
	select {
	case r := <-done:
		return r.in, told(r.err)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.device.gone:
	}
	return nil, told(ErrUnplugged)
}

// told is an error in the words that a driver knows.
func told(err error) error {
	switch {
	case errors.Is(err, ErrUnplugged):
		return device.ErrRemoved
	case errors.Is(err, ErrStall):
		return usb.ErrStall
	}
	return err
}
