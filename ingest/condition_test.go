package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// worn is a folder's recorder with a clock and a battery of its own. It notes the
// order in which it is asked.
type worn struct {
	device.Recorder
	serial  string
	clock   device.ClockReading
	set     func() (device.ClockSetting, error)
	health  device.Health
	spoiled string // file that can't be opened

	mu    sync.Mutex
	asked []string // guarded by mu
}

func (r *worn) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) == 0 || r.asked[len(r.asked)-1] != what {
		r.asked = append(r.asked, what)
	}
}

func (r *worn) Identity() device.Identity {
	return device.Identity{Driver: "ptp", Place: "1-2", Profile: "test", Serial: device.Fact{Value: r.serial, Source: "test"}}
}

func (r *worn) Clock(context.Context) (device.ClockReading, error) {
	r.note("clock")
	return r.clock, nil
}

func (r *worn) Health(context.Context) (device.Health, error) { return r.health, nil }

func (r *worn) Inventory(ctx context.Context, found func(device.Entry) error) error {
	r.note("inventory")
	return r.Recorder.Inventory(ctx, found)
}

func (r *worn) Open(ctx context.Context, e device.Entry, offset int64) (device.File, error) {
	r.note("open")
	if e.Path == r.spoiled {
		return nil, errors.New("a bad sector")
	}
	return r.Recorder.Open(ctx, e, offset)
}

func (r *worn) SetClock(context.Context) (device.ClockSetting, error) {
	r.note("set")
	return r.set()
}

func (r *worn) Close() error {
	r.note("close")
	return r.Recorder.Close()
}

func (r *worn) TimeGrain() time.Duration { return 2 * time.Second }

func (r *worn) Fix(e device.Entry, content []byte) (time.Time, bool) {
	text, ok := strings.CutPrefix(string(content), "fix ")
	fix, err := time.Parse(time.RFC3339, text)
	return fix, ok && err == nil && strings.HasSuffix(e.Path, ".gps")
}

func reading(offset time.Duration, at time.Time) device.ClockReading {
	sure := 50 * time.Millisecond
	return device.ClockReading{Kind: device.ClockMeasured, Method: "asked", Offset: &offset, Uncertainty: &sure, StationTime: at}
}

