package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage/ledger"
)

const (
	// goodEnough: a recorder's clock that is measured to be right to the second is
	// left alone, since setting it is no finer.
	goodEnough = time.Second
	// storeAheadMost: beyond it station and store disagree on what time it is, and
	// nobody knows which is right.
	storeAheadMost = 30 * time.Second
	// driftOver is the least time over which a rate means anything.
	driftOver = time.Hour
)

// judgeClock makes of the first reading what can be made of it.
func (w *session) judgeClock(ctx context.Context, clock device.ClockReading) error {
	station := w.Clock()
	c := &w.record.Condition
	c.Station, c.Verdict = &station, clock.Judge(w.cfg.ClockWarnOver)
	last, err := w.journal.Last(ctx, w.record.Recorder)
	if err != nil {
		return err
	}
	c.Drift = drift(last, clock)
	return nil
}

// warnOfClock tells of a clock that is wrong for sure.
func (w *session) warnOfClock() {
	c := w.record.Condition
	if c.Verdict == device.ClockWithin || c.Verdict == device.ClockNotKnown || c.Verdict == "" {
		return
	}
	reading := w.record.Clock
	if c.Bound != nil {
		reading = *c.Bound
	}
	w.emitFor(Event{Name: "clock.recorder_off", Level: Warn, Message: string(c.Verdict) + ": " + reading.Words()})
}

// drift compares a reading with the last one of an earlier docking: the one after
// the clock was set, if it was.
func drift(last *journal.Session, now device.ClockReading) *manifest.Drift {
	if last == nil || now.Kind != device.ClockMeasured {
		return nil
	}
	then := last.Clock
	if last.Condition.Set != nil {
		then = last.Condition.Set.After
	}
	between := now.StationTime.Sub(then.StationTime)
	if then.Kind != device.ClockMeasured || between < driftOver {
		return nil
	}
	ppm := func(d time.Duration) float64 { return float64(d) / float64(between) * 1e6 }
	return &manifest.Drift{
		PPM: ppm(*now.Offset - *then.Offset), Uncertainty: ppm(*now.Uncertainty + *then.Uncertainty), Since: last.ID,
	}
}

// witness collects what sidecars tell of the clock while they are read anyway.
type witness struct {
	mu      sync.Mutex
	fix     time.Time // guarded by mu; the latest
	modTime time.Time // guarded by mu; of the file with it
}

func (w *session) hear(f *journal.File, content []byte) {
	recorder, ok := w.recorder.(device.ClockWitness)
	if !ok {
		return
	}
	fix, ok := recorder.Fix(f.Entry, content)
	if !ok {
		return
	}
	w.witness.mu.Lock()
	defer w.witness.mu.Unlock()
	// Of several only the latest speaks of the clock as it is now: it may have been
	// set in between.
	if fix.After(w.witness.fix) {
		w.witness.fix, w.witness.modTime = fix, f.Entry.ModTime
	}
}

// boundClock limits the offset of a clock that could not be asked by what the
// footage shows.
func (w *session) boundClock() {
	recorder, ok := w.recorder.(device.ClockWitness)
	if !ok || w.record.Clock.Kind == device.ClockMeasured {
		return
	}
	var newest time.Time
	for _, f := range w.files {
		if f.Entry.Kind == device.KindFile && f.Entry.ModTime.After(newest) {
			newest = f.Entry.ModTime
		}
	}
	docked, grain := w.record.Clock.StationTime, recorder.TimeGrain()
	bound, _ := device.BoundByFile(newest, docked, grain)
	w.witness.mu.Lock()
	fixed, _ := device.BoundByFix(w.witness.modTime, w.witness.fix, docked, grain)
	w.witness.mu.Unlock()
	if bound = device.Narrow(bound, fixed); bound.Kind == "" {
		return
	}
	w.record.Condition.Bound = &bound
	w.record.Condition.Verdict = bound.Judge(w.cfg.ClockWarnOver)
	w.warnOfClock()
}

