package storage_test

import (
	"errors"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

// The time by which footage expires is that of the clock that is behind, and no time at
// all where the two contradict each other.
func TestTheTimeOfTwoClocks(t *testing.T) {
	t.Parallel()
	server := servers["embedded"](t)
	opened, cfg := server.Vault(t)
	v := &vault{T: t, Vault: opened, cfg: cfg, server: server, raw: server.Client()}
	for _, c := range []struct{ station, store, want time.Duration }{
		{0, 0, 0},
		{10 * time.Minute, 0, 0},
		{0, 10 * time.Minute, 0},
		{300 * time.Hour, 300*time.Hour - 10*time.Minute, 300*time.Hour - 10*time.Minute},
		{-10 * time.Minute, 0, -10 * time.Minute},
	} {
		later, _ := v.at(c.station, c.store)
		got, err := later.AgreedTime(t.Context())
		if off := time.Until(got) - c.want; err != nil || off.Abs() > time.Minute {
			t.Errorf("station %s, store %s ahead: %s (%s off), %v", c.station, c.store, got, off, err)
		}
	}
	for _, c := range [][2]time.Duration{{20 * time.Minute, 0}, {0, 20 * time.Minute}, {8760 * time.Hour, 0}, {0, 8760 * time.Hour}} {
		later, _ := v.at(c[0], c[1])
		if got, err := later.AgreedTime(t.Context()); !errors.Is(err, storage.ErrClocks) {
			t.Errorf("station %s, store %s ahead: %s, %v", c[0], c[1], got, err)
		}
	}
	server.Kill()
	if got, err := opened.AgreedTime(t.Context()); !errors.Is(err, storage.ErrUnavailable) || !got.IsZero() {
		t.Errorf("a store that is away: %s, %v", got, err)
	}
}
