package custody

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// Release ends a hold, and lifts it in the store from what no other hold keeps. With
// two persons the first one asks, which the hold that is given shows (HoldAsked), and
// the second one's order does it. What is durable after each step, and what a crash
// there leaves:
//
//  1. The ledger has it. Crash: the hold stands; the order is given again.
//  2. The journal has that it is being released; it still keeps. Crash: Retry, or the
//     same order again, does the rest.
//  3. It is lifted from every object that no other hold keeps. Crash: as after 2.
//  4. The journal has that it is released.
func (d *Desk) Release(ctx context.Context, id, reason string) (h journal.Hold, err error) {
	if strings.TrimSpace(reason) == "" {
		return h, errors.New("a release needs a reason")
	}
	giveBack, err := d.Journal.TakeTurn(ctx, "holds")
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	if h, err = d.Journal.Hold(ctx, id); err != nil {
		return h, err
	}
	if h.State == journal.HoldReleased {
		return h, d.isReleased(h)
	}
	if err := d.mayRelease(ctx, h); err != nil {
		return h, err
	}
	if h.State == journal.HoldReleasing {
		return d.lift(ctx, h)
	}
	switch {
	case d.TwoPersons && h.ReleaseAskedBy == "":
		return d.askForRelease(ctx, h, reason)
	case d.TwoPersons && h.ReleaseAskedBy == d.Person:
		return h, d.refuse(ctx, ofHold(ledger.Entry{Event: "hold.refused"}, h), fmt.Errorf("%s has asked for the release of hold %s, and another person must confirm it", d.Person, h.ID))
	}
	footage, err := d.heldFootage(ctx, h)
	if err != nil {
		return h, err
	}
	line := d.line(ledger.Entry{Event: "hold.released"}, h, footage)
	line.Reason = reason
	if h.ReleaseAskedBy != "" {
		line.Detail["asked_by"] = h.ReleaseAskedBy
	}
	if err := d.record(ctx, line); err != nil {
		return h, err
	}
	h.State, h.ReleasedAt, h.ReleasedBy, h.ReleaseReason = journal.HoldReleasing, d.Journal.Now(), d.Person, reason
	if err := d.Journal.SaveHold(ctx, h); err != nil {
		return h, err
	}
	return d.lift(ctx, h)
}

// Retry finishes what was cut off: a hold that is not set on everything, or not lifted
// from everything. One that is set is set once more, where somebody has lifted it.
func (d *Desk) Retry(ctx context.Context, id string) (h journal.Hold, err error) {
	giveBack, err := d.Journal.TakeTurn(ctx, "holds")
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	if h, err = d.Journal.Hold(ctx, id); err != nil {
		return h, err
	}
	switch h.State {
	case journal.HoldReleased:
		return h, d.isReleased(h)
	case journal.HoldReleasing:
		if err := d.mayRelease(ctx, h); err != nil {
			return h, err
		}
		return d.lift(ctx, h)
	}
	return d.set(ctx, h)
}

func (d *Desk) isReleased(h journal.Hold) error {
	return fmt.Errorf("hold %s was released at %s by %s: there is nothing to do", h.ID, h.ReleasedAt.In(d.Location).Format(time.DateTime), h.ReleasedBy)
}

// mayRelease refuses whoever is no administrator.
func (d *Desk) mayRelease(ctx context.Context, h journal.Hold) error {
	if len(d.Administrators) == 0 || slices.Contains(d.Administrators, d.Person) {
		return nil
	}
	return d.refuse(ctx, ofHold(ledger.Entry{Event: "hold.refused"}, h), fmt.Errorf("%s is not among custody.administrators and may not release hold %s", d.Person, h.ID))
}

// ofHold adds to an entry which hold it is about.
func ofHold(e ledger.Entry, h journal.Hold) ledger.Entry {
	e.Detail = map[string]string{"hold": h.ID, "case": h.Case}
	return e
}

func (d *Desk) askForRelease(ctx context.Context, h journal.Hold, reason string) (journal.Hold, error) {
	line := ofHold(ledger.Entry{Event: "hold.release_asked"}, h)
	line.Reason = reason
	if err := d.record(ctx, line); err != nil {
		return h, err
	}
	h.ReleaseAskedAt, h.ReleaseAskedBy, h.ReleaseReason = d.Journal.Now(), d.Person, reason
	if h.State == journal.HoldHeld { // one that is not set everywhere stays that
		h.State = journal.HoldAsked
	}
	return h, d.Journal.SaveHold(ctx, h)
}

// lift does steps 3 and 4 of Release.
func (d *Desk) lift(ctx context.Context, h journal.Hold) (journal.Hold, error) {
	objects, err := d.keptByNoOther(ctx, h)
	if err != nil {
		return h, err
	}
	done := 0
	err = forEach(ctx, objects, func(ctx context.Context, o ledger.Object) error {
		err := d.Vault.SetHold(ctx, o.Key, o.Version, false)
		if errors.Is(err, storage.ErrNotFound) {
			return nil // it is not there, so nothing holds it
		}
		return err
	}, func() { done++; d.progress(done, len(objects)) })
	if err != nil {
		return h, fmt.Errorf("hold %s is not lifted from everything in the store, and counts until it is: %w%s", h.ID, err, d.whoMayHold(err))
	}
	h.State = journal.HoldReleased
	return h, d.Journal.SaveHold(ctx, h)
}

// keptByNoOther gives the objects of a hold on which no other one is that is not
// released, also not by a session that shares the object.
func (d *Desk) keptByNoOther(ctx context.Context, h journal.Hold) ([]ledger.Object, error) {
	all, err := d.Journal.Holds(ctx)
	if err != nil {
		return nil, err
	}
	kept, keptSessions := map[version]bool{}, map[string]bool{}
	for _, other := range all {
		if other.ID == h.ID || other.State == journal.HoldReleased {
			continue
		}
		footage, err := d.heldFootage(ctx, other)
		if err != nil {
			return nil, err
		}
		for _, o := range footage {
			kept[versionOf(o)] = true
		}
		for _, id := range sessionsOf(other) {
			keptSessions[id] = true
		}
	}
	footage, err := d.heldFootage(ctx, h)
	if err != nil {
		return nil, err
	}
	free := slices.DeleteFunc(footage, func(o ledger.Object) bool { return kept[versionOf(o)] })
	for _, id := range sessionsOf(h) {
		if keptSessions[id] {
			continue
		}
		s, err := d.Journal.Session(ctx, id)
		if err != nil {
			return nil, err
		}
		documents, err := d.documentsOf(ctx, s)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		free = append(free, documents...)
	}
	return free, nil
}
