package usbip_test

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/usbip"
)

const (
	patience   = 60 * time.Second
	bulkIn     = 0x81
	bulkOut    = 0x02
	econnreset = -104
	epipe      = -32
	eoverflow  = -75
)

// kernel is the other end of the wire as vhci_hcd is it.
type kernel struct {
	t        *testing.T
	conn     net.Conn
	sequence uint32
	in       map[uint32]bool
}

// reply is a RET_SUBMIT or RET_UNLINK.
type reply struct {
	command, sequence uint32
	status            int32
	actual            int
	data              []byte
	header            [48]byte
}

// function is a gadget whose Out is the test's; it may be nil.
type function struct {
	onOut func(q gadget.Queue, data []byte) error
	mu    sync.Mutex
	queue gadget.Queue
	outs  [][]byte
}

func (f *function) Descriptors() gadget.Descriptors {
	return gadget.Descriptors{
		Vendor: 0x1209, Product: 0xca01, Serial: "S1",
		Interfaces: []gadget.Interface{{Class: 0xff, Endpoints: []gadget.Endpoint{
			{Address: bulkIn, PacketSize: 512}, {Address: bulkOut, PacketSize: 512}, {Address: 0x83, Interrupt: true, PacketSize: 28},
		}}},
	}
}

func (f *function) Plugged(q gadget.Queue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = q
}

func (f *function) Queue() gadget.Queue {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.queue
}

func (f *function) Control(gadget.Setup, []byte) ([]byte, error) { return nil, gadget.ErrStall }

func (f *function) Out(q gadget.Queue, _ uint8, data []byte) error {
	f.mu.Lock()
	f.outs = append(f.outs, data)
	f.mu.Unlock()
	if f.onOut == nil {
		return nil
	}
	return f.onOut(q, data)
}

func (f *function) transfers() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.outs)
}

// pair is the socket pair that Attach makes.
func pair(t *testing.T) (ours, kernels net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	return conns[0], conns[1]
}

// attached plugs fn into a kernel and configures it.
func attached(t *testing.T, fn gadget.Function) (*usbip.Link, *kernel) {
	t.Helper()
	ours, kernels := pair(t)
	l, err := usbip.Serve(ours, fn)
	if err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, kernels)
	t.Cleanup(func() {
		_ = kernels.Close()
		_ = l.Close()
	})
	if r := k.control([8]byte{0, 9, 1}, nil); r.status != 0 {
		t.Fatalf("SET_CONFIGURATION: %+v", r)
	}
	return l, k
}

func newKernel(t *testing.T, conn net.Conn) *kernel {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &kernel{t: t, conn: conn, in: map[uint32]bool{}}
}

// submit sends CMD_SUBMIT and gives its sequence number.
func (k *kernel) submit(endpoint uint32, in bool, length int, flags uint32, setup [8]byte, out []byte) uint32 {
	k.t.Helper()
	k.sequence++
	h := make([]byte, 48, 48+len(out))
	be := binary.BigEndian
	be.PutUint32(h[0:], 1)
	be.PutUint32(h[4:], k.sequence)
	be.PutUint32(h[8:], 0x10001)
	if in {
		be.PutUint32(h[12:], 1)
		k.in[k.sequence] = true
	}
	be.PutUint32(h[16:], endpoint)
	be.PutUint32(h[20:], flags)
	be.PutUint32(h[24:], uint32(length))
	be.PutUint32(h[32:], 0xffffffff)
	copy(h[40:], setup[:])
	if _, err := k.conn.Write(append(h, out...)); err != nil {
		k.t.Fatal(err)
	}
	return k.sequence
}

func (k *kernel) submitIn(n int) uint32 {
	k.t.Helper()
	return k.submit(1, true, n, 0, [8]byte{}, nil)
}

func (k *kernel) submitOut(data []byte) uint32 {
	k.t.Helper()
	return k.submit(2, false, len(data), 0, [8]byte{}, data)
}

// unlink sends CMD_UNLINK.
func (k *kernel) unlink(sequence uint32) uint32 {
	k.t.Helper()
	k.sequence++
	h := make([]byte, 48)
	binary.BigEndian.PutUint32(h[0:], 2)
	binary.BigEndian.PutUint32(h[4:], k.sequence)
	binary.BigEndian.PutUint32(h[8:], 0x10001)
	binary.BigEndian.PutUint32(h[20:], sequence)
	if _, err := k.conn.Write(h); err != nil {
		k.t.Fatal(err)
	}
	return k.sequence
}

// reply reads the next answer.
func (k *kernel) reply() (reply, error) {
	var r reply
	if _, err := io.ReadFull(k.conn, r.header[:]); err != nil {
		return r, err
	}
	be := binary.BigEndian
	r.command, r.sequence = be.Uint32(r.header[0:]), be.Uint32(r.header[4:])
	r.status, r.actual = int32(be.Uint32(r.header[20:])), int(int32(be.Uint32(r.header[24:])))
	if r.command == 3 && k.in[r.sequence] && r.actual > 0 {
		r.data = make([]byte, r.actual)
		if _, err := io.ReadFull(k.conn, r.data); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (k *kernel) next() reply {
	k.t.Helper()
	r, err := k.reply()
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

// want is next, which must be this answer.
func (k *kernel) want(command, sequence uint32, status int32, actual int) reply {
	k.t.Helper()
	r := k.next()
	if r.command != command || r.sequence != sequence || r.status != status || r.actual != actual {
		k.t.Fatalf("answer %d to %d with status %d and %d bytes; want answer %d to %d with status %d and %d bytes",
			r.command, r.sequence, r.status, r.actual, command, sequence, status, actual)
	}
	return r
}

func (k *kernel) control(setup [8]byte, out []byte) reply {
	k.t.Helper()
	in := setup[0]&0x80 != 0
	length := int(binary.LittleEndian.Uint16(setup[6:]))
	sequence := k.submit(0, in, length, 0, setup, out)
	r := k.next()
	if r.command != 3 || r.sequence != sequence {
		k.t.Fatalf("answer to a control request: %+v", r)
	}
	return r
}
