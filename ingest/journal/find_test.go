package journal_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
)

// generated is a journal of many sessions with twenty recordings each, as many
// stations would make them in years.
func generated(t testing.TB, sessions int) *journal.Journal {
	t.Helper()
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Share)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, journal.FileName)+"?_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		// 40 officers with their recorders, one docking every seven minutes; one of a
		// thousand has failed, one is open.
		`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %[1]d)
		INSERT INTO sessions (id, state, recorder, officer, slot, identity, clock, health, condition, prefix, verification, docked_at, ended_at, retain_until, reason, manifest_key, manifest_version, manifest_sha256)
		SELECT printf('S-%%08d', i), CASE WHEN i = %[1]d - 1 THEN 'open' WHEN i %% 1000 = 7 THEN 'failed' ELSE 'sealed' END,
			printf('DSJ-%%04d', i %% 40), printf('%%06d', i %% 40), '1', '{}', '{}', '{}', '{}', '', 'readback',
			strftime('%%Y-%%m-%%dT%%H:%%M:%%S.000000000Z', 1700000000 + i * 420, 'unixepoch'), '', '', '', '', '', '' FROM n`,
		`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %[1]d * 20)
		INSERT INTO files (session, path, kind, size, mod_time, note, state, reason, sha256, fingerprint, key, version, etag, checksum_alg, checksum, retain_until, stored_at, verified_at, verification, origin, upload, upload_until, crc64)
		SELECT printf('S-%%08d', i / 20), CAST(printf('DCIM/%%04d.MP4', i %% 20) AS BLOB), 'file', 104857600, '', '', 'verified', '', '%[2]s', '%[2]s', 'STATION-1/2026/footage', '1', '', '', '', '', '', '', 'readback', '', '', '', 0 FROM n`,
	} {
		if _, err := db.Exec(fmt.Sprintf(statement, sessions, strings.Repeat("ab", 32))); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

// searches are those of the console.
var searches = map[string]journal.Query{
	"first page":           {},
	"a page in the middle": {After: journal.Place{DockedAt: time.Unix(1700000000+25_000*420, 0).UTC(), ID: "S-00025000"}},
	"an officer":           {Officer: "000012"},
	"a recorder":           {Recorder: "DSJ-0012"},
	"a day":                {From: time.Unix(1710000000, 0), To: time.Unix(1710086400, 0)},
	"an officer's day":     {Officer: "000012", From: time.Unix(1710000000, 0), To: time.Unix(1710086400, 0)},
	"failed":               {State: journal.StateFailed},
	"open":                 {State: journal.StateOpen},
	"an officer's failed":  {Officer: "000007", State: journal.StateFailed},
	"not there":            {Officer: "000012", Recorder: "DSJ-0013"},
}

// A search reads by an index and sorts nothing: how long it takes does not grow with
// the journal.
func TestSearchesGoByAnIndex(t *testing.T) {
	t.Parallel()
	j := generated(t, 300)
	for name, q := range searches {
		q.Limit = 50
		for _, step := range j.SearchPlan(t, q) {
			// Only the list as it is, without a search, begins at the end of an index.
			if strings.HasPrefix(step, "SCAN") && (name != "first page" || !strings.Contains(step, "USING INDEX")) || strings.Contains(step, "TEMP B-TREE FOR ORDER BY") {
				t.Errorf("%s: %s", name, step)
			}
		}
	}
}

func TestFindGivesWhatMatches(t *testing.T) {
	t.Parallel()
	j := generated(t, 300)
	for _, c := range []struct {
		query journal.Query
		first string
		rows  int
		more  bool
	}{
		{journal.Query{Limit: 50}, "S-00000299", 50, true},
		{journal.Query{Limit: 50, After: journal.Place{DockedAt: time.Unix(1700000000+10*420, 0), ID: "S-00000010"}}, "S-00000009", 10, false},
		{journal.Query{Limit: 8, Officer: "000012"}, "S-00000292", 8, false},
		{journal.Query{Limit: 7, Officer: "000012"}, "S-00000292", 7, true},
		{journal.Query{Limit: 50, Officer: "000012", Recorder: "DSJ-0013"}, "", 0, false},
		{journal.Query{Limit: 50, State: journal.StateFailed}, "S-00000007", 1, false},
		{journal.Query{Limit: 50, State: journal.StateOpen, Recorder: "DSJ-0019"}, "S-00000299", 1, false},
		{journal.Query{Limit: 50, From: time.Unix(1700000000, 0), To: time.Unix(1700000420, 0)}, "S-00000000", 1, false},
	} {
		rows, more, err := j.Find(t.Context(), c.query)
		if err != nil || len(rows) != c.rows || more != c.more || c.rows > 0 && rows[0].ID != c.first {
			t.Errorf("%+v: %d rows, more %v, %v; want %+v", c.query, len(rows), more, err, c)
			continue
		}
		for _, r := range rows {
			if r.Files != 20 || r.Bytes != 20*104857600 {
				t.Errorf("%s has %d files of %d bytes", r.ID, r.Files, r.Bytes)
			}
		}
	}
}

// BenchmarkSearches has a million recordings.
func BenchmarkSearches(b *testing.B) {
	j := generated(b, 50_000)
	for name, q := range searches {
		q.Limit = 50
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := j.Find(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
