//go:build !cgo

package usb

import (
	"context"
	"errors"
)

var errNoLibusb = errors.New("this ingestd was built without libusb (cgo): " +
	"it reads recorders that are disks, and can't talk to others")

// OpenPipe says that it can't: libusb needs cgo.
func OpenPipe(context.Context, Device, int) (Pipe, error) { return nil, errNoLibusb }

// Available says that libusb is not built in.
func Available() error { return errNoLibusb }
