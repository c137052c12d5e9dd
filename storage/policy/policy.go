// Package policy decides how long footage is kept, and says why (第十一条). It
// stands between what is known of a session and the lock that the vault puts on
// its objects: the facts of the session go in, the end of the lock and the
// reasons come out. Nothing here reads a clock, a file or the store: the same
// policy, the same facts and the same rules of the time zone give the same answer in
// any year and on any machine.
//
// Its promises:
//   - No decision ends before six calendar months have passed, counted by
//     [storage.RetainUntil] from the time of storing. No file can say otherwise:
//     one that tries is refused as a whole.
//   - A rule can only lengthen. Of all that match, the default among them, the
//     longest decides, in whatever order they are written. No tag takes away what
//     the default or another tag gives.
//   - Every decision can be explained: which rules matched, which one won, from
//     when, by which clock and in which zone it was counted.
//
// A decision is the end of a lock, not the right to delete. A hold (保全) outranks
// it, and so does a lock in the store that is longer.
package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

// PermanentMonths is the lock of what is kept permanently (永久保存): a lock needs
// a date, and a hundred years is the longest that a rule can ask for. The end of
// that lock is no expiry, see Decision.Permanent.
const PermanentMonths = 1200

// Names in a Decision that no rule of a file can have.
const (
	DefaultRule = "default" // what is kept when no rule asks for more
	FloorRule   = "floor"   // 第十一条 itself
)

// What a period was counted from. The strings are stable.
const (
	StartStored       = "stored"        // the station's time at store
	StartRecordingEnd = "recording_end" // the end of the recording, corrected for the recorder's clock
)

// Policy is one checked settings file. Only Parse makes one; it does not change
// and may be used by many goroutines.
type Policy struct {
	file     string
	standard rule   // default: matches everything
	rules    []rule // in the order of the file
}

// rule is a period and the footage that it is for.
type rule struct {
	name   string
	line   int // in the file
	period period
	why    string
	match  map[string][]string // by the keys of matchKeys; all of them, any of the values
	from   time.Time           // first day of docking, midnight UTC; zero: no first
	until  time.Time           // last day of docking; zero: no last
}

// period is how long, in calendar months.
type period struct {
	months    int
	permanent bool
}

func (p period) compare(q period) int {
	switch {
	case p.permanent == q.permanent:
		return cmp.Compare(p.months, q.months)
	case p.permanent:
		return 1
	}
	return -1
}

// Facts are what a decision needs to know of a session. What is unknown stays
// empty and matches no rule that asks for it; the decision is made again, and the
// lock extended, when more is known.
type Facts struct {
	Docked time.Time // by the station's clock; rules that are limited to days go by it
	Stored time.Time // by the station's clock, when the last object was created
	// RecordingEnd is the latest end of a recording, corrected by the measured
	// offset of the recorder's clock; nil where that is not known. A recorder's
	// clock as it was is never put here.
	RecordingEnd *time.Time
	Recorder     string // serial number
	Officer      string // id, as in the register
	Unit         string
	Tags         []string
}

// Decision is until when a session is kept, and why.
type Decision struct {
	// Until is the instant before which no one may delete: whole seconds, in the
	// station's zone. For the lock of every object of the session.
	Until time.Time
	// Permanent footage never enters a plan of disposal, not even after Until.
	Permanent bool
	Months    int       // calendar months that were counted; PermanentMonths if permanent
	Start     time.Time // what they were counted from, in the station's zone
	StartIs   string    // StartStored or StartRecordingEnd
	Rules     []Applied // all that matched, the one that decided first, the default among them
	Winner    string    // name of the rule that decided, or DefaultRule, or FloorRule
	File      string    // name of the file that the rules are from, as Parse was told
}

// Applied is a rule that matched.
type Applied struct {
	Name      string
	Months    int // PermanentMonths if permanent
	Permanent bool
	Why       string
	Line      int // in the file
}

// ErrFacts is in the chain when the facts are not enough for a decision. A caller
// that plans disposal leaves such a session alone.
var ErrFacts = errors.New("retention can't be decided")