// setClock sets the recorder's clock (第十条) once every file is stored, and reads
// it again. It is no reason to fail a session; what hindered it is written down.
func (w *session) setClock(ctx context.Context) error {
	c := &w.record.Condition
	recorder, ok := w.recorder.(device.ClockSetter)
	if !ok || c.Set != nil {
		return nil
	}
	if why := w.leaveClock(); why != "" {
		c.NotSet = why
		return nil
	}
	set, err := recorder.SetClock(ctx)
	switch {
	case errors.Is(err, device.ErrRemoved):
		return err
	case errors.Is(err, device.ErrNoClock):
		c.NotSet = err.Error()
		return nil
	case err != nil:
		c.NotSet = err.Error()
		w.emitFor(Event{Name: "clock.not_set", Level: Warn, Err: err, Message: "set the recorder's clock by hand"})
		return nil //nolint:nilerr // it is told and written down; footage comes first
	}
	c.Set, c.NotSet = &set, ""
	w.emitFor(Event{Name: "clock.set", Message: fmt.Sprintf("%s: was %s, is %s", set.Method, w.record.Clock.Words(), set.After.Words())})
	// Durable at once: after a crash here the reading that comes next is not of the
	// clock as it was worn.
	return w.journal.SaveSession(ctx, w.record)
}

// leaveClock says why the clock is not to be set, empty if it is.
func (w *session) leaveClock() string {
	clock := w.record.Clock
	switch {
	case !w.cfg.SetClocks:
		return "the settings say so (clock.set)"
	case totals(w.files).NotStored > 0:
		return "some files are only on the recorder"
	case clock.Kind == device.ClockMeasured && clock.Offset.Abs() <= goodEnough:
		return "it is right to the second"
	}
	if err := w.MaySetClock(); err != nil {
		return err.Error()
	}
	return ""
}

// MaySetClock says why no recorder's clock is to be set from this station now: its
// own is not to be trusted.
func (s *Station) MaySetClock() error {
	if station := s.Clock(); !station.Synchronised {
		return errors.New("the station's own clock is not to be trusted: " + station.Why)
	}
	if ahead := s.vault.StoreAhead().Abs(); ahead > storeAheadMost {
		return fmt.Errorf("the station's and the store's clock differ by %s", ahead.Round(time.Second))
	}
	return nil
}

// checkBeforeUse judges whether the recorder may go out again (第十条). The ledger has
// it first.
func (w *session) checkBeforeUse(ctx context.Context) error {
	c := &w.record.Condition
	verdict := c.Verdict
	if c.Set != nil {
		verdict = c.Set.After.Judge(w.cfg.ClockWarnOver)
	}
	checked := device.CheckBeforeUse(w.health, verdict, 0, w.cfg.PreUse)
	c.PreUse = &checked
	text, err := json.Marshal(checked)
	if err != nil {
		return fmt.Errorf("the check before use: %w", err)
	}
	if err := w.Record(ctx, ledger.Entry{
		Event: "preuse.checked", Session: w.record.ID, Recorder: w.record.Recorder, Officer: w.record.Officer,
		Detail: map[string]string{"preuse": string(text)},
	}); err != nil {
		return err
	}
	return w.journal.SaveSession(ctx, w.record)
}

// tellPreUse tells the result of the check when the recorder leaves its slot.
func (s *Station) tellPreUse(r Report) {
	checked := r.Session.Condition.PreUse
	if checked == nil {
		return
	}
	e := Event{Name: "slot.preuse", Level: Warn, Slot: r.Session.Slot, Session: r.Session.ID, Recorder: r.Session.Recorder, Officer: r.Session.Officer,
		Message: checked.Result.Words()}
	if checked.Result == device.PreUseFit {
		e.Level = Info
	}
	for _, reason := range checked.Reasons {
		e.Message += "; " + reason
	}
	s.emit(e)
}

// Clock tells the state of the station's own clock.
func (s *Station) Clock() device.StationClock {
	if s.cfg.StationClock != nil {
		return s.cfg.StationClock()
	}
	return device.ReadStationClock()
}
