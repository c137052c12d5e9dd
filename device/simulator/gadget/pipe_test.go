package gadget_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/usb"
)

// echo answers each transfer with its bytes.
func echo() *function {
	return &function{onOut: func(q gadget.Queue, data []byte) error {
		q.Send(in, bytes.NewReader(data), int64(len(data)))
		return nil
	}}
}

func TestPipe(t *testing.T) {
	f := echo()
	p := gadget.NewPipe(f, 0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	data := []byte("hello")
	if err := p.Send(ctx, data, false); err != nil {
		t.Fatal(err)
	}
	copy(data, "HELLO") // the pipe has its own
	got := make([]byte, p.PacketSize())
	n, err := p.Receive(ctx, got)
	if err != nil || string(got[:n]) != "hello" || p.PacketSize() != 512 {
		t.Fatalf("%q, %v", got[:n], err)
	}
	n, err = p.Control(ctx, 0xa1, 0x67, 3, got[:6])
	if err != nil || string(got[:n]) != "status" {
		t.Fatalf("%q, %v", got[:n], err)
	}
	if s := f.controls[len(f.controls)-1]; s != (gadget.Setup{RequestType: 0xa1, Request: 0x67, Value: 3, Length: 6}) {
		t.Errorf("%+v", s)
	}
	if n, err := p.Control(ctx, 0x21, 0x66, 0, []byte("out")); err != nil || n != 3 || string(f.outs[len(f.outs)-1]) != "out" {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := p.Control(ctx, 0xa1, 0x01, 0, got[:6]); !errors.Is(err, usb.ErrStall) {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Send(ctx, data, false); !errors.Is(err, gadget.ErrClosed) {
		t.Error(err)
	}
}

func TestPipeStallsUntilCleared(t *testing.T) {
	f := &function{onOut: func(q gadget.Queue, data []byte) error {
		q.Halt(in)
		q.Send(in, strings.NewReader("after"), 5)
		return nil
	}}
	p := gadget.NewPipe(f, 0)
	if err := p.Send(t.Context(), []byte{1}, false); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 512)
	for range 2 {
		if _, err := p.Receive(t.Context(), got); !errors.Is(err, usb.ErrStall) {
			t.Fatal(err)
		}
	}
	if err := p.ClearHalt(true); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Receive(t.Context(), got); err != nil || string(got[:n]) != "after" {
		t.Fatal(n, err)
	}
}

func TestPipeAfterACancelledReceive(t *testing.T) {
	f := &function{}
	p := gadget.NewPipe(f, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	got := make([]byte, 512)
	if _, err := p.Receive(ctx, got); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	p.Device().Send(in, strings.NewReader("late"), 4)
	if _, err := p.Receive(ctx, got); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if n, err := p.Receive(t.Context(), got); err != nil || string(got[:n]) != "late" {
		t.Fatalf("%q, %v", got[:n], err)
	}
}

func TestPipeIsPulled(t *testing.T) {
	hang := make(chan struct{})
	f := &function{onOut: func(gadget.Queue, []byte) error { <-hang; return nil }}
	p := gadget.NewPipe(f, 0)
	ended := make(chan error, 2)
	go func() { ended <- p.Send(context.Background(), []byte{1}, false) }()
	go func() {
		_, err := p.Receive(context.Background(), make([]byte, 512))
		ended <- err
	}()
	p.Unplug()
	for range 2 {
		select {
		case err := <-ended:
			if !errors.Is(err, device.ErrRemoved) {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("a transfer does not end")
		}
	}
	close(hang)
	if _, err := p.Control(t.Context(), 0xa1, 0x67, 0, make([]byte, 6)); !errors.Is(err, device.ErrRemoved) {
		t.Error(err)
	}
	if err := p.ClearHalt(false); !errors.Is(err, device.ErrRemoved) {
		t.Error(err)
	}
}

func TestPipeWithAFunctionThatHangs(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	p := gadget.NewPipe(&function{onOut: func(gadget.Queue, []byte) error { <-hang; return nil }}, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := p.Send(ctx, []byte{1}, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestPipeToWhatIsNotThere(t *testing.T) {
	for _, p := range []*gadget.Pipe{
		gadget.NewPipe(&function{}, 2), gadget.NewPipe(&function{}, -1), gadget.NewPipe(&function{}, 1),
		gadget.NewPipe(odd{[]gadget.Endpoint{{}}}, 0),
	} {
		_, received := p.Receive(t.Context(), make([]byte, 512))
		for _, err := range []error{p.Send(t.Context(), nil, false), received, p.ClearHalt(true)} {
			if err == nil {
				t.Error("works")
			}
		}
		p.Unplug()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
