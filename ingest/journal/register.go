package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// AddRecorder puts a recorder into the register, or changes its entry.
func (j *Journal) AddRecorder(ctx context.Context, r Recorder) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO recorders (serial, officer, note, profile, unit, added_at) VALUES (?,?,?,?,?,?)
			ON CONFLICT (serial) DO UPDATE SET officer=excluded.officer, note=excluded.note, profile=excluded.profile, unit=excluded.unit`,
			r.Serial, r.Officer, r.Note, r.Profile, r.Unit, formatTime(r.AddedAt))
		return err
	})
}

// RemoveRecorder takes a recorder out of the register; ErrNotFound: it is not in it.
// Its sessions stay.
func (j *Journal) RemoveRecorder(ctx context.Context, serial string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		done, err := tx.Exec("DELETE FROM recorders WHERE serial = ?", serial)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return fmt.Errorf("recorder %s: %w", serial, ErrNotFound)
	})
}

// Recorders gives the register in the order of serial numbers.
func (j *Journal) Recorders(ctx context.Context) (_ []Recorder, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT serial, officer, note, profile, unit, added_at FROM recorders ORDER BY serial")
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []Recorder
	for rows.Next() {
		var r Recorder
		var added string
		if err := rows.Scan(&r.Serial, &r.Officer, &r.Note, &r.Profile, &r.Unit, &added); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if err := setTime(&r.AddedAt, added); err != nil {
			return nil, fmt.Errorf("journal: recorder %s: %w", r.Serial, err)
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// PasswordRefused writes that a recorder has refused a password. Only a digest is
// kept.
func (j *Journal) PasswordRefused(ctx context.Context, recorder, password string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO refused_passwords (digest, refused_at) VALUES (?,?) ON CONFLICT (digest) DO NOTHING", refusal(recorder, password), formatTime(j.Now()))
		return err
	})
}

// WasPasswordRefused tells whether a recorder has refused a password before.
func (j *Journal) WasPasswordRefused(ctx context.Context, recorder, password string) (bool, error) {
	var n int
	if err := j.db.QueryRowContext(ctx, "SELECT count(*) FROM refused_passwords WHERE digest = ?", refusal(recorder, password)).Scan(&n); err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	return n > 0, nil
}

func refusal(recorder, password string) string {
	sum := sha256.Sum256([]byte(recorder + "\x00" + password))
	return hex.EncodeToString(sum[:])
}

// SelfTestPassed writes that a store passed its lock self-test now.
func (j *Journal) SelfTestPassed(ctx context.Context, store string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO self_tests (store, passed_at) VALUES (?,?) ON CONFLICT (store) DO UPDATE SET passed_at=excluded.passed_at", store, formatTime(j.Now()))
		return err
	})
}

// LastSelfTest is when a store last passed its lock self-test; zero: never.
func (j *Journal) LastSelfTest(ctx context.Context, store string) (time.Time, error) {
	var text string
	err := j.db.QueryRowContext(ctx, "SELECT passed_at FROM self_tests WHERE store = ?", store).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("journal: %w", err)
	}
	return parseTime(text)
}
