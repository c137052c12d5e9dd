package diskgadget_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator/diskgadget"
)

func card(b []byte) diskgadget.LUN {
	return diskgadget.LUN{Image: bytes.NewReader(b), Size: int64(len(b))}
}

// What Linux asks a disk until it is there (sd.c, usb-storage).
func TestIsRecognised(t *testing.T) {
	b := image(64)
	d := newDisk(t, diskgadget.Config{
		Manufacturer: "Acme", ProductName: "Recorder 记", Serial: "BWC1", Release: 0x0123,
		LUNs: []diskgadget.LUN{card(b), {Fixed: true, Product: "Inner"}},
	})
	h := plug(t, d)
	maxLUN := make([]byte, 1)
	if n, err := h.pipe.Control(t.Context(), 0xa1, 0xfe, 0, maxLUN); n != 1 || err != nil || maxLUN[0] != 1 {
		t.Errorf("highest LUN: % x, %v", maxLUN, err)
	}
	r := h.in(0, 36, 0x12, 0, 0, 0, 36, 0)
	if want := "\x00\x80\x04\x02\x1f\x00\x00\x00Acme    Recorder        1.23"; string(r.data) != want || r.status != 0 || r.residue != 0 {
		t.Errorf("INQUIRY: %q, %+v", r.data, r)
	}
	if r = h.in(1, 255, 0x12, 0, 0, 0, 255, 0); len(r.data) != 36 || r.data[1] != 0 || string(r.data[16:21]) != "Inner" || r.residue != 255-36 {
		t.Errorf("INQUIRY of an empty slot: %+v", r)
	}
	if r = h.out(0, nil, 0, 0, 0, 0, 0, 0); r.status != 0 {
		t.Errorf("TEST UNIT READY: %+v", r)
	}
	if r = h.out(1, nil, 0, 0, 0, 0, 0, 0); r.status != 1 {
		t.Errorf("TEST UNIT READY of an empty slot: %+v", r)
	}
	h.wantSense(1, 2, 0x3a, 0)
	h.wantSense(1, 0, 0, 0) // it is told once
	if r = h.in(0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0); !bytes.Equal(r.data, []byte{0, 0, 0, 63, 0, 0, 2, 0}) {
		t.Errorf("READ CAPACITY(10): %+v", r)
	}
	r = h.in(0, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0)
	if !bytes.Equal(r.data, append([]byte{0, 0, 0, 0, 0, 0, 0, 63, 0, 0, 2, 0}, make([]byte, 20)...)) {
		t.Errorf("READ CAPACITY(16): %+v", r)
	}
	if r = h.in(0, 192, 0x1a, 0, 0x3f, 0, 192, 0); len(r.data) != 24 || r.data[0] != 23 || r.data[2] != 0x80 || r.data[4] != 8 || r.residue != 168 {
		t.Errorf("MODE SENSE(6): %+v", r)
	}
	if r = h.in(0, 8, 0x5a, 0, 0x08, 0, 0, 0, 0, 0, 8, 0); !bytes.Equal(r.data, []byte{0, 26, 0, 0x80, 0, 0, 0, 0}) {
		t.Errorf("MODE SENSE(10): %+v", r)
	}
	if r = h.in(0, 512, 0xa0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0); len(r.data) != 24 || r.data[3] != 16 || r.data[17] != 1 {
		t.Errorf("REPORT LUNS: %+v", r)
	}
	for page, want := range map[byte]string{
		0x00: "\x00\x00\x00\x03\x00\x80\x83", 0x80: "\x00\x80\x00\x04BWC1",
		0x83: "\x00\x83\x00\x22\x02\x01\x00\x1eAcme    Recorder        BWC1-0",
	} {
		if r = h.in(0, 255, 0x12, 1, page, 0, 255, 0); string(r.data) != want {
			t.Errorf("page %x: %q", page, r.data)
		}
	}
	for _, cdb := range [][]byte{
		{0x1e, 0, 0, 0, 1, 0}, {0x1e, 0, 0, 0, 0, 0}, {0x1b, 0, 0, 0, 1, 0}, {0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {0x2f, 0, 0, 0, 0, 0, 0, 0, 1, 0},
	} {
		if r = h.out(0, nil, cdb...); r.status != 0 {
			t.Errorf("command % x: %+v", cdb, r)
		}
	}
	if c := d.Counts(); c.Writes != 0 || c.Read != 0 || c.Invalid != 0 {
		t.Errorf("counted: %+v", c)
	}
}

func TestLargeDisks(t *testing.T) {
	const sectors = 1<<32 + 5
	d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{{Image: bigImage{}, Size: sectors * 512}, {Image: bigImage{}, Size: 1 << 20, Block: 4096}}})
	h := plug(t, d)
	if r := h.in(0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0); !bytes.Equal(r.data, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0}) {
		t.Errorf("READ CAPACITY(10): %+v", r)
	}
	r := h.in(0, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0)
	if !bytes.Equal(r.data[:12], []byte{0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 2, 0}) {
		t.Errorf("READ CAPACITY(16): %+v", r)
	}
	r = h.in(0, 512, rw16(0x88, 1<<32+4, 1)...)
	want := make([]byte, 512)
	if _, err := (bigImage{}).ReadAt(want, (1<<32+4)*512); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.data, want) || r.status != 0 {
		t.Errorf("READ(16): %+v", r)
	}
	if r = h.in(0, 1024, rw16(0x88, 1<<32+4, 2)...); r.status != 1 || !r.stalled || r.residue != 1024 {
		t.Errorf("beyond the end: %+v", r)
	}
	h.wantSense(0, 5, 0x21, 0)
	if r = h.in(1, 8192, rw10(0x28, 254, 2)...); len(r.data) != 8192 || r.status != 0 {
		t.Errorf("sectors of 4096: %+v", r)
	}
}

