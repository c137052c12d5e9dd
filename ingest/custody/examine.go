package custody

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// nearHoldWithin is how far from footage on hold other footage is near it.
const nearHoldWithin = 24 * time.Hour

// look is one look at sessions, to tell which of them may be disposed of. Plan and Apply
// share it: what may be planned and what may be deleted is judged by the same lines.
type look struct {
	*Desk
	now    time.Time // by which locks have ended or not
	bucket string
	units  map[string]string
	views  map[string]Viewed
	holds  []heldSession
	// announced are the sessions whose deletion the ledger has. Objects of theirs may be
	// gone, if the journal has given them up too.
	announced map[string]time.Time
}

// heldSession is a session on which there is a hold.
type heldSession struct {
	hold string
	journal.Session
}

func (d *Desk) look(ctx context.Context, now time.Time) (*look, error) {
	l := &look{Desk: d, now: now}
	var err error
	if l.bucket, err = d.Journal.BucketID(ctx, d.Vault.Describe()); err != nil {
		return nil, err
	}
	if l.bucket == "" {
		return nil, fmt.Errorf("which bucket %s is was never seen: run `ingestd run --check-only` first", d.Vault.Describe())
	}
	if l.units, err = d.units(ctx); err != nil {
		return nil, err
	}
	if l.holds, err = d.heldSessions(ctx); err != nil {
		return nil, err
	}
	l.views, err = d.views(ctx)
	return l, err
}

// heldSessions gives the sessions on which there is a hold that was not released.
func (d *Desk) heldSessions(ctx context.Context) ([]heldSession, error) {
	holds, err := d.Journal.Holds(ctx)
	if err != nil {
		return nil, err
	}
	var all []heldSession
	for _, h := range holds {
		if h.State == journal.HoldReleased {
			continue
		}
		for _, of := range h.Of {
			s, err := d.Journal.Session(ctx, of.Session)
			if err != nil {
				return nil, fmt.Errorf("hold %s: %w", h.ID, err)
			}
			all = append(all, heldSession{h.ID, s})
		}
	}
	return all, nil
}

// viewEvents begin the names of the events that are looks at footage.
var viewEvents = []string{"view.", "playback.", "export."}

// views reads from the ledger when which session's footage was looked at.
func (d *Desk) views(ctx context.Context) (map[string]Viewed, error) {
	views := map[string]Viewed{}
	for line, err := range d.Evidence.Ledger.Read(ctx, 0) {
		if err != nil {
			return nil, err
		}
		e := line.Entry
		if e.Session == "" || !slices.ContainsFunc(viewEvents, func(prefix string) bool { return strings.HasPrefix(e.Event, prefix) }) {
			continue
		}
		v := views[e.Session]
		v.Count++
		if v.Last == nil || e.Time.After(*v.Last) {
			v.Last = &e.Time
		}
		views[e.Session] = v
	}
	return views, nil
}

// all sorts every session into a plan.
func (l *look) all(ctx context.Context, p *Plan) error {
	sessions, err := l.Journal.Sessions(ctx)
	if err != nil {
		return err
	}
	slices.Reverse(sessions) // the oldest first
	var candidates []journal.Session
	p.Disposable, p.Kept = []Disposable{}, []Kept{}
	for _, s := range sessions {
		switch {
		case !s.DisposedAt.IsZero():
			p.Totals.Disposed++
		case !ended(s):
			p.Totals.Open++
		case s.Bucket != "" && s.Bucket != l.bucket:
			p.Totals.Elsewhere++
		default:
			candidates = append(candidates, s)
		}
	}
	good, kept, err := l.sort(ctx, candidates)
	if err != nil {
		return err
	}
	p.Disposable, p.Kept = append(p.Disposable, good...), append(p.Kept, kept...)
	t := &p.Totals
	t.Sessions, t.Kept = len(p.Disposable), len(p.Kept)
	for _, s := range p.Disposable {
		t.Files, t.Objects, t.Bytes = t.Files+s.Files, t.Objects+len(s.Objects), t.Bytes+s.Bytes
		if s.Viewed.Count == 0 {
			t.NeverViewed++
		}
		t.add(s.Gaps)
		if len(s.NearHold) > 0 {
			t.NearHold++
		}
	}
	return nil
}

// sort tells apart which of the sessions may go, as if the others of them that may went
// too, and which are kept.
func (l *look) sort(ctx context.Context, sessions []journal.Session) (good []Disposable, kept []Kept, err error) {
	for i, s := range sessions {
		l.progress(i, len(sessions))
		item, reasons, err := l.examine(ctx, s)
		if err != nil {
			return nil, nil, fmt.Errorf("session %s: %w", s.ID, err)
		}
		if len(reasons) > 0 {
			kept = append(kept, Kept{s.ID, reasons})
			continue
		}
		good = append(good, item)
	}
	l.progress(len(sessions), len(sessions))
	// An object that several sessions list goes with the last of them: one that is kept
	// keeps its neighbours, and these theirs.
	for {
		n := len(good)
		var going []Disposable
		for _, item := range good {
			reason, err := l.sharedWithKept(ctx, item, good)
			if err != nil {
				return nil, nil, err
			}
			if reason == nil {
				going = append(going, item)
				continue
			}
			kept = append(kept, Kept{item.Session, []Reason{*reason}})
		}
		if good = going; len(good) == n {
			return good, kept, nil
		}
	}
}

