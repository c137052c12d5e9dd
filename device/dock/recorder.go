package dock

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/massstorage"
	"github.com/bodyworn/ingestd/device/profile"
)

// fileTimeGrain is that of FAT, the coarsest that recorders use.
const fileTimeGrain = 2 * time.Second

// recorder is an opened recorder with what its profile and its commands add to
// what the driver tells.
type recorder struct {
	device.Recorder
	*opening
	id device.Identity
}

var (
	_ device.Recorder     = (*recorder)(nil)
	_ device.ClockSetter  = (*recorder)(nil)
	_ device.ClockWitness = (*recorder)(nil)
)

// identify lets the profile say who this is, and leaves unknown what it does not
// tell: two cards that name different recorders name none, whatever the driver made
// of the first.
func (r *recorder) identify(e profile.Evidence) {
	serial, officer, model := r.profile.Identify(e)
	r.id.Profile, r.id.Officer, r.id.Model = r.profile.Name, officer, model
	if !r.registered { // else it is known by the number that USB shows
		r.id.Serial = serial
	}
}

func (r *recorder) Identity() device.Identity { return r.id }

// Clock is the reading by command where there is one, which was made before the
// recorder became a disk.
func (r *recorder) Clock(ctx context.Context) (device.ClockReading, error) {
	if r.told != nil && r.told.clock.Kind == device.ClockMeasured {
		return r.told.clock, nil
	}
	reading, err := r.Recorder.Clock(ctx)
	if disks, ok := r.Recorder.(*massstorage.Recorder); ok && err == nil {
		if left := disks.ClockFileLeft(); left.Known() {
			reading.Method += fmt.Sprintf("; it has not taken the time that was written for it: %s is still there (%s)", left.Source, left.Value)
		}
	}
	return reading, err
}

func (r *recorder) Health(ctx context.Context) (device.Health, error) {
	h, err := r.Recorder.Health(ctx)
	if h.BatteryPercent == nil && r.told != nil {
		h.BatteryPercent = r.told.battery
	}
	return h, err
}

// SetClock implements device.ClockSetter as the profile says.
func (r *recorder) SetClock(ctx context.Context) (device.ClockSetting, error) {
	if r.told != nil && r.told.set != nil {
		return *r.told.set, nil
	}
	if r.told != nil && r.told.notSet != nil {
		return device.ClockSetting{}, r.told.notSet
	}
	if setter, ok := r.Recorder.(device.ClockSetter); ok {
		return setter.SetClock(ctx)
	}
	return device.ClockSetting{}, fmt.Errorf("by its profile: %w", device.ErrNoClock)
}

// TimeGrain implements device.ClockWitness.
func (r *recorder) TimeGrain() time.Duration { return fileTimeGrain }

// Fix implements device.ClockWitness with the tracks that the profile knows.
func (r *recorder) Fix(e device.Entry, content []byte) (time.Time, bool) {
	if r.profile == nil || !r.profile.IsGPS(e.Path) {
		return time.Time{}, false
	}
	track, err := profile.ParseNMEA(bytes.NewReader(content))
	if err != nil || track.Fixes == 0 || !track.Ordered {
		return time.Time{}, false
	}
	return track.Last, true
}
