package configs_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type alerts struct {
	Groups []struct {
		Rules []struct {
			Alert       string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

// Every alert says what is wrong and where it is told what to do, and that is there; a
// test shows when it fires and when it does not.
func TestAlerts(t *testing.T) {
	var all alerts
	read := func(file string) string {
		text, err := os.ReadFile("prometheus/" + file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if err := yaml.Unmarshal([]byte(read("alerts.yml")), &all); err != nil {
		t.Fatal(err)
	}
	readme, tests := read("README.md"), read("alerts_test.yml")
	n := 0
	for _, group := range all.Groups {
		for _, r := range group.Rules {
			n++
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%s has no summary, description or severity", r.Alert)
			}
			if r.Annotations["runbook_url"] != "README.md#alert-"+strings.ToLower(r.Alert) || !strings.Contains(readme, "\n### Alert "+r.Alert+"\n") {
				t.Errorf("%s: %s does not lead to a heading of README.md", r.Alert, r.Annotations["runbook_url"])
			}
			quiet := regexp.MustCompile(`alertname: ` + r.Alert + `, eval_time: \w+, exp_alerts: \[\]`)
			fires := regexp.MustCompile(`alertname: ` + r.Alert + "\n +eval_time: \\w+\n +exp_alerts:\n +- exp_labels")
			if !quiet.MatchString(tests) || !fires.MatchString(tests) {
				t.Errorf("%s has no test that it fires, or none that it does not", r.Alert)
			}
		}
	}
	if headings := strings.Count(readme, "\n### Alert "); headings != n || n < 15 {
		t.Errorf("%d alerts, %d headings", n, headings)
	}
	tool := os.Getenv("BODYWORN_PROMTOOL")
	if tool == "" {
		var err error
		if tool, err = exec.LookPath("promtool"); err != nil {
			t.Skip("promtool is not there (scripts/test fetches it): alerts were not run")
		}
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}, {"check", "config", "prometheus.yml"}} {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = "prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// The dashboard is one that Grafana imports: panels with a description and at least one
// question each, none over another, all of the data source that is chosen.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("grafana/ingestd.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title, UID string
		Panels     []struct {
			Title, Description, Type string
			ID                       int
			GridPos                  struct{ H, W, X, Y int }
			Targets                  []struct {
				Expr, RefID string
				Datasource  struct{ UID string }
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil || d.Title == "" || d.UID == "" || len(d.Panels) < 10 {
		t.Fatalf("%v, %+v", err, d)
	}
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range d.Panels {
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || ids[p.ID] {
			t.Errorf("panel %d %q lacks something", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			if q.Expr == "" || q.RefID == "" || q.Datasource.UID != "${datasource}" || !strings.Contains(q.Expr, `instance=~"$instance"`) {
				t.Errorf("%s asks %+v", p.Title, q)
			}
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %q or out of the grid", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}
