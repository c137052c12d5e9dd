package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/policy"
)

// Retention is the retention file of the station. Months and the six months of 第十一条
// hold whatever it says.
type Retention interface {
	// InForce gives the rules, nil where no file is named, and the file's path.
	InForce() (rules *policy.Policy, file string)
	// Save makes text the file and has it taken over, or leaves both as they were.
	Save(ctx context.Context, text []byte) error
}

// retentionPages show the rules by which footage is kept, and change them.
func (c *Console) retentionPages() []Page {
	return []Page{
		{Route: "GET /admin/retention", Name: "retention", Roles: []accounts.Role{accounts.Auditor, accounts.Admin}, Menu: 2, Serve: c.retentionShow},
		{Route: "POST /admin/retention/preview", Name: "retention-preview", Roles: []accounts.Role{accounts.Admin}, Serve: c.retentionPreview},
		{Route: "POST /admin/retention", Name: "retention-save", Roles: []accounts.Role{accounts.Admin}, PasswordAgain: true, Serve: c.retentionSave},
	}
}

// ruleForm is one rule as it is typed. Lists have commas between their values.
type ruleForm struct {
	Name, Tags, Units, Recorders, Officers, Months, From, Until, Why string
}

// retentionScreen is the form and what is said of it.
type retentionScreen struct {
	Floor, Months int
	File          string
	Digest        string // of the rules that the form began with
	Default       ruleForm
	Rules         []ruleForm // the last one is empty, for a new one
	Wrong         []string
	Counts        map[string]int // how many sessions are affected how; nil: not asked
	Changed       []custody.Effect
	Open          int
	MayEdit       bool
	ByHand        bool // a rule says what the form can't
}

// effectsShown is how many sessions a preview names.
const effectsShown = 50

func (c *Console) retentionShow(v *Visit) error {
	s, err := c.retentionScreen(v)
	if err != nil {
		return err
	}
	return v.Show("retention.html", s)
}

// retentionScreen is the form with the rules that are in force.
func (c *Console) retentionScreen(v *Visit) (s retentionScreen, err error) {
	d, err := v.desk()
	if err != nil {
		return s, err
	}
	s = retentionScreen{Floor: storage.FloorMonths, Months: d.Months, Default: ruleForm{Months: strconv.Itoa(d.Months)}}
	if c.Retention == nil {
		return s, nil
	}
	rules, file := c.Retention.InForce()
	s.File = file
	if rules == nil {
		return s, nil
	}
	s.MayEdit, s.Digest = v.Admin(), rules.Digest()
	var form struct {
		Default canonicalRule   `json:"default"`
		Rules   []canonicalRule `json:"rules"`
	}
	if err := json.Unmarshal(rules.Canonical(), &form); err != nil {
		return s, fmt.Errorf("the rules in force: %w", err)
	}
	s.Default = form.Default.form(v)
	for _, r := range form.Rules {
		s.Rules = append(s.Rules, r.form(v))
		for _, values := range r.Match {
			for _, value := range values {
				// The form could not tell such a value from two, and would lose it.
				s.ByHand = s.ByHand || !slices.Equal(listed(value), []string{value})
			}
		}
	}
	s.MayEdit = s.MayEdit && !s.ByHand
	s.Rules = append(s.Rules, ruleForm{})
	return s, nil
}

// canonicalRule is a rule in policy.Policy.Canonical.
type canonicalRule struct {
	Name, Why, From, Until string
	Match                  map[string][]string
	Months                 int
	Permanent              bool
}

func (r canonicalRule) form(v *Visit) ruleForm {
	list := func(key string) string { return strings.Join(r.Match[key], v.T("retention.comma")) }
	f := ruleForm{Name: r.Name, Tags: list("tag"), Units: list("unit"), Recorders: list("recorder"), Officers: list("officer"), Months: strconv.Itoa(r.Months), From: r.From, Until: r.Until, Why: r.Why}
	if r.Permanent {
		f.Months = v.T("retention.permanent")
	}
	return f
}

// typed is the form as it was sent.
func (v *Visit) typed(s retentionScreen) retentionScreen {
	form := v.r.PostForm
	field := func(name string, n int) string {
		if values := form[name]; n < len(values) {
			return strings.TrimSpace(v.Shown(values[n]))
		}
		return ""
	}
	s.Digest = field("digest", 0)
	s.Default = ruleForm{Months: field("default_months", 0), Why: field("default_why", 0)}
	s.Rules = nil
	for n := range form["name"] {
		r := ruleForm{
			Name: field("name", n), Tags: field("tags", n), Units: field("units", n), Recorders: field("recorders", n), Officers: field("officers", n),
			Months: field("months", n), From: field("from", n), Until: field("until", n), Why: field("why", n),
		}
		if r != (ruleForm{}) {
			s.Rules = append(s.Rules, r)
		}
	}
	return s
}

