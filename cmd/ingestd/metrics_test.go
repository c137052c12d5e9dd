package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freeAddress gives an address that was free just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func withMetrics(listen string) string {
	return strings.Replace(testConfig, `metrics: {listen: ""}`, fmt.Sprintf("metrics: {listen: '%s'}", listen), 1)
}

func ask(t *testing.T, url string) (body string, code int) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), answer.StatusCode
}

// A running daemon answers monitoring, with all that alerts and dashboard ask for but
// what it can't know yet.
func TestADaemonIsMonitored(t *testing.T) {
	t.Parallel()
	listen := freeAddress(t)
	p := newPlace(t, withMetrics(listen))
	d := p.startDaemon()
	p.write("drop/card1/a.mp4", "footage")
	d.waitFor(`"event":"ingest.finished","slot":"card1"`)

	scrape, code := ask(t, "http://"+listen+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d\n%s", code, scrape)
	}
	for _, want := range []string{
		`ingestd_ingest_bytes_total{slot="other"} 7`, `ingestd_ingest_sessions_total{result="safe"} 1`, `ingestd_sessions{state="sealed"} 1`,
		`ingestd_slot_state{slot="other",state="safe"} 1`, `ingestd_events_total{event="daemon.ready",level="info"} 1`,
		`ingestd_ready{check="store"} 1`, `ingestd_ready{check="bucket"} 1`, `ingestd_ready{check="lock_self_test"} 1`, `ingestd_store_free_bytes{volume="state"}`,
	} {
		if !strings.Contains(scrape, "\n"+want) {
			t.Errorf("no %s in\n%s", want, scrape)
		}
	}
	if strings.Contains(scrape, "card1") || strings.Contains(scrape, "a.mp4") {
		t.Errorf("a name of a folder or file is in\n%s", scrape)
	}
	unknown := map[string]bool{ // no clock, no battery, nothing was read again, no console
		"ingestd_console_certificate_not_after_timestamp_seconds": true,
		"ingestd_device_clock_drift_seconds":                      true, "ingestd_device_battery_ratio": true, "ingestd_verify_last_success_timestamp_seconds": true,
	}
	for _, file := range []string{"../../configs/prometheus/alerts.yml", "../../configs/grafana/ingestd.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\b(?:ingestd|process)_[a-z_]+`).FindAllString(string(text), -1) {
			if !unknown[name] && !regexp.MustCompile(`(?m)^`+name+`[ {]`).MatchString(scrape) {
				t.Errorf("%s asks for %s, which is not there", filepath.Base(file), name)
			}
		}
	}

	if body, code := ask(t, "http://"+listen+"/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d %s", code, body)
	}
	body, code := ask(t, "http://"+listen+"/readyz")
	var ready struct {
		Ready   bool
		Reasons []struct{ Check string }
	}
	if err := json.Unmarshal([]byte(body), &ready); err != nil || ready.Ready != (code == http.StatusOK) {
		t.Errorf("readyz: %d %s (%v)", code, body, err)
	}
	for _, r := range ready.Reasons { // a machine for tests may have no time service
		if r.Check != "station_clock" {
			t.Errorf("readyz: %s", body)
		}
	}

	// A request that is never ended does not hold the daemon up when it is told to stop.
	slow, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprint(slow, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n")
	if code := d.stop(); code != exitDone {
		t.Errorf("exit %d\n%s", code, d.log())
	}
}

// Monitoring that can't be served is told, and nothing waits for it.
func TestATakenPortStopsNothing(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p := newPlace(t, withMetrics(taken.Addr().String()))
	d := p.startDaemon()
	d.waitFor(`"level":"error","event":"metrics.trouble"`)
	p.write("drop/card1/a.mp4", "footage")
	d.waitFor(`"event":"ingest.finished","slot":"card1"`)
	if code := d.stop(); code != exitDone {
		t.Errorf("exit %d\n%s", code, d.log())
	}
}

func TestMonitoringOfOtherMachinesIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t, withMetrics("0.0.0.0:9790"))
	out, errs, code := p.run("run")
	if code != exitConfig || !strings.Contains(errs, "metrics.listen") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

// Where systemd's journal reads the log, each line has its priority before it, and JSON
// behind; where it was led elsewhere, it is JSON alone.
func TestTheJournalIsToldThePriority(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, format string
		mine         bool // whether JOURNAL_STREAM is the daemon's own
		prefixed     bool
	}{
		{"the journal's stream", "auto", true, true},
		{"the variable of another stream", "auto", false, false},
		{"asked for", "journal", false, true},
		{"not asked for", "json", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, testConfig+"log: {format: "+c.format+"}\n")
			cmd := p.command("run", "--check-only")
			log, err := os.Create(p.path("log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			var st syscall.Stat_t
			if err := syscall.Fstat(int(log.Fd()), &st); err != nil {
				t.Fatal(err)
			}
			if !c.mine {
				st.Ino++
			}
			cmd.Stderr = log
			cmd.Env = append(cmd.Env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
			if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != exitFindings {
				t.Fatal(err)
			}
			text, err := os.ReadFile(p.path("log"))
			if err != nil {
				t.Fatal(err)
			}
			lines := 0
			for line := range strings.Lines(string(text)) {
				if !strings.Contains(line, `"event":`) {
					continue // of the store, or of main
				}
				lines++
				start := strings.IndexByte(line, '{')
				var event struct{ Level, Event, Time string }
				if err := json.Unmarshal([]byte(line[start:]), &event); err != nil {
					t.Errorf("%v in %q", err, line)
					continue
				}
				want := ""
				if c.prefixed {
					want = map[string]string{"info": "<6>", "warn": "<4>", "error": "<3>"}[event.Level]
				}
				if line[:start] != want {
					t.Errorf("want %q before the JSON of %q", want, line)
				}
				if at, err := time.Parse(time.RFC3339, event.Time); err != nil || !regexp.MustCompile(`\.\d{3}Z$`).MatchString(event.Time) || at.IsZero() {
					t.Errorf("time %q: %v", event.Time, err)
				}
			}
			if lines < 2 {
				t.Errorf("only %d events in\n%s", lines, text)
			}
		})
	}
}

// The example for rsyslog is what rsyslog takes.
func TestLoggingExamples(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("BODYWORN_RSYSLOG")
	if dir == "" {
		t.Skip("rsyslog is not there (scripts/test fetches it): its example was not checked")
	}
	modules, err := filepath.Glob(filepath.Join(dir, "usr/lib/*/rsyslog"))
	if err != nil || len(modules) != 1 {
		t.Fatalf("modules of rsyslog: %v, %v", modules, err)
	}
	example, err := os.ReadFile("../../configs/logging/rsyslog.conf")
	if err != nil {
		t.Fatal(err)
	}
	spoilt := filepath.Join(t.TempDir(), "spoilt.conf")
	if err := os.WriteFile(spoilt, bytes.Replace(example, []byte("omfwd"), []byte("omnothing"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, good := range map[string]bool{"../../configs/logging/rsyslog.conf": true, spoilt: false} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "usr/sbin/rsyslogd"), "-N1", "-M", modules[0], "-f", file)
		cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Dir(modules[0]))
		if out, err := cmd.CombinedOutput(); (err == nil) != good {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
