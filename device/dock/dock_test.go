package dock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/configs/recorders"
	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/dock"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
	"github.com/bodyworn/ingestd/device/simulator/textgadget"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

// patience bounds what must happen; the machines are slow.
const patience = time.Minute

// bus is a false /sys with one port, and the pipes of what is plugged into it.
type bus struct {
	t        *testing.T
	sys, dev string
	address  int

	mu    sync.Mutex
	fn    gadget.Function // guarded by mu; nil: what is plugged in has no pipes
	opens int             // guarded by mu
}

func newBus(t *testing.T) *bus {
	t.Helper()
	b := &bus{t: t, sys: t.TempDir(), dev: t.TempDir(), address: 1}
	for _, dir := range []string{filepath.Join(b.sys, "bus/usb/devices"), filepath.Join(b.dev, "bus/usb/001")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// plug shows a device in port 1-1, as the kernel does.
func (b *bus) plug(d gadget.Descriptors, fn gadget.Function) {
	b.t.Helper()
	b.mu.Lock()
	b.fn = fn
	b.mu.Unlock()
	b.address++
	files := map[string]string{
		"busnum": "1", "devnum": fmt.Sprint(b.address), "idVendor": fmt.Sprintf("%04x", d.Vendor), "idProduct": fmt.Sprintf("%04x", d.Product),
		"bcdDevice": "0100", "bDeviceClass": "00", "speed": "480", "bNumInterfaces": fmt.Sprint(len(d.Interfaces)),
		"manufacturer": d.Manufacturer, "product": d.ProductName, "serial": d.Serial,
	}
	for n, i := range d.Interfaces {
		folder := fmt.Sprintf("1-1:1.%d/", n)
		files[folder+"bInterfaceNumber"] = fmt.Sprintf("%02x", n)
		files[folder+"bAlternateSetting"] = "0"
		files[folder+"bInterfaceClass"] = fmt.Sprintf("%02x", i.Class)
		files[folder+"bInterfaceSubClass"] = fmt.Sprintf("%02x", i.SubClass)
		files[folder+"bInterfaceProtocol"] = fmt.Sprintf("%02x", i.Protocol)
	}
	made := filepath.Join(b.sys, fmt.Sprint("new-", b.address))
	for name, text := range files {
		p := filepath.Join(made, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(text+"\n"), 0o600)); err != nil {
			b.t.Fatal(err)
		}
	}
	port := filepath.Join(b.sys, "bus/usb/devices/1-1")
	if err := errors.Join(os.RemoveAll(port), os.Rename(made, port)); err != nil {
		b.t.Fatal(err)
	}
	node := filepath.Join(b.dev, fmt.Sprintf("bus/usb/001/%03d", b.address))
	if err := os.WriteFile(node, nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bus) openPipe(context.Context, usb.Device, int) (usb.Pipe, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opens++
	if b.fn == nil {
		return nil, errors.New("there is nothing to open")
	}
	return gadget.NewPipe(b.fn, 0), nil
}

func (b *bus) opened() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opens
}

// dock watches the bus and gives what is docked.
func (b *bus) dock(c *dock.Config) device.Docking {
	b.t.Helper()
	profiles, err := profile.Load(recorders.Profiles, "")
	if err != nil {
		b.t.Fatal(err)
	}
	c.Profiles, c.Zone, c.OpenPipe = profiles, time.UTC, b.openPipe
	docked := make(chan device.Docking, 1)
	ctx, stop := context.WithCancel(context.Background())
	w := &usb.Watcher{Sys: b.sys, Dev: b.dev, All: true, Docked: func(ctx context.Context, p *usb.Plug) {
		docked <- c.Docking(p)
		<-ctx.Done()
	}}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	b.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
	})
	select {
	case d := <-docked:
		return d
	case <-time.After(patience):
		b.t.Fatal("nothing was docked")
		return device.Docking{}
	}
}

