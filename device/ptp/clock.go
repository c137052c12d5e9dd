package ptp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/device"
)

const (
	// watchFor is how long a tick of the seconds is waited for.
	watchFor = 1500 * time.Millisecond
	// pollGap is the pause between two looks at the clock.
	pollGap = 10 * time.Millisecond
	// accessDenied is Access_Denied of PIMA 15740 §11.3.15.
	accessDenied uint16 = 0x200f
)

// sample is one look at the clock: what it told was so at some moment between before
// and after, by the station's clock.
type sample struct {
	before, after time.Time
	told          TimeString
}

// atLeast and atMost bound the offset, recorder minus station. The string is cut off,
// not rounded, so that the clock is up to one grain later than it tells.
func (s sample) atLeast() time.Duration { return s.told.Time.Sub(s.after) }

func (s sample) atMost() time.Duration {
	return s.told.Time.Add(s.told.Grain()).Sub(s.before)
}

// Clock implements device.Recorder with the property DateTime. It has whole seconds
// as a rule; it is read again and again until it ticks, for 1.5 s at most. Between the
// last look before the tick and the first one after it lies the moment at which the
// recorder's second began, to some ten milliseconds.
func (r *Recorder) Clock(ctx context.Context) (device.ClockReading, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock(ctx)
}

func (r *Recorder) clock(ctx context.Context) (device.ClockReading, error) {
	samples, err := r.watchClock(ctx)
	if fatal := r.fatal(ctx, err); fatal != nil {
		return device.ClockReading{}, fmt.Errorf("read the clock: %w", fatal)
	}
	if err != nil {
		return device.ClockReading{Kind: device.ClockUnknown, Method: "PTP DateTime: " + err.Error(), StationTime: time.Now()}, nil //nolint:nilerr // a clock that can't be read is unknown
	}
	return judge(samples), nil
}

// watchClock looks until the clock has ticked.
func (r *Recorder) watchClock(ctx context.Context) ([]sample, error) {
	first, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	samples := []sample{first}
	for last := first; last.told.Time.Equal(first.told.Time) && last.after.Sub(first.before) < watchFor; {
		select {
		case <-time.After(pollGap):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if last, err = r.look(ctx); err != nil {
			return nil, err
		}
		samples = append(samples, last)
	}
	return samples, nil
}

func (r *Recorder) look(ctx context.Context) (sample, error) {
	if !r.info.Has(OpGetDevicePropValue) {
		return sample{}, errors.New("the recorder tells no properties")
	}
	before := time.Now()
	data, _, err := r.ask(ctx, OpGetDevicePropValue, uint32(PropDateTime))
	if err != nil {
		return sample{}, err
	}
	// The wall clock may be stepped meanwhile; the difference is by the monotonic one.
	s := sample{before: before.Round(0), after: before.Add(time.Since(before)).Round(0)}
	d := decoder{left: data}
	s.told, err = ParseTime(d.text(), r.cfg.Zone)
	return s, err
}

// judge joins what the samples say. The offset satisfies all of them; where none does,
// the clock stood still or leapt.
func judge(samples []sample) device.ClockReading {
	first, last := samples[0], samples[len(samples)-1]
	least, most := first.atLeast(), first.atMost()
	hullLeast, hullMost := least, most
	for _, s := range samples[1:] {
		least, most = max(least, s.atLeast()), min(most, s.atMost())
		hullLeast, hullMost = min(hullLeast, s.atLeast()), max(hullMost, s.atMost())
	}
	reading := device.ClockReading{Kind: device.ClockMeasured, StationTime: last.after}
	ticked := !last.told.Time.Equal(first.told.Time)
	switch {
	case least > most && !ticked:
		reading.Kind = device.ClockUnknown
		reading.Method = fmt.Sprintf("PTP DateTime: the clock does not run, it told %s for %s",
			first.told.Time.Format("2006-01-02 15:04:05"), last.after.Sub(first.before).Round(100*time.Millisecond))
		return reading
	case least > most:
		least, most = hullLeast, hullMost
		reading.Method = "PTP DateTime, which leapt while it was read"
	case ticked:
		reading.Method = "PTP DateTime, watched until it ticked"
	default:
		reading.Method = "PTP DateTime, read once: no tick was seen"
	}
	if first.told.Form == NoZone {
		reading.Method += fmt.Sprintf("; it tells no zone, %s was taken", first.told.Time.Format("-07:00"))
	}
	offset, uncertainty := least+(most-least)/2, (most-least+1)/2
	reading.Offset, reading.Uncertainty = &offset, &uncertainty
	return reading
}

// SetClock implements device.ClockSetter: DateTime is written in the form in which the
// recorder tells it, at the beginning of a second where it has whole seconds.
func (r *Recorder) SetClock(ctx context.Context) (device.ClockSetting, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	setting, err := r.setClock(ctx)
	if err != nil {
		return setting, fmt.Errorf("set the clock: %w", err)
	}
	return setting, nil
}

func (r *Recorder) setClock(ctx context.Context) (device.ClockSetting, error) {
	var none device.ClockSetting
	if !r.cfg.SetClock {
		return none, fmt.Errorf("%w: it is not allowed for this recorder", device.ErrNoClock)
	}
	if !r.info.Has(OpSetDevicePropValue) {
		return none, fmt.Errorf("%w: its properties can't be set", device.ErrNoClock)
	}
	data, _, err := r.ask(ctx, OpGetDevicePropDesc, uint32(PropDateTime))
	if err := r.fatal(ctx, err); err != nil {
		return none, err
	}
	if err == nil {
		if p, err := ParseProperty(data); err == nil && !p.Settable {
			return none, fmt.Errorf("%w: DateTime can only be read", device.ErrNoClock)
		}
	}
	was, err := r.look(ctx)
	switch {
	case refused(err):
		return none, fmt.Errorf("%w: its form can't be read: %w", device.ErrNoClock, err)
	case err != nil:
		return none, err
	}
	if err := r.ready(); err != nil {
		return none, err
	}
	var text string
	err = r.link.patiently(ctx, func() (err error) { // each time the time that it is then
		if text, err = nextTime(ctx, was); err == nil {
			_, _, err = r.link.once(ctx, OpSetDevicePropValue, encodeText(text), uint32(PropDateTime))
		}
		return err
	})
	if refusedWith(err, RespNotSupported, RespPropNotSupported, accessDenied) {
		return none, fmt.Errorf("%w: %w", device.ErrNoClock, err)
	}
	if err != nil {
		return none, err
	}
	setting := device.ClockSetting{Method: "PTP DateTime, " + text, SetAt: time.Now()}
	if setting.After, err = r.clock(ctx); err != nil {
		// It is set; that it can't be read again is part of what was done.
		setting.After = device.ClockReading{Kind: device.ClockUnknown, Method: err.Error(), StationTime: time.Now()}
		return setting, err
	}
	return setting, nil
}

// nextTime waits until the station's clock is at the beginning of the next grain of the
// string, less the time that it takes to get to the recorder.
func nextTime(ctx context.Context, was sample) (string, error) {
	at, onTheWay := time.Now(), was.after.Sub(was.before)/2
	if grain := was.told.Grain(); grain > onTheWay {
		at = at.Add(onTheWay + grain).Truncate(grain)
		select {
		case <-time.After(time.Until(at) - onTheWay):
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	return was.told.In(at), nil
}
