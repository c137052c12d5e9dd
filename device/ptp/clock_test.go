package ptp_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/ptp"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
)

var beijing = time.FixedZone("CST", 8*3600)

// agrees reports whether the true offset is within what the reading says.
func agrees(t testing.TB, r device.ClockReading, offset time.Duration) {
	t.Helper()
	switch {
	case r.Kind != device.ClockMeasured || r.Offset == nil || r.Uncertainty == nil:
		t.Errorf("the reading is %+v", r)
	case (*r.Offset - offset).Abs() > *r.Uncertainty:
		t.Errorf("it is %s ± %s; in truth it is %s", *r.Offset, *r.Uncertainty, offset)
	case *r.Uncertainty > 700*time.Millisecond:
		t.Logf("± %s: this machine is slow", *r.Uncertainty)
	}
}

func TestTheClockIsMeasuredToItsTick(t *testing.T) {
	for name, c := range map[string]struct {
		clock ptpgadget.Clock
		zone  *time.Location
	}{
		"right":            {ptpgadget.Clock{}, time.UTC},
		"slow by 37 hours": {ptpgadget.Clock{Offset: -37 * time.Hour}, time.UTC},
		"fast by a little": {ptpgadget.Clock{Offset: 1234 * time.Millisecond, Zone: beijing}, beijing},
		"tells UTC":        {ptpgadget.Clock{Offset: 90 * time.Second, Form: "Z"}, beijing},
		"tells its zone":   {ptpgadget.Clock{Offset: -90 * time.Second, Form: "-0700", Zone: beijing}, time.UTC},
		"tells tenths":     {ptpgadget.Clock{Offset: 450 * time.Millisecond, Digits: 1}, time.UTC},
		"tells all":        {ptpgadget.Clock{Offset: -time.Minute, Digits: 2, Form: "-0700", Zone: beijing}, time.UTC},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := dock(t, ptpgadget.Recorder{Clock: c.clock}, ptp.Config{Zone: c.zone})
			r, err := d.Clock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			agrees(t, r, c.clock.Offset)
			if !strings.Contains(r.Method, "tick") {
				t.Errorf("method is %q", r.Method)
			}
			if strings.Contains(r.Method, "no zone") != (c.clock.Form == "") {
				t.Errorf("of the zone it says %q", r.Method)
			}
			t.Log(r.Words())
		})
	}
}

func TestAClockInAnotherZoneThanItIsTakenForShows(t *testing.T) {
	d := dock(t, ptpgadget.Recorder{Clock: ptpgadget.Clock{Zone: beijing}}, ptp.Config{Zone: time.UTC})
	r, err := d.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	agrees(t, r, 8*time.Hour)
}

func TestWhatCantBeKnownOfAClockIsUnknown(t *testing.T) {
	for name, simulated := range map[string]ptpgadget.Recorder{
		"no such property":   {Clock: ptpgadget.Clock{Absent: true}},
		"no properties":      {Without: []uint16{ptp.OpGetDevicePropValue}},
		"no time":            {Clock: ptpgadget.Clock{Raw: "20261332T250000"}},
		"empty":              {Clock: ptpgadget.Clock{Raw: "\x00"}},
		"does not run":       {Clock: ptpgadget.Clock{StandsAt: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"refused":            {Faults: []ptpgadget.Fault{{Op: ptp.OpGetDevicePropValue, Times: -1, Do: ptpgadget.Refuse, Response: 0x2002}}},
		"stalls":             {Faults: []ptpgadget.Fault{{Op: ptp.OpGetDevicePropValue, Times: -1, Do: ptpgadget.Stall}}},
		"only pretends":      {Without: []uint16{ptp.OpGetDevicePropValue}, Pretends: []uint16{ptp.OpGetDevicePropValue}},
		"answers with a lie": {Faults: []ptpgadget.Fault{{Op: ptp.OpGetDevicePropValue, Times: -1, Do: ptpgadget.Break}}},
	} {
		d := dock(t, simulated, ptp.Config{})
		r, err := d.Clock(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Kind != device.ClockUnknown || r.Offset != nil || r.Uncertainty != nil || r.Method == "" || r.StationTime.IsZero() {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestTheEndOfTheContextEndsTheWatchOfTheClock(t *testing.T) {
	d := dock(t, ptpgadget.Recorder{Clock: ptpgadget.Clock{StandsAt: time.Now()}}, ptp.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Clock(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it gives %v", err)
	}
}

func TestTheClockIsSetInItsOwnForm(t *testing.T) {
	for form, clock := range map[string]ptpgadget.Clock{
		"20060102T150405":         {Offset: -37 * time.Hour, Zone: beijing},
		"20060102T150405Z":        {Offset: time.Minute, Form: "Z"},
		"20060102T150405-0700":    {Offset: time.Minute, Form: "-0700", Zone: beijing},
		"20060102T150405.00-0700": {Offset: time.Minute, Form: "-0700", Digits: 2, Zone: beijing},
	} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			d := dock(t, ptpgadget.Recorder{Clock: clock}, ptp.Config{Zone: beijing, SetClock: true})
			setting, err := d.SetClock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			set := d.gadget.Counts().Set
			if len(set) != 1 {
				t.Fatalf("it was set to %q", set)
			}
			// As the recorder's own zone, since the form may tell none.
			if _, err := time.ParseInLocation(form, set[0], beijing); err != nil {
				t.Errorf("it was set to %q", set[0])
			}
			r := setting.After
			if r.Kind != device.ClockMeasured || r.Offset == nil {
				t.Fatalf("afterwards it is %+v", r)
			}
			if r.Offset.Abs() > 30*time.Second { // it was off by a minute at least
				t.Errorf("afterwards it is %s off", *r.Offset)
			}
			t.Log(setting.Method, r.Words())
		})
	}
}

func TestAClockThatCantBeSetIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		simulated ptpgadget.Recorder
		allowed   bool
	}{
		"not allowed":     {ptpgadget.Recorder{}, false},
		"read only":       {ptpgadget.Recorder{Clock: ptpgadget.Clock{ReadOnly: true}}, true},
		"no such thing":   {ptpgadget.Recorder{Clock: ptpgadget.Clock{Absent: true}}, true},
		"can't set":       {ptpgadget.Recorder{Without: []uint16{ptp.OpSetDevicePropValue}}, true},
		"pretends to set": {ptpgadget.Recorder{Without: []uint16{ptp.OpSetDevicePropValue}, Pretends: []uint16{ptp.OpSetDevicePropValue}}, true},
	} {
		d := dock(t, c.simulated, ptp.Config{SetClock: c.allowed})
		if _, err := d.SetClock(t.Context()); !errors.Is(err, device.ErrNoClock) {
			t.Errorf("%s: %v", name, err)
		}
		if set := d.gadget.Counts().Set; len(set) != 0 {
			t.Errorf("%s: it was set to %q", name, set)
		}
	}
}
