package gadget

import (
	"encoding/binary"
	"unicode/utf16"
)

// Standard requests (USB 2.0 table 9-4).
const (
	requestGetStatus        = 0x00
	requestClearFeature     = 0x01
	requestSetFeature       = 0x03
	requestSetAddress       = 0x05
	requestGetDescriptor    = 0x06
	requestGetConfiguration = 0x08
	requestSetConfiguration = 0x09
	requestGetInterface     = 0x0a
	requestSetInterface     = 0x0b
)

// Descriptor types (USB 2.0 table 9-5).
const (
	descriptorDevice     = 1
	descriptorConfig     = 2
	descriptorString     = 3
	descriptorInterface  = 4
	descriptorEndpoint   = 5
	descriptorQualifier  = 6
	descriptorOtherSpeed = 7
)

// Bits of bmRequestType (USB 2.0 table 9-2).
const (
	directionIn        = 0x80
	typeMask           = 0x60
	typeStandard       = 0x00
	typeReserved       = 0x60
	recipientMask      = 0x1f
	recipientDevice    = 0
	recipientInterface = 1
	recipientEndpoint  = 2
)

const (
	// featureEndpointHalt is the only feature the gadget has (USB 2.0 table 9-6).
	featureEndpointHalt = 0
	configurationValue  = 1
	// A recorder runs from its battery, and takes 500 mA, in units of 2 mA, to
	// charge it.
	attributesSelfPowered = 0xc0
	maxPower              = 250
	controlPacket         = 64
	languageEnglishUS     = 0x0409
	// maxStringUnits is what fits into a descriptor whose length is a byte.
	maxStringUnits = 126
)

// Control answers one request on endpoint 0; out is the data stage of an OUT
// request. What it returns is not longer than asked for. The errors are ErrStall,
// which the next request clears (USB 2.0 §8.5.3.4), and ErrUnplugged.
func (d *Device) Control(setup Setup, out []byte) ([]byte, error) {
	d.calling.Lock()
	defer d.calling.Unlock()
	select {
	case <-d.gone:
		return nil, ErrUnplugged
	default:
	}
	var in []byte
	var err error
	switch setup.RequestType & typeMask {
	case typeStandard:
		in, err = d.standard(setup)
		if err == nil && tellsFunction(setup) {
			// It has happened; the function has no say in it.
			_, _ = d.fn.Control(setup, nil)
		}
	case typeReserved:
		err = ErrStall
	default:
		in, err = d.fn.Control(setup, out)
	}
	select {
	case <-d.gone:
		return nil, ErrUnplugged
	default:
	}
	if err != nil {
		return nil, ErrStall
	}
	if setup.RequestType&directionIn == 0 {
		return nil, nil
	}
	return in[:min(len(in), int(setup.Length))], nil
}

func tellsFunction(setup Setup) bool {
	switch setup.Request {
	case requestClearFeature, requestSetConfiguration, requestSetInterface:
		return true
	}
	return false
}

func (d *Device) standard(s Setup) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	recipient := s.RequestType & recipientMask
	if s.RequestType&directionIn != 0 {
		switch {
		case s.Request == requestGetDescriptor && recipient == recipientDevice:
			return d.descriptor(uint8(s.Value>>8), uint8(s.Value), s.Index)
		case s.Request == requestGetConfiguration && recipient == recipientDevice:
			return []byte{d.configuration}, nil
		case s.Request == requestGetInterface && recipient == recipientInterface && d.hasInterface(s.Index):
			return []byte{0}, nil
		case s.Request == requestGetStatus:
			return d.status(recipient, s.Index)
		}
		return nil, ErrStall
	}
	switch {
	case s.Request == requestSetAddress && recipient == recipientDevice:
		return nil, nil // the host controller deals with addresses
	case s.Request == requestSetConfiguration && recipient == recipientDevice && s.Value <= configurationValue:
		// Also what follows a reset of the port, which starts everything anew.
		d.configuration = uint8(s.Value)
		for _, e := range d.endpoints {
			e.restart()
		}
		return nil, nil
	case s.Request == requestSetInterface && recipient == recipientInterface && d.hasInterface(s.Index) && s.Value == 0:
		for _, e := range d.endpoints {
			if e.face == int(s.Index) {
				e.restart()
			}
		}
		return nil, nil
	case (s.Request == requestClearFeature || s.Request == requestSetFeature) &&
		recipient == recipientEndpoint && s.Value == featureEndpointHalt:
		return nil, d.setHalt(s.Index, s.Request == requestSetFeature)
	}
	return nil, ErrStall
}

