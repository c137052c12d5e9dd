package diskgadget

import (
	"encoding/binary"
	"slices"
)

// Operation codes (SPC-2 table 10, SBC-2 table 10).
const (
	opTestUnitReady     = 0x00
	opRequestSense      = 0x03
	opFormatUnit        = 0x04
	opRead6             = 0x08
	opWrite6            = 0x0a
	opInquiry           = 0x12
	opModeSelect6       = 0x15
	opModeSense6        = 0x1a
	opStartStop         = 0x1b
	opPreventAllow      = 0x1e
	opReadFormatCaps    = 0x23
	opReadCapacity10    = 0x25
	opRead10            = 0x28
	opWrite10           = 0x2a
	opWriteVerify10     = 0x2e
	opVerify10          = 0x2f
	opSynchronize10     = 0x35
	opWriteSame10       = 0x41
	opUnmap             = 0x42
	opModeSelect10      = 0x55
	opModeSense10       = 0x5a
	opRead16            = 0x88
	opCompareAndWrite   = 0x89
	opWrite16           = 0x8a
	opWriteVerify16     = 0x8e
	opSynchronize16     = 0x91
	opWriteSame16       = 0x93
	opServiceActionIn   = 0x9e
	opReportLUNs        = 0xa0
	opRead12            = 0xa8
	opWrite12           = 0xaa
	opWriteVerify12     = 0xae
	actionReadCapacity  = 0x10
	pageAll             = 0x3f
	pageCaching         = 0x08
	writeProtected      = 0x80 // of the device-specific parameter (SBC-2 §6.3.1)
	unknownBlocks10     = 0xffffffff
	changingPageControl = 1
	savedPageControl    = 3
)

// sense is why a command failed (SPC-2 §7.23): key, additional code and qualifier.
type sense struct {
	key, asc, ascq byte
	valid          bool // information has the sector
	information    uint32
}

var (
	good             = sense{}
	noMedium         = sense{key: 2, asc: 0x3a}
	unrecoveredRead  = sense{key: 3, asc: 0x11}
	writeError       = sense{key: 3, asc: 0x0c}
	invalidOperation = sense{key: 5, asc: 0x20}
	outOfRange       = sense{key: 5, asc: 0x21}
	invalidField     = sense{key: 5, asc: 0x24}
	removalPrevented = sense{key: 5, asc: 0x53, ascq: 0x02}
	protected        = sense{key: 7, asc: 0x27}
)

// bytes is fixed format sense data.
func (s sense) bytes() []byte {
	b := make([]byte, 18)
	b[0] = 0x70
	if s.valid {
		b[0] |= 0x80
	}
	b[2], b[7], b[12], b[13] = s.key, 10, s.asc, s.ascq
	binary.BigEndian.PutUint32(b[3:], s.information)
	return b
}

// unit is a LUN with its state.
type unit struct {
	LUN
	number int
	sense  sense // of the last command
	locked bool  // PREVENT MEDIUM REMOVAL
}

// write is where the data of a WRITE goes.
type write struct{ offset, left int64 }

// isWrite tells the commands that would change a disk or how it works.
func isWrite(op byte) bool {
	switch op {
	case opWrite6, opWrite10, opWrite12, opWrite16, opWriteVerify10, opWriteVerify12, opWriteVerify16,
		opWriteSame10, opWriteSame16, opCompareAndWrite, opUnmap, opFormatUnit, opModeSelect6, opModeSelect10:
		return true
	}
	return false
}

func (d *Disk) ready(u *unit) bool { return u.Image != nil && !d.counts.Ejected[u.number] }

