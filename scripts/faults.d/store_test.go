//go:build faults

package faults

import (
	"fmt"
	"syscall"
	"time"

	"github.com/bodyworn/ingestd/storage/storetest"
)

// storeSteps are the places in the store's writes at which its process can end,
// and how often a small job passes each, about.
var storeSteps = []struct {
	name   string
	passed int
}{
	{"put.locked", 7},
	{"object.durable", 8},
	{"put.published", 7},
	{"put.answer", 7},
	{"begin.published", 1},
	{"part.durable", 3},
	{"part.published", 3},
	{"part.answer", 3},
	{"complete.lock_raised", 1},
	{"complete.published", 1},
	{"complete.answer", 1},
}

// storeKilledAtSteps ends the embedded store's process at each step of a write.
// The daemon ends too, and a supervisor starts both again.
func storeKilledAtSteps(k *kind, _ *storetest.Server) {
	for _, step := range storeSteps {
		for n := 1; n <= step.passed; n++ {
			// The short form takes one of each, another with each seed.
			if !k.long && n != 1+int(k.seed%uint64(step.passed)) {
				continue
			}
			k.each(fmt.Sprintf("%s-%d", step.name, n), func(p *place) {
				p.embedded()
				p.prepare()
				p.card(cardDir)
				pr := p.start([]string{fmt.Sprintf("BODYWORN_CRASH=store.%s:%d:kill", step.name, n)}, "run")
				p.storeEnds(pr)
				p.judge(false)
				p.resume(true)
				p.judge(true)
			})
		}
	}
}

// storeEnds waits until a daemon has ended, as it must when its store does.
func (p *place) storeEnds(pr *process) {
	if pr.untilSafe() { // the store was not killed
		pr.signal(syscall.SIGTERM)
	}
	r := pr.wait()
	switch {
	case r.safe:
		p.k.note("%s: the job was done before its store was killed", p.name)
	case r.signal != 0 || r.code == 0:
		p.violate("the store was killed and the daemon ended with exit %d, signal %d", r.code, r.signal)
	default:
		p.k.count(counts{kills: 1, faults: 1})
	}
}

// storeKilledAtMoments kills the store alone, again and again, at any moment.
func storeKilledAtMoments(k *kind, _ *storetest.Server) {
	places := 3
	if k.long {
		places = 20
	}
	for i := range places {
		k.each(fmt.Sprint(i+1), func(p *place) {
			p.embedded()
			p.prepare()
			p.card(cardDir)
			for range 4 {
				pr := p.start(nil, "run")
				pr.until(func() bool { return p.storePID() != 0 })
				timer := time.NewTimer(time.Duration(p.random.Int64N(int64(time.Second))))
				select {
				case <-timer.C:
				case <-pr.ended:
				}
				if pid := p.storePID(); pid != 0 {
					_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
					p.k.count(counts{kills: 1, faults: 1, restarts: 1})
				}
				// Not waited for: it need not be at work, and then must end too.
				if r := pr.wait(); r.signal != 0 || r.code == 0 {
					p.violate("the store was killed and the daemon ended with exit %d, signal %d", r.code, r.signal)
				}
				p.more(fmt.Sprintf("DCIM/101/%d.mp4", p.started), 1+p.random.IntN(6<<20))
			}
			p.judge(false)
			p.resume(true)
			p.judge(true)
		})
	}
}
