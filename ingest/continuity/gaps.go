package continuity

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// lookBack bounds how many earlier dockings are asked whether they brought what is missing.
const lookBack = 50

// gaps tells which numbers are missing. What an earlier docking brought is not missing: it
// may have been removed from the recorder since.
func (e *Examiner) gaps(ctx context.Context, p *profile.Profile, s journal.Session, here numbered) (signs []Sign, err error) {
	var before numbered // what the docking before had
	brought := map[string][]int{}
	q := journal.Query{Recorder: s.Recorder, After: journal.Place{DockedAt: s.DockedAt, ID: s.ID}, Limit: 1}
	for n := 0; s.Recorder != "" && n < lookBack; {
		page, more, err := e.Journal.Find(ctx, q)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		q.After = journal.Place{DockedAt: page[0].DockedAt, ID: page[0].ID}
		if page[0].State == journal.StateSealed || page[0].State == journal.StateFailed {
			files, err := e.Journal.Files(ctx, page[0].ID)
			if err != nil {
				return nil, err
			}
			theirs, _ := e.numbered(p, files, page[0].ID)
			if n++; n == 1 {
				before = theirs
			}
			for serial, all := range theirs {
				for _, r := range all {
					brought[serial] = append(brought[serial], r.number)
				}
				slices.Sort(brought[serial])
			}
			if signs = missing(here, before, brought); len(signs) == 0 {
				return nil, nil
			}
		}
		if !more {
			break
		}
	}
	return missing(here, before, brought), nil
}

// missing tells which numbers lie below a recording of this docking and above one of this
// or the docking before, and were never brought. The numbers of brought are sorted.
func missing(here, before numbered, brought map[string][]int) (signs []Sign) {
	for _, serial := range slices.Sorted(maps.Keys(here)) {
		all := slices.Concat(here[serial], before[serial])
		slices.SortStableFunc(all, func(a, b recording) int { // of two with a number, the one here is first
			return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.session, b.session), cmp.Compare(a.path, b.path))
		})
		anew := begunAnew(all)
		for i := range len(all) - 1 {
			if a, b := all[i], all[i+1]; b.session == "" && b.number > a.number+1 && !anew(i) {
				signs = append(signs, without(a, b, brought[serial])...)
			}
		}
	}
	return signs
}

// without gives the runs of numbers between two recordings that nobody brought.
func without(a, b recording, brought []int) (signs []Sign) {
	sign := Sign{Kind: Missing, After: a.path, Before: b.path, Since: a.session}
	if a.session != "" {
		sign.Kind = MissingSince
	}
	from := a.number + 1
	for at, _ := slices.BinarySearch(brought, from); ; at++ {
		to := b.number
		if at < len(brought) {
			to = min(to, brought[at])
		}
		if to > from {
			sign.From, sign.To = from, to-1
			signs = append(signs, sign)
		}
		if to == b.number {
			return signs
		}
		from = to + 1
	}
}

// begunAnew tells of a place in recordings that are sorted by number whether the recorder
// has counted to its end, or was reset, between the ones above and the ones up to it: the
// low numbers begin at 0 or 1, and all of them were made after all the high ones.
func begunAnew(all []recording) func(i int) bool {
	earliest, latest := make([]time.Time, len(all)), make([]time.Time, len(all)) // up to a place, from it on
	for i, r := range all {
		if i > 0 {
			earliest[i] = earliest[i-1]
		}
		if !r.at.IsZero() && (earliest[i].IsZero() || r.at.Before(earliest[i])) {
			earliest[i] = r.at
		}
	}
	for i, r := range slices.Backward(all) {
		if i+1 < len(all) {
			latest[i] = latest[i+1]
		}
		if r.at.After(latest[i]) {
			latest[i] = r.at
		}
	}
	return func(i int) bool {
		return all[0].number <= 1 && !earliest[i].IsZero() && latest[i+1].Before(earliest[i])
	}
}
