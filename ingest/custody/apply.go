package custody

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

const (
	// clockPlay is how far two readings of Vault.AgreedTime may go back: as far as the
	// two clocks may be apart.
	clockPlay = 15 * time.Minute
	// fellBackMost is how far the station's clock may be behind what it has seen.
	fellBackMost = time.Minute
	// livedDays is on how many days after a session was stored the ledger must have told of
	// something, of the 181 or more that its lock takes. A daemon tells every day. A clock
	// that was set ahead, that of the store with it, has no such days.
	livedDays = 90
	// toldAtMost is how many of the sessions that stand against a plan are told.
	toldAtMost = 10
)

// Applied is what became of an order to apply a plan. It is filled also where that ended
// with an error: what is counted is gone.
type Applied struct {
	Plan string `json:"plan"`
	// Asked: nothing was deleted yet; another person must order the same.
	Asked    bool  `json:"waits_for_second_person"`
	Sessions int   `json:"sessions"` // whose objects are gone, all of them
	Objects  int   `json:"objects"`  // deleted now
	Already  int   `json:"objects_gone_before"`
	Bytes    int64 `json:"bytes"` // deleted now
	// Left are the sessions of the plan of which something is there still; empty where
	// the order was refused before the plan was read.
	Left []string `json:"sessions_left"`
}

// Apply disposes of exactly what a plan has shown (到期销毁). It refuses the whole plan,
// and deletes nothing, unless everything that let the plan list what it lists is so
// still, asked afresh of journal, ledger and store. What is durable after each step, and
// what a crash there leaves:
//
//  1. The plan is being applied, says the journal. Crash: the same order goes on, here
//     and after each step that follows; a plan of which something is gone stays at that.
//  2. The ledger has a session and all its objects. Crash: nothing of it is gone.
//  3. The ledger is in the bucket. Crash: the same.
//  4. The journal has given the session up, if in this moment it has nothing against it.
//     Crash: its objects are there, and verify calls them extra.
//  5. One object after the other is gone, if the vault lets it go. Crash: some are.
//  6. After the last session, the ledger has that the plan was applied, here and in the
//     bucket, then the journal. Crash: the same order says so to those that do not know.
//
// Manifest, SHA256SUMS, signatures and ledger stay.
func (d *Desk) Apply(ctx context.Context, id, reason string) (Applied, error) {
	done := Applied{Plan: id, Left: []string{}}
	// Two at once would each write the ledger's lines.
	giveBack, err := d.Journal.TakeTurn(ctx, "disposal")
	if err != nil {
		return done, err
	}
	defer func() { _ = giveBack() }() // the kernel has it back in any case
	plan, err := d.Journal.Plan(ctx, id)
	if err != nil {
		return done, err
	}
	o := &order{Desk: d, plan: plan, reason: reason, done: &done}
	if err := o.mayOrder(); err != nil {
		return done, o.refuse(ctx, err)
	}
	switch err := o.check(ctx); {
	case errors.Is(err, storage.ErrDenied), errors.Is(err, ledger.ErrBroken), errors.Is(err, storage.ErrClocks), errors.As(err, new(against)):
		return done, o.refuse(ctx, err)
	case err != nil:
		return done, err
	}
	if asked, err := o.askFirst(ctx); asked || err != nil {
		done.Asked = asked
		return done, err
	}
	return done, o.delete(ctx)
}

// order is one run of Apply.
type order struct {
	*Desk
	plan   journal.Plan
	shown  Plan // what the plan's body says
	reason string
	now    time.Time
	// begun are the sessions that the ledger has as being disposed of by this plan, and
	// since when.
	begun map[string]time.Time
	// told: the ledger has that all of it is gone.
	told bool
	done *Applied
}

// against is a finding that forbids to apply a plan. Stale says that the plan will never
// be right again: a new one must be made.
type against struct {
	words string
	stale bool
}

func (a against) Error() string { return a.words }

func forbidden(format string, args ...any) error { return against{fmt.Sprintf(format, args...), false} }
func stale(format string, args ...any) error     { return against{fmt.Sprintf(format, args...), true} }

// refuse writes the refusal to the ledger. A plan that is out of date is void from then
// on, unless something of it is gone already.
func (o *order) refuse(ctx context.Context, why error) error {
	e := ledger.Entry{Event: "disposal.refused", Detail: map[string]string{
		"plan": o.plan.ID, "objects_deleted": strconv.Itoa(o.done.Objects), "sessions_deleted": strconv.Itoa(o.done.Sessions),
	}}
	err := o.Desk.refuse(ctx, e, why)
	var a against
	untouched := o.plan.State == journal.PlanOpen || o.begun != nil && len(o.begun) == 0
	if errors.As(why, &a) && a.stale && untouched {
		o.plan.State = journal.PlanVoid
		err = errors.Join(err, o.Journal.SavePlan(ctx, o.plan))
	}
	return err
}

