package policy_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/policy"
)

const (
	head = "version: 1\ndefault: {months: 6, why: w}\n"
	one  = head + "rules:\n- {name: a, match: {tag: [t]}, months: 12, why: w}\n"
)

// rule gives a file whose rule, at line 4, has these settings besides what it must.
func rule(settings string) string {
	return head + "rules:\n- {name: a, match: {tag: [t]}, why: w, " + settings + "}\n"
}

func TestFaultsAreNamedWithTheirLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want []string // the problems, in this order; none: it is right
	}{
		{one, nil},
		{head, nil},
		{head + "rules:\n", nil}, // all its rules are commented out
		{head + "rules: []\n", nil},
		{"\ufeff" + one, nil},
		{rule("months: permanent"), nil},
		{rule("months: 6"), nil},
		{rule("months: 1200"), nil},
		{rule(`months: "36"`), nil},
		{rule("months: 36, from: 2026-01-01, until: 2026-01-01"), nil},
		{rule("months: 36, from: 2028-02-29"), nil},

		{"", []string{"the file is empty; a policy has at least version and default"}},
		{"# nothing\n", []string{"the file is empty; a policy has at least version and default"}},
		{"---\n", []string{"line 2: must be a group of settings, not an empty value"}},
		{"six months\n", []string{`line 1: must be a group of settings, not the single value "six months"`}},
		{"[1, 2]", []string{"line 1: must be a group of settings, not a list"}},
		{head + "---\n" + head, []string{"line 3: a second YAML document begins here; put all rules into one"}},
		{head + "  x: [", []string{"line 2: not YAML, here or just below: did not find expected key"}},
		{"version: 1\ndefault: {months: 6, why: \xd6\xb4\xb7}\n", []string{"the file is not UTF-8; save it as UTF-8"}},
		{head + strings.Repeat("#", 1<<20), []string{"the file is larger than 1048576 bytes; this is no retention file"}},

		{"rules: []\n", []string{
			"default at line 1: is required: how long footage is kept that no rule is for, such as default: {months: 6, why: 第十一条}",
			"version at line 1: is required: version: 1"}},
		{"version: 2\ndefault: {months: 6, why: w}\n", []string{`version at line 1: must be 1, not "2": this program reads no other format`}},
		{"version: 1.0\ndefault: {months: 6, why: w}\n", []string{`version at line 1: must be 1, not "1.0": this program reads no other format`}},
		{"version:\ndefault: {months: 6, why: w}\n", []string{"version at line 1: has no value; write one or remove the line"}},
		{"version: 1\nversion: 1\ndefault: {months: 6, why: w}\n", []string{"version at line 2: set twice, first at line 1; keep one"}},
		{"version: 1\ndefault: {}\n", []string{
			"default.months at line 2: is required: how long, such as months: 36, or permanent",
			"default.why at line 2: is required: the reason, as a court may ask for it"}},
		{"version: 1\ndefault: 6\n", []string{`default at line 2: must be a group of settings, not the single value "6"`}},
		{"version: 1\ndefault: {months: 6, why: w, from: 2026-01-01}\n", []string{"default.from at line 2: no such setting; did you mean rules.from?"}},

		{"versian: 1\ndefault: {months: 6, why: w}\n", []string{
			"versian at line 1: no such setting; did you mean version?",
			"version at line 1: is required: version: 1"}},
		{one + "rule: []\n", []string{"rule at line 5: no such setting; did you mean rules?"}},
		{one + "colour: red\n", []string{"colour at line 5: no such setting"}},
		{rule("months: 12, untils: 2026-01-01"), []string{"rules[0].untils at line 4: no such setting; did you mean rules.until?"}},
		{rule("months: 12, tag: [t]"), []string{"rules[0].tag at line 4: no such setting; did you mean rules.match.tag?"}},
		{rule("month: 12"), []string{
			"rules[0].month at line 4: no such setting; did you mean rules.months?",
			"rules[0].months at line 4: is required: how long, such as months: 36, or permanent"}},
		{head + "rules:\n- name: a\n  match:\n    tags: [t]\n  months: 12\n  why: w\n", []string{
			"rules[0].match.tags at line 6: no such setting; did you mean rules.match.tag?"}},
		{rule("months: 12, ? [x] : 1"), []string{"rules[0].(a list) at line 4: no such setting"}},
		{rule("months: 12, <<: 1"), []string{`rules[0]."<<" at line 4: no such setting`}},
		{rule("months: 12, months: 13"), []string{"rules[0].months at line 4: set twice, first at line 4; keep one"}},

		{rule("months: 5"), []string{"rules[0].months at line 4: must be at least 6, not 5: footage is kept no less than six months (第十一条)"}},
		{rule("months: 0"), []string{"rules[0].months at line 4: must be at least 6, not 0: footage is kept no less than six months (第十一条)"}},
		{rule("months: -36"), []string{"rules[0].months at line 4: must be at least 6, not -36: footage is kept no less than six months (第十一条)"}},
		{"version: 1\ndefault: {months: 5, why: w}\n", []string{"default.months at line 2: must be at least 6, not 5: footage is kept no less than six months (第十一条)"}},
		{rule("months: 1201"), []string{"rules[0].months at line 4: must be at most 1200, not 1201: a lock cannot be shortened afterwards; permanent is never disposed of"}},
		{rule("months: 036"), []string{`rules[0].months at line 4: must be a whole number of months from 6 to 1200, or permanent, not "036"`}},
		{rule("months: 0x24"), []string{`rules[0].months at line 4: must be a whole number of months from 6 to 1200, or permanent, not "0x24"`}},
		{rule("months: 36.0"), []string{`rules[0].months at line 4: must be a whole number of months from 6 to 1200, or permanent, not "36.0"`}},
		{rule("months: +36"), []string{`rules[0].months at line 4: must be a whole number of months from 6 to 1200, or permanent, not "+36"`}},
		{rule("months: 99999999999999999999"), []string{`rules[0].months at line 4: must be a whole number of months from 6 to 1200, or permanent, not "99999999999999999999"`}},
		{rule("months: forever"), []string{`rules[0].months at line 4: must be a whole number of months from 6 to 1200, or permanent, not "forever"`}},
		{rule("months: [36]"), []string{"rules[0].months at line 4: must be a single value, not a list"}},
		{rule("months: &m 36"), []string{"rules[0].months at line 4: anchors (&), aliases (*) and tags (!) are not supported; write the value out"}},
		{rule("months: !!int 36"), []string{"rules[0].months at line 4: anchors (&), aliases (*) and tags (!) are not supported; write the value out"}},

		{rule("months: 12, from: 2026-02-30"), []string{`rules[0].from at line 4: must be a day of the calendar such as 2026-01-31, not "2026-02-30"`}},
		{rule("months: 12, until: 2027-02-29"), []string{`rules[0].until at line 4: must be a day of the calendar such as 2026-01-31, not "2027-02-29"`}},
		{rule("months: 12, from: 2026-1-1"), []string{`rules[0].from at line 4: must be a day of the calendar such as 2026-01-31, not "2026-1-1"`}},
		{rule("months: 12, from: 2026-01-01T08:00:00Z"), []string{`rules[0].from at line 4: must be a day of the calendar such as 2026-01-31, not "2026-01-01T08:00:00Z"`}},
		{rule("months: 12, from: 2026-01-02,\n  until: 2026-01-01"), []string{"rules[0].until at line 5: 2026-01-01 is before from, 2026-01-02: the rule would never match"}},

		{head + "rules: {name: a}\n", []string{"rules at line 3: must be a list, such as [a, b], not a group of settings"}},
		{head + "rules: [x, ]\n", []string{`rules[0] at line 3: must be a group of settings, not the single value "x"`}},
		{head + "rules:\n-\n", []string{"rules[0] at line 4: must be a group of settings, not an empty value"}},
		{head + "rules: [{}]\n", []string{
			"rules[0].match at line 3: is required: which footage the rule is for, such as match: {tag: [证据]}; what holds for all is the default",
			"rules[0].months at line 3: is required: how long, such as months: 36, or permanent",
			"rules[0].name at line 3: is required: what the rule is called in explanations",
			"rules[0].why at line 3: is required: the reason, as a court may ask for it"}},
		{one + "- {name: b, match: {tag: [t]}, months: 12, why: w}\n- {name: a, match: {tag: [u]}, months: 13, why: w}\n", []string{
			`rules[2].name at line 6: "a" is the name of the rule at line 4 too; give each its own`}},
		{head + "rules: [{name: default, match: {tag: [t]}, months: 12, why: w}]", []string{"rules[0].name at line 3: must not be default, which explanations use for what no rule decides; choose another"}},
		{head + "rules: [{name: floor, match: {tag: [t]}, months: 12, why: w}]", []string{"rules[0].name at line 3: must not be floor, which explanations use for what no rule decides; choose another"}},
		{head + "rules: [{name: a b, match: {tag: [t]}, months: 12, why: w}]", []string{`rules[0].name at line 3: must be 1 to 64 letters, digits, - or _, not "a b"`}},
		{head + "rules: [{name: a, match: {tag: [t]}, months: 12, why: ''}]", []string{"rules[0].why at line 3: has no value; write one or remove it"}},
		{head + "rules: [{name: a, match: {tag: [t]}, months: 12, why: \"\\e[2J\"}]", []string{`rules[0].why at line 3: must not hold control characters, line breaks or invisible letters: "\x1b[2J"`}},
		{head + "rules: [{name: a, match: {tag: [t]}, months: 12, why: " + strings.Repeat("长", 201) + "}]", []string{"rules[0].why at line 3: must not be longer than 200 characters"}},

		{head + "rules: [{name: a, match: {}, months: 12, why: w}]", []string{"rules[0].match at line 3: is empty: name at least one of tag, recorder, officer, unit; what holds for all is the default"}},
		{head + "rules: [{name: a, match: , months: 12, why: w}]", []string{"rules[0].match at line 3: has no value; write one or remove the line"}},
		{head + "rules: [{name: a, match: {tag: []}, months: 12, why: w}]", []string{"rules[0].match.tag at line 3: is an empty list, which nothing could match; write a value or remove it"}},
		{head + "rules: [{name: a, match: {tag: 证据}, months: 12, why: w}]", []string{`rules[0].match.tag at line 3: must be a list, such as [a, b], not the single value "证据"`}},
		{head + "rules: [{name: a, match: {tag: [t, null]}, months: 12, why: w}]", []string{"rules[0].match.tag[1] at line 3: has no value; write one or remove it"}},
		{head + "rules: [{name: a, match: {tag: ['t ']}, months: 12, why: w}]", []string{`rules[0].match.tag[0] at line 3: must not begin or end with a space: "t "`}},
		{head + "rules: [{name: a, match: {tag: [\"证\\u200b据\"]}, months: 12, why: w}]", []string{`rules[0].match.tag[0] at line 3: must not hold control characters, line breaks or invisible letters: "证\u200b据"`}},
		{head + "rules: [{name: a, match: {tag: [[t]]}, months: 12, why: w}]", []string{"rules[0].match.tag[0] at line 3: must be a single value, not a list"}},
		{head + "rules: [{name: a, match: {tag: [" + strings.Repeat("t,", 1001) + "]}, months: 12, why: w}]", []string{"rules[0].match.tag at line 3: must have at most 1000 entries, not 1001"}},

		// All at once, in the order of the lines.
		{"version: 3\ndefault:\n  months: 5\n  wy: w\nrules:\n- name: a\n  match: {}\n  months: 2000\n  why: w\n- name: a\n  match: {tga: [t]}\n  months: 1\n  why: w\n  why: v\n", []string{
			`version at line 1: must be 1, not "3": this program reads no other format`,
			"default.months at line 3: must be at least 6, not 5: footage is kept no less than six months (第十一条)",
			"default.why at line 3: is required: the reason, as a court may ask for it",
			"default.wy at line 4: no such setting; did you mean default.why?",
			"rules[0].match at line 7: is empty: name at least one of tag, recorder, officer, unit; what holds for all is the default",
			"rules[0].months at line 8: must be at most 1200, not 2000: a lock cannot be shortened afterwards; permanent is never disposed of",
			`rules[1].name at line 10: "a" is the name of the rule at line 6 too; give each its own`,
			"rules[1].match.tga at line 11: no such setting; did you mean rules.match.tag?",
			"rules[1].months at line 12: must be at least 6, not 1: footage is kept no less than six months (第十一条)",
			"rules[1].why at line 14: set twice, first at line 13; keep one"}},
	} {
		p, err := policy.Parse("retention.yaml", []byte(c.text))
		var got []string
		if problems := (*policy.Error)(nil); errors.As(err, &problems) {
			for _, problem := range problems.Problems {
				got = append(got, problem.String())
			}
		}
		text := c.text[:min(len(c.text), 400)]
		if g, w := strings.Join(got, "\n  "), strings.Join(c.want, "\n  "); g != w {
			t.Errorf("%s\ngives\n  %s\nwant\n  %s", text, g, w)
		}
		if (p == nil) == (len(c.want) == 0) || (err == nil) != (p != nil) {
			t.Errorf("%s\ngives policy %v with error %v", text, p, err)
		}
	}
}

func TestTheErrorNamesTheFileAndAllFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"version: 2\ndefault: {months: 6, why: w}\n": `/etc/r.yaml: version at line 1: must be 1, not "2": this program reads no other format`,
		"version: 2\ndefault: {months: no, why: w}\n": "/etc/r.yaml: 2 problems\n" +
			`  version at line 1: must be 1, not "2": this program reads no other format` + "\n" +
			`  default.months at line 2: must be a whole number of months from 6 to 1200, or permanent, not "no"`,
	} {
		if _, err := policy.Parse("/etc/r.yaml", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q gives\n%v\nwant\n%s", text, err, want)
		}
	}
}

// What is documented must be what is read: the file as it is installed, and with
// its example taken out of the comments.
func TestTheDocumentedFileIsRight(t *testing.T) {
	t.Parallel()
	const file = "../../configs/retention.yaml"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	loc := zone(t, "Asia/Shanghai")
	f := stored(time.Date(2026, 11, 24, 18, 3, 5, 0, loc))
	f.Tags, f.Unit = []string{"证据", "重大案件"}, "0412"
	p := parse(t, string(data))
	if d := decide(t, p, f, loc); d.Months != 6 || d.Winner != policy.DefaultRule {
		t.Errorf("as it is installed, %d months by %s", d.Months, d.Winner)
	}
	before, example, ok := strings.Cut(string(data), "\n# rules:\n")
	example, isEnd := strings.CutSuffix(example, "rules: []\n")
	if !ok || !isEnd {
		t.Fatalf("%s has no example of rules, or does not end with an empty list", file)
	}
	example = "rules:\n" + strings.ReplaceAll("\n"+example, "\n# ", "\n")
	d := decide(t, parse(t, before+"\n"+example), f, loc)
	if got := winners(d); got != "major evidence default" || !d.Permanent || d.Rules[1].Months != 36 {
		t.Errorf("the example decides %s: %+v", got, d)
	}
}

