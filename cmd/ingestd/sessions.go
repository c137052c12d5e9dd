package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
)

func (a *app) sessionsCmd() *cobra.Command {
	var f sessionFilter
	list := &cobra.Command{
		Use: "list", Short: "List the sessions, the latest first", Args: cobra.NoArgs, Annotations: isList,
		Long: `list shows the sessions that all of the given flags match, the latest first. With --limit
the result says where it goes on, as "next" in JSON and on standard error elsewhere: give
that to --cursor.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.sessionsList(cmd.Context(), f) },
	}
	flags := list.Flags()
	flags.StringVar(&f.officer, "officer", "", "sessions of the officer with this `ID`")
	flags.StringVar(&f.recorder, "recorder", "", "sessions of the recorder with this `SERIAL` number")
	flags.StringVar(&f.state, "state", "", "`STATE`: open, sealing, sealed or failed")
	flags.StringVar(&f.from, "from", "", "first `DATE` of docking, such as 2026-11-24")
	flags.StringVar(&f.to, "to", "", "last `DATE` of docking")
	flags.BoolVar(&f.held, "held", false, "only those on hold (保全)")
	flags.IntVar(&f.limit, "limit", 0, "`NUMBER` of sessions at most; 0: all")
	flags.StringVar(&f.cursor, "cursor", "", "go on where the `PLACE` says that the result before has ended")
	sessions := group("sessions", "What has been taken in", list,
		&cobra.Command{
			Use: "show ID", Short: "Show one session with every path of the recorder", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.sessionsShow(cmd.Context(), args[0]) },
		})
	sessions.PersistentFlags().StringVar(&a.catalog, "catalog", "", "folder `DIR` of a catalog that was made of a bucket, instead of the station's journal")
	return sessions
}

// sessionFilter says which sessions are listed.
type sessionFilter struct {
	officer, recorder, state, from, to, cursor string
	held                                       bool
	limit                                      int
}

// pageOfSessions is how many are read at once.
const pageOfSessions = 500

func (f sessionFilter) query(loc *time.Location) (q journal.Query, err error) {
	q = journal.Query{Officer: f.officer, Recorder: f.recorder, State: journal.SessionState(f.state), Limit: pageOfSessions}
	states := []journal.SessionState{"", journal.StateOpen, journal.StateSealing, journal.StateSealed, journal.StateFailed}
	if !slices.Contains(states, q.State) {
		return q, fmt.Errorf("--state %s: it is open, sealing, sealed or failed", f.state)
	}
	if f.limit < 0 {
		return q, fmt.Errorf("--limit %d: must not be negative", f.limit)
	}
	days, err := holdFlags{from: f.from, to: f.to}.query(loc)
	if err != nil {
		return q, err
	}
	if q.From = days.From; !days.To.IsZero() {
		q.To = days.To.AddDate(0, 0, 1)
	}
	if f.cursor != "" {
		if q.After, err = journal.ParsePlace(f.cursor); err != nil {
			return q, fmt.Errorf("--cursor %s: %w", f.cursor, err)
		}
	}
	return q, nil
}

func (a *app) sessionsList(ctx context.Context, f sessionFilter) (err error) {
	w, err := a.openSessions()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	loc := w.cfg.Station.Timezone
	q, err := f.query(loc)
	if err != nil {
		return usage(err)
	}
	m, err := w.marks(ctx)
	if err != nil {
		return err
	}
	var all []journal.Session
	next := ""
	for more := true; more && next == ""; {
		var page []journal.Row
		if page, more, err = w.journal.Find(ctx, q); err != nil {
			return err
		}
		for n, r := range page {
			q.After = journal.Place{DockedAt: r.DockedAt, ID: r.ID}
			if f.held && len(m.holds[r.ID]) == 0 {
				continue
			}
			all = append(all, r.Session)
			if len(all) == f.limit && (more || n+1 < len(page)) {
				next = q.After.String()
				break
			}
		}
	}
	items, rows := []sessionJSON{}, [][]any{}
	for _, s := range all {
		j := toJSON(s, nil, loc)
		m.addTo(&j)
		items = append(items, j)
		rows = append(rows, []any{s.ID, stateWords(s), orDash(s.Recorder), orDash(s.Officer), when(s.DockedAt, loc), when(s.RetainUntil, loc), orDash(m.words(s.ID)), orDash(tame(s.Reason))})
	}
	if next != "" && a.output != asJSON && !a.quiet {
		fmt.Fprintf(a.err, "there are more: --cursor %s\n", next)
	}
	return printList(a, "ingestd.sessions/1", items, next, []string{"SESSION", "STATE", "RECORDER", "OFFICER", "DOCKED", "KEPT UNTIL", "TAGS AND HOLDS", "REASON"}, rows)
}

func (a *app) sessionsShow(ctx context.Context, id string) (err error) {
	w, err := a.openSessions()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	s, err := w.journal.Session(ctx, id)
	if err != nil {
		return err
	}
	files, err := w.journal.Files(ctx, id)
	if err != nil {
		return err
	}
	scrub, err := w.journal.LastScrub(ctx, id)
	if err != nil {
		return err
	}
	corrupt, err := w.journal.QuarantinedOf(ctx, id)
	if err != nil {
		return err
	}
	m, err := w.marks(ctx)
	if err != nil {
		return err
	}
	gaps, err := w.continuity().Session(ctx, s, files)
	if err != nil {
		return err
	}
	loc := w.cfg.Station.Timezone
	if a.output == "json" {
		j := toJSON(s, files, loc)
		m.addTo(&j)
		j.Schema, j.Continuity = "ingestd.session/1", &gaps
		if scrub != nil {
			j.Scrub = &scrubJSON{known(scrub.At, loc), scrub.Objects, scrub.Bytes, scrub.Findings}
		}
		for _, q := range corrupt {
			j.Quarantined = append(j.Quarantined, quarantinedJSON{q.Key, q.Version, q.Reason, known(q.At, loc)})
		}
		return printJSON(a.out, j)
	}
	for _, line := range [][2]string{
		{"session", s.ID}, {"state", stateWords(s)}, {"reason", orDash(tame(s.Reason))}, {"slot", s.Slot},
		{"recorder", fact(s.Identity.Serial)}, {"model", fact(s.Identity.Model)}, {"officer", fact(s.Identity.Officer)}, {"profile", orDash(s.Identity.Profile)},
		{"clock", s.Clock.Words()}, {"", clockDone(s.Condition)}, {"pre-use", preUseWords(s.Condition)},
		{"docked", when(s.DockedAt, loc)}, {"ended", when(s.EndedAt, loc)}, {"kept until", when(s.RetainUntil, loc)}, {"disposed of", disposedWords(s, loc)},
		{"tags", tame(strings.Join(m.tags[s.ID], ", "))}, {"ON HOLD", strings.Join(m.holds[s.ID], ", ")},
		{"verification", s.Verification}, {"read again", scrubWords(scrub, loc)}, {"manifest", orDash(s.Manifest.Key)}, {"gaps", tame(gaps.Words())},
	} {
		if line[1] != "" {
			fmt.Fprintf(a.out, "%-13s %s\n", line[0], line[1])
		}
	}
	for _, q := range corrupt {
		fmt.Fprintf(a.out, "%-13s %s: %s\n", "QUARANTINED", shown(q.Key), tame(q.Reason))
	}
	for _, sign := range gaps.Signs {
		fmt.Fprintf(a.out, "%-13s %s\n", "GAP", sign.Words(shown))
	}
	fmt.Fprintln(a.out)
	var rows [][]any
	for _, f := range files {
		bytes := "-"
		if f.Entry.Kind == device.KindFile {
			bytes = fmt.Sprint(f.Entry.Size)
		}
		rows = append(rows, []any{shown(f.Entry.Path), f.Entry.Kind, bytes, f.State, orDash(f.SHA256), orDash(tame(f.Reason + f.Entry.Note))})
	}
	a.printTable([]string{"PATH", "KIND", "BYTES", "STATE", "SHA-256", "NOTE"}, rows, 3)
	return nil
}

// marks are the tags of sessions and the holds on them, by session.
type marks struct{ tags, holds map[string][]string }

func (w *workplace) marks(ctx context.Context) (marks, error) {
	m := marks{map[string][]string{}, map[string][]string{}}
	tags, err := w.journal.Tags(ctx, "")
	if err != nil {
		return m, err
	}
	for _, t := range tags {
		m.tags[t.Session] = append(m.tags[t.Session], t.Tag)
	}
	holds, err := w.journal.Holds(ctx)
	for _, h := range holds {
		if h.State == journal.HoldReleased {
			continue
		}
		for _, of := range h.Of {
			if on := m.holds[of.Session]; !slices.Contains(on, h.ID) {
				m.holds[of.Session] = append(on, h.ID)
			}
		}
	}
	return m, err
}

func (m marks) addTo(j *sessionJSON) {
	j.Tags, j.Holds = append(j.Tags, m.tags[j.ID]...), append(j.Holds, m.holds[j.ID]...)
}

func (m marks) words(session string) string {
	parts := m.tags[session]
	for _, hold := range m.holds[session] {
		parts = append(parts, "保全 "+hold)
	}
	return tame(strings.Join(parts, ", "))
}

// stateWords is the state of a session, and whether its footage is gone.
func stateWords(s journal.Session) string {
	if s.DisposedAt.IsZero() {
		return string(s.State)
	}
	return string(s.State) + ", disposed 已销毁"
}

func disposedWords(s journal.Session, loc *time.Location) string {
	if s.DisposedAt.IsZero() {
		return ""
	}
	return when(s.DisposedAt, loc) + " 到期销毁: its footage was given up for deletion, its documents stay"
}

// scrubWords tells when a session was last read again, and with what result.
func scrubWords(s *journal.Scrub, loc *time.Location) string {
	if s == nil {
		return "never since it was stored"
	}
	return fmt.Sprintf("%s: %d objects, %s, %d findings", when(s.At, loc), s.Objects, size(s.Bytes), s.Findings)
}

// clockDone tells what else is known of the clock, and what was done to it.
func clockDone(c journal.Condition) string {
	var parts []string
	if c.Verdict != "" {
		parts = append(parts, "judged "+string(c.Verdict))
	}
	if c.Bound != nil {
		parts = append(parts, c.Bound.Words())
	}
	if c.Drift != nil {
		parts = append(parts, fmt.Sprintf("走时误差 drift %+.1f ± %.1f ppm since %s", c.Drift.PPM, c.Drift.Uncertainty, c.Drift.Since))
	}
	if c.Set != nil {
		parts = append(parts, "已校时 set, then "+c.Set.After.Words())
	} else if c.NotSet != "" {
		parts = append(parts, "未校时 not set: "+c.NotSet)
	}
	return tame(strings.Join(parts, "; "))
}

func preUseWords(c journal.Condition) string {
	if c.PreUse == nil {
		return ""
	}
	return tame(strings.Join(append([]string{c.PreUse.Result.Words()}, c.PreUse.Reasons...), "; "))
}
