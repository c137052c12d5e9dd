// Package diskgadget simulates a recorder that shows itself as disks: the USB mass
// storage class over bulk-only transport, with one disk, a LUN, for each storage of
// the recorder, and the faults that damaged cards and pulled cables have. The
// kernel's usb-storage and sd drive it through package usbip; what they are given is
// counted, so that a test can prove what was read and that nothing was written.
//
// Sources: USB Mass Storage Class Bulk-Only Transport 1.0 (BOT), SPC-2 and SBC-2.
package diskgadget

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// Endpoints and class of the interface (BOT §4).
const (
	bulkIn       = 0x81
	bulkOut      = 0x02
	packetSize   = 512
	classStorage = 0x08
	subclassSCSI = 0x06
	protocolBulk = 0x50
)

// maxLUNs is what a LUN number of four bits can tell apart (BOT §5.1).
const maxLUNs = 16

// DefaultBlock is the size of a sector in bytes if a LUN does not say.
const DefaultBlock = 512

// LUN is one disk.
type LUN struct {
	// Image has what is on the disk. A failing read is a sector that can't be read.
	// Nil is a slot without a card.
	Image io.ReaderAt
	// Size of the disk in bytes, a multiple of Block.
	Size int64
	// Block is the size of a sector in bytes; 0 is DefaultBlock.
	Block int
	// Writer takes what is written. Nil is a disk that is write-protected, and that
	// says so.
	Writer io.WriterAt
	// Bad are sectors that can't be read: MEDIUM ERROR, unrecovered read error.
	Bad []int64
	// Fixed says that the medium can't be taken out; most recorders say it can.
	Fixed bool
	// Product is what INQUIRY tells, up to 16 bytes of ASCII. Empty: the ProductName.
	Product string
}

// Config is what a recorder shows, and how it fails.
type Config struct {
	// Vendor and Product are the ids; both 0 are 1209:0001, for tests (pid.codes).
	Vendor, Product, Release          uint16
	Manufacturer, ProductName, Serial string
	LUNs                              []LUN
	// YankAfter pulls the cable when so many bytes of sectors were read, over all
	// LUNs. What was on the way then is lost, up to 64 KiB. 0 is never.
	YankAfter int64
	// BytesPerSecond limits how fast sectors are handed out. 0 is no limit.
	BytesPerSecond int64
}

// Counts is what the host has done since the Disk was made.
type Counts struct {
	// Read counts the bytes of sectors that were read for the host.
	Read int64
	// Writes counts the commands that would have changed a disk: WRITE and its kin,
	// UNMAP, FORMAT UNIT, MODE SELECT. They count whether or not they were refused.
	Writes int
	// WriteBytes counts the bytes that came with these commands.
	WriteBytes int64
	// ReadErrors counts the reads that ended at a sector that can't be read.
	ReadErrors int
	// Resets counts how often the host had to start the transport anew (BOT §3.1).
	Resets int
	// Invalid counts command blocks that BOT §6.2 does not allow.
	Invalid int
	// Ejected says of each LUN whether its medium is out now.
	Ejected []bool
}

// Disk is a gadget.Function. It may be plugged in again, as a recorder that is docked
// again; what was counted stays.
type Disk struct {
	config Config
	units  []*unit

	// mu guards all below and the units: sectors are read in a goroutine of the
	// endpoint while the host may already ask for something else.
	mu     sync.Mutex
	queue  gadget.Queue
	state  state
	counts Counts
	next   time.Time // before which no more sectors are handed out
}

// New checks the configuration.
func New(c Config) (*Disk, error) {
	if len(c.LUNs) < 1 || len(c.LUNs) > maxLUNs {
		return nil, fmt.Errorf("disk gadget: %d LUNs; it has 1 to %d", len(c.LUNs), maxLUNs)
	}
	if c.Vendor == 0 && c.Product == 0 {
		c.Vendor, c.Product = 0x1209, 0x0001
	}
	d := &Disk{config: c}
	d.counts.Ejected = make([]bool, len(c.LUNs))
	for i, l := range c.LUNs {
		if l.Block == 0 {
			l.Block = DefaultBlock
		}
		switch {
		case l.Block%DefaultBlock != 0 || l.Block < 0 || l.Block > 4096:
			return nil, fmt.Errorf("disk gadget: LUN %d: a sector of %d bytes; it is 512, or a multiple up to 4096", i, l.Block)
		case l.Image != nil && (l.Size <= 0 || l.Size%int64(l.Block) != 0):
			return nil, fmt.Errorf("disk gadget: LUN %d: %d bytes are no whole sectors of %d", i, l.Size, l.Block)
		}
		if l.Product == "" {
			l.Product = c.ProductName
		}
		l.Bad = slices.Sorted(slices.Values(l.Bad))
		d.units = append(d.units, &unit{LUN: l, number: i})
	}
	return d, nil
}

