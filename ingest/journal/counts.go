package journal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Counts is what a journal holds, in numbers.
type Counts struct {
	Sessions map[SessionState]int
	// Expired are the ended sessions whose lock has run out and whose footage is there
	// still. Whether one may be disposed of is decided elsewhere.
	Expired     int
	Holds       int // that keep footage
	Quarantined int // objects that are not what was sent to them
	// LastGoodScrub is when a session was last read again without a finding; zero: never.
	LastGoodScrub time.Time
}

// Counts counts. It waits for nobody, and nobody for it; it looks at every session, so
// that it is not for each moment.
func (j *Journal) Counts(ctx context.Context) (c Counts, err error) {
	c.Sessions = map[SessionState]int{StateOpen: 0, StateSealing: 0, StateSealed: 0, StateFailed: 0}
	rows, err := j.db.QueryContext(ctx, `SELECT state, count(*), sum(permanent = 0 AND disposed_at = '' AND retain_until != '' AND retain_until <= ?)
		FROM sessions GROUP BY state`, formatTime(j.Now()))
	if err != nil {
		return c, fmt.Errorf("journal: count sessions: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var state SessionState
		var all, expired int
		if err := rows.Scan(&state, &all, &expired); err != nil {
			return c, fmt.Errorf("journal: count sessions: %w", err)
		}
		c.Sessions[state] = all
		if state == StateSealed || state == StateFailed {
			c.Expired += expired
		}
	}
	if err := rows.Err(); err != nil {
		return c, fmt.Errorf("journal: count sessions: %w", err)
	}
	var last string
	err = j.db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM holds WHERE state != ?), (SELECT count(*) FROM quarantined),
		(SELECT coalesce(max(scrubbed_at), '') FROM scrubs WHERE findings = 0)`, HoldReleased).Scan(&c.Holds, &c.Quarantined, &last)
	if err == nil {
		err = setTime(&c.LastGoodScrub, last)
	}
	if err != nil {
		return c, fmt.Errorf("journal: count holds and proofs: %w", err)
	}
	return c, nil
}
