package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
	"github.com/bodyworn/ingestd/device/simulator/usbip"
)

// simulated is the recorder that demo plugs in.
type simulated struct {
	fast    time.Duration
	battery uint8
	serial  string
	clips   int
}

func (a *app) demoCmd() *cobra.Command {
	var onUSB bool
	s, o := simulated{}, evening{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a station with simulated recorders",
		Long: `demo runs a station in a folder of its own, with a dock of simulated recorders that
officers plug in and take: the board and the console show what they would, marked
演示 on every page. Recorders and officers are simulated; driver, store, locks, ledger
and pages are the real ones. Ctrl-C ends it and removes the folder, unless --dir
named one. It fills about 2 GB an hour.

Faults are KIND:SLOT, divided by commas: pull:3@40% (pulled when so much was read, and
put back), badcard:5, drift:8=-27h, noclock:4, battery:10=12 (percent), deleted:7
(one recording was deleted), stranger:11 (not registered), free:6 (nobody comes).

demo --usb plugs one simulated recorder into a virtual USB socket of this machine's own
kernel, where everything that watches USB sees it: a daemon in which usb.watch is all
takes it in. It has clips that play, a clock that is wrong and a battery, and is read
over PTP. Ctrl-C pulls it out again. Needs root and the kernel's module vhci_hcd
(modprobe vhci-hcd).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if onUSB {
				return a.demoUSB(cmd.Context(), s)
			}
			return a.demoDock(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.slots, "slots", 12, "`NUMBER` of slots of the dock")
	flags.Float64Var(&o.speed, "speed", 1, "how many `TIMES` faster all goes")
	flags.StringVar(&o.faults, "fault", usualFaults, "`LIST` of what goes wrong")
	flags.Uint64Var(&o.seed, "seed", 1, "`NUMBER` that varies who comes when, with what")
	flags.StringVar(&o.board, "board", "127.0.0.1:8790", "`HOST:PORT` of the board")
	flags.StringVar(&o.console, "console", "127.0.0.1:8443", "`HOST:PORT` of the console")
	flags.StringVar(&o.dir, "dir", "", "`FOLDER` to work in, and to keep")
	flags.BoolVar(&onUSB, "usb", false, "plug a simulated recorder into this machine's kernel instead")
	flags.DurationVar(&s.fast, "fast", 192*time.Second, "with --usb: how much its clock is `AHEAD`; negative: behind")
	flags.Uint8Var(&s.battery, "battery", 61, "with --usb: `PERCENT` of its battery")
	flags.StringVar(&s.serial, "serial", "DEMO0001", "with --usb: its serial `NUMBER`")
	flags.IntVar(&s.clips, "clips", 2, "with --usb: `NUMBER` of clips on it")
	return cmd
}

func (a *app) demoUSB(ctx context.Context, s simulated) (err error) {
	cfg, err := configs.Load(a.configFile)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ingestd-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	zone := cfg.Station.Timezone
	card := simulator.Card{Start: time.Now().Add(-time.Hour).Truncate(time.Second).In(zone), Clips: s.clips, ClipLength: 5 * time.Second, Recorder: s.serial}
	if _, err := card.Write(dir); err != nil {
		return err
	}
	objects, err := ptpgadget.FromFS(os.DirFS(dir), zone)
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	recorder := ptpgadget.New(ptpgadget.Recorder{
		USBSerial: s.serial, Serial: s.serial, Manufacturer: "ingestd", Model: "simulated recorder 模拟执法记录仪",
		Clock:   ptpgadget.Clock{Offset: s.fast, Zone: zone},
		Battery: ptpgadget.Battery{Level: s.battery, Max: 100},
		Stores:  []ptpgadget.Store{{Capacity: 32 << 30, Free: 8 << 30, Label: "SIMULATED", Objects: objects}},
	})
	if err := port.Plug(ctx, recorder); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "recorder %s is plugged in, its clock %s ahead, battery %d %%. Ctrl-C pulls it out.\n", s.serial, s.fast, s.battery)
	<-ctx.Done()
	if err := port.Unplug(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	counts := recorder.Counts()
	fmt.Fprintf(a.err, "pulled out; %d bytes were read, its clock was set %d times\n", counts.Data, len(counts.Set))
	return nil
}

func freePort() (*usbip.Port, error) {
	controller := usbip.Controller{}
	free, err := controller.Free()
	switch {
	case errors.Is(err, usbip.ErrNoPort):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("this kernel has no virtual USB sockets: %w: as root, modprobe vhci-hcd", err)
	}
	return usbip.NewPort(controller, free[0]), nil
}
