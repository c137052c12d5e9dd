package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// holdFlags are the flags of the hold commands.
type holdFlags struct {
	caseNo, reason, officer, recorder, from, to, credentials string
}

func (a *app) holdCmd() *cobra.Command {
	var f holdFlags
	var all bool
	withKey := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().StringVar(&f.credentials, "credentials", "", "`FILE` with the key of the store that may set holds; empty: the station's")
		return cmd
	}
	add := withKey(&cobra.Command{
		Use: "add [SESSION | SESSION/PATH]… --case NUMBER --reason TEXT", Short: "Keep footage until its hold is released, whatever its lock says",
		Long: `add puts a hold on sessions, on recordings, or on all sessions that a query finds:
--officer, --recorder, and --from and --to for the day of docking. The query is
answered now; what is docked later is not in the hold. Identical files of other
sessions are held with it. What is on hold in the store nobody can delete, and no plan
of disposal names it. Several holds on the same footage all count.

If it is cut off, what it was to keep counts as held; ingestd hold retry finishes it.

Exit codes: 0 held, and confirmed by the store · 1 it counts, and is not set on
everything in the store · 2 wrong command line · 5 no such session, or none is found.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.holdAdd(cmd.Context(), args, f) },
	})
	flags := add.Flags()
	flags.StringVar(&f.caseNo, "case", "", "`NUMBER` of the case (案号)")
	flags.StringVar(&f.reason, "reason", "", "why, for the ledger; no names of people")
	flags.StringVar(&f.officer, "officer", "", "all sessions of the officer with this `ID`")
	flags.StringVar(&f.recorder, "recorder", "", "all sessions of the recorder with this `SERIAL` number")
	flags.StringVar(&f.from, "from", "", "first `DATE` of docking, such as 2026-11-24")
	flags.StringVar(&f.to, "to", "", "last `DATE` of docking")
	release := withKey(&cobra.Command{
		Use: "release ID --reason TEXT", Short: "Release a hold; what no other hold keeps is kept by its lock alone then",
		Long: `release ends a hold. Only custody.administrators may do so, where they are named. With
custody.two_persons the first one's order is noted, and the second one's does it.

Exit codes: 0 released, or noted for the second person · 1 not lifted from everything;
it counts until hold retry · 2 wrong command line · 4 not allowed, which the ledger
has · 5 no such hold.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.holdRelease(cmd.Context(), args[0], f) },
	})
	release.Flags().StringVar(&f.reason, "reason", "", "why, for the ledger; no names of people")
	list := &cobra.Command{
		Use: "list", Short: "List the holds that are not released, the latest first", Args: cobra.NoArgs, Annotations: isList,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.holdList(cmd.Context(), all) },
	}
	list.Flags().BoolVar(&all, "all", false, "the released ones too")
	return group("hold", "Holds (保全): footage that is kept whatever its lock says", add, list, release,
		&cobra.Command{
			Use: "show ID", Short: "Show one hold with all that it keeps", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.holdShow(cmd.Context(), args[0]) },
		},
		withKey(&cobra.Command{
			Use: "retry ID", Short: "Finish a hold, or a release, that was cut off", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.atDesk(cmd.Context(), f.credentials, true, func(ctx context.Context, _ *workplace, d *custody.Desk, _ error) error {
					h, err := d.Retry(ctx, args[0])
					if err != nil {
						return err
					}
					return a.tellHold(h, nil, d.Location)
				})
			},
		}))
}

func (a *app) holdAdd(ctx context.Context, args []string, f holdFlags) error {
	if f.caseNo == "" || f.reason == "" {
		return usage(errors.New("a hold needs --case NUMBER and --reason TEXT"))
	}
	return a.atDesk(ctx, f.credentials, true, func(ctx context.Context, w *workplace, d *custody.Desk, _ error) error {
		query, err := f.query(d.Location)
		if err != nil {
			return usage(err)
		}
		order := custody.HoldOrder{Case: f.caseNo, Reason: f.reason, AskedFor: query.Words()}
		if asked := order.AskedFor != ""; asked == (len(args) > 0) {
			return usage(errors.New("hold add needs sessions, or a query (--officer, --recorder, --from, --to), and not both; see ingestd sessions list"))
		}
		var left []string
		if order.AskedFor != "" {
			if order.Of, left, err = d.Find(ctx, query); err != nil {
				return err
			}
		}
		for _, arg := range args {
			session, path, hasPath := strings.Cut(arg, "/")
			if hasPath && path == "" {
				return usage(fmt.Errorf("%q names no recording: it is SESSION/PATH, as ingestd sessions show has it", arg))
			}
			order.Of = append(order.Of, journal.Held{Session: session, Path: path})
		}
		h, err := d.Hold(ctx, order)
		if err != nil {
			return err
		}
		return a.tellHold(h, left, d.Location)
	})
}

func (f holdFlags) query(loc *time.Location) (q custody.HoldQuery, err error) {
	q = custody.HoldQuery{Officer: f.officer, Recorder: f.recorder}
	for _, day := range []struct {
		flag, text string
		to         *time.Time
	}{{"--from", f.from, &q.From}, {"--to", f.to, &q.To}} {
		if day.text == "" {
			continue
		}
		if *day.to, err = time.ParseInLocation(time.DateOnly, day.text, loc); err != nil {
			return q, fmt.Errorf("%s %s: it is a day such as 2026-11-24", day.flag, day.text)
		}
	}
	if !q.From.IsZero() && !q.To.IsZero() && q.To.Before(q.From) {
		return q, fmt.Errorf("--to %s is before --from %s", f.to, f.from)
	}
	return q, nil
}

