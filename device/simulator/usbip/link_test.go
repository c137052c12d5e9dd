package usbip_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/usbip"
)

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>9)
	}
	return b
}

// pulled reports whether err is how the kernel sees the end of the wire: a reset if it
// had sent something that nobody has read any more. Both are the same to vhci_hcd.
func pulled(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) }

func echo() *function {
	return &function{onOut: func(q gadget.Queue, data []byte) error {
		q.Send(bulkIn, bytes.NewReader(data), int64(len(data)))
		return nil
	}}
}

// The headers as Documentation/usb/usbip_protocol.rst has them.
func TestWire(t *testing.T) {
	_, k := attached(t, echo())
	r := k.control([8]byte{0x80, 6, 0, 1, 0, 0, 64, 0}, nil)
	if r.status != 0 || !bytes.Equal(r.data, []byte{18, 1, 0, 2, 0, 0, 0, 64, 0x09, 0x12, 0x01, 0xca, 0, 0, 0, 0, 3, 1}) {
		t.Errorf("device descriptor: %+v", r)
	}
	send := k.submitOut(pattern(64))
	if got, want := header(k.next()), "00000003 00000003 00000000 00000000 00000000 00000000 00000040 00000000 ffffffff 00000000 00000000 00000000"; got != want || send != 3 {
		t.Errorf("RetIntrOut: %s\nwant        %s", got, want)
	}
	k.submitIn(512)
	r = k.next()
	if got, want := header(r), "00000003 00000004 00000000 00000000 00000000 00000000 00000040 00000000 ffffffff 00000000 00000000 00000000"; got != want {
		t.Errorf("RetIntrIn: %s\nwant       %s", got, want)
	}
	if !bytes.Equal(r.data, pattern(64)) {
		t.Errorf("% x", r.data)
	}
	read := k.submitIn(512)
	k.unlink(read)
	if got, want := header(k.next()), "00000004 00000006 00000000 00000000 00000000 ffffff98 00000000 00000000 00000000 00000000 00000000 00000000"; got != want {
		t.Errorf("RET_UNLINK: %s\nwant        %s", got, want)
	}
}

func header(r reply) string {
	var words []string
	for w := range slices.Chunk(r.header[:], 4) {
		words = append(words, hex.EncodeToString(w))
	}
	return strings.Join(words, " ")
}

func TestStatus(t *testing.T) {
	f := &function{onOut: func(gadget.Queue, []byte) error { return gadget.ErrStall }}
	_, k := attached(t, f)
	if r := k.control([8]byte{0x80, 6, 2, 3, 9, 4, 255, 0}, nil); r.status != epipe || r.actual != 0 {
		t.Errorf("a string that is not there: %+v", r)
	}
	k.want(3, k.submitOut(pattern(10)), epipe, 0)
	k.want(3, k.submit(5, true, 64, 0, [8]byte{}, nil), epipe, 0) // no such endpoint
	f.Queue().SendCounted(bulkIn, io.MultiReader(bytes.NewReader(pattern(512)), strings.NewReader("")), 2048)
	if r := k.want(3, k.submitIn(2048), epipe, 512); !bytes.Equal(r.data, pattern(512)) {
		t.Error("the bytes before the stall are others")
	}
	if r := k.control([8]byte{2, 1, 0, 0, bulkIn}, nil); r.status != 0 {
		t.Errorf("CLEAR_FEATURE: %+v", r)
	}
	f.Queue().Send(bulkIn, bytes.NewReader(pattern(600)), 600)
	k.want(3, k.submitIn(36), eoverflow, 0)
	k.want(3, k.submitIn(1024), 0, 600)
}

func TestReadsWaitForData(t *testing.T) {
	f := echo()
	_, k := attached(t, f)
	first, second, other := k.submitIn(512), k.submitIn(512), k.submit(3, true, 28, 0, [8]byte{}, nil)
	out := k.submitOut([]byte("one"))
	got := []uint32{k.next().sequence, k.next().sequence}
	slices.Sort(got)
	if !slices.Equal(got, []uint32{first, out}) {
		t.Fatalf("answers to %v; want those to the read and the write", got)
	}
	f.Queue().Send(0x83, strings.NewReader("event"), 5)
	k.want(3, other, 0, 5)
	f.Queue().Send(bulkIn, strings.NewReader("two"), 3)
	k.want(3, second, 0, 3)
}

func TestZeroLengthPackets(t *testing.T) {
	const zeroPacket = 0x40
	f := &function{}
	_, k := attached(t, f)
	k.want(3, k.submit(2, false, 512, zeroPacket, [8]byte{}, pattern(512)), 0, 512)
	k.want(3, k.submitOut(nil), 0, 0)
	k.want(3, k.submitOut(pattern(512)), 0, 512)
	var sizes []int
	for _, o := range f.transfers() {
		sizes = append(sizes, len(o))
	}
	if !slices.Equal(sizes, []int{512, 0, 0, 512}) {
		t.Errorf("transfers of %v bytes", sizes)
	}
}

func TestLargeTransfers(t *testing.T) {
	f := &function{}
	_, k := attached(t, f)
	sizes := []int{16 << 20, 120 << 10, 16 << 10, 512, 1 << 20}
	total := 0
	for _, n := range sizes {
		total += n
	}
	want := pattern(total)
	f.Queue().SendCounted(bulkIn, bytes.NewReader(want), int64(total))
	var waiting []uint32
	for _, n := range sizes {
		waiting = append(waiting, k.submitIn(n))
	}
	var got []byte
	for i, sequence := range waiting {
		got = append(got, k.want(3, sequence, 0, sizes[i]).data...)
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes")
	}
}

