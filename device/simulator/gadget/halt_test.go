package gadget_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

func clearHalt(t *testing.T, d *gadget.Device, endpoint uint16) {
	t.Helper()
	if _, err := d.Control(gadget.Setup{RequestType: 2, Request: 1, Index: endpoint}, nil); err != nil {
		t.Fatal(err)
	}
}

func halted(t *testing.T, d *gadget.Device, endpoint uint16) bool {
	t.Helper()
	b, err := d.Control(gadget.Setup{RequestType: 0x82, Index: endpoint, Length: 2}, nil)
	if err != nil || len(b) != 2 {
		t.Fatal(b, err)
	}
	return b[0] == 1
}

func TestHalts(t *testing.T) {
	f := &function{}
	d := configured(t, f)
	d.Send(in, strings.NewReader("last"), 4)
	d.Halt(in)
	d.Send(in, strings.NewReader("after"), 5)
	if halted(t, d, in) {
		t.Error("halted before what was queued first was read")
	}
	if got, err := read(t, d, 512); err != nil || string(got) != "last" {
		t.Fatalf("%q, %v", got, err)
	}
	if !halted(t, d, in) {
		t.Error("not halted")
	}
	if _, err := read(t, d, 512); !errors.Is(err, gadget.ErrStall) {
		t.Fatal(err)
	}
	f.controls = nil
	clearHalt(t, d, in)
	if len(f.controls) != 1 || f.controls[0].Request != 1 || f.controls[0].Index != in {
		t.Errorf("the function was told %+v", f.controls)
	}
	if got, err := read(t, d, 512); err != nil || string(got) != "after" {
		t.Fatalf("%q, %v", got, err)
	}

	f.onOut = func(gadget.Queue, []byte) error { return gadget.ErrStall }
	for range 2 {
		if err := d.Out(out, []byte{1}, false); !errors.Is(err, gadget.ErrStall) {
			t.Fatal(err)
		}
	}
	if len(f.outs) != 1 || !halted(t, d, out) {
		t.Errorf("%d transfers reached a halted endpoint", len(f.outs)-1)
	}
	f.onOut = nil
	clearHalt(t, d, out)
	if err := d.Out(out, []byte{2}, false); err != nil {
		t.Error(err)
	}
	// The host may halt an endpoint itself (SET_FEATURE).
	if _, err := d.Control(gadget.Setup{RequestType: 2, Request: 3, Index: out}, nil); err != nil || !halted(t, d, out) {
		t.Error(err)
	}
}

func TestDropAndNewConfigurations(t *testing.T) {
	f := &function{}
	d := configured(t, f)
	d.Send(in, strings.NewReader("old"), 3)
	d.Drop(in)
	d.Send(in, strings.NewReader("new"), 3)
	if got, err := read(t, d, 512); err != nil || string(got) != "new" {
		t.Fatalf("%q, %v", got, err)
	}
	for _, s := range []gadget.Setup{{Request: 9, Value: 1}, {RequestType: 1, Request: 11}} {
		d.Send(in, strings.NewReader("old"), 3)
		d.Halt(in)
		f.controls = nil
		if _, err := d.Control(s, nil); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.controls, []gadget.Setup{s}) {
			t.Errorf("the function was told %+v", f.controls)
		}
		d.Send(in, strings.NewReader("new"), 3)
		if got, err := read(t, d, 512); err != nil || string(got) != "new" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if _, err := d.Control(gadget.Setup{Request: 9}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, d, 512); !errors.Is(err, gadget.ErrStall) {
		t.Errorf("%v; without a configuration there are no endpoints", err)
	}
}
