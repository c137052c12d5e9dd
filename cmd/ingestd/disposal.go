package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

func (a *app) retentionPlanCmd() *cobra.Command {
	var asOf, show string
	cmd := &cobra.Command{
		Use: "plan", Short: "List what may be disposed of now and why, and what may not", Args: cobra.NoArgs,
		Long: `plan goes through all stored sessions and lists those whose time has come and which
nothing keeps (到期销毁): with who recorded them, why they were kept for how long, whether
anybody has ever viewed them, whether footage near them is on hold, and every object.
Nothing is deleted. The list is kept under the id that is printed, and its SHA-256 is in
the ledger; ingestd retention apply takes that id, for 7 days. -o json shows all of it.

With --as-of it shows what a later day would bring; such a list can't be applied.

Exit codes: 0 listed · 1 not all that is asked can be known · 4 the clocks of station and
store contradict each other · 5 no such plan.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if show != "" && asOf != "" {
				return usage(errors.New("--show is for a plan that was made; it has its day"))
			}
			if show != "" {
				return a.retentionShowPlan(cmd.Context(), show)
			}
			return a.retentionPlan(cmd.Context(), asOf)
		},
	}
	cmd.Flags().StringVar(&asOf, "as-of", "", "the plan of another `DATE`, such as 2026-12-31")
	cmd.Flags().StringVar(&show, "show", "", "show the plan with this `ID` again, as it was made")
	return cmd
}

func (a *app) retentionPlan(ctx context.Context, asOf string) error {
	return a.atDesk(ctx, "", true, func(ctx context.Context, _ *workplace, d *custody.Desk, _ error) error {
		var day time.Time
		if asOf != "" {
			var err error
			if day, err = time.ParseInLocation(time.DateOnly, asOf, d.Location); err != nil {
				return usage(fmt.Errorf("--as-of %s: it is a day such as 2026-12-31", asOf))
			}
		}
		p, err := d.Plan(ctx, day)
		if err != nil {
			return err
		}
		return a.tellPlan(p, d.Location)
	})
}

func (a *app) retentionShowPlan(ctx context.Context, id string) (err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	plan, err := w.journal.Plan(ctx, id)
	if err != nil {
		return err
	}
	if a.output == "json" {
		_, err := a.out.Write(plan.Body)
		return err
	}
	var p custody.Plan
	if err := json.Unmarshal(plan.Body, &p); err != nil {
		return fmt.Errorf("plan %s: %w", id, err)
	}
	if err := a.tellPlan(&p, w.cfg.Station.Timezone); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "state    状态      %s", plan.State)
	if plan.AskedBy != "" {
		fmt.Fprintf(a.out, ", asked for by %s at %s", plan.AskedBy, when(plan.AskedAt, w.cfg.Station.Timezone))
	}
	if plan.AppliedBy != "" {
		fmt.Fprintf(a.out, ", by %s at %s", plan.AppliedBy, when(plan.AppliedAt, w.cfg.Station.Timezone))
	}
	fmt.Fprintln(a.out)
	return nil
}

func (a *app) tellPlan(p *custody.Plan, loc *time.Location) error {
	if a.output == "json" {
		return printJSON(a.out, p)
	}
	var rows [][]any
	for _, s := range p.Disposable {
		rule := ingest.MonthsRule
		if s.Retention != nil {
			rule = s.Retention.Name + ": " + s.Retention.Why
		}
		rows = append(rows, []any{s.Session, orDash(s.Recorder), orDash(s.Officer), when(s.DockedAt, loc), when(s.KeptUntil, loc), s.DaysKept, tame(rule),
			len(s.Objects), size(s.Bytes), viewedWords(s.Viewed, loc), gapsWords(s.Gaps), orDash(strings.Join(s.NearHold, ", "))})
	}
	if len(rows) > 0 {
		a.printTable([]string{"SESSION", "RECORDER", "OFFICER", "DOCKED", "KEPT UNTIL", "DAYS", "RULE", "OBJECTS", "SIZE", "VIEWED", "GAPS", "NEAR HOLD"}, rows, 6, 8, 9)
		fmt.Fprintln(a.out)
	}
	counts := map[custody.ReasonKind]int{}
	for _, k := range p.Kept {
		first := k.Reasons[0]
		counts[first.Kind]++
		if first.Kind != custody.Locked {
			fmt.Fprintf(a.out, "kept     保留      %s  %s: %s\n", k.Session, first.Kind, tame(first.Words))
		}
	}
	t := p.Totals
	fmt.Fprintf(a.out, "may go   可销毁    %d sessions, %d objects, %s; never viewed %d, near a hold %d, %s\n",
		t.Sessions, t.Objects, size(t.Bytes), t.NeverViewed, t.NearHold, t.GapWords())
	fmt.Fprintf(a.out, "stays    保留      %d sessions", t.Kept)
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(a.out, ", %d %s", counts[kind], kind)
	}
	fmt.Fprintf(a.out, "; besides %d not ended, %d in another bucket, %d disposed of before\n", t.Open, t.Elsewhere, t.Disposed)
	if !p.Clock.Synchronised {
		fmt.Fprintf(a.out, "clock    时钟      %s; no plan is applied by such a clock\n", p.Clock.Why)
	}
	switch {
	case p.ID == "":
		fmt.Fprintln(a.out, "无可销毁内容 there is nothing to dispose of, and so no plan")
	case p.AsOf != nil:
		fmt.Fprintf(a.out, "preview  预览      %s, as of %s: it can't be applied 不可执行\n", p.ID, when(*p.AsOf, loc))
	default:
		fmt.Fprintf(a.out, "plan     计划      %s, good until %s: ingestd retention apply --plan %s\n", p.ID, when(p.GoodUntil, loc), p.ID)
	}
	return nil
}

func viewedWords(v custody.Viewed, loc *time.Location) string {
	if v.Count == 0 {
		return "never 从未"
	}
	return fmt.Sprintf("%d, last %s", v.Count, whenKnown(v.Last, loc))
}

func (a *app) retentionApplyCmd() *cobra.Command {
	var plan, reason, credentials string
	var yes bool
	cmd := &cobra.Command{
		Use: "apply --plan ID", Short: "Dispose of exactly what a plan has listed", Args: cobra.NoArgs,
		Long: `apply deletes the footage that a plan lists (到期销毁), and nothing else. First it asks
journal, ledger and store afresh about every session of it; where anything is not as the
plan says, where the rules have changed, a clock can't be trusted or the ledger is not
what was signed, the whole plan is refused. Manifests, signatures and the ledger stay.

Only custody.administrators may do so, where they are named. With custody.two_persons the
first one's order is noted, and the second one's does it. If it is cut off, the same order
goes on.

Exit codes: 0 done, or noted for the second person · 1 cut off: give the same order again ·
2 wrong command line, or not confirmed · 3 done, but the plan was too old to begin all of
it · 4 refused, which the ledger has · 5 no such plan.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if plan == "" {
				return usage(errors.New("--plan is needed: the id that ingestd retention plan has printed"))
			}
			if !yes && !term.IsTerminal(int(os.Stdin.Fd())) {
				return usage(errors.New("what is deleted can't be had back: confirm it on a terminal, or with --yes"))
			}
			return a.retentionApply(cmd.Context(), plan, reason, credentials, yes)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&plan, "plan", "", "`ID` of the plan")
	flags.StringVar(&reason, "reason", "", "`TEXT` for the ledger; no names of people")
	flags.StringVar(&credentials, "credentials", "", "`FILE` with the key of the store that may delete; empty: the station's")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) retentionApply(ctx context.Context, id, reason, credentials string, yes bool) error {
	err := a.atDesk(ctx, "", true, func(ctx context.Context, w *workplace, d *custody.Desk, _ error) (err error) {
		if !yes {
			if err := a.confirmPlan(ctx, w, id); err != nil {
				return err
			}
		}
		if credentials != "" {
			if d.Disposer, err = w.otherVault(ctx, credentials); err != nil {
				return err
			}
		}
		done, err := d.Apply(ctx, id, reason)
		return errors.Join(err, a.tellApplied(done, err))
	})
	if errors.Is(err, ledger.ErrBroken) { // found when it was opened, before any order
		return exitError{exitRefused, err}
	}
	return err
}

