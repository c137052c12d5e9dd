package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/board"
)

// boardAgain is after how long a board that could not be served is tried again.
const boardAgain = 15 * time.Second

// serveBoard shows the slots until ctx ends. That it can't is told, and is no reason not
// to take footage in.
func (w *workplace) serveBoard(ctx context.Context, station *ingest.Station, emit func(ingest.Event)) {
	c := w.cfg.Board
	page := board.New(station, board.Options{
		Name: w.cfg.Station.Name, Location: w.cfg.Station.Timezone, Language: string(c.Language),
		Columns: c.Columns, Phone: c.Phone, AllowedHosts: c.AllowedHosts, Demo: w.rack != nil,
		Trouble: func(err error) {
			emit(ingest.Event{Name: "board.trouble", Level: ingest.Warn, Err: err, Message: "the board does not tell how much room is left"})
		},
	})
	for told := false; ; {
		l, err := net.Listen("tcp", c.Listen)
		if err == nil {
			emit(ingest.Event{Name: "board.ready", Message: fmt.Sprintf("http://%s/", l.Addr())})
			told = false
			err = page.Serve(ctx, l)
		}
		if ctx.Err() != nil {
			return
		}
		if !told {
			told = true
			emit(ingest.Event{Name: "board.failed", Level: ingest.Alarm, Err: err,
				Message: "officers see no board (board.listen); recorders are taken in all the same, and it is tried again"})
		}
		select {
		case <-time.After(boardAgain):
		case <-ctx.Done():
			return
		}
	}
}

// slotNames are the slots of the settings in their order, which is that of the dock.
func slotNames(c *configs.Config) []string {
	var names []string
	if c.USB.Watch != configs.WatchOff {
		for _, s := range c.USB.Slots {
			names = append(names, s.Name)
		}
	}
	for _, s := range c.Sources {
		if s.Slot != "" {
			names = append(names, s.Slot)
		}
	}
	return names
}
