package diskgadget_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/bodyworn/ingestd/device/simulator/diskgadget"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/usb"
)

// The thirteen cases of BOT §6.7 in which host and device agree, or do not.
func TestCases(t *testing.T) {
	b := image(8)
	l := card(b)
	l.Writer = ram(bytes.Clone(b))
	read, write, none := rw10(0x28, 0, 2), rw10(0x2a, 0, 2), []byte{0, 0, 0, 0, 0, 0}
	kilobyte := func(n int) []byte { return make([]byte, n*1024) }
	for _, c := range []struct {
		name    string
		in      bool
		host    int // KiB that it expects, or has
		cdb     []byte
		bytes   int
		stalled bool
		status  byte
		residue uint32
	}{
		{"1: nothing, nothing", false, 0, none, 0, false, 0, 0},
		{"2: nothing, device sends", false, 0, read, 0, false, 2, 0},
		{"3: nothing, device receives", false, 0, write, 0, false, 2, 0},
		{"4: host expects, device has nothing", true, 1, none, 0, true, 0, 1024},
		{"5: host expects more", true, 3, read, 1024, false, 0, 2048},
		{"6: as expected", true, 1, read, 1024, false, 0, 0},
		{"7: host expects less", true, 1, rw10(0x28, 0, 4), 0, true, 2, 1024},
		{"8: host expects, device receives", true, 1, write, 0, true, 2, 1024},
		{"9: host sends, device wants nothing", false, 1, none, 0, false, 0, 1024},
		{"10: host sends, device sends", false, 1, read, 0, false, 2, 1024},
		{"11: host sends more", false, 3, write, 0, false, 0, 2048},
		{"12: as much as it wants", false, 1, write, 0, false, 0, 0},
		{"13: host sends less", false, 1, rw10(0x2a, 0, 4), 0, false, 2, 1024},
	} {
		h := plug(t, newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{l}}))
		var r result
		if c.in {
			r = h.in(0, uint32(c.host)*1024, c.cdb...)
		} else {
			r = h.out(0, kilobyte(c.host), c.cdb...)
		}
		if len(r.data) != c.bytes || r.stalled != c.stalled || r.status != c.status || r.residue != c.residue {
			t.Errorf("%s: %d bytes, stalled %v, status %d, residue %d", c.name, len(r.data), r.stalled, r.status, r.residue)
		}
		// Whatever it was, the next command works.
		if r := h.read10(0, 2, 1); !bytes.Equal(r.data, b[2*512:3*512]) || r.status != 0 {
			t.Errorf("after %s: %+v", c.name, r)
		}
	}
}

func TestUnknownCommands(t *testing.T) {
	h := plug(t, newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(image(1))}}))
	for _, c := range []struct {
		cdb []byte
		asc byte
	}{
		{[]byte{0xd0}, 0x20}, {[]byte{0x12, 1, 0xb0, 0, 64, 0}, 0x24}, {[]byte{0x12, 0, 1, 0, 64, 0}, 0x24},
		{[]byte{0x1a, 0, 0x1c, 0, 64, 0}, 0x24}, {[]byte{0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64}, 0x24},
	} {
		if r := h.in(0, 64, c.cdb...); r.status != 1 || !r.stalled || r.residue != 64 {
			t.Errorf("command % x: %+v", c.cdb, r)
		}
		h.wantSense(0, 5, c.asc, 0)
	}
}

// Only a reset recovery gets a disk out of a command block that made no sense: reset,
// clear both halts (BOT §5.3.4, §6.6.1).
func TestResetRecovery(t *testing.T) {
	good := func(h *host) []byte { return h.cbw(0, true, 512, rw10(0x28, 0, 1)) }
	for name, bad := range map[string]func(h *host) []byte{
		"too short":       func(h *host) []byte { return good(h)[:30] },
		"too long":        func(h *host) []byte { return append(good(h), 0) },
		"signature":       func(h *host) []byte { return append([]byte("USBX"), good(h)[4:]...) },
		"no such LUN":     func(h *host) []byte { return h.cbw(1, true, 512, rw10(0x28, 0, 1)) },
		"no command":      func(h *host) []byte { return h.cbw(0, true, 512, nil) },
		"long command":    func(h *host) []byte { b := good(h); b[14] = 17; return b },
		"reserved flags":  func(h *host) []byte { b := good(h); b[12] = 0xc0; return b },
		"an empty packet": func(*host) []byte { return nil },
		"before the status of the last": func(h *host) []byte {
			if err := h.pipe.Send(h.context(), good(h), false); err != nil {
				t.Fatal(err)
			}
			return good(h)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := image(1)
			d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(b)}})
			h := plug(t, d)
			if err := h.pipe.Send(h.context(), bad(h), false); !errors.Is(err, usb.ErrStall) {
				t.Fatal(err)
			}
			for range 2 {
				for _, in := range []bool{true, false} {
					if err := h.pipe.ClearHalt(in); err != nil {
						t.Fatal(err)
					}
				}
				_, received := h.pipe.Receive(h.context(), make([]byte, 512))
				sent := h.pipe.Send(h.context(), good(h), false)
				if !errors.Is(received, usb.ErrStall) || !errors.Is(sent, usb.ErrStall) {
					t.Fatalf("%v, %v; halts that are cleared without a reset come again", received, sent)
				}
			}
			if _, err := h.pipe.Control(h.context(), 0x21, 0xff, 0, nil); err != nil {
				t.Fatal(err)
			}
			if err := h.pipe.Send(h.context(), good(h), false); !errors.Is(err, usb.ErrStall) {
				t.Fatalf("%v; the reset leaves the halts", err)
			}
			for _, in := range []bool{true, false} {
				if err := h.pipe.ClearHalt(in); err != nil {
					t.Fatal(err)
				}
			}
			if r := h.read10(0, 0, 1); !bytes.Equal(r.data, b) || r.status != 0 {
				t.Errorf("%+v", r)
			}
			if c := d.Counts(); c.Invalid != 1 || c.Resets != 1 {
				t.Errorf("counted: %+v", c)
			}
		})
	}
}

