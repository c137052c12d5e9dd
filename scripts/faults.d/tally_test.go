//go:build faults

package faults

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

// settings come from scripts/faults.
type settings struct {
	program string         // ingestd, built with crashpoints
	seed    uint64         // of the first round
	minutes time.Duration  // 0: the short form
	only    *regexp.Regexp // kinds and cases; nil: all
	log     *os.File       // nil: none is kept
	minio   storage.Config // with the one bucket
	// templates are folders with a state, and perhaps a store, whose self-test has
	// passed: it takes seconds.
	templates struct{ embedded, minio string }
}

// known are violations that are understood and tolerated: each is printed with
// its reason whenever it is met.
var known = []struct {
	what   *regexp.Regexp // matches "kind/case: what"
	reason string
}{}

// kind is one kind of fault in one round, with what was done and found. Its
// methods are safe for concurrent use.
type kind struct {
	t    *testing.T
	s    *settings
	name string
	seed uint64
	long bool

	mu     sync.Mutex
	counts counts   // guarded by mu
	notes  []string // guarded by mu; what was skipped and why, what is known
}

// counts add up over kinds and rounds.
type counts struct {
	cases, kills, restarts, faults, files, violations, known int
	bytes                                                    int64
}

func (c *counts) add(o counts) {
	c.cases, c.kills, c.restarts, c.faults = c.cases+o.cases, c.kills+o.kills, c.restarts+o.restarts, c.faults+o.faults
	c.files, c.bytes, c.violations, c.known = c.files+o.files, c.bytes+o.bytes, c.violations+o.violations, c.known+o.known
}

func (c counts) String() string {
	text := fmt.Sprintf("%4d cases %4d kills %4d restarts %4d faults %5d files %6d MiB  %d violations",
		c.cases, c.kills, c.restarts, c.faults, c.files, c.bytes>>20, c.violations)
	if c.known > 0 {
		text += fmt.Sprintf(" (and %d known)", c.known)
	}
	return text
}

func (k *kind) count(add counts) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts.add(add)
}

func (k *kind) note(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notes = append(k.notes, fmt.Sprintf(format, args...))
}

// wants tells whether a case was asked for.
func (k *kind) wants(name string) bool {
	return k.s.only == nil || k.s.only.MatchString(k.name+"/"+name)
}

// random depends on the seed and the case alone, so that --only meets the same.
func (k *kind) random(name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(k.name + "/" + name)) // a hash takes all
	return rand.New(rand.NewPCG(k.seed, h.Sum64()))
}

// each runs a case as a test of its own, beside others.
func (k *kind) each(name string, run func(p *place)) {
	if !k.wants(name) {
		return
	}
	k.t.Run(name, func(t *testing.T) {
		t.Parallel()
		k.count(counts{cases: 1})
		p := &place{t: t, k: k, name: name, random: k.random(name), once: true}
		defer p.end()
		run(p)
	})
}

// print writes the one line of a kind, and its notes.
func (k *kind) print() {
	k.mu.Lock()
	defer k.mu.Unlock()
	fmt.Fprintf(os.Stdout, "  %-18s %s\n", k.name, k.counts)
	for _, note := range k.notes {
		fmt.Fprintf(os.Stdout, "    %s\n", note)
	}
}

// mostShown bounds the violations of one case that are written out.
const mostShown = 8

// violate records that an invariant does not hold. Safe for every goroutine.
func (p *place) violate(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	for _, k := range known {
		if k.what.MatchString(p.k.name + "/" + p.name + ": " + what) {
			p.k.count(counts{known: 1})
			p.k.note("known: %s: %s: %s", p.name, what, k.reason)
			return
		}
	}
	p.k.count(counts{violations: 1})
	if p.violations++; p.violations > mostShown {
		return // the rest would say the same
	}
	fmt.Fprintf(os.Stdout, "VIOLATED by %s/%s, --seed %d: %s\n", p.k.name, p.name, p.k.seed, what)
	p.t.Errorf("VIOLATED by %s/%s, --seed %d --only '^%s/%s$': %s", p.k.name, p.name, p.k.seed, p.k.name, regexp.QuoteMeta(p.name), what)
}

// end keeps or prints the log of a case.
func (p *place) end() {
	log := p.log.String()
	if p.k.s.log != nil {
		fmt.Fprintf(p.k.s.log, "==== %s/%s, seed %d, failed %v\n%s\n", p.k.name, p.name, p.k.seed, p.t.Failed(), log)
	}
	if p.t.Failed() {
		lines := strings.Split(log, "\n")
		p.t.Logf("the end of its log:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}
