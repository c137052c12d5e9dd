package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/storage/ledger"
)

const (
	// previewDays is how far ahead it is told what expires.
	previewDays = 30
	// disposeEvery is how often a daemon tells that, and disposes where it is to.
	disposeEvery = 24 * time.Hour
	// disposeRetry is when it tries again what could not be known.
	disposeRetry = 10 * time.Minute
)

// keepDisposing tells what expires soon and, where custody.dispose is automatic, applies
// the plan of the day before and makes that of today; both at once and once a day, until
// ctx ends.
func (r *running) keepDisposing(ctx context.Context) {
	for {
		wait := disposeEvery
		if err := r.disposeDaily(ctx); err != nil && ctx.Err() == nil {
			wait = disposeRetry
			r.emit(ingest.Event{Name: "retention.trouble", Level: ingest.Warn, Err: err, Message: "what may be disposed of can't be told now; nothing is deleted meanwhile, and it is tried again"})
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// disposeDaily is one round. A plan that was refused is no trouble that another try
// could mend: it is told, and a person must act.
func (r *running) disposeDaily(ctx context.Context) error {
	d := r.workplace.desk(r.station)
	d.Policy = r.retention.Load().Rules()
	soon, err := d.Preview(ctx, previewDays)
	if err != nil {
		return err
	}
	// Before any disposal it is looked whether the ledger has seen the time pass.
	if err := r.station.Record(ctx, ledger.Entry{Event: "retention.previewed", Detail: map[string]string{
		"days": strconv.Itoa(previewDays), "sessions": strconv.Itoa(soon.Totals.Sessions), "recordings": strconv.Itoa(soon.Totals.Recordings),
	}}); err != nil {
		return err
	}
	if err := r.station.Publish(ctx); err != nil {
		return err
	}
	r.emit(ingest.Event{Name: "retention.preview", Message: soon.Words()})
	if r.workplace.cfg.Custody.Dispose != configs.DisposeAutomatic {
		return nil
	}
	round, err := d.Automatic(ctx)
	if done := round.Applied; done != nil && done.Objects > 0 {
		r.emit(ingest.Event{Name: "retention.disposed", Bytes: done.Bytes, Message: fmt.Sprintf("plan %s: %d objects of %d sessions were deleted, %d sessions are left", done.Plan, done.Objects, done.Sessions, len(done.Left))})
	}
	if errors.Is(err, custody.ErrRefused) {
		r.emit(ingest.Event{Name: "retention.refused", Level: ingest.Alarm, Err: err, Message: "the station's plan of disposal was not applied; look why, see ingestd retention plan"})
		return nil
	}
	if p := round.Planned; p != nil {
		r.emit(ingest.Event{Name: "retention.planned", Level: ingest.Warn, Bytes: p.Totals.Bytes, Message: fmt.Sprintf(
			"plan %s: %d objects of %d sessions are deleted after a day, if nobody tags or holds them: see ingestd retention plan --show %s", p.ID, p.Totals.Objects, p.Totals.Sessions, p.ID)})
	}
	return err
}
