//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// testFAT32 is the plain case: a card comes in, everything on it is stored and
// verified, the officer is told, and not a bit of the card is another.
func testFAT32(t *testing.T, w *world) {
	files := footage("FAT0001", 1, 3, 4<<20)
	image := fatCard(t, w, layout{Table: true}, files)
	d := w.run(t, "usb: {watch: all}")

	from := w.m.now()
	took := w.takeIn(t, d, image, "FAT0001", files)
	block := w.m.wait(t, from, "a disk", func(e wire.Event) bool { return e.Kind == wire.Block })
	identified := d.waitFrom(t, from, "slot.identified", "")
	w.note("from block device to first bytes read %s", identified.Time.Sub(block.At).Round(10*time.Millisecond))
	if strings.TrimSpace(took.Recorder) != "FAT0001" {
		t.Errorf("safe was said of recorder %q", took.Recorder)
	}
}

// testLayouts takes in cards as they are really formatted: with and without a
// partition table, and by each file system.
func testLayouts(t *testing.T, w *world) {
	d := w.run(t, "usb: {watch: all}")
	for i, card := range []struct {
		name string
		make func(testing.TB, *world, layout, []file) string
		layout
	}{
		{"FATWHOLE", fatCard, layout{}},
		{"EXFTABLE", exfatCard, layout{Table: true}},
		{"EXFWHOLE", exfatCard, layout{}},
		{"EXT4TABL", ext4Card, layout{Table: true}},
	} {
		files := footage(card.name, uint64(10+i), 2, 1<<20)
		w.takeIn(t, d, card.make(t, w, card.layout, files), card.name, files)
	}
}

// takeIn plugs a card in, waits until it is safe, proves that all of it is stored,
// and takes it out. What the daemon did to the card would show in its image.
func (w *world) takeIn(t testing.TB, d *daemon, image, serial string, files []file) line {
	t.Helper()
	before := imageSum(t, image)
	from := w.m.now()
	p := w.m.plug(t, stick{Image: image, Serial: serial, Port: 1})
	safe := d.safe(t, from, "")
	w.untouched(t)
	w.store.checkSession(t, safe.Session, serial, files)
	p.unplug(t)
	d.waitFrom(t, from, "slot.removed", "")
	if imageSum(t, image) != before {
		t.Errorf("the card of %s was changed", serial)
	}
	return safe
}

// untouched proves that no disk in the machine is mounted or claimed any more, and
// that nothing was written to any: not even what was put back later, as the mark of
// a mounted file system, which would not show in the image.
func (w *world) untouched(t testing.TB) {
	t.Helper()
	for _, disk := range strings.Fields(w.m.run(t, "sh", "-c", "ls /sys/block | grep ^sd || true")) {
		var free bool
		w.m.must(t, "free", wire.Name{Name: "/dev/" + disk}, &free)
		if !free {
			t.Errorf("%s is still mounted although the docking has ended", disk)
		}
		if written := w.counter(t, "/dev/"+disk, 4); written != 0 {
			t.Errorf("%s was written to, %d times", disk, written)
		}
	}
}

