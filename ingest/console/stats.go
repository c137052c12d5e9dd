package console

import (
	"bytes"
	"encoding/csv"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/journal"
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
	Bars     []bar
	Height   int // of the chart, in its own units
	CSV      string
	JSON     string
}

// bar is one bar of the chart, in its own units.
type bar struct {
	Label, Value     string
	Y, TextY, Length int
}

const (
	barLongest = 640
	barEvery   = 34
	barsMost   = 24 // the table has all of them
)

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
	var err error
	if s.Stats, err = c.Journal.Stats(v.Context(), s.By, from, to, v.location); err != nil {
		return err
	}
	most := int64(1)
	for _, n := range s.Stats {
		s.Sum.Sessions, s.Sum.Sealed, s.Sum.Failed = s.Sum.Sessions+n.Sessions, s.Sum.Sealed+n.Sealed, s.Sum.Failed+n.Failed
		s.Sum.Files, s.Sum.Bytes = s.Sum.Files+n.Files, s.Sum.Bytes+n.Bytes
		s.Sum.ClockOff, s.Sum.ClockUnknown = s.Sum.ClockOff+n.ClockOff, s.Sum.ClockUnknown+n.ClockUnknown
		most = max(most, n.Bytes)
	}
	shown := s.Stats
	if s.By == journal.ByMonth { // the latest; else the largest
		shown = shown[max(0, len(shown)-barsMost):]
	} else {
		shown = slices.SortedFunc(slices.Values(shown), func(a, b journal.Stat) int { return int(min(1, max(-1, b.Bytes-a.Bytes))) })
		shown = shown[:min(barsMost, len(shown))]
	}
	for i, n := range shown {
		label := v.Shown(n.Key)
		if label == "" {
			label = v.T("unknown")
		}
		s.Bars = append(s.Bars, bar{label, v.Size(n.Bytes), i * barEvery, i*barEvery + 18, int(float64(n.Bytes) / float64(most) * barLongest)})
	}
	s.Height = len(s.Bars) * barEvery
	export := url.Values{"by": {string(s.By)}, "from": {s.From}, "to": {s.To}}
	export.Set("format", "csv")
	s.CSV = "/api/v1/stats?" + export.Encode()
	export.Set("format", "json")
	s.JSON = "/api/v1/stats?" + export.Encode()
	return v.Show("stats.html", s)
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
	all, err := c.Journal.Stats(v.Context(), s.By, from, to, v.location)
	if err != nil {
		return err
	}
	if format != "csv" {
		items := []map[string]any{}
		for _, n := range all {
			items = append(items, map[string]any{
				string(s.By): n.Key, "sessions": n.Sessions, "sealed": n.Sealed, "failed": n.Failed, "files": n.Files, "bytes": n.Bytes, "clock_off": n.ClockOff, "clock_unknown": n.ClockUnknown,
			})
		}
		return v.ShowJSON(map[string]any{"schema": "ingestd.stats/1", "by": s.By, "from": s.From, "to": s.To, "items": items})
	}
	var text bytes.Buffer
	text.WriteString("\ufeff") // or spreadsheets take it for another encoding
	w := csv.NewWriter(&text)
	rows := [][]string{{v.T("stats.by." + string(s.By)), v.T("stats.sessions"), v.T("stats.sealed"), v.T("stats.failed"), v.T("col.files"), v.T("stats.bytes"), v.T("stats.clock_off"), v.T("stats.clock_unknown")}}
	for _, n := range all {
		rows = append(rows, []string{
			cell(n.Key), strconv.Itoa(n.Sessions), strconv.Itoa(n.Sealed), strconv.Itoa(n.Failed), strconv.FormatInt(n.Files, 10), strconv.FormatInt(n.Bytes, 10), strconv.Itoa(n.ClockOff), strconv.Itoa(n.ClockUnknown),
		})
	}
	if err := w.WriteAll(rows); err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": "ingestd-stats-" + string(s.By) + ".csv"}))
	_, err = v.w.Write(text.Bytes())
	return err
}

// cell keeps a spreadsheet from taking text of a card for a formula.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
