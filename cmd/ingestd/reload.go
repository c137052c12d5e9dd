package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device/dock"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/console"
	"github.com/bodyworn/ingestd/ingest/metrics"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// liveSettings are those that a running daemon takes over, for recorders that are
// docked from then on. A name that ends in a dot is a whole section. The others say
// what the station is, where it keeps footage and what it watches: for them it is
// started again.
var liveSettings = []string{
	"clock.", "custody.administrators", "custody.two_persons", "ingest.identical", "ingest.stall_after", "ingest.verify", "log.level", "preuse.", "recorders.unregistered", "retention.policy", "scrub.",
}

// running is a daemon at work, whose settings can change.
type running struct {
	*app
	workplace  *workplace
	station    *ingest.Station
	now        *configs.Config // what is in force; owned by the goroutine of reloadOnHangUp
	metrics    *metrics.Metrics
	attention  ingest.Attention
	console    atomic.Pointer[console.Console] // nil: there is none
	log        atomic.Pointer[zerolog.Logger]
	known      atomic.Pointer[dock.Config]
	retention  atomic.Pointer[configs.Retention]
	reloaded   chan struct{}   // holds one at most: settings were loaded again
	asked      chan chan error // who asks for a reload, and is told how it went
	twoPersons atomic.Bool     // custody.two_persons in force
	resting    *time.Timer     // until rest
}

func (r *running) emit(e ingest.Event) {
	logEvent(*r.log.Load(), e)
	r.metrics.Observe(e)
	r.attention.Observe(e)
	r.workplace.service.see(e)
	switch e.Name {
	case "daemon.ready", "ingest.finished", "ingest.failed":
		r.resting.Reset(restAfter)
	}
}

// reloadOnHangUp loads the settings again at each SIGHUP. The stop that it returns
// waits for one that is on its way.
func (r *running) reloadOnHangUp(ctx context.Context) (stop func()) {
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			select {
			case <-hangUp:
				_ = r.reload(ctx) // it has told
			case asks := <-r.asked:
				asks <- r.reload(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		signal.Stop(hangUp)
		cancel()
		ended.Wait()
	}
}

// reloadNow is what a SIGHUP does, for whoever wants to know how it went.
func (r *running) reloadNow(ctx context.Context) error {
	went := make(chan error, 1)
	select {
	case r.asked <- went:
		return <-went
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reload puts the settings of the file in force, as a whole or not at all. The error has
// been told.
func (r *running) reload(ctx context.Context) error {
	refuse := func(err error) error {
		r.emit(ingest.Event{Name: "config.refused", Level: ingest.Alarm, Err: err, Message: "the settings were not taken over; those from before stay in force"})
		return err
	}
	cfg, err := configs.Load(r.configFile)
	if err != nil {
		return refuse(errors.Join(err, r.station.RecordRefusal(ctx, settingsRefused(err))))
	}
	taken, restart := changes(r.now, cfg)
	// Only what may change does: the rest of what runs was made of the old settings.
	next := *r.now
	next.Clock, next.PreUse, next.Scrub = cfg.Clock, cfg.PreUse, cfg.Scrub
	next.Ingest.Identical, next.Ingest.StallAfter, next.Ingest.Verify = cfg.Ingest.Identical, cfg.Ingest.StallAfter, cfg.Ingest.Verify
	next.Log.Level, next.Recorders.Unregistered = cfg.Log.Level, cfg.Recorders.Unregistered
	next.Custody.Administrators, next.Custody.TwoPersons = cfg.Custody.Administrators, cfg.Custody.TwoPersons
	months := next.Retention.Months
	next.Retention = cfg.Retention // with the rules that its file held when it was loaded
	next.Retention.Months = months
	if len(taken)+len(restart) > 0 {
		if err := r.recordChange(ctx, &next, taken, restart); err != nil {
			return refuse(err)
		}
	}
	r.now = &next

	r.log.Store(new(newLogger(r.err, next.Log)))
	r.station.Change(stationConfig(&next, nil))
	known := *r.known.Load()
	known.RefuseUnregistered = next.Recorders.Unregistered == configs.UnregisteredRefuse
	known.SetClocks = next.Clock.Set
	r.known.Store(&known)
	r.retention.Store(&next.Retention)
	r.twoPersons.Store(next.Custody.TwoPersons)
	select {
	case r.reloaded <- struct{}{}:
	default: // one is waiting there already
	}

	e := ingest.Event{Name: "config.reloaded", Message: "nothing has changed"}
	var words []string
	if len(taken) > 0 {
		words = append(words, "in force: "+wordsOfChanges(taken))
	}
	if len(restart) > 0 {
		e.Level = ingest.Warn
		words = append(words, "in force only after ingestd is started again: "+strings.Join(namesOf(restart), ", "))
	}
	if len(words) > 0 {
		e.Message = strings.Join(words, "; ")
	}
	r.emit(e)
	return nil
}

// recordChange tells the ledger what has changed, before it is in force.
func (r *running) recordChange(ctx context.Context, next *configs.Config, taken, restart []change) error {
	e := ledger.Entry{Event: "config.changed", Detail: settingsDetail(next)}
	if len(taken) > 0 {
		e.Detail["in_force"] = wordsOfChanges(taken)
	}
	if len(restart) > 0 {
		e.Detail["after_restart"] = wordsOfChanges(restart)
	}
	if err := r.station.Record(ctx, e); err != nil {
		return err
	}
	return r.workplace.journal.SetTold(ctx, settingsMatter, settingsMark(next))
}

// change is one setting that differs.
type change struct{ key, was, is string }

func (c change) String() string { return fmt.Sprintf("%s (%s, was %s)", c.key, c.is, c.was) }

func wordsOfChanges(all []change) string {
	var words []string
	for _, c := range all {
		words = append(words, c.String())
	}
	return strings.Join(words, ", ")
}

func namesOf(all []change) (names []string) {
	for _, c := range all {
		names = append(names, c.key)
	}
	return names
}

// changes tells what differs, by what it takes to put it in force.
func changes(from, to *configs.Config) (live, restart []change) {
	before, after := valuesOf(from), valuesOf(to)
	var keys []string
	for key := range after {
		keys = append(keys, key)
	}
	for key := range before {
		if _, still := after[key]; !still {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		was, is := before[key], after[key]
		if was == is {
			continue
		}
		setting, _, _ := strings.Cut(key, "[")
		isLive := slices.ContainsFunc(liveSettings, func(name string) bool {
			return setting == name || strings.HasSuffix(name, ".") && strings.HasPrefix(key, name)
		})
		if isLive {
			live = append(live, change{key, was, is})
		} else {
			restart = append(restart, change{key, was, is})
		}
	}
	return live, restart
}

func valuesOf(c *configs.Config) map[string]string {
	values := map[string]string{}
	for _, s := range c.Effective() {
		values[s.Key] = shownValue(c, s)
	}
	return values
}
