//go:build !crashpoints

package journal

import (
	"database/sql"
	"time"
)

// makeDurable commits. The build for fault tests can end the process here.
func makeDurable(tx *sql.Tx) error { return tx.Commit() }

// systemTime is the station's clock. The build for fault tests can set it off.
func systemTime() time.Time { return time.Now() }
