package ptp_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/ptp"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
)

func folder(name string, in ...*ptpgadget.Object) *ptpgadget.Object {
	return &ptpgadget.Object{Name: name, Folder: true, Objects: in, Modified: "20261124T081402"}
}

func paths(all map[string]device.Entry) []string {
	var names []string
	for p := range all {
		names = append(names, p)
	}
	slices.Sort(names)
	return names
}

func TestTheInventoryHasAllWhateverTheRootIsCalled(t *testing.T) {
	for _, root := range []ptpgadget.Root{ptpgadget.RootAsSpecified, ptpgadget.RootByZero, ptpgadget.RootEither, ptpgadget.RootListsAll} {
		tree := []*ptpgadget.Object{folder("DCIM", folder("100MEDIA", clip("A.MP4", 3), clip("B.MP4", 4))), clip("Param.ini", 5)}
		d := dock(t, ptpgadget.Recorder{Root: root, Stores: one(tree...)}, ptp.Config{})
		got := paths(d.inventory(t))
		want := []string{"DCIM", "DCIM/100MEDIA", "DCIM/100MEDIA/A.MP4", "DCIM/100MEDIA/B.MP4", "Param.ini"}
		if !slices.Equal(got, want) {
			t.Errorf("root %d: %q", root, got)
		}
	}
}

func TestTimesAreByTheRecordersClock(t *testing.T) {
	beijing := time.FixedZone("", 8*3600)
	for modified, want := range map[string]time.Time{
		"20261124T081402":      time.Date(2026, 11, 24, 8, 14, 2, 0, beijing),
		"20261124T081402.5":    time.Date(2026, 11, 24, 8, 14, 2, 5e8, beijing),
		"20261124T081402Z":     time.Date(2026, 11, 24, 8, 14, 2, 0, time.UTC),
		"20261124T081402+0700": time.Date(2026, 11, 24, 1, 14, 2, 0, time.UTC),
		"":                     {},
		"20261324T081402":      {},
		"yesterday":            {},
	} {
		d := dock(t, ptpgadget.Recorder{Stores: one(&ptpgadget.Object{Name: "a", Modified: modified})}, ptp.Config{Zone: beijing})
		if got := d.inventory(t)["a"].ModTime; !got.Equal(want) {
			t.Errorf("%q gives %s, want %s", modified, got, want)
		}
	}
}

func TestEveryObjectHasASafePathOfItsOwn(t *testing.T) {
	names := []string{
		"a.mp4", "a.mp4", "a.mp4", "", "", ".", "..", "../../etc/passwd", "/abs", "x/y", "nul\x00led", "a~00000001.mp4", "object",
		strings.Repeat("长", 200), "😀.mp4", "\u202egpj.exe", "CON", "a\nb",
	}
	var objects []*ptpgadget.Object
	for i, name := range names {
		objects = append(objects, clip(name, int64(100+i)))
	}
	tree := []*ptpgadget.Object{folder("same", objects...), folder("same"), clip("same", 1)}
	d := dock(t, ptpgadget.Recorder{Stores: one(tree...)}, ptp.Config{})
	all := d.inventory(t) // which fails where one is there twice
	if len(all) != len(names)+3 {
		t.Errorf("%d paths for %d objects: %q", len(all), len(names)+3, paths(all))
	}
	seen := map[int64]bool{}
	for p, e := range all {
		for element := range strings.SplitSeq(p, "/") {
			if element == "" || element == "." || element == ".." || strings.ContainsRune(element, 0) {
				t.Errorf("%q is no safe path", p)
			}
		}
		seen[e.Size] = true
	}
	for _, o := range objects {
		if !seen[o.Size] {
			t.Errorf("%q is missing", o.Name)
		}
	}
}

func TestPathsAreTheSameEachTime(t *testing.T) {
	tree := []*ptpgadget.Object{clip("a", 1), clip("a", 2), clip("b", 3)}
	d := dock(t, ptpgadget.Recorder{Stores: one(tree...)}, ptp.Config{})
	first := d.inventory(t)
	for p, e := range d.inventory(t) {
		if first[p].Handle != e.Handle {
			t.Errorf("%q is object %s at first, %s at last", p, first[p].Handle, e.Handle)
		}
	}
}

func TestSeveralStoresAreToldApart(t *testing.T) {
	stores := []ptpgadget.Store{
		{Objects: []*ptpgadget.Object{clip("a.mp4", 10)}},
		{ID: 0x00050000}, // no card
		{Objects: []*ptpgadget.Object{clip("a.mp4", 20)}},
	}
	d := dock(t, ptpgadget.Recorder{Stores: stores}, ptp.Config{})
	all := d.inventory(t)
	want := []string{"storage-00010001", "storage-00010001/a.mp4", "storage-00030001", "storage-00030001/a.mp4"}
	if got := paths(all); !slices.Equal(got, want) {
		t.Fatalf("paths are %q", got)
	}
	d.check(t, all["storage-00010001/a.mp4"], stores[0].Objects[0], 0)
	d.check(t, all["storage-00030001/a.mp4"], stores[2].Objects[0], 0)
}

