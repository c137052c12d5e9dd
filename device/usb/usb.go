// Package usb sees what is plugged into the station: which device, in which
// port, with which interfaces and disks. It is the first step of the flow; what
// it sees goes to package dock, which knows recorders from other things.
//
// The truth is read afresh each time: from sysfs, which tells a device's port
// path, numbers, interfaces and block devices without opening it. libusb, through
// gousb, is only used to talk to a device (Pipe).
package usb

import (
	"context"
	"errors"
)

// Device is one USB device as sysfs shows it. Nothing was sent to it to learn
// this.
type Device struct {
	// Port is the path of ports that leads to it, by the kernel's name: 2-1.3 is
	// port 3 of the hub in port 1 of bus 2. It stays the same for a socket and so is
	// what a slot is named by.
	Port    string
	Bus     int
	Address int // changes with each enumeration
	Vendor  uint16
	Product uint16
	// Release is bcdDevice.
	Release uint16
	Class   uint8 // of the device; 0: see the interfaces
	// The strings as the device tells them; empty where it does not.
	Manufacturer, ProductName, Serial string
	// Speed in Mbit/s as sysfs tells it: 1.5, 12, 480, 5000. Empty: unknown.
	Speed      string
	Interfaces []Interface
	// Disks are the block devices below it, in order of their LUNs. They come some
	// time after the device itself.
	Disks []Disk
	// Path is its folder in sysfs.
	Path string
}

// Interface is one function of a device, of the alternate setting in use.
type Interface struct {
	Number                    int
	Class, SubClass, Protocol uint8
}

// Has reports whether the device has an interface of the class and subclass.
func (d Device) Has(class, subclass uint8) bool {
	for _, i := range d.Interfaces {
		if i.Class == class && i.SubClass == subclass {
			return true
		}
	}
	return false
}

// Classes of the USB-IF's list (usb.org, Defined Class Codes).
const (
	ClassImage       = 0x06 // still image: PTP and MTP; subclass 1
	ClassMassStorage = 0x08
	ClassHub         = 0x09
	ClassVendor      = 0xff
)

// Disk is a block device of a USB device.
type Disk struct {
	Name       string // sda
	Node       string // /dev/sda
	LUN        int
	Size       int64 // bytes; 0: no medium in it
	ReadOnly   bool  // write-protected, as the kernel says
	Partitions []Partition
}

// Partition is one partition of a disk as the kernel read its table.
type Partition struct {
	Name string // sda1
	Node string // /dev/sda1
	Size int64  // bytes
}

// Pipe is a claimed interface with its bulk endpoints. All methods take a context
// for its time limit; after a cancelled transfer the pipe can still be used. One
// goroutine uses it at a time. Gone devices give device.ErrRemoved.
type Pipe interface {
	// Send writes all of p to the bulk OUT endpoint, followed by a zero-length
	// packet if end is set and p fills its last packet.
	Send(ctx context.Context, p []byte, end bool) error
	// Receive reads one bulk IN transfer: until p is full or a short packet came.
	Receive(ctx context.Context, p []byte) (int, error)
	// Control is a request on endpoint 0 to the interface, with the interface's
	// number in wIndex. requestType tells direction, type and recipient (USB 2.0
	// §9.3); in an IN request data is filled.
	Control(ctx context.Context, requestType, request uint8, value uint16, data []byte) (int, error)
	// ClearHalt ends the stall of the bulk IN or OUT endpoint.
	ClearHalt(in bool) error
	// PacketSize of the bulk IN endpoint in bytes.
	PacketSize() int
	Close() error
}

// ErrStall says that the device refused a transfer; the endpoint stays halted
// until ClearHalt.
var ErrStall = errors.New("the device refused the transfer (stall)")
