// Package board is what officers see: a page for a screen at the dock that answers,
// for every slot, whether the recorder may be taken.
//
// It stands behind the station, as the log does: it reads the station's slots and
// changes nothing. The page is rendered here and kept up to date by one stream of
// server-sent events. Its promise: only a slot that the station calls safe is green
// with a tick, and a page that hears nothing for five seconds covers itself, since an
// old "safe" is worse than none. Whoever can reach it sees slots, ids and numbers, no
// file names, no cases and no footage (第十二条); so it is for the station's own
// screen, without a login.
package board

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
)

const (
	// tickEvery is how often the page hears from us at least; it covers itself after
	// five times as long.
	tickEvery = time.Second
	// settle joins changes that come at once.
	settle = 30 * time.Millisecond
	// roomEvery is how often the room in the store is asked for.
	roomEvery = time.Minute
	// tilesMost bounds what is drawn. A drop folder can hold any number of cards.
	tilesMost = 64
)

// Station is what the board reads.
type Station interface {
	Slots() []ingest.SlotView
	SlotsChanged() <-chan struct{}
	Room(context.Context) (ingest.Room, error)
}

// Options are how the board looks and who may ask for it.
type Options struct {
	Name     string // of the station; may be empty
	Location *time.Location
	Language string // Chinese or English, until a viewer chooses; empty: Chinese
	Columns  int    // 0: as many as look best
	Phone    string // of the administrator; may be empty
	// AllowedHosts are names in the Host header besides those of loopback.
	AllowedHosts []string
	// StationClock asks for the state of the station's clock; nil: the kernel.
	StationClock func() device.StationClock
	// Demo marks every page as one.
	Demo bool
	// Trouble is called when the room in the store can't be told; it may be nil.
	Trouble func(error)
}

// Board serves the page. It is safe for concurrent use.
type Board struct {
	options Options
	station Station
	boot    string // changes with every start, so that open pages load themselves anew

	mu      sync.Mutex
	feeds   map[string]*feed // by language; guarded by mu
	viewers int              // guarded by mu
	room    ingest.Room      // guarded by mu
}

// New makes a board. Without Run its pages stay covered.
func New(station Station, o Options) *Board {
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Language != English {
		o.Language = Chinese
	}
	if o.StationClock == nil {
		o.StationClock = device.ReadStationClock
	}
	b := &Board{options: o, station: station, boot: crand.Text(), feeds: map[string]*feed{}}
	for _, lang := range languages {
		b.feeds[lang] = newFeed(lang, o)
	}
	return b
}

// Run tells the pages what changes, until ctx ends. With an error it has ended before,
// and the pages cover themselves.
func (b *Board) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	asking.Go(func() { b.watchRoom(ctx) })
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		changed := b.station.SlotsChanged()
		if err := b.publish(); err != nil {
			return err
		}
		tick.Reset(untilTick(time.Now()))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		case <-changed:
			select {
			case <-time.After(settle):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// untilTick ends at a full second, so that the clock on the page does not skip one.
func untilTick(now time.Time) time.Duration {
	return now.Truncate(tickEvery).Add(tickEvery).Sub(now)
}

// watchRoom asks beside the ticks: a file system that hangs must not stop them.
func (b *Board) watchRoom(ctx context.Context) {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for {
		room, err := b.station.Room(ctx)
		if err != nil && ctx.Err() == nil && b.options.Trouble != nil {
			b.options.Trouble(err)
		}
		b.mu.Lock()
		b.room = room
		b.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// publish draws what is, and sends each page what is new to it. A fault in here must
// not take the daemon with it, which takes footage in.
func (b *Board) publish() (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("draw the board: %v: this is a fault of the program", fault)
		}
	}()
	views, clock := b.station.Slots(), b.options.StationClock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.feeds {
		f.publish(f.draw(views, clock, b.room, time.Now()), b.boot)
	}
	return nil
}

// Serve answers on l until ctx ends.
func (b *Board) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: b.Handler(), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: writeWithin, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		// A stream ends with us, not with its viewer.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var runErr error
	running.Go(func() {
		runErr = b.Run(ctx)
		cancel()
	})
	running.Go(func() {
		<-ctx.Done()
		_ = server.Close() // whoever looks on is to see that it has stopped
	})
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	cancel()
	running.Wait()
	return errors.Join(runErr, err)
}
