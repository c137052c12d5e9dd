package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"sync"

	"golang.org/x/term"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/continuity"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// desk is where orders about stored footage are carried out. What it needs of vault
// and evidence must be open.
func (w *workplace) desk(station *ingest.Station) *custody.Desk {
	return &custody.Desk{
		Station: station, Vault: w.vault, Journal: w.journal, Evidence: w.evidence,
		Location: w.cfg.Station.Timezone, Policy: w.cfg.Retention.Rules(), Months: w.cfg.Retention.Months,
		Continuity: w.continuity(),
	}
}

// continuity looks for signs of interruptions. Profiles are read when they are needed:
// most orders go without them.
func (w *workplace) continuity() *continuity.Examiner {
	return &continuity.Examiner{
		Journal: w.journal, Zone: w.cfg.Station.Timezone,
		Profiles: sync.OnceValues(func() (profile.Set, error) { return loadProfiles(w.cfg) }),
	}
}

// atDesk has an order of a person carried out, beside a daemon or without one. Where
// the order needs no store, one that is away is told to it instead.
func (a *app) atDesk(ctx context.Context, credentials string, needsStore bool, order func(ctx context.Context, w *workplace, d *custody.Desk, away error) error) (err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	w.credentials = credentials
	administrators, err := administratorsOf(w.cfg)
	if err != nil {
		return err
	}
	log := newLogger(a.err, w.cfg.Log)
	emit := func(e ingest.Event) {
		if e.Level > ingest.Info && !a.quiet {
			logEvent(log, e)
		}
	}
	if err := w.openEvidence(ctx, emit); err != nil {
		return err
	}
	away := w.openVault(ctx, a.err)
	if away != nil && (needsStore || ctx.Err() != nil) {
		return away
	}
	ctx, release := w.whileStored(ctx)
	defer release()
	d := w.desk(w.station(emit))
	d.Administrators, d.TwoPersons = administrators, w.cfg.Custody.TwoPersons
	d.Person, d.Actor = person(), actor()
	stop := a.countProgress(d)
	defer stop()
	err = order(ctx, w, d, away)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = errors.Join(err, cause) // the embedded store has ended
	}
	return err
}

// person is who gives an order, as custody.administrators names him: by the uid, for
// root by that which sudo tells. Root can be whom he likes, on this machine.
func person() string {
	if uid := os.Getenv("SUDO_UID"); uid != "" && os.Getuid() == 0 {
		return "uid " + uid
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// administratorsOf gives those of the settings as person names them.
func administratorsOf(cfg *configs.Config) (all []string, err error) {
	for i, name := range cfg.Custody.Administrators {
		uid := name
		if _, err := strconv.ParseUint(name, 10, 32); err != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return nil, exitError{exitConfig, fmt.Errorf("custody.administrators[%d]: %q is no uid, and no user of this machine: %w", i, name, err)}
			}
			uid = u.Uid
		}
		all = append(all, "uid "+uid)
	}
	return all, nil
}

// countProgress shows on a terminal how far a desk is, until stop is called.
func (a *app) countProgress(d *custody.Desk) (stop func()) {
	f, ok := a.err.(*os.File)
	if a.quiet || a.noProgress || !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	shown := false
	d.Progress = func(done, total int) {
		shown = true
		fmt.Fprintf(a.err, "\r%d/%d", done, total)
	}
	return func() {
		if shown {
			fmt.Fprint(a.err, "\r\x1b[K")
		}
	}
}
