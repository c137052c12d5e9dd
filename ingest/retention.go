package ingest

import (
	"context"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/policy"
)

// MonthsRule names retention.months of the settings where that, and no rule of the
// retention file, decides. No rule of a file can have a name with a dot.
const MonthsRule = "retention.months"

// recordingAhead is how far behind the station's time a recording can end. What ends
// later was not recorded then: a wrong reading of clock or card.
const recordingAhead = 24 * time.Hour

// RetentionFacts are what a policy can know of a session with these files: stored
// is when its last object was created, by the station's clock, unit that of its
// recorder in the register.
//
// The end of the recording is the latest time of a file minus the measured offset of
// the recorder's clock. Bounds are no measurement, and a file that ends over a day
// after stored is left out: either would lock footage by a wrong reading, which
// nothing can undo.
func RetentionFacts(s journal.Session, files []*journal.File, unit string, stored time.Time) policy.Facts {
	f := policy.Facts{Docked: s.DockedAt, Stored: stored, Recorder: s.Recorder, Officer: s.Officer, Unit: unit}
	if s.Clock.Kind != device.ClockMeasured || s.Clock.Offset == nil {
		return f
	}
	for _, file := range files {
		if file.Entry.Kind != device.KindFile || file.Entry.ModTime.IsZero() {
			continue
		}
		end := file.Entry.ModTime.Add(-*s.Clock.Offset)
		if end.After(stored.Add(recordingAhead)) || f.RecordingEnd != nil && !end.After(*f.RecordingEnd) {
			continue
		}
		f.RecordingEnd = &end
	}
	return f
}

// learnFacts takes down what the policy can know of the session by now. It runs
// while no file is being copied; the locks that follow go by it.
func (w *session) learnFacts(ctx context.Context) error {
	tags, err := w.journal.Tags(ctx, w.record.ID)
	if err != nil {
		return err
	}
	w.facts = RetentionFacts(w.record, w.files, w.unit, w.journal.Now())
	for _, t := range tags {
		w.facts.Tags = append(w.facts.Tags, t.Tag)
	}
	return nil
}

// retainUntil is the end of the lock of whatever of the session is stored at this
// moment. Every object of a session takes it from here.
func (w *session) retainUntil() time.Time {
	until, _ := w.decide()
	return until
}

// decide gives the end of the lock and the rule that it is by. Footage does not wait
// for a decision that can't be had; that is told once, and it is kept by the months.
// The rule is nil without a policy.
func (w *session) decide() (time.Time, *manifest.Retention) {
	months := w.vault.RetainUntil()
	if w.cfg.Policy == nil {
		return months, nil
	}
	facts := w.facts
	facts.Stored = w.vault.Now()
	until, rule, err := KeepUntil(w.cfg.Policy, w.vault.Months(), facts, w.cfg.Location)
	if err != nil && w.undecided.CompareAndSwap(false, true) {
		w.emitFor(Event{Name: "retention.undecided", Level: Warn, Err: err, Message: "the session is kept by " + MonthsRule + "; rules of the retention file that are for it have no effect"})
	}
	if until.Before(months) {
		until = months // a midnight has passed since
	}
	return until, rule
}

// KeepUntil is the end of the lock of a session with these facts, and the rule that it
// is by: the longer of what the policy says and of months, the retention.months of the
// station. Without a policy, nil, it is the months. The error is policy.ErrFacts; the
// months alone are counted then, from Stored, which must be known.
func KeepUntil(p *policy.Policy, months int, f policy.Facts, loc *time.Location) (time.Time, *manifest.Retention, error) {
	byMonths := &manifest.Retention{Name: MonthsRule, Months: max(months, storage.FloorMonths),
		Why: "the station keeps all footage for as long, which is longer than its rules ask for"}
	until := storage.RetainUntil(f.Stored, months, loc)
	if p == nil {
		byMonths.Why = "the station keeps all footage for as long"
		return until, byMonths, nil
	}
	d, err := p.Decide(f, loc)
	switch {
	case err != nil:
		byMonths.Why = err.Error()
		return until, byMonths, err
	case d.Until.Before(until):
		return until, byMonths, nil
	}
	return d.Until, ruleOf(d), nil
}

// ruleOf is the rule that decided, as the manifest has it.
func ruleOf(d policy.Decision) *manifest.Retention {
	r := &manifest.Retention{Name: d.Winner, Months: d.Months, Permanent: d.Permanent, Why: "第十一条"}
	for _, rule := range d.Rules {
		if rule.Name == d.Winner {
			r.Why = rule.Why
		}
	}
	return r
}

// documentsUntil is the end of the lock of what closes a session: as long as its
// footage, also where a crash lies between the two.
func (s *Station) documentsUntil(r journal.Session) time.Time {
	if until := s.vault.RetainUntil(); until.After(r.RetainUntil) {
		return until
	}
	return r.RetainUntil
}
