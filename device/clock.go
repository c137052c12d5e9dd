package device

import (
	"fmt"
	"time"
)

// ClockKind says how much is known of a recorder's clock.
type ClockKind string

// The kinds of clock reading.
const (
	ClockMeasured ClockKind = "measured" // the recorder was asked
	ClockBounded  ClockKind = "bounded"  // a limit follows from the footage
	ClockUnknown  ClockKind = "unknown"  // nothing can be said
)

// ClockReading is one comparison of the recorder's clock with the station's
// (第十条: 对系统时间进行校准). The offset is recorder minus station, + is fast.
type ClockReading struct {
	Kind ClockKind `json:"kind"`
	// Method says how, or why not, in words for a report.
	Method string `json:"method"`
	// AtLeast and AtMost are the limits of the offset; at least one is there if
	// Kind is bounded, else none. Nil: there is no such limit.
	AtLeast *time.Duration `json:"offset_at_least_ns,omitempty"`
	AtMost  *time.Duration `json:"offset_at_most_ns,omitempty"`
	// Offset and Uncertainty are nil unless Kind is measured.
	Offset *time.Duration `json:"offset_ns,omitempty"`
	// StationTime is the station's clock at the reading.
	StationTime time.Time      `json:"station_time"`
	Uncertainty *time.Duration `json:"uncertainty_ns,omitempty"`
}

// ClockVerdict classes a reading. The strings are stable.
type ClockVerdict string

// The verdicts.
const (
	ClockWithin    ClockVerdict = "within"     // no further off than is allowed
	ClockOff       ClockVerdict = "off"        // further
	ClockWrongZone ClockVerdict = "wrong_zone" // right but for whole or half hours
	ClockReset     ClockVerdict = "reset"      // began anew after it was without power
	ClockNotKnown  ClockVerdict = "unknown"
)

const (
	// zoneStep: nearly all zones differ from one another by half hours.
	zoneStep = 30 * time.Minute
	// zoneSlack is what a clock in the wrong zone may be off besides.
	zoneSlack = 2 * time.Minute
	// zoneMost is the largest difference between two zones.
	zoneMost = 26 * time.Hour
	// resetAfter: no clock that ran loses as much. One that lost its power begins
	// in 1970, 1980, 2000, 2010, or at the date of its firmware.
	resetAfter = 90 * 24 * time.Hour
)

// Judge classes a reading; allowed is how far off a clock may be. What can't be
// told for sure is ClockNotKnown: a reading that is less sure than allowed does
// not show that a clock is right.
func (r ClockReading) Judge(allowed time.Duration) ClockVerdict {
	switch r.Kind {
	case ClockMeasured:
		if r.Offset == nil || r.Uncertainty == nil {
			return ClockNotKnown
		}
		return judgeMeasured(*r.Offset, *r.Uncertainty, allowed)
	case ClockBounded:
		switch {
		case r.AtMost != nil && *r.AtMost < -resetAfter:
			return ClockReset
		case r.AtLeast != nil && *r.AtLeast > allowed, r.AtMost != nil && *r.AtMost < -allowed:
			return ClockOff
		}
	}
	return ClockNotKnown
}

func judgeMeasured(offset, uncertainty, allowed time.Duration) ClockVerdict {
	switch off := offset.Abs(); {
	case offset < -resetAfter:
		return ClockReset
	case off+uncertainty <= allowed:
		return ClockWithin
	case off-uncertainty <= allowed:
		return ClockNotKnown
	case off <= zoneMost && off.Round(zoneStep) > 0 && (off-off.Round(zoneStep)).Abs() <= zoneSlack+uncertainty:
		return ClockWrongZone
	}
	return ClockOff
}

