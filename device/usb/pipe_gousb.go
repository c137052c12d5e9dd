//go:build cgo

package usb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/gousb"
	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

// openLimit bounds the tries of OpenPipe: udev sets the rights of a node some time
// after the device has come, and a new libusb context can miss a device while
// others are being enumerated.
const (
	openLimit = 5 * time.Second
	openEvery = 200 * time.Millisecond
)

// errNotListed is a device that sysfs has and libusb does not show.
var errNotListed = errors.New("libusb does not list it")

// OpenPipe claims an interface of a device, taking it from the kernel's driver if
// one has it; Close gives it back. It is tried for a few seconds, since a device
// that has just come may not be ready for it; ctx is heeded between the tries.
//
// The error is device.ErrRemoved if the device is no longer there, and
// fs.ErrPermission if its node may not be opened.
func OpenPipe(ctx context.Context, d Device, iface int) (Pipe, error) {
	limit, stop := context.WithTimeout(ctx, openLimit)
	defer stop()
	for {
		p, err := openPipe(d, iface)
		if err == nil {
			return p, nil
		}
		err = fmt.Errorf("open interface %d of the device in port %s (%s): %w", iface, d.Port, nodeOf(d), err)
		if errors.Is(err, device.ErrRemoved) || errors.Is(err, errUseless) {
			return nil, err
		}
		select {
		case <-limit.Done():
			if ctx.Err() != nil {
				err = fmt.Errorf("%w (%w)", err, ctx.Err())
			}
			return nil, err
		case <-time.After(openEvery):
		}
	}
}

// nodeOf is the device's node in devtmpfs.
func nodeOf(d Device) string { return fmt.Sprintf("/dev/bus/usb/%03d/%03d", d.Bus, d.Address) }

func openPipe(d Device, iface int) (_ *pipe, err error) {
	node := nodeOf(d)
	if id, err := identify(d.Path); d.Path != "" && (vanished(err) || (err == nil && id.address != d.Address)) {
		return nil, device.ErrRemoved
	}
	// With the rights that the daemon was given, not those of who started it.
	err = unix.Faccessat(unix.AT_FDCWD, node, unix.R_OK|unix.W_OK, unix.AT_EACCESS)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return nil, noRights(node, err)
	}
	usb, err := newContext()
	if err != nil {
		return nil, err
	}
	p := &pipe{node: node, usb: usb}
	defer func() {
		if err != nil {
			_ = p.release() // the first error tells more
		}
	}()
	// A broken descriptor of any other device makes an error, too, so the error
	// only counts if there is no device.
	opened, err := usb.OpenDevices(func(desc *gousb.DeviceDesc) bool {
		return desc.Bus == d.Bus && desc.Address == d.Address
	})
	for _, other := range opened[min(1, len(opened)):] {
		_ = other.Close() // there are no two with one address
	}
	if len(opened) == 0 {
		if err == nil {
			err = errNotListed
		}
		return nil, explain(node, err)
	}
	p.dev = opened[0]
	if err := p.claim(iface); err != nil {
		return nil, explain(node, err)
	}
	p.closing, p.close = context.WithCancel(context.Background())
	return p, nil
}

// errUseless says that the interface is not one for a Pipe, however often it is
// tried.
var errUseless = errors.New("it has no such interface with a bulk endpoint each way")

func (p *pipe) claim(iface int) error {
	if err := p.dev.SetAutoDetach(true); err != nil {
		return fmt.Errorf("take it from the kernel: %w", err)
	}
	number, err := p.dev.ActiveConfigNum()
	if err != nil {
		return fmt.Errorf("ask for its configuration: %w", err)
	}
	config := p.dev.Desc.Configs[number]
	i := slices.IndexFunc(config.Interfaces, func(i gousb.InterfaceDesc) bool { return i.Number == iface })
	if i < 0 || iface < 0 || iface > 255 {
		return errUseless
	}
	wanted := config.Interfaces[i]
	in, out, setting := bulk(wanted)
	if setting < 0 {
		return errUseless
	}
	// gousb takes all interfaces of a configuration from the kernel: a recorder's
	// disks would go when its command interface is opened. And it finds an
	// interface by its place in this list, though devices may number theirs with
	// gaps. So it gets to see the one interface only, in each place.
	config.Interfaces = slices.Repeat([]gousb.InterfaceDesc{wanted}, iface+1)
	p.dev.Desc.Configs[number] = config
	if p.config, err = p.dev.Config(number); err != nil {
		return fmt.Errorf("use configuration %d: %w", number, err)
	}
	if p.iface, err = p.config.Interface(iface, setting); err != nil {
		return fmt.Errorf("claim it: %w", err)
	}
	if p.in, err = p.iface.InEndpoint(in.Number); err != nil {
		return err
	}
	if p.out, err = p.iface.OutEndpoint(out.Number); err != nil {
		return err
	}
	p.number = iface
	return nil
}

// bulk finds the first setting of an interface that has bulk endpoints both ways;
// it is -1 if none has.
func bulk(i gousb.InterfaceDesc) (in, out gousb.EndpointDesc, setting int) {
	for _, s := range i.AltSettings {
		found := map[gousb.EndpointDirection]gousb.EndpointDesc{}
		for _, e := range s.Endpoints {
			first, known := found[e.Direction]
			usable := e.TransferType == gousb.TransferTypeBulk && e.MaxPacketSize > 0
			if usable && (!known || e.Number < first.Number) {
				found[e.Direction] = e
			}
		}
		if len(found) == 2 {
			return found[gousb.EndpointDirectionIn], found[gousb.EndpointDirectionOut], s.Alternate
		}
	}
	return in, out, -1
}

// Available tells why libusb can't be used here, or nil. It does not need a device
// to be there, and never panics.
func Available() error {
	usb, err := newContext()
	if err != nil {
		return err
	}
	// Broken descriptors of a device are that device's matter.
	_, _ = usb.OpenDevices(func(*gousb.DeviceDesc) bool { return false })
	if err := usb.Close(); err != nil {
		return fmt.Errorf("end libusb: %w", err)
	}
	return nil
}

// newContext starts libusb, which panics by the hand of gousb where there is no
// USB. Each pipe has a context of its own: without udev an older one never learns
// of new devices.
func newContext() (usb *gousb.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("libusb does not start, so only recorders that are disks can be read: "+
				"load the USB driver (modprobe xhci_pci) or, in a container, pass it /dev/bus/usb: %v", r)
		}
	}()
	return gousb.NewContext(), nil
}
