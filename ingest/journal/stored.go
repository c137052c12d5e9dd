package journal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// StoredSince sums the bytes that sessions which began at or after since have stored
// and verified, and tells when the first session of all began: zero if there is none.
func (j *Journal) StoredSince(ctx context.Context, since time.Time) (bytes int64, first time.Time, err error) {
	var began string
	err = j.db.QueryRowContext(ctx, `SELECT
		(SELECT COALESCE(SUM(f.size), 0) FROM sessions s JOIN files f ON f.session = s.id WHERE s.docked_at >= ? AND f.state = ?),
		(SELECT COALESCE(MIN(docked_at), '') FROM sessions WHERE docked_at != '')`, formatTime(since), Verified).Scan(&bytes, &began)
	if err = errors.Join(err, setTime(&first, began)); err != nil {
		return 0, time.Time{}, fmt.Errorf("journal: %w", err)
	}
	return bytes, first, nil
}