// testLargeFile has a file over 4 GiB, which is why cards have exFAT. The short run
// has the driver list it and read across the limit; the long one takes it in.
func testLargeFile(t *testing.T, w *world) {
	const limit, around = int64(4) << 30, int64(4) << 20
	large := file{Path: "DCIM/执法记录/大文件_0001.MP4", Seed: 4, Size: limit + around, Zeros: limit - around}
	files := []file{identity("EXF4GIB"), {Path: "DCIM/执法记录/短片.MP4", Seed: 5, Size: 1 << 20}, large}
	image := exfatCard(t, w, layout{Size: 5 << 30}, files)
	p := w.m.plug(t, stick{Image: image, Serial: "EXF4GIB", Port: 2})
	var driven wire.Driven
	w.m.must(t, "drive", wire.Drive{Serial: "EXF4GIB", Path: large.Path, Offset: limit - around/2, Length: int(around)}, &driven)
	if len(driven.Sizes) != len(files) {
		t.Errorf("the driver lists %d files of %d", len(driven.Sizes), len(files))
	}
	for _, f := range files {
		if driven.Sizes[f.Path] != f.size() {
			t.Errorf("%s: %d bytes of %d", f.Path, driven.Sizes[f.Path], f.size())
		}
	}
	want := make([]byte, around)
	content := wire.Content(large.Seed, large.Size-large.Zeros)
	if _, err := io.CopyN(io.Discard, content, around/2); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(content, want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(driven.Data, want) {
		t.Error("the bytes around 4 GiB are not those of the file")
	}
	p.unplug(t)
	if !w.long {
		w.note("listed and read around 4 GiB only; whole with --long")
		return
	}
	d := w.run(t, "usb: {watch: all}")
	w.takeInLong(t, d, image, "EXF4GIB", files)
}

// takeInLong is takeIn for what takes longer than any other wait.
func (w *world) takeInLong(t testing.TB, d *daemon, image, serial string, files []file) {
	t.Helper()
	from := w.m.now()
	p := w.m.plug(t, stick{Image: image, Serial: serial, Port: 1})
	for end := time.Now().Add(time.Hour); len(d.lines(func(l line) bool { return l.Event == "ingest.finished" || l.Event == "ingest.failed" })) == 0; time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatal("waited an hour for a large file")
		}
	}
	safe := d.safe(t, from, "")
	w.store.checkSession(t, safe.Session, serial, files)
	p.unplug(t)
}

// testDirty: a card that was pulled out of the recorder, or from a computer, while
// it was being written. Everything that can be read is stored, and it is told.
func testDirty(t *testing.T, w *world) {
	files := footage("DIRTY01", 20, 2, 1<<20)
	image := fatCard(t, w, layout{Table: true}, files)
	// Windows and fsck note it in the second entry of the FAT, Linux in the boot
	// sector.
	patch(t, image, partitionStart+0x41, func(b []byte) { b[0] |= 1 }, 1)
	d := w.run(t, "usb: {watch: all}")
	safe := w.takeIn(t, d, image, "DIRTY01", files)
	m := w.store.manifestOf(t, safe.Session)
	if v := m.Recorder.Health.Volumes; len(v) != 1 || v[0].Trouble == "" {
		t.Errorf("the manifest does not tell that the card was not unmounted: %+v", v)
	}
}

// testPending: a recorder with ext4 that was pulled while it wrote. Its newest file
// is in the journal of the file system only, which replaying would write to the
// card. Either all of it is stored, or it is not called safe.
func testPending(t *testing.T, w *world) {
	files := footage("PENDING", 25, 1, 1<<20)
	image := ext4Card(t, w, layout{Table: true}, files)
	newest := file{Path: "DATA/NEWEST.MP4", Seed: 26, Size: 1 << 20}
	from := w.m.now()
	p := w.m.plug(t, stick{Image: image, Serial: "PENDING", Port: 7})
	part := w.m.wait(t, from, "a partition", func(e wire.Event) bool { return e.Kind == wire.Block && strings.HasSuffix(e.Name, "1") })
	w.m.run(t, "mkdir", "-p", "/mnt/pending")
	w.m.run(t, "mount", "-t", "ext4", part.Name, "/mnt/pending")
	w.m.must(t, "fill", wire.Fill{Path: "/mnt/pending/" + newest.Path, Seed: newest.Seed, Size: newest.Size}, nil)
	p.unplug(t)
	w.m.run(t, "umount", "-l", "/mnt/pending")
	files = append(files, newest)

	before := imageSum(t, image)
	d := w.run(t, "usb: {watch: all}")
	from = w.m.now()
	p = w.m.plug(t, stick{Image: image, Serial: "PENDING", Port: 8})
	var end line
	w.m.wait(t, from, "the docking to end", func(e wire.Event) bool {
		l, ok := d.is(e)
		end = l
		return ok && (l.Event == "ingest.finished" || l.Event == "ingest.failed")
	})
	switch {
	case end.Event == "ingest.finished":
		w.store.checkSession(t, end.Session, "PENDING", files)
		w.note("all of it was stored")
	case end.Level != "error":
		t.Errorf("nobody is told: %+v", end)
	default:
		w.note("not called safe")
	}
	p.unplug(t)
	d.waitFrom(t, from, "slot.removed", "")
	if imageSum(t, image) != before {
		t.Error("the card was changed")
	}
}

