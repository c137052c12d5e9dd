// Package usbip plugs a simulated recorder into this machine's Linux kernel, as if
// by a cable: it speaks USB/IP to the vhci_hcd module over a socket pair, without a
// network. The kernel enumerates the gadget and its own drivers bind to it, so that
// the whole of ingestd can be tried with it, from the first uevent on.
//
// The wire is that of Documentation/usb/usbip_protocol.rst, from the server's side.
package usbip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

const (
	// maxTransfer is more than usbfs lets a program submit at once by default.
	maxTransfer = 16 << 20
	// maxWaiting is how much OUT data may wait for a slow function before the kernel
	// is made to wait as well.
	maxWaiting = 2 * maxTransfer
	// lastWords is how long an answer that is complete may take to be written when
	// the cable is pulled.
	lastWords = 2 * time.Second
)

// Link is a gadget that is plugged in. What the kernel submits waits in one lane for
// each endpoint, and each lane has its own goroutine, so that a read that waits for
// data holds up nothing else.
type Link struct {
	device *gadget.Device
	conn   net.Conn
	lanes  sync.WaitGroup // all of them
	ins    sync.WaitGroup // those of IN endpoints, which never wait for the function
	pulled chan struct{}  // closed when conn is
	done   chan struct{}

	// mu guards what follows, and is held while an answer is written: what the answer
	// to a transfer is must not change until the kernel has it. After RET_UNLINK said
	// that a transfer was taken back, its RET_SUBMIT would make the kernel hang up.
	mu      sync.Mutex
	lane    map[uint8]*lane
	pending map[uint32]*urb
	waiting int // bytes of OUT data in the lanes
	room    *sync.Cond
	ended   bool
	err     error
}

// lane is what waits on one endpoint.
type lane struct {
	address uint8
	urbs    []*urb
	more    *sync.Cond
	// held: a short packet came where the kernel wanted none (URB_SHORT_NOT_OK). It
	// takes back what it queued behind; to fill that with the next message would lose
	// the message. A new transfer says that all was taken back that is to be.
	held   bool
	buffer []byte
}

// urb is a transfer that the kernel submitted and that has no answer yet.
type urb struct {
	request
	out    []byte
	lane   *lane
	ctx    context.Context
	cancel context.CancelFunc
	active bool   // its lane is busy with it
	unlink uint32 // sequence number of the CMD_UNLINK for it while it was active
}

// Serve connects fn with the kernel at the other end of conn, which has attached it
// already. It closes conn.
func Serve(conn net.Conn, fn gadget.Function) (*Link, error) {
	device, err := gadget.NewDevice(fn)
	if err != nil {
		_ = conn.Close() // nothing was sent
		return nil, err
	}
	l := &Link{
		device: device, conn: conn,
		pulled: make(chan struct{}), done: make(chan struct{}),
		lane: map[uint8]*lane{}, pending: map[uint32]*urb{},
	}
	l.room = sync.NewCond(&l.mu)
	l.addLane(0)
	for _, face := range device.Descriptors().Interfaces {
		for _, e := range face.Endpoints {
			l.addLane(e.Address)
		}
	}
	go l.run()
	go l.pull()
	return l, nil
}

func (l *Link) addLane(address uint8) {
	a := &lane{address: address, more: sync.NewCond(&l.mu)}
	l.lane[address] = a
	work := func() {
		for u := l.next(a); u != nil; u = l.next(a) {
			l.transfer(u)
		}
	}
	if address&0x80 == 0 {
		l.lanes.Go(work)
		return
	}
	l.ins.Add(1)
	l.lanes.Go(func() {
		defer l.ins.Done()
		work()
	})
}

// Unplug pulls the cable. When it returns the kernel has been told; it takes some
// milliseconds until it has taken the device away. An answer that was complete before
// still reaches it. Not to be called from a reader's Sent.
func (l *Link) Unplug() {
	l.device.Unplug()
	<-l.pulled
}

// Close is Unplug, and waits until the function is not busy any more. It returns what
// went wrong with the connection, if anything did.
func (l *Link) Close() error {
	l.Unplug()
	<-l.done
	return l.Err()
}

// Done is closed when the gadget is off the bus, whoever pulled it, and the function
// is not busy any more.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err says why the link ended. Nil while it lasts, and when either side pulled the
// cable.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// run takes what the kernel sends until it hangs up.
func (l *Link) run() {
	err := l.receive()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		err = nil // the kernel let go of the device, or we have
	}
	l.fail(err)
	<-l.pulled
	l.lanes.Wait()
	close(l.done)
}

// fail ends the link. The first error is the one that says why.
func (l *Link) fail(err error) {
	l.hurry()
	l.mu.Lock()
	if l.err == nil && !l.ended {
		l.err = err
	}
	l.mu.Unlock()
	l.device.Unplug()
}

// hurry ends an answer that the kernel does not read, and that mu is held for.
func (l *Link) hurry() {
	_ = l.conn.SetWriteDeadline(time.Now().Add(lastWords)) // an error means that it is closed already
}

// pull takes the connection down when the gadget is off the bus.
func (l *Link) pull() {
	<-l.device.Unplugged()
	l.hurry()
	l.mu.Lock()
	l.ended = true
	for _, a := range l.lane {
		a.more.Broadcast()
	}
	l.room.Broadcast()
	l.mu.Unlock()
	l.ins.Wait()
	l.mu.Lock() // and with it, that no other answer is half written
	_ = l.conn.Close()
	l.mu.Unlock()
	close(l.pulled)
}

