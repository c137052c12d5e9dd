package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
)

// toldName and publishedName begin names in table meta: of what the ledger was told
// last, and of how many of its lines a store has held.
const (
	toldName      = "told "
	publishedName = "ledger_published "
)

// Told is what the ledger was told last of a matter; empty: nothing.
func (j *Journal) Told(ctx context.Context, matter string) (string, error) {
	value, err := j.meta(ctx, toldName+matter)
	if err != nil {
		return "", fmt.Errorf("journal: what the ledger was told of %s: %w", matter, err)
	}
	return value, nil
}

// SetTold remembers what the ledger was told, so that it is told again only when that
// changes. It comes after the line: a crash between the two makes one line more.
func (j *Journal) SetTold(ctx context.Context, matter, value string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO meta (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value=excluded.value", toldName+matter, value)
		return err
	})
}

// ForgetTold has everything told again: the ledger has lost its last lines.
func (j *Journal) ForgetTold(ctx context.Context) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("DELETE FROM meta WHERE substr(name, 1, ?) = ?", len(toldName), toldName)
		return err
	})
}

// PublishedLedger is the most lines of the ledger that a store has held; 0: none that
// is known of.
func (j *Journal) PublishedLedger(ctx context.Context, store string) (int64, error) {
	text, err := j.meta(ctx, publishedName+store)
	if err != nil || text == "" {
		return 0, wrapMeta(err, store)
	}
	size, err := strconv.ParseInt(text, 10, 64)
	return size, wrapMeta(err, store)
}

func wrapMeta(err error, store string) error {
	if err != nil {
		return fmt.Errorf("journal: what %s has held of the ledger: %w", store, err)
	}
	return nil
}

// LedgerPublished remembers that a store holds so many lines of the ledger. A number
// that is less than one before changes nothing.
func (j *Journal) LedgerPublished(ctx context.Context, store string, size int64) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO meta (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value=excluded.value
			WHERE CAST(excluded.value AS INTEGER) > CAST(meta.value AS INTEGER)`, publishedName+store, strconv.FormatInt(size, 10))
		return err
	})
}

// meta gives an empty text for a name that is not there.
func (j *Journal) meta(ctx context.Context, name string) (value string, err error) {
	err = j.db.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = ?", name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, err
}
