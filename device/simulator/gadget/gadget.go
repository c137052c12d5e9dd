// Package gadget is the device side of USB in software: descriptors, control
// requests and endpoint queues of a simulated recorder. Package usbip plugs a
// gadget into a Linux kernel; Pipe connects it to a driver in the same process.
// Both work on a Device, so that a driver meets the same packets either way.
//
// What a simulated recorder answers is in the functions: ptpgadget, textgadget,
// diskgadget.
package gadget

import (
	"errors"
	"io"
)

// ErrStall makes the endpoint answer STALL when a Function returns it.
var ErrStall = errors.New("stall")

// Descriptors say what a gadget is (USB 2.0 §9.6).
type Descriptors struct {
	Vendor, Product, Release          uint16
	Manufacturer, ProductName, Serial string
	Interfaces                        []Interface
}

// Interface is one interface with its endpoints.
type Interface struct {
	Class, SubClass, Protocol uint8
	Endpoints                 []Endpoint
}

// Endpoint of an interface. Address has bit 7 set for IN. PacketSize is for high
// speed: 512 with bulk endpoints.
type Endpoint struct {
	Address    uint8
	Interrupt  bool // else bulk
	PacketSize int
}

// Setup is a control request (USB 2.0 §9.3).
type Setup struct {
	RequestType, Request uint8
	Value, Index, Length uint16
}

// Function is what a gadget does. Its methods are called one at a time.
type Function interface {
	Descriptors() Descriptors
	// Control answers a class or vendor request; out is the data stage of an OUT
	// request. An error makes endpoint 0 stall. Standard requests are answered by
	// Device; after those that start an endpoint anew, CLEAR_FEATURE(ENDPOINT_HALT),
	// SET_CONFIGURATION and SET_INTERFACE, it calls Control as well, so that a
	// function learns of it, and ignores what it says.
	Control(setup Setup, out []byte) ([]byte, error)
	// Out takes one transfer that the host sent to an OUT endpoint. What it has to
	// say goes to the Queue. ErrStall halts the endpoint. A transfer is what the
	// host hands over at once: a long message may come in several, and the
	// zero-length packet behind one that fills its last packet comes as a transfer
	// without data. The bytes are the function's to keep.
	Out(q Queue, endpoint uint8, data []byte) error
}

// Plugger is a Function that wants to know when it is plugged in, before anything
// else is asked of it. It is then as after power on, and may use q until unplugged.
type Plugger interface {
	Plugged(q Queue)
}

// Queue is where a Function puts what the host will read. It may be used from any
// goroutine and after the call that it was given to. An endpoint that is not there
// takes nothing.
type Queue interface {
	// Send queues one message of n bytes from r on an IN endpoint. It ends with a
	// short packet; a message that fills its last packet is followed by a
	// zero-length one. r is read when the host asks for the bytes, in a goroutine of
	// its own. Where it ends or fails before n bytes the endpoint halts there, and
	// what is queued behind comes after the halt was cleared. If r has a method
	// Sent(), it is called when the host has taken the whole message; it must not
	// wait for the gadget to be unplugged.
	Send(endpoint uint8, r io.Reader, n int64)
	// SendCounted is Send without the zero-length packet, for protocols in which the
	// host knows the length beforehand, as mass storage.
	SendCounted(endpoint uint8, r io.Reader, n int64)
	// Halt makes the endpoint stall until the host clears it: an IN endpoint behind
	// what is queued on it (Drop first for at once), an OUT endpoint at once.
	Halt(endpoint uint8)
	// Drop forgets all that is queued on an IN endpoint, as a transaction that was
	// cancelled does. It does not end a halt.
	Drop(endpoint uint8)
	// Unplug takes the gadget off the bus, as a pulled cable does. What was not read
	// is lost.
	Unplug()
	// Unplugged is closed when the gadget is off the bus, whoever pulled it.
	Unplugged() <-chan struct{}
}
