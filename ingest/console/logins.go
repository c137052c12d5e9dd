package console

import (
	"sync"
	"time"
)

// logins keeps who is logged in, in memory: when the daemon starts anew everybody logs
// in again. It is a store of package scs, and unlike the one there it has no goroutine
// that outlives the console.
type logins struct {
	mu    sync.Mutex
	of    map[string]login // guarded by mu; by the hash of the token
	swept time.Time        // guarded by mu; when what had ended was last dropped
}

type login struct {
	data  []byte
	until time.Time
}

// Find implements scs.Store.
func (l *logins) Find(token string) (data []byte, found bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in, ok := l.of[token]
	if !ok || time.Now().After(in.until) {
		return nil, false, nil
	}
	return in.data, true, nil
}

// Commit implements scs.Store.
func (l *logins) Commit(token string, data []byte, until time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.swept) > time.Minute {
		for t, in := range l.of {
			if now.After(in.until) {
				delete(l.of, t)
			}
		}
		l.swept = now
	}
	l.of[token] = login{data, until}
	return nil
}

// Delete implements scs.Store.
func (l *logins) Delete(token string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, token)
	return nil
}