// bigImage has a byte for each offset.
type bigImage struct{}

func (bigImage) ReadAt(p []byte, at int64) (int, error) {
	for i := range p {
		p[i] = byte((at + int64(i)) >> 9 * 3)
	}
	return len(p), nil
}

func TestReadsEveryByte(t *testing.T) {
	b := image(600)
	d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(image(1)), card(b)}})
	h := plug(t, d)
	var got []byte
	for sector := uint32(0); sector < 600; sector += 240 { // 120 KiB, as usb-storage does
		r := h.read10(1, sector, uint16(min(240, 600-sector)))
		if r.status != 0 || r.residue != 0 || r.stalled {
			t.Fatalf("at sector %d: %+v", sector, r.status)
		}
		got = append(got, r.data...)
	}
	if !bytes.Equal(got, b) {
		t.Error("other bytes")
	}
	for _, cdb := range [][]byte{{0x08, 0, 0, 7, 2, 0}, rw12(0xa8, 7, 2), rw16(0x88, 7, 2)} {
		if r := h.in(1, 1024, cdb...); !bytes.Equal(r.data, b[7*512:9*512]) || r.status != 0 {
			t.Errorf("command % x: %+v", cdb, r)
		}
	}
	if r := h.in(1, 256*512, 0x08, 0, 0, 0, 0, 0); !bytes.Equal(r.data, b[:256*512]) {
		t.Errorf("READ(6) of 0, which is 256: %d bytes", len(r.data))
	}
	if r := h.out(1, nil, rw10(0x28, 3, 0)...); r.status != 0 {
		t.Errorf("READ(10) of nothing: %+v", r)
	}
	if c := d.Counts(); c.Read != 600*512+3*1024+256*512 || c.Writes != 0 {
		t.Errorf("counted: %+v", c)
	}
}

