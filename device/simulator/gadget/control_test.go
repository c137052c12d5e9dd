package gadget_test

import (
	"bytes"
	"errors"
	"testing"
	"unicode/utf16"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// What a Linux host asks when a device comes, and what it must get (USB 2.0 §9.6).
func TestStandardRequests(t *testing.T) {
	config := []byte{
		9, 2, 9 + 9 + 3*7 + 9, 0, 2, 1, 0, 0xc0, 250,
		9, 4, 0, 0, 3, 0xff, 0, 0, 0,
		7, 5, 0x81, 2, 0, 2, 0,
		7, 5, 0x02, 2, 0, 2, 0,
		7, 5, 0x83, 3, 28, 0, 6,
		9, 4, 1, 0, 0, 0xfe, 1, 2, 0,
	}
	other := bytes.Clone(config)
	other[1] = 7
	copy(other[18+4:], []byte{64, 0})
	copy(other[25+4:], []byte{64, 0})
	serial := []byte{0, 3}
	for _, u := range utf16.Encode([]rune("记录仪-1")) {
		serial = append(serial, byte(u), byte(u>>8))
	}
	serial[0] = byte(len(serial))
	for _, c := range []struct {
		name  string
		setup gadget.Setup
		want  []byte // nil: stall
	}{
		{"device", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0100, Length: 64},
			[]byte{18, 1, 0, 2, 0, 0, 0, 64, 0x09, 0x12, 0x01, 0xca, 0x23, 0x01, 1, 0, 3, 1}},
		{"its first 8 bytes", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0100, Length: 8}, []byte{18, 1, 0, 2, 0, 0, 0, 64}},
		{"configuration", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0200, Length: 255}, config},
		{"other speed", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0700, Length: 255}, other},
		{"qualifier", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0600, Length: 10}, []byte{10, 6, 0, 2, 0, 0, 0, 64, 1, 0}},
		{"second configuration", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0201, Length: 9}, nil},
		{"languages", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0300, Length: 255}, []byte{4, 3, 9, 4}},
		{"manufacturer", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0301, Index: 0x409, Length: 255},
			[]byte{10, 3, 'A', 0, 'c', 0, 'm', 0, 'e', 0}},
		{"no product name", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0302, Index: 0x409, Length: 255}, nil},
		{"serial", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0303, Index: 0x409, Length: 255}, serial},
		{"fourth string", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0304, Index: 0x409, Length: 255}, nil},
		{"Microsoft's string", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x03ee, Length: 18}, nil},
		{"BOS", gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x0f00, Length: 5}, nil},
		{"device status", gadget.Setup{RequestType: 0x80, Length: 2}, []byte{1, 0}},
		{"interface status", gadget.Setup{RequestType: 0x81, Index: 1, Length: 2}, []byte{0, 0}},
		{"status of no interface", gadget.Setup{RequestType: 0x81, Index: 2, Length: 2}, nil},
		{"endpoint status", gadget.Setup{RequestType: 0x82, Index: 0x81, Length: 2}, []byte{0, 0}},
		{"status of no endpoint", gadget.Setup{RequestType: 0x82, Index: 0x01, Length: 2}, nil},
		{"configuration value", gadget.Setup{RequestType: 0x80, Request: 8, Length: 1}, []byte{1}},
		{"alternate setting", gadget.Setup{RequestType: 0x81, Request: 10, Index: 1, Length: 1}, []byte{0}},
		{"another alternate setting", gadget.Setup{RequestType: 1, Request: 11, Value: 1}, nil},
		{"another configuration", gadget.Setup{Request: 9, Value: 2}, nil},
		{"remote wake-up", gadget.Setup{Request: 3, Value: 1}, nil},
		{"halt of no endpoint", gadget.Setup{RequestType: 2, Request: 1, Index: 0x85}, nil},
		{"reserved type", gadget.Setup{RequestType: 0xe0, Request: 6, Value: 0x0100, Length: 18}, nil},
		{"of the class", gadget.Setup{RequestType: 0xa1, Request: 0x67, Length: 6}, []byte("status")},
		{"of the vendor", gadget.Setup{RequestType: 0xc0, Request: 1, Length: 6}, nil},
	} {
		got, err := configured(t, &function{}).Control(c.setup, nil)
		switch {
		case c.want == nil && !errors.Is(err, gadget.ErrStall):
			t.Errorf("%s: % x, %v; it should stall", c.name, got, err)
		case c.want != nil && (err != nil || !bytes.Equal(got, c.want)):
			t.Errorf("%s: % x, %v\nit should be % x", c.name, got, err, c.want)
		}
	}
}

func TestBeforeAConfigurationThereIsOnlyEndpointZero(t *testing.T) {
	f := &function{}
	d := newDevice(t, f)
	if f.plugged != 1 || f.queue != gadget.Queue(d) {
		t.Errorf("the function was told %d times that it is plugged in", f.plugged)
	}
	if err := d.Out(out, []byte{1}, false); !errors.Is(err, gadget.ErrStall) || len(f.outs) != 0 {
		t.Error(err)
	}
	if b, err := d.Control(gadget.Setup{RequestType: 0x80, Request: 8, Length: 1}, nil); err != nil || !bytes.Equal(b, []byte{0}) {
		t.Error(b, err)
	}
	if _, err := d.Control(gadget.Setup{RequestType: 0x82, Index: in, Length: 2}, nil); !errors.Is(err, gadget.ErrStall) {
		t.Error(err)
	}
}
