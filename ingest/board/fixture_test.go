package board_test

import (
	"context"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
)

// dock is a station of which a test says what is in its slots.
type dock struct {
	mu      sync.Mutex
	views   []ingest.SlotView
	changed chan struct{}
	room    ingest.Room
}

func newDock(views ...ingest.SlotView) *dock {
	free, perDay := int64(3_200_000_000_000), int64(78_000_000_000)
	return &dock{views: views, changed: make(chan struct{}), room: ingest.Room{FreeBytes: &free, PerDay: &perDay}}
}

func (d *dock) Slots() []ingest.SlotView {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]ingest.SlotView(nil), d.views...)
}

func (d *dock) SlotsChanged() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *dock) Room(context.Context) (ingest.Room, error) { return d.room, nil }

func (d *dock) set(change func([]ingest.SlotView) []ingest.SlotView) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.views = change(d.views)
	close(d.changed)
	d.changed = make(chan struct{})
}

func measured(offset time.Duration) device.ClockReading {
	uncertainty := 50 * time.Millisecond
	return device.ClockReading{Kind: device.ClockMeasured, Offset: &offset, Uncertainty: &uncertainty}
}

func battery(percent int) device.Health { return device.Health{BatteryPercent: &percent} }

// recorder is a docked one that has told who it is.
func recorder(slot, officer, serial string, state ingest.SlotState, clock time.Duration, percent int) ingest.SlotView {
	v := ingest.SlotView{Name: slot, State: state, Officer: officer, Recorder: serial, Identified: true,
		Clock: measured(clock), Health: battery(percent), Verification: ingest.ReadBack, Session: "20261124-083107-abcdefgh"}
	v.Verdict = v.Clock.Judge(5 * time.Second)
	return v
}

func copying(v ingest.SlotView, bytes int64, fraction float64, left time.Duration) ingest.SlotView {
	v.Bytes, v.Fraction, v.Left = bytes, fraction, &left
	return v
}

// busyDay has every kind of tile, as on the picture that the board is made after.
func busyDay() []ingest.SlotView {
	within := device.ClockWithin
	one := recorder("1", "150525", "DSJ-0412", ingest.Safe, 9*time.Second, 86)
	one.Bytes, one.ClockSet = 8_400_000_000, &within
	four := recorder("4", "150507", "DSJ-0403", ingest.Safe, -41*time.Second, 93)
	four.Bytes = 3_100_000_000
	five := recorder("5", "150512", "DSJ-0408", ingest.Failed, -14*time.Minute, 55)
	five.Trouble, five.CardBad = ingest.TroubleUnreadable, true
	ten := recorder("10", "150518", "DSJ-0418", ingest.Safe, 0, 15)
	ten.Bytes, ten.ClockSet = 12_700_000_000, &within
	eleven := recorder("11", "", "", ingest.UnknownDevice, 0, 77)
	eleven.Trouble = ingest.TroubleUnregistered
	return []ingest.SlotView{
		one,
		copying(recorder("2", "150517", "DSJ-0417", ingest.Copying, 0, 64), 18_600_000_000, 0.63, 6*time.Minute),
		copying(recorder("3", "150520", "DSJ-0420", ingest.Verifying, 192*time.Second, 71), 9_900_000_000, 0.989, 40*time.Second),
		four,
		five,
		{Name: "6", State: ingest.Empty},
		recorder("7", "150511", "DSJ-0411", ingest.Queued, 0, 38),
		copying(recorder("8", "150515", "DSJ-0415", ingest.Copying, -27*time.Hour-10*time.Minute, 12), 24_100_000_000, 0.03, 17*time.Minute),
		{Name: "9", State: ingest.RemovedEarly, Officer: "150509", Recorder: "DSJ-0409"},
		ten,
		eleven,
		{Name: "12", State: ingest.Empty, Last: &ingest.LastDocking{Officer: "150533", Recorder: "DSJ-0433", Safe: true, PreUse: device.PreUseFit}},
	}
}

