package ingest_test

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// setLastSeen makes a journal, closed, believe that it was written at a time.
func setLastSeen(file string, at time.Time) error {
	db, err := sql.Open("sqlite", file)
	if err != nil {
		return err
	}
	_, err = db.Exec("UPDATE meta SET value = ? WHERE name = 'last_seen'", at.UTC().Format(time.RFC3339))
	return errors.Join(err, db.Close())
}