// wornWorld has a station whose clock is kept by a time service, and a card.
func wornWorld(t *testing.T) (*world, string) {
	t.Helper()
	w := newWorld(t)
	w.wear()
	card := t.TempDir()
	yesterday := time.Now().Add(-24 * time.Hour)
	for _, name := range []string{"A.MP4", "B.MP4"} {
		p := filepath.Join(card, name)
		if err := os.WriteFile(p, bytes.Repeat([]byte(name), 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, yesterday, yesterday); err != nil {
			t.Fatal(err)
		}
	}
	return w, card
}

// wear lets the station set and judge clocks.
func (w *world) wear() {
	w.cfg.ClockWarnOver, w.cfg.SetClocks = 5*time.Second, true
	w.cfg.StationClock = func() device.StationClock { return device.StationClock{Synchronised: true} }
	w.cfg.PreUse = device.PreUseLimits{BatteryPercent: 50}
	w.station = ingest.NewStation(w.cfg, w.vault, w.journal, w.evidence)
}

func wornOn(t *testing.T, card, serial string) *worn {
	t.Helper()
	r, err := folder.Open(card)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	return &worn{Recorder: r, serial: serial, clock: reading(192*time.Second, now), set: func() (device.ClockSetting, error) {
		return device.ClockSetting{Method: "set", SetAt: now, After: reading(20*time.Millisecond, now)}, nil
	}}
}

func docking(r device.Recorder) (device.Docking, func()) {
	removed := make(chan struct{})
	return device.Docking{Slot: "1", Stays: true, Removed: removed, Open: func(context.Context) (device.Recorder, error) { return r, nil }},
		sync.OnceFunc(func() { close(removed) })
}

// The clock is read before anything else and set after the last file, and both
// readings are in the manifest (第十条).
func TestTheClockIsReadFirstAndSetLast(t *testing.T) {
	t.Parallel()
	w, card := wornWorld(t)
	r := wornOn(t, card, "R1")
	d, remove := docking(r)
	defer remove()
	report, err := w.station.Ingest(t.Context(), d, ingest.Options{})
	if err != nil || !report.Safe {
		t.Fatalf("%s, %v", report.State, err)
	}
	if want := []string{"clock", "inventory", "open", "inventory", "set", "close"}; !slices.Equal(r.asked, want) {
		t.Errorf("the recorder was asked for %v, want %v", r.asked, want)
	}
	m := w.manifestOf(report).Recorder
	if m.ClockVerdict != device.ClockOff || *m.Clock.Offset != 192*time.Second || m.ClockSet == nil || *m.ClockSet.After.Offset != 20*time.Millisecond {
		t.Errorf("the manifest has %+v, set %+v", m, m.ClockSet)
	}
	if w.saw("clock.recorder_off") != 1 || w.saw("clock.set") != 1 {
		t.Error("a clock that is off, and was set, was not told")
	}
}

// What hinders setting the clock is written down and stops nothing; the clock is
// left alone where that could hurt.
func TestWhenTheClockIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(*world, *worn)
		asked   bool
		safe    bool
		because string
	}{
		"the settings": {func(w *world, _ *worn) { w.cfg.SetClocks = false }, false, true, "settings"},
		"the station's clock is not kept": {func(w *world, _ *worn) {
			w.cfg.StationClock = func() device.StationClock { return device.StationClock{Why: "nobody keeps it"} }
		}, false, true, "nobody keeps it"},
		"a file is only on the recorder": {func(_ *world, r *worn) { r.spoiled = "B.MP4" }, false, false, "only on the recorder"},
		"it is right":                    {func(_ *world, r *worn) { r.clock = reading(-400*time.Millisecond, time.Now()) }, false, true, "right to the second"},
		"it can't be set": {func(_ *world, r *worn) {
			r.set = func() (device.ClockSetting, error) {
				return device.ClockSetting{}, fmt.Errorf("by profile: %w", device.ErrNoClock)
			}
		}, true, true, "can't be set from here"},
		"it fails": {func(_ *world, r *worn) {
			r.set = func() (device.ClockSetting, error) { return device.ClockSetting{}, errors.New("refused") }
		}, true, true, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, card := wornWorld(t)
			r := wornOn(t, card, "R1")
			c.prepare(w, r)
			w.station = ingest.NewStation(w.cfg, w.vault, w.journal, w.evidence)
			d, remove := docking(r)
			defer remove()
			report, err := w.station.Ingest(t.Context(), d, ingest.Options{})
			if err != nil || report.Safe != c.safe {
				t.Fatalf("%s, %v", report.State, err)
			}
			if slices.Contains(r.asked, "set") != c.asked {
				t.Errorf("it was asked for %v", r.asked)
			}
			m := w.manifestOf(report).Recorder
			if m.ClockSet != nil || !strings.Contains(m.ClockNotSet, c.because) {
				t.Errorf("the manifest says set %+v, not set %q", m.ClockSet, m.ClockNotSet)
			}
		})
	}
}

