package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrClocks says that the store's clock and the station's are too far from each other, or the
// store does not tell its time. What time it is is not known then.
var ErrClocks = errors.New("it is not known what time it is")

// AgreedTime asks the store what time it is and gives the earlier of its clock and the
// station's: by that nothing expires too soon. The error is ErrClocks where they are
// more than 15 minutes apart.
func (v *Vault) AgreedTime(ctx context.Context) (time.Time, error) {
	var storeTime time.Time
	if _, err := v.client.BucketExists(withDate(ctx, &storeTime), v.cfg.Bucket); err != nil {
		return time.Time{}, fmt.Errorf("ask %s for its time: %w", v.cfg.name(), classify(err))
	}
	return v.agreed(storeTime)
}

// agreed goes by the clock that is behind: one that runs ahead alone, of the station or
// of the store, must not shorten anything.
func (v *Vault) agreed(storeTime time.Time) (time.Time, error) {
	now := v.cfg.Now()
	if storeTime.IsZero() {
		return time.Time{}, fmt.Errorf("the store does not tell its time (Date): %w", ErrClocks)
	}
	if ahead := storeTime.Sub(now); ahead.Abs() > maxSkew {
		return time.Time{}, fmt.Errorf("the store's clock is %s the station's; set both by NTP: %w", offsetWords(ahead), ErrClocks)
	}
	if storeTime.Before(now) {
		now = storeTime
	}
	return now, nil
}
