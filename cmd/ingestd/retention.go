package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/policy"
)

func (a *app) retentionCmd() *cobra.Command {
	return group("retention", "How long footage is kept, and why",
		&cobra.Command{
			Use: "show", Short: "Show the policy, and until when footage stored now would be kept", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.retentionShow() },
		},
		&cobra.Command{
			Use: "check FILE", Short: "Check a retention file, and show how the sessions would be kept by it",
			Long: `check reads a retention file and tells all its faults with their lines. Of a valid
one it shows how the sessions in the journal would be kept by it: what it keeps
longer than it is locked for, and what stays, because a lock can't be shortened.
Nothing is changed.

Exit codes: 0 valid · 5 no such file · 6 not valid.`,
			Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.retentionCheck(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "explain SESSION", Short: "Explain until when a session is kept, and why", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.retentionExplain(cmd.Context(), args[0]) },
		}, a.retentionExtendCmd(), a.retentionPreviewCmd(), a.retentionPlanCmd(), a.retentionApplyCmd())
}

// policyJSON is a retention file that is in force.
type policyJSON struct {
	File   string          `json:"file"`
	Digest string          `json:"rules_sha256"`
	Rules  json.RawMessage `json:"rules"` // policy.Policy.Canonical
}

// policyOf gives the retention file of the settings, or nil.
func policyOf(cfg *configs.Config) *policyJSON {
	rules := cfg.Retention.Rules()
	if rules == nil {
		return nil
	}
	return &policyJSON{cfg.Retention.Policy, rules.Digest(), rules.Canonical()}
}

func (a *app) retentionShow() error {
	cfg, err := configs.Load(a.configFile)
	if err != nil {
		return err
	}
	now, loc, rules := time.Now(), cfg.Station.Timezone, cfg.Retention.Rules()
	until := storage.RetainUntil(now, cfg.Retention.Months, loc)
	if rules != nil {
		if until, _, err = ingest.KeepUntil(rules, cfg.Retention.Months, policy.Facts{Docked: now, Stored: now}, loc); err != nil {
			return err
		}
	}
	if a.output == "json" {
		return printJSON(a.out, map[string]any{
			"schema": "ingestd.retention/1", "months": cfg.Retention.Months, "floor_months": storage.FloorMonths,
			"timezone": loc.String(), "stored_now_kept_until": until, "policy": policyOf(cfg),
		})
	}
	if rules == nil {
		fmt.Fprintln(a.out, "rules 保存规则           none (retention.policy)")
	} else {
		fmt.Fprintf(a.out, "rules 保存规则           %srules SHA-256            %s\n", tame(rules.Describe()), rules.Digest())
	}
	fmt.Fprintf(a.out, "months 保存期限          %d months (retention.months)\nfloor 法定最短期限       %d calendar months (第十一条), can't be lowered\nstored now, kept until   %s (%s)",
		cfg.Retention.Months, storage.FloorMonths, when(until, loc), loc)
	if rules != nil {
		fmt.Fprint(a.out, ", where no rule asks for more")
	}
	fmt.Fprintln(a.out)
	return nil
}

// retentionFaults is what is wrong with a retention file, for machines.
type retentionFaults struct {
	Schema   string           `json:"schema"`
	File     string           `json:"file"`
	Valid    bool             `json:"valid"`
	Problems []retentionFault `json:"problems"`
}

type retentionFault struct {
	Key  string `json:"key"`
	Line int    `json:"line"` // 0: none can be named
	Text string `json:"text"`
}

// keptJSON is how a session would be kept by a retention file.
type keptJSON struct {
	Session string `json:"session"`
	// Effect is longer, stays, same or undecided.
	Effect string     `json:"effect"`
	Locked *time.Time `json:"locked_until"` // by the journal
	Until  *time.Time `json:"kept_until"`   // by the file or retention.months, whichever is longer; null: undecided
	Rule   string     `json:"rule"`
	Reason string     `json:"reason"`
}

func (a *app) retentionCheck(ctx context.Context, file string) (err error) {
	rules, err := a.readRetention(file)
	if err != nil {
		return err
	}
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	effects, open, err := w.desk(nil).Effects(ctx, rules)
	if err != nil {
		return err
	}
	loc := w.cfg.Station.Timezone
	items, counts := []keptJSON{}, map[string]int{}
	for _, e := range effects {
		counts[e.Effect]++
		items = append(items, keptJSON{e.Session, e.Effect, known(e.Locked, loc), known(e.Until, loc), e.Rule, e.Why})
	}
	if a.output == "json" {
		return printJSON(a.out, struct {
			retentionFaults
			Digest   string     `json:"rules_sha256"`
			Open     int        `json:"sessions_open"`
			Sessions []keptJSON `json:"sessions"`
		}{retentionFaults{"ingestd.retention-check/1", file, true, []retentionFault{}}, rules.Digest(), open, items})
	}
	fmt.Fprintf(a.out, "valid 有效  %srules SHA-256  %s\n\n", tame(rules.Describe()), rules.Digest())
	var rows [][]any
	for _, k := range items {
		if k.Effect != custody.EffectSame {
			rows = append(rows, []any{k.Session, k.Effect, whenKnown(k.Locked, loc), whenKnown(k.Until, loc), orDash(k.Rule), orDash(tame(k.Reason))})
		}
	}
	if len(rows) > 0 {
		a.printTable([]string{"SESSION", "EFFECT", "LOCKED UNTIL", "KEPT UNTIL BY IT", "RULE", "WHY"}, rows)
	}
	fmt.Fprintf(a.out, `sessions: %d; %d longer, %d stays, %d same, %d undecided; besides %d not ended, decided when they are sealed
longer 延长  the file asks for more than they are locked for; once it is in force (retention.policy), the daemon extends their locks
stays 不变   it asks for less; a lock can't be shortened
`, len(items), counts[string(policy.Longer)], counts[string(policy.Stays)], counts[custody.EffectSame], counts[custody.EffectUndecided], open)
	return nil
}

// maxRetentionFile is more than policy.Parse takes.
const maxRetentionFile = 2 << 20

// readRetention reads a retention file; its faults are printed, or are the error.
func (a *app) readRetention(file string) (_ *policy.Policy, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRetentionFile))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read the retention file: %w", err)
	}
	rules, err := policy.Parse(file, data)
	if faults, ok := errors.AsType[*policy.Error](err); ok && a.output == "json" {
		j := retentionFaults{Schema: "ingestd.retention-check/1", File: file}
		for _, p := range faults.Problems {
			j.Problems = append(j.Problems, retentionFault{p.Key, p.Line, p.Text})
		}
		err = errors.Join(err, printJSON(a.out, j))
	}
	if err != nil {
		return nil, exitError{exitConfig, err}
	}
	return rules, nil
}
