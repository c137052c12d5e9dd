package custody

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// sessionsInLine is how many sessions the ledger's line of a hold names, by which a lost
// journal is made anew: half of what a line can hold.
const sessionsInLine = 20_000

// wordsLongest is how long each text of a hold may be, in characters: it stands in a
// line of the ledger.
const wordsLongest = 2000

// ErrNothing says that a query matches nothing that can be held.
var ErrNothing = errors.New("no ended session matches")

// HoldOrder asks for a hold (保全).
type HoldOrder struct {
	Case     string // 案号
	Reason   string
	Of       []journal.Held
	AskedFor string // HoldQuery.Words, where it was asked by a query
}

// check refuses what the ledger could not take: a hold that it can't tell of could
// never be released.
func (o HoldOrder) check() error {
	for what, text := range map[string]string{"number of the case": o.Case, "reason": o.Reason, "query": o.AskedFor} {
		switch {
		case strings.TrimSpace(text) == "" && what != "query":
			return fmt.Errorf("a hold needs the %s", what)
		case !utf8.ValidString(text):
			return fmt.Errorf("the %s of a hold is not UTF-8: %q", what, text)
		case utf8.RuneCountInString(text) > wordsLongest:
			return fmt.Errorf("the %s of a hold has %d characters, %d are allowed", what, utf8.RuneCountInString(text), wordsLongest)
		}
	}
	return nil
}

// HoldQuery finds sessions. What is empty does not count.
type HoldQuery struct {
	Officer  string // id
	Recorder string // serial
	// From and To are the first and the last day of docking, each at its beginning in the
	// station's zone.
	From, To time.Time
}

// Words is the query for people and for the ledger; empty: it asks for nothing.
func (q HoldQuery) Words() string {
	var parts []string
	if q.Officer != "" {
		parts = append(parts, "officer "+q.Officer)
	}
	if q.Recorder != "" {
		parts = append(parts, "recorder "+q.Recorder)
	}
	if !q.From.IsZero() {
		parts = append(parts, "docked from "+q.From.Format(time.DateOnly))
	}
	if !q.To.IsZero() {
		parts = append(parts, "docked until "+q.To.Format(time.DateOnly))
	}
	return strings.Join(parts, ", ")
}

func (q HoldQuery) matches(s journal.Session) bool {
	switch {
	case q.Officer != "" && s.Officer != q.Officer, q.Recorder != "" && s.Recorder != q.Recorder:
		return false
	case !q.From.IsZero() && s.DockedAt.Before(q.From):
		return false
	}
	return q.To.IsZero() || s.DockedAt.Before(q.To.AddDate(0, 0, 1))
}

