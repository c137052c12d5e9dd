package custody

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/policy"
)

// Lengthened is what came of looking after the locks of stored sessions.
type Lengthened struct {
	Sessions int         `json:"sessions"` // ended ones of this bucket that were looked at
	Extended []Extension `json:"extended"`
	// Stays counts sessions that less is asked for now than they are locked for.
	// A lock can't be shortened.
	Stays int `json:"stays"`
	// Undecided counts sessions that the policy can't decide; they are kept by the
	// months.
	Undecided int `json:"undecided"`
	Elsewhere int `json:"elsewhere"` // sessions that lie in another bucket
}

// Extension is a session whose objects are all locked for longer now.
type Extension struct {
	Session   string    `json:"session"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Rule      string    `json:"rule"`
	Months    int       `json:"months"`
	Permanent bool      `json:"permanent"`
	Why       string    `json:"why"`
	Objects   int       `json:"objects"`
}

// Lengthen makes the locks of ended sessions as long as the policy and the months in
// force ask for now, by what is known of the sessions now. Nothing is ever shortened.
// A session that fails is in the error, and the others go on; whoever calls again does
// what is left. Any number may do so at the same time.
func (d *Desk) Lengthen(ctx context.Context, which func(journal.Session) bool) (Lengthened, error) {
	r := Lengthened{Extended: []Extension{}}
	units, err := d.units(ctx)
	if err != nil {
		return r, err
	}
	bucket, err := d.Journal.BucketID(ctx, d.Vault.Describe())
	if err != nil {
		return r, err
	}
	sessions, err := d.Journal.Sessions(ctx)
	if err != nil {
		return r, err
	}
	var errs []error
	failed := 0
	for i, s := range sessions {
		d.progress(i, len(sessions))
		if !ended(s) || !s.DisposedAt.IsZero() || !which(s) {
			continue
		}
		if s.Bucket != "" && s.Bucket != bucket {
			r.Elsewhere++
			continue
		}
		r.Sessions++
		err := d.lengthen(ctx, s.ID, units, &r)
		if err == nil {
			continue
		}
		if failed++; failed <= errorsToldMost {
			errs = append(errs, fmt.Errorf("session %s: %w", s.ID, err))
		}
		if hopeless(err) {
			return r, errors.Join(errs...)
		}
	}
	d.progress(len(sessions), len(sessions))
	if failed > errorsToldMost {
		errs = append(errs, fmt.Errorf("and %d sessions more", failed-errorsToldMost))
	}
	if err := d.lockEvidence(ctx); err != nil {
		errs = append(errs, fmt.Errorf("lock the ledger in the bucket as long as the footage that it tells of: %w", err))
	}
	return r, errors.Join(errs...)
}

// lengthen does it for one session. What is durable after each step, and what a crash
// there leaves:
//
//  1. All its objects are locked in the store. Crash: the journal knows an earlier date,
//     and the next one comes here again.
//  2. The ledger has it. Crash: it is told once more.
//  3. The journal has it. From here on there is nothing to do.
func (d *Desk) lengthen(ctx context.Context, id string, units map[string]string, r *Lengthened) (err error) {
	// One at a time, or two would tell the ledger of the same.
	giveBack, err := d.Journal.TakeTurn(ctx, "lengthen")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	s, err := d.Journal.Session(ctx, id)
	if err != nil || !s.DisposedAt.IsZero() {
		return err
	}
	facts, err := d.facts(ctx, s, units)
	if err != nil {
		return err
	}
	until, rule, undecided := ingest.KeepUntil(d.Policy, d.Months, facts, d.Location)
	if undecided != nil {
		r.Undecided++
		undecided = fmt.Errorf("the retention file can't decide how long it is kept, so it is kept by %s: %w", ingest.MonthsRule, undecided)
	}
	if !until.After(s.RetainUntil) && (s.Permanent || !rule.Permanent) {
		if undecided == nil && (until.Before(s.RetainUntil) || s.Permanent && !rule.Permanent) {
			r.Stays++
		}
		return undecided
	}
	if until.Before(s.RetainUntil) { // permanent, by a clock that was ahead
		until = s.RetainUntil
	}
	done, err := d.extendSession(ctx, s, until, rule)
	if err != nil {
		return errors.Join(undecided, err)
	}
	r.Extended = append(r.Extended, done)
	return undecided
}

func (d *Desk) extendSession(ctx context.Context, s journal.Session, until time.Time, rule *manifest.Retention) (Extension, error) {
	e := Extension{Session: s.ID, From: s.RetainUntil.In(d.Location), To: until.In(d.Location),
		Rule: rule.Name, Months: rule.Months, Permanent: rule.Permanent || s.Permanent, Why: rule.Why}
	objects, err := d.footageOf(ctx, s.ID, "")
	if err != nil {
		return e, err
	}
	documents, missing := d.documentsOf(ctx, s)
	objects = append(objects, documents...)
	e.Objects = len(objects)
	if err := errors.Join(missing, d.lockUntil(ctx, objects, until)); err != nil {
		return e, fmt.Errorf("not all of it could be locked until %s: %w", until.In(d.Location).Format(time.DateTime), err)
	}
	line := ledger.Entry{
		Event: "retention.extended", Session: s.ID, Recorder: s.Recorder, Officer: s.Officer,
		Objects: []ledger.Object{{Key: s.Manifest.Key, Version: s.Manifest.VersionID, SHA256: s.Manifest.SHA256}},
		Detail: map[string]string{
			"from": e.From.Format(time.RFC3339), "to": e.To.Format(time.RFC3339), "rule": e.Rule, "months": strconv.Itoa(e.Months),
			"permanent": strconv.FormatBool(e.Permanent), "why": e.Why, "objects": strconv.Itoa(e.Objects),
		},
	}
	if d.Policy != nil {
		line.Detail["rules_sha256"] = d.Policy.Digest()
	}
	if err := d.record(ctx, line); err != nil {
		return e, err
	}
	return e, d.Journal.Lengthened(ctx, s.ID, until, e.Permanent)
}

// lockUntil locks objects until a time at least.
func (d *Desk) lockUntil(ctx context.Context, objects []ledger.Object, until time.Time) error {
	return forEach(ctx, objects, func(ctx context.Context, o ledger.Object) error {
		err := d.Vault.Extend(ctx, o.Key, o.Version, until)
		if err == nil || errors.Is(err, storage.ErrNotFound) {
			return err
		}
		// It is locked for longer: by another session that has it too, or by somebody who
		// does the same at this moment. The store refuses to shorten it, which is no trouble.
		if now, statErr := d.Vault.Stat(ctx, o.Key, o.Version); statErr == nil && !now.RetainUntil.Before(until) {
			return nil
		}
		return err
	}, nil)
}

// lockEvidence brings the ledger into the bucket and locks it there, and the public
// keys, for as long as the longest-kept footage: whoever looks at that then needs them.
func (d *Desk) lockEvidence(ctx context.Context) error {
	longest, err := d.Journal.LongestLock(ctx)
	if err != nil || longest.IsZero() {
		return err
	}
	if err := d.Station.Publish(ctx); err != nil {
		return err
	}
	store := d.Vault.Describe()
	locked, err := d.Journal.EvidenceLocked(ctx, store)
	if err != nil || !longest.After(locked) {
		return err // what was published since then was locked for as long at once
	}
	var objects []ledger.Object
	for _, prefix := range d.Station.EvidencePrefixes() {
		for v, err := range d.Vault.List(ctx, prefix) {
			if err != nil {
				return err
			}
			if !v.DeleteMarker {
				objects = append(objects, ledger.Object{Key: v.Key, Version: v.VersionID})
			}
		}
	}
	if err := d.lockUntil(ctx, objects, longest); err != nil {
		return err
	}
	return d.Journal.LockedEvidence(ctx, store, longest)
}

// FactsReader gives what reads the facts of ended sessions for a policy, by the
// register as it is now.
func (d *Desk) FactsReader(ctx context.Context) (func(journal.Session) (policy.Facts, error), error) {
	units, err := d.units(ctx)
	return func(s journal.Session) (policy.Facts, error) { return d.facts(ctx, s, units) }, err
}
