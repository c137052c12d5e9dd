package ingest

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

const (
	firstPause = 500 * time.Millisecond
	longPause  = 15 * time.Second
	// corruptTries is how often bytes that arrived damaged are sent again. Each
	// time is told: a line that damages bytes is a finding, not a hiccup.
	corruptTries = 3
)

// withStore runs one request and, while the store is away, runs it again with
// growing pauses, up to the station's patience. Every other error is final.
func (s *Station) withStore(ctx context.Context, request func() error) error {
	var away time.Time // since when the store does not answer
	for pause, corrupt := firstPause, 0; ; pause = min(2*pause, longPause) {
		err := request()
		switch {
		case err == nil:
			if !away.IsZero() {
				s.emit(Event{Name: "storage.back", Took: time.Since(away)})
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, storage.ErrCorrupt):
			if corrupt++; corrupt >= corruptTries {
				return err
			}
			s.emit(Event{Name: "storage.corrupted", Level: Warn, Err: err, Message: "bytes did not arrive as they were sent; sending them again"})
		case !errors.Is(err, storage.ErrUnavailable):
			return err
		case away.IsZero():
			away = time.Now()
			s.emit(Event{Name: "storage.unavailable", Level: Alarm, Err: err, Message: "waiting for the store; the recorder keeps its footage"})
		}
		if !away.IsZero() && time.Since(away) > s.cfg.Patience {
			return err
		}
		// Up to a half less, so that many sessions don't come back as one.
		wait := time.NewTimer(pause - rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return context.Cause(ctx)
		}
	}
}
