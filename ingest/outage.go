package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/staging"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

// drainEvery is how often staged copies are brought into the store, and the store
// is tried if it was away.
const drainEvery = time.Minute

// StagingSlot is the slot of sessions that take in staged copies: the recorder is
// not in one.
const StagingSlot = "staging"

// stage copies a recorder whose session can't go on, for the store is away, to the
// station's own disk (暂存). The footage exists twice then; it is not stored, the slot
// does not become safe, and the session is tried again as before. A copy that can't be
// made is told and changes nothing.
func (s *Station) stage(ctx context.Context, d device.Docking, cause error) (staged bool) {
	if s.cfg.Staging == nil || !errors.Is(cause, storage.ErrUnavailable) {
		return false
	}
	c, err := s.copyToStaging(ctx, d)
	e := Event{Slot: d.Slot, Recorder: c.Identity.Serial.Value, Officer: c.Identity.Officer.Value, Bytes: c.Bytes}
	if err != nil {
		e.Name, e.Level, e.Err, e.Message = "staging.failed", Warn, err, "the footage is on the recorder only; leave it in its slot"
		s.emit(e)
		return false
	}
	e.Name, e.Level = "staging.staged", Warn
	e.Message = fmt.Sprintf("已暂存，未入库 staged, NOT stored: copy %s has %d files, encrypted; it goes to the store when that is back", c.ID, c.Files)
	if c.Unreadable > 0 {
		e.Message += fmt.Sprintf("; %d paths could not be read and are on the recorder only", c.Unreadable)
	}
	s.emit(e)
	return true
}

func (s *Station) copyToStaging(ctx context.Context, d device.Docking) (c staging.Copy, err error) {
	docked := s.journal.Now()
	r, err := d.Open(ctx)
	if err != nil {
		return c, fmt.Errorf("open the recorder in %s: %w", d.Slot, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	clock, err := r.Clock(ctx)
	if err != nil {
		return c, fmt.Errorf("read the recorder's clock: %w", err)
	}
	health, err := r.Health(ctx)
	if errors.Is(err, device.ErrRemoved) {
		return c, err
	}
	if err != nil {
		health = device.Health{} // unknown is no reason to leave footage in one place
	}
	return s.cfg.Staging.Stage(ctx, r, clock, health, d.Slot, docked, nil)
}

// Drain brings staged copies into the store, each by an ordinary session, and
// removes a copy once that session is sealed. It runs until ctx ends.
func (s *Station) Drain(ctx context.Context) {
	if s.cfg.Staging == nil {
		return
	}
	left := leftovers{copies: map[string]bool{}}
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		s.drainOnce(ctx, &left)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// leftovers are what needs a person, and is told once.
type leftovers struct {
	copies map[string]bool // by ID
	damage string          // the last that was told of copies that can't be read
}

func (s *Station) drainOnce(ctx context.Context, left *leftovers) {
	copies, err := s.cfg.Staging.Copies(ctx)
	if err != nil && ctx.Err() == nil && left.damage != err.Error() {
		left.damage = err.Error()
		s.emit(Event{Name: "staging.failed", Level: Alarm, Slot: StagingSlot, Err: err, Message: "a staged copy can't be read"})
	}
	for _, c := range copies {
		if ctx.Err() != nil {
			return
		}
		if left.copies[c.ID] {
			continue
		}
		report, err := s.Ingest(ctx, device.Docking{Slot: StagingSlot, Open: c.Open}, Options{})
		switch {
		case err != nil:
			// The store is still away, or the recorder itself is being read: later.
			if isFinal(err) && !errors.Is(err, ErrConflict) {
				left.copies[c.ID] = true
			}
		case !report.Safe:
			// Some of it could not be read from the recorder, or the copy is damaged. The
			// session has told; the copy is kept.
			left.copies[c.ID] = true
		default:
			s.removeStaged(ctx, c, report)
		}
	}
}

// removeStaged removes a copy that a sealed session holds in full.
func (s *Station) removeStaged(ctx context.Context, c staging.Copy, r Report) {
	ref := staging.SessionRef{ID: r.Session.ID, ManifestKey: r.Session.Manifest.Key, ManifestSHA256: r.Session.Manifest.SHA256}
	for _, f := range r.Files {
		if f.Entry.Kind == device.KindFile && (f.State == journal.Verified || f.State == journal.Identical) {
			ref.Verified = append(ref.Verified, staging.StoredFile{Path: f.Entry.Path, SHA256: f.SHA256})
		}
	}
	e := Event{Name: "staging.removed", Slot: StagingSlot, Session: r.Session.ID, Recorder: r.Session.Recorder, Officer: r.Session.Officer,
		Bytes: c.Bytes, Message: "copy " + c.ID + " is stored and verified, and was removed from the staging disk"}
	if err := c.Remove(ctx, ref); err != nil {
		e.Name, e.Level, e.Err, e.Message = "staging.failed", Warn, err, "copy "+c.ID+" is stored, and could not be removed"
	}
	s.emit(e)
}
