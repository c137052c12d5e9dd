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
	s := simulated{}
	cmd := &cobra.Command{
		Use:   "demo --usb",
		Short: "Plug a simulated recorder into this machine's kernel",
		Long: `demo --usb makes a recorder in software and plugs it into a virtual USB socket of
this machine's own kernel, where everything that watches USB sees it. It has clips
that play, a clock that is wrong and a battery, and is read over PTP. Ctrl-C pulls
it out again. A daemon in which usb.watch is all takes it in.

Needs root and the kernel's module vhci_hcd (modprobe vhci-hcd). The main job
without USB is shown by scripts/demo.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !onUSB {
				return usage(errors.New("demo knows --usb; the main job without USB is shown by scripts/demo"))
			}
			return a.demoUSB(cmd.Context(), s)
		},
	}
	cmd.Flags().BoolVar(&onUSB, "usb", false, "plug a simulated recorder in")
	cmd.Flags().DurationVar(&s.fast, "fast", 192*time.Second, "how much its clock is `AHEAD`; negative: behind")
	cmd.Flags().Uint8Var(&s.battery, "battery", 61, "`PERCENT` of its battery")
	cmd.Flags().StringVar(&s.serial, "serial", "DEMO0001", "its serial `NUMBER`")
	cmd.Flags().IntVar(&s.clips, "clips", 2, "`NUMBER` of clips on it")
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
