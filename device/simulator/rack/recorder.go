package rack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/ptp"
	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
)

const (
	clipLength = 8 * time.Second
	// bytesASecond is what a recorder gives at speed 1. Real ones give 25 MB/s, and have
	// a thousand times more on them.
	bytesASecond = 400 << 10
	capacity     = 32 << 30
	firstNumber  = 100 // of a recorder's recordings
)

// namesAs is the profile whose names the recordings have.
const namesAs = "zfy-paramini"

// recorder is one with the footage of a shift.
type recorder struct {
	*ptpgadget.Gadget
	serial string
	zone   *time.Location
	clips  int     // that it has recorded
	bytes  float64 // on the card
	sent   *atomic.Int64
	refuse bool // the station's policy is to leave it alone
}

func (c *recorder) read() float64 { return float64(c.sent.Load()) }

func (r *Rack) newRecorder(n, shift, counted int, dir string, dice *rand.Rand, fault Fault) (*recorder, error) {
	serial, officer := r.Recorder(n)
	clips := 3 + dice.IntN(5)
	offset := time.Duration(dice.Int64N(int64(4*time.Second))) - 2*time.Second
	battery := ptpgadget.Battery{Max: 100, Level: uint8(45 + dice.IntN(55))}
	clock := ptpgadget.Clock{Offset: offset, Zone: r.Zone}
	switch fault.Kind {
	case Drift:
		clock.Offset = fault.Offset
	case NoClock:
		clock.Absent = true
	case Battery:
		battery.Level = fault.Percent
	}
	begun := time.Now().Add(-time.Duration(clips)*clipLength - time.Duration(5+dice.IntN(30))*time.Minute).Truncate(time.Second)
	contents, err := simulator.Card{
		Seed: r.Seed + uint64(100*n+shift), Recorder: fmt.Sprintf("DSJ%04d", 400+n), Officer: officer, Start: begun.In(r.Zone), ClockOffset: clock.Offset,
		Clips: clips, ClipLength: clipLength, FirstSequence: counted,
	}.Write(dir)
	if err != nil {
		return nil, err
	}
	if fault.Kind == Deleted {
		if err := deleteClip(dir, contents, counted+1); err != nil {
			return nil, err
		}
	}
	objects, err := ptpgadget.FromFS(os.DirFS(dir), r.Zone)
	if err != nil {
		return nil, err
	}
	c := &recorder{serial: serial, zone: r.Zone, clips: clips, bytes: float64(contents.Bytes), sent: &atomic.Int64{}, refuse: fault.Kind == Stranger}
	pace := &pace{perSecond: bytesASecond * r.Speed, sent: c.sent}
	bad := ""
	if fault.Kind == BadCard {
		bad = path.Base(contents.Files[len(contents.Files)-1].Path)
	}
	slow(objects, pace, bad)
	c.Gadget = ptpgadget.New(ptpgadget.Recorder{
		USBSerial: serial, Serial: serial, Manufacturer: "ingestd", Model: "模拟执法记录仪", Clock: clock, Battery: battery,
		Stores: []ptpgadget.Store{{Capacity: capacity, Free: uint64(capacity - contents.Bytes), Label: "SIMULATED", Objects: objects}},
	})
	return c, nil
}

// deleteClip removes a recording, and what lies beside it, from a card.
func deleteClip(dir string, contents simulator.Contents, number int) error {
	for _, f := range contents.Files {
		if strings.Contains(path.Base(f.Path), fmt.Sprintf("_%06d", number)) {
			if err := os.Remove(filepath.Join(dir, f.Path)); err != nil {
				return err
			}
		}
	}
	return nil
}

// slow has objects read at a recorder's pace, and the one named bad not at all.
func slow(objects []*ptpgadget.Object, p *pace, bad string) {
	for _, o := range objects {
		slow(o.Objects, p, bad)
		switch {
		case o.Content == nil:
		case o.Name == bad:
			o.Content = unreadable{}
		default:
			o.Content = paced{o.Content, p}
		}
	}
}

type unreadable struct{}

func (unreadable) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("the simulated card can't be read here")
}

// pace is that of one recorder.
type pace struct {
	perSecond float64
	sent      *atomic.Int64

	mu   sync.Mutex
	free time.Time // guarded by mu; when the next bytes may go
}

type paced struct {
	io.ReaderAt
	pace *pace
}

// atOnce is how many bytes are given without a pause between: so few that a recorder
// that is pulled stops soon.
const atOnce = 32 << 10

func (p paced) ReadAt(b []byte, at int64) (n int, err error) {
	for n < len(b) && err == nil {
		var got int
		got, err = p.ReaderAt.ReadAt(b[n:min(len(b), n+atOnce)], at+int64(n))
		p.pace.take(got)
		n += got
	}
	return n, err
}

func (p *pace) take(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / p.perSecond * float64(time.Second)))
	time.Sleep(time.Until(p.free))
	p.sent.Add(int64(n))
}

// plugged is a recorder in its slot.
type plugged struct {
	slot    string
	device  *recorder
	removed chan struct{}
	left    sync.WaitGroup
	gone    func(slot string)

	mu    sync.Mutex
	pipes []*gadget.Pipe // guarded by mu
	out   bool           // guarded by mu
}

// plug puts a recorder into its slot.
func (r *Rack) plug(ctx context.Context, slot string, c *recorder) *plugged {
	p := &plugged{slot: slot, device: c, removed: make(chan struct{}), gone: r.Gone}
	p.left.Go(func() { r.Docked(ctx, device.Docking{Slot: slot, Open: p.open, Removed: p.removed, Stays: true}) })
	return p
}

// pull takes it out, whatever it is doing. A second time it does nothing.
func (p *plugged) pull() {
	p.mu.Lock()
	if p.out {
		p.mu.Unlock()
		return
	}
	p.out = true
	close(p.removed)
	for _, pipe := range p.pipes {
		pipe.Unplug()
	}
	p.mu.Unlock()
	p.left.Wait()
	p.gone(p.slot)
}

// open is what package dock does with a recorder that is read over PTP.
func (p *plugged) open(ctx context.Context) (device.Recorder, error) {
	if p.device.refuse {
		return nil, fmt.Errorf("the recorder %s: %w", p.device.serial, device.ErrUnregistered)
	}
	p.mu.Lock()
	if p.out {
		p.mu.Unlock()
		return nil, device.ErrRemoved
	}
	pipe := gadget.NewPipe(p.device.Gadget, 0)
	p.pipes = append(p.pipes, pipe)
	p.mu.Unlock()
	opened, err := ptp.Open(ctx, pipe, ptp.Config{
		Identity: device.Identity{Place: "simulated slot " + p.slot, Profile: namesAs, Serial: device.Fact{Source: "usb", Value: p.device.serial}},
		Zone:     p.device.zone, SetClock: true,
	})
	if err != nil {
		return nil, errors.Join(err, pipe.Close())
	}
	return opened, nil
}
