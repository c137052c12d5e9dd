package ptp_test

import (
	"errors"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device/ptp"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
)

// tryDock is dock for what may fail.
func tryDock(t testing.TB, simulated ptpgadget.Recorder, patience time.Duration) (docked, error) {
	t.Helper()
	g := ptpgadget.New(simulated)
	pipe := gadget.NewPipe(g, 0)
	t.Cleanup(pipe.Unplug)
	r, err := ptp.Open(t.Context(), pipe, ptp.Config{Zone: time.UTC, Patience: patience})
	if err != nil {
		return docked{}, err
	}
	t.Cleanup(func() { _ = r.Close() })
	return docked{r, g, pipe}, nil
}

func small() []*ptpgadget.Object {
	return []*ptpgadget.Object{clip("a.mp4", 3<<20), folder("d", clip("b.mp4", 600))}
}

// A stall, a busy recorder, and an answer that is late once, at whichever operation,
// must not fail a session, or fail it with an error; never with wrong bytes.
func TestOneFaultAtAnyOperation(t *testing.T) {
	for name, c := range map[string]struct {
		fault ptpgadget.Fault
		// mayFail: the operation that it befalls can't be repeated.
		mayFail bool
	}{
		"stall":        {ptpgadget.Fault{Do: ptpgadget.Stall}, false},
		"stall of OUT": {ptpgadget.Fault{Do: ptpgadget.StallOut}, false},
		"busy":         {ptpgadget.Fault{Do: ptpgadget.Refuse, Response: ptp.RespDeviceBusy, Times: 3}, false},
		"late":         {ptpgadget.Fault{Do: ptpgadget.Late}, true},
		"hang":         {ptpgadget.Fault{Do: ptpgadget.Hang}, true},
		"short":        {ptpgadget.Fault{Do: ptpgadget.Short, Bytes: 1}, true},
		"long":         {ptpgadget.Fault{Do: ptpgadget.Long, Bytes: 600}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := range 14 {
				fault, waiting := c.fault, patience
				fault.After = at
				if fault.Do == ptpgadget.Hang || fault.Do == ptpgadget.Late {
					waiting = 300 * time.Millisecond
				}
				err := session(t, ptpgadget.Recorder{Clock: ptpgadget.Clock{Raw: "none"}, Stores: one(small()...), Faults: []ptpgadget.Fault{fault}}, waiting)
				if err != nil && !c.mayFail {
					t.Errorf("at operation %d: %v", at, err)
				}
			}
		})
	}
}

func TestAfterAFaultTheRecorderCanBeUsed(t *testing.T) {
	for name, do := range map[string]ptpgadget.Kind{"hang": ptpgadget.Hang, "late": ptpgadget.Late, "stop": ptpgadget.Stop} {
		o := clip("a.mp4", 600)
		d := dock(t, ptpgadget.Recorder{Stores: one(o), Faults: []ptpgadget.Fault{{Op: ptp.OpGetObject, Do: do}}}, ptp.Config{Patience: 300 * time.Millisecond})
		e := d.inventory(t)["a.mp4"]
		if _, err := d.read(t.Context(), e, 0); err == nil {
			t.Errorf("%s: no error", name)
		}
		d.works(t, e, o)
	}
}

func TestABusyRecorderIsNotAskedForEver(t *testing.T) {
	o := clip("a.mp4", 600)
	d := dock(t, ptpgadget.Recorder{Stores: one(o), Faults: []ptpgadget.Fault{
		{Op: ptp.OpGetObject, Times: 30, Do: ptpgadget.Refuse, Response: ptp.RespDeviceBusy},
	}}, ptp.Config{})
	e := d.inventory(t)["a.mp4"]
	_, err := d.read(t.Context(), e, 0)
	var refusal *ptp.Refusal
	if !errors.As(err, &refusal) || refusal.Response != ptp.RespDeviceBusy {
		t.Errorf("it gives %v", err)
	}
	if n := d.gadget.Counts().Commands[ptp.OpGetObject]; n < 5 || n > 20 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestARecorderThatStallsForGoodIsAnError(t *testing.T) {
	_, err := tryDock(t, ptpgadget.Recorder{Faults: []ptpgadget.Fault{{Times: -1, Do: ptpgadget.Stall}}}, patience)
	if err == nil {
		t.Error("it could be opened")
	}
}