func TestALockedRecorderIsNotAnEmptyOne(t *testing.T) {
	for name, stores := range map[string][]ptpgadget.Store{"no store": nil, "no card": {{ID: 0x00010000}}} {
		d := dock(t, ptpgadget.Recorder{Stores: stores}, ptp.Config{})
		err := d.Inventory(t.Context(), func(device.Entry) error { return nil })
		if !errors.Is(err, device.ErrNeedsPerson) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACycleEndsAndLosesNothing(t *testing.T) {
	// a holds b, b holds a again, and c: each tells the other as its parent.
	inner := clip("c.mp4", 7)
	a, b := folder("a"), folder("b", inner)
	a.Objects, b.Objects = []*ptpgadget.Object{b}, append(b.Objects, a)
	a.Handle, b.Handle = 100, 101
	a.Parent, b.Parent = &b.Handle, &a.Handle
	d := dock(t, ptpgadget.Recorder{Stores: one(a, clip("d.mp4", 8))}, ptp.Config{})
	all := d.inventory(t)
	var files []int64
	for p, e := range all {
		if e.Kind == device.KindFile {
			files = append(files, e.Size)
			o := inner
			if e.Size == 8 {
				o = clip("d.mp4", 8)
				o.Handle = 1
			}
			if e.Size == 7 {
				d.check(t, e, o, 0)
			}
			_ = p
		}
	}
	slices.Sort(files)
	if !slices.Equal(files, []int64{7, 8}) {
		t.Errorf("files of %v bytes in %q", files, paths(all))
	}
}

func TestTooDeepFoldersAreToldNotSkipped(t *testing.T) {
	tree := clip("deep.mp4", 1)
	for range 200 {
		tree = folder("d", tree)
	}
	d := dock(t, ptpgadget.Recorder{Stores: one(tree)}, ptp.Config{})
	troubled := 0
	for _, e := range d.inventory(t) {
		if e.Err != nil {
			troubled++
		}
	}
	if troubled != 1 {
		t.Errorf("%d entries tell that something is too deep, want 1", troubled)
	}
}

func TestTenThousandObjects(t *testing.T) {
	var top []*ptpgadget.Object
	for i := range 100 {
		dir := folder(fmt.Sprintf("%03d", i))
		for j := range 99 {
			dir.Objects = append(dir.Objects, clip(fmt.Sprintf("%03d.mp4", j), int64(j)))
		}
		top = append(top, dir)
	}
	d := dock(t, ptpgadget.Recorder{Stores: one(top...)}, ptp.Config{})
	if n := len(d.inventory(t)); n != 10_000 {
		t.Errorf("%d entries", n)
	}
}

func TestWhatCantBeExaminedIsTold(t *testing.T) {
	tree := []*ptpgadget.Object{clip("a.mp4", 1), folder("dir", clip("b.mp4", 2))}
	d := dock(t, ptpgadget.Recorder{Stores: one(tree...), Faults: []ptpgadget.Fault{
		{Op: ptp.OpGetObjectInfo, Do: ptpgadget.Refuse, Response: 0x200f},
		{Op: ptp.OpGetObjectHandles, After: 1, Times: -1, Do: ptpgadget.Refuse, Response: 0x2002},
	}}, ptp.Config{})
	all := d.inventory(t)
	if len(all) != 2 || all["dir"].Err == nil || all["dir"].Kind != device.KindDir {
		t.Errorf("inventory is %+v", all)
	}
	for p, e := range all {
		if e.Err == nil {
			t.Errorf("%q has no error", p)
		}
		if _, err := d.Open(t.Context(), e, 0); err == nil {
			t.Errorf("%q could be opened", p)
		}
	}
}

func TestLargeFilesHaveTheirTrueSizeOrNone(t *testing.T) {
	const size = 5<<30 + 12345
	for name, c := range map[string]struct {
		simulated ptpgadget.Recorder
		known     bool
	}{
		"with ObjectSize":           {ptpgadget.Recorder{}, true},
		"ObjectInfo modulo 4 GiB":   {ptpgadget.Recorder{SizeModulo: true}, true},
		"without ObjectSize":        {ptpgadget.Recorder{Without: []uint16{ptp.OpGetObjectPropValue}}, false},
		"only pretends to have one": {ptpgadget.Recorder{Without: []uint16{ptp.OpGetObjectPropValue}, Pretends: []uint16{ptp.OpGetObjectPropValue}}, false},
	} {
		o := clip("large.mp4", size)
		c.simulated.Stores = one(o)
		d := dock(t, c.simulated, ptp.Config{})
		e := d.inventory(t)["large.mp4"]
		if c.known != (e.Err == nil) || c.known && e.Size != size {
			t.Errorf("%s: %+v", name, e)
		}
		if c.known {
			d.check(t, e, o, size-3<<20) // in parts, by 64-bit offsets
		}
	}
}