// A clock that can't be asked is bounded by what the footage shows, and by nothing
// else; a measured one is left as it was measured.
func TestFootageBoundsTheClock(t *testing.T) {
	t.Parallel()
	now := time.Now()
	unknown := device.ClockReading{Kind: device.ClockUnknown, Method: "a disk has no clock", StationTime: now}
	write := func(t *testing.T, card, name, content string, at time.Time) {
		t.Helper()
		p := filepath.Join(card, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, at, at); err != nil {
			t.Fatal(err)
		}
	}
	fix := func(at time.Time) string { return "fix " + at.UTC().Format(time.RFC3339) }
	for name, c := range map[string]struct {
		clock   device.ClockReading
		prepare func(t *testing.T, card string)
		verdict device.ClockVerdict
		bound   bool
	}{
		"nothing to go by": {unknown, func(*testing.T, string) {}, device.ClockNotKnown, false},
		"a file to come":   {unknown, func(t *testing.T, card string) { write(t, card, "C.MP4", "c", now.Add(time.Hour)) }, device.ClockOff, true},
		"a late fix": {unknown, func(t *testing.T, card string) {
			write(t, card, "C.gps", fix(now.Add(-time.Hour)), now.Add(-2*time.Hour))
		}, device.ClockOff, true},
		"a fix that fits": {unknown, func(t *testing.T, card string) {
			write(t, card, "C.gps", fix(now.Add(-time.Hour)), now.Add(-time.Hour))
		}, device.ClockNotKnown, true},
		"measured all the same": {reading(time.Second, now), func(t *testing.T, card string) { write(t, card, "C.MP4", "c", now.Add(time.Hour)) }, device.ClockWithin, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, card := wornWorld(t)
			c.prepare(t, card)
			r := wornOn(t, card, "R1")
			r.clock = c.clock
			d, remove := docking(r)
			defer remove()
			report, err := w.station.Ingest(t.Context(), d, ingest.Options{})
			if err != nil {
				t.Fatal(err)
			}
			m := w.manifestOf(report).Recorder
			if m.ClockVerdict != c.verdict || (m.ClockBound != nil) != c.bound {
				t.Errorf("verdict %s, bound %+v", m.ClockVerdict, m.ClockBound)
			}
			if m.Clock.Kind != c.clock.Kind {
				t.Errorf("the first reading became %+v", m.Clock)
			}
		})
	}
}

// The rate of a clock follows from two dockings.
func TestDriftSinceTheLastDocking(t *testing.T) {
	t.Parallel()
	w, card := wornWorld(t)
	first := wornOn(t, card, "R1")
	then := time.Now().Add(-24 * time.Hour)
	first.clock = reading(0, then)
	d, remove := docking(first)
	if _, err := w.station.Ingest(t.Context(), d, ingest.Options{}); err != nil {
		t.Fatal(err)
	}
	remove()
	var report ingest.Report
	eventually(t, func() bool { // the number is free again some time after the removal
		second := wornOn(t, card, "R1")                                       // a try closes it
		second.clock = reading(8640*time.Millisecond, then.Add(24*time.Hour)) // 100 ppm
		d, remove = docking(second)
		defer remove()
		var err error
		report, err = w.station.Ingest(t.Context(), d, ingest.Options{})
		return err == nil
	})
	drift := report.Session.Condition.Drift
	if drift == nil || drift.PPM < 99.9 || drift.PPM > 100.1 || drift.Uncertainty <= 0 {
		t.Errorf("drift %+v, want 100 ppm", drift)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for range 600 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("it did not happen within a minute")
}

// Of two recorders with one number the second is turned away as long as the first
// is in its slot, also after that was called safe.
func TestTwoRecordersWithOneNumber(t *testing.T) {
	t.Parallel()
	w, card := wornWorld(t)
	d, remove := docking(wornOn(t, card, "R1"))
	if r, err := w.station.Ingest(t.Context(), d, ingest.Options{}); err != nil || !r.Safe {
		t.Fatalf("%s, %v", r.State, err)
	}
	other := wornOn(t, card, "R1")
	second, takeSecond := docking(other)
	defer takeSecond()
	if r, err := w.station.Ingest(t.Context(), second, ingest.Options{}); r.State != ingest.Conflict || !errors.Is(err, ingest.ErrConflict) || slices.Contains(other.asked, "open") {
		t.Errorf("the second: %s, %v, asked for %v", r.State, err, other.asked)
	}
	if r, err := w.station.Ingest(t.Context(), func() device.Docking { d.Open = second.Open; return d }(), ingest.Options{}); errors.Is(err, ingest.ErrConflict) {
		t.Errorf("another try of the first docking: %s, %v", r.State, err)
	}
	remove()
	eventually(t, func() bool {
		third, remove := docking(wornOn(t, card, "R1"))
		defer remove()
		r, err := w.station.Ingest(t.Context(), third, ingest.Options{})
		return err == nil && r.Safe
	})
}

// Whether a recorder is fit for use is told when it is taken, of one that was safe
// only.
func TestPreUseIsToldAtUndocking(t *testing.T) {
	t.Parallel()
	full, empty := 90, 10
	for name, c := range map[string]struct {
		battery *int
		spoiled string
		want    string // in the message; empty: nothing is told
	}{
		"fit":       {&full, "", "可领用"},
		"unfit":     {&empty, "", "不可领用"},
		"not known": {nil, "", "须人工检查"},
		"not safe":  {&full, "A.MP4", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, card := wornWorld(t)
			r := wornOn(t, card, "R1")
			r.health.BatteryPercent, r.spoiled = c.battery, c.spoiled
			d, remove := docking(r)
			attended := make(chan struct{})
			go func() {
				defer close(attended)
				w.station.Attend(t.Context(), d)
			}()
			eventually(t, func() bool { return w.saw("ingest.finished")+w.saw("ingest.failed") > 0 })
			if w.saw("slot.preuse") != 0 {
				t.Error("it was told while the recorder was in its slot")
			}
			if c.want != "" { // the check can be had from the bucket, whatever becomes of the station
				eventually(t, func() bool { return strings.Contains(w.publishedLedger(), `"event":"preuse.checked"`) })
			}
			remove()
			<-attended
			told := ""
			w.mu.Lock()
			for _, e := range w.events {
				if e.Name == "slot.preuse" {
					told = e.Message
				}
			}
			w.mu.Unlock()
			if !strings.HasPrefix(told, c.want) || (c.want == "") != (told == "") {
				t.Errorf("told: %q, want %q", told, c.want)
			}
		})
	}
}

