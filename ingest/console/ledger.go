package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// ledgerPages show what was done (存证日志), the latest first.
func (c *Console) ledgerPages() []Page {
	return []Page{{
		Route: "GET /admin/ledger", Name: "ledger", Roles: []accounts.Role{accounts.Auditor, accounts.Admin}, Menu: 7,
		Query: []string{"event", "actor", "session", "day", "before"}, Serve: c.ledgerList,
	}}
}

const (
	linesShown = 50
	// linesRead is how many lines a search looks at for one page: what lies further back is
	// on the next one.
	linesRead = 100_000
)

type ledgerScreen struct {
	Event, Actor, About, Day string
	Wrong                    string
	Lines                    []ledger.Stored
	Size                     int64
	From                     int64  // the first line that was looked at
	Next                     string // address of what is before; empty: nothing
	Broken                   bool
	Checkpoint               string
}

func (c *Console) ledgerList(v *Visit) error {
	s := ledgerScreen{Event: v.Query("event"), Actor: v.Query("actor"), About: v.Query("session"), Day: v.Query("day")}
	var err error
	if s.Size, err = c.Evidence.Ledger.Size(); err != nil {
		return err
	}
	signed, err := c.Evidence.Ledger.Checkpoint()
	if err != nil {
		return err
	}
	s.Checkpoint = string(signed)
	before := s.Size
	if text := v.Query("before"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			s.Wrong = v.T("ledger.before_wrong")
		}
		before = min(before, n)
	}
	var from, to time.Time
	if s.Day != "" {
		if from, err = time.ParseInLocation(time.DateOnly, s.Day, v.location); err != nil {
			s.Wrong = v.T("search.day_wrong")
		}
		to = from.AddDate(0, 0, 1)
	}
	if s.Wrong != "" {
		return v.ShowAs(http.StatusUnprocessableEntity, "ledger.html", s)
	}
	wanted := func(e ledger.Entry) bool {
		return (s.Event == "" || strings.HasPrefix(e.Event, s.Event)) && (s.Actor == "" || e.Actor == s.Actor || e.Actor == "account "+s.Actor) &&
			(s.About == "" || e.Session == s.About) && (s.Day == "" || !e.Time.Before(from) && e.Time.Before(to))
	}
	// Every reading begins at the first line, to compare all with the checkpoint: so there
	// is one for a page.
	s.From = max(0, before-linesRead)
	for line, err := range c.Evidence.Ledger.Read(v.Context(), s.From) {
		if errors.Is(err, ledger.ErrBroken) {
			s.Broken = true // what there is is shown, and that it can't be trusted
			break
		}
		if err != nil {
			return err
		}
		if line.Index >= before {
			break
		}
		if !wanted(line.Entry) {
			continue
		}
		if s.Lines = append(s.Lines, line); len(s.Lines) > linesShown {
			s.Lines = s.Lines[1:]
			s.From = s.Lines[0].Index
		}
	}
	slices.Reverse(s.Lines)
	if s.From > 0 {
		q := url.Values{"before": {strconv.FormatInt(s.From, 10)}}
		for name, value := range map[string]string{"event": s.Event, "actor": s.Actor, "session": s.About, "day": s.Day} {
			if value != "" {
				q.Set(name, value)
			}
		}
		s.Next = "/admin/ledger?" + q.Encode()
	}
	return v.Show("ledger.html", s)
}
