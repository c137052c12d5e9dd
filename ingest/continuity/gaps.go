package continuity

import (
	"cmp"
	"context"
	"iter"
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
	signs = missing(here, before, brought)
	for theirs, err := range e.earlier(ctx, p, s) {
		if err != nil {
			return nil, err
		}
		if before == nil {
			before = theirs
		}
		highest := 0
		for serial, all := range theirs {
			for _, r := range all {
				brought[serial] = append(brought[serial], r.number)
				highest = max(highest, r.number)
			}
			slices.Sort(brought[serial])
		}
		signs = missing(here, before, brought)
		if !slices.ContainsFunc(signs, func(s Sign) bool { return s.From <= highest }) {
			break // before that, the recorder had not counted so far
		}
	}
	return signs, nil
}

// earlier are the recordings of earlier dockings of the recorder that have ended, the
// latest first. Those that brought none with a number are left out.
func (e *Examiner) earlier(ctx context.Context, p *profile.Profile, s journal.Session) iter.Seq2[numbered, error] {
	return func(yield func(numbered, error) bool) {
		q := journal.Query{Recorder: s.Recorder, After: journal.Place{DockedAt: s.DockedAt, ID: s.ID}, Limit: 10}
		for looked, more := 0, s.Recorder != ""; more; {
			var page []journal.Row
			var err error
			if page, more, err = e.Journal.Find(ctx, q); err != nil {
				yield(nil, err)
				return
			}
			for _, row := range page {
				q.After = journal.Place{DockedAt: row.DockedAt, ID: row.ID}
				if row.State != journal.StateSealed && row.State != journal.StateFailed {
					continue
				}
				if looked++; looked > lookBack {
					return
				}
				files, err := e.Journal.Files(ctx, row.ID)
				theirs, _ := e.numbered(p, files, row.ID)
				if (err != nil || len(theirs) > 0) && !yield(theirs, err) {
					return
				}
			}
		}
	}
}

// missing tells which numbers lie below a recording of this docking and above one of this
// or the docking before, and were never brought. The numbers of brought are sorted.
func missing(here, before numbered, brought map[string][]int) (signs []Sign) {
	for _, serial := range slices.Sorted(maps.Keys(here)) {
		all := slices.Concat(here[serial], before[serial])
		slices.SortStableFunc(all, func(a, b recording) int {
			return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.session, b.session), cmp.Compare(a.path, b.path))
		})
		// Of those with one number, the one here is first, and stays.
		all = slices.CompactFunc(all, func(a, b recording) bool { return a.number == b.number })
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