// file is the retention file that the form asks for. What can be no number is left as it
// was typed: package policy says what is wrong with it.
func (s retentionScreen) file(v *Visit) ([]byte, error) {
	period := func(text string) any {
		if months, err := strconv.Atoi(text); err == nil {
			return months
		}
		if text == v.T("retention.permanent") || strings.EqualFold(text, "permanent") || text == "永久" {
			return "permanent"
		}
		return text
	}
	rules := []any{}
	for _, r := range s.Rules {
		match := map[string][]string{}
		for key, text := range map[string]string{"tag": r.Tags, "unit": r.Units, "recorder": r.Recorders, "officer": r.Officers} {
			if values := listed(text); len(values) > 0 {
				match[key] = values
			}
		}
		rule := map[string]any{"name": r.Name, "match": match, "months": period(r.Months), "why": r.Why}
		for key, day := range map[string]string{"from": r.From, "until": r.Until} {
			if day != "" {
				rule[key] = dayNode(day)
			}
		}
		rules = append(rules, rule)
	}
	text, err := yaml.Marshal(map[string]any{"version": 1, "default": map[string]any{"months": period(s.Default.Months), "why": s.Default.Why}, "rules": rules})
	if err != nil {
		return nil, err
	}
	return append([]byte("# ingestd: how long footage is kept. Written by the console; the format is in\n# configs/retention.yaml. What can be said here only makes it longer (第十一条).\n"), text...), nil
}

// dayNode writes a day without quotes, as people do.
func dayNode(day string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: day}
}

// listed are the values between commas, Chinese ones too.
func listed(text string) (values []string) {
	for _, value := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '，' || r == '、' }) {
		if value = strings.TrimSpace(value); value != "" {
			values = append(values, value)
		}
	}
	return values
}

// checkRetention reads the form. What is wrong with it is in s.Wrong, and then there are no rules.
func (c *Console) checkRetention(v *Visit) (s retentionScreen, text []byte, rules *policy.Policy, err error) {
	if err := v.r.ParseForm(); err != nil {
		return s, nil, nil, err
	}
	if s, err = c.retentionScreen(v); err != nil {
		return s, nil, nil, err
	}
	if !s.MayEdit {
		return s, nil, nil, Problem{Status: http.StatusConflict, Code: "no_retention_file"}
	}
	inForce := s.Digest
	s = v.typed(s)
	if s.Digest != inForce {
		s.Wrong = append(s.Wrong, v.T("retention.stale"))
	}
	if text, err = s.file(v); err != nil {
		return s, nil, nil, err
	}
	rules, err = policy.Parse(s.File, text)
	var faults *policy.Error
	switch {
	case errors.As(err, &faults):
		for _, p := range faults.Problems {
			s.Wrong = append(s.Wrong, p.Key+": "+p.Text)
		}
	case err != nil:
		return s, nil, nil, err
	}
	for _, r := range append(s.Rules, s.Default) {
		if months, err := strconv.Atoi(r.Months); err == nil && months < s.Floor {
			s.Wrong = slices.Insert(s.Wrong, 0, v.T("retention.below_floor", "Asked", months, "Floor", s.Floor))
			break
		}
	}
	s.Rules = append(s.Rules, ruleForm{})
	return s, text, rules, nil
}

// retentionPreview tells what the form would do, and does nothing.
func (c *Console) retentionPreview(v *Visit) error {
	s, _, rules, err := c.checkRetention(v)
	if err != nil {
		return err
	}
	if len(s.Wrong) > 0 {
		return c.retentionRefuse(v, s)
	}
	d, err := v.desk()
	if err != nil {
		return err
	}
	all, open, err := d.Effects(v.Context(), rules)
	if err != nil {
		return err
	}
	s.Open, s.Counts = open, map[string]int{}
	for _, e := range all {
		s.Counts[e.Effect]++
		if e.Effect != custody.EffectSame && len(s.Changed) < effectsShown {
			s.Changed = append(s.Changed, e)
		}
	}
	return v.Show("retention.html", s)
}

// retentionRefuse tells what is wrong and what stays in force, and the ledger that
// somebody has tried.
func (c *Console) retentionRefuse(v *Visit, s retentionScreen) error {
	e := ledger.Entry{Event: "retention.edit_refused", Actor: v.Account.Actor(), Reason: strings.Join(s.Wrong, "; ")}
	if err := c.Station.RecordRefusal(v.Context(), e); err != nil {
		return c.unwritten(err)
	}
	return v.ShowAs(http.StatusUnprocessableEntity, "retention.html", s)
}

func (c *Console) retentionSave(v *Visit) error {
	s, text, rules, err := c.checkRetention(v)
	if err != nil {
		return err
	}
	if len(s.Wrong) > 0 {
		return c.retentionRefuse(v, s)
	}
	if err := v.Record(ledger.Entry{Event: "retention.edited", Detail: map[string]string{"file": strings.ToValidUTF8(s.File, "\uFFFD"), "from_sha256": s.Digest, "rules_sha256": rules.Digest()}}); err != nil {
		return err
	}
	if err := c.Retention.Save(v.Context(), text); err != nil {
		s.Wrong = append(s.Wrong, v.T("retention.not_written", "Why", ingest.ReasonOf(err)))
		return v.ShowAs(http.StatusConflict, "retention.html", s)
	}
	return v.goTo("/admin/retention", "retention_saved")
}
