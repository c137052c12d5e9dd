package gadget_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

const (
	in, out, event = 0x81, 0x02, 0x83
	patience       = 30 * time.Second
)

// function is a gadget.Function whose Out is the test's.
type function struct {
	mu       sync.Mutex
	onOut    func(q gadget.Queue, data []byte) error
	outs     [][]byte
	controls []gadget.Setup
	plugged  int
	queue    gadget.Queue
	running  bool
}

func (f *function) Descriptors() gadget.Descriptors {
	return gadget.Descriptors{
		Vendor: 0x1209, Product: 0xca01, Release: 0x0123,
		Manufacturer: "Acme", Serial: "记录仪-1",
		Interfaces: []gadget.Interface{
			{Class: 0xff, Endpoints: []gadget.Endpoint{
				{Address: in, PacketSize: 512}, {Address: out, PacketSize: 512}, {Address: event, Interrupt: true, PacketSize: 28},
			}},
			{Class: 0xfe, SubClass: 1, Protocol: 2},
		},
	}
}

func (f *function) Plugged(q gadget.Queue) { f.plugged++; f.queue = q }

// enter proves that the methods are called one at a time.
func (f *function) enter() func() {
	f.mu.Lock()
	if f.running {
		panic("two methods of a function at once")
	}
	f.running = true
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		f.running = false
		f.mu.Unlock()
	}
}

func (f *function) Control(s gadget.Setup, data []byte) ([]byte, error) {
	defer f.enter()()
	f.controls = append(f.controls, s)
	switch {
	case s.RequestType == 0xa1 && s.Request == 0x67:
		return []byte("status of the device"), nil
	case s.RequestType == 0x21 && s.Request == 0x66:
		f.outs = append(f.outs, data)
		return nil, nil
	}
	return nil, gadget.ErrStall
}

func (f *function) Out(q gadget.Queue, _ uint8, data []byte) error {
	defer f.enter()()
	f.outs = append(f.outs, data)
	if f.onOut == nil {
		return nil
	}
	return f.onOut(q, data)
}

func newDevice(t *testing.T, f *function) *gadget.Device {
	t.Helper()
	d, err := gadget.NewDevice(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Unplug)
	return d
}

func configured(t *testing.T, f *function) *gadget.Device {
	t.Helper()
	d := newDevice(t, f)
	if _, err := d.Control(gadget.Setup{Request: 9, Value: 1}, nil); err != nil {
		t.Fatal(err)
	}
	return d
}

// read is one IN transfer of n bytes.
func read(t *testing.T, d *gadget.Device, n int) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := make([]byte, n)
	n, err := d.In(ctx, in, p)
	return p[:n], err
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>9)
	}
	return b
}

func TestTransfersEndWithShortPackets(t *testing.T) {
	type message struct {
		bytes   int
		counted bool
	}
	for _, c := range []struct {
		name     string
		messages []message
		room     []int // of each transfer
		want     []int // bytes that it gets
	}{
		{"a short packet ends", []message{{bytes: 700}}, []int{4096}, []int{700}},
		{"a full last packet is followed by an empty one", []message{{bytes: 1024}}, []int{1024, 512}, []int{1024, 0}},
		{"which comes at once where there is room", []message{{bytes: 1024}, {bytes: 5}}, []int{1536, 512}, []int{1024, 5}},
		{"a counted one is not", []message{{bytes: 1024, counted: true}, {bytes: 13, counted: true}}, []int{1024, 13}, []int{1024, 13}},
		{"so that the transfer goes on", []message{{bytes: 1024, counted: true}, {bytes: 13, counted: true}}, []int{2048}, []int{1037}},
		{"a transfer may end within a message", []message{{bytes: 1500}}, []int{512, 512, 512}, []int{512, 512, 476}},
		{"exact room", []message{{bytes: 36}, {bytes: 13}}, []int{36, 13}, []int{36, 13}},
		{"an empty message", []message{{bytes: 0}, {bytes: 1}}, []int{512, 512}, []int{0, 1}},
		{"nothing is not even a packet", []message{{bytes: 0, counted: true}, {bytes: 1}}, []int{512}, []int{1}},
		{"large", []message{{bytes: 1<<20 + 1}}, []int{1 << 20, 512}, []int{1 << 20, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &function{}
			d := configured(t, f)
			var sent, got []byte
			for _, m := range c.messages {
				b := pattern(m.bytes)
				sent = append(sent, b...)
				if m.counted {
					d.SendCounted(in, bytes.NewReader(b), int64(len(b)))
				} else {
					d.Send(in, bytes.NewReader(b), int64(len(b)))
				}
			}
			var counts []int
			for _, n := range c.room {
				b, err := read(t, d, n)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, b...)
				counts = append(counts, len(b))
			}
			if !slices.Equal(counts, c.want) || !bytes.Equal(got, sent) {
				t.Errorf("transfers of %v bytes, not %v; same bytes: %v", counts, c.want, bytes.Equal(got, sent))
			}
		})
	}
}

