package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

const (
	// scrubLook is how often it is looked whether a session is due, and whether
	// recorders are being read.
	scrubLook  = time.Minute
	busyLook   = 200 * time.Millisecond
	scrubRetry = 10 * time.Minute
	// scrubTold is how many findings of one session get an event of their own.
	scrubTold = 16
)

// errYield ends the reading of an object because a recorder wants to be read.
var errYield = errors.New("recorders are being read")

// Scrub reads stored sessions again until ctx ends, the one that was not read for
// the longest time first, as Config.ScrubEvery and ScrubBandwidth say. Each gets a
// dated proof in the journal when it was read to its end; what is found is told as
// it is at any other time. It has no errors to return: what hinders it is told, and
// it goes on later.
func (s *Station) Scrub(ctx context.Context) {
	for ctx.Err() == nil {
		wait, err := s.scrubNext(ctx)
		if err != nil && ctx.Err() == nil {
			s.emit(Event{Name: "scrub.trouble", Level: Warn, Err: err, Message: "stored footage can't be read again now; it is tried later"})
			wait = scrubRetry - rand.N(scrubRetry/2)
		}
		sleep(ctx, wait)
	}
}

// scrubNext reads the next session if it is due, and says how long to wait before
// it is looked again.
func (s *Station) scrubNext(ctx context.Context) (wait time.Duration, err error) {
	cfg := s.settings()
	if cfg.ScrubEvery <= 0 {
		return scrubLook, nil
	}
	bucket, err := s.journal.BucketID(ctx, s.vault.Describe())
	if err != nil {
		return scrubLook, err
	}
	next, since, err := s.journal.LongestUnread(ctx, bucket)
	if err != nil || next == nil {
		return scrubLook, err
	}
	if due := since.Add(cfg.ScrubEvery).Sub(s.journal.Now()); due > 0 {
		return min(due, scrubLook), nil
	}
	return 0, s.scrubSession(ctx, *next, cfg.ScrubBandwidth)
}

func (s *Station) scrubSession(ctx context.Context, session journal.Session, bandwidth int64) error {
	began := time.Now()
	p := &pacer{station: s, bandwidth: max(1, bandwidth), yield: func() {}}
	v := &Verifier{Vault: s.vault, Journal: s.journal, Station: s.cfg.ID, Ring: s.evidence.Ring, readBack: p.readBack,
		Progress: func(n int) { p.took(ctx, n) }}
	if err := p.untilIdle(ctx); err != nil {
		return err
	}
	result, err := v.Sessions(ctx, []string{session.ID})
	if err != nil {
		return fmt.Errorf("read session %s again: %w", session.ID, err)
	}
	told := Event{Name: "scrub.done", Session: session.ID, Slot: session.Slot, Recorder: session.Recorder, Officer: session.Officer}
	for i, f := range result.Findings {
		if f.Problem == Mismatch && f.Version != "" {
			// As long as the recorder has the file, its next docking stores it again.
			q := journal.Quarantined{Key: f.Key, Version: f.Version, Session: session.ID, Reason: f.Detail, At: s.journal.Now()}
			if err := s.quarantine(ctx, q); err != nil {
				return err
			}
		}
		if i >= scrubTold {
			continue
		}
		e := told
		e.Name, e.Level = "verify.mismatch", Alarm
		e.Message = fmt.Sprintf("%s: %s: %s", f.Problem, f.Key, f.Detail)
		s.emit(e)
	}
	proof := journal.Scrub{Session: session.ID, At: s.journal.Now(), Objects: result.Objects, Bytes: result.Bytes, Findings: len(result.Findings)}
	if err := s.Record(ctx, ledger.Entry{
		Event: "session.scrubbed", Session: session.ID, Recorder: session.Recorder, Officer: session.Officer, Time: proof.At,
		Detail: map[string]string{"objects": strconv.Itoa(proof.Objects), "bytes": strconv.FormatInt(proof.Bytes, 10), "findings": strconv.Itoa(proof.Findings)},
	}); err != nil {
		return err
	}
	if err := s.journal.Scrubbed(ctx, proof); err != nil {
		return err
	}
	told.Bytes, told.Took = result.Bytes, time.Since(began)
	told.Message = fmt.Sprintf("%d objects read again, %d findings", result.Objects, len(result.Findings))
	if len(result.Findings) > 0 {
		told.Level = Alarm
	}
	s.emit(told)
	return nil
}

// quarantine writes down that an object is corrupt, in the ledger first. One that is in
// quarantine already is not told again.
func (s *Station) quarantine(ctx context.Context, q journal.Quarantined) error {
	known, err := s.journal.IsQuarantined(ctx, q.Key, q.Version)
	if err != nil || known != nil {
		return err
	}
	if err := s.Record(ctx, ledger.Entry{
		Event: "object.quarantined", Session: q.Session, Reason: q.Reason, Time: q.At,
		Objects: []ledger.Object{{Key: q.Key, Version: q.Version}},
	}); err != nil {
		return err
	}
	return s.journal.Quarantine(ctx, q)
}

// pacer keeps the reading of one session within its budget and out of the way of
// recorders. It has one owner.
type pacer struct {
	station   *Station
	bandwidth int64     // bytes a second
	next      time.Time // before which nothing more may be read
	yield     func()    // ends the reading of the present object
}

// took pays for bytes that were read, by waiting.
func (p *pacer) took(ctx context.Context, n int) {
	now := time.Now()
	if p.next.Before(now) {
		p.next = now // what was not used is not saved up
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.bandwidth) * float64(time.Second)))
	sleep(ctx, p.next.Sub(now))
	if p.station.busy() {
		p.yield()
	}
}

// readBack reads one object while no recorder is read. One that it had to leave is
// begun again: a request that rests for hours would be cut off anyway.
func (p *pacer) readBack(ctx context.Context, key, version string, progress func(int)) (sum string, size int64, err error) {
	for {
		if err := p.untilIdle(ctx); err != nil {
			return "", 0, err
		}
		reading, stop := context.WithCancelCause(ctx)
		p.yield = func() { stop(errYield) }
		sum, size, err = p.station.vault.ReadBack(reading, key, version, progress)
		left := errors.Is(context.Cause(reading), errYield)
		stop(nil)
		p.yield = func() {}
		if err == nil || !left || ctx.Err() != nil {
			return sum, size, err
		}
	}
}

func (p *pacer) untilIdle(ctx context.Context) error {
	for p.station.busy() {
		sleep(ctx, busyLook)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// busy tells whether a recorder is being read.
func (s *Station) busy() bool { return len(s.turns) > 0 }

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
