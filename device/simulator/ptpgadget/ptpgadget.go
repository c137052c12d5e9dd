// Package ptpgadget is the inside of a simulated recorder that speaks PTP and MTP: a
// responder with objects, a clock, a battery, and faults. It is a function of package
// gadget, which puts it on a bus, in a kernel or in the same process; the driver of
// package ptp is what it is there to be tried with.
//
// It keeps to PIMA 15740:2000, MTP 1.1 and the USB Still Image Capture Device
// Definition 1.0 where it is not told to do otherwise, and has its own code for their
// formats, so that a mistake in the driver's isn't repeated here.
package ptpgadget

import (
	"encoding/binary"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// Endpoint addresses, and what a bulk endpoint carries at high speed.
const (
	In         = 0x81
	Out        = 0x02
	Events     = 0x83
	packetSize = 512
)

// Recorder describes what is simulated. The zero value is a recorder without stores,
// with all operations, a right clock in UTC that tells no zone, and no battery.
type Recorder struct {
	// Vendor and Product of the USB descriptor; 0 is 1209:ca01.
	Vendor, Product uint16
	// USBSerial is that of the descriptor, Serial that of DeviceInfo.
	USBSerial, Serial            string
	Manufacturer, Model, Version string
	Stores                       []Store
	Clock                        Clock
	Battery                      Battery
	// Without are operations that it neither lists nor knows.
	Without []uint16
	// Pretends are operations of those that it lists nevertheless.
	Pretends []uint16
	// SessionOpen: someone left a session open.
	SessionOpen bool
	// Root is how it understands the parent of GetObjectHandles.
	Root Root
	// SplitHeader sends the header of a data phase as a transfer of its own.
	SplitHeader bool
	// NoEmptyPacket leaves out the zero-length packet behind a full one.
	NoEmptyPacket bool
	// SizeModulo gives sizes in ObjectInfo modulo 4 GiB.
	SizeModulo bool
	// IgnoresCancel sends data to their end; cancel and status requests stall.
	IgnoresCancel bool
	// BusyAfterCancel is how many status requests are answered with busy.
	BusyAfterCancel int
	// WrongPart makes GetPartialObject give other bytes than the object has.
	WrongPart bool
	Faults    []Fault
}

// Root is how a recorder understands the parent of GetObjectHandles.
type Root int

// The ways that were seen. By the specification 0xffffffff is the root and 0 is all
// objects.
const (
	RootAsSpecified Root = iota
	RootByZero           // 0 is the root, 0xffffffff is refused
	RootEither           // both are the root, as in QEMU
	RootListsAll         // 0xffffffff gives all objects
)

// Counts is what the host did.
type Counts struct {
	Commands map[uint16]int // by operation
	// Opens are sessions opened, Cancels are Cancel Requests.
	Opens, Cancels int
	// Set are the values that DateTime was set to.
	Set []string
	// Data are bytes of data phases that were taken, without headers.
	Data int64
}

// Gadget is the function.
type Gadget struct {
	cfg Recorder

	// data is counted by readers, in goroutines of their own.
	data atomic.Int64

	// mu guards what follows against Counts and Change; the methods of a Function are
	// called one at a time anyway.
	mu       sync.Mutex
	queue    gadget.Queue
	counts   Counts
	objects  map[uint32]*Object
	store    map[uint32]uint32 // of each handle
	parent   map[uint32]uint32
	session  bool
	last     uint32 // transaction
	command  []byte // waits for its data
	incoming []byte
	halted   bool
	busy     int // status requests still to be answered so
	offset   time.Duration
	faults   []*fault
	late     []func() // answers that come before the next one
}

var (
	_ gadget.Function = (*Gadget)(nil)
	_ gadget.Plugger  = (*Gadget)(nil)
)

// New makes a recorder. Objects without a handle are given one.
func New(cfg Recorder) *Gadget {
	g := &Gadget{cfg: cfg, session: cfg.SessionOpen, offset: cfg.Clock.Offset}
	g.counts.Commands = map[uint16]int{}
	g.setFaults(cfg.Faults)
	g.index()
	return g
}

// Counts tells what the host has done so far.
func (g *Gadget) Counts() Counts {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.counts
	c.Commands = maps.Clone(c.Commands)
	c.Set = append([]string(nil), c.Set...)
	c.Data = g.data.Load()
	return c
}

// Change changes the recorder between two operations of the host: its objects, its
// faults.
func (g *Gadget) Change(change func(*Recorder)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cfg.Faults = nil
	change(&g.cfg)
	if g.cfg.Faults != nil {
		g.setFaults(g.cfg.Faults)
	}
	g.index()
}

// Descriptors implements gadget.Function.
func (g *Gadget) Descriptors() gadget.Descriptors {
	d := gadget.Descriptors{
		Vendor: g.cfg.Vendor, Product: g.cfg.Product, Release: 0x0100,
		Manufacturer: g.cfg.Manufacturer, ProductName: g.cfg.Model, Serial: g.cfg.USBSerial,
		Interfaces: []gadget.Interface{{Class: 6, SubClass: 1, Protocol: 1, Endpoints: []gadget.Endpoint{
			{Address: In, PacketSize: packetSize},
			{Address: Out, PacketSize: packetSize},
			{Address: Events, Interrupt: true, PacketSize: 28},
		}}},
	}
	if d.Vendor == 0 && d.Product == 0 {
		d.Vendor, d.Product = 0x1209, 0xca01
	}
	return d
}

// Plugged implements gadget.Plugger: a recorder that comes back has no session.
func (g *Gadget) Plugged(q gadget.Queue) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue, g.session, g.command, g.incoming, g.halted, g.late = q, g.cfg.SessionOpen, nil, nil, false, nil
}

