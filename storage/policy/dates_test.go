package policy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // zones, also where the machine has none

	"github.com/bodyworn/ingestd/storage/policy"
)

func parse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("retention.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

// uniform is a policy that keeps everything for so many months.
func uniform(t testing.TB, months int) *policy.Policy {
	t.Helper()
	return parse(t, fmt.Sprintf("version: 1\ndefault: {months: %d, why: test}\n", months))
}

func decide(t testing.TB, p *policy.Policy, f policy.Facts, loc *time.Location) policy.Decision {
	t.Helper()
	d, err := p.Decide(f, loc)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func at(t testing.TB, clock string, loc *time.Location) time.Time {
	t.Helper()
	v, err := time.ParseInLocation("2006-01-02T15:04:05", clock, loc)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func stored(when time.Time) policy.Facts {
	return policy.Facts{Docked: when.Add(-10 * time.Minute), Stored: when}
}

// The dates are computed by testdata/dates.py, which shares nothing with us but the
// rule.
func TestDatesAreThoseOfTheCalendar(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/dates.tsv")
	if err != nil {
		t.Fatal(err)
	}
	policies := map[string]*policy.Policy{}
	for _, months := range []int{6, 7, 12, 36} {
		policies[strconv.Itoa(months)] = uniform(t, months)
	}
	zones := map[string]*time.Location{}
	rows := 0
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); rows++ {
		f := strings.Split(lines.Text(), "\t")
		if zones[f[0]] == nil {
			zones[f[0]] = zone(t, f[0])
		}
		loc := zones[f[0]]
		until := decide(t, policies[f[2]], stored(at(t, f[1], loc)), loc).Until
		// A day that a zone left out is over when it would have begun; to go on to
		// the end of the next one is allowed.
		if f[0] == "Pacific/Apia" && f[3] == "2011-12-30" {
			if over := at(t, "2011-12-31T00:00:00", loc); until.Before(over) || until.After(over.AddDate(0, 0, 1)) {
				t.Errorf("%s is kept until %s", lines.Text(), until)
			}
			continue
		}
		if before := until.Add(-time.Second); before.Format(time.DateOnly) != f[3] || until.Format(time.DateOnly) == f[3] {
			t.Errorf("%s is kept until %s, which is not the end of that day", lines.Text(), until)
		}
		if f[4] != "-" && f[4] != strconv.FormatInt(until.Unix(), 10) {
			t.Errorf("%s is kept until %d, %s", lines.Text(), until.Unix(), until)
		}
	}
	if rows < 1600 {
		t.Errorf("testdata/dates.tsv has only %d rows", rows)
	}
}

func TestTheDatesAreWhatTheScriptWrites(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not here; testdata/dates.tsv can't be written anew:", err)
	}
	want, err := exec.CommandContext(t.Context(), python, "testdata/dates.py").Output()
	if err != nil {
		t.Fatalf("testdata/dates.py: %v", err)
	}
	got, err := os.ReadFile("testdata/dates.tsv")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("testdata/dates.tsv is not what testdata/dates.py writes")
	}
}

// From every day of nine years, in zones with all kinds of clocks. Days are counted
// on the calendar: where clocks go forward in between, 181 days are 4343 hours.
func TestSixMonthsAreNever180Days(t *testing.T) {
	t.Parallel()
	p := uniform(t, 6)
	for _, name := range []string{"Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia"} {
		loc, least := zone(t, name), 1000
		for n := range 9 * 366 {
			start := time.Date(2024, 1, 1+n, n%24, n%60, n%60, 0, loc)
			y, m, d := start.Date()
			until := decide(t, p, stored(start), loc).Until
			y2, m2, d2 := until.Add(-time.Second).Date()
			days := int(time.Date(y2, m2, d2, 0, 0, 0, 0, time.UTC).Sub(time.Date(y, m, d, 0, 0, 0, 0, time.UTC)).Hours() / 24)
			if days < 181 || days > 184 {
				t.Errorf("%s in %s is kept until %s, %d days", start, name, until, days)
			}
			least = min(least, days)
		}
		if least != 181 {
			t.Errorf("the shortest six months in %s are %d days, want 181", name, least)
		}
	}
}
