package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/tsa"
)

const (
	// stampRetry is when a stamp that could not be had is asked for again, unless a
	// newer checkpoint comes before; each time later, up to stampEvery.
	stampRetry = time.Hour
	stampEvery = 24 * time.Hour
)

// StampLedger has the last published checkpoint of the ledger stamped by
// Config.Timestamp, unless it is. It tells what came of it; no footage waits for it.
func (s *Station) StampLedger(ctx context.Context) error {
	if s.cfg.Timestamp == nil {
		return nil
	}
	began := time.Now()
	var at tsa.Stamp
	store, err := s.ledgerStore(ctx)
	if err != nil {
		return err
	}
	size, stamped, err := s.evidence.Ledger.StampLast(ctx, store, LedgerPrefix(s.cfg.ID), func(ctx context.Context, signed []byte) (stamp []byte, err error) {
		stamp, at, err = s.cfg.Timestamp.Stamp(ctx, signed, s.journal.Now)
		return stamp, err
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && !errors.Is(err, storage.ErrUnavailable): // whoever needs the store tells of that
		e := Event{Name: "timestamp.failed", Level: Warn, Err: err, Message: "the last checkpoint of the ledger has no time stamp; it is asked for again"}
		if errors.Is(err, ledger.ErrBroken) {
			e.Level = Alarm
		}
		s.emit(e)
	case stamped:
		s.emit(Event{Name: "timestamp.stored", Took: time.Since(began), Message: fmt.Sprintf("%s: the first %d entries of the ledger, by %s", at.Time.Format(time.RFC3339), size, at.Signer)})
	}
	return err
}

// KeepStamping runs StampLedger now, after each publication of the ledger, and after
// failures, until ctx ends.
func (s *Station) KeepStamping(ctx context.Context) {
	if s.cfg.Timestamp == nil {
		return
	}
	for pause := stampRetry; ctx.Err() == nil; {
		wait := time.NewTimer(stampEvery)
		if err := s.StampLedger(ctx); err != nil {
			wait.Reset(pause)
			pause = min(2*pause, stampEvery)
		} else {
			pause = stampRetry
		}
		select {
		case <-s.published:
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
	}
}