// otherVault is the vault by the key in a file, for what the station's may not do.
func (w *workplace) otherVault(ctx context.Context, credentials string) (*storage.Vault, error) {
	if w.cfg.Storage.Kind == configs.StorageEmbedded {
		return nil, usage(errors.New("--credentials: the embedded store has one key, which nobody needs to give"))
	}
	other := workplace{cfg: w.cfg, journal: w.journal, credentials: credentials}
	cfg, err := other.reachStore(ctx, nil)
	if err != nil {
		return nil, err
	}
	return storage.Look(cfg)
}

// confirmPlan has a person on a terminal type the id of the plan.
func (a *app) confirmPlan(ctx context.Context, w *workplace, id string) error {
	plan, err := w.journal.Plan(ctx, id)
	if err != nil {
		return err
	}
	var p custody.Plan
	if err := json.Unmarshal(plan.Body, &p); err != nil {
		return fmt.Errorf("plan %s: %w", id, err)
	}
	fmt.Fprintf(a.err, "到期销毁 %s: %d sessions, %d objects, %s are deleted for good.\n键入计划编号以确认 type the id of the plan to confirm: ", id, p.Totals.Sessions, p.Totals.Objects, size(p.Totals.Bytes))
	typed, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if strings.TrimSpace(typed) != id {
		return usage(errors.Join(errors.New("not confirmed, nothing was deleted"), err))
	}
	return nil
}

