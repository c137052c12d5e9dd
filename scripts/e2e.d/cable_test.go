//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// testYank pulls a recorder out in the middle of a file. It is told at once; when
// it comes back the file goes on where the store has it, and is there once.
func testYank(t *testing.T, w *world) {
	const part, size = 5 << 20, 40 << 20
	long := file{Path: "DATA/LONG.MP4", Seed: 50, Size: size}
	files := append(footage("YANK001", 50, 0, 0), long)
	image := fatCard(t, w, layout{Table: true}, files)
	before := imageSum(t, image)
	d := w.run(t, "usb: {watch: all}")

	from := w.m.now()
	p := w.m.plug(t, stick{Image: image, Serial: "YANK001", Port: 1, BytesASec: 4 << 20})
	started := d.waitFrom(t, from, "ingest.started", "")
	uploaded := func() int64 { return w.store.uploaded(t, started.Session, long.Path) }
	w.m.poll(t, "three parts of the file to be stored", func() bool { return uploaded() >= 3*part })
	p.unplug(t)
	early := d.waitFrom(t, from, "slot.removed_early", "")
	if early.Level != "error" {
		t.Errorf("nobody is told that it was taken too early: %+v", early)
	}
	d.neverSafe(t, "YANK001")
	stored := uploaded()

	from = w.m.now()
	p = w.m.plug(t, stick{Image: image, Serial: "YANK001", Port: 1})
	block := w.m.wait(t, from, "a disk", func(e wire.Event) bool { return e.Kind == wire.Block })
	resumed := d.waitFrom(t, from, "ingest.resumed", "")
	safe := d.safe(t, from, "")
	if safe.Session != resumed.Session || safe.Session != started.Session || safe.Session != early.Session {
		t.Errorf("one recording, but sessions %s, %s, %s, %s", started.Session, early.Session, resumed.Session, safe.Session)
	}
	read := w.counter(t, block.Name, 2) * 512
	// One part may have been on its way, and the kernel reads the tables and ahead.
	if most := size - (stored - part) + (4 << 20); read > most {
		t.Errorf("%d bytes were read again after %d were stored; %d would do", read, stored, most)
	}
	w.note("pulled after %d MiB were stored, then read %d of %d MiB", stored>>20, read>>20, size>>20)
	w.untouched(t)
	w.store.checkSession(t, safe.Session, "YANK001", files)
	if left := uploaded(); left != 0 {
		t.Errorf("%d bytes of uploads that nobody completes are left", left)
	}
	p.unplug(t)
	if imageSum(t, image) != before {
		t.Error("the card was changed")
	}
}

// testCrash ends the daemon with kill -9 in the middle of a file. Started again it
// finds the recorder where it was, and goes on.
func testCrash(t *testing.T, w *world) {
	long := file{Path: "DATA/LONG.MP4", Seed: 55, Size: 24 << 20}
	files := append(footage("CRASH01", 55, 1, 1<<20), long)
	image := fatCard(t, w, layout{Table: true}, files)
	before := imageSum(t, image)
	d := w.run(t, "usb: {watch: all}")
	from := w.m.now()
	p := w.m.plug(t, stick{Image: image, Serial: "CRASH01", Port: 1, BytesASec: 4 << 20})
	started := d.waitFrom(t, from, "ingest.started", "")
	w.m.poll(t, "a part of the file to be stored", func() bool { return w.store.uploaded(t, started.Session, long.Path) > 0 })
	d.kill(t)
	d.neverSafe(t, "CRASH01")

	d = w.run(t, "usb: {watch: all}")
	resumed := d.wait(t, "ingest.resumed", "")
	safe := d.safe(t, d.from, "")
	if resumed.Session != started.Session || safe.Session != started.Session {
		t.Errorf("one recording, but sessions %s, %s, %s", started.Session, resumed.Session, safe.Session)
	}
	w.untouched(t)
	w.store.checkSession(t, safe.Session, "CRASH01", files)
	p.unplug(t)
	d.wait(t, "slot.removed", "")
	if imageSum(t, image) != before {
		t.Error("the card was changed")
	}
}