// many repeats the busy day until there are n slots.
func many(n int) []ingest.SlotView {
	var views []ingest.SlotView
	for i := range n {
		v := busyDay()[i%12]
		v.Name = itoa(i + 1)
		views = append(views, v)
	}
	return views
}

// everyWord has a tile for every trouble, every kind of clock and every last docking.
func everyWord() []ingest.SlotView {
	var views []ingest.SlotView
	add := func(v ingest.SlotView) {
		v.Name = itoa(len(views) + 1)
		views = append(views, v)
	}
	for _, trouble := range []ingest.Trouble{
		ingest.TroubleStore, ingest.TroubleStaged, ingest.TroubleUnreadable, ingest.TroubleNotStored, ingest.TroublePerson, ingest.TroubleOther,
	} {
		v := recorder("", "150512", "DSJ-0408", ingest.Failed, -14*time.Minute, 55)
		v.Trouble = trouble
		add(v)
	}
	for _, trouble := range []ingest.Trouble{ingest.TroubleUnregistered, ingest.TroubleNoRecorder} {
		add(ingest.SlotView{State: ingest.UnknownDevice, Trouble: trouble})
	}
	add(recorder("", "150525", "DSJ-0412", ingest.Conflict, 0, 80))
	add(ingest.SlotView{State: ingest.RemovedEarly})
	add(ingest.SlotView{State: ingest.Identifying})
	add(recorder("", "150525", "DSJ-0412", ingest.Queued, 0, 80))
	add(recorder("", "150525", "DSJ-0412", ingest.Finalizing, 0, 80))
	stalled := copying(recorder("", "150525", "DSJ-0412", ingest.Copying, 0, 80), 1e9, 0.42, 0)
	stalled.Left, stalled.Trouble = nil, ingest.TroubleStalled
	add(stalled)
	for _, left := range []time.Duration{23*time.Hour + time.Minute, 119 * time.Minute, time.Second} {
		add(copying(recorder("", "150525", "DSJ-0412", ingest.Copying, -3*time.Hour-50*time.Minute, 80), 1e11, 0.99, left))
	}
	estimating := copying(recorder("", "150525", "DSJ-0412", ingest.Verifying, 599*time.Second, 5), 1e9, 0.42, 0)
	estimating.Left = nil
	add(estimating)
	for _, verification := range []string{ingest.ReadBack, ingest.ChecksumOnly} {
		v := recorder("", "150525", "DSJ-0412", ingest.Safe, 0, 80)
		v.Verification, v.Bytes = verification, 127_700_000_000
		add(v)
	}
	unread, least, most := device.ClockNotKnown, 20*time.Hour+10*time.Minute, -100*24*time.Hour
	set := recorder("", "150525", "DSJ-0412", ingest.Safe, time.Hour+7*time.Minute, 80)
	set.ClockSet, set.Bytes = &unread, 127_700_000_000
	add(set)
	for _, reading := range []device.ClockReading{
		{Kind: device.ClockUnknown}, {Kind: device.ClockBounded, AtLeast: &least}, {Kind: device.ClockBounded, AtMost: &most}, measured(8 * time.Hour), measured(-3000 * 24 * time.Hour),
	} {
		v := recorder("", "15052500012", "DSJ-0412-2026", ingest.Safe, 0, 80)
		v.Clock, v.Verdict, v.Bytes = reading, reading.Judge(5*time.Second), 999_000_000
		v.Health = device.Health{}
		add(v)
	}
	for _, last := range []ingest.LastDocking{
		{Officer: "150533", Recorder: "DSJ-0433", Safe: true, PreUse: device.PreUseFit}, {Recorder: "DSJ-0433", Safe: true, PreUse: device.PreUseUnfit},
		{Safe: true, PreUse: device.PreUseCheck}, {Safe: true}, {Recorder: "DSJ-0433"},
	} {
		add(ingest.SlotView{State: ingest.Empty, Last: &last})
	}
	return views
}
