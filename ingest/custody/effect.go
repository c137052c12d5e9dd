package custody

import (
	"context"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/policy"
)

// Effects beside those of package policy. The strings are stable.
const (
	EffectSame      = "same"
	EffectUndecided = "undecided"
)

// Effect is how an ended session would be kept by other rules.
type Effect struct {
	Session string
	// Effect is policy.Longer, policy.Stays, EffectSame or EffectUndecided.
	Effect string
	Locked time.Time // until when, by the journal
	Until  time.Time // by the rules or the months, whichever is longer; zero: undecided
	Rule   string
	Why    string
}

// Effects compares what rules would ask for with the locks of all ended sessions, and
// counts those that have not ended. It changes nothing and asks no store.
func (d *Desk) Effects(ctx context.Context, rules *policy.Policy) (all []Effect, open int, err error) {
	sessions, err := d.Journal.Sessions(ctx)
	if err != nil {
		return nil, 0, err
	}
	factsOf, err := d.FactsReader(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, s := range sessions {
		if s.State != journal.StateSealed && s.State != journal.StateFailed {
			open++
			continue
		}
		if !s.DisposedAt.IsZero() { // there is nothing left to keep
			continue
		}
		facts, err := factsOf(s)
		if err != nil {
			return nil, 0, err
		}
		e, err := d.effect(rules, s, facts)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, e)
	}
	return all, open, nil
}

func (d *Desk) effect(rules *policy.Policy, s journal.Session, facts policy.Facts) (Effect, error) {
	e := Effect{Session: s.ID, Locked: s.RetainUntil}
	until, rule, err := ingest.KeepUntil(rules, d.Months, facts, d.Location)
	if err != nil {
		e.Effect, e.Why = EffectUndecided, err.Error()
		return e, nil //nolint:nilerr // it is the result for this session, and is shown
	}
	// What is permanent now stays it: new rules are no order to destroy.
	permanent := s.Permanent
	if d.Policy != nil {
		_, by, err := ingest.KeepUntil(d.Policy, d.Months, facts, d.Location)
		if err != nil {
			return e, err
		}
		permanent = permanent || by.Permanent
	}
	e.Until, e.Rule, e.Why = until, rule.Name, rule.Why
	switch {
	case permanent && !rule.Permanent:
		e.Effect = string(policy.Stays)
	case until.After(s.RetainUntil), rule.Permanent && !permanent:
		e.Effect = string(policy.Longer)
	case until.Before(s.RetainUntil):
		e.Effect = string(policy.Stays)
	default:
		e.Effect = EffectSame
	}
	return e, nil
}
