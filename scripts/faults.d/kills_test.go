//go:build faults

package faults

import (
	"fmt"
	"syscall"
	"time"

	"github.com/bodyworn/ingestd/storage/storetest"
)

// onMinIO gives a case a bucket of its own on the shared server.
func (p *place) onMinIO(s *storetest.Server) {
	p.t.Helper()
	p.station(p.k.s.minio, s.Client())
}

// mostCommits is more than any job here has.
const mostCommits = 200

// killedAtCommits ends ingestd at each commit of its journal, before it and after
// it, with SIGKILL and with SIGTERM. The short form takes every commit once, in
// one of the ways.
func killedAtCommits(k *kind, s *storetest.Server) {
	ways := [][2]string{{"before", "kill"}, {"after", "kill"}, {"before", "term"}, {"after", "term"}}
	// How many commits a job has depends on how they come together. Some more than
	// usual: behind the job's end nothing happens, which must do no harm either.
	const usual = 30
	for n := 1; n <= usual; n++ {
		for i, way := range ways {
			// Before and after in turn, and with SIGTERM every fourth.
			short := i == n%2 || n%4 == 1 && i == 3
			if k.long || short {
				k.each(fmt.Sprintf("%d-%s-%s", n, way[0], way[1]), func(p *place) { p.endedAtCommit(s, n, way[0], way[1]) })
			}
		}
	}
	if k.long {
		k.each("in-turn", func(p *place) { p.eachCommitInTurn(s) })
	}
}

func (p *place) endedAtCommit(s *storetest.Server, n int, side, how string) {
	daemon := n%4 < 2 // run on the embedded store; else ingest on MinIO
	if daemon {
		p.embedded()
	} else {
		p.onMinIO(s)
	}
	p.prepare()
	p.card(cardDir)
	env := []string{fmt.Sprintf("BODYWORN_CRASH=journal.%s:%d:%s", side, n, how)}
	var first ran
	if daemon {
		pr := p.start(env, "run")
		pr.untilSafe()
		pr.signal(syscall.SIGTERM) // no harm where it has ended
		first = pr.wait()
	} else {
		first = p.ingest(env)
	}
	p.judgeEnd(first, daemon)
	p.judge(false)
	p.resume(daemon)
	p.judge(true)
	p.untouched(p.path(cardDir))
}

// judgeEnd looks at how a run ended that was to be killed or stopped.
func (p *place) judgeEnd(r ran, daemon bool) {
	switch {
	case r.signal == syscall.SIGKILL:
		p.k.count(counts{kills: 1, faults: 1})
	case r.signal != 0:
		p.violate("it ended by signal %d", r.signal)
	case daemon && r.code != 0:
		p.violate("a daemon that was told to stop ended with %d", r.code)
	case !daemon && r.code != 0 && r.code != 130:
		p.violate("ingest that was told to stop ended with %d", r.code)
	default:
		p.k.count(counts{faults: 1})
	}
}

// resume starts the program again, without a fault, until it is safe.
func (p *place) resume(daemon bool) {
	p.k.count(counts{restarts: 1})
	if !daemon {
		if r := p.ingest(nil); r.code != 0 {
			p.violate("started again, without a fault: exit %d", r.code)
		}
		return
	}
	pr := p.start(nil, "run")
	if !pr.untilSafe() {
		p.violate("started again, without a fault, it does not come to safe")
	}
	pr.signal(syscall.SIGTERM)
	if r := pr.wait(); r.code != 0 {
		p.violate("a daemon at rest that was told to stop ended with %d", r.code)
	}
}

// eachCommitInTurn kills one and the same job at its first commit, then at the
// second of what remains, and so on until it ends undisturbed.
func (p *place) eachCommitInTurn(s *storetest.Server) {
	p.onMinIO(s)
	p.prepare()
	p.card(cardDir)
	for n := 1; n < mostCommits; n++ {
		r := p.ingest([]string{fmt.Sprintf("BODYWORN_CRASH=journal.after:%d:kill", n)})
		if r.signal == 0 {
			break
		}
		p.judgeEnd(r, false)
		p.k.count(counts{restarts: 1})
	}
	p.judge(true)
}

// killedAtMoments kills the daemon, now and then its store with it, several times
// in one job, at moments spread over its length.
func killedAtMoments(k *kind, s *storetest.Server) {
	places, kills := 5, 5
	if k.long {
		places, kills = 40, 5
	}
	for i := range places {
		k.each(fmt.Sprint(i+1), func(p *place) { p.killedAgainAndAgain(s, i%2 == 0, kills) })
	}
}

func (p *place) killedAgainAndAgain(s *storetest.Server, daemon bool, kills int) {
	if daemon {
		p.embedded()
	} else {
		p.onMinIO(s)
	}
	p.prepare()
	p.card(cardDir)
	whole := 400 * time.Millisecond // grows with what the machine turns out to need
	for killed, try := 0, 0; killed < kills && try < 5*kills; try++ {
		args := []string{"ingest", "-o", "json", p.path(cardDir)}
		if daemon {
			args = []string{"run"}
		}
		pr := p.start(nil, args...)
		began := time.Now()
		after := time.NewTimer(time.Duration(p.random.Int64N(int64(whole))))
		select {
		case <-after.C:
		case <-pr.ended:
			after.Stop()
		}
		if daemon && p.random.IntN(3) == 0 {
			if pid := p.storePID(); pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
		}
		pr.signal(syscall.SIGKILL)
		r := pr.wait()
		if r.signal == syscall.SIGKILL {
			killed++
			p.k.count(counts{kills: 1, faults: 1, restarts: 1})
			// Late enough that all of the job is met.
			if !r.safe {
				whole += whole / 4
			}
		}
		if r.safe { // done before it was killed: more work for the next
			whole = min(whole, time.Since(began))
			p.more(fmt.Sprintf("DCIM/101/%d.mp4", try), 1+p.random.IntN(12<<20))
		}
	}
	p.judge(false)
	p.resume(daemon)
	p.judge(true)
	p.untouched(p.path(cardDir))
}
