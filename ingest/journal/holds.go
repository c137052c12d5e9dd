package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// HoldState says what is durable of a hold (保全).
type HoldState string

// The states of a hold. All but HoldReleased keep footage.
const (
	HoldSetting   HoldState = "setting"   // being set on the objects
	HoldHeld      HoldState = "held"      // set, and confirmed by the store, on all of them
	HoldAsked     HoldState = "asked"     // held, and one of two persons wants it released
	HoldReleasing HoldState = "releasing" // being lifted from what no other hold keeps
	HoldReleased  HoldState = "released"
)

// Hold keeps footage, whatever its lock says, until it is released.
type Hold struct {
	ID       string
	State    HoldState
	Case     string // 案号
	Reason   string
	AskedFor string // the query, in words; empty: sessions were named
	AddedAt  time.Time
	AddedBy  string
	// ReleaseAskedBy is the first of two persons; empty: nobody.
	ReleaseAskedAt time.Time
	ReleaseAskedBy string
	ReleasedAt     time.Time
	ReleasedBy     string
	ReleaseReason  string
	Of             []Held
}

// Held is what a hold keeps.
type Held struct {
	Session string
	Path    string // of one recording, exact bytes; empty: all of the session
}

// AddHold writes a new hold with all that it keeps. What was given up for deletion
// can't be kept any more.
func (j *Journal) AddHold(ctx context.Context, h Hold) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		if err := saveHold(tx, h); err != nil {
			return err
		}
		for _, of := range h.Of {
			var disposed string
			if err := tx.QueryRow("SELECT disposed_at FROM sessions WHERE id = ?", of.Session).Scan(&disposed); err != nil {
				return fmt.Errorf("hold %s on session %s: %w", h.ID, of.Session, err)
			}
			if disposed != "" {
				return fmt.Errorf("hold %s on session %s: its footage was disposed of at %s", h.ID, of.Session, disposed)
			}
			if _, err := tx.Exec("INSERT INTO held (hold, session, path) VALUES (?,?,?)", h.ID, of.Session, []byte(of.Path)); err != nil {
				return fmt.Errorf("hold %s on session %s: %w", h.ID, of.Session, err)
			}
		}
		return nil
	})
}

// SaveHold writes what has become of a hold. What it keeps never changes.
func (j *Journal) SaveHold(ctx context.Context, h Hold) error {
	return j.write(ctx, func(tx *sql.Tx) error { return saveHold(tx, h) })
}

func saveHold(tx *sql.Tx, h Hold) error {
	_, err := tx.Exec(`INSERT INTO holds (id, state, case_no, reason, asked_for, added_at, added_by, release_asked_at, release_asked_by,
		released_at, released_by, release_reason) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)
		ON CONFLICT (id) DO UPDATE SET state=excluded.state, release_asked_at=excluded.release_asked_at, release_asked_by=excluded.release_asked_by,
		released_at=excluded.released_at, released_by=excluded.released_by, release_reason=excluded.release_reason`,
		h.ID, h.State, h.Case, h.Reason, h.AskedFor, formatTime(h.AddedAt), h.AddedBy, formatTime(h.ReleaseAskedAt), h.ReleaseAskedBy,
		formatTime(h.ReleasedAt), h.ReleasedBy, h.ReleaseReason)
	return err
}

// Hold gives one hold, or ErrNotFound.
func (j *Journal) Hold(ctx context.Context, id string) (Hold, error) {
	all, err := j.holds(ctx, "WHERE id = ?", id)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("hold %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Hold{}, err
	}
	return all[0], nil
}

// Holds gives all holds, the latest first.
func (j *Journal) Holds(ctx context.Context) ([]Hold, error) {
	return j.holds(ctx, "ORDER BY added_at DESC, id DESC")
}

// HoldsOn gives the holds that keep something of a session, the released ones not
// among them.
func (j *Journal) HoldsOn(ctx context.Context, session string) ([]Hold, error) {
	return j.holds(ctx, "WHERE state != ? AND id IN (SELECT hold FROM held WHERE session = ?) ORDER BY added_at, id", HoldReleased, session)
}

func (j *Journal) holds(ctx context.Context, where string, args ...any) (_ []Hold, err error) {
	rows, err := j.db.QueryContext(ctx, `SELECT id, state, case_no, reason, asked_for, added_at, added_by, release_asked_at, release_asked_by,
		released_at, released_by, release_reason FROM holds `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("journal: holds: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []Hold
	for rows.Next() {
		var h Hold
		var added, asked, released string
		if err := rows.Scan(&h.ID, &h.State, &h.Case, &h.Reason, &h.AskedFor, &added, &h.AddedBy, &asked, &h.ReleaseAskedBy,
			&released, &h.ReleasedBy, &h.ReleaseReason); err != nil {
			return nil, fmt.Errorf("journal: holds: %w", err)
		}
		if err := errors.Join(setTime(&h.AddedAt, added), setTime(&h.ReleaseAskedAt, asked), setTime(&h.ReleasedAt, released)); err != nil {
			return nil, fmt.Errorf("journal: hold %s: %w", h.ID, err)
		}
		all = append(all, h)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("journal: holds: %w", err)
	}
	for i := range all {
		if all[i].Of, err = j.heldBy(ctx, all[i].ID); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (j *Journal) heldBy(ctx context.Context, hold string) (all []Held, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT session, path FROM held WHERE hold = ? ORDER BY session, path", hold)
	if err != nil {
		return nil, fmt.Errorf("journal: hold %s: %w", hold, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var h Held
		var path []byte
		if err := rows.Scan(&h.Session, &path); err != nil {
			return nil, fmt.Errorf("journal: hold %s: %w", hold, err)
		}
		h.Path = string(path)
		all = append(all, h)
	}
	return all, rows.Err()
}
