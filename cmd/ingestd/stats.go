package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest/journal"
)

func (a *app) statsCmd() *cobra.Command {
	var by, from, to string
	cmd := &cobra.Command{
		Use: "stats", Short: "Count what was taken in", Args: cobra.NoArgs, Annotations: isList,
		Long: `stats counts sessions, files and bytes of the recorders that were docked from the first
day to the last, by the station's days. Without --from it begins eleven months before
this one. What was disposed of since is counted too.

Exit codes: 0 done · 2 wrong command line.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.stats(cmd.Context(), journal.StatsBy(by), from, to)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&by, "by", string(journal.ByMonth), "`WHAT` is counted apart: month, officer, recorder or unit")
	flags.StringVar(&from, "from", "", "first `DATE` of docking, such as 2026-01-01")
	flags.StringVar(&to, "to", "", "last `DATE` of docking; empty: today")
	return cmd
}

// statJSON is a line of the statistics for machines, as the console's export has it.
type statJSON struct {
	Key          string `json:"key"` // empty: unknown
	Sessions     int    `json:"sessions"`
	Sealed       int    `json:"sealed"`
	Failed       int    `json:"failed"`
	Files        int64  `json:"files"`
	Bytes        int64  `json:"bytes"`
	ClockOff     int    `json:"clock_off"`
	ClockUnknown int    `json:"clock_unknown"`
}

func (a *app) stats(ctx context.Context, by journal.StatsBy, from, to string) (err error) {
	if !slices.Contains(journal.StatsKinds, by) {
		return usage(fmt.Errorf("--by %s: it is month, officer, recorder or unit", by))
	}
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	loc := w.cfg.Station.Timezone
	days, err := holdFlags{from: from, to: to}.query(loc)
	if err != nil {
		return usage(err)
	}
	now := w.journal.Now().In(loc)
	if days.From.IsZero() {
		days.From = time.Date(now.Year(), now.Month()-11, 1, 0, 0, 0, 0, loc)
	}
	if days.To.IsZero() {
		days.To = time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, loc)
	}
	all, err := w.journal.Stats(ctx, by, days.From, days.To.AddDate(0, 0, 1), loc)
	if err != nil {
		return err
	}
	var items []statJSON
	var rows [][]any
	for _, s := range all {
		items = append(items, statJSON(s))
		rows = append(rows, []any{orDash(tame(s.Key)), s.Sessions, s.Sealed, s.Failed, s.Files, s.Bytes, s.ClockOff, s.ClockUnknown})
	}
	return printList(a, "ingestd.stats/1", items, "", []string{strings.ToUpper(string(by)), "SESSIONS", "SEALED", "FAILED", "FILES", "BYTES", "CLOCK OFF", "CLOCK UNKNOWN"}, rows, 2, 3, 4, 5, 6, 7, 8)
}
