package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
)

// Query says which sessions are looked for; what is empty excludes nothing.
type Query struct {
	Officer  string
	Recorder string
	State    SessionState
	From, To time.Time // docked at From or later, and before To
	// After is the last row of the page before.
	After Place
	Limit int // rows at most; must be above 0
}

// Place is where in the order of sessions one stands.
type Place struct {
	DockedAt time.Time
	ID       string
}

// String is the place for people to hand on; ParsePlace reads it.
func (p Place) String() string { return p.DockedAt.UTC().Format(time.RFC3339Nano) + "~" + p.ID }

// ParsePlace reads what String gave.
func ParsePlace(text string) (Place, error) {
	at, id, _ := strings.Cut(text, "~")
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil || id == "" {
		return Place{}, errors.New("it is no place in a list of sessions")
	}
	return Place{DockedAt: t, ID: id}, nil
}

// Row is a session in a list.
type Row struct {
	Session
	Files int   // files of the recorder, directories and links not counted
	Bytes int64 // of them
}

// Find gives a page of sessions, the latest first, and whether there are more behind
// it. It reads no more than the rows of the page by an index, and the sizes of their
// files.
func (j *Journal) Find(ctx context.Context, q Query) (page []Row, more bool, err error) {
	if q.Limit <= 0 {
		return nil, false, fmt.Errorf("journal: a page of %d sessions", q.Limit)
	}
	where, args := q.where()
	all, err := j.sessions(ctx, where, args...)
	if err != nil {
		return nil, false, err
	}
	if more = len(all) > q.Limit; more {
		all = all[:q.Limit]
	}
	totals, err := j.totals(ctx, all)
	if err != nil {
		return nil, false, err
	}
	for _, s := range all {
		r := totals[s.ID]
		r.Session = s
		page = append(page, r)
	}
	return page, more, nil
}

// where asks for one row more than the page has.
func (q Query) where() (text string, args []any) {
	var terms []string
	add := func(term string, values ...any) {
		terms, args = append(terms, term), append(args, values...)
	}
	if q.Officer != "" {
		add("officer = ?", q.Officer)
	}
	if q.Recorder != "" {
		// With an officer too, SQLite must not read all that a busy recorder has.
		add(map[bool]string{true: "+recorder = ?", false: "recorder = ?"}[q.Officer != ""], q.Recorder)
	}
	if q.State != "" {
		// Nearly all sessions are sealed: its index helps only where there is no other.
		add(map[bool]string{true: "+state = ?", false: "state = ?"}[q.Officer != "" || q.Recorder != ""], q.State)
	}
	if !q.From.IsZero() {
		add("docked_at >= ?", formatTime(q.From))
	}
	if !q.To.IsZero() {
		add("docked_at < ?", formatTime(q.To))
	}
	if q.After.ID != "" {
		add("(docked_at, id) < (?, ?)", formatTime(q.After.DockedAt), q.After.ID)
	}
	if len(terms) > 0 {
		text = "WHERE " + strings.Join(terms, " AND ")
	}
	return text + " ORDER BY docked_at DESC, id DESC LIMIT ?", append(args, q.Limit+1)
}

// totals counts the files of sessions.
func (j *Journal) totals(ctx context.Context, of []Session) (_ map[string]Row, err error) {
	totals := map[string]Row{}
	if len(of) == 0 {
		return totals, nil
	}
	ids := make([]any, 0, len(of)+1)
	for _, s := range of {
		ids = append(ids, s.ID)
	}
	rows, err := j.db.QueryContext(ctx, "SELECT session, count(*), sum(size) FROM files WHERE session IN (?"+strings.Repeat(",?", len(of)-1)+
		") AND kind = ? GROUP BY session", append(ids, device.KindFile)...)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		var r Row
		if err := rows.Scan(&id, &r.Files, &r.Bytes); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		totals[id] = r
	}
	return totals, rows.Err()
}
