package journal_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
)

// stats gives the statistics as machines get them.
func stats(t *testing.T, j *journal.Journal, q journal.StatsQuery) string {
	t.Helper()
	if q.Location == nil {
		q.Location = time.UTC
	}
	all, err := j.Stats(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What nobody has counted is unknown, and not none.
func TestStatisticsKnowWhatTheyDoNotKnow(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	defer j.Close()
	day := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for id, counted := range map[string]*int{"A-1": new(0), "A-2": new(0), "B-1": nil} {
		if err := j.SaveSession(t.Context(), journal.Session{ID: id, State: journal.StateSealed, Officer: id[:1], DockedAt: day, EarlyRemovals: counted}); err != nil {
			t.Fatal(err)
		}
	}
	again, err := j.Session(t.Context(), "A-1")
	// The session is saved with what it had when it was read: the number stays.
	if err := errors.Join(err, j.RemovedEarly(t.Context(), "A-1"), j.RemovedEarly(t.Context(), "A-1"), j.RemovedEarly(t.Context(), "B-1"), j.SaveSession(t.Context(), again)); err != nil {
		t.Fatal(err)
	}
	q := journal.StatsQuery{By: journal.ByOfficer, From: day, To: day.AddDate(0, 0, 1)}
	const want = `[{"key":"A","sessions":2,"sealed":2,"failed":0,"files":0,"bytes":0,"early_removals":2,"early_removals_unknown":0,"clock_off":0,"clock_unknown":2,"views":null},` +
		`{"key":"B","sessions":1,"sealed":1,"failed":0,"files":0,"bytes":0,"early_removals":null,"early_removals_unknown":1,"clock_off":0,"clock_unknown":1,"views":null}]`
	if got := stats(t, j, q); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	q.By, q.Views = journal.ByMonth, map[string]int{"A-2": 3, "elsewhere": 5}
	if got := stats(t, j, q); !strings.Contains(got, `"key":"2026-11","sessions":3`) || !strings.Contains(got, `"early_removals":2,"early_removals_unknown":1`) || !strings.Contains(got, `"views":3`) {
		t.Errorf("all together: %s", got)
	}
}

// Statistics read what is in the period, and of the files an index alone.
func TestStatisticsGoByAnIndex(t *testing.T) {
	t.Parallel()
	j := generated(t, 300)
	if got := stats(t, j, journal.StatsQuery{By: journal.ByMonth, From: time.Unix(1700000000, 0), To: time.Unix(1700000000+10*420, 0)}); !strings.Contains(got, `"sessions":10,"sealed":9,"failed":1,"files":200,"bytes":20971520000,`) {
		t.Errorf("ten sessions: %s", got)
	}
	steps := j.StatsPlan(t)
	for _, step := range steps {
		if strings.HasPrefix(step, "SCAN") || strings.Contains(step, " files ") && !strings.Contains(step, "COVERING INDEX") {
			t.Errorf("%s", step)
		}
	}
	if len(steps) < 3 {
		t.Errorf("only %v", steps)
	}
}

// The release before this one did not count early removals: those of its sessions stay
// unknown, those of new ones are counted.
func TestTheReleaseBeforeEarlyRemovalsIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, err := os.ReadFile("testdata/schema-5.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(string(old) + `PRAGMA user_version = 5;
		INSERT INTO sessions (id, state, recorder, officer, slot, identity, clock, health, prefix, verification, docked_at, ended_at, retain_until, reason, manifest_key, manifest_version, manifest_sha256)
		VALUES ('s1','open','R1','052507','1','{}','{"kind":"unknown"}','{}','T/2026-11-24/s1/','readback','2026-11-24T00:00:00.000000000Z','','','','','','');`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		j := open(t, dir)
		err := errors.Join(j.RemovedEarly(t.Context(), "s1"), j.SaveSession(t.Context(), journal.Session{ID: "s2", EarlyRemovals: new(0)}), j.RemovedEarly(t.Context(), "s2"))
		if err := errors.Join(err, j.Close()); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, dir)
	defer j.Close()
	first, err1 := j.Session(t.Context(), "s1")
	second, err2 := j.Session(t.Context(), "s2")
	if err := errors.Join(err1, err2); err != nil || first.Officer != "052507" || first.EarlyRemovals != nil || second.EarlyRemovals == nil || *second.EarlyRemovals != 2 {
		t.Errorf("%+v, %+v, %v", first, second, err)
	}
}

// BenchmarkStatistics has a million recordings.
func BenchmarkStatistics(b *testing.B) {
	j := generated(b, 50_000)
	for _, by := range journal.StatsKinds {
		b.Run(string(by), func(b *testing.B) {
			for b.Loop() {
				if _, err := j.Stats(b.Context(), journal.StatsQuery{By: by, From: time.Unix(0, 0), To: time.Now().AddDate(9, 0, 0), Location: time.UTC}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