// Counts returns what was counted so far.
func (d *Disk) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counts
	c.Ejected = slices.Clone(c.Ejected)
	return c
}

// Descriptors implements gadget.Function.
func (d *Disk) Descriptors() gadget.Descriptors {
	return gadget.Descriptors{
		Vendor: d.config.Vendor, Product: d.config.Product, Release: d.config.Release,
		Manufacturer: d.config.Manufacturer, ProductName: d.config.ProductName, Serial: d.config.Serial,
		Interfaces: []gadget.Interface{{
			Class: classStorage, SubClass: subclassSCSI, Protocol: protocolBulk,
			Endpoints: []gadget.Endpoint{
				{Address: bulkIn, PacketSize: packetSize},
				{Address: bulkOut, PacketSize: packetSize},
			},
		}},
	}
}

// Plugged implements gadget.Plugger: the media are in again.
func (d *Disk) Plugged(q gadget.Queue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue, d.state, d.next = q, state{}, time.Time{}
	clear(d.counts.Ejected)
	for _, u := range d.units {
		u.sense, u.locked = good, false
	}
}

var errPulled = errors.New("the cable was pulled")

// sectors reads a range of a LUN as the host takes it. It ends with an error at the
// first sector that can't be read.
type sectors struct {
	disk        *Disk
	unit        *unit
	queue       gadget.Queue
	offset, end int64 // bytes on the disk
	command     *command
}

func (r *sectors) Read(p []byte) (int, error) {
	if r.offset >= r.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.end-r.offset)]
	d := r.disk
	if rate := d.config.BytesPerSecond; rate > 0 {
		// About ten portions a second, of whole sectors.
		portion := max(rate/10/int64(r.unit.Block), 1) * int64(r.unit.Block)
		p = p[:min(int64(len(p)), portion)]
		if err := d.pause(r.queue, int64(len(p))); err != nil {
			return 0, err
		}
	}
	block := int64(r.unit.Block)
	if i, _ := slices.BinarySearch(r.unit.Bad, r.offset/block); i < len(r.unit.Bad) {
		bad := r.unit.Bad[i]
		if bad*block <= r.offset {
			return 0, r.unreadable(bad)
		}
		p = p[:min(int64(len(p)), bad*block-r.offset)]
	}
	if p = p[:d.untilYank(int64(len(p)))]; len(p) == 0 {
		r.queue.Unplug()
		return 0, errPulled
	}
	n, err := r.unit.Image.ReadAt(p, r.offset)
	if n == len(p) {
		err = nil // io.EOF may come with the last byte
	} else {
		n = max(n-int((r.offset+int64(n))%block), 0) // half a sector can't be read
	}
	d.handOut(r, int64(n))
	r.offset += int64(n)
	if err != nil {
		return n, r.unreadable(r.offset / block)
	}
	return n, nil
}

// untilYank is how many of n bytes may go before the cable is pulled.
func (d *Disk) untilYank(n int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.config.YankAfter == 0 {
		return n
	}
	return max(min(n, d.config.YankAfter-d.counts.Read), 0)
}

func (d *Disk) handOut(r *sectors, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts.Read += n
	r.command.moved += n
}

// unreadable notes the sense data that the host will ask for, and the status of the
// command, which follows.
func (r *sectors) unreadable(sector int64) error {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts.ReadErrors++
	r.command.status = statusFailed
	r.unit.sense = unrecoveredRead
	r.unit.sense.information, r.unit.sense.valid = uint32(min(sector, 0xffffffff)), sector <= 0xffffffff
	return fmt.Errorf("LUN %d: sector %d can't be read", r.unit.number, sector)
}

// pause waits until n more bytes may go.
func (d *Disk) pause(q gadget.Queue, n int64) error {
	d.mu.Lock()
	now := time.Now()
	if d.next.Before(now) {
		d.next = now
	}
	d.next = d.next.Add(time.Duration(float64(n) / float64(d.config.BytesPerSecond) * float64(time.Second)))
	wait := d.next.Sub(now)
	d.mu.Unlock()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-q.Unplugged():
		return errPulled
	}
}