// Whatever is in a file: no panic, an error that says something, and nothing that
// decides below the floor.
func FuzzParse(f *testing.F) {
	f.Add([]byte(bureau), int64(1_800_000_000), "证据", "NMQ0007")
	f.Add([]byte(one), int64(0), "t", "")
	f.Add([]byte(rule("months: permanent, from: 2026-01-01")), int64(1<<33), "t", "")
	f.Add([]byte("version: 1\ndefault: &d {months: 5, why: w}\nrules: [*d, {<<: *d}]\n"), int64(-1<<33), "t", "")
	f.Add([]byte("? [a]\n: !!binary x\n---\n"), int64(1), "", "")
	loc := zone(f, "Asia/Shanghai")
	f.Fuzz(func(t *testing.T, data []byte, unix int64, tag, name string) {
		p, err := policy.Parse("fuzz", data)
		if err != nil {
			problems := (*policy.Error)(nil)
			if p != nil || !errors.As(err, &problems) || len(problems.Problems) == 0 {
				t.Fatalf("policy %v with error %#v", p, err)
			}
			for _, problem := range problems.Problems {
				if problem.Text == "" || problem.Line < 0 {
					t.Errorf("a problem says nothing: %+v", problem)
				}
			}
			return
		}
		facts := stored(time.Unix(unix%(1<<34), 0))
		facts.Tags, facts.Recorder, facts.Officer, facts.Unit = []string{tag}, name, name, name
		d, err := p.Decide(facts, loc)
		if err != nil {
			t.Fatal(err)
		}
		checkFloor(t, d, facts, loc)
		checkLongest(t, d)
		again := parse(t, string(data))
		if p.Digest() != again.Digest() || len(d.Explain(policy.English)) == 0 || p.Describe() == "" {
			t.Error("the same file gives another policy, or none that can be explained")
		}
	})
}
