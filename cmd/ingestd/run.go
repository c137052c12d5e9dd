package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/device/simulator/rack"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

func (a *app) runCmd() *cobra.Command {
	var checkOnly bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "The daemon: take in every recorder that is docked",
		Long: `run watches the sources of the settings, takes in every recorder that appears,
several at once, and logs one line for each change of state. SIGTERM ends it
cleanly: sessions that are cut off stay open and are resumed. SIGHUP loads the
settings again: see config.reloaded and config.refused in the log.

With --check-only it checks settings, store and lock, looks at the bucket's settings
once, and exits: 0 also with warnings, 3 where footage is in danger there; see
ingestd doctor.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), checkOnly, nil) },
	}
	cmd.Flags().BoolVar(&checkOnly, "check-only", false, "check that it could run, then exit")
	return cmd
}

// serve is the daemon. With a rack it is that of the demo, and takes in what is docked
// there.
func (a *app) serve(ctx context.Context, checkOnly bool, simulated *rack.Rack) (err error) {
	ready, told := checkOnly, ctx
	defer func() {
		// Whoever stops a daemon that has not started yet did not find it failing.
		if err != nil && !ready && errors.Is(context.Cause(told), context.Canceled) {
			fmt.Fprintln(a.err, "ingestd: told to stop while it started:", tame(err.Error()))
			err = nil
		}
	}()
	service := newSupervised()
	started := service.starting()
	defer started()
	w, err := a.open(ctx, journal.Own, a.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ctx, release := w.whileStored(ctx)
	defer release()
	w.service, w.rack = service, simulated
	r := &running{app: a, workplace: w, now: w.cfg, reloaded: make(chan struct{}, 1), asked: make(chan chan error), metrics: newMetrics(w.cfg)}
	r.resting = time.AfterFunc(restAfter, rest)
	defer r.resting.Stop()
	r.retention.Store(&w.cfg.Retention)
	r.twoPersons.Store(w.cfg.Custody.TwoPersons)
	r.log.Store(new(newLogger(a.err, w.cfg.Log)))
	emit := r.emit
	emit(ingest.Event{Name: "daemon.start", Message: "ingestd " + version() + ", store " + w.vault.Describe()})
	if w.staging, err = openStaging(w.cfg); err != nil {
		return err
	}
	if err := w.openEvidence(ctx, emit); err != nil {
		return err
	}
	if !checkOnly {
		if err := w.takeSettings(ctx); err != nil {
			return err
		}
	}
	r.station = w.station(emit)
	if !checkOnly {
		defer r.serveMetrics(ctx)()
	}
	if err := r.station.Prepare(ctx); err != nil {
		if errors.Is(context.Cause(ctx), context.Canceled) {
			emit(ingest.Event{Name: "daemon.stop"})
		}
		return err
	}
	known, err := w.recordersOf(r.station)
	if err != nil {
		return err
	}
	r.known.Store(known)
	if checkOnly {
		return a.checkBucket(ctx, r.station)
	}
	if err := errNothingToWatch(w.cfg); err != nil && w.rack == nil {
		return err
	}
	defer r.reloadOnHangUp(ctx)()
	emit(ingest.Event{Name: "daemon.ready", Message: w.watchingWords()})
	started()
	service.ready()
	ready = true
	err = r.watch(ctx)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause // a supervisor starts us, and the store, again
	}
	emit(ingest.Event{Name: "daemon.stop", Err: err})
	return err
}

// watch takes in what appears in folders and slots until ctx ends. Where the one
// can't be watched at all the other ends too: a supervisor tries again.
func (r *running) watch(ctx context.Context) error {
	w, station, emit := r.workplace, r.station, r.emit
	all, ctx := errgroup.WithContext(ctx)
	if len(w.cfg.Sources) > 0 {
		all.Go(func() error { return w.watchFolders(ctx, station, emit) })
	}
	if w.cfg.USB.Watch != configs.WatchOff {
		all.Go(func() error { return w.watchUSB(ctx, station, r.known.Load, emit) })
	}
	if w.rack != nil {
		all.Go(func() error { return w.watchRack(ctx, station, emit) })
	}
	all.Go(func() error {
		w.service.watchdog(ctx, w.journal, station.Stuck, emit)
		return nil
	})
	all.Go(func() error {
		station.Scrub(ctx)
		return nil
	})
	all.Go(func() error {
		station.Drain(ctx)
		return nil
	})
	all.Go(func() error {
		station.KeepAuditing(ctx)
		return nil
	})
	all.Go(func() error {
		station.KeepStamping(ctx)
		return nil
	})
	all.Go(func() error {
		r.keepLengthening(ctx)
		return nil
	})
	all.Go(func() error {
		r.keepDisposing(ctx)
		return nil
	})
	if w.cfg.Board.Listen != "" {
		all.Go(func() error {
			w.serveBoard(ctx, station, emit)
			return nil
		})
	}
	if w.cfg.Admin.Listen != "" {
		all.Go(func() error {
			r.keepConsole(ctx)
			return nil
		})
	}
	return all.Wait()
}

func (w *workplace) watchFolders(ctx context.Context, station *ingest.Station, emit func(ingest.Event)) error {
	watcher := &folder.Watcher{
		Settle: w.cfg.Ingest.Settle,
		Asked:  w.service.asked(ctx, "the watcher of folders"),
		Docked: func(ctx context.Context, d device.Docking) { station.Attend(ctx, d) },
		Gone:   func(slot string) { emit(ingest.Event{Name: "slot.removed", Slot: slot, State: ingest.Empty}) },
		Trouble: func(err error) {
			emit(ingest.Event{Name: "source.trouble", Level: ingest.Alarm, Err: err, Message: "recorders there are not seen"})
		},
	}
	for _, s := range w.cfg.Sources {
		watcher.Sources = append(watcher.Sources, folder.Source{Path: s.Path, Kind: string(s.Kind), Slot: s.Slot})
	}
	return watcher.Run(ctx)
}
