package usb

import (
	"context"
	"fmt"
)

// NextPlugged waits for a device in a port that is not known yet, and returns it:
// so a station learns which of its sockets has which port, a recorder being
// plugged into one after the other. Hubs don't count. What is plugged in already
// counts unless its port is known; start with the ports of a Scan to leave it out.
//
// sys and dev are as in Watcher. The error is the context's, with what hindered
// seeing devices if anything did.
func NextPlugged(ctx context.Context, sys, dev string, known map[string]bool) (Device, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	found := make(chan Device, 1)
	var trouble error // owned by Run until it has returned
	w := Watcher{
		Sys: sys, Dev: dev, All: true,
		Docked: func(_ context.Context, p *Plug) {
			if known[p.port] {
				return
			}
			select {
			case found <- p.Device():
				stop()
			default: // another one was first
			}
		},
		Trouble: func(err error) { trouble = err },
	}
	if err := w.Run(watching); err != nil {
		return Device{}, err
	}
	select {
	case d := <-found:
		return d, nil
	default:
	}
	if trouble != nil {
		return Device{}, fmt.Errorf("wait for a device: %w (%w)", ctx.Err(), trouble)
	}
	return Device{}, fmt.Errorf("wait for a device: %w", ctx.Err())
}
