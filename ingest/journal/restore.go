package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// ErrNotEmpty says that a journal has something of its own, which what is made anew
// from a bucket must not replace.
var ErrNotEmpty = errors.New("the journal is not empty")

// ErrCatalog says that a journal was put together from the stations of a bucket, to be
// read. None of them may go on with it.
var ErrCatalog = errors.New("this is a catalog for reading, made from a bucket: a station works with a state directory of its own")

// catalogName is the name in table meta that marks such a journal.
const catalogName = "catalog"

// Restored is an ended session as the bucket tells of it.
type Restored struct {
	Session Session // with Permanent and DisposedAt
	Files   []*File // in the order of the inventory; each gets its ID
	Scrubs  []Scrub
	Tags    []Tag
}

// Restore writes a session that the journal does not have, in one transaction.
func (j *Journal) Restore(ctx context.Context, r Restored) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		if err := saveSession(tx, r.Session); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE sessions SET permanent = ?, disposed_at = ? WHERE id = ?", r.Session.Permanent, formatTime(r.Session.DisposedAt), r.Session.ID)
		if err != nil {
			return err
		}
		if err := addFiles(tx, r.Files); err != nil {
			return err
		}
		for _, f := range r.Files {
			if err := saveSM3(tx, f); err != nil {
				return err
			}
		}
		for _, s := range r.Scrubs {
			if err := addScrub(tx, s); err != nil {
				return err
			}
		}
		for _, t := range r.Tags {
			if err := addTag(tx, t); err != nil {
				return err
			}
		}
		return nil
	})
}

// Saw has the journal know that it was this late once: Now is never earlier.
func (j *Journal) Saw(ctx context.Context, at time.Time) error {
	j.raise(at)
	return j.write(ctx, func(*sql.Tx) error { return nil }) // each commit notes what was seen
}

func (j *Journal) raise(at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if at.After(j.lastSeen) {
		j.lastSeen = at
	}
}

// MarkCatalog makes the journal one for reading, for whoever opens it from now on.
func (j *Journal) MarkCatalog(ctx context.Context, bucket string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO meta (name, value) VALUES (?,?) ON CONFLICT (name) DO NOTHING", catalogName, bucket)
		return err
	})
}

// MustBeEmpty is ErrNotEmpty where the journal has sessions, recorders, holds or plans.
func (j *Journal) MustBeEmpty(ctx context.Context) error {
	return j.write(ctx, mustBeEmpty)
}

func mustBeEmpty(tx *sql.Tx) error {
	var sessions, others int
	if err := tx.QueryRow(`SELECT (SELECT count(*) FROM main.sessions),
		(SELECT count(*) FROM main.recorders) + (SELECT count(*) FROM main.holds) + (SELECT count(*) FROM main.plans)`).Scan(&sessions, &others); err != nil {
		return err
	}
	if sessions+others > 0 {
		return fmt.Errorf("%w: it has %d sessions, and %d recorders, holds and plans of disposal", ErrNotEmpty, sessions, others)
	}
	return nil
}

// TakeOver takes all that the closed journal in another folder has into this one, in
// one transaction: a crash leaves this one as it was, or with all of it. It is
// ErrNotEmpty where MustBeEmpty is.
func (j *Journal) TakeOver(ctx context.Context, dir string) (err error) {
	// Not within a transaction: SQLite refuses that.
	if _, err := j.writer.ExecContext(ctx, "ATTACH DATABASE ? AS rebuilt", filepath.Join(dir, FileName)); err != nil {
		return fmt.Errorf("journal: take over %s: %w", dir, err)
	}
	defer func() {
		_, detach := j.writer.ExecContext(context.WithoutCancel(ctx), "DETACH DATABASE rebuilt")
		err = errors.Join(err, detach)
	}()
	var seen string
	var at time.Time
	err = j.writer.QueryRowContext(ctx, "SELECT coalesce(max(value), '') FROM rebuilt.meta WHERE name = 'last_seen'").Scan(&seen)
	if err == nil {
		err = setTime(&at, seen)
	}
	if err != nil {
		return fmt.Errorf("journal: take over %s: %w", dir, err)
	}
	j.raise(at)
	return j.write(ctx, takeOver)
}

func takeOver(tx *sql.Tx) error {
	if err := mustBeEmpty(tx); err != nil {
		return err
	}
	// Which row belongs to which is checked when all of them are there.
	if _, err := tx.Exec("PRAGMA defer_foreign_keys = ON"); err != nil {
		return err
	}
	// An upgraded database has its columns in another order than a new one.
	copies, err := tx.Query(`SELECT m.name, (SELECT group_concat(name) FROM pragma_table_info(m.name, 'rebuilt'))
		FROM rebuilt.sqlite_master m WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'`)
	if err != nil {
		return err
	}
	columns := map[string]string{}
	for copies.Next() {
		var table, names string
		if err := copies.Scan(&table, &names); err != nil {
			return errors.Join(err, copies.Close())
		}
		columns[table] = names
	}
	if err := errors.Join(copies.Err(), copies.Close()); err != nil {
		return err
	}
	for table, names := range columns {
		// What this one knows of itself, when it was and which bucket it has seen, stays.
		if _, err := tx.Exec(fmt.Sprintf("INSERT INTO main.%s (%s) SELECT %s FROM rebuilt.%s WHERE true ON CONFLICT DO NOTHING", table, names, names, table)); err != nil {
			return fmt.Errorf("take over table %s: %w", table, err)
		}
	}
	return nil
}

// LearnFingerprint writes the fingerprint of a stored file of which only the SHA-256
// was known: a bucket does not tell it.
func (j *Journal) LearnFingerprint(ctx context.Context, file int64, fingerprint string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE files SET fingerprint = ? WHERE id = ? AND fingerprint = ''", fingerprint, file)
		return err
	})
}
