//go:build cgo

package usb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/gousb"
	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

const (
	// chunk bounds one transfer in the kernel. All devices of a station share the
	// memory for them, 16 MiB if usbcore.usbfs_memory_mb was not raised.
	chunk = 256 << 10
	// controlLimit is how long a device may take for a request (USB 2.0 §9.2.6.1).
	controlLimit = 5 * time.Second
)

// pipe is a Pipe by way of libusb.
type pipe struct {
	node   string
	number int // of the interface
	usb    *gousb.Context
	dev    *gousb.Device
	config *gousb.Config
	iface  *gousb.Interface
	in     *gousb.InEndpoint
	out    *gousb.OutEndpoint

	// closing ends the transfer that Close waits for.
	closing context.Context
	close   context.CancelFunc
	// mu is held during a transfer: libusb may crash when a device is closed
	// before its transfers have ended.
	mu     sync.Mutex
	closed bool
}

var _ Pipe = (*pipe)(nil)

// Send implements Pipe. An empty p with end set is one zero-length packet.
func (p *pipe) Send(ctx context.Context, data []byte, end bool) error {
	packet := p.out.Desc.MaxPacketSize
	rest := data
	return p.transfer(ctx, "send to", func(ctx context.Context) error {
		for len(rest) > 0 {
			part := rest[:min(len(rest), wholePackets(packet))]
			n, err := p.out.WriteContext(ctx, part)
			if err == nil && n < len(part) {
				err = errors.New("the device took only a part")
			}
			if err != nil {
				return fmt.Errorf("after %d of %d bytes: %w", len(data)-len(rest)+n, len(data), err)
			}
			rest = rest[n:]
		}
		if end && len(data)%packet == 0 {
			if _, err := p.out.WriteContext(ctx, nil); err != nil {
				return fmt.Errorf("the end of the transfer: %w", err)
			}
		}
		return nil
	})
}

// Receive implements Pipe. It may have filled a part of data when it fails. data
// should hold whole packets: a packet that does not fit is lost, with an error.
func (p *pipe) Receive(ctx context.Context, data []byte) (n int, err error) {
	err = p.transfer(ctx, "receive from", func(ctx context.Context) error {
		for n < len(data) {
			part := data[n:min(len(data), n+wholePackets(p.PacketSize()))]
			got, err := p.in.ReadContext(ctx, part)
			n += got
			if err != nil {
				return fmt.Errorf("after %d bytes: %w", n, err)
			}
			if got < len(part) {
				return nil
			}
		}
		return nil
	})
	return n, err
}

// wholePackets is how many bytes one transfer may have, without a short packet in
// the middle.
func wholePackets(packet int) int { return max(chunk/packet, 1) * packet }

// Control implements Pipe. libusb can't give it up before its time limit, which
// follows from the deadline of ctx and is never more than five seconds.
func (p *pipe) Control(ctx context.Context, requestType, request uint8, value uint16, data []byte) (n int, err error) {
	if len(data) > math.MaxUint16 {
		return 0, fmt.Errorf("control request %#02x to %s: %d bytes are more than one can have", request, p.node, len(data))
	}
	err = p.transfer(ctx, fmt.Sprintf("control request %#02x to", request), func(ctx context.Context) (err error) {
		limit := controlLimit
		if deadline, ok := ctx.Deadline(); ok {
			limit = min(limit, max(time.Until(deadline), time.Millisecond)) // 0 would be forever
		}
		p.dev.ControlTimeout = limit
		n, err = p.dev.Control(requestType, request, value, uint16(p.number), data)
		n = max(n, 0)
		return err
	})
	return n, err
}

// transfer does one thing at a time with the device, and names what went wrong.
func (p *pipe) transfer(ctx context.Context, what string, do func(context.Context) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("%s %s: the pipe is closed: %w", what, p.node, os.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", what, p.node, err)
	}
	limited, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(p.closing, stop)()
	err := do(limited)
	if err == nil {
		return nil
	}
	err = explain(p.node, err)
	// A transfer that was given up says so by a status of its own, whoever asked.
	switch {
	case errors.Is(err, device.ErrRemoved), errors.Is(err, ErrStall):
	case ctx.Err() != nil:
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	case p.closing.Err() != nil:
		err = fmt.Errorf("%w (%w)", os.ErrClosed, err)
	}
	return fmt.Errorf("%s %s: %w", what, p.node, err)
}

