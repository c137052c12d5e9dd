package policy

import (
	"fmt"
	"iter"
	"time"
)

// Effect is what a new policy does to a session. The strings are stable.
type Effect string

// What a change of policy can do.
const (
	// Longer: the locks are to be extended to New.Until.
	Longer Effect = "longer"
	// Stays: the new policy asks for less. A lock can't be shortened, so the
	// footage is kept as the old one decided.
	Stays Effect = "stays"
)

// Change is a session for which two policies decide differently.
type Change struct {
	Session  string // as it was given to Compare
	Effect   Effect
	Old, New Decision
}

// Until is what holds after the change: the later of the two.
func (c Change) Until() time.Time {
	if c.Effect == Longer {
		return c.New.Until
	}
	return c.Old.Until
}

// Permanent tells whether the session is out of every plan of disposal after the
// change. What was permanent stays it: a new file is no order to destroy.
func (c Change) Permanent() bool { return c.Old.Permanent || c.New.Permanent }

// Compare goes through sessions, by their ids, and gives those that a new policy
// keeps for another time than the old one; where only the reasons differ there is
// no change. It compares decisions: the lock in the store may be longer than both.
// A session that can't be decided ends it with ErrFacts, because a list with holes
// would pass for a whole one.
func Compare(before, after *Policy, sessions iter.Seq2[string, Facts], loc *time.Location) ([]Change, error) {
	var changes []Change
	for id, facts := range sessions {
		was, err := before.Decide(facts, loc)
		if err != nil {
			return nil, fmt.Errorf("session %s: %w", id, err)
		}
		is, err := after.Decide(facts, loc)
		if err != nil {
			return nil, fmt.Errorf("session %s: %w", id, err)
		}
		c := Change{Session: id, Old: was, New: is}
		switch {
		case is.outlasts(was):
			c.Effect = Longer
		case was.outlasts(is):
			c.Effect = Stays
		default:
			continue
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// outlasts tells whether d keeps longer. Permanent is longer than its own lock.
func (d Decision) outlasts(other Decision) bool {
	if d.Permanent != other.Permanent {
		return d.Permanent
	}
	return d.Until.After(other.Until)
}
