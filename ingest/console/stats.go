package console

import (
	"cmp"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/spreadsheet"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// statsPages count what was taken in, as a page and for other programs.
func (c *Console) statsPages() []Page {
	roles, query := []accounts.Role{accounts.Auditor, accounts.Admin}, []string{"by", "from", "to"}
	return []Page{
		{Route: "GET /admin/stats", Name: "stats", Roles: roles, Menu: 9, Query: query, Serve: c.stats},
		// The line of the ledger is that of the export.
		{Route: "GET /api/v1/stats", Name: "api-stats", Roles: roles, Unseen: true, Serve: c.apiStats},
	}
}

type statsScreen struct {
	By       journal.StatsBy
	From, To string // days; To is the last one
	Wrong    string
	Kinds    []journal.StatsBy
	Stats    []journal.Stat
	Sum      journal.Stat
	Charts   []chart
	Broken   bool // the ledger is not what was signed: views are not known
	CSV      string
	JSON     string
}

// chart has a bar for each line of the table, or for as many as can be read.
type chart struct {
	ID     string // in the page
	Title  string
	Bars   []bar
	Height int // in its own units
	More   int // lines of the table that it has no bar for
}

// bar is one bar of a chart, in its own units.
type bar struct {
	Label, Value     string
	Y, TextY, Length int
}

const (
	barLongest = 320
	barEvery   = 34
	barsMost   = 24
)

// chart draws the latest months, or the largest of others.
func (v *Visit) chart(id, title string, by journal.StatsBy, stats []journal.Stat, value func(journal.Stat) int64, words func(int64) string) chart {
	ch := chart{ID: id, Title: title, More: max(0, len(stats)-barsMost)}
	shown := slices.Clone(stats)
	if by == journal.ByMonth {
		shown = shown[ch.More:]
	} else {
		slices.SortStableFunc(shown, func(a, b journal.Stat) int { return cmp.Compare(value(b), value(a)) })
		shown = shown[:len(shown)-ch.More]
	}
	most := int64(1)
	for _, n := range shown {
		most = max(most, value(n))
	}
	for i, n := range shown {
		label := v.Shown(n.Key)
		if label == "" {
			label = v.T("unknown")
		}
		ch.Bars = append(ch.Bars, bar{label, words(value(n)), i * barEvery, i*barEvery + 18, int(float64(value(n)) / float64(most) * barLongest)})
	}
	ch.Height = len(ch.Bars) * barEvery
	return ch
}

// Counted is a number that is not known of unknown of those that it counts.
func (s statsScreen) Counted(w Words, n *int, unknown int) string {
	switch {
	case n == nil, *n == 0 && unknown > 0:
		return w.T("unknown")
	case unknown > 0:
		return w.T("stats.at_least", "N", *n)
	}
	return strconv.Itoa(*n)
}

// statsQuery reads what is asked for; without a period it is the year up to today.
func (v *Visit) statsQuery() (s statsScreen, from, to time.Time) {
	now := v.c.Journal.Now().In(v.location)
	s = statsScreen{By: journal.StatsBy(v.Query("by")), From: v.Query("from"), To: v.Query("to"), Kinds: journal.StatsKinds}
	if s.By == "" {
		s.By = journal.ByMonth
	}
	if s.From == "" {
		s.From = time.Date(now.Year(), now.Month()-11, 1, 0, 0, 0, 0, v.location).Format(time.DateOnly)
	}
	if s.To == "" {
		s.To = now.Format(time.DateOnly)
	}
	from, err1 := time.ParseInLocation(time.DateOnly, s.From, v.location)
	to, err2 := time.ParseInLocation(time.DateOnly, s.To, v.location)
	switch {
	case err1 != nil || err2 != nil || to.Before(from):
		s.Wrong = v.T("stats.days_wrong")
	case !slices.Contains(s.Kinds, s.By):
		s.Wrong = v.T("stats.by_wrong")
	}
	return s, from, to.AddDate(0, 0, 1)
}

func (c *Console) stats(v *Visit) error {
	s, from, to := v.statsQuery()
	if s.Wrong != "" {
		return v.ShowAs(http.StatusUnprocessableEntity, "stats.html", s)
	}
	if err := c.count(v, &s, from, to); err != nil {
		return err
	}
	for _, n := range s.Stats {
		s.Sum = s.Sum.Plus(n)
	}
	s.Charts = []chart{
		v.chart("bytes", v.T("stats.chart"), s.By, s.Stats, func(n journal.Stat) int64 { return n.Bytes }, v.Size),
		v.chart("sessions", v.T("stats.sessions"), s.By, s.Stats, func(n journal.Stat) int64 { return int64(n.Sessions) }, func(n int64) string { return strconv.FormatInt(n, 10) }),
	}
	export := url.Values{"by": {string(s.By)}, "from": {s.From}, "to": {s.To}}
	export.Set("format", "csv")
	s.CSV = "/api/v1/stats?" + export.Encode()
	export.Set("format", "json")
	s.JSON = "/api/v1/stats?" + export.Encode()
	return v.Show("stats.html", s)
}

// count asks journal and ledger. Views are unknown where the ledger can't be trusted.
func (c *Console) count(v *Visit, s *statsScreen, from, to time.Time) error {
	views, err := ingest.Views(v.Context(), c.Evidence.Ledger)
	if s.Broken = errors.Is(err, ledger.ErrBroken); err != nil && !s.Broken {
		return err
	}
	s.Stats, err = c.Journal.Stats(v.Context(), journal.StatsQuery{By: s.By, From: from, To: to, Location: v.location, Views: views})
	return err
}

// apiStats is the export, which the ledger has first.
func (c *Console) apiStats(v *Visit) error {
	s, from, to := v.statsQuery()
	format := v.Query("format")
	if format != "" && format != "json" && format != "csv" {
		s.Wrong = v.T("stats.format_wrong")
	}
	if s.Wrong != "" {
		return Problem{Status: http.StatusUnprocessableEntity, Code: "bad_request", Detail: s.Wrong}
	}
	if err := v.Record(ledger.Entry{Event: "view.export", Detail: map[string]string{
		"what": "stats", "by": string(s.By), "from": s.From, "to": s.To, "format": format, "address": v.Address,
	}}); err != nil {
		return err
	}
	if err := c.count(v, &s, from, to); err != nil {
		return err
	}
	if format != "csv" {
		return v.ShowJSON(map[string]any{"schema": "ingestd.stats/1", "by": s.By, "from": s.From, "to": s.To, "items": s.Stats})
	}
	rows := [][]string{{
		v.T("stats.by." + string(s.By)), v.T("stats.sessions"), v.T("stats.sealed"), v.T("stats.failed"), v.T("col.files"), v.T("stats.bytes"),
		v.T("stats.early"), v.T("stats.clock_off"), v.T("stats.clock_unknown"), v.T("stats.views"),
	}}
	for _, n := range s.Stats {
		rows = append(rows, []string{
			n.Key, strconv.Itoa(n.Sessions), strconv.Itoa(n.Sealed), strconv.Itoa(n.Failed), strconv.FormatInt(n.Files, 10), strconv.FormatInt(n.Bytes, 10),
			s.Counted(v.Words, n.EarlyRemovals, n.EarlyUnknown), strconv.Itoa(n.ClockOff), strconv.Itoa(n.ClockUnknown), s.Counted(v.Words, n.Views, 0),
		})
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": "ingestd-stats-" + string(s.By) + ".csv"}))
	return spreadsheet.Write(v.w, rows)
}