// What another try can't mend is not tried again.
func TestWhatNeedsAPersonIsTriedOnce(t *testing.T) {
	t.Parallel()
	for _, end := range []error{device.ErrNeedsPerson, device.ErrNotARecorder} {
		w, _ := wornWorld(t)
		tries := 0
		removed := make(chan struct{})
		go func() {
			time.Sleep(3 * time.Second)
			close(removed)
		}()
		w.station.Attend(t.Context(), device.Docking{Slot: "1", Stays: true, Removed: removed, Open: func(context.Context) (device.Recorder, error) {
			tries++
			return nil, fmt.Errorf("it is locked: %w", end)
		}})
		if tries != 1 || w.saw("slot.preuse") != 0 {
			t.Errorf("%v: %d tries", end, tries)
		}
	}
}

// A recorder that can't be told from others and was cut off before anything was
// stored leaves no session that waits for ever.
func TestAnUnknownRecorderThatStoredNothingLeavesNoOpenSession(t *testing.T) {
	t.Parallel()
	w, card := wornWorld(t)
	for range 2 {
		r := wornOn(t, card, "")
		d, remove := docking(&vanishing{r})
		if _, err := w.station.Ingest(t.Context(), d, ingest.Options{}); !errors.Is(err, device.ErrRemoved) {
			t.Fatalf("want a removal, got %v", err)
		}
		remove()
	}
	d, remove := docking(wornOn(t, card, ""))
	defer remove()
	if r, err := w.station.Ingest(t.Context(), d, ingest.Options{}); err != nil || !r.Safe {
		t.Fatalf("%s, %v", r.State, err)
	}
	all, err := w.journal.Sessions(t.Context())
	if err != nil || len(all) != 1 || all[0].State != journal.StateSealed {
		t.Errorf("%d sessions are left, %+v, %v", len(all), all, err)
	}
}

// vanishing is taken out at its first file.
type vanishing struct{ *worn }

func (v *vanishing) Open(context.Context, device.Entry, int64) (device.File, error) {
	return nil, device.ErrRemoved
}
