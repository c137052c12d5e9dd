package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

const (
	// refusedFor is how long it counts that the store did not take something: a session
	// that waits for it tries again within five minutes, which is told again.
	refusedFor = 10 * time.Minute
	// commitMost is how long the disk of the journal may take for one commit.
	commitMost = 30 * time.Second
	// fellBackMost is how far the station's clock may be behind what it has seen.
	fellBackMost = time.Minute
)

// Check is one thing that must be true for recorders to be taken in.
type Check struct {
	Name   string
	Ready  bool
	Reason string // why not, for people
}

// The names of the checks. The strings are stable.
const (
	CheckJournal  = "journal"        // it can be read, and a commit does not hang
	CheckSelfTest = "lock_self_test" // the store has passed it
	CheckStore    = "store"          // it answers
	CheckBucket   = "bucket"         // it is the one that the station knows (第十条)
	CheckWritable = "store_writable" // there is room, and it has refused nothing lately
	CheckClock    = "station_clock"  // a time service keeps it, and it did not fall back
)

// Ready looks whether recorders could be taken in now, by all of the checks. It reads
// the bucket's marker and writes nothing: an object would be locked, so that whether the
// store can be written to is told by its room, where that is known, and by what it has
// last refused. What could not be found out is not ready.
func (s *Station) Ready(ctx context.Context) []Check {
	store := s.vault.Describe()
	seen, err := s.journal.BucketID(ctx, store)
	journal := err
	if long := s.journal.Committing(); err == nil && long > commitMost {
		journal = fmt.Errorf("the disk of state_dir has not answered for %s", long.Round(time.Second))
	}
	passed, test := s.journal.LastSelfTest(ctx, store)
	if test == nil && passed.IsZero() {
		test = errors.New("the store has not passed it yet")
	}
	answers, bucket := s.askMarker(ctx, seen)
	checks := []Check{}
	for _, c := range []struct {
		name string
		err  error
	}{
		{CheckJournal, journal}, {CheckSelfTest, test}, {CheckStore, answers}, {CheckBucket, bucket}, {CheckWritable, s.writable()}, {CheckClock, s.clockKept()},
	} {
		check := Check{Name: c.name, Ready: c.err == nil}
		if c.err != nil {
			check.Reason = c.err.Error()
		}
		checks = append(checks, check)
	}
	return checks
}

// askMarker tells whether the store answers, and whether it is the right bucket.
func (s *Station) askMarker(ctx context.Context, seen string) (answers, bucket error) {
	c, err := newMarkerCheck(ctx, s.vault, s.evidence.Ring, s.cfg.ID)
	if err == nil {
		_, err = s.vault.CheckMarker(ctx, seen, c.verify)
	}
	switch {
	case err == nil && seen == "":
		return nil, errors.New("the station has not taken this bucket yet")
	case err == nil:
		return nil, nil
	case errors.Is(err, storage.ErrWrongBucket), errors.Is(err, storage.ErrNotFound):
		return nil, err
	}
	return err, errors.New("not known: the store did not answer")
}

// writable tells why the store may not take a file.
func (s *Station) writable() error {
	if r := s.refused.Load(); r != nil && time.Since(r.at) < refusedFor {
		return fmt.Errorf("at %s: %w", r.at.In(s.cfg.Location).Format(time.TimeOnly), r.err)
	}
	if s.cfg.StoreSpace == nil {
		return nil
	}
	free, _, err := s.cfg.StoreSpace()
	if err == nil && free < 2*s.cfg.PartSize {
		err = fmt.Errorf("only %d bytes are free on its disk", free)
	}
	return err
}

func (s *Station) clockKept() error {
	if back := s.journal.ClockFellBack(); back > fellBackMost {
		return fmt.Errorf("it is %s behind the latest time that it has seen", back.Round(time.Second))
	}
	if clock := s.Clock(); !clock.Synchronised {
		return errors.New(clock.Why)
	}
	return nil
}

// refusal is something that the store did not take.
type refusal struct {
	err error
	at  time.Time
}

// noteStore keeps what events tell of the store.
func (s *Station) noteStore(e Event) {
	switch {
	case e.Name == "ingest.file_done", e.Name == "storage.back":
		s.refused.Store(nil)
	case e.Name == "storage.unavailable", errors.Is(e.Err, storage.ErrFull), e.Name == "ingest.failed" && errors.Is(e.Err, storage.ErrDenied):
		s.refused.Store(&refusal{e.Err, e.Time})
	}
}
