//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/massstorage"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// drive has the driver read, as a session would, but no more than was asked for.
func drive(d wire.Drive) (_ any, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	find := func() []usb.Disk {
		devices, err := usb.Scan("/sys")
		if err != nil {
			return nil // seen by Open, as no disk
		}
		for _, found := range devices {
			if found.Serial == d.Serial {
				return found.Disks
			}
		}
		return nil
	}
	for len(find()) == 0 { // a disk comes some time after its device
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("device %s has no disk", d.Serial)
		case <-time.After(50 * time.Millisecond):
		}
	}
	recorder, err := massstorage.Open(ctx, massstorage.Config{Disks: find, Zone: time.FixedZone("", 8*3600)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, recorder.Close()) }()
	driven := wire.Driven{Sizes: map[string]int64{}}
	var wanted device.Entry
	err = recorder.Inventory(ctx, func(e device.Entry) error {
		if e.Err != nil {
			return e.Err
		}
		if e.Kind == device.KindFile {
			driven.Sizes[e.Path] = e.Size
		}
		if e.Path == d.Path {
			wanted = e
		}
		return nil
	})
	if err != nil || d.Path == "" {
		return driven, err
	}
	f, err := recorder.Open(ctx, wanted, d.Offset)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	driven.Data = make([]byte, d.Length)
	_, err = io.ReadFull(f, driven.Data)
	return driven, err
}

// free tells whether nobody has a disk mounted or claimed: the kernel refuses to
// open it exclusively otherwise.
func free(n wire.Name) (any, error) {
	fd, err := unix.Open(n.Name, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return false, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return true, unix.Close(fd)
}
