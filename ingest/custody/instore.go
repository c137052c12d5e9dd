package custody

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
)

// documents checks what closes a session: without it nobody could tell later what it
// was that was deleted.
func (l *look) documents(ctx context.Context, s journal.Session, files []*journal.File) (*manifest.Manifest, []Reason, error) {
	v := ingest.Verifier{Vault: l.Vault, Journal: l.Journal, Station: l.Station.ID(), Ring: l.Evidence.Ring}
	m, findings, err := v.Documents(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	var reasons []Reason
	for _, f := range findings {
		reasons = append(reasons, Reason{Kind: Documents, Words: fmt.Sprintf("%s: %s: %s", f.Problem, f.Key, f.Detail)})
	}
	if m == nil || len(reasons) > 0 {
		return m, reasons, nil
	}
	until := m.Session.RetainUntil.In(l.Location)
	switch {
	case m.Session.ID != s.ID || m.Station.ID != l.Station.ID() || m.Session.Result != string(s.State):
		reasons = append(reasons, Reason{Kind: Documents, Words: fmt.Sprintf("its manifest is that of session %s of station %s, %s", m.Session.ID, m.Station.ID, m.Session.Result)})
	case l.now.Before(until):
		reasons = append(reasons, Reason{Kind: Locked, Until: &until, Words: "its manifest keeps it until " + until.Format(time.RFC3339)})
	case m.Session.Retention != nil && m.Session.Retention.Permanent:
		reasons = append(reasons, Reason{Kind: Permanent, Words: "its manifest keeps it permanently (永久保存)"})
	case !sameObjects(m, files):
		reasons = append(reasons, Reason{Kind: Documents, Words: "manifest and journal do not list the same objects"})
	}
	return m, reasons, nil
}

func sameObjects(m *manifest.Manifest, files []*journal.File) bool {
	var listed, known []PlannedObject
	for _, f := range m.Files {
		if f.Object != nil {
			listed = append(listed, PlannedObject{f.Object.Key, f.Object.VersionID, f.SHA256, f.Size})
		}
	}
	for _, f := range files {
		if f.Entry.Kind == device.KindFile && f.State.Good() {
			known = append(known, PlannedObject{f.Object.Key, f.Object.VersionID, f.SHA256, f.Entry.Size})
		}
	}
	byKey := func(a, b PlannedObject) int { return strings.Compare(a.Key+"\x00"+a.Version, b.Key+"\x00"+b.Version) }
	slices.SortFunc(listed, byKey)
	slices.SortFunc(known, byKey)
	return slices.Equal(listed, known)
}

// stored asks the store about every object that would go, and whether there is anything
// beside them.
func (l *look) stored(ctx context.Context, s journal.Session, objects []PlannedObject) ([]Reason, error) {
	var mu sync.Mutex
	var reasons []Reason // guarded by mu until all have ended
	all, asking := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	listed := map[string]bool{}
	for _, o := range objects {
		listed[o.Key+"\x00"+o.Version] = true
		all.Go(func() error {
			r, err := l.object(asking, s, o)
			if r != nil {
				mu.Lock()
				defer mu.Unlock()
				reasons = append(reasons, *r)
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	for o, err := range l.Vault.List(ctx, s.Prefix+manifest.FootageDir) {
		if err != nil {
			return nil, err
		}
		if !listed[o.Key+"\x00"+o.VersionID] {
			reasons = append(reasons, Reason{Kind: Differs, Words: "the store has version " + o.VersionID + " of " + o.Key + ", which the manifest does not list: see `ingestd verify " + s.ID + "`"})
		}
	}
	slices.SortFunc(reasons, func(a, b Reason) int { return strings.Compare(a.Words, b.Words) })
	return reasons, nil
}

// object gives the reason that one object gives to keep it, or nil.
func (l *look) object(ctx context.Context, s journal.Session, p PlannedObject) (*Reason, error) {
	because := func(kind ReasonKind, words string, args ...any) *Reason {
		return &Reason{Kind: kind, Words: p.Key + ": " + fmt.Sprintf(words, args...)}
	}
	if !strings.HasPrefix(p.Key, s.Prefix+manifest.FootageDir) {
		return because(Differs, "it does not lie in the footage of the session"), nil
	}
	o, err := l.Vault.Stat(ctx, p.Key, p.Version)
	if errors.Is(err, storage.ErrNotFound) {
		if !l.announced[s.ID].IsZero() && !s.DisposedAt.IsZero() {
			return nil, nil
		}
		return because(Differs, "the store does not have it"), nil
	}
	if err != nil {
		return nil, err
	}
	held, err := l.Vault.Held(ctx, p.Key, p.Version)
	if err != nil {
		return nil, err
	}
	floor := storage.RetainUntil(o.StoredAt, storage.FloorMonths, l.Location)
	switch {
	case o.VersionID != p.Version || o.Size != p.Size:
		return because(Differs, "the store has %d bytes as version %s, the manifest has %d as %s", o.Size, o.VersionID, p.Size, p.Version), nil
	case o.RetainUntil.IsZero():
		return because(Differs, "the store shows no COMPLIANCE lock"), nil
	case o.StoredAt.IsZero():
		return because(Differs, "the store does not show when it was stored"), nil
	case held || o.Held:
		return because(OnHold, "a legal hold is on it in the store"), nil
	case l.now.Before(o.RetainUntil):
		until := o.RetainUntil.In(l.Location)
		r := because(Locked, "the store keeps it until %s", until.Format(time.RFC3339))
		r.Until = &until
		return r, nil
	case l.now.Before(floor):
		r := because(Locked, "six calendar months from when the store took it (第十一条) end at %s", floor.Format(time.RFC3339))
		r.Until = &floor
		return r, nil
	}
	return nil, nil
}