// PacketSize implements Pipe.
func (p *pipe) PacketSize() int { return p.in.Desc.MaxPacketSize }

// The requests of usbdevice_fs, as in the kernel's uapi header of that name; the
// numbers are those of most architectures (asm-generic/ioctl.h).
const (
	usbfsClaimInterface = 0x8004550f
	usbfsClearHalt      = 0x80045515
)

// ClearHalt implements Pipe. Both sides of an endpoint count their packets by a
// toggle, and both must start again (USB 2.0 §9.4.5): after a mere CLEAR_FEATURE
// to the device the host might take its next packet for a repeated one and drop
// it. The kernel does both in one call, which gousb lacks. So it is made here, on
// the file that libusb has open.
func (p *pipe) ClearHalt(in bool) error {
	address := int(p.out.Desc.Address)
	if in {
		address = int(p.in.Desc.Address)
	}
	return p.transfer(context.Background(), fmt.Sprintf("clear the halt of endpoint %#02x of", address),
		func(context.Context) error {
			fd, err := p.file()
			if err != nil {
				return err
			}
			return unix.IoctlSetPointerInt(fd, usbfsClearHalt, address)
		})
}

// file finds the descriptor by which libusb holds the interface.
func (p *pipe) file() (int, error) {
	const open = "/proc/self/fd"
	entries, err := os.ReadDir(open)
	if err != nil {
		return -1, err
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(open, e.Name())); err != nil || target != p.node {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// Another pipe may have the node open for another interface. To claim once
		// more is granted to the holder and refused to all others.
		if unix.IoctlSetPointerInt(fd, usbfsClaimInterface, p.number) == nil {
			return fd, nil
		}
	}
	return -1, errors.New("the open device was not found in " + open)
}

// Close implements Pipe. It ends a transfer that goes on, and waits for that.
func (p *pipe) Close() error {
	p.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if err := p.release(); err != nil {
		return fmt.Errorf("close %s: %w", p.node, err)
	}
	return nil
}

// release gives back what was taken, in the order that libusb wants.
func (p *pipe) release() error {
	if p.iface != nil {
		p.iface.Close()
	}
	var troubles []error
	if p.config != nil {
		troubles = append(troubles, p.config.Close())
	}
	if p.dev != nil {
		troubles = append(troubles, p.dev.Close())
	}
	return errors.Join(append(troubles, p.usb.Close())...)
}

// explain puts libusb's errors into the words of this package. gousb keeps some
// of them only as text.
func explain(node string, err error) error {
	is := func(code gousb.Error) bool { return strings.Contains(err.Error(), code.Error()) }
	var status gousb.TransferStatus
	_ = errors.As(err, &status) // 0 is a completed transfer, which is no error
	switch {
	case is(gousb.ErrorNoDevice), status == gousb.TransferNoDevice, errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w (%w)", device.ErrRemoved, err)
	case is(gousb.ErrorPipe), status == gousb.TransferStall:
		return fmt.Errorf("%w (%w)", ErrStall, err)
	case is(gousb.ErrorTimeout), status == gousb.TransferTimedOut:
		return fmt.Errorf("the device did not answer: %w (%w)", context.DeadlineExceeded, err)
	case is(gousb.ErrorAccess):
		return noRights(node, err)
	case is(gousb.ErrorBusy):
		return fmt.Errorf("another program uses it (gvfs, ModemManager, another ingestd): end that program: %w", err)
	case is(gousb.ErrorNoMem):
		return fmt.Errorf("the kernel has no memory for the transfer: raise usbcore.usbfs_memory_mb: %w", err)
	case is(gousb.ErrorOverflow), status == gousb.TransferOverflow:
		return fmt.Errorf("the device sent more than was asked for: %w", err)
	}
	return err
}

// noRights is in the chain as fs.ErrPermission.
func noRights(node string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("not allowed to use %s: install the udev rule of ingestd, or put its user "+
			"into the group of that node, and plug in again: %w", node, err)
	}
	return noRights(node, fmt.Errorf("%w (%w)", fs.ErrPermission, err))
}
