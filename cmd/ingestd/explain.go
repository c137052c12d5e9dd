package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/policy"
)

// explanation is until when a session is kept, and why: the lock that it has, and
// what the settings that are in force now say of it. The two may differ; the lock is
// what counts.
type explanation struct {
	Schema   string `json:"schema"`
	Session  string `json:"session"`
	State    string `json:"state"`
	Timezone string `json:"timezone"`
	Lock     struct {
		Journal  *time.Time `json:"journal_until"`  // null: not sealed yet
		Manifest *time.Time `json:"manifest_until"` // null: there is none, or see Error
		// Rule is that of the manifest; absent: it was sealed without a retention file.
		Rule  *manifest.Retention `json:"manifest_rule,omitempty"`
		Error string              `json:"manifest_error,omitempty"` // why it could not be read
	} `json:"lock"`
	DisposedAt *time.Time `json:"disposed_at"` // null: its footage was not disposed of
	Permanent  bool       `json:"permanent"`   // by the journal: in no plan of disposal, ever
	Tags       []string   `json:"tags"`
	// Holds keep it whatever else is said here, each until it is released.
	Holds  []holdJSON  `json:"holds"`
	Policy *policyJSON `json:"policy"` // in force now; null: none
	Months struct {
		Months int        `json:"months"`
		Until  *time.Time `json:"until"` // null: the session is not sealed yet
	} `json:"retention_months"`
	Decision *decisionJSON `json:"decision"` // of the policy now; null: there is none
	// Undecided says why the policy has no decision.
	Undecided string              `json:"undecided,omitempty"`
	Explain   map[string][]string `json:"explain"` // the decision in lines, by language
}

type decisionJSON struct {
	Until     time.Time  `json:"until"`
	Permanent bool       `json:"permanent"`
	Months    int        `json:"months"`
	Start     time.Time  `json:"start"`
	StartIs   string     `json:"start_is"`
	Winner    string     `json:"winner"`
	Rules     []ruleJSON `json:"rules"`
}

type ruleJSON struct {
	Name      string `json:"name"`
	Months    int    `json:"months"`
	Permanent bool   `json:"permanent"`
	Why       string `json:"why"`
	Line      int    `json:"line"`
}

func (a *app) retentionExplain(ctx context.Context, id string) (err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	s, err := w.journal.Session(ctx, id)
	if err != nil {
		return err
	}
	loc := w.cfg.Station.Timezone
	e := explanation{Schema: "ingestd.retention-explanation/1", Session: s.ID, State: string(s.State), Timezone: loc.String(),
		Policy: policyOf(w.cfg), Explain: map[string][]string{}}
	e.Lock.Journal, e.DisposedAt = known(s.RetainUntil, loc), known(s.DisposedAt, loc)
	e.Months.Months = w.cfg.Retention.Months
	if !s.EndedAt.IsZero() {
		e.Months.Until = known(storage.RetainUntil(s.EndedAt, w.cfg.Retention.Months, loc), loc)
	}
	if err := w.explainMarks(ctx, s, &e); err != nil {
		return err
	}
	undecided := w.explainDecision(ctx, s, &e)
	if undecided != nil && !errors.Is(undecided, policy.ErrFacts) {
		return undecided
	}
	// The journal answers without the store; what the store has is told as well.
	unread := w.explainManifest(ctx, a.err, s, &e)
	if a.output == "json" {
		err = printJSON(a.out, e)
	} else {
		a.printExplanation(e, loc)
	}
	switch {
	case err != nil:
		return err
	case unread != nil:
		return unread
	case undecided != nil:
		return exitError{exitFindings, undecided}
	}
	return nil
}

// explainMarks adds what people have said of the session.
func (w *workplace) explainMarks(ctx context.Context, s journal.Session, e *explanation) error {
	e.Permanent, e.Tags, e.Holds = s.Permanent, []string{}, []holdJSON{}
	tags, err := w.journal.Tags(ctx, s.ID)
	if err != nil {
		return err
	}
	for _, t := range tags {
		e.Tags = append(e.Tags, t.Tag)
	}
	holds, err := w.journal.HoldsOn(ctx, s.ID)
	for _, h := range holds {
		e.Holds = append(e.Holds, holdToJSON(h, w.cfg.Station.Timezone))
	}
	return err
}

// explainDecision adds what the policy in force says now.
func (w *workplace) explainDecision(ctx context.Context, s journal.Session, e *explanation) error {
	rules := w.cfg.Retention.Rules()
	if rules == nil {
		return nil
	}
	if s.EndedAt.IsZero() {
		e.Undecided = "it is decided when the session is sealed 封存时决定"
		return nil
	}
	factsOf, err := w.desk(nil).FactsReader(ctx)
	if err != nil {
		return err
	}
	facts, err := factsOf(s)
	if err != nil {
		return err
	}
	d, err := rules.Decide(facts, w.cfg.Station.Timezone)
	if err != nil {
		e.Undecided = err.Error()
		return err
	}
	e.Decision = &decisionJSON{Until: d.Until, Permanent: d.Permanent, Months: d.Months, Start: d.Start, StartIs: d.StartIs, Winner: d.Winner}
	for _, r := range d.Rules {
		e.Decision.Rules = append(e.Decision.Rules, ruleJSON{r.Name, r.Months, r.Permanent, r.Why, r.Line})
	}
	for _, language := range []policy.Language{policy.Chinese, policy.English} {
		e.Explain[string(language)] = d.Explain(language)
	}
	return nil
}