// With a function that is slow the kernel has to wait; it does not fill our memory.
func TestBackpressure(t *testing.T) {
	hang := make(chan struct{})
	f := &function{onOut: func(gadget.Queue, []byte) error { <-hang; return nil }}
	_, k := attached(t, f)
	const transfers = 6
	var sent []byte
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for i := range transfers {
			part := bytes.Repeat([]byte{byte(i)}, 8<<20)
			sent = append(sent, part...)
			k.submitOut(part)
		}
	}()
	select {
	case <-wrote:
		t.Error("48 MiB were taken although nobody wanted them")
	case <-time.After(200 * time.Millisecond): // it can only be seen that nothing happens
	}
	close(hang)
	for i := range transfers {
		k.want(3, uint32(i+2), 0, 8<<20)
	}
	<-wrote
	if got := slices.Concat(f.transfers()...); !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d, or others", len(got), len(sent))
	}
}

func TestUnplug(t *testing.T) {
	f := echo()
	l, k := attached(t, f)
	k.submitIn(512)
	l.Unplug()
	if _, err := k.reply(); !pulled(err) {
		t.Errorf("%v; a pulled cable says nothing", err)
	}
	select {
	case <-l.Done():
	case <-time.After(patience):
		t.Fatal("not done")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// A recorder that answers and leaves: the answer is read, then the wire ends.
func TestTheLastAnswerArrives(t *testing.T) {
	f := &function{}
	l, k := attached(t, f)
	read := k.submitIn(512)
	f.Queue().Send(bulkIn, &leaver{Reader: strings.NewReader("bye"), queue: f.Queue(), link: l}, 3)
	k.want(3, read, 0, 3)
	if _, err := k.reply(); !pulled(err) {
		t.Fatal(err)
	}
}

// leaver pulls the cable when its message was taken from the gadget and is not yet on
// the wire, and gives the link time to make that mistake.
type leaver struct {
	io.Reader
	queue gadget.Queue
	link  *usbip.Link
}

func (r *leaver) Sent() {
	r.queue.Unplug()
	select {
	case <-r.link.Done():
	case <-time.After(50 * time.Millisecond):
	}
}

func TestTheFunctionPullsItself(t *testing.T) {
	l, k := attached(t, &function{onOut: func(q gadget.Queue, _ []byte) error { q.Unplug(); return nil }})
	k.submitOut([]byte{1})
	if _, err := k.reply(); !pulled(err) {
		t.Error(err)
	}
	<-l.Done()
}

func TestTheKernelLetsGo(t *testing.T) {
	f := echo()
	l, k := attached(t, f)
	k.submitIn(512)
	_ = k.conn.Close()
	select {
	case <-l.Done():
	case <-time.After(patience):
		t.Fatal("not done")
	}
	<-f.Queue().Unplugged()
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

func TestAKernelThatDoesNotRead(t *testing.T) {
	f := &function{}
	l, k := attached(t, f)
	f.Queue().SendCounted(bulkIn, bytes.NewReader(pattern(16<<20)), 16<<20)
	k.submitIn(16 << 20)
	// The answer has begun, and is too large for the socket.
	if _, err := io.ReadFull(k.conn, make([]byte, 48)); err != nil {
		t.Fatal(err)
	}
	unplugged := make(chan struct{})
	go func() {
		l.Unplug()
		close(unplugged)
	}()
	select {
	case <-unplugged:
	case <-time.After(patience):
		t.Fatal("can't be pulled")
	}
}

func TestWhatIsNoProtocol(t *testing.T) {
	for name, change := range map[string]func(h []byte){
		"command":       func(h []byte) { h[3] = 9 },
		"endpoint":      func(h []byte) { h[19] = 16 },
		"direction":     func(h []byte) { h[15] = 2 },
		"isochronous":   func(h []byte) { copy(h[32:], []byte{0, 0, 0, 1}) },
		"too large":     func(h []byte) { h[24] = 0x7f },
		"used sequence": func(h []byte) { h[7] = 2 },
	} {
		l, k := attached(t, &function{})
		k.submitIn(512) // sequence 2
		h := make([]byte, 48)
		h[3], h[7], h[15], h[19] = 1, 3, 1, 1
		change(h)
		if _, err := k.conn.Write(h); err != nil {
			t.Fatal(err)
		}
		select {
		case <-l.Done():
		case <-time.After(patience):
			t.Fatalf("%s: goes on", name)
		}
		if l.Err() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAFunctionThatCantBe(t *testing.T) {
	ours, kernels := pair(t)
	if _, err := usbip.Serve(ours, nothing{&function{}}); err == nil {
		t.Error("is plugged in")
	}
	if _, err := newKernel(t, kernels).reply(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

type nothing struct{ *function }

func (nothing) Descriptors() gadget.Descriptors { return gadget.Descriptors{} }

// FuzzWire: whatever comes over the wire, the link ends with it.
func FuzzWire(f *testing.F) {
	h := make([]byte, 48)
	h[3], h[7], h[19], h[27] = 1, 1, 2, 4
	f.Add(append(h, "data"...))
	unlink := make([]byte, 48)
	unlink[3], unlink[7], unlink[23] = 2, 2, 1
	f.Add(slices.Concat(h, []byte("data"), unlink))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, kernels := pair(t)
		l, err := usbip.Serve(ours, echo())
		if err != nil {
			t.Fatal(err)
		}
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, kernels)
		}()
		if err := kernels.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := kernels.Write(b); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the link does not read")
		}
		type half interface{ CloseWrite() error }
		_ = kernels.(half).CloseWrite()
		select {
		case <-l.Done():
		case <-time.After(patience):
			t.Fatal("the link does not end")
		}
		<-drained
		_ = kernels.Close()
	})
}
