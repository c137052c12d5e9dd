package usb_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
)

// answer is what Wait returned.
type answer struct {
	device usb.Device
	err    error
}

// waitFor waits in a goroutine of its own.
func waitFor(ctx context.Context, p *usb.Plug, ready func(usb.Device) bool) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		d, err := p.Wait(ctx, ready)
		c <- answer{d, err}
	}()
	return c
}

func anyDevice(usb.Device) bool { return true }

func TestAnExpectedDeviceIsTheSameDocking(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	p := await(t, "the docking", r.docked)
	for range 3 {
		old := p.Device().Address
		p.Expect(patience)
		came := waitFor(t.Context(), p, anyDevice)
		quiet(t, "the device that is about to leave was taken", came)
		s.unplug("1-1")
		quiet(t, "removed, though it was expected", p.Removed())
		s.plug("1-1", stick())
		a := await(t, "the device that comes back", came)
		if a.err != nil || a.device.Address == old {
			t.Fatalf("got address %d, %v; the old one is %d", a.device.Address, a.err, old)
		}
	}
	quiet(t, "a second docking", r.docked)
	// What was not announced is a removal again.
	s.unplug("1-1")
	await(t, "Removed", p.Removed())
	if slot := await(t, "gone", r.gone); slot != "left" || len(r.gone) != 0 {
		t.Errorf("gone: %s and %d more", slot, len(r.gone))
	}
}

func TestADeviceThatDoesNotComeBackInTimeIsRemoved(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	p := await(t, "the docking", r.docked)
	p.Expect(300 * time.Millisecond)
	came := waitFor(t.Context(), p, anyDevice)
	s.unplug("1-1")
	if a := await(t, "the end of waiting", came); !errors.Is(a.err, device.ErrRemoved) {
		t.Errorf("Wait returned %v, want ErrRemoved", a.err)
	}
	await(t, "Removed", p.Removed())
	await(t, "gone", r.gone)
	s.plug("1-1", stick()) // too late
	if q := await(t, "a docking of its own", r.docked); q == p {
		t.Error("it is the old docking")
	}
}

func TestADeviceThatNeverLeavesStaysDocked(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	p := await(t, "the docking", r.docked)
	p.Expect(300 * time.Millisecond)
	if a := await(t, "the device as it is", waitFor(t.Context(), p, anyDevice)); a.err != nil || a.device.Address != 2 {
		t.Fatalf("Wait returned address %d, %v", a.device.Address, a.err)
	}
	quiet(t, "removed", p.Removed())
	// The time is over: another enumeration was not announced.
	s.take("1-1")
	s.plug("1-1", stick())
	await(t, "Removed", p.Removed())
	await(t, "the next docking", r.docked)
}

func TestWaitSeesDisksThatMakeNoEvent(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	p := await(t, "the docking", r.docked)
	part := ":1.0/host6/target6:0:0/6:0:0:0/block/sda/sda1/"
	calls, once := make(chan struct{}, 1000), sync.Once{}
	came := waitFor(t.Context(), p, func(d usb.Device) bool {
		calls <- struct{}{}
		if len(d.Disks) == 0 || d.Disks[0].Size == 0 {
			return false
		}
		once.Do(func() { // the partition comes a moment after the disk was seen
			s.write("1-1", inPort("1-1", map[string]string{part + "size": "2000\n", part + "partition": "1\n"}))
		})
		return true
	})
	await(t, "a look", calls)
	// A disk, then its medium.
	s.write("1-1", inPort("1-1", disk("", "6:0:0:0", "sda", "0\n", "0\n")))
	quiet(t, "a disk without a medium", came)
	s.write("1-1", inPort("1-1", disk("", "6:0:0:0", "sda", "2048\n", "0\n")))
	a := await(t, "the disk", came)
	if a.err != nil || len(a.device.Disks) != 1 || a.device.Disks[0].Size != 1<<20 || len(a.device.Disks[0].Partitions) != 1 {
		t.Fatalf("got %+v, %v: want a disk of 1 MiB with its partition", a.device.Disks, a.err)
	}
	s.write("1-1", inPort("1-1", disk("", "6:0:0:0", "sda", "4096\n", "0\n")))
	if d := p.Device(); len(d.Disks) != 1 || d.Disks[0].Size != 2<<20 {
		t.Errorf("Device shows %+v, not what is there now", d.Disks)
	}
}

func inPort(port string, files map[string]string) map[string]string {
	named := map[string]string{}
	for name, text := range files {
		named[port+name] = text
	}
	return named
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	p := await(t, "the docking", r.docked)
	ctx, stop := context.WithCancel(t.Context())
	never := waitFor(ctx, p, func(usb.Device) bool { return false })
	stop()
	if a := await(t, "the end of waiting", never); !errors.Is(a.err, context.Canceled) {
		t.Errorf("Wait returned %v", a.err)
	}
}

// Seen by Wait before the watcher: what is in the port is another device.
func TestWaitDoesNotTakeAnotherDevice(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	r := s.watch(t, &usb.Watcher{Slots: slots("left")})
	p := await(t, "the docking", r.docked)
	s.take("1-1")
	s.rename(s.make("1-1", stick()), filepath.Join(s.devices(), "1-1")) // no event
	if a := await(t, "the end of waiting", waitFor(t.Context(), p, anyDevice)); !errors.Is(a.err, device.ErrRemoved) {
		t.Errorf("Wait returned %+v, %v", a.device, a.err)
	}
	if q := await(t, "the other's docking", r.docked); q.Device().Address != 3 {
		t.Errorf("docked %+v", q.Device())
	}
}

func TestNextPlugged(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	s.plug("1-2", map[string]string{
		"idVendor": "05e3", "idProduct": "0608", "bcdDevice": "8536", "bDeviceClass": "09", "bNumInterfaces": " 0",
	})
	known := map[string]bool{"1-1": true}
	type result struct {
		d   usb.Device
		err error
	}
	c := make(chan result, 1)
	next := func(ctx context.Context) {
		d, err := usb.NextPlugged(ctx, s.sys, s.dev, known)
		c <- result{d, err}
	}
	go next(t.Context())
	quiet(t, "a known port or a hub", c)
	files := stick()
	maps.Copy(files, map[string]string{"serial": "NEW\n"})
	s.plug("1-2.3", files)
	if got := await(t, "the new one", c); got.err != nil || got.d.Port != "1-2.3" || got.d.Serial != "NEW" {
		t.Errorf("got %+v, %v", got.d, got.err)
	}
	known["1-2.3"] = true
	ctx, stop := context.WithCancel(t.Context())
	go next(ctx)
	quiet(t, "one that was reported", c)
	stop()
	if got := await(t, "the end", c); !errors.Is(got.err, context.Canceled) {
		t.Errorf("err is %v", got.err)
	}

	// Where there is no USB the person waits for nothing: the error says so.
	if err := os.RemoveAll(filepath.Join(s.sys, "bus")); err != nil {
		t.Fatal(err)
	}
	soon, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	if _, err := usb.NextPlugged(soon, s.sys, s.dev, nil); !errors.Is(err, os.ErrNotExist) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err is %v", err)
	}
}