// explainManifest adds what the manifest in the store says.
func (w *workplace) explainManifest(ctx context.Context, log io.Writer, s journal.Session, e *explanation) error {
	if s.Manifest.Key == "" {
		return nil
	}
	m, err := w.readManifest(ctx, log, s.Manifest)
	if err != nil {
		err = fmt.Errorf("the manifest of session %s can't be read: %w; see `ingestd verify %s`", s.ID, err, s.ID)
		e.Lock.Error = err.Error()
		return err
	}
	e.Lock.Manifest, e.Lock.Rule = known(m.Session.RetainUntil, w.cfg.Station.Timezone), m.Session.Retention
	return nil
}

// readManifest fetches a manifest and checks that it is the one that was stored.
func (w *workplace) readManifest(ctx context.Context, log io.Writer, ref journal.ManifestRef) (_ *manifest.Manifest, err error) {
	if err := w.openVault(ctx, log); err != nil {
		return nil, err
	}
	body, err := w.vault.Fetch(ctx, ref.Key, ref.VersionID)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref.Key, err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != ref.SHA256 {
		return nil, fmt.Errorf("%s has SHA-256 %x, %s was stored: %w", ref.Key, sum, ref.SHA256, storage.ErrCorrupt)
	}
	return manifest.Decode(data)
}

func (a *app) printExplanation(e explanation, loc *time.Location) {
	p := func(label, format string, args ...any) {
		fmt.Fprintf(a.out, "%s  %s\n", label, tame(fmt.Sprintf(format, args...)))
	}
	p("session  采集批次  ", "%s, %s", e.Session, e.State)
	if e.DisposedAt != nil {
		p("disposed 到期销毁  ", "%s (%s): its footage was given up for deletion; what follows is what kept it until then 以下为此前的保存依据", whenKnown(e.DisposedAt, loc), loc)
	}
	p("locked   锁定至    ", "%s (%s) by the journal 日志", whenKnown(e.Lock.Journal, loc), loc)
	if e.Permanent {
		p("permanent永久保存  ", "it is in no plan of disposal, not even when the lock ends 不列入到期销毁")
	}
	for _, h := range e.Holds {
		p("on hold  保全      ", "%s, case 案号 %s: kept until it is released 解除前一直保存", h.ID, h.Case)
	}
	if len(e.Tags) > 0 {
		p("tags     标记      ", "%s", strings.Join(e.Tags, ", "))
	}
	switch rule := e.Lock.Rule; {
	case e.Lock.Error != "":
		p("manifest 清单      ", "%s", e.Lock.Error)
	case e.Lock.Manifest == nil:
		p("manifest 清单      ", "not sealed yet 尚未封存")
	case rule == nil:
		p("manifest 清单      ", "%s (%s), sealed without a retention file", whenKnown(e.Lock.Manifest, loc), loc)
	default:
		p("manifest 清单      ", "%s (%s), rule 规则 %s: %s, %s", whenKnown(e.Lock.Manifest, loc), loc, rule.Name, monthsWords(rule), rule.Why)
	}
	p("months   期限      ", "%d (%s now 现行设置), until 至 %s", e.Months.Months, ingest.MonthsRule, whenKnown(e.Months.Until, loc))
	if e.Policy == nil {
		p("policy   保存规则  ", "none now 现无保存规则")
		return
	}
	p("policy   保存规则  ", "%s now 现行, rules SHA-256 %s", e.Policy.File, e.Policy.Digest)
	if e.Undecided != "" {
		p("decision 决定      ", "none 无: %s", e.Undecided)
		return
	}
	for _, language := range []policy.Language{policy.Chinese, policy.English} {
		fmt.Fprintln(a.out)
		for _, line := range e.Explain[string(language)] {
			fmt.Fprintln(a.out, tame(line))
		}
	}
	if e.Lock.Journal == nil || e.DisposedAt != nil {
		return
	}
	until := e.Decision.Until
	if e.Months.Until.After(until) {
		until = *e.Months.Until
	}
	switch lock := *e.Lock.Journal; {
	case until.After(lock):
		fmt.Fprintln(a.out, "\n现行规则要求的期限长于锁定期限；采集服务将自动延长锁定，也可执行 ingestd retention extend\nwhat is in force now asks for more than the lock: the daemon extends it at its next look, or ingestd retention extend now")
	case until.Before(lock):
		fmt.Fprintln(a.out, "\n锁定期限长于现行规则要求的期限；锁定不能缩短\nthe lock is longer than what is in force now asks for; it can't be shortened")
	}
}

func monthsWords(r *manifest.Retention) string {
	if r.Permanent {
		return "permanent 永久保存"
	}
	return fmt.Sprintf("%d months 个月", r.Months)
}
