package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator/rack"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// evening is what demo shows.
type evening struct {
	slots          int
	speed          float64
	faults         string
	seed           uint64
	board, console string // host:port
	dir            string // empty: one that is removed afterwards
}

// usualFaults give a board something of everything.
const usualFaults = "pull:3@40%,badcard:5,free:6,deleted:7,drift:8=-27h,battery:10=12,stranger:11"

const demoSettings = `station: {id: DEMO-01, name: 演示站}
state_dir: state
storage:
  embedded: {root: store}
retention: {months: 12, policy: retention.yaml}
board: {listen: %q, phone: "8012"}
admin: {listen: %q}
metrics: {listen: ""}
log: {level: warn}
`

const demoRetention = `version: 1
default: {months: 12, why: "演示：第十一条要求不少于六个月"}
rules:
  - {name: 全程记录, match: {tag: [查封扣押, 先行登记]}, months: 36, why: "演示：第八条第一款的环节"}
`

// demoDock runs a station of its own in a folder of its own, in which nothing is
// simulated but the recorders and the officers.
func (a *app) demoDock(ctx context.Context, o evening) (err error) {
	faults, err := rack.ParseFaults(o.faults)
	if err != nil {
		return usage(fmt.Errorf("--fault: %w", err))
	}
	r := &rack.Rack{Slots: o.slots, Faults: faults, Seed: o.seed, Speed: o.speed}
	if err := r.Check(); err != nil {
		return usage(err)
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "ingestd-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	}
	r.Dir = filepath.Join(o.dir, "recorders")
	if err := os.Mkdir(r.Dir, 0o700); err != nil {
		return fmt.Errorf("--dir must be a folder in which no demo was: %w", err)
	}
	a.configFile = filepath.Join(o.dir, "ingestd.yaml")
	settings := fmt.Sprintf(demoSettings, o.board, o.console)
	if err := errors.Join(os.WriteFile(a.configFile, []byte(settings), 0o600), os.WriteFile(filepath.Join(o.dir, "retention.yaml"), []byte(demoRetention), 0o600)); err != nil {
		return err
	}
	cfg, err := configs.Load(a.configFile)
	if err != nil {
		return err
	}
	r.Zone = cfg.Station.Timezone
	if err := a.demoPeople(ctx, r, o.console); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "board 大屏     http://%s/\nEverything lies in %s; Ctrl-C ends it.\n", o.board, o.dir)
	return a.serve(ctx, false, r)
}

// demoPeople puts the recorders into the register, and makes an account of each role.
func (a *app) demoPeople(ctx context.Context, r *rack.Rack, console string) error {
	for n := 1; n <= r.Slots; n++ {
		if serial, officer := r.Recorder(n); officer != "" {
			if err := a.recordersAdd(ctx, journal.Recorder{Serial: serial, Officer: officer, Unit: "二中队"}); err != nil {
				return err
			}
		}
	}
	password := strings.ToLower(rand.Text())[:16]
	_, officer := r.Recorder(1)
	for _, role := range accounts.Roles() {
		account := accounts.Account{Name: string(role), Role: role}
		if role == accounts.Officer {
			account.Officer = officer
		}
		if err := a.changeAccounts(ctx, account.Name, func(ctx context.Context, b *accounts.Book) error { return b.Add(ctx, account, password, actor()) }); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.err, "console 管理台 http://%s/  accounts: admin, auditor, itstaff, officer; password %s\n", console, password)
	return nil
}

// watchRack has the simulated recorders taken in.
func (w *workplace) watchRack(ctx context.Context, station *ingest.Station, emit func(ingest.Event)) error {
	w.rack.Docked = func(ctx context.Context, d device.Docking) { station.Attend(ctx, d) }
	w.rack.Gone = func(slot string) { emit(ingest.Event{Name: "slot.removed", Slot: slot, State: ingest.Empty}) }
	w.rack.Says = func(slot string) rack.Told {
		for _, v := range station.Slots() {
			if v.Name != slot || v.Further > 0 {
				continue
			}
			switch v.State {
			case ingest.Safe:
				return rack.MayTake
			case ingest.Failed, ingest.UnknownDevice, ingest.Conflict:
				return rack.Trouble
			}
		}
		return rack.Wait
	}
	return w.rack.Run(ctx)
}

// rackSlots names the slots of a simulated dock.
func rackSlots(r *rack.Rack) (names []string) {
	for n := range r.Slots {
		names = append(names, fmt.Sprint(n+1))
	}
	return names
}
