package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
)

// StatsBy is what statistics are told by. The strings are stable.
type StatsBy string

// What statistics can be told by.
const (
	ByMonth    StatsBy = "month"
	ByOfficer  StatsBy = "officer"
	ByRecorder StatsBy = "recorder"
	ByUnit     StatsBy = "unit" // of the recorder, by the register as it is now
)

// StatsKinds are all of them.
var StatsKinds = []StatsBy{ByMonth, ByOfficer, ByRecorder, ByUnit}

// StatsQuery says what is counted.
type StatsQuery struct {
	By       StatsBy
	From, To time.Time      // of docking; To is the first moment that is not in it
	Location *time.Location // of the months
	// Views is how often the footage of a session was looked at, by its id; nil: that is
	// not known.
	Views map[string]int
}

// Stat counts the sessions with one key. Nil is unknown.
type Stat struct {
	Key      string `json:"key"` // 2026-11, an id, a serial number, a unit; empty: unknown
	Sessions int    `json:"sessions"`
	Sealed   int    `json:"sealed"` // all of it stored
	Failed   int    `json:"failed"` // a part was not
	Files    int64  `json:"files"`
	Bytes    int64  `json:"bytes"`
	// EarlyRemovals is how often a recorder was taken before it was safe, in those of the
	// sessions where it was counted. It was not in EarlyUnknown of them.
	EarlyRemovals *int `json:"early_removals"`
	EarlyUnknown  int  `json:"early_removals_unknown"`
	// ClockOff are sessions whose recorder's clock was wrong, ClockUnknown those in which
	// nothing is known of it.
	ClockOff     int  `json:"clock_off"`
	ClockUnknown int  `json:"clock_unknown"`
	Views        *int `json:"views"` // how often footage of the sessions was looked at, whenever
}

// Plus counts two together; the key stays.
func (s Stat) Plus(o Stat) Stat {
	s.Sessions, s.Sealed, s.Failed, s.Files, s.Bytes = s.Sessions+o.Sessions, s.Sealed+o.Sealed, s.Failed+o.Failed, s.Files+o.Files, s.Bytes+o.Bytes
	s.EarlyUnknown, s.ClockOff, s.ClockUnknown = s.EarlyUnknown+o.EarlyUnknown, s.ClockOff+o.ClockOff, s.ClockUnknown+o.ClockUnknown
	s.EarlyRemovals, s.Views = sum(s.EarlyRemovals, o.EarlyRemovals), sum(s.Views, o.Views)
	return s
}

// sum leaves out what is unknown.
func sum(a, b *int) *int {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return new(*a + *b)
}

// statsRows reads an index alone for the files, which may be millions.
const statsRows = `SELECT id, docked_at, officer, recorder, state, condition, early_removals,
	(SELECT count(*) FROM files WHERE session = sessions.id AND kind = ?1), (SELECT coalesce(sum(size), 0) FROM files WHERE session = sessions.id AND kind = ?1)
	FROM sessions WHERE docked_at >= ?2 AND docked_at < ?3`

// Stats counts sessions, in the order of their keys. Files and bytes are those of the
// recorders, disposed of or not.
func (j *Journal) Stats(ctx context.Context, q StatsQuery) (_ []Stat, err error) {
	if !slices.Contains(StatsKinds, q.By) {
		return nil, fmt.Errorf("journal: statistics by %q: they are by month, officer, recorder or unit", q.By)
	}
	units := map[string]string{}
	if q.By == ByUnit {
		recorders, err := j.Recorders(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range recorders {
			units[r.Serial] = r.Unit
		}
	}
	rows, err := j.db.QueryContext(ctx, statsRows, device.KindFile, formatTime(q.From), formatTime(q.To))
	if err != nil {
		return nil, fmt.Errorf("journal: statistics: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	all := map[string]Stat{}
	for rows.Next() {
		var id, docked, officer, recorder, condition string
		var state SessionState
		one := Stat{Sessions: 1}
		if err := rows.Scan(&id, &docked, &officer, &recorder, &state, &condition, &one.EarlyRemovals, &one.Files, &one.Bytes); err != nil {
			return nil, fmt.Errorf("journal: statistics: %w", err)
		}
		var at time.Time
		var told struct {
			Verdict device.ClockVerdict `json:"clock_verdict"`
		}
		if err := errors.Join(setTime(&at, docked), json.Unmarshal([]byte(condition), &told)); err != nil {
			return nil, fmt.Errorf("journal: statistics of session %s: %w", id, err)
		}
		switch state {
		case StateSealed:
			one.Sealed = 1
		case StateFailed:
			one.Failed = 1
		}
		switch told.Verdict {
		case device.ClockOff, device.ClockReset, device.ClockWrongZone:
			one.ClockOff = 1
		case device.ClockWithin:
		default:
			one.ClockUnknown = 1
		}
		if one.EarlyRemovals == nil {
			one.EarlyUnknown = 1
		}
		if q.Views != nil {
			one.Views = new(q.Views[id])
		}
		switch q.By {
		case ByMonth:
			one.Key = at.In(q.Location).Format("2006-01")
		case ByOfficer:
			one.Key = officer
		case ByRecorder:
			one.Key = recorder
		case ByUnit:
			one.Key = units[recorder]
		}
		all[one.Key] = one.Plus(all[one.Key])
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Stat) int { return strings.Compare(a.Key, b.Key) }), rows.Err()
}