// testDamaged: chains that end too early, sectors that can't be read. What is
// damaged is named and never called stored; all the rest is.
func testDamaged(t *testing.T, w *world) {
	d := w.run(t, "usb: {watch: all}")
	t.Run("chain", func(t *testing.T) {
		files := footage("BROKEN1", 30, 3, 1<<20)
		image := fatCard(t, w, layout{Table: true}, files)
		broken := files[4]
		breakChain(t, image, broken)
		w.takeInDamaged(t, d, stick{Image: image, Serial: "BROKEN1", Port: 3}, files, broken.Path)
	})
	t.Run("sectors", func(t *testing.T) {
		files := footage("BADSECT", 31, 3, 1<<20)
		image := fatCard(t, w, layout{Table: true}, files)
		bad := files[3]
		sector := find(t, image, bad)/512 + 700
		w.takeInDamaged(t, d, stick{Image: image, Serial: "BADSECT", Port: 4, BadSectors: []int64{sector, sector + 1}}, files, bad.Path)
	})
}

func (w *world) takeInDamaged(t testing.TB, d *daemon, s stick, files []file, lost string) {
	t.Helper()
	before := imageSum(t, s.Image)
	from := w.m.now()
	p := w.m.plug(t, s)
	failed := d.waitFrom(t, from, "ingest.failed", "")
	w.untouched(t)
	w.store.checkSession(t, failed.Session, s.Serial, files, lost)
	p.unplug(t)
	d.waitFrom(t, from, "slot.removed", "")
	d.neverSafe(t, s.Serial)
	if imageSum(t, s.Image) != before {
		t.Errorf("the card of %s was changed", s.Serial)
	}
}

// testUnreadable: nothing that could be read. It needs a person, and is not
// called safe or empty.
func testUnreadable(t *testing.T, w *world) {
	d := w.run(t, "usb: {watch: all}")
	for i, card := range []struct {
		serial string
		fill   func(*os.File) error
	}{
		{"NOISE01", func(f *os.File) error { _, err := io.Copy(f, wire.Content(40, 8<<20)); return err }},
		{"BLANK01", func(f *os.File) error { return f.Truncate(8 << 20) }},
		{"LUKS001", func(f *os.File) error {
			if err := f.Truncate(8 << 20); err != nil {
				return err
			}
			_, err := f.WriteAt([]byte("LUKS\xba\xbe\x00\x02"), 0)
			return err
		}},
	} {
		image := newImage(t, w, layout{})
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err == nil {
			err = card.fill(f)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		before := imageSum(t, image)
		from := w.m.now()
		p := w.m.plug(t, stick{Image: image, Serial: card.serial, Port: 5 + i})
		if failed := d.waitFrom(t, from, "ingest.failed", ""); failed.Level != "error" || failed.Err == "" {
			t.Errorf("%s: nobody is told what to do: %+v", card.serial, failed)
		}
		w.untouched(t)
		p.unplug(t)
		d.waitFrom(t, from, "slot.removed", "")
		d.neverSafe(t, card.serial)
		if imageSum(t, image) != before {
			t.Errorf("%s was changed", card.serial)
		}
	}
	if n := len(d.lines(func(l line) bool { return l.Event == "ingest.finished" })); n != 0 {
		t.Errorf("%d sessions were called finished", n)
	}
}

// neverSafe proves that it was not said of a recorder.
func (d *daemon) neverSafe(t testing.TB, serial string) {
	t.Helper()
	for _, l := range d.lines(func(l line) bool { return l.Event == "ingest.finished" && l.Recorder == serial }) {
		t.Errorf("recorder %s was called safe: %+v", serial, l)
	}
}
