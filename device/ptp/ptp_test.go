package ptp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/ptp"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
)

// patience is long, so that a slow machine is not taken for a hung recorder; tests
// of hung ones set their own.
const patience = time.Minute

type docked struct {
	*ptp.Recorder
	gadget *ptpgadget.Gadget
	pipe   *gadget.Pipe
}

// dock plugs a simulated recorder in and opens it. Whether a session is ended well is
// for a test to say; here it is only cleaned up.
func dock(t testing.TB, simulated ptpgadget.Recorder, cfg ptp.Config) docked {
	t.Helper()
	g := ptpgadget.New(simulated)
	pipe := gadget.NewPipe(g, 0)
	t.Cleanup(pipe.Unplug)
	if cfg.Patience == 0 {
		cfg.Patience = patience
	}
	if cfg.Zone == nil {
		cfg.Zone = time.UTC
	}
	r, err := ptp.Open(t.Context(), pipe, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return docked{r, g, pipe}
}

func (d docked) inventory(t testing.TB) map[string]device.Entry {
	t.Helper()
	all := map[string]device.Entry{}
	if err := d.Inventory(t.Context(), func(e device.Entry) error {
		if _, twice := all[e.Path]; twice {
			t.Errorf("%q is listed twice", e.Path)
		}
		all[e.Path] = e
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func (d docked) read(ctx context.Context, e device.Entry, offset int64) ([]byte, error) {
	f, err := d.Open(ctx, e, offset)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// check reads one file from offset on and compares it with what the object holds.
func (d docked) check(t testing.TB, e device.Entry, o *ptpgadget.Object, offset int64) {
	t.Helper()
	got, err := d.read(t.Context(), e, offset)
	if err != nil {
		t.Errorf("%q from %d: %v", e.Path, offset, err)
		return
	}
	if want := bytesOf(o, offset); !bytes.Equal(got, want) {
		t.Errorf("%q from %d: %d bytes that differ from the %d of the object", e.Path, offset, len(got), len(want))
	}
}

func bytesOf(o *ptpgadget.Object, offset int64) []byte {
	content := o.Content
	if content == nil {
		content = ptpgadget.Pattern(uint64(o.Handle))
	}
	b := make([]byte, max(o.Size-offset, 0))
	_, err := content.ReadAt(b, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		panic(err)
	}
	return b
}

func one(objects ...*ptpgadget.Object) []ptpgadget.Store {
	return []ptpgadget.Store{{Capacity: 64 << 30, Free: 32 << 30, Objects: objects}}
}

func clip(name string, size int64) *ptpgadget.Object {
	return &ptpgadget.Object{Name: name, Size: size, Modified: "20261124T081402"}
}

// sizes are those at which packets, pieces and chunks begin or end.
func sizes() []*ptpgadget.Object {
	var all []*ptpgadget.Object
	for _, size := range []int64{
		0, 1, 499, 500, 501, 512, 1012, 512<<10 - 12, 512 << 10,
		1<<20 - 12, 1 << 20, 1<<20 + 1, 1<<20 + 500, 5<<20 - 12, 5<<20 + 7,
	} {
		all = append(all, clip(fmt.Sprintf("%d.mp4", size), size))
	}
	return all
}

// poor has only what PIMA 15740 asks for.
var poor = []uint16{ptp.OpGetPartialObject, ptp.OpGetPartialObject64, ptp.OpGetObjectPropValue, ptp.OpSetDevicePropValue}

func TestFilesAreReadByteForByte(t *testing.T) {
	for name, simulated := range map[string]ptpgadget.Recorder{
		"as specified":           {},
		"without extensions":     {Without: poor},
		"32-bit parts only":      {Without: []uint16{ptp.OpGetPartialObject64}},
		"header on its own":      {SplitHeader: true},
		"no empty packet":        {NoEmptyPacket: true},
		"both":                   {SplitHeader: true, NoEmptyPacket: true, Without: poor},
		"pretends to have parts": {Without: poor, Pretends: poor},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := sizes()
			simulated.Stores = one(objects...)
			d := dock(t, simulated, ptp.Config{})
			all := d.inventory(t)
			for _, o := range objects {
				e := all[o.Name]
				if e.Size != o.Size || e.Kind != device.KindFile || e.Err != nil {
					t.Errorf("%q is listed as %+v", o.Name, e)
					continue
				}
				d.check(t, e, o, 0)
				for _, offset := range []int64{1, o.Size - 600, o.Size} {
					if offset > 0 && offset <= o.Size {
						d.check(t, e, o, offset)
					}
				}
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if n := d.gadget.Counts().Cancels; n != 0 {
				t.Errorf("%d transactions were cancelled; all was read to its end", n)
			}
		})
	}
}

func TestNothingIsWritten(t *testing.T) {
	simulated := ptpgadget.Recorder{Stores: one(clip("a.mp4", 3<<20))}
	d := dock(t, simulated, ptp.Config{})
	if _, err := d.Clock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range d.inventory(t) {
		if _, err := d.read(t.Context(), e, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.SetClock(t.Context()); !errors.Is(err, device.ErrNoClock) {
		t.Errorf("the clock that is not to be set gives %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	asked := []uint16{
		ptp.OpGetDeviceInfo, ptp.OpOpenSession, ptp.OpCloseSession, ptp.OpGetStorageIDs, ptp.OpGetStorageInfo, ptp.OpGetObjectHandles,
		ptp.OpGetObjectInfo, ptp.OpGetObject, ptp.OpGetDevicePropDesc, ptp.OpGetDevicePropValue, ptp.OpGetPartialObject64, ptp.OpGetObjectPropValue,
	}
	got := d.gadget.Counts().Commands
	for _, op := range asked {
		delete(got, op)
	}
	if len(got) != 0 {
		t.Errorf("operations that don't only read: %v", got)
	}
}

func TestASessionThatWasLeftOpenIsOpenedAgain(t *testing.T) {
	o := clip("a.mp4", 100)
	d := dock(t, ptpgadget.Recorder{SessionOpen: true, Stores: one(o)}, ptp.Config{})
	d.check(t, d.inventory(t)["a.mp4"], o, 0)
	if c := d.gadget.Counts(); c.Commands[ptp.OpCloseSession] != 1 || c.Opens != 1 {
		t.Errorf("closed %d times, opened %d times", c.Commands[ptp.OpCloseSession], c.Opens)
	}
}

func TestIdentityIsWhatTellsRecordersApart(t *testing.T) {
	usb := func(s string) device.Fact { return device.Fact{Value: s, Source: "USB"} }
	for name, c := range map[string]struct {
		known  device.Fact
		told   string
		serial device.Fact
	}{
		"of the descriptor":       {usb("BWC0001"), "77", usb("BWC0001")},
		"of DeviceInfo":           {device.Fact{}, "BWC0002", device.Fact{Value: "BWC0002", Source: "PTP DeviceInfo"}},
		"zeros":                   {usb("000000000000"), "0000", device.Fact{}},
		"the constant of Android": {usb("0123456789ABCDEF"), "BWC0003", device.Fact{Value: "BWC0003", Source: "PTP DeviceInfo"}},
		"the constant of QEMU":    {device.Fact{}, "0123456789abcdef0123456789abcdef", device.Fact{}},
		"not text":                {usb("\x01\x02"), "\x1b[2J", device.Fact{}},
		"none at all":             {device.Fact{}, "", device.Fact{}},
	} {
		d := dock(t, ptpgadget.Recorder{Serial: c.told, Model: "RecSim"}, ptp.Config{Identity: device.Identity{Place: "2-1", Serial: c.known}})
		id := d.Identity()
		if id.Serial != c.serial {
			t.Errorf("%s: serial %+v, want %+v", name, id.Serial, c.serial)
		}
		if id.Driver != "ptp" || id.Place != "2-1" || id.Model.Value != "RecSim" || id.Officer.Known() {
			t.Errorf("%s: %+v", name, id)
		}
	}
}

func TestHealthTellsOnlyWhatIsKnown(t *testing.T) {
	for name, c := range map[string]struct {
		battery ptpgadget.Battery
		want    int // -1: unknown
	}{
		"percentage":          {ptpgadget.Battery{Level: 61, Max: 100}, 61},
		"four bars":           {ptpgadget.Battery{Level: 3, Max: 4}, 75},
		"range above 0":       {ptpgadget.Battery{Level: 30, Min: 10, Max: 50}, 50},
		"empty or on a cable": {ptpgadget.Battery{Level: 0, Max: 100}, -1},
		"out of its range":    {ptpgadget.Battery{Level: 200, Max: 100}, -1},
		"thresholds":          {ptpgadget.Battery{Level: 50, Listed: []uint8{0, 25, 50, 75, 100}}, 50},
		"unclear thresholds":  {ptpgadget.Battery{Level: 2, Listed: []uint8{1, 2, 3}}, -1},
		"no battery":          {ptpgadget.Battery{}, -1},
	} {
		d := dock(t, ptpgadget.Recorder{Battery: c.battery}, ptp.Config{})
		h, err := d.Health(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := -1
		if h.BatteryPercent != nil {
			got = *h.BatteryPercent
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
		if h.CapacityBytes != nil || h.FreeBytes != nil {
			t.Errorf("%s: a recorder without stores has %v, %v bytes", name, h.CapacityBytes, h.FreeBytes)
		}
	}
}

func TestHealthAddsUpStores(t *testing.T) {
	stores := []ptpgadget.Store{
		{ID: 0x00010001, Capacity: 64 << 30, Free: 10 << 30, Label: "ZFY"},
		{ID: 0x00020000}, // a slot without a card
		{ID: 0x00030001, Capacity: 32 << 30, Free: ^uint64(0)},
	}
	h, err := dock(t, ptpgadget.Recorder{Stores: stores}, ptp.Config{}).Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Volumes) != 3 || h.Volumes[0].Name != "storage-00010001" || h.Volumes[0].Label.Value != "ZFY" || h.Volumes[1].Trouble == "" {
		t.Errorf("volumes are %+v", h.Volumes)
	}
	if h.CapacityBytes == nil || *h.CapacityBytes != 96<<30 {
		t.Errorf("capacity is %v", h.CapacityBytes)
	}
	if h.FreeBytes != nil {
		t.Errorf("free are %d bytes, though one store does not know", *h.FreeBytes)
	}
}
