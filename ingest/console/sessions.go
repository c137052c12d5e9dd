package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/continuity"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// sessionPages are what has been taken in: the list, which is the start, and one of it.
func (c *Console) sessionPages() []Page {
	query := []string{"officer", "recorder", "day", "state", "after"}
	return []Page{
		{Route: "GET /admin/sessions", Name: "sessions", Roles: ofFootage, Menu: 1, Query: query, Serve: c.sessionList},
		{Route: "GET /admin/sessions/{session}", Name: "session", Roles: ofFootage, Serve: c.sessionDetail},
	}
}

// pageOfSessions is how many rows a page of the list has.
const pageOfSessions = 50

// listScreen is the list and the search that it answers.
type listScreen struct {
	Officer, Recorder, Day, State string
	OwnOnly                       bool // an officer's: Officer can't be chosen
	Wrong                         string
	States                        []journal.SessionState
	Rows                          []sessionRow
	Next                          string // address of the next page; empty: this is the last
	First                         string // of the first; empty: this is it
}

type sessionRow struct {
	journal.Row
	Holds []journal.Hold
}

var searchStates = []journal.SessionState{journal.StateSealed, journal.StateFailed, journal.StateOpen, journal.StateSealing}

func (c *Console) sessionList(v *Visit) error {
	s := listScreen{
		Officer: v.Query("officer"), Recorder: v.Query("recorder"), Day: v.Query("day"), State: v.Query("state"),
		OwnOnly: v.Account.Role == accounts.Officer, States: searchStates,
	}
	q, wrong := v.sessionQuery()
	if s.OwnOnly {
		s.Officer = q.Officer
	}
	if wrong != "" {
		s.Wrong = v.T(wrong)
		return v.ShowAs(http.StatusUnprocessableEntity, "sessions.html", s)
	}
	rows, more, err := c.Journal.Find(v.Context(), q)
	if err != nil {
		return err
	}
	for _, r := range rows {
		holds, err := c.Journal.HoldsOn(v.Context(), r.ID)
		if err != nil {
			return err
		}
		holds = slices.DeleteFunc(holds, func(h journal.Hold) bool { return h.State == journal.HoldReleased })
		s.Rows = append(s.Rows, sessionRow{r, holds})
	}
	if more {
		last := rows[len(rows)-1]
		s.Next = v.search(journal.Place{DockedAt: last.DockedAt, ID: last.ID}.String())
	}
	if v.Query("after") != "" {
		s.First = v.search("")
	}
	return v.Show("sessions.html", s)
}

// sessionQuery reads the search, and tells what is wrong with it by the name of a
// message.
func (v *Visit) sessionQuery() (q journal.Query, wrong string) {
	q = journal.Query{Officer: v.Query("officer"), Recorder: v.Query("recorder"), State: journal.SessionState(v.Query("state")), Limit: pageOfSessions}
	if v.Account.Role == accounts.Officer {
		q.Officer = v.Account.Officer
	}
	if q.State != "" && !slices.Contains(searchStates, q.State) {
		return q, "search.state_wrong"
	}
	if day := v.Query("day"); day != "" {
		from, err := time.ParseInLocation(time.DateOnly, day, v.location)
		if err != nil {
			return q, "search.day_wrong"
		}
		q.From, q.To = from, from.AddDate(0, 0, 1)
	}
	if after := v.Query("after"); after != "" {
		place, err := journal.ParsePlace(after)
		if err != nil {
			return q, "search.after_wrong"
		}
		q.After = place
	}
	return q, ""
}

// search is the address of another page of the same search.
func (v *Visit) search(after string) string {
	q := url.Values{}
	for _, name := range []string{"officer", "recorder", "day", "state"} {
		if value := v.Query(name); value != "" {
			q.Set(name, value)
		}
	}
	if after != "" {
		q.Set("after", after)
	}
	return "/admin/sessions?" + q.Encode()
}

// detailScreen is all that is known of a session.
type detailScreen struct {
	journal.Session
	Files  []*journal.File
	Totals totals
	SM3    map[string]string // by SHA-256
	Tags   []journal.Tag
	Holds  []journal.Hold
	Scrub  *journal.Scrub
	Bad    []journal.Quarantined
	Gaps   continuity.Report
	Chain  []ledger.Stored // 证据保管链: what the ledger has of it
	Broken bool            // the ledger is not what was signed
}

type totals struct {
	Files, Good, Bad int
	Bytes            int64
}

func (c *Console) sessionDetail(v *Visit) error {
	ctx, id := v.Context(), v.Session.ID
	s := detailScreen{Session: v.Session}
	var errs [6]error
	s.Files, errs[0] = c.Journal.Files(ctx, id)
	s.SM3, errs[1] = c.Journal.SM3s(ctx, id)
	s.Tags, errs[2] = c.Journal.Tags(ctx, id)
	s.Holds, errs[3] = c.Journal.HoldsOn(ctx, id)
	s.Scrub, errs[4] = c.Journal.LastScrub(ctx, id)
	s.Bad, errs[5] = c.Journal.QuarantinedOf(ctx, id)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if s.Gaps, errs[0] = c.Continuity().Session(ctx, v.Session, s.Files); errs[0] != nil {
		return errs[0]
	}
	for _, f := range s.Files {
		if f.Entry.Kind != device.KindFile {
			continue
		}
		s.Totals.Files, s.Totals.Bytes = s.Totals.Files+1, s.Totals.Bytes+f.Entry.Size
		switch {
		case f.State.Good():
			s.Totals.Good++
		case f.State.Bad():
			s.Totals.Bad++
		}
	}
	for line, err := range c.Evidence.Ledger.About(ctx, id) {
		if errors.Is(err, ledger.ErrBroken) {
			s.Broken = true // what there is is shown, and that it can't be trusted
			break
		}
		if err != nil {
			return err
		}
		s.Chain = append(s.Chain, line)
	}
	return v.Show("session.html", s)
}
