package custody

import (
	"context"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
)

// byStation is the person where there is none: the station, told so by its settings
// (custody.dispose).
const byStation = "station"

// standsFor is how long a plan of the station lies open for people to look at, before it
// is applied by itself: somewhat less than a day, so that it is that of the day before.
const standsFor = 23 * time.Hour

// Round is what a day's disposal by the station has done.
type Round struct {
	Applied *Applied // nil: no plan was due
	Planned *Plan    // nil: none was made
}

// Automatic is the station's own disposal, to be called now and then where the settings
// want that: it applies the plan that it made the day before, if that still holds, and
// makes that of today. A plan that was cut off is finished. The error is ErrRefused
// where a plan was not applied.
func (d *Desk) Automatic(ctx context.Context) (r Round, err error) {
	desk := *d
	desk.Person, desk.Actor = byStation, ""
	plans, err := desk.Journal.Plans(ctx)
	if err != nil {
		return r, err
	}
	now, err := desk.Vault.AgreedTime(ctx)
	if err != nil {
		return r, err
	}
	for _, p := range plans {
		cutOff := p.State == journal.PlanApplying
		if p.MadeBy != byStation || p.State != journal.PlanOpen && !cutOff {
			continue
		}
		if !cutOff && now.Sub(p.MadeAt) < standsFor {
			return r, nil
		}
		done, err := desk.Apply(ctx, p.ID, "custody.dispose is automatic")
		r.Applied = &done
		if err != nil {
			return r, err
		}
	}
	plan, err := desk.Plan(ctx, time.Time{})
	if err == nil && plan.ID != "" {
		r.Planned = plan
	}
	return r, err
}