// Find resolves a query now. Sessions that match and can't be held are told in words.
// What matches later is not in it.
func (d *Desk) Find(ctx context.Context, q HoldQuery) (of []journal.Held, left []string, err error) {
	sessions, err := d.Journal.Sessions(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range sessions {
		if !q.matches(s) {
			continue
		}
		if err := d.canBeHeld(ctx, s); err != nil {
			left = append(left, err.Error())
			continue
		}
		of = append(of, journal.Held{Session: s.ID})
	}
	if len(of) == 0 {
		err = errors.New(q.Words())
		if len(left) > 0 {
			err = errors.New(q.Words() + ": " + strings.Join(left, "; "))
		}
		err = fmt.Errorf("%w: %w", ErrNothing, err)
	}
	return of, left, err
}

func (d *Desk) canBeHeld(ctx context.Context, s journal.Session) error {
	bucket, err := d.Journal.BucketID(ctx, d.Vault.Describe())
	switch {
	case err != nil:
		return err
	case !ended(s):
		return fmt.Errorf("session %s is still %s: what it will have is not known; hold it when it has ended", s.ID, s.State)
	case !s.DisposedAt.IsZero():
		return fmt.Errorf("the footage of session %s was disposed of at %s: there is nothing to hold", s.ID, s.DisposedAt.In(d.Location).Format(time.DateTime))
	case s.Bucket != "" && s.Bucket != bucket:
		return fmt.Errorf("session %s lies in another bucket, with id %s: hold it with the settings of that store", s.ID, s.Bucket)
	}
	return nil
}

// Hold puts a hold on sessions and recordings. What is durable after each step, and
// what a crash there leaves:
//
//  1. The journal has the hold. From here on it counts: no plan of disposal touches what
//     it keeps. Crash, also at every later step: Retry does the rest.
//  2. The ledger has it.
//  3. Every object, and the documents of every session, is held in the store, where no
//     one can delete it, whatever becomes of this station.
//  4. The journal has that it is.
//
// A hold that is given with an error counts and is not finished.
func (d *Desk) Hold(ctx context.Context, o HoldOrder) (h journal.Hold, err error) {
	if err := o.check(); err != nil {
		return h, err
	}
	giveBack, err := d.Journal.TakeTurn(ctx, "holds")
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	h = journal.Hold{State: journal.HoldSetting, Case: o.Case, Reason: o.Reason, AskedFor: o.AskedFor, AddedAt: d.Journal.Now(), AddedBy: d.Person}
	h.ID = "H" + h.AddedAt.In(d.Location).Format("20060102") + "-" + rand.Text()[:8]
	seen := map[journal.Held]bool{}
	for _, of := range o.Of {
		if seen[of] {
			continue
		}
		seen[of] = true
		if err := d.isThere(ctx, of); err != nil {
			return journal.Hold{}, err
		}
		h.Of = append(h.Of, of)
	}
	if len(h.Of) == 0 {
		return journal.Hold{}, errors.New("a hold needs at least one session")
	}
	if err := d.Journal.AddHold(ctx, h); err != nil {
		return journal.Hold{}, err
	}
	return d.set(ctx, h)
}

// isThere tells whether what is to be held is known and can be.
func (d *Desk) isThere(ctx context.Context, of journal.Held) error {
	s, err := d.Journal.Session(ctx, of.Session)
	if err != nil {
		return err
	}
	if err := d.canBeHeld(ctx, s); err != nil {
		return err
	}
	objects, err := d.footageOf(ctx, s.ID, of.Path)
	if err == nil && of.Path != "" && len(objects) == 0 {
		err = fmt.Errorf("session %s has no stored recording %q: %w", s.ID, of.Path, journal.ErrNotFound)
	}
	return err
}

// set does steps 2 to 4 of Hold.
func (d *Desk) set(ctx context.Context, h journal.Hold) (journal.Hold, error) {
	footage, err := d.heldFootage(ctx, h)
	if err != nil {
		return h, err
	}
	told, err := d.hasTold(ctx, h.ID)
	if err == nil && !told {
		err = d.record(ctx, d.line(ledger.Entry{Event: "hold.added"}, h, footage))
	}
	if err != nil {
		return h, err
	}
	objects, missing := d.heldDocuments(ctx, h)
	objects = append(objects, footage...)
	done := 0
	err = forEach(ctx, objects, func(ctx context.Context, o ledger.Object) error {
		return d.Vault.SetHold(ctx, o.Key, o.Version, true)
	}, func() { done++; d.progress(done, len(objects)) })
	if err := errors.Join(missing, err); err != nil {
		return h, fmt.Errorf("hold %s counts from now on, but is not set on everything in the store: %w%s", h.ID, err, d.whoMayHold(err))
	}
	h.State = journal.HoldHeld
	if h.ReleaseAskedBy != "" {
		h.State = journal.HoldAsked
	}
	return h, d.Journal.SaveHold(ctx, h)
}

func (d *Desk) whoMayHold(err error) string {
	if !errors.Is(err, storage.ErrDenied) {
		return ""
	}
	return "; the store does not let this key set and lift holds, and a station's key shall not (configs/policies): give that of configs/policies/admin-hold-*.json with --credentials FILE, to `ingestd hold retry` for what is cut off"
}

// line adds to an entry what the ledger has of a hold.
func (d *Desk) line(e ledger.Entry, h journal.Hold, footage []ledger.Object) ledger.Entry {
	e.Reason, e.Detail = h.Reason, map[string]string{"hold": h.ID, "case": h.Case}
	if h.AskedFor != "" {
		e.Detail["query"] = h.AskedFor
	}
	sessions := sessionsOf(h)
	e.Detail["sessions"] = fmt.Sprint(len(sessions))
	if len(sessions) == 1 {
		e.Session = sessions[0]
	} else if len(sessions) <= sessionsInLine {
		e.Detail["session_ids"] = strings.Join(sessions, " ")
	}
	nameObjects(&e, footage)
	return e
}

// hasTold tells whether the ledger has that a hold was added: not where a crash came
// before.
func (d *Desk) hasTold(ctx context.Context, id string) (bool, error) {
	for line, err := range d.Evidence.Ledger.Read(ctx, 0) {
		if err != nil {
			return false, err
		}
		if line.Entry.Event == "hold.added" && line.Entry.Detail["hold"] == id {
			return true, nil
		}
	}
	return false, nil
}

// sessionsOf gives each session of a hold once.
func sessionsOf(h journal.Hold) (all []string) {
	seen := map[string]bool{}
	for _, of := range h.Of {
		if !seen[of.Session] {
			seen[of.Session] = true
			all = append(all, of.Session)
		}
	}
	return all
}

// heldFootage gives the objects that a hold keeps, each once.
func (d *Desk) heldFootage(ctx context.Context, h journal.Hold) (all []ledger.Object, err error) {
	for _, of := range h.Of {
		objects, err := d.footageOf(ctx, of.Session, of.Path)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	return once(all), nil
}

// heldDocuments gives the documents of all sessions of a hold, see documentsOf.
func (d *Desk) heldDocuments(ctx context.Context, h journal.Hold) (all []ledger.Object, err error) {
	for _, id := range sessionsOf(h) {
		s, sessionErr := d.Journal.Session(ctx, id)
		if sessionErr != nil {
			return all, sessionErr
		}
		documents, missing := d.documentsOf(ctx, s)
		all, err = append(all, documents...), errors.Join(err, missing)
		if missing != nil && hopeless(missing) {
			return all, err
		}
	}
	return all, err
}
