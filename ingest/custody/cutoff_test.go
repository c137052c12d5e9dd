package custody_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// Cut off at any request that deletes, and before and after each step, the same order
// finishes it: nothing is told twice, and nothing but the plan is gone.
func TestADisposalThatWasCutOffGoesOn(t *testing.T) {
	t.Parallel()
	for after := range 3 {
		a, d, _, _, p := planned(t)
		before := a.versions("")
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		a.onDelete = func() {
			if n++; n > after {
				cancel()
			}
		}
		done, err := d.Apply(ctx, p.ID, "")
		cancel()
		if err == nil || errors.Is(err, custody.ErrRefused) {
			t.Fatalf("cut off at %d: %+v, %v", after, done, err)
		}
		a.onDelete = nil
		if plan, err := a.journal.Plan(t.Context(), p.ID); err != nil || plan.State != journal.PlanApplying {
			t.Errorf("the plan is %+v, %v", plan, err)
		}
		// What protects the rest counts still.
		a.unsynced.Store(true)
		if _, err := d.Apply(t.Context(), p.ID, ""); !errors.Is(err, custody.ErrRefused) {
			t.Errorf("goes on without a clock: %v", err)
		}
		a.unsynced.Store(false)
		d = a.desk("uid 1", months(6))
		if done, err = d.Apply(t.Context(), p.ID, ""); err != nil || done.Sessions != 2 || done.Objects+done.Already != 3 {
			t.Fatalf("goes on: %+v, %v", done, err)
		}
		a.checkGone(p, before)
	}
}

// Cut off at any request at all, again and again, it comes to its end, and everything
// is told once.
func TestADisposalIsCutOffAnywhere(t *testing.T) {
	t.Parallel()
	a, d, _, _, p := planned(t)
	before := a.versions("")
	cuts := 0
	for most := int64(0); ; most += 4 {
		var n atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		a.onRequest = func(*http.Request) string {
			if n.Add(1) > most {
				cancel()
			}
			return ""
		}
		_, err := d.Apply(ctx, p.ID, "")
		cancel()
		if err == nil {
			break
		}
		if cuts++; errors.Is(err, custody.ErrRefused) || cuts > 200 {
			t.Fatalf("cut off after %d requests: %v", most, err)
		}
	}
	a.onRequest = nil
	if cuts < 10 {
		t.Errorf("it was cut off %d times only", cuts)
	}
	a.checkGone(p, before)
}

// A disposal that is finished too late to begin anything new finishes what it began.
func TestAnOldDisposalFinishesWhatItBegan(t *testing.T) {
	t.Parallel()
	a, d, first, second, p := planned(t)
	ctx, cancel := context.WithCancel(t.Context())
	a.onDelete = cancel
	if _, err := d.Apply(ctx, p.ID, ""); err == nil {
		t.Fatal("it was not cut off")
	}
	a.onDelete = nil
	done, err := a.desk("uid 1", months(6)+custody.PlanGoodFor+time.Hour).Apply(t.Context(), p.ID, "")
	if err != nil || done.Sessions != 1 || len(done.Left) != 1 || done.Left[0] != first.ID {
		t.Fatalf("%+v, %v", done, err)
	}
	if a.session(second.ID).DisposedAt.IsZero() || !a.session(first.ID).DisposedAt.IsZero() || len(a.lines("disposal.session")) != 1 {
		t.Error("not only what was begun is gone")
	}
}
