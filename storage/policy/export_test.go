package policy

import "time"

// Unchecked is a policy that Parse would refuse, to show what holds without it.
func Unchecked(months int) *Policy {
	return &Policy{file: "unchecked", standard: rule{name: DefaultRule, period: period{months: months}, why: "test"}}
}

// KeepFloor is the guard behind every count, whatever made the decision before it.
func KeepFloor(d Decision, f Facts, loc *time.Location) Decision {
	d.keepFloor(f, loc)
	return d
}