// execute does one command. Called with mu held.
func (d *Disk) execute(c *command) {
	u, cdb := c.unit, c.cdb
	if isWrite(cdb[0]) {
		d.counts.Writes++
	}
	switch cdb[0] { // these do not depend on a medium, and leave the sense data
	case opInquiry:
		d.inquiry(c)
		return
	case opReportLUNs:
		d.reportLUNs(c)
		return
	case opRequestSense:
		s := u.sense
		u.sense = good
		d.reply(c, s.bytes(), int(cdb[4]))
		return
	}
	u.sense = good
	if cdb[0] == opStartStop {
		d.startStop(c)
		return
	}
	if !d.ready(u) {
		d.fail(c, noMedium)
		return
	}
	switch cdb[0] {
	case opTestUnitReady, opSynchronize10, opSynchronize16, opVerify10:
		d.noData(c, statusPassed)
	case opPreventAllow:
		u.locked = cdb[4]&1 != 0
		d.noData(c, statusPassed)
	case opModeSense6, opModeSense10:
		d.modeSense(c)
	case opReadCapacity10:
		last := min(u.Size/int64(u.Block)-1, unknownBlocks10)
		b := binary.BigEndian.AppendUint32(nil, uint32(last))
		d.reply(c, binary.BigEndian.AppendUint32(b, uint32(u.Block)), 8)
	case opServiceActionIn:
		if cdb[1]&0x1f != actionReadCapacity {
			d.fail(c, invalidField)
			return
		}
		b := binary.BigEndian.AppendUint64(nil, uint64(u.Size/int64(u.Block)-1))
		b = binary.BigEndian.AppendUint32(b, uint32(u.Block))
		d.reply(c, slices.Concat(b, make([]byte, 20)), int(min(binary.BigEndian.Uint32(cdb[10:]), 32)))
	case opReadFormatCaps:
		b := []byte{0, 0, 0, 8}
		b = binary.BigEndian.AppendUint32(b, uint32(min(u.Size/int64(u.Block), unknownBlocks10)))
		b = binary.BigEndian.AppendUint32(b, 2<<24|uint32(u.Block)) // 2: formatted
		d.reply(c, b, int(binary.BigEndian.Uint16(cdb[7:])))
	case opRead6, opRead10, opRead12, opRead16:
		d.read(c)
	case opWrite6, opWrite10, opWrite12, opWrite16:
		d.write(c)
	default:
		if isWrite(cdb[0]) && u.Writer == nil {
			d.fail(c, protected)
			return
		}
		d.fail(c, invalidOperation)
	}
}

// sectorRange is what a READ or WRITE is about, by the length of its command block.
func sectorRange(cdb []byte) (sector uint64, count int64) {
	be := binary.BigEndian
	switch cdb[0] >> 5 {
	case 0: // six bytes; a count of 0 is 256
		if count = int64(cdb[4]); count == 0 {
			count = 256
		}
		return uint64(cdb[1]&0x1f)<<16 | uint64(be.Uint16(cdb[2:])), count
	case 1:
		return uint64(be.Uint32(cdb[2:])), int64(be.Uint16(cdb[7:]))
	case 5:
		return uint64(be.Uint32(cdb[2:])), int64(be.Uint32(cdb[6:]))
	}
	return be.Uint64(cdb[2:]), int64(be.Uint32(cdb[10:]))
}

// place checks a range. False: it was answered.
func (d *Disk) place(c *command, in bool) (offset, length int64, ok bool) {
	u := c.unit
	sector, count := sectorRange(c.cdb)
	sectors := uint64(u.Size / int64(u.Block))
	if sector > sectors || uint64(count) > sectors-sector {
		d.fail(c, outOfRange)
		return 0, 0, false
	}
	length = count * int64(u.Block)
	if d.phase(c, in, length) {
		return 0, 0, false
	}
	if length == 0 {
		d.noData(c, statusPassed)
		return 0, 0, false
	}
	return int64(sector) * int64(u.Block), length, true
}

func (d *Disk) read(c *command) {
	offset, length, ok := d.place(c, true)
	if !ok {
		return
	}
	r := &sectors{disk: d, unit: c.unit, queue: d.queue, offset: offset, end: offset + length, command: c}
	if length == c.length {
		d.queue.SendCounted(bulkIn, r, length)
	} else {
		d.queue.Send(bulkIn, r, length)
	}
	d.finish(c)
}

func (d *Disk) write(c *command) {
	if c.unit.Writer == nil {
		d.fail(c, protected)
		return
	}
	offset, length, ok := d.place(c, false)
	if !ok {
		return
	}
	c.write, c.left = &write{offset: offset, left: length}, c.length
}

func (d *Disk) startStop(c *command) {
	u, start, eject := c.unit, c.cdb[4]&1 != 0, c.cdb[4]&2 != 0
	switch {
	case eject && !start && u.locked:
		d.fail(c, removalPrevented)
		return
	case eject && !start && !u.Fixed:
		d.counts.Ejected[u.number] = true
	case eject && start:
		d.counts.Ejected[u.number] = false
	}
	if start && !d.ready(u) {
		d.fail(c, noMedium)
		return
	}
	d.noData(c, statusPassed)
}