// Words tells a reading to people: 快 3m12s fast ± 50ms.
func (r ClockReading) Words() string {
	switch {
	case r.Kind == "":
		return "未知 unknown (not read)"
	case r.Kind == ClockMeasured && r.Offset != nil && r.Uncertainty != nil:
		return fmt.Sprintf("%s ± %s (measured: %s)", fastOrSlow(*r.Offset), short(*r.Uncertainty), r.Method)
	case r.Kind == ClockBounded && r.AtLeast != nil && r.AtMost != nil:
		return fmt.Sprintf("between %s and %s (bounded: %s)", fastOrSlow(*r.AtLeast), fastOrSlow(*r.AtMost), r.Method)
	case r.Kind == ClockBounded && r.AtLeast != nil:
		return fmt.Sprintf("at least 至少%s (bounded: %s)", fastOrSlow(*r.AtLeast), r.Method)
	case r.Kind == ClockBounded && r.AtMost != nil && *r.AtMost < 0:
		return fmt.Sprintf("at least 至少%s (bounded: %s)", fastOrSlow(*r.AtMost), r.Method)
	case r.Kind == ClockBounded && r.AtMost != nil:
		return fmt.Sprintf("at most 至多%s (bounded: %s)", fastOrSlow(*r.AtMost), r.Method)
	}
	return "未知 unknown (" + r.Method + ")"
}

func fastOrSlow(d time.Duration) string {
	if d < 0 {
		return "慢 " + short(-d) + " slow"
	}
	return "快 " + short(d) + " fast"
}

// short drops digits that nobody reads.
func short(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// ClockWitness is a Recorder whose files carry times by its own clock, in a zone
// that is known. They bound the offset of a clock that can't be asked.
type ClockWitness interface {
	// TimeGrain is the coarseness of the files' times: 2 s with FAT.
	TimeGrain() time.Duration
	// Fix gives the latest satellite time in the content of a file, if it is a
	// sidecar that holds such.
	Fix(e Entry, content []byte) (time.Time, bool)
}

// BoundByFile bounds by a file from the future: there is none, so that a clock by
// which there is was fast by at least the difference when the file was written.
func BoundByFile(newest, station time.Time, grain time.Duration) (ClockReading, bool) {
	least := newest.Sub(station) - grain
	if newest.IsZero() || least <= 0 {
		return ClockReading{}, false
	}
	return ClockReading{Kind: ClockBounded, AtLeast: &least, StationTime: station, Method: "its newest file lies in the station's future"}, true
}

// BoundByFix bounds by a sidecar: it was written no earlier than the satellite time
// in it, so that the clock was fast by at most the difference. modTime is by the recorder's clock and rounded down to its grain.
func BoundByFix(modTime, fix, station time.Time, grain time.Duration) (ClockReading, bool) {
	if modTime.IsZero() || fix.IsZero() {
		return ClockReading{}, false
	}
	most := modTime.Add(grain).Sub(fix)
	return ClockReading{Kind: ClockBounded, AtMost: &most, StationTime: station, Method: "a sidecar's time of writing beside the satellite time in it"}, true
}

// Narrow joins two bounds into one. Bounds that contradict each other say nothing,
// since a clock that was set between two files gives such.
func Narrow(a, b ClockReading) ClockReading {
	if a.Kind != ClockBounded {
		return b
	}
	if b.Kind != ClockBounded {
		return a
	}
	joined := a
	if b.AtLeast != nil && (a.AtLeast == nil || *b.AtLeast > *a.AtLeast) {
		joined.AtLeast = b.AtLeast
	}
	if b.AtMost != nil && (a.AtMost == nil || *b.AtMost < *a.AtMost) {
		joined.AtMost = b.AtMost
	}
	if a.Method != b.Method {
		joined.Method = a.Method + "; " + b.Method
	}
	if joined.AtLeast != nil && joined.AtMost != nil && *joined.AtLeast > *joined.AtMost {
		return ClockReading{Kind: ClockUnknown, StationTime: a.StationTime, Method: "what the footage tells of the clock contradicts itself: it was set in between"}
	}
	return joined
}