func passwords(t *testing.T, text string) vendorcmd.Passwords {
	t.Helper()
	file := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := vendorcmd.ReadPasswords(file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func face(class, subclass, protocol uint8) []gadget.Interface {
	return []gadget.Interface{{Class: class, SubClass: subclass, Protocol: protocol}}
}

var (
	keyboard = gadget.Descriptors{Vendor: 0x046d, Product: 0xc31c, ProductName: "Keyboard", Interfaces: face(3, 1, 1)}
	stick    = gadget.Descriptors{Vendor: 0x0781, Product: 0x5567, ProductName: "Cruzer Blade", Serial: "STICK01", Interfaces: face(8, 6, 0x50)}
	camera   = gadget.Descriptors{Vendor: 0x1209, Product: 0xca01, ProductName: "Camera", Serial: "CAM01", Interfaces: face(6, 1, 1)}
)

// What is no recorder, and what policy refuses, is never opened.
func TestWhatIsNotOpened(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plugged gadget.Descriptors
		config  dock.Config
		want    error
	}{
		"keyboard":            {keyboard, dock.Config{}, device.ErrNotARecorder},
		"unregistered stick":  {stick, dock.Config{RefuseUnregistered: true}, device.ErrUnregistered},
		"unregistered camera": {camera, dock.Config{RefuseUnregistered: true}, device.ErrUnregistered},
		"registered with a profile that is gone": {camera, dock.Config{
			Register: func(context.Context, string) (string, bool, error) { return "no-such-make", true, nil },
		}, device.ErrNeedsPerson},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBus(t)
			b.plug(c.plugged, nil)
			d := b.dock(&c.config)
			if _, err := d.Open(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if b.opened() != 0 {
				t.Error("it was opened")
			}
			if !d.Stays || d.Slot != "1-1" {
				t.Errorf("the docking is %+v", d)
			}
		})
	}
}

