//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device/simulator/diskgadget"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
	"github.com/bodyworn/ingestd/device/simulator/textgadget"
	"github.com/bodyworn/ingestd/device/simulator/usbip"
	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// within bounds what the kernel takes to plug or unplug.
const within = 2 * time.Minute

// zone is that of the recorders' clocks, and of the station.
var zone = time.FixedZone("CST", 8*3600)

// recorder is a simulated one in its port. What is not of its kind is nil.
type recorder struct {
	port  *usbip.Port
	ptp   *ptpgadget.Gadget
	text  *textgadget.Recorder
	disk  *diskgadget.Disk
	image *os.File

	mu  sync.Mutex
	err error // guarded by mu; why it could not become a disk
}

func (a *agent) attach(at wire.Attach) (any, error) {
	r := &recorder{port: usbip.NewPort(usbip.Controller{}, at.Port)}
	var first gadget.Function
	var err error
	if at.Image != "" {
		if err = r.openDisk(at); err != nil {
			return nil, err
		}
	}
	switch at.Kind {
	case "disk":
		first = r.disk
	case "locked":
		r.text = textgadget.New(textgadget.Config{
			USBSerial: at.Serial, Serial: at.Serial, Password: at.Password,
			Now: func() time.Time { return time.Now().In(zone).Add(at.Offset) },
			Switch: func() {
				ctx, cancel := context.WithTimeout(context.Background(), within)
				defer cancel()
				err := r.port.Replace(ctx, r.disk, 500*time.Millisecond)
				r.mu.Lock()
				defer r.mu.Unlock()
				r.err = err
			},
		})
		first = r.text
	case "ptp":
		if r.ptp, err = newPTP(at); err != nil {
			return nil, err
		}
		first = r.ptp
	default:
		return nil, fmt.Errorf("no kind of recorder is called %q", at.Kind)
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := r.port.Plug(ctx, first); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recorders[at.Name] = r
	return nil, nil
}

// openDisk makes the disk writable, so that a write would be counted and not only
// be refused.
func (r *recorder) openDisk(at wire.Attach) (err error) {
	if r.image, err = os.OpenFile(at.Image, os.O_RDWR, 0); err != nil {
		return err
	}
	info, err := r.image.Stat()
	if err != nil {
		return err
	}
	r.disk, err = diskgadget.New(diskgadget.Config{
		Serial: at.Serial, ProductName: "Recorder",
		LUNs: []diskgadget.LUN{{Image: r.image, Writer: r.image, Size: info.Size()}},
	})
	return err
}

func newPTP(at wire.Attach) (*ptpgadget.Gadget, error) {
	folder := &ptpgadget.Object{Name: "DCIM", Folder: true}
	for _, f := range at.Files {
		data, err := io.ReadAll(wire.Content(f.Seed, f.Size))
		if err != nil {
			return nil, err
		}
		folder.Objects = append(folder.Objects, &ptpgadget.Object{
			Name: f.Path, Size: f.Size, Content: bytes.NewReader(data), Modified: "20261125T100000",
		})
	}
	return ptpgadget.New(ptpgadget.Recorder{
		USBSerial: at.Serial, Serial: at.Serial, Manufacturer: "Bodyworn", Model: "Simulator", Version: "1",
		Stores:  []ptpgadget.Store{{Capacity: 32 << 30, Free: 16 << 30, Label: "CARD", Objects: []*ptpgadget.Object{folder}}},
		Clock:   ptpgadget.Clock{Offset: at.Offset, Zone: zone},
		Battery: ptpgadget.Battery{Level: 77, Max: 100},
	}), nil
}

func (a *agent) plugged(name string) (*recorder, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.recorders[name]
	if r == nil {
		return nil, fmt.Errorf("no recorder %s is plugged in", name)
	}
	return r, nil
}

func (a *agent) detach(n wire.Name) (any, error) {
	r, err := a.plugged(n.Name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	err = r.port.Unplug(ctx)
	if r.image != nil {
		err = errors.Join(err, r.image.Close())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.recorders, n.Name)
	return nil, err
}

// recorder tells what was done to one.
func (a *agent) recorder(n wire.Name) (any, error) {
	r, err := a.plugged(n.Name)
	if err != nil {
		return nil, err
	}
	var told wire.Told
	if r.text != nil {
		counts := r.text.Counts()
		told.Offset = time.Until(r.text.Now())
		told.Commands, told.WrongPasswords, told.Switches = counts.Commands, counts.WrongPasswords, counts.Switches
	}
	if r.ptp != nil {
		told.Set = r.ptp.Counts().Set
	}
	if r.disk != nil {
		counts := r.disk.Counts()
		told.Writes, told.Read = counts.Writes, counts.Read
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return told, r.err
}

// portPath is what package usb calls a port for simulated recorders.
func portPath(at wire.Attach) (any, error) { return usbip.Controller{}.PortPath(at.Port) }

// keepTime makes the kernel say that a time service keeps its clock, as one does:
// the machine has none, and the host's clock is as good as any.
func keepTime(struct{}) (any, error) {
	_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR, Maxerror: 50_000, Esterror: 10_000})
	return nil, err
}

// stepClock sets the kernel's clock ahead or back, as a hand does. From then on the
// kernel says that no time service keeps it.
func stepClock(s wire.Step) (any, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return nil, err
	}
	then := unix.NsecToTimespec(now.Nano() + int64(s.By))
	return nil, unix.ClockSettime(unix.CLOCK_REALTIME, &then)
}
