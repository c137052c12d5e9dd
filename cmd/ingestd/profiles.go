package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/device/usb"
)

const sysfs = "/sys"

func (a *app) recordersProfilesCmd() *cobra.Command {
	return &cobra.Command{
		Use: "profiles", Short: "List the makes of recorders that are known", Args: cobra.NoArgs, Annotations: isList,
		RunE: func(*cobra.Command, []string) error { return a.recordersProfiles() },
	}
}

// profileJSON is a profile for machines.
type profileJSON struct {
	Name       string   `json:"name"`
	TitleEn    string   `json:"title_en"`
	TitleZh    string   `json:"title_zh"`
	TestedWith string   `json:"tested_with"`
	Access     string   `json:"access"`
	Signs      []string `json:"signs"`
	ClockRead  string   `json:"clock_read"`
	ClockSet   string   `json:"clock_set"`
	Battery    string   `json:"battery"`
	Commands   bool     `json:"commands"`
	File       string   `json:"file"`
}

func (a *app) recordersProfiles() error {
	cfg, err := configs.Load(a.configFile)
	if err != nil {
		return err
	}
	set, err := loadProfiles(cfg)
	if err != nil {
		return err
	}
	items := []profileJSON{}
	for _, p := range set {
		items = append(items, profileJSON{
			Name: p.Name, TitleEn: p.Title.En, TitleZh: p.Title.Zh, TestedWith: p.TestedWith, Access: string(p.Access),
			Signs: p.Match.Signs(), ClockRead: string(p.Clock.Read), ClockSet: string(p.Clock.Set),
			Battery: string(p.Battery), Commands: p.Commands != nil, File: p.File,
		})
	}
	var rows [][]any
	for _, p := range set {
		rows = append(rows, []any{
			p.Name, p.Title.Zh, p.Access, strings.Join(p.Match.Signs(), ", "), p.Clock.Read, p.Clock.Set, p.TestedWith,
		})
	}
	return printList(a, "ingestd.profiles/1", items, "", []string{"PROFILE", "TITLE", "ACCESS", "KNOWN BY", "CLOCK READ", "SET", "TESTED WITH"}, rows)
}

