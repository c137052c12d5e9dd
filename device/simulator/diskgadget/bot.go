package diskgadget

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// Command and status wrappers (BOT §5).
const (
	cbwSize      = 31
	cbwSignature = 0x43425355
	cswSize      = 13
	cswSignature = 0x53425355
	maxCDB       = 16

	statusPassed = 0
	statusFailed = 1
	statusPhase  = 2
)

// Class requests (BOT §3).
const (
	requestReset     = 0xff
	requestGetMaxLUN = 0xfe
	toInterface      = 0x21
	fromInterface    = 0xa1
)

// Standard requests that the gadget tells of (USB 2.0 §9.4).
const (
	toEndpoint       = 0x02
	toDevice         = 0x00
	clearFeature     = 1
	setConfiguration = 9
	setInterface     = 11
)

// state is where the transport stands.
type state struct {
	command *command // that has not had its status taken yet
	// wedged: a command block made no sense. Both endpoints stall until a reset
	// recovery (BOT §6.6.1); to clear a halt alone does not help.
	wedged bool
}

// command is one command block with what became of it.
type command struct {
	tag    uint32
	length int64 // bytes that the host expects to be transferred
	in     bool
	unit   *unit
	cdb    []byte

	status byte
	moved  int64 // bytes of the data stage that meant something
	// OUT data:
	left  int64 // bytes of it that are still to come
	write *write
}

// parseCBW reads a command block wrapper. False: it is not valid or not meaningful
// (BOT §6.2).
func parseCBW(b []byte, units []*unit) (*command, bool) {
	le := binary.LittleEndian
	if len(b) != cbwSize || le.Uint32(b) != cbwSignature {
		return nil, false
	}
	flags, lun, n := b[12], b[13], int(b[14])
	if flags&0x7f != 0 || int(lun) >= len(units) || n < 1 || n > maxCDB {
		return nil, false
	}
	return &command{
		tag: le.Uint32(b[4:]), length: int64(le.Uint32(b[8:])), in: flags&0x80 != 0,
		unit: units[lun], cdb: bytes.Clone(b[15:]),
	}, true
}

// csw is the status wrapper, made when the host takes it: only then is it known how
// many bytes of the data stage could be read.
type csw struct {
	disk    *Disk
	command *command
	at      int
}

func (r *csw) Read(p []byte) (int, error) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	b := make([]byte, 0, cswSize)
	b = binary.LittleEndian.AppendUint32(b, cswSignature)
	b = binary.LittleEndian.AppendUint32(b, r.command.tag)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.command.length-r.command.moved))
	b = append(b, r.command.status)
	if r.at >= len(b) {
		return 0, io.EOF
	}
	n := copy(p, b[r.at:])
	r.at += n
	return n, nil
}

// Sent says that the host has the status: the next command may come.
func (r *csw) Sent() {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if r.disk.state.command == r.command {
		r.disk.state.command = nil
	}
}

// Out implements gadget.Function: a command block, or the data of one.
func (d *Disk) Out(_ gadget.Queue, _ uint8, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.wedged {
		return gadget.ErrStall
	}
	if c := d.state.command; c != nil {
		if c.left > 0 {
			return d.dataOut(c, data)
		}
		return d.wedge() // a command before the last one's status was taken
	}
	c, ok := parseCBW(data, d.units)
	if !ok {
		return d.wedge()
	}
	d.state.command = c
	d.execute(c)
	return nil
}

// wedge answers what is no command block. Called with mu held.
func (d *Disk) wedge() error {
	d.counts.Invalid++
	d.state = state{wedged: true}
	d.queue.Drop(bulkIn)
	d.queue.Halt(bulkIn)
	return gadget.ErrStall
}

// Control implements gadget.Function.
func (d *Disk) Control(s gadget.Setup, _ []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case s.RequestType == toInterface && s.Request == requestReset && s.Value == 0 && s.Index == 0 && s.Length == 0:
		// Halts stay until the host clears them (BOT §3.1).
		d.counts.Resets++
		d.state = state{}
		d.queue.Drop(bulkIn)
		return nil, nil
	case s.RequestType == fromInterface && s.Request == requestGetMaxLUN && s.Value == 0 && s.Index == 0 && s.Length == 1:
		return []byte{byte(len(d.units) - 1)}, nil
	case s.RequestType == toEndpoint && s.Request == clearFeature:
		if d.state.wedged {
			d.queue.Halt(uint8(s.Index))
		}
		return nil, nil
	case s.RequestType&^0x01 == toDevice && (s.Request == setConfiguration || s.Request == setInterface):
		d.state = state{} // the endpoints have forgotten everything
		return nil, nil
	}
	return nil, gadget.ErrStall
}

// noData ends a command that has nothing to transfer, well or not. Called, like all
// below, with mu held.
func (d *Disk) noData(c *command, status byte) {
	c.status = status
	switch {
	case c.length == 0:
	case c.in: // the host waits for data (BOT §6.7.2, case 4)
		d.queue.Halt(bulkIn)
	default: // the host has data: it is taken and forgotten (BOT §6.7.3, case 9)
		c.left = c.length
		return
	}
	d.finish(c)
}

// fail ends a command with sense data that the host will ask for.
func (d *Disk) fail(c *command, s sense) {
	c.unit.sense = s
	d.noData(c, statusFailed)
}

// reply sends data that was made for the host, which may have asked for less in its
// command block (limit) or in its wrapper.
func (d *Disk) reply(c *command, b []byte, limit int) {
	b = b[:min(len(b), limit)]
	if d.phase(c, true, int64(len(b))) {
		return
	}
	if len(b) == 0 {
		d.noData(c, statusPassed)
		return
	}
	c.moved = int64(len(b))
	if c.moved == c.length {
		d.queue.SendCounted(bulkIn, bytes.NewReader(b), c.moved)
	} else {
		d.queue.Send(bulkIn, bytes.NewReader(b), c.moved) // less than the host expects: case 5
	}
	d.finish(c)
}

// phase ends a command in which host and device disagree about the data stage: where
// it goes, or that the device has more than the host expects (BOT §6.7, cases 2, 3,
// 7, 8, 10 and 13). It reports whether that was so.
func (d *Disk) phase(c *command, in bool, n int64) bool {
	if n == 0 || (n <= c.length && in == c.in) {
		return false
	}
	d.noData(c, statusPhase)
	return true
}

// finish queues the status.
func (d *Disk) finish(c *command) {
	d.queue.SendCounted(bulkIn, &csw{disk: d, command: c}, cswSize)
}

// dataOut takes a part of a data stage.
func (d *Disk) dataOut(c *command, data []byte) error {
	if int64(len(data)) > c.left {
		return d.wedge()
	}
	c.left -= int64(len(data))
	if isWrite(c.cdb[0]) {
		d.counts.WriteBytes += int64(len(data))
	}
	if c.write != nil && c.status == statusPassed {
		n := min(int64(len(data)), c.write.left)
		if _, err := c.unit.Writer.WriteAt(data[:n], c.write.offset); err != nil {
			c.status, c.unit.sense = statusFailed, writeError
		} else {
			c.write.offset += n
			c.write.left -= n
			c.moved += n
		}
	}
	if c.left == 0 {
		d.finish(c)
	}
	return nil
}
