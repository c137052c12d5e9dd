//go:build faults

package faults

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/bodyworn/ingestd/storage/storetest"
)

// stationFaults are those of the station itself.
func stationFaults(k *kind, s *storetest.Server) {
	root := os.Geteuid() == 0
	if !root {
		k.note("SKIPPED: full and read-only disks can only be made by root")
	} else {
		k.each("journal-full", journalFull)
		k.each("store-full", storeFull)
		k.each("state-read-only", func(p *place) { stateReadOnly(p, s) })
		k.each("state-disk-fails", func(p *place) { diskFails("state")(p, s) })
		k.each("store-disk-fails", func(p *place) { diskFails("store")(p, s) })
	}
	k.each("few-files", func(p *place) { fewFiles(p, s) })
	k.each("two-daemons", twoDaemons)
	for _, offset := range []string{"24h", "-24h"} {
		k.each("clock"+offset, func(p *place) { clockSteps(p, s, offset) })
	}
}

// small mounts a memory disk of a size at a folder of the place.
func (p *place) small(folder, size string) {
	p.t.Helper()
	if err := os.MkdirAll(p.path(folder), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", p.path(folder), "tmpfs", 0, "size="+size); err != nil {
		p.t.Fatalf("mount a small disk: %v", err)
	}
	p.t.Cleanup(func() { _ = syscall.Unmount(p.path(folder), syscall.MNT_DETACH) }) // what is on it goes with it
}

func (p *place) resize(folder, options string) {
	p.t.Helper()
	if err := syscall.Mount("tmpfs", p.path(folder), "tmpfs", syscall.MS_REMOUNT, options); err != nil {
		p.t.Fatalf("mount %s again with %s: %v", folder, options, err)
	}
}

// notSafe runs ingest, which must fail.
func (p *place) notSafe() ran {
	p.t.Helper()
	p.k.count(counts{faults: 1})
	r := p.ingest(nil)
	if r.code == 0 || r.signal != 0 {
		p.violate("ingest ended with %d, signal %d", r.code, r.signal)
	}
	return r
}

// journalFull: the journal's disk has room for some commits, and no more.
func journalFull(p *place) {
	p.embedded()
	p.small("state", "4m")
	p.prepare()
	p.card(cardDir)
	fill, err := os.Create(p.path("state/fill"))
	if err != nil {
		p.t.Fatal(err)
	}
	for written := 0; err == nil; written++ {
		_, err = fill.Write(make([]byte, 4096))
	}
	// Leave a few pages: it fails in the middle of the work.
	info, statErr := fill.Stat()
	if statErr == nil {
		statErr = fill.Truncate(info.Size() - int64(4096*p.random.IntN(40)))
	}
	if statErr != nil || fill.Close() != nil {
		p.t.Fatal(statErr)
	}
	p.notSafe()
	if err := os.Remove(p.path("state/fill")); err != nil {
		p.t.Fatal(err)
	}
	p.judge(false)
	p.resume(false)
	p.judge(true)
}

// storeFull: the store's disk fills up in the middle of the work.
func storeFull(p *place) {
	p.embedded()
	p.small("store", "72m") // 64 MiB are kept free of footage
	p.prepare()
	p.card(cardDir)
	p.notSafe()
	p.resize("store", "size=300m")
	p.judge(false)
	p.resume(false)
	p.judge(true)
}

// stateReadOnly: the state's disk can only be read, as after an error of it.
func stateReadOnly(p *place, s *storetest.Server) {
	p.onMinIO(s)
	p.small("state", "32m")
	p.prepare()
	p.card(cardDir)
	first := p.ingest([]string{fmt.Sprintf("BODYWORN_CRASH=journal.after:%d:kill", 3+p.random.IntN(12))})
	if first.signal != 0 {
		p.k.count(counts{kills: 1})
	}
	p.resize("state", "ro,size=32m")
	p.notSafe()
	p.resize("state", "rw,size=32m")
	p.judge(false)
	p.resume(false)
	p.judge(true)
}

// fewFiles: the process may not have many files open. From where it can't start
// at all up to where it has enough.
func fewFiles(p *place, s *storetest.Server) {
	p.onMinIO(s)
	p.prepare()
	p.card(cardDir)
	for _, limit := range []int{8, 12, 16, 20, 24} {
		p.k.count(counts{faults: 1})
		pr := p.startBy([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, limit)}, nil, "ingest", "-o", "json", p.path(cardDir))
		// A connection that can't be opened looks like a store that is away.
		pr.until(func() bool { return pr.saw("storage.unavailable") })
		pr.signal(syscall.SIGTERM)
		if r := pr.wait(); r.signal != 0 {
			p.violate("with %d open files it ended by signal %d", limit, r.signal)
		}
	}
	p.judge(false)
	p.resume(false)
	p.judge(true)
}

// twoDaemons: the second of two on one state is turned away, the first goes on.
func twoDaemons(p *place) {
	p.embedded()
	p.prepare()
	first := p.start(nil, "run")
	first.until(func() bool { return first.saw("daemon.ready") })
	p.card(cardDir)
	for _, args := range [][]string{{"run"}, {"ingest", "-o", "json", p.path(cardDir)}, {"run", "--check-only"}} {
		p.k.count(counts{faults: 1})
		if r := p.start(nil, args...).wait(); r.code != 7 {
			p.violate("a second ingestd on one state ended with %d: %v", r.code, args)
		}
	}
	if !first.untilSafe() {
		p.violate("the first of two daemons does not come to safe")
	}
	first.signal(syscall.SIGTERM)
	if r := first.wait(); r.code != 0 {
		p.violate("the first of two daemons ended with %d", r.code)
	}
	p.judge(true)
}

// clockSteps: the station's clock is a day off while a session is begun, and right
// again when it goes on, with the day's difference the other way.
func clockSteps(p *place, s *storetest.Server, offset string) {
	p.onMinIO(s)
	p.prepare()
	p.card(cardDir)
	p.k.count(counts{faults: 1})
	off := "BODYWORN_CLOCK_OFFSET=" + offset
	r := p.ingest([]string{off, fmt.Sprintf("BODYWORN_CRASH=journal.after:%d:kill", 3+p.random.IntN(12))})
	if r.signal != 0 {
		p.k.count(counts{kills: 1})
	}
	p.judge(false)
	pr := p.start(nil, "run")
	if !pr.untilSafe() {
		p.violate("with the clock right again it does not come to safe")
	}
	pr.signal(syscall.SIGTERM)
	if r := pr.wait(); r.code != 0 {
		p.violate("a daemon at rest that was told to stop ended with %d", r.code)
	}
	if offset[0] != '-' && r.signal != 0 && !pr.saw("clock.station_fell_back") {
		p.violate("the clock fell back by a day and nobody was told")
	}
	p.judge(true)
	// And once more, the day off, with more footage.
	p.more("DCIM/101/later.mp4", 6<<20)
	began := time.Now()
	if r := p.ingest([]string{off}); r.code != 0 {
		p.violate("ingest with the clock off by %s ended with %d", offset, r.code)
	}
	p.k.note("clock%s: took %s", offset, time.Since(began).Round(time.Millisecond))
	p.judge(true)
}
