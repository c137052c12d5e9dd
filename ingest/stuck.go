package ingest

import (
	"fmt"
	"sync"
	"time"
)

const (
	// stuckAfter is how long a session may stand still without waiting for anything
	// outside of this program.
	stuckAfter = 10 * time.Minute
	// hungAfter is how long all sessions may stand still for a recorder or the store.
	// Each of these waits has a limit of its own that is below it.
	hungAfter = 30 * time.Minute
)

// working are the sessions that are being worked on. The zero value is ready.
type working struct {
	mu       sync.Mutex
	sessions map[*session]*motion // guarded by mu
}

// motion is when a session was last seen to move.
type motion struct {
	beats int64
	since time.Time
}

// begin notes a session until done is called.
func (w *working) begin(s *session) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sessions == nil {
		w.sessions = map[*session]*motion{}
	}
	w.sessions[s] = &motion{since: time.Now()}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.sessions, s)
	}
}

// Stuck tells, to whoever asks now and again, of a session that has work to do and
// will not go on by itself, so that the program has to be started again; the session
// resumes then. nil: there is none.
//
// A session that waits for its turn has nothing to do. One that waits for a recorder
// or the store is not stuck as long as another one moves: starting again would not make
// them answer, and would cut the others off.
func (s *Station) Stuck() error { return s.working.stuck(time.Now()) }

func (w *working) stuck(now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var hung error
	moves := false
	for session, m := range w.sessions {
		p := &session.pulse
		if beats := p.beats.Load(); beats != m.beats || p.now[forTurn].Load() > 0 {
			m.beats, m.since = beats, now
			moves = moves || p.now[forTurn].Load() == 0
			continue
		}
		still := now.Sub(m.since)
		outside := p.now[forRecorder].Load() > 0 || p.now[forStore].Load() > 0
		switch {
		case !outside && still >= stuckAfter && !w.othersWait(session):
			return fmt.Errorf("the session in slot %s has stood still for %s and waits for nothing outside of this program", session.docking.Slot, still.Round(time.Second))
		case outside && still >= hungAfter:
			hung = fmt.Errorf("the session in slot %s has waited for its recorder or the store for %s, beyond every limit, and no other session moves", session.docking.Slot, still.Round(time.Second))
		case still < hungAfter:
			moves = true // it may still
		}
	}
	if moves {
		return nil
	}
	return hung
}

// othersWait tells whether a session waits for memory that one has which waits for its
// recorder or the store.
func (w *working) othersWait(s *session) bool {
	if s.pulse.now[forMemory].Load() == 0 {
		return false
	}
	for other := range w.sessions {
		if other != s && (other.pulse.now[forRecorder].Load() > 0 || other.pulse.now[forStore].Load() > 0) {
			return true
		}
	}
	return false
}
