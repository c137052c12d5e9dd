package gadget

import "io"

// readAtOnce limits how much of a message is held in memory: what one read of the
// host may take of it before the next part is read.
const readAtOnce = 64 << 10

// endpoint is one endpoint with what waits on it. Device.mu guards it, but for turn.
type endpoint struct {
	Endpoint
	face int // index of its interface
	// turn is held by the one transfer from the host that is under way.
	turn    chan struct{}
	halted  bool
	queued  []*message    // IN only
	changed chan struct{} // closed and replaced when anything of this has changed
}

// message is one entry of an IN queue.
type message struct {
	r          io.Reader
	size, left int64 // bytes in all, and those not yet given to the host
	counted    bool  // no zero-length packet at the end
	halt       bool  // no message, but a halt in its place of the queue

	read     []byte // read from r, not yet given to the host: whole packets, or the end
	part     []byte // of a packet, behind read
	buffer   []byte // where both lie, used again
	fetching bool
	err      error // why r gave no more, behind read
}

// sent is a message's reader that wants to know when it was taken.
type sent interface{ Sent() }

// transfer is one read of the host under way.
type transfer struct {
	p     []byte
	n     int
	taken []sent // whose messages were taken whole, to be told without the lock
}

func (e *endpoint) signal() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// settle halts the endpoint if that is what comes next.
func (e *endpoint) settle() {
	for len(e.queued) > 0 && e.queued[0].halt {
		e.halted = true
		e.queued = e.queued[1:]
	}
}

// pop ends the first message.
func (e *endpoint) pop(t *transfer) {
	m := e.queued[0]
	e.queued = e.queued[1:]
	if s, ok := m.r.(sent); ok && m.err == nil {
		t.taken = append(t.taken, s)
	}
	e.settle()
}

// fail ends the first message where its reader failed.
func (e *endpoint) fail(t *transfer) {
	e.halted = true
	e.pop(t)
}

// restart is what SET_CONFIGURATION, SET_INTERFACE and a reset do to an endpoint.
func (e *endpoint) restart() {
	e.halted, e.queued = false, nil
	e.signal()
}

// move carries packets of e into t for as long as there are some that were read. It
// reports whether the transfer is at its end: t is full, or a short packet came.
// Called with mu held.
func (d *Device) move(e *endpoint, t *transfer) (done bool, err error) {
	for {
		if t.n > 0 && t.n == len(t.p) {
			return true, nil
		}
		if err := d.usable(e); err != nil {
			return false, err
		}
		if len(e.queued) == 0 {
			return false, nil
		}
		m := e.queued[0]
		if m.left == 0 { // a zero-length packet is what is left of it
			e.pop(t)
			return true, nil
		}
		if len(m.read) == 0 && m.err != nil {
			e.fail(t)
			return false, ErrStall
		}
		if room, packet := len(t.p)-t.n, min(int64(e.PacketSize), m.left); int64(room) < packet {
			return false, ErrOverflow
		}
		if len(m.read) == 0 {
			d.fetch(e, m)
			return false, nil
		}
		n := copy(t.p[t.n:], m.read)
		if int64(n) < m.left && n%e.PacketSize != 0 && n < len(m.read) {
			n -= n % e.PacketSize // only whole packets; the rest does not fit
		}
		t.n += n
		m.read = m.read[n:]
		m.left -= int64(n)
		if m.left > 0 {
			if len(m.read) == 0 && m.err != nil && (m.size-m.left)%int64(e.PacketSize) != 0 {
				e.fail(t) // what there was of the packet was a short one
				return true, nil
			}
			continue
		}
		switch {
		case m.size%int64(e.PacketSize) != 0:
			e.pop(t)
			return true, nil
		case m.counted:
			e.pop(t)
		}
	}
}

// fetch begins to read the next part of m, unless that is on the way: a packet at
// least, and as many as r gives at once. A reader that hangs holds up nothing but its
// message, and not the packets before.
func (d *Device) fetch(e *endpoint, m *message) {
	if m.fetching {
		return
	}
	m.fetching = true
	if m.buffer == nil {
		m.buffer = make([]byte, min(m.left, int64(max(readAtOnce/e.PacketSize, 1)*e.PacketSize)))
	}
	buffer := m.buffer[:min(m.left, int64(len(m.buffer)))]
	begun := copy(buffer, m.part)
	last := int64(len(buffer)) == m.left
	go func() {
		n, err := io.ReadAtLeast(m.r, buffer[begun:], min(e.PacketSize, len(buffer))-begun)
		n += begun
		d.mu.Lock()
		defer d.mu.Unlock()
		whole := n
		if err == nil && (!last || n < len(buffer)) {
			whole -= n % e.PacketSize
		}
		m.read, m.part, m.err, m.fetching = buffer[:whole], buffer[whole:n], err, false
		e.signal()
	}()
}
