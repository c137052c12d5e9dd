package ptp

import (
	"fmt"
	"strings"
	"time"
)

// ZoneForm is how a time string tells its zone.
type ZoneForm int

// The forms of PIMA 15740 §5.3.5.2.
const (
	NoZone   ZoneForm = iota // local time, of a zone that is not told
	ZoneUTC                  // a final Z
	ZoneHHMM                 // a final ±hhmm
)

// TimeString is a time in the form YYYYMMDDThhmmss[.s][Z|±hhmm] of PIMA 15740
// §5.3.5.2, with all that is needed to write another in the same form.
type TimeString struct {
	// Time in the zone that the string tells, else in the one given.
	Time time.Time
	Form ZoneForm
	// Digits of the fraction of a second that were there.
	Digits int
}

// Grain is how finely the string tells time.
func (t TimeString) Grain() time.Duration {
	grain := time.Second
	for range t.Digits {
		grain /= 10
	}
	return grain
}

// ParseTime reads a time string; zone is for one that tells none.
func ParseTime(s string, zone *time.Location) (TimeString, error) {
	const layout = "20060102T150405"
	fail := func() (TimeString, error) {
		return TimeString{}, fmt.Errorf("%w: %q is no time YYYYMMDDThhmmss", ErrMalformed, s)
	}
	if len(s) < len(layout) || len(s) > len(layout)+32 {
		return fail()
	}
	main, rest := s[:len(layout)], s[len(layout):]
	if strings.ContainsAny(main, ".,") { // time.Parse would take a fraction
		return fail()
	}
	result := TimeString{}
	var fraction time.Duration
	if strings.HasPrefix(rest, ".") {
		digits := 0
		grain := time.Second
		for _, c := range rest[1:] {
			if c < '0' || c > '9' || digits == 9 {
				break
			}
			digits++
			grain /= 10
			fraction += time.Duration(c-'0') * grain
		}
		if digits == 0 {
			return fail()
		}
		result.Digits, rest = digits, rest[1+digits:]
	}
	switch rest {
	case "":
	case "Z":
		result.Form, zone = ZoneUTC, time.UTC
	default:
		hhmm, err := time.Parse("-0700", rest)
		if err != nil || len(rest) != len("-0700") || rest[3] > '5' { // time.Parse takes 60 minutes
			return fail()
		}
		_, seconds := hhmm.Zone()
		result.Form, zone = ZoneHHMM, time.FixedZone("", seconds)
	}
	if zone == nil {
		zone = time.Local
	}
	at, err := time.ParseInLocation(layout, main, zone)
	if err != nil || at.Year() < 1 {
		return fail()
	}
	result.Time = at.Add(fraction)
	return result, nil
}

// In writes an instant in the same form: same zone, same number of digits.
func (t TimeString) In(at time.Time) string {
	at = at.In(t.Time.Location())
	layout := "20060102T150405"
	if t.Digits > 0 {
		layout += "." + strings.Repeat("0", t.Digits)
	}
	s := at.Format(layout)
	switch t.Form {
	case ZoneUTC:
		s += "Z"
	case ZoneHHMM:
		s += at.Format("-0700")
	}
	return s
}

// encodeText writes a string as decoder.text reads it.
func encodeText(s string) []byte {
	out := []byte{byte(len(s) + 1)}
	for _, c := range []byte(s) { // ASCII: only times are written
		out = append(out, c, 0)
	}
	return append(out, 0, 0)
}
