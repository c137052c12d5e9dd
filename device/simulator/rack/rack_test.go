package rack_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator/rack"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	faults, err := rack.ParseFaults("pull:3@40%, badcard:5,drift:8=-27h,battery:10=12,stranger:11,free:6,noclock:1,deleted:2")
	if err != nil || len(faults) != 8 {
		t.Fatalf("%v, %v", faults, err)
	}
	for i, want := range []rack.Fault{
		{Kind: rack.Pull, Slot: 3, At: 0.4}, {Kind: rack.BadCard, Slot: 5}, {Kind: rack.Drift, Slot: 8, Offset: -27 * time.Hour}, {Kind: rack.Battery, Slot: 10, Percent: 12},
	} {
		if faults[i] != want {
			t.Errorf("%+v, want %+v", faults[i], want)
		}
	}
	for _, wrong := range []string{"pull:3", "pull:3@140%", "fire:2", "badcard", "badcard:0", "drift:1=soon", "battery:1=101", "badcard:1,free:1", "badcard:1@2"} {
		if f, err := rack.ParseFaults(wrong); err == nil {
			t.Errorf("%s is taken for %v", wrong, f)
		}
	}
	for _, r := range []rack.Rack{{Slots: 0, Speed: 1}, {Slots: 1, Speed: 0}, {Slots: 2, Speed: 1, Faults: []rack.Fault{{Kind: rack.Free, Slot: 3}}}} {
		if err := r.Run(context.Background()); err == nil {
			t.Errorf("%+v runs", r)
		}
	}
}

// station reads all of what is docked.
type station struct {
	mu    sync.Mutex
	told  map[string]rack.Told     // guarded by mu
	seen  map[string][]string      // guarded by mu; how each docking in a slot ended
	clock map[string]time.Duration // guarded by mu
	ended chan struct{}
}

func (s *station) docked(ctx context.Context, d device.Docking) {
	how := s.takeIn(ctx, d)
	s.mu.Lock()
	s.seen[d.Slot] = append(s.seen[d.Slot], how)
	s.told[d.Slot] = map[string]rack.Told{"all": rack.MayTake, "removed": rack.Wait}[how]
	if how != "all" && how != "removed" {
		s.told[d.Slot] = rack.Trouble
	}
	s.mu.Unlock()
	select {
	case <-d.Removed:
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.told[d.Slot] = rack.Wait
	s.mu.Unlock()
	s.ended <- struct{}{}
}

func (s *station) takeIn(ctx context.Context, d device.Docking) (how string) {
	r, err := d.Open(ctx)
	if err != nil {
		if errors.Is(err, device.ErrUnregistered) {
			return "unregistered"
		}
		return err.Error()
	}
	defer r.Close()
	reading, err := r.Clock(ctx)
	if err != nil {
		return err.Error()
	}
	s.mu.Lock()
	if reading.Offset != nil {
		s.clock[d.Slot] = *reading.Offset
	}
	s.mu.Unlock()
	var files []device.Entry
	if err := r.Inventory(ctx, func(e device.Entry) error {
		if e.Kind == device.KindFile {
			files = append(files, e)
		}
		return e.Err
	}); err != nil {
		return err.Error()
	}
	how = "all"
	for _, e := range files {
		f, err := r.Open(ctx, e, 0)
		if err == nil {
			_, err = io.Copy(io.Discard, f)
			err = errors.Join(err, f.Close())
		}
		switch {
		case errors.Is(err, device.ErrRemoved):
			return "removed"
		case err != nil:
			how = "unreadable"
		}
	}
	return how
}

// What is said to go wrong at a slot does, and nothing elsewhere.
func TestAnEvening(t *testing.T) {
	t.Parallel()
	s := &station{told: map[string]rack.Told{}, seen: map[string][]string{}, clock: map[string]time.Duration{}, ended: make(chan struct{}, 100)}
	faults, err := rack.ParseFaults("pull:2@40%,badcard:3,stranger:4,drift:5=-27h,free:6")
	if err != nil {
		t.Fatal(err)
	}
	r := &rack.Rack{
		Slots: 6, Faults: faults, Seed: 7, Speed: 300, Zone: time.FixedZone("", 8*3600), Dir: t.TempDir(),
		Docked: s.docked, Gone: func(string) {},
		Says: func(slot string) rack.Told {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.told[slot]
		},
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	run := make(chan error, 1)
	go func() { run <- r.Run(ctx) }()
	enough := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, slot := range []string{"1", "2", "3", "4", "5"} {
			if len(s.seen[slot]) < 2 {
				return false
			}
		}
		return true
	}
	for !enough() {
		select {
		case <-s.ended:
		case err := <-run:
			t.Fatalf("it ended: %v", err)
		case <-time.After(time.Minute):
			t.Fatalf("nothing goes on any more: %v", s.seen)
		}
	}
	stop()
	if err := <-run; err != nil {
		t.Error(err)
	}
	for slot, want := range map[string]string{"1": "all all", "2": "removed all", "3": "unreadable unreadable", "4": "unregistered unregistered", "5": "all all", "6": ""} {
		if got := strings.Join(s.seen[slot], " "); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("slot %s: %s, want %s", slot, got, want)
		}
	}
	if off := s.clock["5"]; off > -26*time.Hour || off < -28*time.Hour {
		t.Errorf("the clock of slot 5 is off by %s", off)
	}
	if off := s.clock["1"].Abs(); off > time.Minute {
		t.Errorf("the clock of slot 1 is off by %s", off)
	}
}
