package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// hold is what the ledger tells of a hold (保全). It does not tell whether the hold was
// set, or lifted, everywhere: until that is seen to again the hold keeps footage. Nor is
// a request for its release taken over; it is to be made again.
type hold struct {
	journal.Hold
	sessions []string
	objects  []ledger.Object // that it was set on; empty: too many to be named
}

func holdAdded(a *account, e ledger.Entry) error {
	id := e.Detail["hold"]
	if id == "" {
		return errors.New("it names no hold")
	}
	h := &hold{
		Hold: journal.Hold{ID: id, State: journal.HoldSetting, Case: e.Detail["case"], Reason: e.Reason, AskedFor: e.Detail["query"],
			AddedAt: e.Time, AddedBy: person(e.Actor)},
		sessions: strings.Fields(e.Detail["session_ids"]), objects: e.Objects,
	}
	if e.Session != "" {
		h.sessions = []string{e.Session}
	}
	a.holds[id] = h
	if n, err := strconv.Atoi(e.Detail["sessions"]); err != nil || n != len(h.sessions) {
		return fmt.Errorf("hold %s keeps %s sessions and names %d of them; what else it keeps only the store knows", id, e.Detail["sessions"], len(h.sessions))
	}
	return nil
}

func holdReleased(a *account, e ledger.Entry) error {
	h := a.holds[e.Detail["hold"]]
	if h == nil {
		return fmt.Errorf("hold %q was never added", e.Detail["hold"])
	}
	h.State, h.ReleasedAt, h.ReleasedBy, h.ReleaseReason = journal.HoldReleasing, e.Time, person(e.Actor), e.Reason
	return nil
}

// person is who stands behind an actor of the ledger, as custody names persons.
func person(actor string) string {
	if by, ok := strings.CutPrefix(actor, "uid 0 (by sudo of "); ok {
		return strings.TrimSuffix(by, ")")
	}
	return actor
}

// holds writes the holds of a station, on what was found of it.
func (w *building) holds(ctx context.Context, s *station) error {
	for _, id := range slices.Sorted(maps.Keys(s.told.holds)) {
		h := s.told.holds[id]
		for _, session := range h.sessions {
			if !s.restored[session] {
				continue
			}
			of, err := w.heldOf(ctx, session, h.objects)
			if err != nil {
				return err
			}
			h.Of = append(h.Of, of...)
		}
		if err := w.into.AddHold(ctx, h.Hold); err != nil {
			return err
		}
		what := "set on"
		if h.State == journal.HoldReleasing {
			what = "lifted from"
		}
		w.tell(Problem{Kind: Held, Station: s.id, Detail: fmt.Sprintf("hold %s of case %s counts; that it is %s everything it keeps is seen to by: ingestd hold retry %s", id, h.Case, what, id)})
	}
	return nil
}

// heldOf tells what of a session is held: single recordings where the named objects are
// only some of its footage, else all of it. In doubt it is more.
func (w *building) heldOf(ctx context.Context, session string, objects []ledger.Object) (some []journal.Held, err error) {
	named := map[string]bool{}
	for _, o := range objects {
		named[o.Key+"\x00"+o.Version] = true
	}
	files, err := w.into.Files(ctx, session)
	if err != nil {
		return nil, err
	}
	all := true
	for _, f := range files {
		if f.Entry.Kind != device.KindFile || f.Object.VersionID == "" || !f.State.Good() {
			continue
		}
		if named[f.Object.Key+"\x00"+f.Object.VersionID] {
			some = append(some, journal.Held{Session: session, Path: f.Entry.Path})
		} else {
			all = false
		}
	}
	if all || len(some) == 0 {
		return []journal.Held{{Session: session}}, nil
	}
	return some, nil
}
