// Package rack is a dock full of simulated recorders, with officers who plug them in
// and take them when they are told to: the evening of a station, without a recorder or
// a socket. It stands before the flow and hands out what package dock would.
//
// Each recorder is one of ptpgadget, read over PTP by the driver of package ptp, so all
// that is behind the socket is the real thing. Nothing of the host's USB is touched.
package rack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device"
)

// Rack is the dock, and what goes on at it.
type Rack struct {
	// Slots is how many there are, named 1 to Slots.
	Slots int
	// Faults are what goes wrong, at most one to a slot.
	Faults []Fault
	// Seed varies who comes when, with what.
	Seed uint64
	// Speed is how much faster than usual all is; usual is a minute or so for a card.
	Speed float64
	// Zone is that of the recorders' clocks.
	Zone *time.Location
	// Dir is where the cards lie while they are read. It must exist.
	Dir string

	// Docked has a recorder taken in; it returns when the recorder is gone from the slot.
	Docked func(context.Context, device.Docking)
	// Gone tells that a slot is empty.
	Gone func(slot string)
	// Says is what the officer at a slot is told. He looks again and again.
	Says func(slot string) Told
}

// Told is what an officer reads on the board.
type Told int

// What he may read.
const (
	Wait    Told = iota // 请勿拔出
	MayTake             // 可以取下
	Trouble             // 找管理员
)

// Recorder tells serial number and officer of the recorder that belongs to slot n, from
// 1 on, for the register. One that nobody registered gives no officer.
func (r *Rack) Recorder(n int) (serial, officer string) {
	serial = fmt.Sprintf("DSJ-%04d", 400+n)
	if f, ok := r.fault(n); ok && f.Kind == Stranger {
		return serial, ""
	}
	return serial, fmt.Sprintf("1505%02d", n)
}

// Check tells what of Slots, Speed and Faults can't be.
func (r *Rack) Check() error {
	if r.Slots < 1 || r.Slots > 64 {
		return fmt.Errorf("%d slots: it must be 1 to 64", r.Slots)
	}
	if r.Speed <= 0 || r.Speed > 1000 {
		return fmt.Errorf("speed %g: it must be above 0, and no more than 1000", r.Speed)
	}
	for _, f := range r.Faults {
		if f.Slot > r.Slots {
			return fmt.Errorf("the fault %s:%d: the slots are 1 to %d", f.Kind, f.Slot, r.Slots)
		}
	}
	return nil
}

// Run lets the officers come and go until ctx ends.
func (r *Rack) Run(ctx context.Context) error {
	if err := r.Check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var officers sync.WaitGroup
	for n := 1; n <= r.Slots; n++ {
		officers.Go(func() {
			if err := r.evening(ctx, n); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("the simulated recorder of slot %d: %w", n, err))
			}
		})
	}
	officers.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (r *Rack) fault(n int) (Fault, bool) {
	for _, f := range r.Faults {
		if f.Slot == n {
			return f, true
		}
	}
	return Fault{}, false
}

// How long officers leave recorders and slots alone, at speed 1.
const (
	looksEvery   = 300 * time.Millisecond
	firstWithin  = 20 * time.Second // by when all have come
	leftSafe     = 90 * time.Second // at least; how long a recorder is left when it is safe
	leftTrouble  = 4 * time.Minute  // until the administrator has come
	slotEmpty    = 20 * time.Second // at least
	pulledBackIn = 15 * time.Second
)

// evening is what goes on at one slot. The slot of a free one stays so.
func (r *Rack) evening(ctx context.Context, n int) error {
	fault, _ := r.fault(n)
	if fault.Kind == Free {
		return nil
	}
	dice := rand.New(rand.NewPCG(r.Seed, uint64(n)*0x9e3779b97f4a7c15)) // PCG needs seeds that differ in more than a bit
	upTo := func(d time.Duration) time.Duration { return time.Duration(dice.Int64N(int64(d))) }
	if err := r.pause(ctx, upTo(firstWithin)); err != nil {
		return err
	}
	counted := firstNumber
	for shift := 0; ; shift++ {
		card := filepath.Join(r.Dir, fmt.Sprintf("slot-%d-%d", n, shift))
		recorder, err := r.newRecorder(n, shift, counted, card, dice, fault)
		if err == nil {
			counted += recorder.clips
			err = r.docking(ctx, fmt.Sprint(n), recorder, fault, upTo)
		}
		if err := errors.Join(err, os.RemoveAll(card)); err != nil {
			return err
		}
		if err := r.pause(ctx, slotEmpty+upTo(2*slotEmpty)); err != nil {
			return err
		}
	}
}

// docking is one recorder from when it is plugged in until it is taken: perhaps it is
// pulled and put back between.
func (r *Rack) docking(ctx context.Context, slot string, c *recorder, fault Fault, upTo func(time.Duration) time.Duration) error {
	plug := r.plug(ctx, slot, c)
	defer func() { plug.pull() }()
	for pulled := fault.Kind != Pull; ; {
		if err := r.pause(ctx, looksEvery); err != nil {
			return err
		}
		switch told := r.Says(slot); {
		case told == MayTake:
			return r.pause(ctx, leftSafe+upTo(2*leftSafe))
		case told == Trouble:
			return r.pause(ctx, leftTrouble)
		case !pulled && c.read() >= fault.At*c.bytes:
			pulled = true
			plug.pull()
			if err := r.pause(ctx, pulledBackIn); err != nil {
				return err
			}
			plug = r.plug(ctx, slot, c)
		}
	}
}

// pause is d at speed 1.
func (r *Rack) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(time.Duration(float64(d) / r.Speed)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
