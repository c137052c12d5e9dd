package ingest

import (
	"context"
	"errors"
	"time"
)

// roomOver is over how long the use of the store is measured, roomAfter for how long
// a station must have been at work before it means anything.
const (
	roomOver  = 30 * 24 * time.Hour
	roomAfter = 24 * time.Hour
)

// Room is what is left in the store. Nil is unknown.
type Room struct {
	FreeBytes *int64
	// PerDay is what was stored on an average day of the last thirty, in bytes, or
	// since the first session where that is not so long ago.
	PerDay *int64
}

// Days is how long the room lasts if nothing leaves the store; known is false where
// that can't be told.
func (r Room) Days() (days int, known bool) {
	if r.FreeBytes == nil || r.PerDay == nil || *r.PerDay <= 0 {
		return 0, false
	}
	return int(*r.FreeBytes / *r.PerDay), true
}

// Room asks how much room is left. What can be told is told also with an error.
func (s *Station) Room(ctx context.Context) (r Room, err error) {
	now := s.journal.Now()
	stored, first, err := s.journal.StoredSince(ctx, now.Add(-roomOver))
	if over := min(roomOver, now.Sub(first)); err == nil && !first.IsZero() && over >= roomAfter {
		perDay := int64(float64(stored) / (over.Hours() / 24))
		r.PerDay = &perDay
	}
	if s.cfg.StoreSpace == nil {
		return r, err
	}
	free, _, spaceErr := s.cfg.StoreSpace()
	if spaceErr != nil {
		return r, errors.Join(err, spaceErr)
	}
	r.FreeBytes = &free
	return r, err
}
