package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

func (a *app) statsCmd() *cobra.Command {
	var by, from, to string
	cmd := &cobra.Command{
		Use: "stats", Short: "Count what was taken in", Args: cobra.NoArgs, Annotations: isList,
		Long: `stats counts sessions, files and bytes of the recorders that were docked from the first
day to the last, by the station's days. Without --from it begins eleven months before
this one. What was disposed of since is counted too.

Early removals are those before the recorder was safe to take; ≥ stands where they were
not counted for some of the sessions. Views are how often footage was played or saved in
the console since, as the ledger tells. What is not known is -, in JSON null: how long
footage lasts is not known, nobody looks into it.

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
	views, err := a.views(ctx)
	if err != nil {
		return err
	}
	all, err := w.journal.Stats(ctx, journal.StatsQuery{By: by, From: days.From, To: days.To.AddDate(0, 0, 1), Location: loc, Views: views})
	if err != nil {
		return err
	}
	var rows [][]any
	for _, s := range all {
		rows = append(rows, []any{orDash(tame(s.Key)), s.Sessions, s.Sealed, s.Failed, s.Files, s.Bytes, counted(s.EarlyRemovals, s.EarlyUnknown), s.ClockOff, s.ClockUnknown, counted(s.Views, 0)})
	}
	return printList(a, "ingestd.stats/1", all, "", []string{strings.ToUpper(string(by)), "SESSIONS", "SEALED", "FAILED", "FILES", "BYTES", "EARLY REMOVALS", "CLOCK OFF", "CLOCK UNKNOWN", "VIEWS"}, rows, 2, 3, 4, 5, 6, 7, 8, 9, 10)
}

// counted is a number that is not known of all that it counts.
func counted(n *int, unknown int) string {
	switch {
	case n == nil, *n == 0 && unknown > 0:
		return "-"
	case unknown > 0:
		return fmt.Sprintf("≥%d", *n)
	}
	return strconv.Itoa(*n)
}

// views is nil where there is no ledger, or none that can be trusted: the rest of the
// statistics does not need it.
func (a *app) views(ctx context.Context) (map[string]int, error) {
	l, err := a.openLedger(ctx)
	if err != nil {
		fmt.Fprintln(a.err, "ingestd: views are not known:", tame(err.Error()))
		return nil, ctx.Err()
	}
	views, err := ingest.Views(ctx, l.Ledger)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(a.err, "ingestd: views are not known:", tame(err.Error()))
		views, err = nil, nil
	}
	return views, errors.Join(err, l.close())
}