// Decide gives the end of the lock for a session, in the zone of the station. The
// error is ErrFacts, where a time that it needs is missing or out of all reason:
// a date made up from a zero time would look as if it had expired long ago.
func (p *Policy) Decide(f Facts, loc *time.Location) (Decision, error) {
	if err := f.check(loc); err != nil {
		return Decision{}, err
	}
	d := Decision{Rules: p.applied(f, loc), File: p.file}
	d.Winner, d.Months, d.Permanent = d.Rules[0].Name, d.Rules[0].Months, d.Rules[0].Permanent
	d.count(f, loc)
	d.keepFloor(f, loc)
	if d.Until.Year() > 9999 {
		return Decision{}, fmt.Errorf("%w: %d months from %s end after the year 9999, which no lock can say; correct the time",
			ErrFacts, d.Months, d.Start.Format(time.DateTime))
	}
	return d, nil
}

// Tags gives every tag that a rule asks for, once, in order.
func (p *Policy) Tags() []string {
	var all []string
	for _, r := range p.rules {
		all = append(all, r.match["tag"]...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (f Facts) check(loc *time.Location) error {
	switch {
	case loc == nil:
		return fmt.Errorf("%w: the station's time zone is not given", ErrFacts)
	case f.Stored.IsZero():
		return fmt.Errorf("%w: it is not known when the session was stored; read its manifest again", ErrFacts)
	case f.Docked.IsZero():
		return fmt.Errorf("%w: it is not known when the session was docked; read its manifest again", ErrFacts)
	}
	return nil
}

// applied lists what matches, the longest first. Names break ties, not the order
// in the file: moving a rule must not change the answer.
func (p *Policy) applied(f Facts, loc *time.Location) []Applied {
	docked := day(f.Docked, loc)
	matched := []rule{p.standard}
	for _, r := range p.rules {
		if r.matches(f, docked) {
			matched = append(matched, r)
		}
	}
	slices.SortFunc(matched, func(a, b rule) int {
		return cmp.Or(b.period.compare(a.period), compareDefault(a, b), cmp.Compare(a.name, b.name))
	})
	var out []Applied
	for _, r := range matched {
		out = append(out, Applied{Name: r.name, Months: r.period.months, Permanent: r.period.permanent, Why: r.why, Line: r.line})
	}
	return out
}

// compareDefault puts the default behind a rule of the same length, whose reason
// says more.
func compareDefault(a, b rule) int {
	switch {
	case a.name == DefaultRule:
		return 1
	case b.name == DefaultRule:
		return -1
	}
	return 0
}

func (r rule) matches(f Facts, docked time.Time) bool {
	if !r.from.IsZero() && docked.Before(r.from) || !r.until.IsZero() && docked.After(r.until) {
		return false
	}
	for key, wanted := range r.match {
		if !slices.ContainsFunc(f.values(key), func(v string) bool { return slices.Contains(wanted, v) }) {
			return false
		}
	}
	return true
}

// matchKeys are the facts that a rule can ask for.
var matchKeys = []string{"tag", "recorder", "officer", "unit"}

func (f Facts) values(key string) []string {
	switch key {
	case "tag":
		return f.Tags
	case "recorder":
		return []string{f.Recorder}
	case "officer":
		return []string{f.Officer}
	}
	return []string{f.Unit}
}

// count counts from the later of the two starts. Month ends make an exception:
// six months from 31 August end on 3 March, from 1 September already on 1 March.
// Then the earlier start is the one that keeps longer, and it decides.
func (d *Decision) count(f Facts, loc *time.Location) {
	d.Start, d.StartIs = f.Stored.In(loc), StartStored
	d.Until = storage.RetainUntil(f.Stored, d.Months, loc)
	if f.RecordingEnd == nil || !f.RecordingEnd.After(f.Stored) {
		return
	}
	if until := storage.RetainUntil(*f.RecordingEnd, d.Months, loc); !until.Before(d.Until) {
		d.Start, d.StartIs, d.Until = f.RecordingEnd.In(loc), StartRecordingEnd, until
	}
}

// keepFloor is the last word. Parse has refused every period below the floor; here
// it is law once more, whatever a rule said and whatever comes before this line.
func (d *Decision) keepFloor(f Facts, loc *time.Location) {
	floor := Decision{Months: storage.FloorMonths}
	floor.count(f, loc)
	if d.Months < storage.FloorMonths || d.Until.Before(floor.Until) {
		d.Start, d.StartIs, d.Until = floor.Start, floor.StartIs, floor.Until
		d.Months, d.Winner = storage.FloorMonths, FloorRule
	}
	d.Until = d.Until.In(loc)
}

// day is the date of an instant in a zone, as midnight UTC: days are compared as
// on a calendar, also where the zone's clocks skip a midnight.
func day(t time.Time, loc *time.Location) time.Time {
	y, m, d := t.In(loc).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}
