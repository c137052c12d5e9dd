package ptpgadget

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// Clock is the recorder's.
type Clock struct {
	// Absent: there is no property DateTime. ReadOnly: it can't be set.
	Absent, ReadOnly bool
	// Offset is recorder minus true time, + = fast.
	Offset time.Duration
	// Zone is that of the recorder; nil is UTC.
	Zone *time.Location
	// Form is how DateTime tells its zone: "", "Z", or "-0700", as package time writes
	// it. With Z the zone is UTC.
	Form string
	// Digits of the fraction of a second.
	Digits int
	// StandsAt is what a clock that does not run tells.
	StandsAt time.Time
	// Raw is told whatever the time is.
	Raw string
}

// Battery is the recorder's.
type Battery struct {
	// Max is full, Min is empty; with Max 0 and no Listed there is no such property.
	Level, Min, Max uint8
	// Listed are the values of an enumeration, in the place of a range.
	Listed []uint8
}

func (g *Gadget) dateTime() string {
	c := g.cfg.Clock
	if c.Raw != "" {
		return c.Raw
	}
	at := time.Now().Add(g.offset)
	if !c.StandsAt.IsZero() {
		at = c.StandsAt
	}
	layout := "20060102T150405"
	if c.Digits > 0 {
		layout += "." + strings.Repeat("0", c.Digits)
	}
	s := at.In(c.zone()).Format(layout)
	if c.Form == "-0700" {
		return s + at.In(c.zone()).Format(c.Form)
	}
	return s + c.Form
}

func (c Clock) zone() *time.Location {
	if c.Zone == nil || c.Form == "Z" {
		return time.UTC
	}
	return c.Zone
}

// setProp sets the clock. Only the form that it tells itself is taken.
func (g *Gadget) setProp(prop uint16, data []byte) answer {
	c := g.cfg.Clock
	switch {
	case prop != 0x5011 || c.Absent:
		return refuse(propUnsupported)
	case c.ReadOnly:
		return refuse(0x200f)
	}
	s := untext(data)
	layout := "20060102T150405"
	if c.Digits > 0 {
		layout += "." + strings.Repeat("0", c.Digits)
	}
	at, err := time.ParseInLocation(layout+c.Form, s, c.zone())
	if err != nil || len(s) != len(layout+c.Form) {
		return refuse(invalidPropValue)
	}
	g.counts.Set = append(g.counts.Set, s)
	g.offset = time.Until(at)
	return refuse(ok)
}

func (g *Gadget) propValue(prop uint16) answer {
	switch {
	case prop == 0x5011 && !g.cfg.Clock.Absent:
		return tell(text(g.dateTime()))
	case prop == 0x5001 && g.hasBattery():
		return tell([]byte{g.cfg.Battery.Level})
	}
	return refuse(propUnsupported)
}

func (g *Gadget) hasBattery() bool { return g.cfg.Battery.Max > 0 || len(g.cfg.Battery.Listed) > 0 }

func (g *Gadget) propDesc(prop uint16) answer {
	b := binary.LittleEndian.AppendUint16(nil, prop)
	switch {
	case prop == 0x5011 && !g.cfg.Clock.Absent:
		settable := byte(1)
		if g.cfg.Clock.ReadOnly {
			settable = 0
		}
		b = append(b, 0xff, 0xff, settable) // a string
		b = append(append(b, text("")...), text(g.dateTime())...)
		return tell(append(b, 0)) // no form
	case prop == 0x5001 && g.hasBattery():
		battery := g.cfg.Battery
		b = append(b, 2, 0, 0, battery.Max, battery.Level) // UINT8, only to be read
		if len(battery.Listed) == 0 {
			return tell(append(b, 1, battery.Min, battery.Max, 1))
		}
		b = binary.LittleEndian.AppendUint16(append(b, 2), uint16(len(battery.Listed)))
		return tell(append(b, battery.Listed...))
	}
	return refuse(propUnsupported)
}

func (g *Gadget) deviceInfo() []byte {
	b := binary.LittleEndian.AppendUint16(nil, 100) // PIMA 15740 version 1.00
	b = binary.LittleEndian.AppendUint32(b, 6)      // Microsoft
	b = binary.LittleEndian.AppendUint16(b, 100)
	b = append(b, text("microsoft.com: 1.0; android.com: 1.0;")...)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = append(b, list16(slices.DeleteFunc(slices.Clone(operations), func(op uint16) bool {
		return slices.Contains(g.cfg.Without, op) && !slices.Contains(g.cfg.Pretends, op)
	}))...)
	b = append(b, list16(nil)...)
	var props []uint16
	if g.hasBattery() {
		props = append(props, 0x5001)
	}
	if !g.cfg.Clock.Absent {
		props = append(props, 0x5011)
	}
	b = append(b, list16(props)...)
	b = append(b, list16(nil)...)
	b = append(b, list16([]uint16{0x3000, 0x3001})...)
	for _, s := range []string{g.cfg.Manufacturer, g.cfg.Model, g.cfg.Version, g.cfg.Serial} {
		b = append(b, text(s)...)
	}
	return b
}

func (g *Gadget) storageInfo(id uint32) answer {
	s := g.storeOf(id)
	if s == nil {
		return refuse(invalidStorage)
	}
	b := []byte{4, 0, 2, 0, 1, 0} // removable RAM, hierarchical, read only
	b = binary.LittleEndian.AppendUint64(b, s.Capacity)
	b = binary.LittleEndian.AppendUint64(b, s.Free)
	b = binary.LittleEndian.AppendUint32(b, 0xffffffff)
	return tell(append(append(b, text("SD card")...), text(s.Label)...))
}

func (g *Gadget) objectInfo(o *Object) []byte {
	format, association := uint16(0x3000), uint16(0)
	if o.Folder {
		format, association = 0x3001, 1
	}
	size := uint32(min(o.Size, 0xffffffff))
	if g.cfg.SizeModulo {
		size = uint32(o.Size)
	}
	parent := g.parent[o.Handle]
	if o.Parent != nil {
		parent = *o.Parent
	}
	b := binary.LittleEndian.AppendUint32(nil, g.store[o.Handle])
	b = binary.LittleEndian.AppendUint16(b, format)
	b = binary.LittleEndian.AppendUint16(b, 1) // read only
	b = binary.LittleEndian.AppendUint32(b, size)
	b = append(b, make([]byte, 26)...) // thumbnail and picture
	b = binary.LittleEndian.AppendUint32(b, parent)
	b = binary.LittleEndian.AppendUint16(b, association)
	b = append(b, make([]byte, 8)...)
	b = append(b, text(o.Name)...)
	b = append(b, text("")...) // capture date
	b = append(b, text(o.Modified)...)
	return append(b, text("")...)
}

// text writes a string (PIMA 15740 §5.3.3), cut off at what its length byte can tell.
func text(s string) []byte {
	if s == "" {
		return []byte{0}
	}
	units := utf16.Encode([]rune(s))
	units = units[:min(len(units), 254)]
	b := []byte{byte(len(units) + 1)}
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, 0, 0)
}

func untext(b []byte) string {
	if len(b) == 0 || len(b) != 1+2*int(b[0]) {
		return ""
	}
	var units []uint16
	for b = b[1:]; len(b) > 2; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}

func list16(values []uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(values)))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	return b
}

func list32(values []uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(values)))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}
