package storage_test

import (
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata" // zones, also where the machine has none

	"github.com/bodyworn/ingestd/storage"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// The dates are counted by hand on a calendar: the same day six months on, and
// where that does not exist the days beyond the month's end; kept until the end
// of that day.
func TestRetentionIsCalendarMonths(t *testing.T) {
	for _, c := range []struct {
		zone, start string
		months      int
		until       string
	}{
		{"Asia/Shanghai", "2026-11-24T18:03:05", 6, "2027-05-25T00:00:00"},
		{"Asia/Shanghai", "2026-11-24T00:00:00", 6, "2027-05-25T00:00:00"},
		{"Asia/Shanghai", "2026-11-24T23:59:59", 6, "2027-05-25T00:00:00"},
		{"Asia/Shanghai", "2026-08-31T12:00:00", 6, "2027-03-04T00:00:00"}, // 31 Feb is 3 Mar
		{"Asia/Shanghai", "2027-08-31T12:00:00", 6, "2028-03-03T00:00:00"}, // leap year: 2 Mar
		{"Asia/Shanghai", "2026-08-29T12:00:00", 6, "2027-03-02T00:00:00"}, // 29 Feb is 1 Mar
		{"Asia/Shanghai", "2027-08-29T12:00:00", 6, "2028-03-01T00:00:00"}, // 29 Feb exists
		{"Asia/Shanghai", "2028-02-29T12:00:00", 6, "2028-08-30T00:00:00"},
		{"Asia/Shanghai", "2028-02-29T12:00:00", 12, "2029-03-02T00:00:00"},
		{"Asia/Shanghai", "2026-03-31T12:00:00", 6, "2026-10-02T00:00:00"}, // 31 Sep is 1 Oct
		{"Asia/Shanghai", "2026-09-01T12:00:00", 6, "2027-03-02T00:00:00"},
		{"Asia/Shanghai", "2026-11-24T18:03:05", 36, "2029-11-25T00:00:00"},
		{"Asia/Shanghai", "2026-11-24T18:03:05", 5, "2027-05-25T00:00:00"}, // never fewer than six
		{"Asia/Shanghai", "2026-11-24T18:03:05", 0, "2027-05-25T00:00:00"},
		{"Asia/Shanghai", "2026-11-24T18:03:05", -7, "2027-05-25T00:00:00"},
		{"Europe/Berlin", "2026-09-28T12:00:00", 6, "2027-03-29T00:00:00"}, // clocks change that night
		// In this zone 4 November 2018 began at 01:00.
		{"America/Sao_Paulo", "2018-05-03T22:00:00", 6, "2018-11-04T01:00:00"},
		// Their anniversary is in the hour that was left out, or after it.
		{"America/Sao_Paulo", "2018-05-04T00:00:00", 6, "2018-11-05T00:00:00"},
		{"America/Sao_Paulo", "2018-05-04T00:30:00", 6, "2018-11-05T00:00:00"},
		{"America/Sao_Paulo", "2018-05-04T12:00:00", 6, "2018-11-05T00:00:00"},
	} {
		loc := zone(t, c.zone)
		start, err1 := time.ParseInLocation("2006-01-02T15:04:05", c.start, loc)
		want, err2 := time.ParseInLocation("2006-01-02T15:04:05", c.until, loc)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		got := storage.RetainUntil(start, c.months, loc)
		if got.Before(want) || got.After(want.Add(time.Hour)) || (c.zone == "Asia/Shanghai" && !got.Equal(want)) {
			t.Errorf("%s %s + %d months is %s, want %s", c.zone, c.start, c.months, got, want)
		}
	}
}

func TestRetentionIsNeverShort(t *testing.T) {
	zones := []*time.Location{time.UTC}
	for _, name := range []string{"Asia/Shanghai", "America/Sao_Paulo", "Pacific/Apia", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati", "America/Havana"} {
		zones = append(zones, zone(t, name))
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 100_000 {
		loc := zones[random.IntN(len(zones))]
		start := time.Unix(random.Int64N(4_000_000_000), random.Int64N(1e9))
		months := random.IntN(40)
		until := storage.RetainUntil(start, months, loc)
		switch {
		// Samoa once left a whole day out; everywhere else six months are more.
		case until.Sub(start) <= 180*24*time.Hour && loc.String() != "Pacific/Apia":
			t.Fatalf("seed %d: %s in %s is kept %s", seed, start, loc, until.Sub(start))
		case until.Before(start.In(loc).AddDate(0, max(months, 6), 0)):
			t.Fatalf("seed %d: %s + %d months in %s is %s", seed, start, months, loc, until)
		case storage.BelowFloor(until, start, loc):
			t.Fatalf("seed %d: %s is below the floor from %s in %s", seed, until, start, loc)
		case storage.RetainUntil(start, months+1, loc).Before(until):
			t.Fatalf("seed %d: a month more is less, from %s in %s", seed, start, loc)
		case until.Nanosecond() != 0:
			t.Fatalf("seed %d: %s has a fraction, which S3 would cut off", seed, until)
		}
	}
}

func TestTheFloorIsSeen(t *testing.T) {
	loc := zone(t, "Asia/Shanghai")
	now := time.Date(2026, 9, 1, 4, 0, 0, 0, loc) // still 31 August in UTC
	for until, below := range map[time.Time]bool{
		now.AddDate(0, 6, 0): false, now.AddDate(0, 6, 0).Add(-2 * time.Second): true,
		now.Add(180 * 24 * time.Hour): true, now: true, {}: true,
	} {
		if got := storage.BelowFloor(until, now, loc); got != below {
			t.Errorf("until %s from %s: below the floor is %v", until, now, got)
		}
	}
}