func (l *Link) receive() error {
	for {
		var h [headerSize]byte
		if _, err := io.ReadFull(l.conn, h[:]); err != nil {
			return fmt.Errorf("read from the kernel: %w", err)
		}
		r, err := parse(&h)
		if err != nil {
			return err
		}
		if r.command == commandUnlink {
			if err := l.unlink(r); err != nil {
				return err
			}
			continue
		}
		var out []byte
		if !r.in {
			l.makeRoom(int(r.length))
			out = make([]byte, r.length)
			if _, err := io.ReadFull(l.conn, out); err != nil {
				return fmt.Errorf("read %d bytes for endpoint %d from the kernel: %w", r.length, r.endpoint, err)
			}
		}
		if err := l.submit(r, out); err != nil {
			return err
		}
	}
}

// makeRoom waits until n more bytes may wait.
func (l *Link) makeRoom(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.waiting > 0 && l.waiting+n > maxWaiting && !l.ended {
		l.room.Wait()
	}
	l.waiting += n
}

// submit puts a transfer into the lane of its endpoint.
func (l *Link) submit(r request, out []byte) error {
	address := r.endpoint
	if r.in && address != 0 {
		address |= 0x80
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending[r.sequence] != nil {
		return fmt.Errorf("the kernel has submitted transfer %d twice", r.sequence)
	}
	a := l.lane[address]
	if a == nil { // no such endpoint; a device would not answer at all
		l.waiting -= len(out)
		return writeReturn(l.conn, r.sequence, errno(syscall.EPIPE), 0, nil)
	}
	u := &urb{request: r, out: out, lane: a}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	l.pending[r.sequence] = u
	a.urbs = append(a.urbs, u)
	a.held = false
	a.more.Signal()
	return nil
}

// next is the transfer that a lane is to work on; nil at the end.
func (l *Link) next(a *lane) *urb {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.ended && (len(a.urbs) == 0 || a.held) {
		a.more.Wait()
	}
	if l.ended {
		return nil
	}
	u := a.urbs[0]
	a.urbs = a.urbs[1:]
	u.active = true
	return u
}

// transfer carries one transfer through the gadget and answers it.
func (l *Link) transfer(u *urb) {
	defer u.cancel()
	switch a := u.lane; {
	case a.address == 0:
		in, err := l.device.Control(u.setup, u.out)
		if u.in {
			in = in[:min(len(in), int(u.length))]
			l.complete(u, in, len(in), err)
		} else {
			l.complete(u, nil, len(u.out), err)
		}
	case u.in:
		if len(a.buffer) < int(u.length) {
			a.buffer = make([]byte, u.length)
		}
		n, err := l.device.In(u.ctx, a.address, a.buffer[:u.length])
		l.complete(u, a.buffer[:n], n, err)
	default:
		err := l.device.Out(a.address, u.out, u.flags&flagZeroPacket != 0)
		l.complete(u, nil, len(u.out), err)
	}
}

// complete answers a transfer that ended with err, unless it was taken back.
func (l *Link) complete(u *urb, in []byte, actual int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting -= len(u.out)
	l.room.Broadcast()
	if l.pending[u.sequence] != u || errors.Is(err, gadget.ErrUnplugged) {
		return // nobody waits for it, or can be told
	}
	delete(l.pending, u.sequence)
	status := statusOf(err)
	if status != 0 && !u.in {
		actual = 0
	}
	if err == nil && u.in && u.flags&flagShortNotOK != 0 && actual < int(u.length) && len(u.lane.urbs) > 0 {
		u.lane.held = true
	}
	back := u.unlink != 0 && errors.Is(err, context.Canceled)
	var failed error
	if !back || actual > 0 {
		// Of a transfer taken back half way the bytes that were transferred go over,
		// as with a real controller: the next one goes on behind them.
		failed = writeReturn(l.conn, u.sequence, status, actual, in)
	}
	if u.unlink != 0 && failed == nil {
		failed = writeUnlinked(l.conn, u.unlink, back && actual == 0)
	}
	l.broken(failed)
}

// broken ends the link where an answer could not be written. Called with mu held.
func (l *Link) broken(err error) {
	if err == nil || l.ended {
		return
	}
	if l.err == nil && !errors.Is(err, syscall.EPIPE) {
		l.err = fmt.Errorf("answer the kernel: %w", err)
	}
	l.device.Unplug()
}

func statusOf(err error) int32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, gadget.ErrOverflow):
		return errno(syscall.EOVERFLOW)
	case errors.Is(err, context.Canceled):
		return errno(syscall.ECONNRESET)
	}
	return errno(syscall.EPIPE)
}

// unlink takes a transfer back that has no answer yet. One that a function is busy
// with is taken back at once as well: its answer is not sent.
func (l *Link) unlink(r request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.pending[r.unlink]
	if u == nil || u.unlink != 0 {
		return writeUnlinked(l.conn, r.sequence, false)
	}
	if u.active && u.in && u.lane.address != 0 {
		u.unlink = r.sequence
		u.cancel()
		return nil // complete answers, which knows whether bytes were transferred
	}
	delete(l.pending, r.unlink)
	if !u.active {
		u.cancel()
		for i, other := range u.lane.urbs {
			if other == u {
				u.lane.urbs = append(u.lane.urbs[:i:i], u.lane.urbs[i+1:]...)
				break
			}
		}
		l.waiting -= len(u.out)
		l.room.Broadcast()
		u.lane.held = u.lane.held && len(u.lane.urbs) > 0
	}
	return writeUnlinked(l.conn, r.sequence, true)
}