func (a *app) tellApplied(done custody.Applied, failed error) error {
	if a.output == "json" {
		words := ""
		if failed != nil {
			words = failed.Error()
		}
		if err := printJSON(a.out, struct {
			Schema string `json:"schema"`
			custody.Applied
			Error string `json:"error"`
		}{"ingestd.disposal/1", done, words}); err != nil {
			return err
		}
	} else {
		switch {
		case failed == nil && done.Asked:
			fmt.Fprintf(a.out, "%s 已登记，待第二人确认 noted, nothing is deleted yet: another administrator must give the same order\n", done.Plan)
		case failed == nil || done.Objects+done.Already > 0:
			fmt.Fprintf(a.out, "%s 已销毁 disposed of: %d sessions, %d objects now and %d before, %s; manifests and ledger stay\n", done.Plan, done.Sessions, done.Objects, done.Already, size(done.Bytes))
		}
		if done.Objects+done.Already > 0 || failed == nil && !done.Asked {
			for _, id := range done.Left {
				fmt.Fprintf(a.out, "not, or not all of it 未完成: session %s\n", id)
			}
		}
	}
	if failed == nil && !done.Asked && len(done.Left) > 0 {
		return exitError{exitFindings, fmt.Errorf("%d sessions of the plan were not begun, it is too old: make a new one", len(done.Left))}
	}
	return nil
}

func (a *app) retentionPreviewCmd() *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use: "preview", Short: "Tell what expires soon, whether or not the store is there", Args: cobra.NoArgs,
		Long: `preview lists the sessions whose time will come within some days and which nothing
keeps, as the journal knows them: time enough to view, tag or hold them. It asks no store
and changes nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 0 || days > 36500 {
				return usage(errors.New("--days is from 0 to 36500"))
			}
			return a.retentionPreview(cmd.Context(), days)
		},
	}
	cmd.Flags().IntVar(&days, "days", previewDays, "`NUMBER` of days to look ahead")
	return cmd
}

func (a *app) retentionPreview(ctx context.Context, days int) (err error) {
	l, err := a.openLedger(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	l.evidence.Ledger = l.Ledger
	p, err := l.desk(nil).Preview(ctx, days)
	if err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(a.out, p)
	}
	loc := l.cfg.Station.Timezone
	var rows [][]any
	for _, s := range p.Sessions {
		rows = append(rows, []any{s.Session, orDash(s.Recorder), orDash(s.Officer), when(s.DockedAt, loc), when(s.KeptUntil, loc), s.Recordings, size(s.Bytes),
			viewedWords(s.Viewed, loc), gapsWords(s.OpenGaps), orDash(strings.Join(s.NearHold, ", "))})
	}
	if len(rows) > 0 {
		a.printTable([]string{"SESSION", "RECORDER", "OFFICER", "DOCKED", "KEPT UNTIL", "RECORDINGS", "SIZE", "VIEWED", "GAPS", "NEAR HOLD"}, rows, 6, 7)
	}
	fmt.Fprintln(a.out, p.Words())
	return nil
}

// gapsWords tells how many signs of interruptions there are, if anybody could look.
func gapsWords(signs *int) string {
	if signs == nil {
		return "未检查"
	}
	return strconv.Itoa(*signs)
}
