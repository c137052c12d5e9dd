// Package gadget is the device side of USB in software: descriptors, control
// requests and endpoint queues of a simulated recorder. Package usbip plugs a
// gadget into a Linux kernel; Pipe connects it to a driver in the same process.
//
// What a simulated recorder answers is in the functions: ptpgadget, textgadget,
// diskgadget.
package gadget

import (
	"errors"
	"io"
)

// ErrStall, returned by a Function, makes the endpoint answer STALL.
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
	// request. Standard requests are answered by Device; it calls Control for
	// CLEAR_FEATURE(ENDPOINT_HALT) as well, so that a function learns of it.
	Control(setup Setup, out []byte) ([]byte, error)
	// Out takes one transfer that the host sent to an OUT endpoint. What it has to
	// say goes to the Queue. ErrStall halts the endpoint.
	Out(q Queue, endpoint uint8, data []byte) error
}

// Queue is where a Function puts what the host will read.
type Queue interface {
	// Send queues one message of n bytes from r on an IN endpoint. It ends with a
	// short packet; a message that fills its last packet is followed by a
	// zero-length one.
	Send(endpoint uint8, r io.Reader, n int64)
	// Halt makes the IN endpoint stall until the host clears it.
	Halt(endpoint uint8)
	// Drop forgets all that is queued on an IN endpoint, as a transaction that was
	// cancelled does.
	Drop(endpoint uint8)
	// Unplug takes the gadget off the bus, as a pulled cable does.
	Unplug()
}
