package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/bodyworn/ingestd/storage"
)

// Version is the format of the file that Parse knows.
const Version = "1"

// Bounds of a file. They are far above what a bureau needs, and low enough that a
// wrong file is an error and not a load.
const (
	maxFileSize = 1 << 20
	maxRules    = 1000
	maxValues   = 1000 // of one list in match
	maxText     = 200  // characters of a reason, or of a value in match
)

// knownKeys are all keys that a file can hold, for near names.
var knownKeys = []string{
	"version", "default", "default.months", "default.why", "rules", "rules.name", "rules.match",
	"rules.match.tag", "rules.match.recorder", "rules.match.officer", "rules.match.unit",
	"rules.months", "rules.from", "rules.until", "rules.why",
}

// Parse reads a retention file; configs/retention.yaml documents the format. The
// name is for messages. A file with any fault is refused as a whole, and the error
// is an *Error that lists every fault: half a policy would keep some footage for a
// shorter time than its writer believes. A period below storage.FloorMonths is a
// fault too, never raised in silence.
func Parse(name string, data []byte) (*Policy, error) {
	r := &reader{}
	p := r.read(data)
	if len(r.problems) > 0 {
		return nil, newError(name, r.problems)
	}
	p.file = name
	return p, nil
}

func (r *reader) read(data []byte) *Policy {
	p := &Policy{}
	root := r.document(data)
	if root == nil {
		return p
	}
	set := r.group(root, "", map[string]field{
		"version": r.version,
		"default": func(n *yaml.Node, key string) { p.standard = r.standard(n, key) },
		"rules":   func(n *yaml.Node, key string) { p.rules = r.rules(n, key) },
	})
	if set != nil {
		p.standard.line = set[DefaultRule]
		r.require(set, "", root.Line, map[string]string{
			"version": "is required: version: " + Version,
			"default": "is required: how long footage is kept that no rule is for, such as default: {months: 6, why: 第十一条}",
		})
	}
	return p
}

func (r *reader) version(n *yaml.Node, key string) {
	if v, ok := r.text(n, key); ok && v != Version {
		r.fail(key, n.Line, "must be %s, not %s: this program reads no other format", Version, quoted(v))
	}
}

func (r *reader) standard(n *yaml.Node, key string) rule {
	out := rule{name: DefaultRule}
	set := r.group(n, key, map[string]field{"months": r.period(&out.period), "why": r.texts(&out.why)})
	if set != nil {
		r.require(set, key, n.Line, map[string]string{"months": needMonths, "why": needWhy})
	}
	return out
}

const (
	needMonths = "is required: how long, such as months: 36, or permanent"
	needWhy    = "is required: the reason, as a court may ask for it"
)

func (r *reader) texts(target *string) field {
	return func(n *yaml.Node, key string) { *target, _ = r.text(n, key) }
}

var decimal = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,8})$`)

// period reads months. Only plain decimal numbers count: 0o44, 036 and 3_6 mean
// different things to different readers of YAML.
func (r *reader) period(target *period) field {
	return func(n *yaml.Node, key string) {
		v, ok := r.text(n, key)
		if !ok {
			return
		}
		if v == "permanent" {
			*target = period{months: PermanentMonths, permanent: true}
			return
		}
		months, err := strconv.Atoi(v)
		switch {
		case !decimal.MatchString(v) || err != nil:
			r.fail(key, n.Line, "must be a whole number of months from %d to %d, or permanent, not %s", storage.FloorMonths, PermanentMonths, quoted(v))
		case months < storage.FloorMonths:
			r.fail(key, n.Line, "must be at least %d, not %d: footage is kept no less than six months (第十一条)", storage.FloorMonths, months)
		case months > PermanentMonths:
			r.fail(key, n.Line, "must be at most %d, not %d: a lock cannot be shortened afterwards; permanent is never disposed of", PermanentMonths, months)
		default:
			*target = period{months: months}
		}
	}
}

func (r *reader) rules(n *yaml.Node, key string) []rule {
	var out []rule
	first := map[string]rule{}
	for i, entry := range r.list(n, key, maxRules) {
		at := fmt.Sprintf("%s[%d]", key, i)
		one := r.rule(entry, at)
		if other, twice := first[one.name]; twice && one.name != "" {
			r.fail(at+".name", one.line, "%s is the name of the rule at line %d too; give each its own", quoted(one.name), other.line)
		} else {
			first[one.name] = one
		}
		out = append(out, one)
	}
	return out
}

func (r *reader) rule(n *yaml.Node, key string) rule {
	out := rule{line: n.Line}
	until := n.Line
	set := r.group(n, key, map[string]field{
		"name":   func(n *yaml.Node, key string) { out.name = r.name(n, key) },
		"match":  func(n *yaml.Node, key string) { out.match = r.match(n, key) },
		"months": r.period(&out.period),
		"from":   r.day(&out.from),
		"until":  func(n *yaml.Node, key string) { until = n.Line; r.day(&out.until)(n, key) },
		"why":    r.texts(&out.why),
	})
	if set == nil {
		return out
	}
	r.require(set, key, n.Line, map[string]string{
		"name": "is required: what the rule is called in explanations", "months": needMonths, "why": needWhy,
		"match": "is required: which footage the rule is for, such as match: {tag: [证据]}; what holds for all is the default",
	})
	if !out.until.IsZero() && out.until.Before(out.from) {
		r.fail(join(key, "until"), until, "%s is before from, %s: the rule would never match",
			out.until.Format(time.DateOnly), out.from.Format(time.DateOnly))
	}
	return out
}

var ruleName = regexp.MustCompile(`^[\p{L}\p{N}_-]{1,64}$`)

func (r *reader) name(n *yaml.Node, key string) string {
	v, ok := r.text(n, key)
	switch {
	case !ok:
		return ""
	case !ruleName.MatchString(v):
		r.fail(key, n.Line, "must be 1 to 64 letters, digits, - or _, not %s", quoted(v))
		return ""
	case v == DefaultRule || v == FloorRule:
		r.fail(key, n.Line, "must not be %s, which explanations use for what no rule decides; choose another", v)
		return ""
	}
	return v
}

func (r *reader) match(n *yaml.Node, key string) map[string][]string {
	out := map[string][]string{}
	fields := map[string]field{}
	for _, name := range matchKeys {
		fields[name] = func(n *yaml.Node, key string) {
			entries := r.list(n, key, maxValues)
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				r.fail(key, n.Line, "is an empty list, which nothing could match; write a value or remove it")
			}
			for i, entry := range entries {
				if v, ok := r.text(entry, fmt.Sprintf("%s[%d]", key, i)); ok && !slices.Contains(out[name], v) {
					out[name] = append(out[name], v)
				}
			}
			slices.Sort(out[name])
		}
	}
	if set := r.group(n, key, fields); set != nil && len(set) == 0 {
		r.fail(key, n.Line, "is empty: name at least one of %s; what holds for all is the default", strings.Join(matchKeys, ", "))
	}
	return out
}

func (r *reader) day(target *time.Time) field {
	return func(n *yaml.Node, key string) {
		v, ok := r.text(n, key)
		if !ok {
			return
		}
		t, err := time.Parse(time.DateOnly, v)
		if err != nil {
			r.fail(key, n.Line, "must be a day of the calendar such as 2026-01-31, not %s", quoted(v))
			return
		}
		*target = t
	}
}