func TestWriteProtected(t *testing.T) {
	b := image(16)
	before := bytes.Clone(b)
	d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(b)}})
	h := plug(t, d)
	data := make([]byte, 1024)
	for _, cdb := range [][]byte{
		rw10(0x2a, 1, 2), rw12(0xaa, 1, 2), rw16(0x8a, 1, 2), {0x0a, 0, 0, 1, 2, 0}, rw10(0x2e, 1, 2), rw16(0x8e, 1, 2), rw12(0xae, 1, 2), rw16(0x89, 1, 2),
		rw10(0x41, 1, 2), rw16(0x93, 1, 2), {0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, {0x04, 0, 0, 0, 0, 0}, {0x15, 0, 0, 0, 24, 0}, {0x55, 0, 0, 0, 0, 0, 0, 0, 24, 0},
	} {
		if r := h.out(0, data, cdb...); r.status != 1 || r.residue != 1024 {
			t.Errorf("command % x: %+v", cdb, r)
		}
		h.wantSense(0, 7, 0x27, 0)
	}
	if c := d.Counts(); c.Writes != 14 || c.WriteBytes != 14*1024 {
		t.Errorf("counted: %+v", c)
	}
	if !bytes.Equal(b, before) {
		t.Error("the image has changed")
	}
}

// ram is an image that can be written.
type ram []byte

func (r ram) WriteAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > int64(len(r)) {
		return 0, io.ErrShortWrite
	}
	return copy(r[at:], p), nil
}

func TestWritable(t *testing.T) {
	b := image(16)
	l := card(b)
	l.Writer = ram(b)
	d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{l}})
	h := plug(t, d)
	want := bytes.Clone(b)
	data := bytes.Repeat([]byte{0xa5}, 5*512) // in three transfers
	copy(want[3*512:], data)
	if r := h.out(0, data, rw10(0x2a, 3, 5)...); r.status != 0 || r.residue != 0 {
		t.Errorf("WRITE: %+v", r)
	}
	if r := h.out(0, data, rw10(0x2a, 14, 5)...); r.status != 1 || r.residue != uint32(len(data)) {
		t.Errorf("WRITE beyond the end: %+v", r)
	}
	h.wantSense(0, 5, 0x21, 0)
	if r := h.read10(0, 0, 16); !bytes.Equal(r.data, want) {
		t.Error("other bytes")
	}
	if r := h.in(0, 192, 0x1a, 0, 0x3f, 0, 192, 0); r.data[2] != 0 {
		t.Errorf("says that it is write-protected: % x", r.data)
	}
	if c := d.Counts(); c.Writes != 2 || c.WriteBytes != 2*5*512 {
		t.Errorf("counted: %+v", c)
	}
}

func TestSectorsThatCantBeRead(t *testing.T) {
	b := image(600)
	l := card(b)
	l.Bad = []int64{400, 130}
	d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{l}})
	h := plug(t, d)
	for _, c := range []struct {
		sector uint32
		count  uint16
		bad    int64 // -1: none
	}{{0, 240, 130}, {130, 1, 130}, {131, 100, -1}, {131, 300, 400}, {0, 130, -1}, {399, 2, 400}} {
		r := h.read10(0, c.sector, c.count)
		good := int64(c.count)
		if c.bad >= 0 {
			good = c.bad - int64(c.sector)
		}
		from := int64(c.sector) * 512
		if !bytes.Equal(r.data, b[from:from+good*512]) || r.stalled != (c.bad >= 0) || int64(r.residue) != (int64(c.count)-good)*512 {
			t.Errorf("%d sectors from %d: %d bytes, stalled %v, residue %d, status %d", c.count, c.sector, len(r.data), r.stalled, r.residue, r.status)
		}
		sense, at, valid := h.sense(0)
		switch {
		case c.bad < 0 && (r.status != 0 || sense != [3]byte{}):
			t.Errorf("%d sectors from %d: status %d, sense % x", c.count, c.sector, r.status, sense)
		case c.bad >= 0 && (r.status != 1 || sense != [3]byte{3, 0x11, 0} || !valid || int64(at) != c.bad):
			t.Errorf("%d sectors from %d: status %d, sense % x at %d", c.count, c.sector, r.status, sense, at)
		}
	}
	if c := d.Counts(); c.ReadErrors != 4 {
		t.Errorf("counted: %+v", c)
	}
}