// Control implements gadget.Function with the class requests of the still image class
// (§5.2).
func (g *Gadget) Control(setup gadget.Setup, out []byte) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case setup.RequestType&0x60 == 0: // an endpoint was started anew
		g.halted = false
		return nil, nil
	case g.cfg.IgnoresCancel:
		return nil, gadget.ErrStall
	case setup.RequestType == 0x21 && setup.Request == 0x64:
		if len(out) != 6 || binary.LittleEndian.Uint16(out) != 0x4001 {
			return nil, gadget.ErrStall
		}
		g.counts.Cancels++
		g.busy, g.command, g.incoming = g.cfg.BusyAfterCancel, nil, nil
		g.queue.Drop(In)
		return nil, nil
	case setup.RequestType == 0x21 && setup.Request == 0x66:
		g.session, g.command, g.incoming, g.late = false, nil, nil, nil
		g.queue.Drop(In)
		return nil, nil
	case setup.RequestType == 0xa1 && setup.Request == 0x67:
		return g.status(), nil
	}
	return nil, gadget.ErrStall
}

func (g *Gadget) status() []byte {
	switch {
	case g.halted:
		b := binary.LittleEndian.AppendUint16([]byte{12, 0}, transactionCancelled)
		b = binary.LittleEndian.AppendUint32(b, In)
		return binary.LittleEndian.AppendUint32(b, Out)
	case g.busy > 0:
		g.busy--
		return binary.LittleEndian.AppendUint16([]byte{4, 0}, deviceBusy)
	}
	return binary.LittleEndian.AppendUint16([]byte{4, 0}, ok)
}

// Out implements gadget.Function: containers, each of which may come in several
// transfers.
func (g *Gadget) Out(_ gadget.Queue, _ uint8, data []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.incoming = append(g.incoming, data...)
	if len(g.incoming) < 12 {
		return nil
	}
	length := binary.LittleEndian.Uint32(g.incoming)
	if length < 12 || length > 1<<20 || len(g.incoming) > int(length) {
		g.incoming = nil
		return gadget.ErrStall
	}
	if len(g.incoming) < int(length) {
		return nil
	}
	container := g.incoming
	g.incoming = nil
	switch binary.LittleEndian.Uint16(container[4:]) {
	case 1:
		if binary.LittleEndian.Uint16(container[6:]) == setDevicePropValue {
			g.command = container
			return nil
		}
		return g.run(container, nil)
	case 2:
		command := g.command
		g.command = nil
		if command == nil {
			return gadget.ErrStall
		}
		return g.run(command, container[12:])
	}
	return gadget.ErrStall
}
