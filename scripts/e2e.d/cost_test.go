//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// quiet waits until the machine has had nothing to tell for a while: what was
// going to be done to a device has been done.
func (w *world) quiet(t testing.TB) {
	t.Helper()
	const enough = 3 * time.Second
	last, since := w.m.now(), time.Now()
	w.m.poll(t, "the machine to be quiet", func() bool {
		if now := w.m.now(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) >= enough
	})
}

// testIdle has twenty recorders docked, all of them taken in. A station waits like
// that all night, and nothing in it may poll. Whatever polls does so in each of the
// windows, so that the quietest is the one to judge by: the others have bursts of
// some wakes, of the runtime's collector and of the look at the bus every two
// minutes, and the longer the more the host is loaded.
func testIdle(t *testing.T, w *world) {
	d := w.run(t, "usb: {watch: all}\ningest: {parallel: 8}")
	const recorders, half = 20, 10
	for i := range recorders {
		serial := fmt.Sprintf("IDLE%03d", i)
		s := stick{Image: fatCard(t, w, layout{}, footage(serial, uint64(100+i), 1, 64<<10)), Serial: serial, Port: i + 1}
		if i >= half {
			s.Controller, s.Port = "more", i+1-half
		}
		w.m.plug(t, s)
	}
	d.reached(t, d.from, "ingest.finished", recorders)
	w.quiet(t)

	const windows, length = 6, 10 * time.Second
	before := d.counters(t)
	last := before
	var wakes []float64
	for range windows {
		var now wire.Counters
		w.m.poll(t, "a while to pass in the machine", func() bool {
			time.Sleep(time.Second)
			now = d.counters(t)
			return now.Up-last.Up >= length
		})
		wakes = append(wakes, float64(now.Switches-last.Switches)/(now.Up-last.Up).Seconds())
		last = now
	}
	up := (last.Up - before.Up).Seconds()
	busy := 100 * (last.CPU - before.CPU).Seconds() / up
	w.note("%d recorders docked and idle for %.0f s: %.2f wakes/s on average, %.2f at the quietest, %.2f %% CPU, %d threads, %d MiB",
		recorders, up, float64(last.Switches-before.Switches)/up, slices.Min(wakes), busy, last.Threads, last.ResidentKiB>>10)
	if slices.Min(wakes) > 1 {
		t.Errorf("%.2f wakes a second while nothing happens", wakes)
	}
	if busy > 1 {
		t.Errorf("%.2f %% CPU while nothing happens", busy)
	}
}

// testLeaks docks and undocks over and over, several recorders at once. What one
// docking took from the system is given back, or the station ends some night.
func testLeaks(t *testing.T, w *world) {
	const together, warm = 4, 2
	rounds := 15
	if w.long {
		rounds = 125
	}
	var images, serials []string
	for i := range together {
		serials = append(serials, fmt.Sprintf("LEAK%03d", i))
		images = append(images, w.bring(t, fatCard(t, w, layout{}, footage(serials[i], uint64(200+i), 1, 256<<10))))
	}
	d := w.run(t, "usb: {watch: all}")
	var before wire.Counters
	for round := range rounds {
		from := w.m.now()
		var in []*simulated
		for i, image := range images {
			in = append(in, w.m.attach(t, wire.Attach{Kind: "disk", Port: 3 + i, Serial: serials[i], Image: image}))
		}
		d.reached(t, from, "ingest.finished", together)
		for i, s := range in {
			if told := s.told(t); told.Writes > 0 {
				t.Fatalf("docking %d of %s: %d writes to the recorder", round, serials[i], told.Writes)
			}
			s.detach(t)
		}
		d.reached(t, from, "slot.removed", together)
		if round == warm {
			w.quiet(t)
			before = d.counters(t)
		}
	}
	w.quiet(t)
	after := d.counters(t)
	w.note("%d dockings: threads %d → %d, files %d → %d, mounts %d → %d, resident %d → %d MiB", rounds*together,
		before.Threads, after.Threads, before.Descriptors, after.Descriptors, before.Mounts, after.Mounts,
		before.ResidentKiB>>10, after.ResidentKiB>>10)
	for _, c := range []struct {
		what                string
		before, after, most int64
	}{
		{"threads", int64(before.Threads), int64(after.Threads), 6}, // the runtime makes one when all are in system calls
		{"open files", int64(before.Descriptors), int64(after.Descriptors), 6},
		{"mounts", int64(before.Mounts), int64(after.Mounts), 0},
		{"KiB of memory", before.ResidentKiB, after.ResidentKiB, 48 << 10},
	} {
		if c.after > c.before+c.most {
			t.Errorf("%d dockings took %d %s more", rounds*together, c.after-c.before, c.what)
		}
	}
}