// sharedWithKept gives the reason why a session is kept for another one's sake, or nil.
func (l *look) sharedWithKept(ctx context.Context, item Disposable, good []Disposable) (*Reason, error) {
	for _, id := range item.SharedWith {
		if slices.ContainsFunc(good, func(g Disposable) bool { return g.Session == id }) {
			continue
		}
		other, err := l.Journal.Session(ctx, id)
		missing := errors.Is(err, journal.ErrNotFound)
		if err != nil && !missing {
			return nil, err
		}
		if missing || other.DisposedAt.IsZero() {
			return &Reason{Kind: Shared, Words: "session " + id + " has objects in common with it and is kept"}, nil
		}
	}
	return nil, nil
}

// examine looks at one session that has ended. The journal is asked first: most footage
// is kept by what that says, and the store need not be asked.
func (l *look) examine(ctx context.Context, s journal.Session) (Disposable, []Reason, error) {
	item := Disposable{
		Session: s.ID, Recorder: s.Recorder, Officer: s.Officer,
		DockedAt: s.DockedAt.In(l.Location), EndedAt: s.EndedAt.In(l.Location), KeptUntil: s.RetainUntil.In(l.Location),
		DaysKept: int(l.now.Sub(s.EndedAt) / (24 * time.Hour)), Viewed: l.views[s.ID], NearHold: l.nearHold(s),
		Manifest: PlannedObject{Key: s.Manifest.Key, Version: s.Manifest.VersionID, SHA256: s.Manifest.SHA256},
		Objects:  []PlannedObject{},
	}
	reasons, err := l.known(ctx, s)
	if err != nil || len(reasons) > 0 {
		return item, reasons, err
	}
	if item.SharedWith, err = l.Journal.Sharing(ctx, s.ID); err != nil {
		return item, nil, err
	}
	if item.SharedWith == nil {
		item.SharedWith = []string{}
	}
	files, err := l.Journal.Files(ctx, s.ID)
	if err != nil {
		return item, nil, err
	}
	for _, f := range files {
		if f.Entry.Kind != device.KindFile || !f.State.Good() {
			continue
		}
		item.Files++
		if f.State == journal.Verified {
			item.Objects = append(item.Objects, PlannedObject{f.Object.Key, f.Object.VersionID, f.SHA256, f.Entry.Size})
			item.Bytes += f.Entry.Size
		}
	}
	if item.Gaps, err = l.gaps(ctx, s, files); err != nil {
		return item, nil, err
	}
	m, reasons, err := l.documents(ctx, s, files)
	if err != nil || len(reasons) > 0 {
		return item, reasons, err
	}
	item.Retention = m.Session.Retention
	reasons, err = l.stored(ctx, s, item.Objects)
	return item, reasons, err
}

// known gives the reasons that need no store.
func (l *look) known(ctx context.Context, s journal.Session) (reasons []Reason, err error) {
	add := func(kind ReasonKind, until time.Time, words string, args ...any) {
		r := Reason{Kind: kind, Words: fmt.Sprintf(words, args...)}
		if !until.IsZero() {
			local := until.In(l.Location)
			r.Until = &local
		}
		reasons = append(reasons, r)
	}
	if s.State == journal.StateFailed {
		add(NotStored, time.Time{}, "not all of its files were stored: %s", s.Reason)
	}
	if s.Permanent {
		add(Permanent, time.Time{}, "it is kept permanently (永久保存)")
	}
	holds, err := l.Journal.HoldsOn(ctx, s.ID)
	if err != nil {
		return nil, err
	}
	for _, h := range holds {
		add(OnHold, time.Time{}, "hold %s (%s)", h.ID, h.State)
	}
	if s.RetainUntil.IsZero() || l.now.Before(s.RetainUntil) {
		add(Locked, s.RetainUntil, "its lock ends at %s", s.RetainUntil.In(l.Location).Format(time.RFC3339))
	}
	facts, err := l.facts(ctx, s, l.units)
	if err != nil {
		return nil, err
	}
	if facts.Stored.IsZero() {
		add(Undecided, time.Time{}, "it is not known when it was stored")
		return reasons, nil
	}
	until, rule, undecided := ingest.KeepUntil(l.Policy, l.Months, facts, l.Location)
	switch {
	case undecided != nil:
		add(Undecided, time.Time{}, "%v", undecided)
	case rule.Permanent && !s.Permanent:
		add(Permanent, time.Time{}, "rule %s keeps it permanently now (永久保存)", rule.Name)
	case l.now.Before(until) && until.After(s.RetainUntil):
		add(Ruled, until, "rule %s asks for %d months now, tags %q: until %s", rule.Name, rule.Months, facts.Tags, until.Format(time.RFC3339))
	}
	return reasons, nil
}

// nearHold gives the holds on other footage of about the same day.
func (l *look) nearHold(s journal.Session) []string {
	near := []string{}
	for _, h := range l.holds {
		same := s.Officer != "" && s.Officer == h.Officer || s.Recorder != "" && s.Recorder == h.Recorder
		if h.ID != s.ID && same && h.DockedAt.Sub(s.DockedAt).Abs() <= nearHoldWithin && !slices.Contains(near, h.hold) {
			near = append(near, h.hold)
		}
	}
	return near
}
