package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

const (
	// lastFor is how long a slot that is empty again shows how its last docking ended.
	lastFor = 5 * time.Minute
	// earlyFor is how long a slot asks for a recorder that was taken too early. Its
	// session stays open, and listed, after that.
	earlyFor = 24 * time.Hour
	// earlyMost bounds how many recorders one slot asks for, the latest of them.
	earlyMost = 4
)

// Trouble is the kind of thing that keeps a recorder from being safe, without any
// name of a file. The strings are stable.
type Trouble string

// The kinds of trouble.
const (
	TroubleNone         Trouble = ""
	TroubleStalled      Trouble = "stalled"        // nothing moves, for as long as Config.StallAfter
	TroubleStore        Trouble = "store_away"     // the store does not answer; it is tried again
	TroubleStaged       Trouble = "staged"         // the same, and a copy is on the station's disk: not stored
	TroubleUnreadable   Trouble = "unreadable"     // the session ended; some paths could not be read
	TroubleNotStored    Trouble = "not_stored"     // the session ended; some files are not stored as they are
	TroublePerson       Trouble = "needs_person"   // a password, an encrypted card, a file system
	TroubleUnregistered Trouble = "unregistered"   // not in the register (台账), and such are refused
	TroubleNoRecorder   Trouble = "not_a_recorder" // was not opened
	TroubleOther        Trouble = "other"          // the log says more
)

// SlotView is what a slot shows at one moment. It holds ids and numbers only: no
// names of files or persons, no case numbers.
type SlotView struct {
	Name string
	// Further counts the other dockings in a slot of this name: cards in one folder,
	// and recorders that were taken too early from a slot that is in use again. 0 is
	// the slot itself.
	Further int
	// State is Safe only after a Report whose Safe is true, never by progress.
	State   SlotState
	Since   time.Time // when the state began
	Trouble Trouble

	Recorder string // serial; empty: not known
	Officer  string // id; empty: not known
	Session  string

	Files     int64 // to be stored
	FilesDone int64
	Bytes     int64
	Fraction  float64        // below 1, see Progress
	Left      *time.Duration // at the pace of the last half minute; nil: not known
	// Verification is ReadBack or ChecksumOnly once a session has begun.
	Verification string

	// Identified says that Clock, Verdict and Health are what the recorder told.
	Identified bool
	Clock      device.ClockReading
	Verdict    device.ClockVerdict
	ClockSet   *device.ClockVerdict // of the reading after it was set; nil: it was not set
	Health     device.Health
	CardBad    bool // a volume has trouble, or paths could not be read

	// Last is how the docking before ended, for some minutes after an undocking.
	Last *LastDocking
}

// LastDocking is what is still said of a recorder that has left its slot.
type LastDocking struct {
	Recorder, Officer string
	Safe              bool          // all of it was stored and verified
	PreUse            device.PreUse // empty: not checked (第十条)
}

// slots is what is docked where. All of it is guarded by mu.
type slots struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	places  []*place      // the named ones first, in the order of the settings
}

// place is a slot, or one more docking where its slot is taken.
type place struct {
	name   string
	fixed  bool // shown when it is empty
	docked *docked
	last   *LastDocking
	since  time.Time // when it became empty
	early  []SlotView
}

// docked is one docking in its place, over all tries to take it in. A nil one is
// not shown anywhere: its methods do nothing.
type docked struct {
	slots    *slots
	place    *place
	removed  <-chan struct{}
	progress *Progress
	phase    SlotState
	view     SlotView // what is known but for the progress
	ended    bool     // the last try
	gone     bool
	pace     pace
}

func newSlots(names []string) *slots {
	s := &slots{changed: make(chan struct{})}
	for _, name := range names {
		s.places = append(s.places, &place{name: name, fixed: true, since: time.Now()})
	}
	return s
}

// Slots gives every slot of the settings, in their order, and then what is docked
// elsewhere. A docking that does not tell when it is removed is not among them.
func (s *Station) Slots() []SlotView {
	t := s.slots
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	var views, further []SlotView
	seen := map[string]int{}
	for _, p := range t.places {
		p.forget(now)
		view, early := p.view(now)
		if view.State == Empty && !p.fixed && view.Last == nil {
			continue
		}
		view.Further = seen[p.name]
		seen[p.name]++
		views = append(views, view)
		further = append(further, early...)
	}
	for _, view := range further {
		view.Further = seen[view.Name]
		seen[view.Name]++
		views = append(views, view)
	}
	return views
}

