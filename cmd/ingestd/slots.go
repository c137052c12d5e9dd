package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device/usb"
)

func (a *app) slotsCmd() *cobra.Command {
	var count int
	learn := &cobra.Command{
		Use:   "learn",
		Short: "Find out which socket has which port, by plugging a recorder into one after the other",
		Long: `learn waits for something to be plugged into a USB socket, again and again, and
tells the port of each: plug one recorder into the sockets of slot 1, 2, 3 … in
turn. After --count slots, or Ctrl-C, it writes the list for usb.slots to standard
output. Nothing that is plugged in is opened.

A socket for USB 3 has two ports, one of which older devices use: learn it with the
kind of recorder that is used, or give both ports with one name each.`,
		Example: "  ingestd slots learn --count 8 > slots.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.slotsLearn(cmd.Context(), count) },
	}
	learn.Flags().IntVar(&count, "count", 0, "`NUMBER` of slots; 0: until Ctrl-C")
	return group("slots", "The slots (槽位): which USB socket is which", learn, &cobra.Command{
		Use: "list", Short: "List the slots and what is plugged in, without opening it", Args: cobra.NoArgs, Annotations: isList,
		RunE: func(*cobra.Command, []string) error { return a.slotsList() },
	})
}

func (a *app) slotsLearn(ctx context.Context, count int) error {
	if count < 0 {
		return usage(fmt.Errorf("--count %d: must not be negative", count))
	}
	known := map[string]bool{}
	there, err := usb.Scan("/sys")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range there {
		known[d.Port] = true
	}
	if len(there) > 0 {
		fmt.Fprintf(a.err, "%d USB devices are plugged in already and do not count; unplug a recorder to plug it in again.\n", len(there))
	}
	var learned []usb.Device
	for n := 1; count == 0 || n <= count; n++ {
		fmt.Fprintf(a.err, "槽位 %d：请插入一台记录仪 · slot %d: plug in a recorder (Ctrl-C ends)\n", n, n)
		d, err := usb.NextPlugged(ctx, "", "", known)
		if err != nil && ctx.Err() != nil && len(learned) > 0 && count == 0 {
			break // Ctrl-C is how the installer says that this was all
		}
		if err != nil {
			return err
		}
		known[d.Port] = true
		learned = append(learned, d)
		fmt.Fprintf(a.err, "  → %s  %s\n", d.Port, deviceWords(d))
	}
	fmt.Fprintln(a.out, "usb:\n  watch: slots\n  slots:")
	for i, d := range learned {
		fmt.Fprintf(a.out, "    - {name: %q, port: %s} # %s\n", fmt.Sprint(i+1), d.Port, deviceWords(d))
	}
	return nil
}

func deviceWords(d usb.Device) string {
	return tame(fmt.Sprintf("%04x:%04x %s %s", d.Vendor, d.Product, d.ProductName, d.Serial))
}

// slotJSON is one slot, or a device in a port that is none.
type slotJSON struct {
	Slot    string `json:"slot,omitempty"`
	Port    string `json:"port"`
	Device  string `json:"device,omitempty"`
	Serial  string `json:"usb_serial,omitempty"`
	Profile string `json:"profile,omitempty"`
	Disks   int    `json:"disks"`
}

func (a *app) slotsList() error {
	cfg, err := configs.Load(a.configFile)
	if err != nil {
		return err
	}
	profiles, err := loadProfiles(cfg)
	if err != nil {
		return err
	}
	found, err := usb.Scan("/sys")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err != nil && !a.quiet {
		fmt.Fprintln(a.err, "ingestd: this machine shows no USB at all")
	}
	items := []slotJSON{}
	byPort := map[string]int{}
	for _, s := range cfg.USB.Slots {
		byPort[s.Port] = len(items)
		items = append(items, slotJSON{Slot: s.Name, Port: s.Port})
	}
	for _, d := range found {
		if d.Class == usb.ClassHub {
			continue
		}
		n, ok := byPort[d.Port]
		if !ok {
			n = len(items)
			items = append(items, slotJSON{Port: d.Port})
		}
		items[n].Device, items[n].Serial, items[n].Disks = deviceWords(d), d.Serial, len(d.Disks)
		if p, ok := profiles.ForUSB(d); ok {
			items[n].Profile = p.Name
		}
	}
	var rows [][]any
	for _, i := range items {
		rows = append(rows, []any{orDash(i.Slot), i.Port, orDash(i.Device), orDash(i.Profile), i.Disks})
	}
	return printList(a, "ingestd.slots/1", items, "", []string{"SLOT", "PORT", "DEVICE", "PROFILE", "DISKS"}, rows, 5)
}
