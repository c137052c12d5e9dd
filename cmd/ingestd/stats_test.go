package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/ingest/journal"
)

// The statistics count what was taken in; how often it was looked at only the ledger
// knows, and without it that is unknown, not none.
func TestStatisticsWithAndWithoutTheLedger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1", "--officer", "150525")
	count := func() (journal.Stat, string) {
		t.Helper()
		out, errs, code := p.run("stats", "--by", "officer", "-o", "json")
		var result struct{ Items []journal.Stat }
		if err := json.Unmarshal([]byte(out), &result); err != nil || code != 0 || len(result.Items) != 1 {
			t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
		}
		return result.Items[0], errs
	}
	s, errs := count()
	if s.Key != "150525" || s.Sessions != 1 || s.Sealed != 1 || s.Files != 1 || s.Bytes != 7 || s.EarlyRemovals == nil || *s.EarlyRemovals != 0 || s.Views == nil || *s.Views != 0 || errs != "" {
		t.Errorf("%+v\n%s", s, errs)
	}
	lines, err := os.ReadFile(p.path("state/ledger/entries.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	p.write("state/ledger/entries.jsonl", strings.Replace(string(lines), "150525", "150526", 1))
	if s, errs := count(); s.Sessions != 1 || s.Views != nil || !strings.Contains(errs, "views are not known") {
		t.Errorf("with a ledger that was changed: %+v\n%s", s, errs)
	}
	if table := p.must("stats", "--by", "officer", "--no-headers"); !strings.HasSuffix(strings.TrimSpace(table), " -") {
		t.Errorf("as a table: %s", table)
	}
}
