//go:build faults

package faults

import (
	"bytes"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bodyworn/ingestd/storage/storetest"
)

const long = "DCIM/100/long.mp4"

// cardFaults spoil a card while it is read, on a file system of ours.
func cardFaults(k *kind, s *storetest.Server) {
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		k.note("SKIPPED: no file system of ours can be mounted here: %v", err)
		return
	} else {
		_ = f.Close() // it was to see whether it opens
	}
	if os.Geteuid() != 0 {
		k.note("SKIPPED: a file system of ours is mounted by root")
		return
	}
	for name, run := range map[string]func(p *place, c *badCard){
		"eio":          eio,
		"eio-once":     eioOnce,
		"short-reads":  shortReads,
		"stall":        stall,
		"slow":         slow,
		"grows":        func(p *place, c *badCard) { changes(p, c, func(b []byte) []byte { return append(b, "more"...) }) },
		"shrinks":      func(p *place, c *badCard) { changes(p, c, func(b []byte) []byte { return b[:len(b)-100_000] }) },
		"same-size":    func(p *place, c *badCard) { changes(p, c, flipped) },
		"vanishes":     vanishes,
		"unplugged":    unplugged,
		"other-bytes":  otherBytes,
		"early-end":    earlyEnd,
		"removed-list": unpluggedEarly,
	} {
		k.each(name, func(p *place) {
			p.onMinIO(s)
			p.prepare()
			c := p.newBadCard(p.card(""))
			run(p, c)
			p.judge(true)
			if c.wrote > 0 {
				p.violate("files on the card were opened for writing %d times", c.wrote)
			}
		})
	}
}

func flipped(b []byte) []byte {
	other := bytes.Clone(b)
	other[len(other)/2] ^= 1
	return other
}

// ends runs ingest and expects a code.
func (p *place) ends(code int) ran {
	p.t.Helper()
	p.k.count(counts{faults: 1})
	r := p.ingest(nil)
	if r.code != code {
		p.violate("ingest ended with %d, expected was %d", r.code, code)
	}
	return r
}

// A place on the card that can't be read: the others are stored, the file is
// reported; once it can be read it is stored.
func eio(p *place, c *badCard) {
	at := int64(p.random.IntN(10 << 20))
	c.spoil(long, func(off int64, n int) (int, syscall.Errno) {
		if off+int64(n) > at {
			return 0, syscall.EIO
		}
		return n, 0
	})
	p.ends(3)
	p.judge(false)
	c.spoil(long, nil)
	p.ends(0)
}

// struck meets a fault once: the file may come whole or be told, and comes whole the
// next time.
func (p *place) struck() {
	p.t.Helper()
	p.k.count(counts{faults: 1})
	if r := p.ingest(nil); r.code != 0 && r.code != 3 {
		p.violate("ingest ended with %d", r.code)
	}
	p.judge(false)
	p.ends(0)
}

func eioOnce(p *place, c *badCard) {
	var met atomic.Bool
	c.spoil(long, func(off int64, n int) (int, syscall.Errno) {
		if off > 6<<20 && met.CompareAndSwap(false, true) {
			return 0, syscall.EIO
		}
		return n, 0
	})
	p.struck()
}

func shortReads(p *place, c *badCard) {
	for name := range c.files {
		c.spoil(name, func(off int64, n int) (int, syscall.Errno) { return min(n, 1+int(off*7919%60_001)), 0 })
	}
	p.ends(0)
}

func stall(p *place, c *badCard) {
	var stalled atomic.Bool
	c.spoil(long, func(off int64, n int) (int, syscall.Errno) {
		if off > 5<<20 && stalled.CompareAndSwap(false, true) {
			time.Sleep(2 * time.Second)
		}
		return n, 0
	})
	p.ends(0)
}

func slow(p *place, c *badCard) {
	c.spoil(long, func(_ int64, n int) (int, syscall.Errno) {
		time.Sleep(20 * time.Millisecond)
		return n, 0
	})
	p.ends(0)
}

// A file that changes while it is read: neither a mixture nor half of it is
// stored. What it holds at last is.
func changes(p *place, c *badCard, how func([]byte) []byte) {
	var changed atomic.Bool
	c.spoil(long, func(off int64, n int) (int, syscall.Errno) {
		if off > 5<<20 && changed.CompareAndSwap(false, true) {
			p.holds(long, c.change(long, how))
		}
		return n, 0
	})
	p.struck()
}

func vanishes(p *place, c *badCard) {
	c.spoil("DCIM/100/b.jpg", func(_ int64, n int) (int, syscall.Errno) {
		c.vanish(long, true)
		return n, 0
	})
	p.ends(3)
	p.judge(false)
	c.spoil("DCIM/100/b.jpg", nil)
	c.vanish(long, false)
	p.ends(0)
}

// Bytes that the card gives once and other ones later: nobody can tell which are
// right, but what was read is what must be stored and listed.
func otherBytes(p *place, c *badCard) {
	p.now[long] = hexSum(flipped(c.files[long].body))
	p.ever[p.now[long]] = true
	c.files[long].body = flipped(c.files[long].body)
	p.ends(0)
}

// A card that ends a file before its directory does.
func earlyEnd(p *place, c *badCard) {
	c.spoil(long, func(off int64, n int) (int, syscall.Errno) {
		if off > 7<<20 {
			return 0, 0
		}
		return n, 0
	})
	p.ends(3)
	p.judge(false)
	c.spoil(long, nil)
	p.ends(0)
}

func unplugged(p *place, c *badCard) {
	at := int64(p.random.IntN(10 << 20))
	var pulled atomic.Bool
	c.spoil(long, func(off int64, n int) (int, syscall.Errno) {
		if off+int64(n) > at && pulled.CompareAndSwap(false, true) {
			go c.unplug(p)
			time.Sleep(50 * time.Millisecond)
			return 0, syscall.EIO
		}
		return n, 0
	})
	p.ends(1)
	p.judge(false)
	c.spoil(long, nil)
	c.mount(p)
	p.k.count(counts{restarts: 1})
	p.ends(0)
}

func unpluggedEarly(p *place, c *badCard) {
	var pulled atomic.Bool
	c.spoil("DCIM/100/b.jpg", func(_ int64, n int) (int, syscall.Errno) {
		if pulled.CompareAndSwap(false, true) {
			go c.unplug(p)
			time.Sleep(50 * time.Millisecond)
			return 0, syscall.EIO
		}
		return n, 0
	})
	p.ends(1)
	p.judge(false)
	c.spoil("DCIM/100/b.jpg", nil)
	c.mount(p)
	p.k.count(counts{restarts: 1})
	p.ends(0)
}
