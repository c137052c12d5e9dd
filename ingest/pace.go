package ingest

import (
	"math"
	"time"
)

const (
	// paceOver is over how long a pace is smoothed: a card of small and large files
	// goes by fits and starts.
	paceOver = 30 * time.Second
	// paceAfter is how long is watched before anything is said.
	paceAfter = 5 * time.Second
	// paceMost is the longest time that is said: beyond it the pace tells nothing.
	paceMost = 24 * time.Hour
)

// pace tells how long work will take, from looks at how much of it is done. It has
// one owner.
type pace struct {
	began, at time.Time
	done      int64
	perSecond float64
}

// left is nil while it can't be told.
func (p *pace) left(now time.Time, done, total int64) *time.Duration {
	if p.began.IsZero() || done < p.done { // some of it has to be done again
		*p = pace{began: now, at: now, done: done}
		return nil
	}
	if since := now.Sub(p.at); since >= time.Second {
		rate := float64(done-p.done) / since.Seconds()
		weight := 1 - math.Exp(-float64(since)/float64(min(paceOver, now.Sub(p.began))))
		p.perSecond += weight * (rate - p.perSecond)
		p.at, p.done = now, done
	}
	if now.Sub(p.began) < paceAfter || p.perSecond <= 0 {
		return nil
	}
	seconds := float64(max(0, total-done)) / p.perSecond
	if seconds > paceMost.Seconds() {
		return nil
	}
	left := time.Duration(seconds * float64(time.Second))
	return &left
}
