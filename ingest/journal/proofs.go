package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

// Quarantined is an object that does not hold what was sent to it, or that the
// store has lost. Nobody can delete it while its lock lasts, and nobody should take
// it for footage.
type Quarantined struct {
	Key     string
	Version string
	Session string // that stored it
	File    int64  // ID of the file that it was to be; 0: not known
	Reason  string
	At      time.Time
}

// Quarantine writes that an object is corrupt. One that is in quarantine already
// stays there with its first reason.
func (j *Journal) Quarantine(ctx context.Context, q Quarantined) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO quarantined (key, version, session, file, reason, at) VALUES (?,?,?,?,?,?) ON CONFLICT (key, version) DO NOTHING",
			q.Key, q.Version, q.Session, q.File, q.Reason, formatTime(q.At))
		return err
	})
}

// QuarantinedOf gives the corrupt objects of a session in the order of their keys.
func (j *Journal) QuarantinedOf(ctx context.Context, session string) ([]Quarantined, error) {
	return j.quarantined(ctx, "WHERE session = ? ORDER BY key, version", session)
}

// IsQuarantined tells of one version of one object; nil: it is not in quarantine.
func (j *Journal) IsQuarantined(ctx context.Context, key, version string) (*Quarantined, error) {
	all, err := j.quarantined(ctx, "WHERE key = ? AND version = ?", key, version)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

func (j *Journal) quarantined(ctx context.Context, where string, args ...any) (_ []Quarantined, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT key, version, session, file, reason, at FROM quarantined "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []Quarantined
	for rows.Next() {
		var q Quarantined
		var at string
		if err := rows.Scan(&q.Key, &q.Version, &q.Session, &q.File, &q.Reason, &at); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if err := setTime(&q.At, at); err != nil {
			return nil, fmt.Errorf("journal: quarantined %s: %w", q.Key, err)
		}
		all = append(all, q)
	}
	return all, rows.Err()
}

// StoredObject is one object that the journal says is stored and verified.
type StoredObject struct {
	Session string // that stored it
	Object  storage.Object
	SHA256  string
}

// StoredObjects gives every object that a session of this journal has stored and
// verified in a bucket, by its id, once, in the order of keys. Manifests, and what was
// disposed of, are not among them.
func (j *Journal) StoredObjects(ctx context.Context, bucket string) (_ []StoredObject, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT key, version, session, sha256, size, retain_until FROM files WHERE state = ? AND kind = 'file' AND session IN (SELECT id FROM sessions WHERE disposed_at = '' AND bucket IN ('', ?)) ORDER BY key, version", Verified, bucket)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []StoredObject
	for rows.Next() {
		var o StoredObject
		var until string
		if err := rows.Scan(&o.Object.Key, &o.Object.VersionID, &o.Session, &o.SHA256, &o.Object.Size, &until); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if err := setTime(&o.Object.RetainUntil, until); err != nil {
			return nil, fmt.Errorf("journal: object %s: %w", o.Object.Key, err)
		}
		all = append(all, o)
	}
	return all, rows.Err()
}

// Scrub is the proof that every object of a session was read again.
type Scrub struct {
	Session  string
	At       time.Time // when the last of it had been read; zero: never
	Objects  int
	Bytes    int64
	Findings int // 0: all was as it must be
}

// Scrubbed writes a proof. Earlier ones are kept.
func (j *Journal) Scrubbed(ctx context.Context, s Scrub) error {
	return j.write(ctx, func(tx *sql.Tx) error { return addScrub(tx, s) })
}

func addScrub(tx *sql.Tx, s Scrub) error {
	_, err := tx.Exec("INSERT OR REPLACE INTO scrubs (session, scrubbed_at, objects, bytes, findings) VALUES (?,?,?,?,?)",
		s.Session, formatTime(s.At), s.Objects, s.Bytes, s.Findings)
	return err
}

// LastScrub gives the latest proof of a session; nil: it was never read again.
func (j *Journal) LastScrub(ctx context.Context, session string) (*Scrub, error) {
	s := Scrub{Session: session}
	var at string
	err := j.db.QueryRowContext(ctx, "SELECT scrubbed_at, objects, bytes, findings FROM scrubs WHERE session = ? ORDER BY scrubbed_at DESC LIMIT 1", session).
		Scan(&at, &s.Objects, &s.Bytes, &s.Findings)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = setTime(&s.At, at)
	}
	if err != nil {
		return nil, fmt.Errorf("journal: proofs of session %s: %w", session, err)
	}
	return &s, nil
}

// LongestUnread gives the ended session of a bucket that is still under lock and was not read
// for the longest time, and when that was: at its last proof, or at its end. Nil:
// there is none.
func (j *Journal) LongestUnread(ctx context.Context, bucket string) (_ *Session, since time.Time, err error) {
	var id, at string
	err = j.db.QueryRowContext(ctx, `SELECT s.id, coalesce((SELECT max(scrubbed_at) FROM scrubs WHERE session = s.id), s.ended_at) AS last_read
		FROM sessions s WHERE s.state IN (?, ?) AND s.retain_until > ? AND s.disposed_at = '' AND s.bucket IN ('', ?) ORDER BY last_read, s.id LIMIT 1`,
		StateSealed, StateFailed, formatTime(j.Now()), bucket).Scan(&id, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, nil
	}
	if err == nil {
		err = setTime(&since, at)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("journal: the session to be read again: %w", err)
	}
	s, err := j.Session(ctx, id)
	return &s, since, err
}
