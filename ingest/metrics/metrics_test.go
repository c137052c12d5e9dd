package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/metrics"
	"github.com/bodyworn/ingestd/storage"
)

// What is counted is what happened: a good docking, the same card again, a file that
// can't be read, a recorder that is taken too early and put back.
func TestDockingsAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1", "2", "3", "1", "")
	w.must(w.station.Prepare(t.Context()))
	handler := w.metrics.Handler(w.sources())

	good := card(t, map[string]int{"a.mp4": 1000, "b.mp4": 234})
	if r, err := w.dock("1", good, nil); err != nil || !r.Safe {
		t.Fatalf("safe %v, %v", r.Safe, err)
	}
	if r, err := w.dock("李四's card", good, nil); err != nil || !r.Safe {
		t.Fatalf("safe %v, %v", r.Safe, err)
	}
	bad := card(t, map[string]int{"c.mp4": 500, "d.mp4": 60})
	if r, err := w.dock("2", bad, func(e device.Entry) error {
		if e.Path == "c.mp4" {
			return errCard
		}
		return nil
	}); err != nil || r.Safe {
		t.Fatalf("safe %v, %v", r.Safe, err)
	}
	pulled := card(t, map[string]int{"e.mp4": 7})
	if _, err := w.dock("3", pulled, func(device.Entry) error { return device.ErrRemoved }); !errors.Is(err, device.ErrRemoved) {
		t.Fatal(err)
	}
	w.metrics.Observe(ingest.Event{Name: "slot.removed", Slot: "3", State: ingest.Empty})
	w.metrics.Observe(ingest.Event{Name: "slot.removed", Slot: "2", State: ingest.Empty})
	if _, err := w.station.Audit(t.Context()); err != nil {
		t.Fatal(err)
	}
	sealed := sessionsOf(t, w.journal, journal.StateSealed)
	w.must(w.journal.Scrubbed(t.Context(), journal.Scrub{Session: sealed[0].ID, At: time.Unix(1790000000, 0), Objects: 4}))
	w.must(w.journal.Scrubbed(t.Context(), journal.Scrub{Session: sealed[1].ID, At: time.Unix(1790000500, 0), Objects: 4, Findings: 1}))

	scrape, code := get(t, handler, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d\n%s", code, scrape)
	}
	checkValues(t, scrape, map[string]float64{
		`ingestd_ingest_bytes_total{slot="1"}`:                            1234,
		`ingestd_ingest_bytes_total{slot="2"}`:                            60,
		`ingestd_ingest_bytes_total{slot="3"}`:                            0,
		`ingestd_ingest_bytes_total{slot="other"}`:                        0,
		`ingestd_ingest_files_total{result="stored"}`:                     3,
		`ingestd_ingest_files_total{result="identical"}`:                  2,
		`ingestd_ingest_files_total{result="not_stored"}`:                 1,
		`ingestd_ingest_sessions_total{result="safe"}`:                    2,
		`ingestd_ingest_sessions_total{result="failed"}`:                  1,
		`ingestd_ingest_sessions_total{result="interrupted"}`:             0,
		`ingestd_ingest_sessions_total{result="removed_early"}`:           1,
		`ingestd_ingest_duration_seconds_count`:                           3,
		`ingestd_early_removals_total{slot="3"}`:                          1,
		`ingestd_early_removals_total{slot="1"}`:                          0,
		`ingestd_verify_files_total{result="match"}`:                      3,
		`ingestd_verify_files_total{result="mismatch"}`:                   0,
		`ingestd_clock_drift_warnings_total`:                              4,
		`ingestd_device_clock_drift_seconds{slot="1"}`:                    3660,
		`ingestd_device_battery_ratio{slot="1"}`:                          0.4,
		`ingestd_slot_state{slot="1",state="safe"}`:                       1,
		`ingestd_slot_state{slot="1",state="copying"}`:                    0,
		`ingestd_slot_state{slot="2",state="empty"}`:                      1,
		`ingestd_slot_state{slot="2",state="failed"}`:                     0,
		`ingestd_slot_state{slot="3",state="removed_early"}`:              1,
		`ingestd_slot_state{slot="3",state="empty"}`:                      0,
		`ingestd_slot_state{slot="other",state="safe"}`:                   1,
		`ingestd_events_total{event="slot.removed_early",level="error"}`:  1,
		`ingestd_events_total{event="device.card_error",level="error"}`:   1,
		`ingestd_events_total{event="ledger.republished",level="error"}`:  0,
		`ingestd_sessions{state="sealed"}`:                                2,
		`ingestd_sessions{state="failed"}`:                                1,
		`ingestd_sessions{state="open"}`:                                  1,
		`ingestd_holds`:                                                   0,
		`ingestd_retention_expired_sessions`:                              0,
		`ingestd_quarantined_objects`:                                     0,
		`ingestd_verify_last_success_timestamp_seconds`:                   1790000000,
		`ingestd_bucket_findings{severity="error"}`:                       0,
		`ingestd_station_clock_synced`:                                    1,
		`ingestd_console_certificate_not_after_timestamp_seconds`:         1800000000,
		`ingestd_store_free_bytes{volume="store"}`:                        1 << 40,
		`ingestd_config_last_reload_successful`:                           1,
		`ingestd_ready{check="store"}`:                                    1,
		`ingestd_build_info{commit="0123",goversion="GO",version="test"}`: 1,
	})
	for _, gone := range []string{`drift_seconds{slot="2"}`, `battery_ratio{slot="2"}`, `drift_seconds{slot="other"}`} {
		if strings.Contains(scrape, gone) {
			t.Errorf("%s is there for a slot whose recorder is gone or is not a slot's", gone)
		}
	}
	checkLabels(t, scrape)
	checkUsed(t, scrape)
	promtool(t, scrape, "check", "metrics")

	// Put back, it is safe; slots of the settings count on.
	if r, err := w.dock("3", pulled, nil); err != nil || !r.Safe {
		t.Fatalf("safe %v, %v", r.Safe, err)
	}
	scrape, _ = get(t, handler, "/metrics")
	checkValues(t, scrape, map[string]float64{
		`ingestd_slot_state{slot="3",state="removed_early"}`:    0,
		`ingestd_slot_state{slot="3",state="safe"}`:             1,
		`ingestd_ingest_sessions_total{result="removed_early"}`: 1,
		`ingestd_ingest_bytes_total{slot="3"}`:                  7,
	})
}

