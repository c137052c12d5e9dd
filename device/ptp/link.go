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
	headerBytes = 12
	// pieceBytes is received at once; a multiple of every packet size.
	pieceBytes = 512 << 10
	// mostData bounds what is held of a data phase that isn't a file: the handles
	// of four million objects.
	mostData = 16 << 20
	// mostDropped bounds what is thrown away while an answer is waited for.
	mostDropped = 64 << 20
	// busyTries bounds how often a recorder that is busy is asked again; the waits
	// between double from busyWait to busyMost, 5 s in all.
	busyTries = 11
	busyWait  = 20 * time.Millisecond
	busyMost  = time.Second
)

// link sends operations to a recorder, one transaction at a time (USB Still Image
// Capture Device Definition 1.0 §7). It has one owner, Recorder, whose lock guards
// it.
type link struct {
	pipe     usb.Pipe
	packet   int
	patience time.Duration
	buf      []byte // of pieceBytes, for the transaction that runs
	// transaction is the id of the last one. 0 is for what is outside a session.
	transaction uint32
	inSession   bool
	// dirty: a transaction was cut off, so that what comes next may belong to it.
	dirty bool
	// dead says why the link can't be used any more.
	dead error
}

func newLink(pipe usb.Pipe, patience time.Duration) *link {
	packet := pipe.PacketSize()
	if packet < 8 || pieceBytes%packet != 0 { // USB 2.0 §5.8.3: 8 to 1024, powers of two
		packet = 512
	}
	return &link{pipe: pipe, packet: packet, patience: patience, buf: make([]byte, pieceBytes)}
}

type response struct {
	code   uint16
	params []uint32
}

// do runs an operation whose data phase, if there is one, is small. All operations
// used here can be repeated.
func (l *link) do(ctx context.Context, op uint16, params ...uint32) ([]byte, response, error) {
	return l.exchange(ctx, op, nil, params...)
}

func (l *link) exchange(ctx context.Context, op uint16, out []byte, params ...uint32) (data []byte, resp response, err error) {
	err = l.patiently(ctx, func() error {
		data, resp, err = l.once(ctx, op, out, params...)
		return err
	})
	return data, resp, err
}

// patiently tries again what the recorder was too busy for, and once what stalled.
func (l *link) patiently(ctx context.Context, try func() error) error {
	stalled, wait := false, busyWait
	for tries := 1; ; tries++ {
		err := try()
		switch {
		case errors.Is(err, usb.ErrStall) && !stalled && l.dead == nil:
			stalled = true
		case refusedWith(err, RespDeviceBusy) && tries < busyTries:
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			wait = min(2*wait, busyMost)
		default:
			return err
		}
	}
}

func (l *link) once(ctx context.Context, op uint16, out []byte, params ...uint32) ([]byte, response, error) {
	t, err := l.begin(ctx, op, out, params...)
	if err != nil {
		return nil, response{}, err
	}
	if t.left > mostData {
		return nil, response{}, l.abandon(t, fmt.Errorf("%s: %w: %d bytes of data, at most %d are expected", opName(op), ErrMalformed, t.left, mostData))
	}
	var data []byte
	for {
		piece, err := t.next(ctx)
		data = append(data, piece...)
		if err != nil {
			return nil, t.response, err
		}
		if t.ended {
			return data, t.response, nil
		}
		if len(data) > mostData { // of a length that was not told
			return nil, response{}, l.abandon(t, fmt.Errorf("%s: %w: more than %d bytes of data", opName(op), ErrMalformed, mostData))
		}
	}
}

// begin sends an operation and waits for the start of its data phase or for its
// response. A response other than OK is a Refusal.
func (l *link) begin(ctx context.Context, op uint16, out []byte, params ...uint32) (*transaction, error) {
	if l.dead != nil {
		return nil, l.dead
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	t := &transaction{link: l, op: op}
	if l.inSession {
		l.transaction++
		if l.transaction == 0xffffffff { // PIMA 15740 §9.3.1: 1 to 0xfffffffe
			l.transaction = 1
		}
		t.id = l.transaction
	}
	command := header(ContainerCommand, op, t.id, 4*len(params))
	for _, p := range params {
		command = binary.LittleEndian.AppendUint32(command, p)
	}
	if err := l.send(ctx, t, command); err != nil {
		return nil, err
	}
	if out != nil {
		if err := l.send(ctx, t, append(header(ContainerData, op, t.id, len(out)), out...)); err != nil {
			return nil, err
		}
	}
	if err := t.start(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

func header(kind, code uint16, id uint32, payload int) []byte {
	b := make([]byte, 0, headerBytes+payload)
	b = binary.LittleEndian.AppendUint32(b, uint32(headerBytes+payload))
	b = binary.LittleEndian.AppendUint16(b, kind)
	b = binary.LittleEndian.AppendUint16(b, code)
	return binary.LittleEndian.AppendUint32(b, id)
}

func (l *link) send(ctx context.Context, t *transaction, container []byte) error {
	limited, stop := context.WithTimeout(ctx, l.patience)
	defer stop()
	if err := l.pipe.Send(limited, container, true); err != nil {
		return l.failed(ctx, t, limited.Err() != nil, err)
	}
	return nil
}

func (l *link) receive(ctx context.Context, t *transaction, p []byte) (int, error) {
	limited, stop := context.WithTimeout(ctx, l.patience)
	defer stop()
	n, err := l.pipe.Receive(limited, p)
	if err != nil {
		return 0, l.failed(ctx, t, limited.Err() != nil, err)
	}
	return n, nil
}

// failed brings the pipe back into a state in which the next operation works, or
// finds that it can't be, and gives the error for the caller. late says that the
// recorder's time was over.
func (l *link) failed(ctx context.Context, t *transaction, late bool, err error) error {
	t.ended = true
	switch {
	case errors.Is(err, device.ErrRemoved):
		l.dead = fmt.Errorf("%s: %w", opName(t.op), err)
		return l.dead
	case errors.Is(err, usb.ErrStall):
		return errors.Join(fmt.Errorf("%s: %w", opName(t.op), err), l.recover(ctx))
	case ctx.Err() != nil:
		return l.abandon(t, context.Cause(ctx))
	case late:
		err = fmt.Errorf("%s: the recorder did not answer within %s", opName(t.op), l.patience)
	default:
		err = fmt.Errorf("%s: %w", opName(t.op), err)
	}
	return l.abandon(t, err)
}