func (d *Device) hasInterface(index uint16) bool {
	return d.configuration != 0 && int(index) < len(d.desc.Interfaces)
}

func (d *Device) status(recipient uint8, index uint16) ([]byte, error) {
	status := []byte{0, 0}
	switch {
	case recipient == recipientDevice:
		status[0] = 1 // self-powered
	case recipient == recipientInterface && d.hasInterface(index):
	case recipient == recipientEndpoint && index&0x7f == 0:
	case recipient == recipientEndpoint && index <= 0xff && d.configuration != 0 && d.endpoints[uint8(index)] != nil:
		if d.endpoints[uint8(index)].halted {
			status[0] = 1
		}
	default:
		return nil, ErrStall
	}
	return status, nil
}

func (d *Device) setHalt(index uint16, halted bool) error {
	if index&0x7f == 0 {
		return nil // endpoint 0 is never halted for longer than a request
	}
	if index > 0xff || d.configuration == 0 || d.endpoints[uint8(index)] == nil {
		return ErrStall
	}
	e := d.endpoints[uint8(index)]
	e.halted = halted
	e.settle()
	e.signal()
	return nil
}

func (d *Device) descriptor(kind, index uint8, language uint16) ([]byte, error) {
	switch {
	case kind == descriptorDevice:
		b := []byte{18, descriptorDevice, 0x00, 0x02, 0, 0, 0, controlPacket}
		b = binary.LittleEndian.AppendUint16(b, d.desc.Vendor)
		b = binary.LittleEndian.AppendUint16(b, d.desc.Product)
		b = binary.LittleEndian.AppendUint16(b, d.desc.Release)
		for i, s := range d.strings() {
			if s == "" {
				b = append(b, 0)
			} else {
				b = append(b, byte(i+1))
			}
		}
		return append(b, 1), nil
	case kind == descriptorQualifier:
		return []byte{10, descriptorQualifier, 0x00, 0x02, 0, 0, 0, controlPacket, 1, 0}, nil
	case (kind == descriptorConfig || kind == descriptorOtherSpeed) && index == 0:
		return d.configDescriptor(kind), nil
	case kind == descriptorString && index == 0:
		return []byte{4, descriptorString, languageEnglishUS & 0xff, languageEnglishUS >> 8}, nil
	case kind == descriptorString && int(index) <= len(d.strings()) && language == languageEnglishUS:
		if s := d.strings()[index-1]; s != "" {
			return stringDescriptor(s), nil
		}
	}
	return nil, ErrStall
}

// strings are in the order of their indexes, from 1 on.
func (d *Device) strings() [3]string {
	return [3]string{d.desc.Manufacturer, d.desc.ProductName, d.desc.Serial}
}

func stringDescriptor(s string) []byte {
	units := utf16.Encode([]rune(s))
	units = units[:min(len(units), maxStringUnits)]
	b := []byte{byte(2 + 2*len(units)), descriptorString}
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// configDescriptor is the configuration with all below it (USB 2.0 §9.6.3). Of the
// other speed, full speed, a bulk packet is 64 bytes (§5.8.3).
func (d *Device) configDescriptor(kind uint8) []byte {
	b := []byte{9, kind, 0, 0, byte(len(d.desc.Interfaces)), configurationValue, 0, attributesSelfPowered, maxPower}
	for i, face := range d.desc.Interfaces {
		b = append(b, 9, descriptorInterface, byte(i), 0, byte(len(face.Endpoints)), face.Class, face.SubClass, face.Protocol, 0)
		for _, e := range face.Endpoints {
			attributes, interval, packet := byte(2), byte(0), e.PacketSize
			if e.Interrupt {
				attributes, interval = 3, 6 // every 2^5 microframes, 4 ms (table 9-13)
			}
			if kind == descriptorOtherSpeed {
				packet = min(packet, 64)
			}
			b = append(b, 7, descriptorEndpoint, e.Address, attributes)
			b = binary.LittleEndian.AppendUint16(b, uint16(packet))
			b = append(b, interval)
		}
	}
	binary.LittleEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}