// counter is a number that the kernel keeps of a disk since it was plugged in:
// 2 are the sectors read, 4 the writes (Documentation/admin-guide/iostats.rst).
func (w *world) counter(t testing.TB, node string, n int) int64 {
	t.Helper()
	fields := strings.Fields(w.m.run(t, "cat", "/sys/block/"+strings.TrimPrefix(node, "/dev/")+"/stat"))
	if len(fields) <= n {
		t.Fatalf("no counters of %s: %q", node, fields)
	}
	value, err := strconv.ParseInt(fields[n], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// slots names the first ports of the controller, as they are called in the
// machine.
func (w *world) slots(t testing.TB, n int) string {
	t.Helper()
	bus := w.bus(t)
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{name: "S%d", port: "%s-%d"}`, i+1, bus, i+1))
	}
	return "usb: {watch: slots, slots: [" + strings.Join(all, ", ") + "]}"
}

// bus is the number of the fast half of the first controller, where sticks appear.
func (w *world) bus(t testing.TB) string {
	t.Helper()
	return w.m.run(t, "sh", "-c", `for b in /sys/bus/usb/devices/usb*; do
		case $(readlink -f $b) in *vhci*) continue;; esac
		[ "$(cat $b/speed)" -ge 5000 ] && { basename $b | tr -d usb; exit; }
	done; exit 1`)
}

// testSwap docks four recorders at once and swaps two of them between their slots
// while they are being read. No footage is filed under another recorder.
func testSwap(t *testing.T, w *world) {
	d := w.run(t, w.slots(t, 4))
	type card struct {
		serial, image, before string
		files                 []file
	}
	var cards []card
	for i := range 4 {
		c := card{serial: fmt.Sprintf("SWAP00%d", i+1)}
		// The same names and sizes on all: only the bytes tell them apart.
		for n := range 3 {
			c.files = append(c.files, file{Path: fmt.Sprintf("DATA/CLIP%d.MP4", n), Seed: uint64(60+i)<<8 | uint64(n), Size: 3 << 20})
		}
		c.files = append(c.files, identity(c.serial))
		c.image = fatCard(t, w, layout{Table: true}, c.files)
		c.before = imageSum(t, c.image)
		cards = append(cards, c)
	}
	from := w.m.now()
	var in []*plugged
	for i, c := range cards {
		in = append(in, w.m.plug(t, stick{Image: c.image, Serial: c.serial, Port: i + 1, BytesASec: 1 << 20}))
	}
	for i := range cards {
		d.waitFrom(t, from, "ingest.started", fmt.Sprintf("S%d", i+1))
	}
	in[0].unplug(t)
	in[1].unplug(t)
	d.waitFrom(t, from, "slot.removed_early", "S1")
	d.waitFrom(t, from, "slot.removed_early", "S2")
	again := w.m.now()
	in[0] = w.m.plug(t, stick{Image: cards[0].image, Serial: cards[0].serial, Port: 2})
	in[1] = w.m.plug(t, stick{Image: cards[1].image, Serial: cards[1].serial, Port: 1})
	slots := []string{"S2", "S1", "S3", "S4"} // where each recorder ends
	sessions := map[string]bool{}
	for i, c := range cards {
		start := from
		if i < 2 {
			start = again
		}
		safe := d.safe(t, start, slots[i])
		if safe.Recorder != c.serial {
			t.Errorf("slot %s has recorder %s, told as %s", slots[i], c.serial, safe.Recorder)
		}
		m := w.store.checkSession(t, safe.Session, c.serial, c.files)
		if m.Session.Slot != slots[i] {
			t.Errorf("the manifest of %s names slot %s, not %s", c.serial, m.Session.Slot, slots[i])
		}
		sessions[safe.Session] = true
	}
	if len(sessions) != len(cards) {
		t.Errorf("%d sessions of %d recorders", len(sessions), len(cards))
	}
	w.untouched(t)
	for i, c := range cards {
		in[i].unplug(t)
		if imageSum(t, c.image) != c.before {
			t.Errorf("the card of %s was changed", c.serial)
		}
	}
}

// testStrangers: a keyboard, and a stick that nobody registered. They are shown,
// and never opened.
func testStrangers(t *testing.T, w *world) {
	files := footage("STRANGE", 70, 1, 1<<20)
	image := fatCard(t, w, layout{Table: true}, files)
	before := imageSum(t, image)
	from := w.m.now()
	opened := func() (nodes []string) {
		events, _ := w.m.since(from)
		for _, e := range events {
			if e.Kind == wire.Open {
				nodes = append(nodes, e.Name)
			}
		}
		slices.Sort(nodes)
		return slices.Compact(nodes)
	}
	check := func(what string) {
		t.Helper()
		w.quiet(t)
		if nodes := opened(); len(nodes) > 0 {
			t.Errorf("%s: opened were %q", what, nodes)
		}
		from = w.m.now()
	}

	d := w.run(t, w.slots(t, 3)+"\nrecorders: {unregistered: refuse}")
	beside := w.m.plug(t, stick{Image: image, Serial: "STRANGE", Port: 9})
	check("a stick in a socket that is no slot")
	if l := d.lines(func(l line) bool { return l.Slot != "" }); len(l) > 0 {
		t.Errorf("told of a socket that is no slot: %+v", l)
	}
	beside.unplug(t)

	here := w.m.now()
	in := w.m.plug(t, stick{Image: image, Serial: "STRANGE", Port: 2})
	unknown := d.waitFrom(t, here, "device.unknown", "S2")
	if unknown.Level != "error" {
		t.Errorf("nobody is told of it: %+v", unknown)
	}
	check("a stick that is not registered")
	in.unplug(t)
	d.waitFrom(t, here, "slot.removed", "S2")
	d.stop(t)

	d = w.run(t, "usb: {watch: all}")
	here = w.m.now()
	keyboard := w.m.unique("keyboard")
	w.m.qmp.must(t, "device_add", object{"driver": "usb-kbd", "id": keyboard, "bus": "xhci.0", "port": "6"})
	d.waitFrom(t, here, "device.unknown", "")
	check("a keyboard")
	w.m.remove(t, keyboard)
	d.waitFrom(t, here, "slot.removed", "")
	if imageSum(t, image) != before {
		t.Error("the stick was changed")
	}
	if l := d.lines(func(l line) bool { return l.Event == "ingest.started" || l.Event == "ingest.finished" }); len(l) > 0 {
		t.Errorf("a stranger was taken in: %+v", l)
	}
}
