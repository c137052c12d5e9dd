// Package continuity looks for signs of interruptions (记录中断) in what recorders bring:
// running numbers that none of its recordings has, and recordings without a byte (第八条:
// 不间断). It stands behind ingest; console, command line and custody show what it finds.
//
// Its promises: it goes by names, sizes and the recorder's times as the journal has them,
// and reads no footage. A sign is what is there to be seen and no judgement: a number may be
// missing because a file was deleted or overwritten (循环覆盖), or because the recorder has
// left it out; people find out, and explain it (第十条). Where a profile does not tell which
// digits count, nothing is examined, and that is said.
package continuity

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// Kind of a sign; stable.
type Kind string

// The kinds of signs.
const (
	// Missing numbers lie between two recordings of one docking.
	Missing Kind = "missing"
	// MissingSince numbers lie between a recording of the docking before, at this station,
	// and one of this docking.
	MissingSince Kind = "missing_since"
	// Empty recordings have no byte.
	Empty Kind = "empty"
)

// Sign of an interruption.
type Sign struct {
	Kind Kind `json:"kind"`
	// From and To are the first and the last number that are missing; 0 with Empty.
	From int `json:"from_number,omitempty"`
	To   int `json:"to_number,omitempty"`
	// After and Before are the paths of the recordings around them; After alone is set
	// with Empty, and lies in session Since with MissingSince.
	After  string `json:"after"`
	Before string `json:"before,omitempty"`
	Since  string `json:"since_session,omitempty"`
}

// Numbers is how many are missing.
func (s Sign) Numbers() int {
	if s.Kind == Empty {
		return 0
	}
	return s.To - s.From + 1
}

// Range is the missing numbers as people write them.
func (s Sign) Range() string {
	if s.From == s.To {
		return strconv.Itoa(s.From)
	}
	return fmt.Sprintf("%d–%d", s.From, s.To)
}

// Unexamined is why a session was not looked at; stable.
type Unexamined string

// Why a session is not examined.
const (
	// NoProfile: it is not known of which make the recorder was, or that make is not
	// known here any more.
	NoProfile Unexamined = "no_profile"
	// NoNumbers: the profile tells of no running numbers, or no name has its form.
	NoNumbers Unexamined = "no_numbers"
	// NotEnded: the session goes on, and what it has is not all.
	NotEnded Unexamined = "not_ended"
	// NoProfiles: the profiles can't be read; Report.Why tells.
	NoProfiles Unexamined = "profiles_unreadable"
)

// Report is what a session's recordings tell.
type Report struct {
	Unexamined Unexamined `json:"unexamined,omitempty"` // empty: it was
	Why        string     `json:"why,omitempty"`        // of NoProfiles
	Recordings int        `json:"recordings"`           // with a number in their name
	Unnumbered int        `json:"unnumbered"`           // the others, which nothing is told of
	Signs      []Sign     `json:"signs"`
}

// Open is how many signs there are; nil: nobody has looked.
func (r Report) Open() *int {
	if r.Unexamined != "" {
		return nil
	}
	n := len(r.Signs)
	return &n
}

// Examiner looks at sessions.
type Examiner struct {
	Journal  *journal.Journal
	Profiles func() (profile.Set, error)
	Zone     *time.Location // of profiles that say station
}

// Session examines one that has ended.
func (e *Examiner) Session(ctx context.Context, s journal.Session, files []*journal.File) (Report, error) {
	r := Report{Signs: []Sign{}}
	set, err := e.Profiles()
	p, ok := set.Named(s.Identity.Profile)
	switch {
	case err != nil:
		r.Unexamined, r.Why = NoProfiles, err.Error()
	case s.State != journal.StateSealed && s.State != journal.StateFailed:
		r.Unexamined = NotEnded
	case !ok:
		r.Unexamined = NoProfile
	case !p.Numbers():
		r.Unexamined = NoNumbers
	}
	if r.Unexamined != "" {
		return r, nil
	}
	var here numbered
	here, r.Unnumbered = e.numbered(p, files, "")
	for _, of := range here {
		r.Recordings += len(of)
	}
	if r.Recordings == 0 {
		if r.Unnumbered > 0 {
			r.Unexamined = NoNumbers
		}
		return r, nil
	}
	for _, f := range files {
		if f.Entry.Kind == device.KindFile && f.Entry.Size == 0 && f.State.Good() && p.IsFootage(f.Entry.Path) {
			r.Signs = append(r.Signs, Sign{Kind: Empty, After: f.Entry.Path})
		}
	}
	gaps, err := e.gaps(ctx, p, s, here)
	r.Signs = append(r.Signs, gaps...)
	return r, err
}

// recording is a file with a number in its name.
type recording struct {
	number  int
	at      time.Time // by the recorder's clock; zero: its name does not say
	path    string
	session string // empty: the one that is examined
}

// numbered are recordings by the serial number in their names: a card may have been in
// several recorders, each of which counts for itself.
type numbered map[string][]recording

// numbered gives the recordings of the session that is examined, session "", or those that
// an earlier one has brought: what could not be stored then was on the recorder only.
func (e *Examiner) numbered(p *profile.Profile, files []*journal.File, session string) (found numbered, unnumbered int) {
	found = numbered{}
	for _, f := range files {
		if f.Entry.Kind != device.KindFile || !p.IsFootage(f.Entry.Path) || session != "" && !f.State.Good() {
			continue
		}
		name, ok := p.ReadName(f.Entry.Path, e.Zone)
		if !ok || !name.Numbered {
			unnumbered++
			continue
		}
		found[name.Serial.Value] = append(found[name.Serial.Value], recording{name.Number, name.At, f.Entry.Path, session})
	}
	return found, unnumbered
}
