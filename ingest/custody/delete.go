package custody

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// errStays: the vault, or the store, does not let an object go.
var errStays = errors.New("it does not go")

// delete does what the plan says, session by session; see Apply.
func (o *order) delete(ctx context.Context) error {
	sessions := slices.Clone(o.shown.Disposable)
	// The later ones first: they list objects of the earlier ones, and would be left
	// without them if the work were cut off in between.
	slices.Reverse(sessions)
	if o.now.Sub(o.shown.MadeAt) > PlanGoodFor { // what was begun is finished, nothing else is begun
		sessions = slices.DeleteFunc(sessions, func(s Disposable) bool { return o.begun[s.Session].IsZero() })
	}
	o.plan.State, o.plan.AppliedAt, o.plan.AppliedBy = journal.PlanApplying, o.now, o.Person
	if err := o.Journal.SavePlan(ctx, o.plan); err != nil {
		return err
	}
	objects := 0
	for _, s := range sessions {
		objects += len(s.Objects)
	}
	for _, s := range sessions {
		err := o.session(ctx, s, objects)
		if errors.Is(err, errStays) || errors.Is(err, journal.ErrKept) {
			return o.refuse(ctx, fmt.Errorf("session %s: %w", s.Session, err))
		}
		if err != nil {
			return fmt.Errorf("dispose of session %s: %w; the same order goes on with plan %s", s.Session, err, o.plan.ID)
		}
		o.done.Sessions++
		o.done.Left = slices.DeleteFunc(o.done.Left, func(id string) bool { return id == s.Session })
	}
	if !o.told {
		if err := o.record(ctx, ledger.Entry{Event: "disposal.applied", Reason: o.reason, Detail: map[string]string{
			"plan": o.plan.ID, "sessions": strconv.Itoa(o.done.Sessions), "objects": strconv.Itoa(o.done.Objects + o.done.Already),
			"sessions_not_begun": strconv.Itoa(len(o.done.Left)), // for which the plan was too old
		}}); err != nil {
			return err
		}
	}
	if err := o.Station.Publish(ctx); err != nil {
		return err
	}
	o.plan.State = journal.PlanApplied
	return o.Journal.SavePlan(ctx, o.plan)
}

// session disposes of one session; total is of all objects, for the progress.
func (o *order) session(ctx context.Context, s Disposable, total int) error {
	if o.begun[s.Session].IsZero() {
		if err := o.announce(ctx, s); err != nil {
			return err
		}
	}
	if err := o.Station.Publish(ctx); err != nil {
		return err
	}
	if err := o.Journal.Disposed(ctx, s.Session, o.begun[s.Session]); err != nil {
		return err
	}
	vault := o.Vault
	if o.Disposer != nil {
		vault = o.Disposer
	}
	for _, object := range s.Objects {
		err := vault.Dispose(ctx, storage.Disposable{Key: object.Key, VersionID: object.Version, Size: object.Size, SHA256: object.SHA256})
		switch {
		case errors.Is(err, storage.ErrNotFound):
			o.done.Already++
		case err != nil && (errors.Is(err, storage.ErrUnavailable) || ctx.Err() != nil):
			return err
		case errors.Is(err, storage.ErrDenied):
			return fmt.Errorf("%w: %w; a station's key shall not delete: give that of configs/policies/admin-disposal-*.json with --credentials FILE", errStays, err)
		case err != nil:
			return fmt.Errorf("%w: %w", errStays, err)
		default:
			o.done.Objects, o.done.Bytes = o.done.Objects+1, o.done.Bytes+object.Size
		}
		o.progress(o.done.Objects+o.done.Already, total)
	}
	return nil
}

// announce writes to the ledger what will be gone, and by what it can be told later what
// it was: the manifest, which stays.
func (o *order) announce(ctx context.Context, s Disposable) error {
	e := ledger.Entry{Event: "disposal.session", Time: o.now, Session: s.Session, Recorder: s.Recorder, Officer: s.Officer, Reason: o.reason, Detail: map[string]string{
		"plan": o.plan.ID, "manifest": s.Manifest.Key, "manifest_version": s.Manifest.Version, "manifest_sha256": s.Manifest.SHA256,
		"bytes": strconv.FormatInt(s.Bytes, 10),
	}}
	var objects []ledger.Object
	for _, object := range s.Objects {
		objects = append(objects, ledger.Object{Key: object.Key, Version: object.Version, SHA256: object.SHA256})
	}
	nameObjects(&e, objects)
	o.begun[s.Session] = o.now
	return o.record(ctx, e)
}
