package ptp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
)

// ErrMalformed says that what the recorder sent is not what the specification
// describes.
var ErrMalformed = errors.New("the recorder's answer is malformed")

// decoder takes a data set apart, little endian (USB Still Image Capture Device
// Definition 1.0 §7.1). The first thing that is not there makes all later ones
// zero; end tells.
type decoder struct {
	left  []byte
	short bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.left) {
		d.short, d.left = true, nil
		return nil
	}
	b := d.left[:n]
	d.left = d.left[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// text reads a string: the number of its UTF-16 units with the final NUL, then
// the units (PIMA 15740 §5.3.3). What follows the first NUL is not part of it.
func (d *decoder) text() string {
	raw := d.take(2 * int(d.u8()))
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(raw[2*i:])
	}
	if end := slices.Index(units, 0); end >= 0 {
		units = units[:end]
	}
	return string(utf16.Decode(units))
}

func (d *decoder) u16s() []uint16 {
	n := d.u32()
	if uint64(n)*2 > uint64(len(d.left)) {
		d.short, d.left = true, nil
		return nil
	}
	values := make([]uint16, n)
	for i := range values {
		values[i] = d.u16()
	}
	return values
}

func (d *decoder) u32s() []uint32 {
	n := d.u32()
	if uint64(n)*4 > uint64(len(d.left)) {
		d.short, d.left = true, nil
		return nil
	}
	values := make([]uint32, n)
	for i := range values {
		values[i] = d.u32()
	}
	return values
}

func (d *decoder) end(what string) error {
	if d.short {
		return fmt.Errorf("%s: %w: it is shorter than its own counts say", what, ErrMalformed)
	}
	return nil
}

// DeviceInfo is what a recorder says of itself (PIMA 15740 §5.5.1).
type DeviceInfo struct {
	Operations, Properties               []uint16
	Manufacturer, Model, Version, Serial string
	// Extension names the vendor's extensions, "microsoft.com: 1.0; android.com: 1.0;".
	Extension string
}

// ParseDeviceInfo reads the data of GetDeviceInfo. The strings at the end may be
// missing, as some recorders leave them out; the lists may not.
func ParseDeviceInfo(data []byte) (DeviceInfo, error) {
	d := &decoder{left: data}
	var info DeviceInfo
	d.take(2 + 4 + 2) // standard version, vendor extension id and version
	info.Extension = d.text()
	d.take(2) // functional mode
	info.Operations = d.u16s()
	d.u16s() // events
	info.Properties = d.u16s()
	if err := d.end("DeviceInfo"); err != nil {
		return DeviceInfo{}, err
	}
	d.u16s() // formats that it captures
	d.u16s() // formats that it holds
	info.Manufacturer, info.Model, info.Version, info.Serial = d.text(), d.text(), d.text(), d.text()
	return info, nil
}

// Has reports whether the recorder says that it knows the operation.
func (i DeviceInfo) Has(op uint16) bool { return slices.Contains(i.Operations, op) }

// StorageInfo is one store of a recorder (PIMA 15740 §5.5.3). Sizes in bytes;
// all ones: the recorder does not know.
type StorageInfo struct {
	Capacity, Free     uint64
	Description, Label string
}

// ParseStorageInfo reads the data of GetStorageInfo.
func ParseStorageInfo(data []byte) (StorageInfo, error) {
	d := &decoder{left: data}
	d.take(2 + 2 + 2) // type of storage, of file system, of access
	info := StorageInfo{Capacity: d.u64(), Free: d.u64()}
	d.u32() // free space in pictures
	if err := d.end("StorageInfo"); err != nil {
		return StorageInfo{}, err
	}
	info.Description, info.Label = d.text(), d.text()
	return info, nil
}

// ObjectInfo is one object, a file or a folder (PIMA 15740 §5.5.2).
type ObjectInfo struct {
	Storage uint32
	Format  uint16
	// Size in bytes; SizeUnknown: 4 GiB or more.
	Size   uint32
	Parent uint32
	Name   string
	// Modified is a time as ParseTime reads it, or empty.
	Modified string
}

// ParseObjectInfo reads the data of GetObjectInfo. Strings that are cut off at
// the end are taken as empty; the name may not be.
func ParseObjectInfo(data []byte) (ObjectInfo, error) {
	d := &decoder{left: data}
	info := ObjectInfo{Storage: d.u32(), Format: d.u16()}
	d.u16() // protection
	info.Size = d.u32()
	d.take(2 + 4 + 4 + 4 + 4 + 4 + 4) // of thumbnail and picture: format, size, width, height, bits
	info.Parent = d.u32()
	d.take(2 + 4 + 4) // association type and description, sequence number
	info.Name = d.text()
	if err := d.end("ObjectInfo"); err != nil {
		return ObjectInfo{}, err
	}
	d.text() // capture date
	info.Modified = d.text()
	return info, nil
}

// ParseHandles reads an array of 32-bit values: object handles, storage ids.
func ParseHandles(data []byte) ([]uint32, error) {
	d := &decoder{left: data}
	values := d.u32s()
	return values, d.end("list of handles")
}

// Property describes a device property (PIMA 15740 §13.3.3), of the integer types
// of one and two bytes or of another type.
type Property struct {
	Code, Type uint16
	Settable   bool
	// Current, Min and Max are of an integer with a range; Listed are the values of
	// one with an enumeration.
	Current, Min, Max int64
	Ranged            bool
	Listed            []int64
}

// ParseProperty reads the data of GetDevicePropDesc. Of types other than small
// integers and strings only what stands before the values is read.
func ParseProperty(data []byte) (Property, error) {
	d := &decoder{left: data}
	p := Property{Code: d.u16(), Type: d.u16(), Settable: d.u8() == 1}
	if err := d.end("DevicePropDesc"); err != nil {
		return Property{}, err
	}
	value := d.integer(p.Type)
	if value == nil {
		return p, nil
	}
	value() // factory default
	p.Current = value()
	switch d.u8() {
	case 1:
		p.Min, p.Max, p.Ranged = value(), value(), true
		value() // step
	case 2:
		for range d.u16() {
			if d.short {
				break
			}
			p.Listed = append(p.Listed, value())
		}
	}
	if err := d.end("DevicePropDesc"); err != nil {
		return Property{}, err
	}
	return p, nil
}

// integer gives a reader of a data type of PIMA 15740 §5.3; nil for one that isn't
// a small integer.
func (d *decoder) integer(kind uint16) func() int64 {
	switch kind {
	case 0x0001:
		return func() int64 { return int64(int8(d.u8())) }
	case 0x0002:
		return func() int64 { return int64(d.u8()) }
	case 0x0003:
		return func() int64 { return int64(int16(d.u16())) }
	case 0x0004:
		return func() int64 { return int64(d.u16()) }
	}
	return nil
}