// mayOrder looks at who orders, and at the plan's own state.
func (o *order) mayOrder() error {
	switch o.plan.State {
	case journal.PlanApplied:
		return forbidden("plan %s was applied at %s by %s", o.plan.ID, o.plan.AppliedAt.In(o.Location).Format(time.RFC3339), o.plan.AppliedBy)
	case journal.PlanVoid:
		return forbidden("plan %s is void: it is a preview, or was refused as out of date; make a new one with `ingestd retention plan`", o.plan.ID)
	}
	switch {
	case o.Person == byStation:
		if o.TwoPersons {
			return forbidden("two persons must confirm a disposal, and the station is none (custody.two_persons)")
		}
	case len(o.Administrators) > 0 && !slices.Contains(o.Administrators, o.Person):
		return forbidden("%s is not among custody.administrators", o.Person)
	case o.TwoPersons && o.plan.State == journal.PlanOpen && o.plan.AskedBy == o.Person:
		return forbidden("%s has asked for it at %s, and another person must confirm it (custody.two_persons)", o.Person, o.plan.AskedAt.In(o.Location).Format(time.RFC3339))
	}
	return nil
}

// askFirst keeps the first of two persons.
func (o *order) askFirst(ctx context.Context) (asked bool, err error) {
	if !o.TwoPersons || o.plan.State == journal.PlanApplying || o.plan.AskedBy != "" {
		return false, nil
	}
	if err := o.record(ctx, ledger.Entry{Event: "disposal.asked", Reason: o.reason, Detail: map[string]string{"plan": o.plan.ID}}); err != nil {
		return false, err
	}
	o.plan.AskedAt, o.plan.AskedBy = o.now, o.Person
	return true, o.Journal.SavePlan(ctx, o.plan)
}

// check asks everything afresh, of all sessions, before anything is deleted.
func (o *order) check(ctx context.Context) (err error) {
	if err := json.Unmarshal(o.plan.Body, &o.shown); err != nil || o.shown.Schema != PlanSchema || o.shown.ID != o.plan.ID {
		return stale("plan %s can't be read: schema %q, id %q, %v", o.plan.ID, o.shown.Schema, o.shown.ID, err)
	}
	for _, s := range o.shown.Disposable {
		o.done.Left = append(o.done.Left, s.Session)
	}
	if o.now, err = o.Vault.AgreedTime(ctx); err != nil {
		return err
	}
	if clock := o.Station.Clock(); !clock.Synchronised {
		return forbidden("the station's clock is not to be trusted: %s", clock.Why)
	}
	if back := o.Journal.ClockFellBack(); back > fellBackMost {
		return forbidden("the station's clock is %s behind the latest time that it has seen: set it by a time service", back.Round(time.Second))
	}
	if err := o.checkLedger(ctx); err != nil {
		return err
	}
	if err := o.checkSettings(); err != nil {
		return err
	}
	if err := o.checkBucket(ctx); err != nil {
		return err
	}
	return o.checkSessions(ctx)
}

// checkSettings compares what is in force with what was when the plan was made.
func (o *order) checkSettings() error {
	age := o.now.Sub(o.shown.MadeAt)
	switch {
	case o.shown.AsOf != nil:
		return stale("plan %s is a preview of %s", o.plan.ID, o.shown.AsOf.Format(time.RFC3339))
	case age < -clockPlay:
		return forbidden("plan %s was made at %s, and it is %s now: a clock was set back, or was wrong then", o.plan.ID, o.shown.MadeAt.Format(time.RFC3339), o.now.In(o.Location).Format(time.RFC3339))
	case age > PlanGoodFor && len(o.begun) == 0:
		return stale("plan %s is older than %d days: make a new one with `ingestd retention plan`", o.plan.ID, PlanGoodFor/(24*time.Hour))
	case o.shown.Station != o.Station.ID():
		return stale("plan %s is of station %s", o.plan.ID, o.shown.Station)
	case o.shown.Policy != o.policyDigest() || o.shown.Months != o.Months:
		return stale("the rules have changed since plan %s was made: rules SHA-256 %q and %d months, the plan has %q and %d", o.plan.ID, o.policyDigest(), o.Months, o.shown.Policy, o.shown.Months)
	}
	return nil
}

