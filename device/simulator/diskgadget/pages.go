package diskgadget

import (
	"encoding/binary"
	"slices"
)

// Pages of vital product data (SPC-2 §8.4).
const (
	vpdSupported = 0x00
	vpdSerial    = 0x80
	vpdIdentity  = 0x83
)

const (
	versionSPC2    = 0x04
	removable      = 0x80
	responseFormat = 2
)

// inquiry answers INQUIRY (SPC-2 §7.3), which needs no medium.
func (d *Disk) inquiry(c *command) {
	limit := int(binary.BigEndian.Uint16(c.cdb[3:]))
	page := c.cdb[2]
	if c.cdb[1]&1 == 0 { // the standard data
		if page != 0 {
			d.fail(c, invalidField)
			return
		}
		b := []byte{0, 0, versionSPC2, responseFormat, 31, 0, 0, 0}
		if !c.unit.Fixed {
			b[1] = removable
		}
		b = append(b, padded(d.config.Manufacturer, 8)...)
		b = append(b, padded(c.unit.Product, 16)...)
		b = append(b, padded(release(d.config.Release), 4)...)
		d.reply(c, b, limit)
		return
	}
	var body []byte
	switch page {
	case vpdSupported:
		body = []byte{vpdSupported, vpdSerial, vpdIdentity}
	case vpdSerial:
		body = []byte(d.config.Serial)
	case vpdIdentity:
		// A T10 vendor id (SPC-2 §8.4.4), in ASCII, of the logical unit.
		id := slices.Concat(padded(d.config.Manufacturer, 8), padded(c.unit.Product, 16),
			[]byte(d.config.Serial), []byte{'-', "0123456789ABCDEF"[c.unit.number]})
		id = id[:min(len(id), 255)]
		body = slices.Concat([]byte{2, 1, 0, byte(len(id))}, id)
	default:
		d.fail(c, invalidField)
		return
	}
	b := binary.BigEndian.AppendUint16([]byte{0, page}, uint16(len(body)))
	d.reply(c, append(b, body...), limit)
}

// padded is a field of ASCII, of exactly n bytes (SPC-2 §4.4.1).
func padded(s string, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = ' '
		if i < len(s) && s[i] > ' ' && s[i] < 0x7f {
			b[i] = s[i]
		}
	}
	return b
}

// release writes bcdDevice as INQUIRY has it: 0x0123 is 1.23.
func release(bcd uint16) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[bcd>>8&0xf], '.', digits[bcd>>4&0xf], digits[bcd&0xf]})
}

// reportLUNs answers REPORT LUNS (SPC-2 §7.19).
func (d *Disk) reportLUNs(c *command) {
	b := binary.BigEndian.AppendUint32(nil, uint32(8*len(d.units)))
	b = append(b, 0, 0, 0, 0)
	for _, u := range d.units {
		b = append(b, 0, byte(u.number), 0, 0, 0, 0, 0, 0)
	}
	d.reply(c, b, int(min(binary.BigEndian.Uint32(c.cdb[6:]), uint32(len(b)))))
}

// modeSense answers MODE SENSE (SPC-2 §7.8, §7.9), from which the kernel knows that a
// disk is write-protected. There are no block descriptors.
func (d *Disk) modeSense(c *command) {
	cdb := c.cdb
	control, page := cdb[2]>>6, cdb[2]&0x3f
	if control == savedPageControl || (page != pageAll && page != pageCaching) {
		d.fail(c, invalidField)
		return
	}
	caching := make([]byte, 20) // no write cache: WCE is 0 (SBC-2 §6.3.3)
	caching[0], caching[1] = pageCaching, 18
	if control == changingPageControl {
		clear(caching[2:]) // nothing can be changed
	}
	var specific byte
	if c.unit.Writer == nil {
		specific = writeProtected
	}
	if cdb[0] == opModeSense6 {
		b := append([]byte{byte(3 + len(caching)), 0, specific, 0}, caching...)
		d.reply(c, b, int(cdb[4]))
		return
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(6+len(caching)))
	b = append(b, 0, specific, 0, 0, 0, 0)
	d.reply(c, append(b, caching...), int(binary.BigEndian.Uint16(cdb[7:])))
}
