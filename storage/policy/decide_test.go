package policy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/policy"
)

const bureau = `version: 1
default: {months: 6, why: 第十一条}
rules:
  - name: evidence
    match: {tag: [证据, 行政复议]}
    months: 36
    from: 2026-01-01
    until: 2026-12-31
    why: 行政执法档案保存期限
  - {name: unit, match: {unit: ["0412"], officer: [A1, A2]}, months: 12, why: 试点}
  - {name: recorder, match: {recorder: [NMQ0007]}, months: 12, why: 送检}
  - {name: equal, match: {tag: [等同]}, months: 6, why: 同默认}
  - {name: longest, match: {tag: [百年]}, months: 1200, why: 上限}
  - {name: major, match: {tag: [重大案件]}, months: permanent, why: 永久保存}
`

// winners names what decides and, behind it, what matched besides.
func winners(d policy.Decision) string {
	var names []string
	for _, r := range d.Rules {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

func TestTheLongestRuleThatMatchesDecides(t *testing.T) {
	t.Parallel()
	loc := zone(t, "Asia/Shanghai")
	docked := time.Date(2026, 11, 24, 18, 3, 5, 0, loc)
	for name, c := range map[string]struct {
		change func(*policy.Facts)
		rules  string
		months int
	}{
		"nothing known":             {func(*policy.Facts) {}, "default", 6},
		"a tag":                     {func(f *policy.Facts) { f.Tags = []string{"证据"} }, "evidence default", 36},
		"another value of the list": {func(f *policy.Facts) { f.Tags = []string{"其他", "行政复议"} }, "evidence default", 36},
		"a tag that no rule has":    {func(f *policy.Facts) { f.Tags = []string{"证"} }, "default", 6},
		"one key of two":            {func(f *policy.Facts) { f.Unit = "0412" }, "default", 6},
		"the other key of two":      {func(f *policy.Facts) { f.Officer = "A1" }, "default", 6},
		"both keys":                 {func(f *policy.Facts) { f.Unit, f.Officer = "0412", "A2" }, "unit default", 12},
		"a number is text":          {func(f *policy.Facts) { f.Unit, f.Officer = "412", "A2" }, "default", 6},
		"a recorder":                {func(f *policy.Facts) { f.Recorder = "NMQ0007" }, "recorder default", 12},
		"letters as written":        {func(f *policy.Facts) { f.Recorder = "nmq0007" }, "default", 6},
		"three rules, names break ties": {func(f *policy.Facts) {
			f.Recorder, f.Unit, f.Officer, f.Tags = "NMQ0007", "0412", "A1", []string{"证据"}
		}, "evidence recorder unit default", 36},
		"a rule before an equal default": {func(f *policy.Facts) { f.Tags = []string{"等同"} }, "equal default", 6},
		"permanent before 1200 months":   {func(f *policy.Facts) { f.Tags = []string{"百年", "重大案件", "证据"} }, "major longest evidence default", 1200},
		"the first day":                  {func(f *policy.Facts) { f.Tags, f.Docked = []string{"证据"}, time.Date(2026, 1, 1, 0, 0, 0, 0, loc) }, "evidence default", 36},
		"the second before it": {func(f *policy.Facts) {
			f.Tags, f.Docked = []string{"证据"}, time.Date(2025, 12, 31, 23, 59, 59, 999, loc)
		}, "default", 6},
		"the last day": {func(f *policy.Facts) {
			f.Tags, f.Docked = []string{"证据"}, time.Date(2026, 12, 31, 23, 59, 59, 999, loc)
		}, "evidence default", 36},
		"the day after it": {func(f *policy.Facts) { f.Tags, f.Docked = []string{"证据"}, time.Date(2027, 1, 1, 0, 0, 0, 0, loc) }, "default", 6},
		"the station's day": {func(f *policy.Facts) {
			f.Tags, f.Docked = []string{"证据"}, time.Date(2025, 12, 31, 16, 0, 0, 0, time.UTC)
		}, "evidence default", 36},
		"docked, not stored,": {func(f *policy.Facts) { f.Tags, f.Stored = []string{"证据"}, time.Date(2027, 1, 2, 0, 0, 0, 0, loc) }, "evidence default", 36},
	} {
		f := stored(docked)
		c.change(&f)
		d := decide(t, parse(t, bureau), f, loc)
		if got := winners(d); got != c.rules || d.Winner != strings.Fields(c.rules)[0] || d.Months != c.months {
			t.Errorf("%s: %s for %d months by %s; want %s for %d", name, got, d.Months, d.Winner, c.rules, c.months)
		}
		if want := storage.RetainUntil(f.Stored, c.months, loc); !d.Until.Equal(want) {
			t.Errorf("%s: kept until %s, want %s", name, d.Until, want)
		}
		if d.Permanent != (d.Winner == "major") {
			t.Errorf("%s: permanent is %v", name, d.Permanent)
		}
	}
}

func TestAppliedRulesSayWhereTheyAreFrom(t *testing.T) {
	t.Parallel()
	loc := zone(t, "Asia/Shanghai")
	f := stored(time.Date(2026, 11, 24, 18, 3, 5, 0, loc))
	f.Tags = []string{"重大案件", "证据"}
	want := []policy.Applied{
		{Name: "major", Months: 1200, Permanent: true, Why: "永久保存", Line: 14},
		{Name: "evidence", Months: 36, Why: "行政执法档案保存期限", Line: 4},
		{Name: "default", Months: 6, Why: "第十一条", Line: 2},
	}
	if d := decide(t, parse(t, bureau), f, loc); !reflect.DeepEqual(d.Rules, want) || d.File != "retention.yaml" {
		t.Errorf("applied are %+v of %s, want %+v", d.Rules, d.File, want)
	}
}

func TestTheStart(t *testing.T) {
	t.Parallel()
	loc := zone(t, "Asia/Shanghai")
	for name, c := range map[string]struct{ stored, end, start, is, until string }{
		"no recording end":      {"2026-11-24T18:03:05", "", "2026-11-24T18:03:05", policy.StartStored, "2027-05-25T00:00:00"},
		"an earlier end":        {"2026-11-24T18:03:05", "2026-11-01T09:00:00", "2026-11-24T18:03:05", policy.StartStored, "2027-05-25T00:00:00"},
		"a dead clock":          {"2026-11-24T18:03:05", "1970-01-01T08:00:00", "2026-11-24T18:03:05", policy.StartStored, "2027-05-25T00:00:00"},
		"a later end":           {"2026-11-24T23:59:00", "2026-11-25T00:01:00", "2026-11-25T00:01:00", policy.StartRecordingEnd, "2027-05-26T00:00:00"},
		"later on the same day": {"2026-11-24T18:03:05", "2026-11-24T18:04:00", "2026-11-24T18:04:00", policy.StartRecordingEnd, "2027-05-25T00:00:00"},
		// 31 August gives 3 March, 1 September gives 1 March.
		"a later end that would end earlier": {"2026-08-31T23:59:00", "2026-09-01T00:01:00", "2026-08-31T23:59:00", policy.StartStored, "2027-03-04T00:00:00"},
	} {
		f := stored(at(t, c.stored, loc))
		if c.end != "" {
			end := at(t, c.end, loc).UTC()
			f.RecordingEnd = &end
		}
		const layout = "2006-01-02T15:04:05"
		d := decide(t, uniform(t, 6), f, loc)
		if d.Start.Format(layout) != c.start || d.StartIs != c.is || d.Until.Format(layout) != c.until {
			t.Errorf("%s: from %s (%s) until %s, want from %s (%s) until %s", name, d.Start, d.StartIs, d.Until, c.start, c.is, c.until)
		}
	}
}

func TestWithoutItsTimesNothingIsDecided(t *testing.T) {
	t.Parallel()
	loc := zone(t, "Asia/Shanghai")
	now := time.Date(2026, 11, 24, 18, 3, 5, 0, loc)
	for name, c := range map[string]struct {
		facts policy.Facts
		loc   *time.Location
	}{
		"not stored":           {policy.Facts{Docked: now}, loc},
		"not docked":           {policy.Facts{Stored: now}, loc},
		"no zone":              {stored(now), nil},
		"beyond the year 9999": {stored(now.AddDate(7973, 0, 0)), loc},
	} {
		d, err := uniform(t, 6).Decide(c.facts, c.loc)
		if !errors.Is(err, policy.ErrFacts) || !reflect.DeepEqual(d, policy.Decision{}) {
			t.Errorf("%s: %v, %+v", name, err, d)
		}
	}
}

func TestTheFloorHoldsWhateverARuleSays(t *testing.T) {
	t.Parallel()
	loc := zone(t, "Asia/Shanghai")
	f := stored(time.Date(2026, 8, 31, 18, 3, 5, 0, loc))
	for _, months := range []int{-1200, -1, 0, 1, 5} {
		d := decide(t, policy.Unchecked(months), f, loc)
		if want := storage.RetainUntil(f.Stored, storage.FloorMonths, loc); d.Until.Before(want) || d.Months != storage.FloorMonths || d.Winner != policy.FloorRule {
			t.Errorf("a rule of %d months gives %d by %s, until %s", months, d.Months, d.Winner, d.Until)
		}
		if text := strings.Join(d.Explain(policy.English), "\n"); !strings.Contains(text, "decided by the statutory minimum") {
			t.Errorf("that the floor decided is not said:\n%s", text)
		}
	}
}

// Should a way of counting ever give too little, the law is counted behind it.
func TestTheFloorHoldsWhateverIsCounted(t *testing.T) {
	t.Parallel()
	loc := zone(t, "Asia/Shanghai")
	f := stored(time.Date(2026, 8, 31, 18, 3, 5, 0, loc))
	floor := storage.RetainUntil(f.Stored, storage.FloorMonths, loc)
	for until, want := range map[time.Time]policy.Decision{
		{}:                           {Until: floor, Months: 6, Start: f.Stored, StartIs: policy.StartStored, Winner: policy.FloorRule},
		floor.Add(-time.Second):      {Until: floor, Months: 6, Start: f.Stored, StartIs: policy.StartStored, Winner: policy.FloorRule},
		floor:                        {Until: floor, Months: 36, Winner: "rule"},
		floor.Add(time.Second).UTC(): {Until: floor.Add(time.Second), Months: 36, Winner: "rule"},
	} {
		d := policy.KeepFloor(policy.Decision{Until: until, Months: 36, Winner: "rule"}, f, loc)
		if !reflect.DeepEqual(d, want) {
			t.Errorf("until %s becomes %+v, want %+v", until, d, want)
		}
	}
}

// randomPolicy is a file that is right, its rules one by one, and facts that often
// match.
func randomPolicy(random *rand.Rand) (head string, rules []string) {
	months := func() string {
		if random.IntN(8) == 0 {
			return "permanent"
		}
		return fmt.Sprint(storage.FloorMonths + random.IntN(60))
	}
	head = fmt.Sprintf("version: 1\ndefault: {months: %s, why: d}\nrules:\n", months())
	for i := range 1 + random.IntN(6) {
		key := []string{"tag", "recorder", "officer", "unit"}[random.IntN(4)]
		rule := fmt.Sprintf("  - {name: r%d, match: {%s: [v%d, v%d]}, months: %s, why: w", i, key, random.IntN(4), random.IntN(4), months())
		if random.IntN(3) == 0 {
			rule += fmt.Sprintf(", from: %d-01-01, until: %d-02-28", 1990+random.IntN(40), 2030+random.IntN(40))
		}
		rules = append(rules, rule+"}\n")
	}
	return head, rules
}

func randomFacts(random *rand.Rand) policy.Facts {
	value := func() string { return fmt.Sprintf("v%d", random.IntN(6)) }
	when := time.Unix(random.Int64N(4_000_000_000), random.Int64N(1e9))
	if random.IntN(2) == 0 { // month ends
		when = time.Date(when.Year(), when.Month()+1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(random.IntN(72)-48) * time.Hour / 2)
	}
	f := policy.Facts{
		Docked: when.Add(-time.Duration(random.IntN(100)) * time.Hour), Stored: when,
		Recorder: value(), Officer: value(), Unit: value(), Tags: []string{value(), value()}[:random.IntN(3)],
	}
	if random.IntN(2) == 0 {
		end := when.Add(time.Duration(random.IntN(2000)-1000) * time.Hour / 10)
		f.RecordingEnd = &end
	}
	return f
}

// checkFloor proves from outside that a decision keeps the law.
func checkFloor(t *testing.T, d policy.Decision, f policy.Facts, loc *time.Location) {
	t.Helper()
	starts := []time.Time{f.Stored, d.Start}
	if f.RecordingEnd != nil && f.RecordingEnd.After(f.Stored) {
		starts = append(starts, *f.RecordingEnd)
	}
	for _, start := range starts {
		if floor := storage.RetainUntil(start, storage.FloorMonths, loc); d.Until.Before(floor) {
			t.Errorf("%+v in %s is kept until %s, the floor is %s", f, loc, d.Until, floor)
		}
		if storage.BelowFloor(d.Until, start, loc) {
			t.Errorf("%+v in %s: a store would refuse %s as below the floor", f, loc, d.Until)
		}
	}
	switch {
	case d.Start.Before(f.Stored):
		t.Errorf("%+v: counted from %s, before it was stored", f, d.Start)
	case d.Until.Nanosecond() != 0:
		t.Errorf("%+v: %s has a fraction, which S3 would cut off", f, d.Until)
	case d.Months < storage.FloorMonths || d.Permanent && d.Months != policy.PermanentMonths:
		t.Errorf("%+v: %d months, permanent is %v", f, d.Months, d.Permanent)
	}
}

func TestRandomPoliciesNeverGoBelowTheFloorAndHaveNoOrder(t *testing.T) {
	t.Parallel()
	var zones []*time.Location
	for _, name := range []string{"Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia", "America/Sao_Paulo"} {
		zones = append(zones, zone(t, name))
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	matched := 0
	for range 400 {
		head, rules := randomPolicy(random)
		p := parse(t, head+strings.Join(rules, ""))
		random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		shuffled := parse(t, head+strings.Join(rules, ""))
		if p.Digest() != shuffled.Digest() {
			t.Errorf("the order of the rules changes the digest:\n%s%s", p.Canonical(), shuffled.Canonical())
		}
		for range 50 {
			f, loc := randomFacts(random), zones[random.IntN(len(zones))]
			d, other := decide(t, p, f, loc), decide(t, shuffled, f, loc)
			checkFloor(t, d, f, loc)
			checkLongest(t, d)
			for _, list := range [][]policy.Applied{d.Rules, other.Rules} {
				for i := range list {
					list[i].Line = 0 // is another line, rightly
				}
			}
			if !reflect.DeepEqual(d, other) {
				t.Errorf("in another order %+v is decided as %+v", d, other)
			}
			if len(d.Rules) > 1 {
				matched++
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if matched < 2000 {
		t.Errorf("seed %d: only %d of 20,000 cases matched a rule", seed, matched)
	}
}

// checkLongest proves that nothing which matched asks for more than was decided.
func checkLongest(t *testing.T, d policy.Decision) {
	t.Helper()
	for _, r := range d.Rules {
		if r.Months > d.Months || r.Permanent && !d.Permanent {
			t.Errorf("%s decided %d months, but %s asks for %d", d.Winner, d.Months, r.Name, r.Months)
		}
	}
}
