package journal

import "testing"

// SearchPlan is how SQLite goes about a search.
func (j *Journal) SearchPlan(t *testing.T, q Query) (steps []string) {
	t.Helper()
	where, args := q.where()
	rows, err := j.db.Query("EXPLAIN QUERY PLAN SELECT "+sessionColumns+", permanent, disposed_at FROM sessions "+where, args...)
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
