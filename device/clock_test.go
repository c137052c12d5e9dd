package device_test

import (
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
)

func measured(offset, uncertainty time.Duration) device.ClockReading {
	return device.ClockReading{Kind: device.ClockMeasured, Offset: &offset, Uncertainty: &uncertainty}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const allowed = 5 * time.Second
	hour, day := time.Hour, 24*time.Hour
	for name, c := range map[string]struct {
		reading device.ClockReading
		want    device.ClockVerdict
	}{
		"right":                            {measured(time.Second, 100*time.Millisecond), device.ClockWithin},
		"fast":                             {measured(192*time.Second, time.Second), device.ClockOff},
		"slow":                             {measured(-192*time.Second, time.Second), device.ClockOff},
		"too unsure to be called right":    {measured(4*time.Second, 2*time.Second), device.ClockNotKnown},
		"too unsure to be called off":      {measured(6*time.Second, 2*time.Second), device.ClockNotKnown},
		"eight hours behind":               {measured(-8*hour+3*time.Second, time.Second), device.ClockWrongZone},
		"five and a half ahead":            {measured(5*hour+30*time.Minute, time.Second), device.ClockWrongZone},
		"8 h 12 min is no zone":            {measured(8*hour+12*time.Minute, time.Second), device.ClockOff},
		"days ahead":                       {measured(40*day, time.Second), device.ClockOff},
		"in 1980":                          {measured(-46*365*day, time.Second), device.ClockReset},
		"measured without an offset":       {device.ClockReading{Kind: device.ClockMeasured}, device.ClockNotKnown},
		"nothing known":                    {device.ClockReading{Kind: device.ClockUnknown}, device.ClockNotKnown},
		"bounded, surely fast":             {device.ClockReading{Kind: device.ClockBounded, AtLeast: &hour}, device.ClockOff},
		"bounded from above, may be right": {device.ClockReading{Kind: device.ClockBounded, AtMost: &hour}, device.ClockNotKnown},
	} {
		if got := c.reading.Judge(allowed); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// What the footage shows of a clock is a limit, never a measurement.
func TestFootageBoundsAClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	grain := 2 * time.Second
	if r, ok := device.BoundByFile(now.Add(-time.Minute), now, grain); ok {
		t.Errorf("a file from the past bounds nothing, got %+v", r)
	}
	fast, ok := device.BoundByFile(now.Add(time.Minute), now, grain)
	if !ok || fast.Kind != device.ClockBounded || fast.Offset != nil || *fast.AtLeast != 58*time.Second {
		t.Errorf("a file from the future: %+v", fast)
	}
	// Written at 11:00:00 by its clock, with a fix of 11:03:00: slow by nearly three
	// minutes at least.
	slow, ok := device.BoundByFix(now.Add(-time.Hour), now.Add(-57*time.Minute), now, grain)
	if !ok || *slow.AtMost != -178*time.Second || slow.Judge(5*time.Second) != device.ClockOff {
		t.Errorf("a fix later than the file: %+v", slow)
	}
	if r, ok := device.BoundByFix(time.Time{}, now, now, grain); ok {
		t.Errorf("an unknown time of writing bounds nothing, got %+v", r)
	}
	if both := device.Narrow(fast, slow); both.Kind != device.ClockUnknown {
		t.Errorf("bounds that contradict each other: %+v", both)
	}
	looser, _ := device.BoundByFix(now, now.Add(-10*time.Minute), now, grain)
	both := device.Narrow(looser, fast)
	if *both.AtLeast != 58*time.Second || *both.AtMost != 602*time.Second {
		t.Errorf("joined: %+v", both)
	}
}

func TestPreUse(t *testing.T) {
	t.Parallel()
	battery, low, free, little := 90, 20, int64(8<<30), int64(1<<20)
	limits := device.PreUseLimits{BatteryPercent: 30, FreeBytes: 4 << 30}
	good := device.Health{BatteryPercent: &battery, FreeBytes: &free}
	for name, c := range map[string]struct {
		health device.Health
		clock  device.ClockVerdict
		errors int
		want   device.PreUse
	}{
		"all good":                  {good, device.ClockWithin, 0, device.PreUseFit},
		"clock unknown":             {good, device.ClockNotKnown, 0, device.PreUseCheck},
		"clock never read":          {good, "", 0, device.PreUseCheck},
		"clock off":                 {good, device.ClockOff, 0, device.PreUseUnfit},
		"nothing known":             {device.Health{}, device.ClockNotKnown, 0, device.PreUseCheck},
		"battery low":               {device.Health{BatteryPercent: &low, FreeBytes: &free}, device.ClockWithin, 0, device.PreUseUnfit},
		"card full, battery hidden": {device.Health{FreeBytes: &little}, device.ClockWithin, 0, device.PreUseUnfit},
		"dirty file system":         {device.Health{BatteryPercent: &battery, FreeBytes: &free, Volumes: []device.Volume{{Name: "sda1", Trouble: "not unmounted"}}}, device.ClockWithin, 0, device.PreUseUnfit},
		"read errors":               {good, device.ClockWithin, 1, device.PreUseUnfit},
	} {
		got := device.CheckBeforeUse(c.health, c.clock, c.errors, limits)
		if got.Result != c.want || (c.want == device.PreUseFit) != (len(got.Reasons) == 0) {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
	}
}