// An image that fails, or is shorter than the disk, is a disk with sectors that can't
// be read: never zeros.
func TestAnImageThatFails(t *testing.T) {
	b := image(10)
	d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{{Image: bytes.NewReader(b[:7*512+100]), Size: int64(len(b))}}})
	h := plug(t, d)
	r := h.read10(0, 0, 10)
	if !bytes.Equal(r.data, b[:7*512]) || !r.stalled || r.status != 1 || r.residue != 3*512 {
		t.Errorf("%d bytes, %+v", len(r.data), r.status)
	}
	if sense, at, valid := h.sense(0); sense != [3]byte{3, 0x11, 0} || at != 7 || !valid {
		t.Errorf("sense % x at %d", sense, at)
	}
}

func TestYank(t *testing.T) {
	b := image(1000)
	d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(b), card(b)}, YankAfter: 300 * 512})
	h := plug(t, d)
	for lun := range byte(2) {
		if r := h.read10(lun, 0, 100); !bytes.Equal(r.data, b[:100*512]) {
			t.Fatalf("LUN %d: %d bytes", lun, len(r.data))
		}
	}
	if _, err := h.try(0, true, 200*512, nil, rw10(0x28, 100, 200)); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("%v", err)
	}
	if c := d.Counts(); c.Read != 300*512 {
		t.Errorf("counted: %+v", c)
	}
	// Docked again it goes on; what was read stays counted.
	h = plug(t, d)
	if _, err := h.try(0, true, 512, nil, rw10(0x28, 0, 1)); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("%v", err)
	}
}

func TestASlowDiskCanBePulled(t *testing.T) {
	b := image(100)
	d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(b)}, BytesPerSecond: 1})
	h := plug(t, d)
	if err := h.pipe.Send(h.context(), h.cbw(0, true, 512, rw10(0x28, 0, 1)), false); err != nil {
		t.Fatal(err)
	}
	// The sector takes 512 s.
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if n, err := h.pipe.Receive(soon, make([]byte, 512)); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	h.pipe.Unplug()
	if _, err := h.pipe.Receive(h.context(), make([]byte, 512)); !errors.Is(err, device.ErrRemoved) {
		t.Error(err)
	}
	if c := d.Counts(); c.Read != 0 {
		t.Errorf("counted: %+v", c)
	}
	quick := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(b)}, BytesPerSecond: 4 << 20})
	if r := plug(t, quick).read10(0, 0, 100); !bytes.Equal(r.data, b) || r.status != 0 {
		t.Errorf("%d bytes", len(r.data))
	}
}

func TestEject(t *testing.T) {
	d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(image(4))}})
	h := plug(t, d)
	h.out(0, nil, 0x1e, 0, 0, 0, 1, 0)
	if r := h.out(0, nil, 0x1b, 0, 0, 0, 2, 0); r.status != 1 || d.Counts().Ejected[0] {
		t.Errorf("ejected while it is locked: %+v", r)
	}
	h.wantSense(0, 5, 0x53, 2)
	h.out(0, nil, 0x1e, 0, 0, 0, 0, 0)
	if r := h.out(0, nil, 0x1b, 0, 0, 0, 2, 0); r.status != 0 || !d.Counts().Ejected[0] {
		t.Errorf("not ejected: %+v", r)
	}
	if r := h.read10(0, 0, 1); r.status != 1 || len(r.data) != 0 || !r.stalled {
		t.Errorf("read of what is out: %+v", r)
	}
	h.wantSense(0, 2, 0x3a, 0)
	h.pipe.Unplug()
	if r := plug(t, d).read10(0, 0, 1); r.status != 0 {
		t.Errorf("docked again: %+v", r)
	}
}

func TestConfigurationsThatCantBe(t *testing.T) {
	for name, c := range map[string]diskgadget.Config{
		"no LUN":         {},
		"too many":       {LUNs: make([]diskgadget.LUN, 17)},
		"half a sector":  {LUNs: []diskgadget.LUN{{Image: bytes.NewReader(nil), Size: 700}}},
		"no size":        {LUNs: []diskgadget.LUN{{Image: bytes.NewReader(nil)}}},
		"an odd sector":  {LUNs: []diskgadget.LUN{{Block: 1000}}},
		"a large sector": {LUNs: []diskgadget.LUN{{Block: 8192}}},
	} {
		if _, err := diskgadget.New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