func sessionsOf(t *testing.T, j *journal.Journal, state journal.SessionState) (of []journal.Session) {
	t.Helper()
	all, err := j.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.State == state {
			of = append(of, s)
		}
	}
	return of
}

func checkValues(t *testing.T, scrape string, want map[string]float64) {
	t.Helper()
	got := values(t, regexp.MustCompile(`goversion="[^"]*"`).ReplaceAllString(scrape, `goversion="GO"`))
	for name, value := range want {
		if is, there := got[name]; !there || is != value {
			t.Errorf("%s is %v (there %v), want %v", name, is, there, value)
		}
	}
}

// checkLabels: no label but these, so that none names a person, a recorder, a session
// or a file, and no value of a slot but those of the settings.
func checkLabels(t *testing.T, scrape string) {
	t.Helper()
	allowed := []string{"slot", "state", "result", "event", "level", "check", "severity", "volume", "le", "version", "commit", "goversion", "reason", "route", "method", "code"}
	found := 0
	for line := range strings.Lines(scrape) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, m := range regexp.MustCompile(`([a-z_]+)="([^"]*)"`).FindAllStringSubmatch(line, -1) {
			found++
			if !slices.Contains(allowed, m[1]) {
				t.Errorf("label %s in %s", m[1], line)
			}
			if m[1] == "slot" && !slices.Contains([]string{"1", "2", "3", "other"}, m[2]) {
				t.Errorf("slot %q in %s", m[2], line)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d labels were looked at", found)
	}
}

// checkUsed: what alerts and dashboard ask for is there.
func checkUsed(t *testing.T, scrape string) {
	t.Helper()
	used := map[string]bool{}
	for _, file := range []string{"../../configs/prometheus/alerts.yml", "../../configs/grafana/ingestd.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`\b(?:ingestd|process)_[a-z_]+`).FindAllString(string(text), -1)
		for _, name := range names {
			used[name] = true
		}
		if len(names) < 15 {
			t.Errorf("only %d metrics were found in %s", len(names), file)
		}
	}
	documented, err := os.ReadFile("../../configs/prometheus/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range used {
		if !regexp.MustCompile(`(?m)^` + name + `[ {]`).MatchString(scrape) {
			t.Errorf("%s is used and not there", name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (ingestd_\w+)`).FindAllStringSubmatch(scrape, -1) {
		if !strings.Contains(string(documented), "`"+m[1]+"`") {
			t.Errorf("%s is not in configs/prometheus/README.md", m[1])
		}
	}
}

func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	tool := os.Getenv("BODYWORN_PROMTOOL")
	if tool == "" {
		var err error
		if tool, err = exec.LookPath("promtool"); err != nil {
			t.Skip("promtool is not there (scripts/test fetches it): what it checks was not checked")
		}
	}
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

// Ready says which of its conditions is missing, and that alone.
func TestReadinessHasReasons(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	check := func(after string, want ...string) {
		t.Helper()
		body, code := get(t, metrics.New(metrics.Build{}, nil).Handler(w.sources()), "/readyz")
		var answer struct {
			Schema  string
			Ready   bool
			Reasons []struct{ Check, Reason string }
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Schema != "ingestd.ready/1" {
			t.Fatalf("after %s: %v in %s", after, err, body)
		}
		var got []string
		for _, r := range answer.Reasons {
			got = append(got, r.Check)
			if r.Reason == "" {
				t.Errorf("after %s: no reason for %s", after, r.Check)
			}
		}
		if ready := len(want) == 0; !slices.Equal(got, want) || answer.Ready != ready || (code == http.StatusOK) != ready {
			t.Errorf("after %s: %d %s, want %v", after, code, body, want)
		}
	}
	check("nothing", ingest.CheckBucket)
	w.must(w.station.Prepare(t.Context()))
	check("a start")
	w.clock = device.StationClock{Why: "no time service"}
	check("the time service has ended", ingest.CheckClock)
	w.clock = device.StationClock{Synchronised: true}
	w.free = 1 << 20
	check("the disk has filled up", ingest.CheckWritable)
	w.free = 1 << 40

	w.server.Kill()
	check("the store has ended", ingest.CheckStore, ingest.CheckBucket)
	files := card(t, map[string]int{"a.mp4": 10})
	if _, err := w.dock("1", files, nil); !errors.Is(err, storage.ErrUnavailable) {
		t.Fatal(err)
	}
	w.server.Start(t)
	check("the store has refused something and is back", ingest.CheckWritable)
	if r, err := w.dock("1", files, nil); err != nil || !r.Safe {
		t.Fatalf("safe %v, %v", r.Safe, err)
	}
	check("it takes something again")
}

func TestAStationThatWasNeverTriedIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fresh, err := journal.Open(t.TempDir(), journal.Own)
	w.must(err)
	t.Cleanup(func() { w.must(fresh.Close()) })
	vault, _ := w.server.Vault(t)
	station := ingest.NewStation(ingest.Config{ID: "TEST-02", Location: time.UTC, PartSize: 5 << 20, BufferMemory: 10 << 20, StationClock: func() device.StationClock { return w.clock }}, vault, fresh, w.evidence(t.TempDir()))
	var missing []string
	for _, c := range station.Ready(t.Context()) {
		if !c.Ready {
			missing = append(missing, c.Name)
		}
	}
	if !slices.Equal(missing, []string{ingest.CheckSelfTest, ingest.CheckBucket}) {
		t.Errorf("missing: %v", missing)
	}
}

func TestSettingsThatWereRefusedAreShown(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Build{}, nil)
	handler := m.Handler(still(nil))
	for _, c := range []struct {
		event string
		want  float64
	}{{"config.refused", 0}, {"config.reloaded", 1}} {
		m.Observe(ingest.Event{Name: c.event})
		scrape, _ := get(t, handler, "/metrics")
		checkValues(t, scrape, map[string]float64{"ingestd_config_last_reload_successful": c.want})
	}
}

// still is a station of which nothing is known; ready may be nil.
func still(ready func(context.Context) []ingest.Check) metrics.Sources {
	if ready == nil {
		ready = func(context.Context) []ingest.Check { return nil }
	}
	return metrics.Sources{
		Ready:           ready,
		Counts:          func(context.Context) (journal.Counts, error) { return journal.Counts{}, errors.New("can't be read") },
		Audit:           func() ([]storage.Finding, time.Time) { return nil, time.Time{} },
		CertificateEnds: func() time.Time { return time.Time{} },
		Clock:           func() device.StationClock { return device.StationClock{} },
		Behind:          func() time.Duration { return 0 },
		Room:            func(context.Context) (ingest.Room, error) { return ingest.Room{}, errors.New("can't be asked") },
		Volumes: map[string]func() (int64, int64, error){
			"store": func() (int64, int64, error) { return 0, 0, errors.New("can't be asked") },
		},
	}
}

// What the console refuses is counted, by patterns and codes; nobody and nothing is named.
func TestRequests(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Build{}, nil)
	for _, r := range []struct {
		route, method string
		status        int
		problem       string
	}{
		{"/admin/sessions", "GET", 200, ""}, {"/admin/sessions", "GET", 503, "ledger_unavailable"}, {"/login", "POST", 403, "wrong_login"}, {"/login", "POST", 429, "too_soon"},
		{"/admin/retention", "POST", 422, ""}, {"/admin/disposal/{plan}/apply", "POST", 409, ""}, {"/admin/disposal/{plan}/apply", "POST", 403, "wrong_password"},
	} {
		m.Request(r.route, r.method, r.status, time.Second, r.problem)
	}
	m.Observe(ingest.Event{Name: "retention.refused", Level: ingest.Alarm})
	s := still(nil)
	free, perDay := int64(100), int64(7)
	s.Room = func(context.Context) (ingest.Room, error) {
		return ingest.Room{FreeBytes: &free, PerDay: &perDay}, nil
	}
	scrape, _ := get(t, m.Handler(s), "/metrics")
	checkValues(t, scrape, map[string]float64{
		"ingestd_auth_failures_total": 3, "ingestd_audit_write_errors_total": 1, `ingestd_retention_refused_total{reason="plan"}`: 2, `ingestd_retention_refused_total{reason="rules"}`: 1,
		`ingestd_http_request_duration_seconds_count{code="200",method="GET",route="/admin/sessions"}`: 1, `ingestd_store_days_left{volume="store"}`: 14,
	})
}

// What can't be found out is left out, and never a zero.
func TestUnknownIsNotZero(t *testing.T) {
	t.Parallel()
	scrape, code := get(t, metrics.New(metrics.Build{}, []string{"1"}).Handler(still(nil)), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d\n%s", code, scrape)
	}
	for _, name := range []string{"sessions", "holds", "retention_expired_sessions", "quarantined_objects", "verify_last_success_timestamp_seconds",
		"bucket_findings", "store_free_bytes", "store_size_bytes", "device_clock_drift_seconds", "device_battery_ratio"} {
		if strings.Contains(scrape, "\ningestd_"+name+"{") || strings.Contains(scrape, "\ningestd_"+name+" ") {
			t.Errorf("ingestd_%s is there, and nobody knows it", name)
		}
	}
}

// However many ask, the store is asked once in a while.
func TestTheStoreIsNotAskedForEachRequest(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	handler := metrics.New(metrics.Build{}, nil).Handler(still(func(context.Context) []ingest.Check {
		asked.Add(1)
		return nil
	}))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { get(t, handler, "/readyz") })
	}
	all.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestMonitoringIsForThisMachine(t *testing.T) {
	t.Parallel()
	handler := metrics.New(metrics.Build{}, nil).Handler(still(nil))
	for _, c := range []struct {
		method, host, path string
		code               int
	}{
		{"GET", "127.0.0.1:9790", "/healthz", 200},
		{"GET", "localhost:9790", "/readyz", 200},
		{"HEAD", "[::1]:9790", "/metrics", 200},
		{"GET", "[::1]", "/healthz", 200},
		{"GET", "station.example.lan:9790", "/metrics", 421},
		{"GET", "127.0.0.1.example.org", "/metrics", 421},
		{"GET", "10.0.0.5:9790", "/readyz", 421},
		{"GET", "", "/readyz", 421},
		{"POST", "127.0.0.1:9790", "/metrics", 405},
		{"DELETE", "127.0.0.1:9790", "/readyz", 405},
		{"GET", "127.0.0.1:9790", "/", 404},
		{"GET", "127.0.0.1:9790", "/metrics/../../etc/passwd", 307},
	} {
		request := httptest.NewRequestWithContext(t.Context(), c.method, "http://x"+c.path, nil)
		request.Host = c.host
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != c.code {
			t.Errorf("%s %s of %q: %d, want %d\n%s", c.method, c.path, c.host, answer.Code, c.code, answer.Body)
		}
	}
}
