package usb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device/usb"
)

func TestEachPluggingIsOneDocking(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick()) // it is there before the watcher is
	r := s.watch(t, &usb.Watcher{Slots: slots("left", "right")})
	first := await(t, "the docking at the start", r.docked)
	if first.Slot() != "left" || first.Device().Serial != "0000" {
		t.Errorf("docked %q in slot %q", first.Device().Serial, first.Slot())
	}
	s.plug("1-2", stick())
	second := await(t, "the second slot", r.docked)
	if second.Slot() != "right" {
		t.Errorf("the slot is %q", second.Slot())
	}
	s.unplug("1-1")
	if slot := await(t, "the first to be gone", r.gone); slot != "left" {
		t.Errorf("%s is gone", slot)
	}
	await(t, "Removed", first.Removed())
	if d := first.Device(); d.Serial != "0000" || d.Port != "1-1" {
		t.Errorf("a device that is gone is as it was last seen, not %+v", d)
	}
	s.plug("1-1", stick())
	if p := await(t, "the next docking", r.docked); p == first {
		t.Error("it is the old docking")
	}
	select {
	case <-second.Removed():
		t.Error("the other slot was removed, too")
	default:
	}
	quiet(t, "one docking more", r.docked)
}

func TestAnotherAddressIsAnotherDevice(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	first := await(t, "the docking", r.docked)
	// Out and in again between two looks. The old handler still runs.
	old := s.take("1-1")
	s.plug("1-1", stick())
	second := await(t, "the new device's docking, though the old handler runs", r.docked)
	await(t, "Removed", first.Removed())
	if slot := await(t, "gone", r.gone); slot != "left" {
		t.Errorf("%s is gone", slot)
	}
	if first.Device().Address != 2 || second.Device().Address != 3 {
		t.Errorf("addresses are %d and %d", first.Device().Address, second.Device().Address)
	}
	if err := os.RemoveAll(old); err != nil {
		t.Fatal(err)
	}
}

func TestHubsAndOtherPortsAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	hub := map[string]string{
		"idVendor": "05e3", "idProduct": "0608", "bcdDevice": "8536", "bDeviceClass": "09", "bNumInterfaces": " 0",
	}
	s.plug("1-1", hub)
	s.plug("1-9", stick())
	s.plug("1-2", stick())
	r := s.watch(t, &usb.Watcher{Slots: slots("hub", "right")})
	if p := await(t, "the docking", r.docked); p.Slot() != "right" {
		t.Errorf("docked in %s", p.Slot())
	}
	quiet(t, "a hub or a port without a slot was docked", r.docked)
}

func TestAllPortsCanBeAttended(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-2.4", stick())
	r := s.watch(t, &usb.Watcher{All: true, Slots: slots("left")})
	if p := await(t, "the port without a slot", r.docked); p.Slot() != "1-2.4" {
		t.Errorf("its slot is %q, want the port", p.Slot())
	}
	s.plug("1-1", stick())
	if p := await(t, "the slot", r.docked); p.Slot() != "left" {
		t.Errorf("its slot is %q", p.Slot())
	}
	quiet(t, "root hubs were docked", r.docked)
}

func TestLostEventsAreMadeUpForBySweeps(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.watch(t, &usb.Watcher{Slots: slots("left"), Sweep: 50 * time.Millisecond})
	s.rename(s.make("1-1", stick()), filepath.Join(s.devices(), "1-1")) // no node
	p := await(t, "a docking that made no event", r.docked)
	s.take("1-1")
	await(t, "a removal that made no event", p.Removed())
}

func TestDoubledEventsMakeOneDocking(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	for range 300 { // before, during and after
		s.wake()
	}
	s.plug("1-1", stick())
	for range 300 {
		s.wake()
	}
	p := await(t, "the docking", r.docked)
	quiet(t, "docked twice", r.docked)
	select {
	case <-p.Removed():
		t.Error("removed, though it is there")
	default:
	}
}

func TestBusesAndUSBItselfMayComeLater(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	sys, bus := filepath.Join(s.sys, "bus"), filepath.Join(s.dev, "bus")
	s.rename(sys, sys+"-later")
	s.rename(bus, bus+"-later")
	r := s.watch(t, &usb.Watcher{Slots: slots("left", "right")})
	err := await(t, "being told that there is no USB", r.troubles)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "modprobe") {
		t.Errorf("trouble is %q", err)
	}
	s.touch(filepath.Join(s.dev, "null")) // has it look again
	quiet(t, "told twice", r.troubles)

	s.rename(sys+"-later", sys)
	s.rename(bus+"-later", bus)
	s.plug("1-1", stick())
	p := await(t, "the docking after USB came", r.docked)

	s.mkdir(filepath.Join(s.dev, "bus/usb/002"))
	// Nothing but the node on the new bus tells of this one.
	s.rename(s.make("1-2", stick()), filepath.Join(s.devices(), "1-2"))
	s.touch(filepath.Join(s.dev, "bus/usb/002/003"))
	await(t, "the docking on the new bus", r.docked)

	s.rename(sys, sys+"-gone") // the driver was unloaded
	s.rename(bus, bus+"-gone")
	await(t, "Removed", p.Removed())
	await(t, "being told that USB is gone", r.troubles)
}

func TestNodesThatAreMissingAreTold(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	if err := os.RemoveAll(filepath.Join(s.dev, "bus")); err != nil {
		t.Fatal(err)
	}
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	if err := await(t, "trouble", r.troubles); !strings.Contains(err.Error(), "/dev/bus/usb") {
		t.Errorf("trouble is %q", err)
	}
	// No event can tell, and the sweep is minutes away.
	s.rename(s.make("1-1", stick()), filepath.Join(s.devices(), "1-1"))
	await(t, "the docking", r.docked)
}

