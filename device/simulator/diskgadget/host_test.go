package diskgadget_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/diskgadget"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/usb"
)

const patience = 60 * time.Second

// host is the other end of bulk-only transport, written from the specification as
// the kernel's is: CBW, data, CSW, and a halt cleared where there is one.
type host struct {
	t    *testing.T
	pipe *gadget.Pipe
	tag  uint32
}

// result is what a command came to.
type result struct {
	data    []byte
	stalled bool // in the data stage
	status  byte
	residue uint32
}

func newDisk(t *testing.T, c diskgadget.Config) *diskgadget.Disk {
	t.Helper()
	d, err := diskgadget.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func plug(t *testing.T, d *diskgadget.Disk) *host {
	t.Helper()
	p := gadget.NewPipe(d, 0)
	t.Cleanup(p.Unplug)
	return &host{t: t, pipe: p}
}

func (h *host) context() context.Context {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	h.t.Cleanup(cancel)
	return ctx
}

func (h *host) cbw(lun byte, in bool, length uint32, cdb []byte) []byte {
	h.tag++
	b := []byte("USBC")
	b = binary.LittleEndian.AppendUint32(b, h.tag)
	b = binary.LittleEndian.AppendUint32(b, length)
	flags := byte(0)
	if in {
		flags = 0x80
	}
	b = append(b, flags, lun, byte(len(cdb)))
	b = append(b, cdb...)
	return append(b, make([]byte, 31-len(b))...)
}

// in does a command whose data stage goes to the host; n bytes of it are expected.
func (h *host) in(lun byte, n uint32, cdb ...byte) result {
	h.t.Helper()
	r, err := h.try(lun, true, n, nil, cdb)
	if err != nil {
		h.t.Fatalf("command % x: %v", cdb, err)
	}
	return r
}

// out does a command whose data stage goes to the disk, or that has none.
func (h *host) out(lun byte, data []byte, cdb ...byte) result {
	h.t.Helper()
	r, err := h.try(lun, false, uint32(len(data)), data, cdb)
	if err != nil {
		h.t.Fatalf("command % x: %v", cdb, err)
	}
	return r
}

func (h *host) try(lun byte, in bool, n uint32, data, cdb []byte) (result, error) {
	h.t.Helper()
	ctx := h.context()
	var r result
	if err := h.pipe.Send(ctx, h.cbw(lun, in, n, cdb), false); err != nil {
		return r, err
	}
	var err error
	switch {
	case n == 0:
	case in:
		r.data = make([]byte, n)
		var got int
		got, err = h.pipe.Receive(ctx, r.data)
		r.data = r.data[:got]
	default:
		for part := range slices.Chunk(data, 1024) {
			if err = h.pipe.Send(ctx, part, false); err != nil {
				break
			}
		}
	}
	switch {
	case errors.Is(err, usb.ErrStall):
		r.stalled = true
		if err := h.pipe.ClearHalt(in); err != nil {
			return r, err
		}
	case err != nil:
		return r, err
	}
	csw := make([]byte, 13)
	got, err := h.pipe.Receive(ctx, csw)
	if err != nil {
		return r, err
	}
	if got != 13 || string(csw[:4]) != "USBS" || binary.LittleEndian.Uint32(csw[4:]) != h.tag {
		h.t.Fatalf("status of command % x: % x", cdb, csw[:got])
	}
	r.residue, r.status = binary.LittleEndian.Uint32(csw[8:]), csw[12]
	return r, nil
}

// sense asks why the last command failed: key, code, qualifier, and the sector if
// there is one.
func (h *host) sense(lun byte) (sense [3]byte, sector uint32, valid bool) {
	h.t.Helper()
	r := h.in(lun, 18, 0x03, 0, 0, 0, 18, 0)
	if r.status != 0 || len(r.data) != 18 || r.data[0]&0x7f != 0x70 || r.data[7] != 10 {
		h.t.Fatalf("sense data: %+v", r)
	}
	return [3]byte{r.data[2] & 0x0f, r.data[12], r.data[13]}, binary.BigEndian.Uint32(r.data[3:]), r.data[0]&0x80 != 0
}

func (h *host) wantSense(lun, key, asc, ascq byte) {
	h.t.Helper()
	if got, _, _ := h.sense(lun); got != [3]byte{key, asc, ascq} {
		h.t.Errorf("sense is % x, not %x %x %x", got, key, asc, ascq)
	}
}

// read10 reads sectors of 512 bytes.
func (h *host) read10(lun byte, sector uint32, count uint16) result {
	h.t.Helper()
	return h.in(lun, uint32(count)*512, rw10(0x28, sector, count)...)
}

func rw10(op byte, sector uint32, count uint16) []byte {
	b := binary.BigEndian.AppendUint32([]byte{op, 0}, sector)
	b = binary.BigEndian.AppendUint16(append(b, 0), count)
	return append(b, 0)
}

func rw16(op byte, sector uint64, count uint32) []byte {
	b := binary.BigEndian.AppendUint64([]byte{op, 0}, sector)
	b = binary.BigEndian.AppendUint32(b, count)
	return append(b, 0, 0)
}

func rw12(op byte, sector, count uint32) []byte {
	b := binary.BigEndian.AppendUint32([]byte{op, 0}, sector)
	b = binary.BigEndian.AppendUint32(b, count)
	return append(b, 0, 0)
}

// image has other bytes in each sector.
func image(sectors int) []byte {
	b := make([]byte, sectors*512)
	for i := range b {
		b[i] = byte(i/512*31 + i%251)
	}
	return b
}