// After a port reset the kernel configures the device anew.
func TestPortReset(t *testing.T) {
	b := image(1)
	h := plug(t, newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(b)}}))
	if err := h.pipe.Send(h.context(), h.cbw(0, true, 512, rw10(0x28, 0, 1)), false); err != nil {
		t.Fatal(err)
	}
	if _, err := h.pipe.Device().Control(gadget.Setup{Request: 9, Value: 1}, nil); err != nil {
		t.Fatal(err)
	}
	if r := h.read10(0, 0, 1); !bytes.Equal(r.data, b) || r.status != 0 {
		t.Errorf("%+v", r)
	}
}

func TestRequestsThatAreNotItsOwn(t *testing.T) {
	h := plug(t, newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(image(1))}}))
	for _, c := range []struct {
		requestType, request uint8
		value                uint16
		n                    int
	}{{0xa1, 0xfe, 1, 1}, {0xa1, 0xfe, 0, 2}, {0x21, 0xff, 1, 0}, {0x21, 0xff, 0, 1}, {0xc1, 0xfe, 0, 1}, {0xa1, 0x01, 0, 1}} {
		if _, err := h.pipe.Control(h.context(), c.requestType, c.request, c.value, make([]byte, c.n)); !errors.Is(err, usb.ErrStall) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// FuzzCommands: whatever a host sends as a command, an image that is write-protected
// does not change, the disk answers as the transport wants it, and goes on.
func FuzzCommands(f *testing.F) {
	for _, cdb := range [][]byte{rw10(0x28, 0, 2), rw10(0x2a, 0, 2), rw16(0x88, 1<<63, 1<<31), {0x12, 1, 0x83, 0, 255}, {0x1a, 0, 0x3f, 0, 192}, {0xa8, 0, 255, 255, 255, 255, 255, 255, 255, 255}} {
		f.Add(cdb, true, uint16(512), byte(0))
		f.Add(cdb, false, uint16(700), byte(1))
	}
	f.Fuzz(func(t *testing.T, cdb []byte, in bool, n uint16, lun byte) {
		if len(cdb) < 1 || len(cdb) > 16 {
			return
		}
		b := image(8)
		before := bytes.Clone(b)
		l := card(b)
		l.Bad = []int64{6}
		h := plug(t, newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{l, l}}))
		lun %= 2
		length := (uint32(n) + 511) / 512 * 512 // a host that leaves room for whole packets
		var r result
		if in {
			r = h.in(lun, length, cdb...)
		} else {
			r = h.out(lun, make([]byte, length), cdb...)
		}
		if r.status > 2 || r.residue > length || len(r.data) > int(length) || (in && uint32(len(r.data)) != length-r.residue) {
			t.Errorf("command % x: %d bytes of %d, status %d, residue %d", cdb, len(r.data), length, r.status, r.residue)
		}
		if !bytes.Equal(b, before) {
			t.Error("the image has changed")
		}
		if r := h.in(lun, 36, 0x12, 0, 0, 0, 36, 0); len(r.data) != 36 || r.status != 0 {
			t.Errorf("after command % x: %+v", cdb, r)
		}
	})
}

// FuzzCommandBlock sends any bytes in the place of a command block.
func FuzzCommandBlock(f *testing.F) {
	f.Add((&host{}).cbw(0, true, 512, rw10(0x28, 0, 1)))
	f.Add((&host{}).cbw(0, false, 1<<31, rw10(0x2a, 0, 1)))
	f.Add([]byte("USBC"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDisk(t, diskgadget.Config{LUNs: []diskgadget.LUN{card(image(8))}})
		h := plug(t, d)
		err := h.pipe.Send(h.context(), b, false)
		if stalled := errors.Is(err, usb.ErrStall); stalled != (d.Counts().Invalid == 1) || (err != nil && !stalled) {
			t.Errorf("%v, %+v", err, d.Counts())
		}
	})
}
