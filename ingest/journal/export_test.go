package journal

import "testing"

// SearchPlan is how SQLite goes about a search.
func (j *Journal) SearchPlan(t *testing.T, q Query) []string {
	t.Helper()
	where, args := q.where()
	return j.plan(t, "SELECT "+sessionColumns+", permanent, disposed_at FROM sessions "+where, args...)
}

// StatsPlan is how it counts.
func (j *Journal) StatsPlan(t *testing.T) []string {
	t.Helper()
	return j.plan(t, statsRows, "file", "2026", "2027")
}

func (j *Journal) plan(t *testing.T, query string, args ...any) (steps []string) {
	t.Helper()
	rows, err := j.db.Query("EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	return steps
}
