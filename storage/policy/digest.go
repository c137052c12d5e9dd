package policy

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// CanonicalSchema is the version of the form that Canonical gives.
const CanonicalSchema = "ingestd.retention-policy/1"

// canonicalRule stands in the order of its keys, so that they come out sorted.
// What is not set is left out.
type canonicalRule struct {
	From      string              `json:"from,omitempty"`
	Match     map[string][]string `json:"match,omitempty"` // encoding/json sorts the keys
	Months    int                 `json:"months"`
	Name      string              `json:"name"`
	Permanent bool                `json:"permanent,omitempty"`
	Until     string              `json:"until,omitempty"`
	Why       string              `json:"why"`
}

// Canonical is what the policy says, in one form: JSON, keys sorted, rules by name,
// values of a list sorted and once, a newline at the end. Two files that decide
// and explain the same have the same form, whatever their order, comments and
// name are. It is small enough to be kept whole beside a digest of it.
func (p *Policy) Canonical() []byte {
	form := struct {
		Default canonicalRule   `json:"default"`
		Rules   []canonicalRule `json:"rules"`
		Schema  string          `json:"schema"`
	}{p.standard.canonical(), []canonicalRule{}, CanonicalSchema}
	for _, r := range p.byName() {
		form.Rules = append(form.Rules, r.canonical())
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(form); err != nil {
		panic(fmt.Sprintf("encode retention policy: %v", err)) // texts and numbers always can be
	}
	return out.Bytes()
}

// Digest is the SHA-256 of Canonical, in hexadecimal as sha256sum prints it.
func (p *Policy) Digest() string {
	sum := sha256.Sum256(p.Canonical())
	return hex.EncodeToString(sum[:])
}

// Describe is the policy in short, for a person: one line for the file and the
// default, one for each rule by its name.
func (p *Policy) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s 保存期限, %s; rules 规则: %d\n", p.file, p.standard.period, p.standard.why, len(p.rules))
	for _, r := range p.byName() {
		fmt.Fprintf(&b, "  %s: %s, %s; %s\n", r.name, r.period, r.why, r.condition())
	}
	return b.String()
}

func (p *Policy) byName() []rule {
	return slices.SortedFunc(slices.Values(p.rules), func(a, b rule) int { return cmp.Compare(a.name, b.name) })
}

func (r rule) canonical() canonicalRule {
	c := canonicalRule{Match: r.match, Months: r.period.months, Permanent: r.period.permanent, Name: r.name, Why: r.why}
	if !r.from.IsZero() {
		c.From = r.from.Format(time.DateOnly)
	}
	if !r.until.IsZero() {
		c.Until = r.until.Format(time.DateOnly)
	}
	return c
}

// condition says which footage the rule is for.
func (r rule) condition() string {
	var parts []string
	for _, key := range matchKeys {
		if values := r.match[key]; len(values) > 0 {
			parts = append(parts, key+" "+strings.Join(values, " or "))
		}
	}
	if !r.from.IsZero() {
		parts = append(parts, "docked from "+r.from.Format(time.DateOnly))
	}
	if !r.until.IsZero() {
		parts = append(parts, "docked until "+r.until.Format(time.DateOnly))
	}
	return strings.Join(parts, ", ")
}

// String is the period for people, with the term of the regulation.
func (p period) String() string {
	if p.permanent {
		return "permanent 永久保存"
	}
	return fmt.Sprintf("%d months", p.months)
}