// checkLedger has the whole ledger verified, here and in the bucket, and looks for the
// plan in it: a plan that was changed in the journal is nobody's.
func (o *order) checkLedger(ctx context.Context) error {
	report, err := o.Station.VerifyLedger(ctx)
	if errors.Is(err, storage.ErrNotFound) {
		return forbidden("a part of the ledger that is in the bucket can't be read: %v", err)
	}
	if err != nil {
		return err
	}
	if !report.Sound() {
		return forbidden("the ledger is not what was signed, see `ingestd ledger verify`: %s", report.Findings[0])
	}
	planned, sum := false, digest(o.plan.Body)
	o.begun = map[string]time.Time{}
	var stored time.Time
	for _, s := range o.shown.Disposable {
		if s.EndedAt.After(stored) {
			stored = s.EndedAt
		}
	}
	days := map[string]bool{}
	for line, err := range o.Evidence.Ledger.Read(ctx, 0) {
		if err != nil {
			return err
		}
		if at := line.Entry.Time; at.After(stored) && !at.After(o.now) {
			days[at.In(o.Location).Format(time.DateOnly)] = true
		}
		if line.Entry.Detail["plan"] != o.plan.ID {
			continue
		}
		switch line.Entry.Event {
		case "disposal.planned":
			planned = planned || line.Entry.Detail["sha256"] == sum
		case "disposal.session":
			if _, again := o.begun[line.Entry.Session]; !again {
				o.begun[line.Entry.Session] = line.Entry.Time
			}
		case "disposal.applied":
			o.told = true
		}
	}
	if len(days) < livedDays {
		return forbidden("the ledger tells of %d days since the last of these sessions was stored, and %d are wanted: to a clock that was set ahead it would look the same; leave `ingestd run` at work, which tells something every day", len(days), livedDays)
	}
	if !planned {
		return stale("the ledger has no plan %s with SHA-256 %s: the journal was changed, or the plan was never finished", o.plan.ID, sum)
	}
	return nil
}

// checkBucket makes sure that it is the bucket of the plan, and that it keeps what it is
// not told to delete.
func (o *order) checkBucket(ctx context.Context) error {
	seen, err := o.Journal.BucketID(ctx, o.Vault.Describe())
	if err != nil {
		return err
	}
	if seen == "" || seen != o.shown.BucketID {
		return stale("plan %s is of bucket %s, and this is %q", o.plan.ID, o.shown.BucketID, seen)
	}
	findings, err := ingest.BucketAudit{Vault: o.Vault, Ring: o.Evidence.Ring, Station: o.Station.ID(), BucketID: seen}.Findings(ctx)
	if err != nil {
		return err
	}
	matter := []string{storage.CheckObjectLock, storage.CheckVersioning, storage.CheckBucketMarker}
	for _, f := range findings {
		// The marker of another station that shares the bucket can't always be verified;
		// its id was compared.
		unseen := f.NotChecked && f.Check != storage.CheckBucketMarker
		if slices.Contains(matter, f.Check) && (f.Severity != storage.SeverityNote || unseen) {
			return forbidden("%s: %s %s See `ingestd doctor`", f.Check, f.What, f.Detail)
		}
	}
	return nil
}

// checkSessions examines every session of the plan as Plan did, and compares.
func (o *order) checkSessions(ctx context.Context) error {
	l, err := o.look(ctx, o.now)
	if err != nil {
		return err
	}
	l.announced = o.begun
	var sessions []journal.Session
	for _, p := range o.shown.Disposable {
		s, err := o.Journal.Session(ctx, p.Session)
		if err != nil {
			return err
		}
		if !ended(s) || !s.DisposedAt.IsZero() && o.begun[s.ID].IsZero() {
			return stale("session %s is %s and disposed of at %q, by another plan", s.ID, s.State, s.DisposedAt)
		}
		sessions = append(sessions, s)
	}
	good, kept, err := l.sort(ctx, sessions)
	if err != nil {
		return err
	}
	var words []string
	for _, k := range kept {
		words = append(words, fmt.Sprintf("session %s is kept now: %s: %s", k.Session, k.Reasons[0].Kind, k.Reasons[0].Words))
	}
	for _, is := range good {
		was := o.shown.Disposable[slices.IndexFunc(o.shown.Disposable, func(d Disposable) bool { return d.Session == is.Session })]
		if !was.sameFootage(is) {
			words = append(words, fmt.Sprintf("session %s is not what the plan shows: manifest, objects or the time until which it is kept differ", is.Session))
		}
	}
	if more := len(words) - toldAtMost; more > 0 {
		words = append(words[:toldAtMost], fmt.Sprintf("and %d sessions more", more))
	}
	if len(words) > 0 {
		return stale("%s", strings.Join(words, "; "))
	}
	return nil
}

// sameFootage compares what would be deleted, and until when it had to be kept.
func (was Disposable) sameFootage(is Disposable) bool {
	return was.Manifest == is.Manifest && was.KeptUntil.Equal(is.KeptUntil) && slices.Equal(was.Objects, is.Objects)
}