func TestRoomForHalfAPacketLosesNothing(t *testing.T) {
	d := configured(t, &function{})
	d.Send(in, bytes.NewReader(pattern(600)), 600)
	if got, err := read(t, d, 100); !errors.Is(err, gadget.ErrOverflow) || len(got) != 0 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if got, err := read(t, d, 550); !errors.Is(err, gadget.ErrOverflow) || !bytes.Equal(got, pattern(600)[:512]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if got, err := read(t, d, 512); err != nil || !bytes.Equal(got, pattern(600)[512:]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// failing gives n bytes and then an error.
func failing(n int) io.Reader {
	return io.MultiReader(bytes.NewReader(pattern(n)), errorReader{})
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestAReaderThatFailsHalts(t *testing.T) {
	d := configured(t, &function{})
	d.SendCounted(in, failing(1024), 4096)
	d.SendCounted(in, strings.NewReader("status"), 6)
	if got, err := read(t, d, 4096); !errors.Is(err, gadget.ErrStall) || !bytes.Equal(got, pattern(1024)) {
		t.Fatalf("%d bytes, %v; what was good comes, then the stall", len(got), err)
	}
	if _, err := read(t, d, 512); !errors.Is(err, gadget.ErrStall) {
		t.Fatalf("%v; it stays halted", err)
	}
	clearHalt(t, d, in)
	if got, err := read(t, d, 512); err != nil || string(got) != "status" {
		t.Fatalf("%q, %v; what is queued behind it comes", got, err)
	}
	// Half a packet is a short one, and the stall comes after it.
	d.Send(in, failing(700), 4096)
	if got, err := read(t, d, 1024); err != nil || len(got) != 700 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := read(t, d, 512); !errors.Is(err, gadget.ErrStall) {
		t.Fatal(err)
	}
}

func TestACancelledReadLeavesTheMessage(t *testing.T) {
	d := configured(t, &function{})
	r, w := io.Pipe()
	d.Send(in, r, 600)
	for range 3 { // while the reader waits, and again
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		n, err := d.In(ctx, in, make([]byte, 1024))
		cancel()
		if n != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	go func() { _, _ = w.Write(pattern(600)) }()
	if got, err := read(t, d, 1024); err != nil || !bytes.Equal(got, pattern(600)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestUnplugEndsEverything(t *testing.T) {
	d := configured(t, &function{})
	d.Send(in, strings.NewReader("unread"), 6)
	got := make(chan error)
	go func() {
		_, err := d.In(context.Background(), event, make([]byte, 28))
		got <- err
	}()
	d.Unplug()
	d.Unplug()
	select {
	case err := <-got:
		if !errors.Is(err, gadget.ErrUnplugged) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("a waiting read does not end")
	}
	<-d.Unplugged()
	_, err1 := read(t, d, 512)
	err2 := d.Out(out, []byte{1}, false)
	_, err3 := d.Control(gadget.Setup{RequestType: 0x80, Request: 6, Value: 0x100, Length: 18}, nil)
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, gadget.ErrUnplugged) {
			t.Error(err)
		}
	}
}

func TestZeroLengthPacketsReachTheFunction(t *testing.T) {
	f := &function{}
	d := configured(t, f)
	for _, n := range []int{512, 100, 0} {
		if err := d.Out(out, make([]byte, n), true); err != nil {
			t.Fatal(err)
		}
	}
	var sizes []int
	for _, o := range f.outs {
		sizes = append(sizes, len(o))
	}
	if !slices.Equal(sizes, []int{512, 0, 100, 0}) {
		t.Errorf("transfers of %v bytes", sizes)
	}
}

func TestSentTellsOfWholeMessagesOnly(t *testing.T) {
	d := configured(t, &function{})
	for _, c := range []struct {
		size int64
		room []int
		want []bool
	}{
		{600, []int{512, 512}, []bool{false, true}},
		{512, []int{512, 512}, []bool{false, true}}, // the empty packet belongs to it
	} {
		r := &teller{Reader: bytes.NewReader(pattern(int(c.size)))}
		d.Send(in, r, c.size)
		for i, n := range c.room {
			if _, err := read(t, d, n); err != nil || r.told != c.want[i] {
				t.Errorf("after transfer %d of %d bytes: told %v, %v", i, c.size, r.told, err)
			}
		}
	}
	r := &teller{Reader: failing(0)}
	d.Send(in, r, 10)
	if _, err := read(t, d, 512); err == nil || r.told {
		t.Error("told of a message that failed")
	}
}

type teller struct {
	io.Reader
	told bool
}

func (r *teller) Sent() { r.told = true }

func TestDescriptorsThatCantBe(t *testing.T) {
	for _, e := range [][]gadget.Endpoint{
		{{Address: 0x80, PacketSize: 64}},
		{{Address: 0x11, PacketSize: 64}},
		{{Address: 1}},
		{{Address: 1, PacketSize: 1025}},
		{{Address: 1, PacketSize: 64}, {Address: 1, PacketSize: 64}},
	} {
		if _, err := gadget.NewDevice(odd{e}); err == nil {
			t.Errorf("%+v is accepted", e)
		}
	}
}

type odd struct{ endpoints []gadget.Endpoint }

func (o odd) Descriptors() gadget.Descriptors {
	return gadget.Descriptors{Interfaces: []gadget.Interface{{Endpoints: o.endpoints}}}
}
func (odd) Control(gadget.Setup, []byte) ([]byte, error) { return nil, nil }
func (odd) Out(gadget.Queue, uint8, []byte) error        { return nil }

// What comes before a recorder hangs reaches the host, in whole packets.
func TestPacketsComeAsTheyAreRead(t *testing.T) {
	d := configured(t, &function{})
	r, w := io.Pipe()
	d.Send(in, r, 2000)
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for _, n := range []int{100, 600} { // one packet, and a part of the next
			_, _ = w.Write(pattern(700)[:n])
		}
	}()
	got, err := read(t, d, 512)
	if err != nil || len(got) != 512 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	<-wrote
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if n, err := d.In(ctx, in, make([]byte, 512)); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%d bytes, %v; half a packet does not come", n, err)
	}
	go func() { _, _ = w.Write(pattern(2000)[700:]) }()
	rest, err := read(t, d, 2048)
	if want := slices.Concat(pattern(100), pattern(600), pattern(2000)[700:]); err != nil || !bytes.Equal(append(got, rest...), want) {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
}
