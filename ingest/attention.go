package ingest

import (
	"slices"
	"sync"
	"time"
)

const (
	// attentionFor is how long an event is kept for people to look at; the log has it for
	// longer.
	attentionFor = 7 * 24 * time.Hour
	// attentionMost bounds the kinds of events in different slots: a slot may be a folder,
	// of which there are any number.
	attentionMost = 100
)

// Attention keeps the events that a person should look after, of level Warn and Alarm,
// since the daemon started: the latest of each kind in each slot. Whether it was mended
// since it does not know. The zero value is ready, and safe for concurrent use.
type Attention struct {
	mu   sync.Mutex
	kept map[attentionKey]Noted // guarded by mu
}

// Noted is the latest of events that are alike.
type Noted struct {
	Event
	First time.Time
	Times int
}

type attentionKey struct {
	name, slot string
	level      Level
}

// Observe is told every event.
func (a *Attention) Observe(e Event) {
	if e.Level == Info {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(time.Now())
	if a.kept == nil {
		a.kept = map[attentionKey]Noted{}
	}
	key := attentionKey{e.Name, e.Slot, e.Level}
	n, ok := a.kept[key]
	if !ok {
		n.First = e.Time
	}
	n.Event = e
	n.Times++
	a.kept[key] = n
	if len(a.kept) > attentionMost {
		oldest := key
		for k, n := range a.kept {
			if n.Time.Before(a.kept[oldest].Time) {
				oldest = k
			}
		}
		delete(a.kept, oldest)
	}
}

// All gives them, the latest first.
func (a *Attention) All() []Noted {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(time.Now())
	var all []Noted
	for _, n := range a.kept {
		all = append(all, n)
	}
	slices.SortFunc(all, func(x, y Noted) int { return y.Time.Compare(x.Time) })
	return all
}

// forget is called with mu held.
func (a *Attention) forget(now time.Time) {
	for k, n := range a.kept {
		if now.Sub(n.Time) > attentionFor {
			delete(a.kept, k)
		}
	}
}
