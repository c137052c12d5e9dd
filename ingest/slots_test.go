package ingest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
)

// plugged is a recorder in a slot that a test can pull out.
type plugged struct {
	device.Docking
	removed chan struct{}
	ended   chan error // of Ingest
	report  ingest.Report
}

// plug takes in what is in dir, in a goroutine; faults may be nil.
func (w *world) plug(slot, dir, serial string, f *faults) *plugged {
	d := &plugged{removed: make(chan struct{}), ended: make(chan error, 1)}
	d.Docking = device.Docking{Slot: slot, Removed: d.removed, Open: func(context.Context) (device.Recorder, error) {
		r, err := folder.Open(dir)
		if err != nil || f == nil {
			return r, err
		}
		f.Recorder = r
		return f, nil
	}}
	go func() {
		var err error
		d.report, err = w.station.Ingest(context.WithoutCancel(w.t.Context()), d.Docking, ingest.Options{Recorder: serial, Officer: "15" + serial})
		d.ended <- err
	}()
	return d
}

func (d *plugged) pull() { close(d.removed) }

// until waits for a state of the first slot of that name.
func (w *world) until(slot string, further int, want ingest.SlotState) ingest.SlotView {
	w.t.Helper()
	deadline := time.After(time.Minute)
	for {
		changed := w.station.SlotsChanged()
		for _, v := range w.station.Slots() {
			if v.Name == slot && v.Further == further && v.State == want {
				return v
			}
		}
		select {
		case <-changed:
		case <-deadline:
			w.t.Fatalf("slot %s·%d does not become %s: %+v", slot, further, want, w.station.Slots())
		}
	}
}

func (w *world) states() (all []ingest.SlotState) {
	for _, v := range w.station.Slots() {
		all = append(all, v.State)
	}
	return all
}

func cardOf(t *testing.T, sizes map[string]int) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, sizes)
	return dir
}

// slotsWorld has two slots in its settings.
func slotsWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.cfg.Slots = []string{"1", "2"}
	w.restart()
	return w
}

// What a slot shows through a whole docking: never safe before the report is.
func TestSlotsThroughADocking(t *testing.T) {
	t.Parallel()
	w := slotsWorld(t)
	if got := w.states(); len(got) != 2 || got[0] != ingest.Empty || got[1] != ingest.Empty {
		t.Fatalf("at first: %v", got)
	}
	reading, goOn := make(chan struct{}), make(chan struct{})
	f := &faults{}
	f.atByte = func(e device.Entry, offset int64) error {
		if e.Path == "a.mp4" && offset == 0 {
			close(reading)
			<-goOn
		}
		return nil
	}
	d := w.plug("1", cardOf(t, map[string]int{"a.mp4": partSize + 1, "b.mp4": 100}), "R1", f)
	<-reading
	v := w.until("1", 0, ingest.Copying)
	if v.Recorder != "R1" || v.Officer != "15R1" || v.Session == "" || !v.Identified || v.Files != 2 || v.Bytes != partSize+101 || v.Verification != ingest.ReadBack {
		t.Errorf("while it is read: %+v", v)
	}
	if v.Clock.Kind != device.ClockUnknown || v.Verdict == device.ClockWithin {
		t.Errorf("a folder's clock is told as %+v, %q", v.Clock, v.Verdict)
	}
	close(goOn)
	for {
		v := w.station.Slots()[0]
		if v.Fraction >= 1 {
			t.Fatalf("%+v", v)
		}
		if v.State == ingest.Safe {
			break
		}
		select {
		case err := <-d.ended:
			if err != nil || !d.report.Safe {
				t.Fatalf("%v, safe %v", err, d.report.Safe)
			}
			d.ended <- nil
		case <-time.After(time.Millisecond):
		}
	}
	if err := <-d.ended; err != nil || !d.report.Safe {
		t.Errorf("shown as safe; the report says %v, %v", d.report.Safe, err)
	}
	d.pull()
	v = w.until("1", 0, ingest.Empty)
	if v.Last == nil || !v.Last.Safe || v.Last.Recorder != "R1" {
		t.Errorf("after it was taken: %+v", v.Last)
	}
}

// A session that ended without being safe is never shown as safe, whatever its
// progress says.
func TestSlotsAreSafeByTheReportAlone(t *testing.T) {
	t.Parallel()
	w := slotsWorld(t)
	cases := map[string]struct {
		faults  *faults
		state   ingest.SlotState
		trouble ingest.Trouble
		asked   bool // for, once it was taken
	}{
		"a file that can't be read":         {&faults{opened: func(device.Entry) error { return errors.New("bad sector") }}, ingest.Failed, ingest.TroubleUnreadable, false},
		"a recorder that can't be released": {&faults{close: errors.New("busy")}, ingest.Failed, ingest.TroubleOther, true},
		"a recorder that needs a person":    {&faults{close: device.ErrNeedsPerson}, ingest.Failed, ingest.TroublePerson, false},
	}
	for name, c := range cases {
		d := w.plug("1", cardOf(t, map[string]int{"a.mp4": 100}), "R"+name, c.faults)
		seen := map[ingest.SlotState]bool{}
		for ended := false; !ended; {
			changed := w.station.SlotsChanged()
			seen[w.station.Slots()[0].State] = true
			select {
			case <-d.ended:
				ended = true
			case <-changed:
			}
		}
		v := w.until("1", 0, c.state)
		if seen[ingest.Safe] || v.Trouble != c.trouble || d.report.Safe {
			t.Errorf("%s: saw %v, trouble %q, safe %v", name, seen, v.Trouble, d.report.Safe)
		}
		d.pull()
		if c.asked {
			w.until("1", 0, ingest.RemovedEarly)
			back := w.plug("1", cardOf(t, map[string]int{"a.mp4": 100}), "R"+name, nil)
			w.until("1", 0, ingest.Safe)
			back.pull()
		}
		w.until("1", 0, ingest.Empty)
	}
}