func (a *app) recordersTestCmd() *cobra.Command {
	var label string
	cmd := &cobra.Command{
		Use: "test DIR|usb|usb:PORT", Short: "Show which profile a card or a recorder fits, and what it reads there",
		Long: `Show which profile a mounted card (DIR) or what is plugged in (usb, or usb:PORT for
one port) fits, and what would be read from it. Nothing is written, no file but the
small identity files is opened; with usb, nothing is opened at all: it shows what
sysfs tells. A folder with the name usb is ./usb.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := configs.Load(a.configFile)
			if err != nil {
				return err
			}
			set, err := loadProfiles(cfg)
			if err != nil {
				return err
			}
			if port, isPort := strings.CutPrefix(args[0], "usb:"); isPort || args[0] == "usb" {
				return a.testUSB(set, sysfs, strings.TrimPrefix(port, "usb"))
			}
			return a.testCard(cmd.Context(), cfg, set, args[0], label)
		},
	}
	cmd.Flags().StringVar(&label, "label", "", "the card's volume `LABEL`, which a folder does not tell")
	return cmd
}

// cardJSON is what a profile makes of a card, for machines. What is not known is
// null.
type cardJSON struct {
	Schema     string      `json:"schema"`
	Dir        string      `json:"dir"`
	Profile    *string     `json:"profile"`
	Fallback   bool        `json:"fallback"`
	Candidates []string    `json:"candidates"`
	TestedWith string      `json:"tested_with,omitempty"`
	Serial     device.Fact `json:"serial"`
	Officer    device.Fact `json:"officer"`
	Model      device.Fact `json:"model"`
	Found      *foundJSON  `json:"found"`
}

type foundJSON struct {
	Files      int        `json:"files"`
	Bytes      int64      `json:"bytes"`
	Footage    int        `json:"footage"`
	Marked     int        `json:"marked"`
	GPS        int        `json:"gps"`
	Named      int        `json:"named"`
	Unreadable int        `json:"unreadable"`
	First      *time.Time `json:"first"`
	Last       *time.Time `json:"last"`
	Serials    []string   `json:"serials_in_names"`
	Officers   []string   `json:"officers_in_names"`
}

func (a *app) testCard(ctx context.Context, cfg *configs.Config, set profile.Set, dir, label string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("test card %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	volumes := []profile.Volume{{Label: label, FS: root.FS()}}
	j := cardJSON{Schema: "ingestd.recorder-test/1", Dir: dir, Candidates: names(set.CandidatesVolumes(volumes))}
	p, found := set.ForVolumes(volumes, cfg.Recorders.Unregistered == configs.UnregisteredIngest)
	if found {
		j.Profile, j.Fallback, j.TestedWith = &p.Name, p.Match.Any, p.TestedWith
		j.Serial, j.Officer, j.Model = p.Identify(profile.Evidence{Volumes: volumes})
		if j.Found, err = survey(ctx, p, root.FS(), cfg.Station.Timezone); err != nil {
			return fmt.Errorf("test card %s: %w", dir, err)
		}
	}
	if a.output == "json" {
		err = printJSON(a.out, j)
	} else {
		a.printCard(j)
	}
	switch {
	case err != nil:
		return err
	case !found && len(j.Candidates) > 1:
		return exitError{exitFindings, fmt.Errorf("%d profiles fit %s equally well, so none is used: %s", len(j.Candidates), dir, strings.Join(j.Candidates, ", "))}
	case !found:
		return exitError{exitFindings, fmt.Errorf("no profile fits %s", dir)}
	}
	return nil
}

func survey(ctx context.Context, p *profile.Profile, card fs.FS, loc *time.Location) (*foundJSON, error) {
	s, err := p.Survey(ctx, card, loc)
	if err != nil {
		return nil, err
	}
	return &foundJSON{
		Files: s.Files, Bytes: s.Bytes, Footage: s.Footage, Marked: s.Marked, GPS: s.GPS, Named: s.Named, Unreadable: s.Unreadable,
		First: known(s.First, loc), Last: known(s.Last, loc), Serials: s.Serials, Officers: s.Officers,
	}, nil
}

func (a *app) printCard(j cardJSON) {
	lines := [][2]string{{"profile", "未知 unknown: none fits"}}
	switch {
	case j.Profile == nil && len(j.Candidates) > 1:
		lines[0][1] = "未知 unknown: several fit equally well: " + strings.Join(j.Candidates, ", ")
	case j.Profile != nil:
		lines[0][1] = *j.Profile
		if j.Fallback {
			lines[0][1] += "  (no other fits)"
		}
		lines = append(lines, [2]string{"tested with", j.TestedWith})
	}
	lines = append(lines, [2]string{"recorder", fact(j.Serial)}, [2]string{"officer", fact(j.Officer)}, [2]string{"model", fact(j.Model)})
	if f := j.Found; f != nil {
		lines = append(lines,
			[2]string{"files", fmt.Sprintf("%d (%s); all of them are copied", f.Files, size(f.Bytes))},
			[2]string{"footage", fmt.Sprintf("%d, of which %d marked 重点", f.Footage, f.Marked)},
			[2]string{"GPS tracks", fmt.Sprint(f.GPS)},
			[2]string{"names", fmt.Sprintf("%d of %d have the profile's form", f.Named, f.Footage)},
			[2]string{"unreadable", fmt.Sprint(f.Unreadable)},
		)
		if f.First != nil && f.Last != nil {
			const layout = "2006-01-02 15:04:05"
			lines = append(lines, [2]string{"times", f.First.Format(layout) + " to " + f.Last.Format(layout) + ", by the recorder's clock"})
		}
		if len(f.Serials)+len(f.Officers) > 0 {
			lines = append(lines, [2]string{"in names", strings.Join(append(append([]string{}, f.Serials...), f.Officers...), ", ")})
		}
	}
	for _, line := range lines {
		fmt.Fprintf(a.out, "%-13s %s\n", line[0], tame(line[1]))
	}
}

func names(profiles []*profile.Profile) []string {
	all := []string{}
	for _, p := range profiles {
		all = append(all, p.Name)
	}
	return all
}

// pluggedJSON is a USB device for machines.
type pluggedJSON struct {
	Port         string   `json:"port"`
	ID           string   `json:"id"`
	Manufacturer string   `json:"manufacturer"`
	Product      string   `json:"product"`
	Serial       string   `json:"serial"`
	Interfaces   []string `json:"interfaces"`
	Disks        []string `json:"disks"`
	Profile      *string  `json:"profile"`
	Candidates   []string `json:"candidates"`
	// Decides says what finds the profile when it is not this look at the bus.
	Decides string `json:"decides,omitempty"`
}

// testUSB shows what is plugged in, or what is in one port, by what sysfs tells.
func (a *app) testUSB(set profile.Set, sys, port string) error {
	devices, err := usb.Scan(sys)
	if errors.Is(err, fs.ErrNotExist) {
		return exitError{exitNotFound, fmt.Errorf("this machine shows no USB at all: %w", err)}
	} else if err != nil {
		return err
	}
	items := []pluggedJSON{}
	for _, d := range devices {
		if (port == "" && d.Class != usb.ClassHub) || d.Port == port {
			items = append(items, plugged(set, d))
		}
	}
	if port != "" && len(items) == 0 {
		return exitError{exitNotFound, fmt.Errorf("nothing is in port %s; `ingestd recorders test usb` lists what is plugged in", port)}
	}
	var rows [][]any
	for _, i := range items {
		found := orDash(i.Decides)
		if i.Profile != nil {
			found = *i.Profile
		}
		name := strings.TrimSpace(i.Manufacturer + " " + i.Product)
		rows = append(rows, []any{i.Port, i.ID, orDash(shown(name)), orDash(shown(i.Serial)), strings.Join(i.Interfaces, " "), orDash(strings.Join(i.Disks, " ")), found})
	}
	return printList(a, "ingestd.usb-test/1", items, "", []string{"PORT", "ID", "NAME", "SERIAL", "INTERFACES", "DISKS", "PROFILE"}, rows)
}

func plugged(set profile.Set, d usb.Device) pluggedJSON {
	j := pluggedJSON{
		Port: d.Port, ID: fmt.Sprintf("%04x:%04x", d.Vendor, d.Product), Manufacturer: d.Manufacturer, Product: d.ProductName,
		Serial: d.Serial, Interfaces: []string{}, Disks: []string{}, Candidates: names(set.CandidatesUSB(d)),
	}
	isDisk := false
	for _, i := range d.Interfaces {
		j.Interfaces = append(j.Interfaces, fmt.Sprintf("%02x/%02x/%02x", i.Class, i.SubClass, i.Protocol))
		isDisk = isDisk || i.Class == usb.ClassMassStorage
	}
	for _, disk := range d.Disks {
		j.Disks = append(j.Disks, disk.Name)
	}
	p, found := set.ForUSB(d)
	switch {
	case found:
		j.Profile = &p.Name
	case len(j.Candidates) > 1:
		j.Decides = "several fit equally well: " + strings.Join(j.Candidates, ", ")
	case isDisk:
		j.Decides = "its card decides: mount it read-only and test the folder"
	default:
		j.Decides = "none: not a recorder"
	}
	return j
}
