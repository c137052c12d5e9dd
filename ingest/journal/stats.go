package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Stat counts the sessions with one key.
type Stat struct {
	Key      string // 2026-11, an id, a serial number, a unit; empty: unknown
	Sessions int
	Sealed   int // all of it stored
	Failed   int // a part was not
	Files    int64
	Bytes    int64
	// ClockOff are sessions whose recorder's clock was wrong, ClockUnknown those in which
	// nothing is known of it.
	ClockOff, ClockUnknown int
}

// Stats counts the sessions docked at from or later and before to, in the order of their
// keys. Months are those of loc. Files and bytes are those of the recorders, disposed of
// or not.
func (j *Journal) Stats(ctx context.Context, by StatsBy, from, to time.Time, loc *time.Location) (_ []Stat, err error) {
	if !slices.Contains(StatsKinds, by) {
		return nil, fmt.Errorf("journal: statistics by %q: they are by month, officer, recorder or unit", by)
	}
	units := map[string]string{}
	if by == ByUnit {
		recorders, err := j.Recorders(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range recorders {
			units[r.Serial] = r.Unit
		}
	}
	rows, err := j.db.QueryContext(ctx, `SELECT docked_at, officer, recorder, state, condition,
		(SELECT count(*) FROM files WHERE session = sessions.id AND kind = ?1), (SELECT coalesce(sum(size), 0) FROM files WHERE session = sessions.id AND kind = ?1)
		FROM sessions WHERE docked_at >= ?2 AND docked_at < ?3`, device.KindFile, formatTime(from), formatTime(to))
	if err != nil {
		return nil, fmt.Errorf("journal: statistics: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	all := map[string]*Stat{}
	for rows.Next() {
		var docked, officer, recorder, condition string
		var state SessionState
		var files, bytes int64
		if err := rows.Scan(&docked, &officer, &recorder, &state, &condition, &files, &bytes); err != nil {
			return nil, fmt.Errorf("journal: statistics: %w", err)
		}
		var at time.Time
		var told struct {
			Verdict device.ClockVerdict `json:"clock_verdict"`
		}
		if err := errors.Join(setTime(&at, docked), json.Unmarshal([]byte(condition), &told)); err != nil {
			return nil, fmt.Errorf("journal: statistics: %w", err)
		}
		key := map[StatsBy]string{ByMonth: at.In(loc).Format("2006-01"), ByOfficer: officer, ByRecorder: recorder, ByUnit: units[recorder]}[by]
		s := all[key]
		if s == nil {
			s = &Stat{Key: key}
			all[key] = s
		}
		s.Sessions++
		s.Files, s.Bytes = s.Files+files, s.Bytes+bytes
		switch state {
		case StateSealed:
			s.Sealed++
		case StateFailed:
			s.Failed++
		}
		switch told.Verdict {
		case device.ClockOff, device.ClockReset, device.ClockWrongZone:
			s.ClockOff++
		case device.ClockWithin:
		default:
			s.ClockUnknown++
		}
	}
	stats := []Stat{}
	for _, s := range all {
		stats = append(stats, *s)
	}
	slices.SortFunc(stats, func(a, b Stat) int { return strings.Compare(a.Key, b.Key) })
	return stats, rows.Err()
}
