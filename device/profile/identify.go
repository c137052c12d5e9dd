package profile

import (
	"io"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

// Evidence is all that a recorder has shown of itself. What is not there is left
// zero.
type Evidence struct {
	Device  usb.Device
	Volumes []Volume
	// PTP is what the recorder told by PTP: serial and model.
	PTP device.Identity
	// Answer is what it told by command.
	Answer vendorcmd.Identity
}

// Identify names the recorder: for each fact the first of the profile's sources
// that says something. Volumes that contradict each other say nothing. Values that
// name nobody, such as zeros, are unknown.
func (p *Profile) Identify(e Evidence) (serial, officer, model device.Fact) {
	first := func(fact string, sources []Source) device.Fact {
		for _, source := range sources {
			if f := p.ask(e, source, fact); f.Known() {
				return f
			}
		}
		return device.Fact{}
	}
	return first("serial", p.Identity.Serial), first("officer", p.Identity.Officer), first("model", p.Identity.Model)
}

func (p *Profile) ask(e Evidence, source Source, fact string) device.Fact {
	switch source {
	case FromParamINI:
		return fromVolumes(e.Volumes, func(v Volume) device.Fact {
			return fromFile(v, "Param.ini", device.ParseParamINI, fact)
		})
	case FromInfoDat:
		return fromVolumes(e.Volumes, func(v Volume) device.Fact {
			return fromFile(v, "DCIM/100MEDIA/Info.dat", ParseInfoDat, fact)
		})
	case FromLabel:
		return fromVolumes(e.Volumes, func(v Volume) device.Fact { return p.fromLabel(v.Label, fact) })
	case FromUSB:
		if fact == "model" {
			return device.Told("USB product name", e.Device.ProductName)
		}
		return notPlaceholder(device.Told("USB serial", e.Device.Serial))
	case FromPTP:
		if fact == "model" {
			return e.PTP.Model
		}
		return notPlaceholder(e.PTP.Serial)
	case FromCommand:
		return map[string]device.Fact{"serial": e.Answer.Serial, "officer": e.Answer.Officer, "model": e.Answer.Model}[fact]
	}
	return device.Fact{}
}

// fromVolumes asks every volume, and believes none if two differ: a recorder may
// hold a card that was in another one.
func fromVolumes(volumes []Volume, ask func(Volume) device.Fact) device.Fact {
	var told device.Fact
	for _, v := range volumes {
		f := ask(v)
		if f.Known() && told.Known() && f.Value != told.Value {
			return device.Fact{}
		}
		if f.Known() {
			told = f
		}
	}
	return told
}

func fromFile(v Volume, path string, parse func(io.Reader) (serial, officer device.Fact), fact string) device.Fact {
	f, ok := open(v.FS, path)
	if !ok {
		return device.Fact{} // not there or unreadable; the inventory tells of the latter
	}
	serial, officer := parse(f)
	_ = f.Close() // only read
	if fact == "officer" {
		return officer
	}
	return serial
}

func (p *Profile) fromLabel(label, fact string) device.Fact {
	if p.Identity.LabelPattern == nil {
		return device.Fact{}
	}
	return device.Told("volume label", groupOf(p.Identity.LabelPattern, label, fact))
}

// notPlaceholder makes a serial number unknown that chip makers leave in their
// samples: all recorders with that chip would be one.
func notPlaceholder(f device.Fact) device.Fact {
	const digits = "0123456789abcdef"
	value := strings.ToLower(f.Value)
	for _, begin := range []string{digits + digits, digits[1:] + "0" + digits, "abcdef" + digits} {
		if len(value) >= 4 && strings.HasPrefix(begin, value) {
			return device.Fact{}
		}
	}
	if len(value) >= 4 && strings.Trim(value, value[:1]) == "" { // ffffffff, 11111111
		return device.Fact{}
	}
	return f
}

const maxInfoDat = 4096 // bytes; a line of the known ones has fewer than 100

// ParseInfoDat reads the identity file DCIM/100MEDIA/Info.dat: its first line is
// separated by semicolons, field 0 is the recorder's number and field 2 the
// officer's. The text is GBK or UTF-8. Names of people in it are not read.
func ParseInfoDat(r io.Reader) (serial, officer device.Fact) {
	raw, err := io.ReadAll(io.LimitReader(r, maxInfoDat))
	if err != nil {
		return device.Fact{}, device.Fact{}
	}
	text, ok := decode(raw)
	if !ok {
		return device.Fact{}, device.Fact{}
	}
	line, _, ended := strings.Cut(text, "\n")
	if !ended && len(raw) == maxInfoDat {
		return device.Fact{}, device.Fact{} // its last field may be cut
	}
	fields := strings.Split(line, ";")
	if len(fields) < 3 {
		return device.Fact{}, device.Fact{} // another kind of file
	}
	return device.Told("Info.dat field 0", fields[0]), device.Told("Info.dat field 2", fields[2])
}

// Uses reports whether one of the facts may come from the source.
func (id Identity) Uses(source Source) bool {
	return slices.Contains(id.Serial, source) || slices.Contains(id.Officer, source) || slices.Contains(id.Model, source)
}
