package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Lengthened writes that every object of a session is locked until a time by now, and
// whether the session is kept permanently. Neither can be taken back: an earlier time,
// and false, change nothing.
func (j *Journal) Lengthened(ctx context.Context, session string, until time.Time, permanent bool) error {
	text := formatTime(until)
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err1 := tx.Exec("UPDATE sessions SET retain_until = max(retain_until, ?), permanent = max(permanent, ?) WHERE id = ?", text, permanent, session)
		_, err2 := tx.Exec("UPDATE files SET retain_until = max(retain_until, ?) WHERE session = ? AND version != '' AND state IN (?, ?)",
			text, session, Verified, Identical)
		return errors.Join(err1, err2)
	})
}

// ErrKept says that the footage of a session must not be given up.
var ErrKept = errors.New("it is kept")

// Disposed writes that the footage of a session is given up for deletion; at is the
// time by which its lock has ended. It comes before the first object goes. It is ErrKept
// where the journal, in this very moment, has a reason against it: a hold that was set
// meanwhile, a longer lock, another session that still needs one of the objects.
func (j *Journal) Disposed(ctx context.Context, session string, at time.Time) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		var disposed, kept string
		err := tx.QueryRow(whyKept, session, formatTime(at), StateSealed, StateFailed, HoldReleased).Scan(&disposed, &kept)
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("session %s: %w", session, ErrNotFound)
		}
		if err != nil || disposed != "" {
			return err
		}
		if kept != "" {
			return fmt.Errorf("session %s: %w: %s", session, ErrKept, kept)
		}
		_, err = tx.Exec("UPDATE sessions SET disposed_at = ? WHERE id = ?", formatTime(at), session)
		return err
	})
}

// whyKept gives, of session ?1 at the time ?2, when it was disposed of and why it is
// kept; both may be empty.
const whyKept = `WITH needs (id, why) AS (
	SELECT s.id, CASE WHEN s.state NOT IN (?3, ?4) THEN 'its work is not done'
		WHEN s.permanent THEN 'it is kept permanently'
		WHEN s.retain_until > ?2 THEN 'it is locked until ' || s.retain_until
		WHEN EXISTS (SELECT 1 FROM held JOIN holds ON holds.id = held.hold WHERE held.session = s.id AND holds.state != ?5) THEN 'it is on hold'
		ELSE '' END
	FROM sessions s WHERE s.disposed_at = '')
	SELECT s.disposed_at, coalesce((SELECT why FROM needs WHERE id = s.id AND why != ''),
		(SELECT 'session ' || n.id || ' lists one of its objects, and ' || n.why FROM needs n WHERE n.why != ''
			AND n.id IN (SELECT session FROM files WHERE origin = s.id) LIMIT 1), '')
	FROM sessions s WHERE s.id = ?1`

// Expiring gives the sessions that have ended and whose locks end by a time, or have
// ended, the first first. What was disposed of is not among them.
func (j *Journal) Expiring(ctx context.Context, by time.Time) ([]Session, error) {
	return j.sessions(ctx, "WHERE state IN (?, ?) AND disposed_at = '' AND retain_until <= ? ORDER BY retain_until, id", StateSealed, StateFailed, formatTime(by))
}

// LongestLock is when the last of all locks ends; zero: there is no ended session.
func (j *Journal) LongestLock(ctx context.Context) (time.Time, error) {
	var text string
	if err := j.db.QueryRowContext(ctx, "SELECT coalesce(max(retain_until), '') FROM sessions").Scan(&text); err != nil {
		return time.Time{}, fmt.Errorf("journal: the longest lock: %w", err)
	}
	return parseTime(text)
}

// Sharing gives the other sessions that list one of a session's objects, because they
// found it identical, or whose objects this one lists.
func (j *Journal) Sharing(ctx context.Context, session string) ([]string, error) {
	return j.texts(ctx, `SELECT session FROM files WHERE origin = ?1 AND session != ?1
		UNION SELECT origin FROM files WHERE session = ?1 AND origin NOT IN ('', ?1) ORDER BY 1`, session)
}

func (j *Journal) texts(ctx context.Context, query string, args ...any) (all []string, err error) {
	rows, err := j.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		all = append(all, text)
	}
	return all, rows.Err()
}

// Tag is a mark on a session.
type Tag struct {
	Session string
	Tag     string
	AddedAt time.Time
	AddedBy string
}