// SlotsChanged gives a channel that is closed at the next change of a slot's state.
// Take it before Slots, or a change in between is missed. Progress is no change.
func (s *Station) SlotsChanged() <-chan struct{} {
	s.slots.mu.Lock()
	defer s.slots.mu.Unlock()
	return s.slots.changed
}

// wake is called with mu held.
func (t *slots) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// dock gives the docking its place, the one that it has already on another try.
func (t *slots) dock(ctx context.Context, d device.Docking, p *Progress) *docked {
	if d.Removed == nil {
		return nil // it could be shown as safe for ever
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.wake()
	for _, at := range t.places {
		if k := at.docked; k != nil && k.removed == d.Removed {
			k.progress, k.ended, k.pace = p, false, pace{}
			k.view.State, k.view.Trouble, k.view.Since = Identifying, TroubleNone, time.Now()
			return k
		}
	}
	t.places = slices.DeleteFunc(t.places, func(at *place) bool {
		at.forget(time.Now())
		return !at.fixed && at.docked == nil && at.last == nil && len(at.early) == 0
	})
	i := slices.IndexFunc(t.places, func(at *place) bool { return at.name == d.Slot && at.docked == nil })
	if i < 0 {
		i = len(t.places)
		t.places = append(t.places, &place{name: d.Slot})
	}
	at := t.places[i]
	k := &docked{slots: t, place: at, removed: d.Removed, progress: p, view: SlotView{Name: d.Slot, State: Identifying, Since: time.Now()}}
	at.docked, at.last = k, nil
	go func() {
		select {
		case <-d.Removed:
			k.leave(true)
		case <-ctx.Done():
			k.leave(false) // nobody would see it leave
		}
	}()
	return k
}

// moved tells the phase that the progress is in.
func (k *docked) moved(phase SlotState) {
	if k == nil {
		return
	}
	k.slots.mu.Lock()
	defer k.slots.mu.Unlock()
	if k.phase != phase {
		k.phase, k.view.Since = phase, time.Now()
		k.slots.wake()
	}
}

// know tells whose the docking is. The recorder that a slot asked for is back then,
// wherever it was put.
func (k *docked) know(r journal.Session, allowed time.Duration) {
	if k == nil {
		return
	}
	k.slots.mu.Lock()
	defer k.slots.mu.Unlock()
	v := &k.view
	v.Recorder, v.Officer, v.Session, v.Verification, v.Identified = r.Recorder, r.Officer, r.ID, r.Verification, true
	v.Clock, v.Verdict, v.ClockSet = r.Clock, r.Condition.Verdict, nil
	if r.Condition.Bound != nil {
		v.Clock = *r.Condition.Bound
	}
	if set := r.Condition.Set; set != nil {
		after := set.After.Judge(allowed)
		v.ClockSet = &after
	}
	v.Health = r.Health
	v.CardBad = slices.ContainsFunc(r.Health.Volumes, func(v device.Volume) bool { return v.Trouble != "" })
	for _, at := range k.slots.places {
		at.early = slices.DeleteFunc(at.early, func(e SlotView) bool {
			return r.Recorder != "" && e.Recorder == r.Recorder || e.Recorder == "" && at == k.place
		})
	}
	k.slots.wake()
}

// end tells how a try has ended. It is the one place that makes a slot safe.
func (k *docked) end(r Report, err error, h device.Health) {
	if k == nil {
		return
	}
	k.slots.mu.Lock()
	defer k.slots.mu.Unlock()
	v := &k.view
	v.State, v.Trouble, v.Since = r.State, troubleOf(r, err), time.Now()
	if v.State == Safe && !r.Safe {
		v.State = Failed
	}
	if h.BatteryPercent != nil || h.FreeBytes != nil {
		v.Health = h
	}
	v.CardBad = v.CardBad || v.Trouble == TroubleUnreadable
	k.ended = true
	if k.place.docked != k {
		return // the station is about to end
	}
	k.place.last = &LastDocking{Recorder: v.Recorder, Officer: v.Officer, Safe: r.Safe}
	if checked := r.Session.Condition.PreUse; checked != nil && r.Safe {
		k.place.last.PreUse = checked.Result
	}
	if k.gone {
		k.undock()
	}
	k.slots.wake()
}

// staged tells that the footage was copied to the station's disk meanwhile.
func (t *slots) staged(d device.Docking) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, at := range t.places {
		if k := at.docked; k != nil && k.removed == d.Removed && k.view.Trouble == TroubleStore {
			k.view.Trouble = TroubleStaged
			t.wake()
		}
	}
}

