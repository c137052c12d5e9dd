package main

import (
	"context"
	"fmt"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/configs/recorders"
	"github.com/bodyworn/ingestd/device/dock"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
	"github.com/bodyworn/ingestd/ingest"
)

// loadProfiles reads the built-in profiles and the station's own.
func loadProfiles(cfg *configs.Config) (profile.Set, error) {
	set, err := profile.Load(recorders.Profiles, cfg.Recorders.Profiles)
	if err != nil {
		return nil, exitError{exitConfig, err}
	}
	return set, nil
}

// recordersOf gathers what the station knows of recorders on the bus.
func (w *workplace) recordersOf(station *ingest.Station) (*dock.Config, error) {
	c := w.cfg
	profiles, err := loadProfiles(c)
	if err != nil {
		return nil, err
	}
	known := &dock.Config{
		Profiles: profiles, Zone: c.Station.Timezone, Refusals: w.journal,
		RefuseUnregistered: c.Recorders.Unregistered == configs.UnregisteredRefuse,
		SetClocks:          c.Clock.Set, MaySetClock: station.MaySetClock,
		Register: func(ctx context.Context, serial string) (string, bool, error) {
			all, err := w.journal.Recorders(ctx)
			for _, r := range all {
				if r.Serial == serial {
					return r.Profile, true, err
				}
			}
			return "", false, err
		},
	}
	if c.Recorders.PasswordsFile != "" {
		if known.Passwords, err = vendorcmd.ReadPasswords(c.Recorders.PasswordsFile); err != nil {
			return nil, exitError{exitConfig, err}
		}
	}
	return known, nil
}

// watchUSB takes in what is plugged into the slots until ctx ends.
func (w *workplace) watchUSB(ctx context.Context, station *ingest.Station, known func() *dock.Config, emit func(ingest.Event)) error {
	watcher := &usb.Watcher{
		All:    w.cfg.USB.Watch == configs.WatchAll,
		Asked:  w.service.asked(ctx, "the watcher of USB"),
		Docked: func(ctx context.Context, p *usb.Plug) { station.Attend(ctx, known().Docking(p)) },
		Gone:   func(slot string) { emit(ingest.Event{Name: "slot.removed", Slot: slot, State: ingest.Empty}) },
		Trouble: func(err error) {
			emit(ingest.Event{Name: "usb.trouble", Level: ingest.Alarm, Err: err, Message: "recorders on USB may not be seen"})
		},
	}
	for _, s := range w.cfg.USB.Slots {
		watcher.Slots = append(watcher.Slots, usb.Slot{Name: s.Name, Port: s.Port})
	}
	if err := usb.Available(); err != nil {
		emit(ingest.Event{Name: "usb.trouble", Level: ingest.Warn, Err: err, Message: "cards are read; recorders that are reached by PTP or commands are not"})
	}
	return watcher.Run(ctx)
}

// watchingWords tells what is watched.
func (w *workplace) watchingWords() string {
	c, words := w.cfg, ""
	if w.rack != nil {
		words = fmt.Sprintf(", %d simulated slots", w.rack.Slots)
	}
	for _, s := range c.Sources {
		words += ", " + s.Path
	}
	switch c.USB.Watch {
	case configs.WatchAll:
		words += ", every USB socket"
	case configs.WatchSlots:
		words += fmt.Sprintf(", %d USB slots", len(c.USB.Slots))
	}
	return "watching " + words[2:]
}

// errNothingToWatch is for a daemon that could never see a recorder.
func errNothingToWatch(c *configs.Config) error {
	if len(c.Sources) > 0 || c.USB.Watch != configs.WatchOff {
		return nil
	}
	return &configs.Error{File: c.File(), Problems: []configs.Problem{{Key: "sources",
		Text: "there is none and usb.watch is off, so no recorder could ever be seen: name one, or set usb.watch, see the comments in ingestd.yaml"}}}
}