func (a *app) holdRelease(ctx context.Context, id string, f holdFlags) error {
	if strings.TrimSpace(f.reason) == "" {
		return usage(errors.New("a hold is released for a reason, which the ledger has: --reason TEXT"))
	}
	return a.atDesk(ctx, f.credentials, true, func(ctx context.Context, _ *workplace, d *custody.Desk, _ error) error {
		h, err := d.Release(ctx, id, f.reason)
		if err != nil {
			return err
		}
		return a.tellHold(h, nil, d.Location)
	})
}

// holdJSON is a hold for machines.
type holdJSON struct {
	Schema         string     `json:"schema,omitempty"`
	ID             string     `json:"id"`
	State          string     `json:"state"`
	Case           string     `json:"case"`
	Reason         string     `json:"reason"`
	Query          string     `json:"query"` // empty: sessions were named
	AddedAt        *time.Time `json:"added_at"`
	AddedBy        string     `json:"added_by"`
	ReleaseAskedAt *time.Time `json:"release_asked_at"`
	ReleaseAskedBy string     `json:"release_asked_by"`
	ReleasedAt     *time.Time `json:"released_at"`
	ReleasedBy     string     `json:"released_by"`
	ReleaseReason  string     `json:"release_reason"`
	Of             []heldJSON `json:"of"`
	// LeftOut says which sessions match and are not in it, and why.
	LeftOut []string `json:"left_out,omitempty"`
}

type heldJSON struct {
	Session string `json:"session"`
	Path    string `json:"path"` // empty: all of it
}

func holdToJSON(h journal.Hold, loc *time.Location) holdJSON {
	j := holdJSON{
		ID: h.ID, State: string(h.State), Case: h.Case, Reason: h.Reason, Query: h.AskedFor, AddedAt: known(h.AddedAt, loc), AddedBy: h.AddedBy,
		ReleaseAskedAt: known(h.ReleaseAskedAt, loc), ReleaseAskedBy: h.ReleaseAskedBy, ReleasedAt: known(h.ReleasedAt, loc), ReleasedBy: h.ReleasedBy,
		ReleaseReason: h.ReleaseReason, Of: []heldJSON{},
	}
	for _, of := range h.Of {
		j.Of = append(j.Of, heldJSON{of.Session, strings.ToValidUTF8(of.Path, "\uFFFD")})
	}
	return j
}

// holdWords are the states of a hold for people.
var holdWords = map[journal.HoldState]string{
	journal.HoldSetting:   "设置未完成，已按保全对待 not set on everything yet; it counts: ingestd hold retry",
	journal.HoldHeld:      "已保全 held, confirmed by the store",
	journal.HoldAsked:     "已保全，待第二人确认解除 held; a second person must confirm the release",
	journal.HoldReleasing: "解除未完成，仍按保全对待 not lifted from everything yet; it counts: ingestd hold retry",
	journal.HoldReleased:  "已解除 released",
}

// tellHold prints what has become of a hold.
func (a *app) tellHold(h journal.Hold, left []string, loc *time.Location) error {
	if a.output == "json" {
		j := holdToJSON(h, loc)
		j.Schema, j.LeftOut = "ingestd.hold/1", left
		return printJSON(a.out, j)
	}
	a.printHold(h, loc)
	for _, text := range left {
		fmt.Fprintf(a.out, "not in it 未包括  %s\n", tame(text))
	}
	if h.AskedFor != "" && h.State == journal.HoldHeld {
		fmt.Fprintln(a.out, "later sessions are not in it: hold them when they have come 之后采集的批次不在其中")
	}
	return nil
}

func (a *app) printHold(h journal.Hold, loc *time.Location) {
	p := func(label, text string) {
		if text != "" {
			fmt.Fprintf(a.out, "%s  %s\n", label, tame(text))
		}
	}
	p("hold 保全       ", h.ID)
	p("state 状态      ", holdWords[h.State])
	p("case 案号       ", h.Case)
	p("reason 事由     ", h.Reason)
	p("query 条件      ", h.AskedFor)
	p("added 设置      ", when(h.AddedAt, loc)+" by "+h.AddedBy)
	if h.ReleaseAskedBy != "" {
		p("asked 申请解除  ", when(h.ReleaseAskedAt, loc)+" by "+h.ReleaseAskedBy)
	}
	if h.ReleasedBy != "" {
		p("released 解除   ", when(h.ReleasedAt, loc)+" by "+h.ReleasedBy)
	}
	p("why 解除事由    ", h.ReleaseReason)
	for _, of := range h.Of {
		text := of.Session
		if of.Path != "" {
			text += "/" + shown(of.Path)
		}
		p("keeps 保全内容  ", text)
	}
}

func (a *app) holdShow(ctx context.Context, id string) (err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	h, err := w.journal.Hold(ctx, id)
	if err != nil {
		return err
	}
	return a.tellHold(h, nil, w.cfg.Station.Timezone)
}

func (a *app) holdList(ctx context.Context, all bool) (err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	holds, err := w.journal.Holds(ctx)
	if err != nil {
		return err
	}
	loc := w.cfg.Station.Timezone
	items, rows := []holdJSON{}, [][]any{}
	for _, h := range holds {
		if h.State == journal.HoldReleased && !all {
			continue
		}
		items = append(items, holdToJSON(h, loc))
		rows = append(rows, []any{h.ID, h.State, orDash(tame(h.Case)), when(h.AddedAt, loc), h.AddedBy, len(h.Of), orDash(tame(h.Reason))})
	}
	return printList(a, "ingestd.holds/1", items, "", []string{"HOLD", "STATE", "CASE", "ADDED", "BY", "KEEPS", "REASON"}, rows, 6)
}
