package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// bucketIDName begins the names in table meta under which the ids of buckets are; the
// store's name, as the vault describes itself, is the rest.
const bucketIDName = "bucket_id "

// BucketID is the id of the bucket that was seen first under the name of a store;
// empty: none was.
func (j *Journal) BucketID(ctx context.Context, store string) (string, error) {
	var id string
	err := j.db.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = ?", bucketIDName+store).Scan(&id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("journal: the bucket of %s: %w", store, err)
	}
	return id, nil
}

// SawBucket remembers which bucket was seen under the name of a store. The first one
// stays: which bucket is the right one is never learned from a later look.
func (j *Journal) SawBucket(ctx context.Context, store, id string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO meta (name, value) VALUES (?,?) ON CONFLICT (name) DO NOTHING", bucketIDName+store, id)
		return err
	})
}

// evidenceLockedName begins the names in table meta under which it is until when what
// tells of footage is locked; the store's name is the rest.
const evidenceLockedName = "evidence_locked "

// EvidenceLocked is until when all that was published of the ledger in a store was
// locked at least, when that was looked after last; zero: it never was.
func (j *Journal) EvidenceLocked(ctx context.Context, store string) (time.Time, error) {
	var text string
	err := j.db.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = ?", evidenceLockedName+store).Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, fmt.Errorf("journal: the lock of the ledger in %s: %w", store, err)
	}
	return parseTime(text)
}

// LockedEvidence writes that all that was published of the ledger in a store is locked
// until a time by now. An earlier time changes nothing.
func (j *Journal) LockedEvidence(ctx context.Context, store string, until time.Time) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO meta (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
			evidenceLockedName+store, formatTime(until))
		return err
	})
}

// QuickCheck has SQLite look at every page of the database and tells what is not in
// order; nothing: all is. It reads all of it and waits for nobody.
func (j *Journal) QuickCheck(ctx context.Context) (problems []string, err error) {
	rows, err := j.db.QueryContext(ctx, "PRAGMA quick_check")
	if err != nil {
		return nil, fmt.Errorf("journal: check the database: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, fmt.Errorf("journal: check the database: %w", err)
		}
		problems = append(problems, line)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("journal: check the database: %w", err)
	}
	if len(problems) == 1 && problems[0] == "ok" { // https://sqlite.org/pragma.html#pragma_quick_check
		return nil, nil
	}
	if len(problems) == 0 {
		return nil, errors.New("journal: check the database: SQLite gave no answer")
	}
	return problems, nil
}
