package vendorcmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
)

const (
	// late is how long after its second a time may be sent.
	late = 200 * time.Millisecond
	// midnightMargin keeps the date and the time, which go in commands of their own,
	// on one day.
	midnightMargin = 10 * time.Second
)

// Clock asks the recorder for its time (第十条: measured before anything is set).
// zone is that of the recorder's clock. Without the command, and with an answer
// that is no time, the reading is ClockUnknown.
func (s *Session) Clock(ctx context.Context, zone *time.Location) (device.ClockReading, error) {
	e := s.commands.ReadClock
	if e == nil {
		return device.ClockReading{Kind: device.ClockUnknown, Method: "the recorder has no command that reads its clock", StationTime: time.Now()}, nil
	}
	answer, err := s.command(ctx, "read_clock", e)
	if err != nil {
		return device.ClockReading{}, fmt.Errorf("read the clock: %w", err)
	}
	text := answer.group("time")
	shows, ok := parseTime(e.TimeLayout, text, zone)
	if !ok {
		return device.ClockReading{
			Kind: device.ClockUnknown, Method: "the answer to the clock command is no time: " + s.quoted(text), StationTime: answer.receivedAt,
		}, nil
	}
	// The recorder read its clock somewhere between question and answer, and what it
	// tells was cut to its resolution.
	roundTrip, step := answer.receivedAt.Sub(answer.sentAt), resolution(e.TimeLayout)
	asked := answer.sentAt.Add(roundTrip / 2)
	offset := shows.Add(step / 2).Sub(asked)
	uncertainty := roundTrip/2 + step/2
	return device.ClockReading{
		Kind: device.ClockMeasured, Method: "asked by the recorder's own command",
		Offset: &offset, Uncertainty: &uncertainty, StationTime: asked,
	}, nil
}

func parseTime(layout, text string, zone *time.Location) (at time.Time, ok bool) {
	at, err := time.ParseInLocation(layout, text, zone)
	return at, err == nil
}

// resolution is the smallest step that a layout can tell.
func resolution(layout string) time.Duration {
	smallest := time.Minute
	sample := time.Date(2031, 12, 29, 23, 58, 47, 111111111, time.UTC)
	if back, err := time.Parse(layout, sample.Format(layout)); err == nil && back.Second() == sample.Second() {
		smallest = time.Second
		digits := strings.TrimRight(fmt.Sprintf("%09d", back.Nanosecond()), "0")
		for range digits {
			smallest /= 10
		}
	}
	return smallest
}

// SetClock sets the recorder's clock to the station's time as zone shows it, and
// reads it again where there is a command for that. The second is sent when it
// begins, and never a date of one day with a time of another. Without the command
// the error is device.ErrNoClock. An error between the two commands leaves a new
// date with the old time and says so.
func (s *Session) SetClock(ctx context.Context, zone *time.Location) (device.ClockSetting, error) {
	if s.commands.SetTime == nil {
		return device.ClockSetting{}, fmt.Errorf("set the clock: %w", device.ErrNoClock)
	}
	if err := s.ready(); err != nil {
		return device.ClockSetting{}, fmt.Errorf("set the clock: %w", err)
	}
	at, err := s.setClock(ctx, zone)
	if err != nil {
		return device.ClockSetting{}, err
	}
	after, err := s.Clock(ctx, zone)
	if err != nil {
		// It was set; that it can't be read again is a reading of its own.
		after = device.ClockReading{Kind: device.ClockUnknown, Method: "set, but not read again: " + err.Error(), StationTime: time.Now()}
	}
	return device.ClockSetting{Method: "set by the recorder's own command, to the second", SetAt: at, After: after}, nil
}

// setClock sends date, time and, where they are two commands, the date again. The
// recorder's own clock may pass its midnight between the first two and carry the
// date on; once its time is the station's it can't any more.
func (s *Session) setClock(ctx context.Context, zone *time.Location) (time.Time, error) {
	for {
		if err := awayFromMidnight(ctx, zone); err != nil {
			return time.Time{}, fmt.Errorf("set the clock: %w", err)
		}
		day := time.Now().In(zone)
		if err := s.setDate(ctx, day); err != nil {
			return time.Time{}, fmt.Errorf("set the date of the clock: %w", err)
		}
		at, err := nextSecond(ctx)
		if err != nil {
			return time.Time{}, fmt.Errorf("set the clock: %w", err)
		}
		if _, err := s.exchange(ctx, named{"set_time", s.commands.SetTime}, at.In(zone)); err != nil {
			if s.commands.SetDate != nil {
				return time.Time{}, fmt.Errorf("set the time of the clock, whose date is set already: %w", err)
			}
			return time.Time{}, fmt.Errorf("set the clock: %w", err)
		}
		if err := s.setDate(ctx, day); err != nil {
			return time.Time{}, fmt.Errorf("set the date of the clock again, after its time: %w", err)
		}
		if s.commands.SetDate == nil || time.Now().In(zone).YearDay() == day.YearDay() {
			return at, nil
		}
		// Slow answers carried the station over midnight: once more, with the new date.
	}
}

func (s *Session) setDate(ctx context.Context, day time.Time) error {
	if s.commands.SetDate == nil {
		return nil
	}
	_, err := s.exchange(ctx, named{"set_date", s.commands.SetDate}, day)
	return err
}

// awayFromMidnight waits until midnight is past if it is close.
func awayFromMidnight(ctx context.Context, zone *time.Location) error {
	now := time.Now().In(zone)
	year, month, day := now.Date()
	tomorrow := time.Date(year, month, day+1, 0, 0, 0, 0, zone)
	if wait := tomorrow.Sub(now); wait <= midnightMargin {
		return sleep(ctx, wait)
	}
	return nil
}

// nextSecond waits for a second to begin, so that what the recorder is told is
// true when it hears it. On a station too busy to meet one it takes what it gets:
// still less than a second off.
func nextSecond(ctx context.Context) (time.Time, error) {
	for tries := 0; ; tries++ {
		now := time.Now()
		next := now.Truncate(time.Second).Add(time.Second)
		if err := sleep(ctx, next.Sub(now)); err != nil {
			return time.Time{}, err
		}
		if now = time.Now(); now.Sub(next) < late || tries == 5 {
			return now.Truncate(time.Second), nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
