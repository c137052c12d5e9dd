package storage

import "time"

// FloorMonths is the statutory minimum of 第十一条: footage on dedicated storage
// is kept no less than six months. It is a constant so that no file,
// environment, flag or role can lower it; a policy can only add to it.
const FloorMonths = 6

// SelfTestPrefix holds the objects of the lock self-test. It is the only
// prefix under which the embedded store accepts a lock shorter than the floor:
// the self-test has to see a lock expire within seconds. No footage is ever
// written below it.
const SelfTestPrefix = "ingestd-selftest/"

// RetainUntil is the instant before which no one may delete an object that was
// stored at start: the end of the day, in loc, that lies the given number of
// calendar months later. Fewer than FloorMonths count as FloorMonths.
//
// It counts calendar months (第十一条), never 180 days: six months are 181 to
// 184 days. A month end that does not exist moves later, 31 August gives
// 3 March, so that rounding can only keep footage longer.
func RetainUntil(start time.Time, months int, loc *time.Location) time.Time {
	months = max(months, FloorMonths)
	local := start.In(loc)
	exact := local.AddDate(0, months, 0)
	// The day is counted at noon: where the clocks skip the very hour of the
	// anniversary, AddDate may answer with the evening before.
	y, m, d := local.Date()
	if noon := time.Date(y, m+time.Month(months), d, 12, 0, 0, 0, loc); noon.After(exact) && !sameDay(noon, exact) {
		exact = noon
	}
	y, m, d = exact.Date()
	endOfDay := time.Date(y, m, d+1, 0, 0, 0, 0, loc)
	// Where a zone's clocks skip midnight, or a whole day, time.Date may answer
	// with a time that is still on that day.
	for !endOfDay.After(exact) || sameDay(endOfDay, exact) {
		endOfDay = endOfDay.Add(time.Hour)
	}
	return ceilSecond(endOfDay)
}

func sameDay(a, b time.Time) bool {
	y1, m1, d1 := a.Date()
	y2, m2, d2 := b.Date()
	return y1 == y2 && m1 == m2 && d1 == d2
}

// ceilSecond rounds up: S3 keeps whole seconds, and cutting a fraction off
// would release an object early.
func ceilSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); whole.Before(t) {
		return whole.Add(time.Second)
	}
	return t
}

// BelowFloor reports whether a lock that ends at until would release an object
// created at now before six calendar months have passed in loc, the station's
// time zone. The zone matters at month ends: it is 1 September in Beijing while
// it is still 31 August in UTC, and the two lie three days apart in March.
func BelowFloor(until, now time.Time, loc *time.Location) bool {
	return until.Before(now.In(loc).AddDate(0, FloorMonths, 0).Truncate(time.Second))
}