// AddTag marks a session. One that it has already stays as it is.
func (j *Journal) AddTag(ctx context.Context, t Tag) error {
	return j.write(ctx, func(tx *sql.Tx) error { return addTag(tx, t) })
}

func addTag(tx *sql.Tx, t Tag) error {
	_, err := tx.Exec("INSERT INTO tags (session, tag, added_at, added_by) VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
		t.Session, t.Tag, formatTime(t.AddedAt), t.AddedBy)
	return err
}

// RemoveTag takes a mark off. What was locked for longer because of it stays locked.
func (j *Journal) RemoveTag(ctx context.Context, session, tag string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("DELETE FROM tags WHERE session = ? AND tag = ?", session, tag)
		return err
	})
}

// Tags gives the marks of a session in order; of all sessions where it is empty.
func (j *Journal) Tags(ctx context.Context, session string) (all []Tag, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT session, tag, added_at, added_by FROM tags WHERE ?1 IN ('', session) ORDER BY session, tag", session)
	if err != nil {
		return nil, fmt.Errorf("journal: tags: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var t Tag
		var at string
		if err := rows.Scan(&t.Session, &t.Tag, &at, &t.AddedBy); err != nil {
			return nil, fmt.Errorf("journal: tags: %w", err)
		}
		if err := setTime(&t.AddedAt, at); err != nil {
			return nil, fmt.Errorf("journal: tag %q of %s: %w", t.Tag, t.Session, err)
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

// PlanState says what is durable of a plan of disposal.
type PlanState string

// The states of a plan.
const (
	PlanOpen     PlanState = "open"     // it was shown; nothing is gone
	PlanApplying PlanState = "applying" // what it lists is being deleted
	PlanApplied  PlanState = "applied"  // all that it listed is deleted
	PlanVoid     PlanState = "void"     // it was refused or is out of date; nothing is gone by it
)

// Plan is a list of footage whose time has come (到期销毁).
type Plan struct {
	ID        string
	State     PlanState
	MadeAt    time.Time
	MadeBy    string
	Body      []byte // JSON, as it was shown
	AskedAt   time.Time
	AskedBy   string // the first of two persons; empty: nobody yet
	AppliedAt time.Time
	AppliedBy string
}

// SavePlan writes a plan, a new one or what has become of it. Its body never changes.
func (j *Journal) SavePlan(ctx context.Context, p Plan) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO plans (id, state, made_at, made_by, body, asked_at, asked_by, applied_at, applied_by) VALUES (?,?,?,?,?,?,?,?,?)
			ON CONFLICT (id) DO UPDATE SET state=excluded.state, asked_at=excluded.asked_at, asked_by=excluded.asked_by,
			applied_at=excluded.applied_at, applied_by=excluded.applied_by`,
			p.ID, p.State, formatTime(p.MadeAt), p.MadeBy, p.Body, formatTime(p.AskedAt), p.AskedBy, formatTime(p.AppliedAt), p.AppliedBy)
		return err
	})
}

// Plans gives all plans, the latest first.
func (j *Journal) Plans(ctx context.Context) ([]Plan, error) {
	return j.plans(ctx, "ORDER BY made_at DESC, id DESC")
}

// Plan gives one plan, or ErrNotFound.
func (j *Journal) Plan(ctx context.Context, id string) (Plan, error) {
	all, err := j.plans(ctx, "WHERE id = ?", id)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("plan %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Plan{}, err
	}
	return all[0], nil
}

func (j *Journal) plans(ctx context.Context, where string, args ...any) (all []Plan, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT id, state, made_at, made_by, body, asked_at, asked_by, applied_at, applied_by FROM plans "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("journal: plans: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p Plan
		var made, asked, applied string
		if err := rows.Scan(&p.ID, &p.State, &made, &p.MadeBy, &p.Body, &asked, &p.AskedBy, &applied, &p.AppliedBy); err != nil {
			return nil, fmt.Errorf("journal: plans: %w", err)
		}
		if err := errors.Join(setTime(&p.MadeAt, made), setTime(&p.AskedAt, asked), setTime(&p.AppliedAt, applied)); err != nil {
			return nil, fmt.Errorf("journal: plan %s: %w", p.ID, err)
		}
		all = append(all, p)
	}
	return all, rows.Err()
}