// A recorder that was taken too early is asked for until it is back, in whichever slot,
// and is not forgotten when another one takes its slot.
func TestSlotsAskForWhatWasTakenEarly(t *testing.T) {
	t.Parallel()
	w := slotsWorld(t)
	card := cardOf(t, map[string]int{"a.mp4": 2 * partSize, "b.mp4": 100})
	reading := make(chan struct{})
	var d *plugged
	f := &faults{}
	f.atByte = func(e device.Entry, offset int64) error {
		if e.Path == "b.mp4" {
			close(reading)
			<-d.removed
			return device.ErrRemoved
		}
		return nil
	}
	started := make(chan struct{})
	f.opened = func(device.Entry) error { <-started; return nil }
	d = w.plug("1", card, "R1", f)
	close(started)
	<-reading
	d.pull()
	v := w.until("1", 0, ingest.RemovedEarly)
	if v.Recorder != "R1" {
		t.Errorf("it asks for %+v", v)
	}
	if err := <-d.ended; !errors.Is(err, device.ErrRemoved) {
		t.Error(err)
	}
	other := w.plug("1", cardOf(t, map[string]int{"a.mp4": 100}), "R2", nil)
	if err := <-other.ended; err != nil {
		t.Fatal(err)
	}
	w.until("1", 0, ingest.Safe)
	if v := w.until("1", 1, ingest.RemovedEarly); v.Recorder != "R1" {
		t.Errorf("beside the other one it asks for %+v", v)
	}
	back := w.plug("2", card, "R1", nil)
	if err := <-back.ended; err != nil || !back.report.Resumed {
		t.Fatalf("%v, resumed %v", err, back.report.Resumed)
	}
	w.until("2", 0, ingest.Safe)
	if got := w.states(); len(got) != 2 {
		t.Errorf("it is back, and the slots are %v", got)
	}
	other.pull()
	back.pull()
	w.until("1", 0, ingest.Empty)
	w.until("2", 0, ingest.Empty)
}

// Two dockings in one slot's name are two: the safe one must not stand for the other.
func TestSlotsOfOneNameAreTwo(t *testing.T) {
	t.Parallel()
	w := slotsWorld(t)
	safe := w.plug("1", cardOf(t, map[string]int{"a.mp4": 100}), "R1", nil)
	if err := <-safe.ended; err != nil {
		t.Fatal(err)
	}
	same := w.plug("1", cardOf(t, map[string]int{"a.mp4": 100}), "R1", nil)
	if err := <-same.ended; err != nil { // folders don't stay: their number is free again
		t.Fatal(err)
	}
	odd := w.plug("elsewhere", cardOf(t, map[string]int{"a.mp4": 100}), "R3", &faults{opened: func(device.Entry) error { return errors.New("bad sector") }})
	if err := <-odd.ended; err != nil {
		t.Fatal(err)
	}
	w.until("1", 0, ingest.Safe)
	w.until("1", 1, ingest.Safe)
	w.until("elsewhere", 0, ingest.Failed)
	safe.pull()
	same.pull()
	w.until("1", 0, ingest.Empty)
	odd.pull()
}

// The room that is left is told with what is not known of it.
func TestRoomIsUnknownUntilItIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	room, err := w.station.Room(t.Context())
	if _, known := room.Days(); err != nil || room.FreeBytes != nil || room.PerDay != nil || known {
		t.Errorf("%+v, %v", room, err)
	}
	w.cfg.StoreSpace = func() (int64, int64, error) { return 1000, 2000, nil }
	w.restart()
	w.mustDock(cardOf(t, map[string]int{"a.mp4": 100}), ingest.Options{Recorder: "R1"})
	room, err = w.station.Room(t.Context())
	if _, known := room.Days(); err != nil || room.FreeBytes == nil || *room.FreeBytes != 1000 || room.PerDay != nil || known {
		t.Errorf("after minutes: %+v, %v", room, err)
	}
	stored, first, err := w.journal.StoredSince(t.Context(), time.Now().Add(-time.Hour))
	if err != nil || stored != 100 || time.Since(first) > time.Hour {
		t.Errorf("%d bytes, first %s, %v", stored, first, err)
	}
	if stored, _, err = w.journal.StoredSince(t.Context(), time.Now().Add(time.Hour)); err != nil || stored != 0 {
		t.Errorf("%d bytes of later, %v", stored, err)
	}
	ten := int64(10)
	if days, known := (ingest.Room{FreeBytes: room.FreeBytes, PerDay: &ten}).Days(); days != 100 || !known {
		t.Errorf("%d days, %v", days, known)
	}
}