func TestNotSeenIsNotGone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.rename(s.devices(), s.devices()+"-real")
	s.link("devices-real")
	s.plug("1-1", stick())
	r := s.watch(t, &usb.Watcher{Slots: slots("left"), Sweep: 50 * time.Millisecond})
	p := await(t, "the docking", r.docked)
	for _, part := range []string{"devnum", "1-1:1.0/bInterfaceClass"} {
		file := filepath.Join(s.devices(), "1-1", part)
		s.rename(file, s.devices()+"-part")
		quiet(t, "removed, since "+part+" can't be read", p.Removed())
		for range 5 { // longer than a device may take to be set up
			quiet(t, "told to unplug what is docked", r.troubles)
		}
		s.rename(s.devices()+"-part", file)
	}
	// The list can't be read: where the link leads is no folder any more.
	s.touch(s.devices() + "-file")
	s.link("devices-file")
	if err := await(t, "trouble", r.troubles); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("trouble is %v", err)
	}
	quiet(t, "removed", p.Removed())
	s.link("devices-real")
	quiet(t, "docked again", r.docked)
}

// link lets the list of devices be another folder, at once.
func (s *station) link(target string) {
	s.t.Helper()
	if err := os.Symlink(target, s.devices()+"-next"); err != nil {
		s.t.Fatal(err)
	}
	s.rename(s.devices()+"-next", s.devices())
}

func TestADeviceIsDockedOnceItIsWhole(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	files := stick()
	files["bNumInterfaces"] = "\n"
	s.plug("1-1", files)
	err := await(t, "being told of a device that stays without a configuration", r.troubles)
	if !strings.Contains(err.Error(), "left") || !strings.Contains(err.Error(), "can't power it") {
		t.Errorf("trouble is %q", err)
	}
	s.write("1-1", map[string]string{"bNumInterfaces": " 1\n"}) // makes no event
	p := await(t, "the docking", r.docked)
	if !p.Device().Has(usb.ClassMassStorage, 6) {
		t.Errorf("docked as %+v", p.Device())
	}
	quiet(t, "told again", r.troubles)
}

// A driver can hold a device's lock for long. A FIFO blocks who reads it as well.
func TestADeviceThatBlocksDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.watch(t, &usb.Watcher{Slots: slots("left", "right")})
	files := stick()
	delete(files, "serial")
	stuck := s.make("1-1", files)
	if err := syscall.Mkfifo(filepath.Join(stuck, "serial"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.rename(stuck, filepath.Join(s.devices(), "1-1"))
	s.plug("1-2", stick())
	if p := await(t, "the other docking", r.docked); p.Slot() != "right" {
		t.Errorf("docked in %s", p.Slot())
	}
	if err := os.WriteFile(filepath.Join(s.devices(), "1-1/serial"), []byte("LATE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := await(t, "the docking", r.docked); p.Device().Serial != "LATE" {
		t.Errorf("serial is %q", p.Device().Serial)
	}
}

func TestAnIdleStationIsNotLookedAt(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	opens, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(opens) }() // only read from
	if _, err := unix.InotifyAddWatch(opens, s.devices(), unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	looks := func() int {
		n, err := unix.Read(opens, make([]byte, 64<<10))
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		return max(n, 0) / unix.SizeofInotifyEvent
	}
	await := func(n int) {
		for deadline := time.Now().Add(patience); n > 0; n -= looks() {
			if time.Now().After(deadline) {
				t.Fatalf("%d looks are missing", n)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	await(1)
	s.wake()
	await(2) // for the event, and the second one after it
	for range 3 {
		quiet(t, "docked", r.docked)
	}
	if n := looks(); n != 0 {
		t.Errorf("looked %d times while nothing happened", n)
	}
}

func TestRunWaitsForHandlers(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	ctx, stop := context.WithCancel(t.Context())
	docked, ended := make(chan *usb.Plug), make(chan error)
	returned := false
	w := &usb.Watcher{Sys: s.sys, Dev: s.dev, All: true, Docked: func(ctx context.Context, p *usb.Plug) {
		docked <- p
		<-ctx.Done()
		time.Sleep(100 * time.Millisecond) // tidying up
		returned = true
	}}
	go func() { ended <- w.Run(ctx) }()
	p := await(t, "the docking", docked)
	stop()
	if err := await(t, "the end", ended); err != nil || !returned {
		t.Errorf("Run returned %v before its handler did (%v)", err, returned)
	}
	select {
	case <-p.Removed():
		t.Error("the end of the watch removed the device")
	default:
	}
}

func TestManyDockingsLeaveNothingBehind(t *testing.T) {
	s := newStation(t)
	docked, gone := make(chan string, 100), make(chan string, 100)
	w := &usb.Watcher{
		Sys: s.sys, Dev: s.dev, All: true,
		Docked: func(_ context.Context, p *usb.Plug) {
			docked <- p.Slot()
			<-p.Removed()
		},
		Gone: func(slot string) { gone <- slot },
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	goroutines := runtime.NumGoroutine()
	go func() { ended <- w.Run(ctx) }()
	files := 0
	for round := range 25 {
		for port := range 20 {
			s.plug(fmt.Sprintf("1-%d", port+1), stick())
		}
		for range 20 {
			await(t, "a docking", docked)
		}
		for port := range 20 {
			s.unplug(fmt.Sprintf("1-%d", port+1))
		}
		for range 20 {
			await(t, "a removal", gone)
		}
		if round == 0 {
			files = openFiles(t)
		}
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d files are open, %d were after the first round", now, files)
	}
	stop()
	if err := await(t, "the end", ended); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d were before", runtime.NumGoroutine(), goroutines)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
