package ptp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// transaction is one operation from its command to its response.
type transaction struct {
	link     *link
	op       uint16
	id       uint32
	response response
	// hasData: there is a data phase; left of it are to come, -1: not told.
	hasData bool
	left    int64
	// first is what came in the packet of the header, in link.buf.
	first []byte
	// alone: the header came by itself.
	alone bool
	// filled: the last packet was full, so that data of untold length go on.
	filled bool
	// whole: the data phase has ended, the response has not come.
	whole bool
	ended bool
}

// start waits for the container that begins the data phase, or for the response.
func (t *transaction) start(ctx context.Context) error {
	kind, packet, err := t.container(ctx)
	if err != nil {
		return err
	}
	if kind == ContainerResponse {
		return t.finish(packet)
	}
	t.hasData = true
	length := binary.LittleEndian.Uint32(packet)
	t.first = packet[headerBytes:]
	// A container may be sent with its header alone in the first packet.
	t.alone = len(packet) == headerBytes
	t.filled = t.alone || len(packet) == t.link.packet
	t.left = int64(length) - headerBytes
	if length == SizeUnknown {
		t.left = -1
	}
	if t.left >= 0 && int64(len(t.first)) > t.left {
		return t.link.abandon(t, t.wrong("goes on behind the %d bytes it announced", t.left))
	}
	t.whole = t.left == 0
	return nil
}

// expect says how much data there should be, where the container could not tell
// since it is 4 GiB or more.
func (t *transaction) expect(size int64) {
	if t.hasData && t.left < 0 {
		t.left = size
		t.whole = size == 0
	}
}

// container waits for the first packet of a container of this transaction. What
// belongs to earlier ones is dropped: late answers, and after a cut, anything.
func (t *transaction) container(ctx context.Context) (kind uint16, packet []byte, err error) {
	l := t.link
	for dropped := 0; dropped < mostDropped; {
		n, err := l.receive(ctx, t, l.buf[:l.packet])
		if err != nil {
			return 0, nil, err
		}
		packet = l.buf[:n]
		if n == 0 { // ends a transfer that filled its last packet
			dropped += l.packet
			continue
		}
		if n < headerBytes {
			if !l.dirty {
				return 0, nil, l.abandon(t, t.wrong("begins with %d bytes that are no container", n))
			}
			dropped += n
			continue
		}
		length, kind := binary.LittleEndian.Uint32(packet), binary.LittleEndian.Uint16(packet[4:])
		code, id := binary.LittleEndian.Uint16(packet[6:]), binary.LittleEndian.Uint32(packet[8:])
		switch {
		case id == t.id && kind == ContainerData && code == t.op && length >= headerBytes && !t.hasData:
			l.dirty = false
			return kind, packet, nil
		case t.isResponse(packet):
			l.dirty = false
			return kind, packet, nil
		case kind == ContainerEvent: // belongs on the interrupt endpoint
		case kind == ContainerResponse && id != t.id: // of an earlier transaction
		case kind == ContainerData && id != t.id:
			l.dirty = true // the rest of its data is to be dropped as well
		case !l.dirty:
			return 0, nil, l.abandon(t, t.wrong("is a container of type %d, code 0x%04x, transaction %d and length %d, which does not belong here", kind, code, id, length))
		}
		dropped += n
	}
	return 0, nil, l.abandon(t, t.wrong("did not come among %d bytes of earlier ones", mostDropped))
}

func (t *transaction) finish(packet []byte) error {
	t.ended = true
	d := decoder{left: packet[6:]}
	t.response.code = d.u16()
	d.u32()
	for len(d.left) >= 4 {
		t.response.params = append(t.response.params, d.u32())
	}
	if t.response.code != RespOK {
		return &Refusal{Op: t.op, Response: t.response.code}
	}
	return nil
}

// next gives the next piece of the data phase, valid until the following call. Once
// ended is set there is no more and the response was OK.
func (t *transaction) next(ctx context.Context) ([]byte, error) {
	l := t.link
	switch {
	case t.ended:
		return nil, nil
	case !t.hasData || t.whole:
		return nil, t.respond(ctx)
	case len(t.first) > 0:
		piece := t.first
		t.first = nil
		return piece, t.account(ctx, len(piece), t.filled)
	}
	want := l.buf
	if t.left >= 0 {
		// No more than is to come, in whole packets: some recorders leave out the
		// empty packet behind a full one, and the response would come along.
		packets := (t.left + int64(l.packet) - 1) / int64(l.packet)
		want = l.buf[:min(packets*int64(l.packet), pieceBytes)]
	}
	n, err := l.receive(ctx, t, want)
	if err != nil {
		return nil, err
	}
	if came := l.buf[:n]; t.alone && t.left != int64(n) && t.isResponse(came) {
		t.whole = true // no data came at all
		return nil, errors.Join(t.missing(t.left), t.finish(came))
	}
	t.alone = false
	return l.buf[:n], t.account(ctx, n, n == len(want))
}

// isResponse tells the response of this transaction from data.
func (t *transaction) isResponse(packet []byte) bool {
	d := decoder{left: packet}
	length, kind := d.u32(), d.u16()
	d.u16()
	id := d.u32()
	return !d.short && int64(length) == int64(len(packet)) && len(packet) <= headerBytes+5*4 && kind == ContainerResponse && id == t.id
}

// account notes that n bytes of data came; full says that their last packet was
// full, so that more may follow.
func (t *transaction) account(ctx context.Context, n int, full bool) error {
	if t.left < 0 {
		t.whole = !full
		return nil
	}
	if int64(n) > t.left {
		return t.link.abandon(t, t.wrong("goes on behind the bytes it announced, by %d", int64(n)-t.left))
	}
	t.left -= int64(n)
	switch {
	case t.left == 0:
		t.whole = true
	case !full:
		return t.cutOff(ctx)
	}
	return nil
}

// cutOff is a data phase that ended early. The response may say why.
func (t *transaction) cutOff(ctx context.Context) error {
	missing := t.left
	if err := t.respond(ctx); err != nil {
		return err
	}
	return t.missing(missing)
}

func (t *transaction) missing(n int64) error {
	return fmt.Errorf("%s: the data ended %d bytes before the length they announced: %w", opName(t.op), n, io.ErrUnexpectedEOF)
}

func (t *transaction) respond(ctx context.Context) error {
	_, packet, err := t.container(ctx)
	if err != nil {
		return err
	}
	return t.finish(packet)
}

func (t *transaction) wrong(format string, args ...any) error {
	return fmt.Errorf("%s: %w: it "+format, append([]any{opName(t.op), ErrMalformed}, args...)...)
}
