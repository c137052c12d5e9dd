package gadget_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// FuzzTransfers lets a host with any sizes of transfers read any sizes of messages:
// all bytes come, once and in order, or the size did not fit.
func FuzzTransfers(f *testing.F) {
	f.Add([]byte{3, 0, 2, 1, 200, 10}, uint8(8))
	f.Add([]byte{0, 0, 0, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, plan []byte, packet uint8) {
		size := int(packet)%64 + 1
		d, err := gadget.NewDevice(odd{[]gadget.Endpoint{{Address: in, PacketSize: size}}})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Unplug()
		if _, err := d.Control(gadget.Setup{Request: 9, Value: 1}, nil); err != nil {
			t.Fatal(err)
		}
		var want, got []byte
		for i, n := range plan[:min(len(plan), 32)] {
			b := pattern(int(n) * 3)
			want = append(want, b...)
			if i%3 == 0 {
				d.SendCounted(in, bytes.NewReader(b), int64(len(b)))
			} else {
				d.Send(in, bytes.NewReader(b), int64(len(b)))
			}
		}
		// So that the last transfer ends: after a counted message nothing says so.
		want = append(want, 1)
		d.Send(in, bytes.NewReader([]byte{1}), 1)
		for i := 0; len(got) < len(want); i++ {
			room := size
			if len(plan) > 0 {
				room = (int(plan[i%len(plan)]) + 1) * size
			}
			b, err := read(t, d, room)
			if err != nil {
				t.Fatalf("after %d of %d bytes: %v", len(got), len(want), err)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, want) {
			t.Error("other bytes")
		}
	})
}

// FuzzControl: no request makes a device answer more than was asked for.
func FuzzControl(f *testing.F) {
	f.Add([]byte{0x80, 6, 0, 1, 0, 0, 18, 0})
	f.Add([]byte{0x80, 6, 2, 3, 9, 4, 255, 0})
	f.Add([]byte{0x02, 1, 0, 0, 0x81, 0, 0, 0})
	f.Add([]byte{0x81, 10, 0, 0, 1, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 {
			return
		}
		le := binary.LittleEndian
		s := gadget.Setup{RequestType: b[0], Request: b[1], Value: le.Uint16(b[2:]), Index: le.Uint16(b[4:]), Length: le.Uint16(b[6:])}
		for _, d := range []*gadget.Device{newDevice(t, &function{}), configured(t, &function{})} {
			got, err := d.Control(s, b[8:])
			if len(got) > int(s.Length) || (err != nil && !errors.Is(err, gadget.ErrStall)) {
				t.Errorf("%+v: %d bytes, %v", s, len(got), err)
			}
		}
	})
}