// A camera is opened over PTP, known by the number that the register has, its clock
// measured and, unless its profile says so, not set.
func TestACameraIsReadOverPTP(t *testing.T) {
	t.Parallel()
	footage := bytes.Repeat([]byte("footage "), 50_000)
	g := ptpgadget.New(ptpgadget.Recorder{
		Serial: "INNER9", Model: "Camera", // not the number that the register knows
		Clock:  ptpgadget.Clock{Offset: 192 * time.Second},
		Stores: []ptpgadget.Store{{Objects: []*ptpgadget.Object{{Name: "A.MP4", Content: bytes.NewReader(footage), Size: int64(len(footage))}}}},
	})
	b := newBus(t)
	b.plug(camera, g)
	asked := ""
	d := b.dock(&dock.Config{SetClocks: true, RefuseUnregistered: true, Register: func(_ context.Context, serial string) (string, bool, error) {
		asked = serial
		return "", true, nil
	}})
	r, err := d.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := r.Identity()
	if id.Serial.Value != "CAM01" || id.Profile != "generic-ptp" || id.Driver != "ptp" || asked != "CAM01" {
		t.Errorf("it is %+v; the register was asked for %q", id, asked)
	}
	clock, err := r.Clock(t.Context())
	if err != nil || clock.Kind != device.ClockMeasured || (*clock.Offset-192*time.Second).Abs() > *clock.Uncertainty+time.Second {
		t.Errorf("clock %+v, %v", clock, err)
	}
	if _, err := r.(device.ClockSetter).SetClock(t.Context()); !errors.Is(err, device.ErrNoClock) {
		t.Errorf("setting its clock: %v", err)
	}
	read := 0
	if err := r.Inventory(t.Context(), func(e device.Entry) error {
		if e.Kind != device.KindFile {
			return nil
		}
		f, err := r.Open(t.Context(), e, 0)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(f)
		if err == nil && !bytes.Equal(got, footage) {
			err = errors.New("other bytes came")
		}
		read++
		return errors.Join(err, f.Close())
	}); err != nil || read != 1 {
		t.Errorf("%d files were read, %v", read, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if sets := g.Counts().Set; len(sets) != 0 {
		t.Errorf("its clock was set to %v", sets)
	}
}

// memory keeps refusals as the journal does.
type memory struct{ refused map[string]bool }

func (m *memory) PasswordRefused(_ context.Context, recorder, password string) error {
	m.refused[recorder+password] = true
	return nil
}

func (m *memory) WasPasswordRefused(_ context.Context, recorder, password string) (bool, error) {
	return m.refused[recorder+password], nil
}

// A locked recorder gets a password once, in this docking and all later ones: some
// lock themselves up for good.
func TestAWrongPasswordIsTriedOnce(t *testing.T) {
	t.Parallel()
	g := textgadget.New(textgadget.Config{USBSerial: "T1", Serial: "NMQ0007", Password: "87654321"})
	m := &memory{map[string]bool{}}
	b := newBus(t)
	b.plug(g.Descriptors(), g)
	c := &dock.Config{Passwords: passwords(t, "4255:0001: 12345678\n"), Refusals: m}
	d := b.dock(c)
	for try := range 3 {
		_, err := d.Open(t.Context())
		if !errors.Is(err, device.ErrNeedsPerson) || strings.Contains(err.Error(), "12345678") {
			t.Errorf("try %d: %v", try, err)
		}
	}
	if counts := g.Counts(); counts.WrongPasswords != 1 || len(counts.Commands) != 1 {
		t.Errorf("it got %+v", counts)
	}
}

// Without a password nothing is sent at all.
func TestWithoutAPasswordNothingIsSent(t *testing.T) {
	t.Parallel()
	g := textgadget.New(textgadget.Config{USBSerial: "T1", Serial: "NMQ0007", Password: "87654321"})
	b := newBus(t)
	b.plug(g.Descriptors(), g)
	d := b.dock(&dock.Config{})
	if _, err := d.Open(t.Context()); !errors.Is(err, device.ErrNeedsPerson) {
		t.Errorf("%v", err)
	}
	if counts := g.Counts(); len(counts.Commands) != 0 {
		t.Errorf("it got %+v", counts)
	}
}

// An unlocked recorder is asked who it is before it is told the time and becomes a
// disk; coming back as one it is the same docking, and is not asked again. The date is
// sent again after the time, see vendorcmd.
func TestAnUnlockedRecorderComesBackAsADisk(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	var g *textgadget.Recorder
	switched := make(chan struct{})
	g = textgadget.New(textgadget.Config{USBSerial: "T1", Serial: "NMQ0007", Password: "12345678", Switch: func() {
		b.plug(stick, nil) // without a disk in it, which only a kernel could read
		close(switched)
	}})
	b.plug(g.Descriptors(), g)
	d := b.dock(&dock.Config{Passwords: passwords(t, "ambarella-text: 12345678\n"), SetClocks: true})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-switched
		time.Sleep(3 * time.Second) // long enough for a second talk to show
		cancel()
	}()
	if _, err := d.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want to wait for its disk until that is cancelled", err)
	}
	var order []string
	for _, c := range g.Counts().Commands {
		order = append(order, strings.SplitN(strings.TrimPrefix(c, "@"), ";", 2)[0])
	}
	if want := []string{textgadget.Login, textgadget.Identity, textgadget.SetDate, textgadget.SetTime, textgadget.SetDate, textgadget.DiskMode}; !slices.Equal(order, want) {
		t.Errorf("it got %v, want %v", order, want)
	}
	select {
	case <-d.Removed:
		t.Error("the docking ended with the switch")
	default:
	}
	if b.opened() != 1 {
		t.Errorf("it was opened %d times", b.opened())
	}
}

// Where the station's clock is not to be trusted, no recorder's clock is set by
// command either, and it is unlocked all the same.
func TestACommandDoesNotSetTheClockFromABadOne(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	g := textgadget.New(textgadget.Config{USBSerial: "T1", Serial: "NMQ0007", Password: "12345678"})
	b.plug(g.Descriptors(), g)
	d := b.dock(&dock.Config{Passwords: passwords(t, "ambarella-text: 12345678\n"), SetClocks: true,
		MaySetClock: func() error { return errors.New("nobody keeps it") }})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := d.Open(ctx); err == nil {
		t.Error("it opened without a disk")
	}
	commands := strings.Join(g.Counts().Commands, " ")
	if strings.Contains(commands, textgadget.SetDate) || !strings.Contains(commands, textgadget.DiskMode) {
		t.Errorf("it got %s", commands)
	}
}
