package rack

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind is what goes wrong at a slot.
type Kind string

// The kinds.
const (
	Pull     Kind = "pull"     // the recorder is pulled while it is read, and put back
	BadCard  Kind = "badcard"  // one of its files can't be read
	Drift    Kind = "drift"    // its clock is wrong
	NoClock  Kind = "noclock"  // its clock can't be read
	Battery  Kind = "battery"  // it is nearly empty
	Deleted  Kind = "deleted"  // one of its recordings was deleted
	Stranger Kind = "stranger" // it is not in the register, and not taken in
	Free     Kind = "free"     // nobody docks here
)

// Fault is what goes wrong at one slot.
type Fault struct {
	Kind Kind
	Slot int
	// At is the part of the card that is read before a Pull, of 1.
	At float64
	// Offset is recorder minus true time at a Drift, + = fast.
	Offset time.Duration
	// Percent is the charge of a Battery.
	Percent uint8
}

// ParseFaults reads a list such as "pull:3@40%,badcard:5,drift:8=-27h,battery:10=12".
// An empty one has none.
func ParseFaults(text string) (faults []Fault, err error) {
	if text == "" {
		return nil, nil
	}
	taken := map[int]bool{}
	for word := range strings.SplitSeq(text, ",") {
		f, err := parseFault(strings.TrimSpace(word))
		if err != nil {
			return nil, fmt.Errorf("the fault %q: %w", word, err)
		}
		if taken[f.Slot] {
			return nil, fmt.Errorf("the fault %q: slot %d has another one", word, f.Slot)
		}
		taken[f.Slot] = true
		faults = append(faults, f)
	}
	return faults, nil
}

func parseFault(word string) (f Fault, err error) {
	kind, rest, _ := strings.Cut(word, ":")
	f.Kind = Kind(kind)
	sign := map[Kind]string{Pull: "@", Drift: "=", Battery: "="}[f.Kind]
	value, has := "", false
	if sign != "" {
		rest, value, has = strings.Cut(rest, sign)
	}
	if f.Slot, err = strconv.Atoi(rest); err != nil || f.Slot < 1 {
		return f, fmt.Errorf("%q is no number of a slot", rest)
	}
	if sign != "" && !has {
		return f, fmt.Errorf("it lacks its value: pull:3@40%%, drift:8=-27h, battery:10=12")
	}
	switch f.Kind {
	case Pull:
		percent, err := strconv.ParseUint(strings.TrimSuffix(value, "%"), 10, 7)
		if err != nil || percent > 99 {
			return f, fmt.Errorf("%q is not 0%% to 99%%", value)
		}
		f.At = float64(percent) / 100
	case Drift:
		if f.Offset, err = time.ParseDuration(value); err != nil {
			return f, err
		}
	case Battery:
		percent, err := strconv.ParseUint(value, 10, 8)
		if err != nil || percent > 100 {
			return f, fmt.Errorf("%q is not 0 to 100", value)
		}
		f.Percent = uint8(percent)
	case BadCard, NoClock, Deleted, Stranger, Free:
	default:
		return f, fmt.Errorf("there is pull, badcard, drift, noclock, battery, deleted, stranger and free")
	}
	return f, nil
}