// leave is called once, when the recorder is gone or the station is.
func (k *docked) leave(removed bool) {
	k.slots.mu.Lock()
	defer k.slots.mu.Unlock()
	defer k.slots.wake()
	if !removed {
		k.place.docked, k.place.last = nil, nil
		return
	}
	k.gone = true
	k.view.Since = time.Now()
	if k.ended {
		k.undock()
	}
}

// undock empties the place. It is called with mu held, once the docking has ended
// and is gone. What is not stored and was still to be is asked for.
func (k *docked) undock() {
	at, v := k.place, k.view
	if at.docked != k {
		return
	}
	at.docked, at.since = nil, time.Now()
	switch v.State {
	case Safe, UnknownDevice, Conflict:
		return
	case Failed:
		if v.Trouble == TroubleUnreadable || v.Trouble == TroubleNotStored || v.Trouble == TroublePerson {
			return // putting it back alone would change nothing
		}
	}
	v.State, v.Trouble, v.Since, v.Left = RemovedEarly, TroubleNone, time.Now(), nil
	at.last = nil
	at.early = append(at.early, v)
	at.early = at.early[max(0, len(at.early)-earlyMost):]
}

// forget drops what was shown for long enough.
func (p *place) forget(now time.Time) {
	if p.docked == nil && now.Sub(p.since) > lastFor {
		p.last = nil
	}
	p.early = slices.DeleteFunc(p.early, func(e SlotView) bool { return now.Sub(e.Since) > earlyFor })
}

// view is what the place shows, and the recorders that it asks for besides.
func (p *place) view(now time.Time) (here SlotView, besides []SlotView) {
	if k := p.docked; k != nil {
		here = k.now(now)
		if here.State != Identifying { // until then it may be the one that is asked for
			besides = p.early
		}
		return here, besides
	}
	if n := len(p.early); n > 0 {
		return p.early[n-1], p.early[:n-1]
	}
	return SlotView{Name: p.name, State: Empty, Since: p.since, Last: p.last}, nil
}

// now is the view with the progress of this moment.
func (k *docked) now(now time.Time) SlotView {
	v, p := k.view, k.progress
	v.Files, v.FilesDone, v.Bytes = p.Files.Load(), p.Done.Load(), p.Bytes.Load()
	if k.ended {
		return v
	}
	if k.gone {
		v.State, v.Trouble = RemovedEarly, TroubleNone
		return v
	}
	if v.State = p.State(); v.State == Safe || v.State == Failed {
		v.State = Finalizing // only what the report says counts
	}
	if v.Fraction = min(0.99, p.Fraction()); v.State == Copying || v.State == Verifying {
		v.Left = k.pace.left(now, p.Read.Load()+p.Verified.Load(), 2*v.Bytes)
	}
	if p.stalled.Load() {
		v.Trouble, v.Left = TroubleStalled, nil
	}
	return v
}

// troubleOf gives an error its plain kind.
func troubleOf(r Report, err error) Trouble {
	switch {
	case r.Safe, errors.Is(err, device.ErrRemoved), errors.Is(err, ErrConflict):
		return TroubleNone
	case errors.Is(err, device.ErrNotARecorder):
		return TroubleNoRecorder
	case errors.Is(err, ErrUnregistered):
		return TroubleUnregistered
	case errors.Is(err, device.ErrNeedsPerson):
		return TroublePerson
	case errors.Is(err, storage.ErrUnavailable):
		return TroubleStore
	case err != nil:
		return TroubleOther
	case slices.ContainsFunc(r.Files, func(f *journal.File) bool { return f.State == journal.Unreadable }):
		return TroubleUnreadable
	}
	return TroubleNotStored
}
