package ptp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
)

const (
	// classOut and classIn are the request types of class requests to an interface
	// (USB 2.0 §9.3).
	classOut uint8 = 0x21
	classIn  uint8 = 0xa1
	// quiet is how long nothing must come before a cancelled data phase is taken to
	// have ended.
	quiet = 100 * time.Millisecond
)

// abandon ends a transaction whose data are not wanted any more, and returns cause,
// joined with what went wrong in that.
func (l *link) abandon(t *transaction, cause error) error {
	t.ended = true
	if l.dead != nil {
		return errors.Join(cause, l.dead)
	}
	return errors.Join(cause, l.cancel(t))
}

// cancel is Cancel Request of the USB Still Image Capture Device Definition 1.0
// §5.2.1: tell the recorder, take what is on the way, wait until its status is OK.
// It does not depend on the context of the operation, which may have ended. A
// recorder that does not know the request sends its data to the end: they are taken
// as long as they come.
func (l *link) cancel(t *transaction) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	l.dirty = true
	request := binary.LittleEndian.AppendUint16(nil, CancelCode)
	request = binary.LittleEndian.AppendUint32(request, t.id)
	if _, err := l.control(ctx, classOut, ReqCancel, request); err != nil && !errors.Is(err, usb.ErrStall) {
		return l.kill(err)
	}
	for deadline := time.Now().Add(l.patience); ; {
		came, err := l.drain(ctx)
		if err != nil {
			return l.kill(err)
		}
		if came {
			deadline = time.Now().Add(l.patience)
			continue
		}
		atRest, err := l.status(ctx)
		if err != nil {
			return l.kill(err)
		}
		if atRest {
			return nil
		}
		if time.Now().After(deadline) {
			return l.kill(fmt.Errorf("the recorder does not come to rest within %s after %s was cancelled", l.patience, opName(t.op)))
		}
	}
}

// recover ends a stall: status first, since the recorder tells there which endpoints
// are halted, then both are cleared, for not all tell (§7.2.1.3).
func (l *link) recover(ctx context.Context) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), l.patience)
	defer stop()
	l.dirty = true
	for {
		atRest, err := l.status(ctx)
		if err == nil {
			err = errors.Join(l.pipe.ClearHalt(true), l.pipe.ClearHalt(false))
		}
		if err != nil {
			return l.kill(err)
		}
		if atRest {
			return nil
		}
		select {
		case <-time.After(busyWait):
		case <-ctx.Done():
			return l.kill(fmt.Errorf("the recorder does not come to rest within %s after a stall", l.patience))
		}
	}
}

// drain takes what is on the way until nothing more comes. That a cancelled receive
// loses bytes does no harm: they are thrown away.
func (l *link) drain(ctx context.Context) (came bool, err error) {
	short, stop := context.WithTimeout(ctx, quiet)
	defer stop()
	n, err := l.pipe.Receive(short, l.buf)
	switch {
	case errors.Is(err, device.ErrRemoved):
		return false, err
	case errors.Is(err, usb.ErrStall):
		return false, l.pipe.ClearHalt(true)
	case err != nil && short.Err() == nil:
		return false, err
	}
	return n > 0, nil
}

// status asks with Get Device Status (§5.2.4) whether the recorder can take the next
// operation. One that does not know the request is taken at its silence.
func (l *link) status(ctx context.Context) (atRest bool, err error) {
	answer := make([]byte, 64)
	n, err := l.control(ctx, classIn, ReqDeviceStatus, answer)
	switch {
	case errors.Is(err, usb.ErrStall):
		return true, nil
	case err != nil:
		return false, err
	case n < 4:
		return true, nil
	}
	switch binary.LittleEndian.Uint16(answer[2:]) {
	case RespDeviceBusy:
		return false, nil
	case RespCancelled: // with the endpoints that it has halted
		return false, errors.Join(l.pipe.ClearHalt(true), l.pipe.ClearHalt(false))
	}
	return true, nil
}

func (l *link) control(ctx context.Context, kind, request uint8, data []byte) (int, error) {
	limited, stop := context.WithTimeout(ctx, l.patience)
	defer stop()
	n, err := l.pipe.Control(limited, kind, request, 0, data)
	if err != nil {
		return n, fmt.Errorf("class request 0x%02x: %w", request, err)
	}
	return n, nil
}

// kill makes the link unusable: what comes next can't be told from what was cut off.
func (l *link) kill(err error) error {
	if errors.Is(err, device.ErrRemoved) {
		l.dead = err
	} else {
		l.dead = fmt.Errorf("the connection can't be used any more, take the recorder out and dock it again: %w", err)
	}
	return l.dead
}
