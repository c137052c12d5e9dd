package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The demo is a station: what it calls safe is in its store, and what it shows says 演示.
func TestDemo(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	board, console := freeAddress(t), freeAddress(t)
	dir := p.path("demo")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &daemon{p: p, file: p.path("demo.log"), cmd: p.command("demo", "--slots", "4", "--speed", "40", "--board", board, "--console", console, "--dir", dir,
		"--fault", "pull:1@40%,badcard:2,stranger:3,deleted:4")}
	f, err := os.Create(d.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d.cmd.Stderr = f
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	inDemo := func(args ...string) string {
		return p.must(append([]string{"--config", filepath.Join(dir, "ingestd.yaml")}, args...)...)
	}
	d.waitFor("board 大屏     http://%s/", board)
	for _, event := range []string{`"event":"slot.removed_early","slot":"1"`, `"event":"ingest.failed","slot":"2"`, `"event":"device.unknown","slot":"3"`} {
		d.waitFor("%s", event)
	}
	for _, recorder := range []string{"DSJ-0401", "DSJ-0404"} {
		deadline := time.Now().Add(time.Minute)
		for !sealedOf(inDemo("sessions", "list"), recorder) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not sealed:\n%s\n%s", recorder, inDemo("sessions", "list"), d.log())
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	if out := inDemo("verify", "--all"); !strings.Contains(out, "0 findings") {
		t.Errorf("verify says\n%s", out)
	}
	for recorder, want := range map[string]string{"DSJ-0401": "no sign 无记录中断迹象 in", "DSJ-0404": "missing 缺号 101 between"} {
		if out := inDemo("sessions", "show", firstOf(t, inDemo("sessions", "list", "--recorder", recorder, "-o", "json"))); !strings.Contains(out, want) {
			t.Errorf("of gaps, %s is not told of %s:\n%s", want, recorder, out)
		}
	}
	for _, url := range []string{"http://" + board + "/", "http://" + console + "/login"} {
		if body, _ := ask(t, url); !strings.Contains(body, "演示") {
			t.Errorf("%s does not say that it is a demo:\n%s", url, body)
		}
	}
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v:\n%s", err, d.log())
	}
	for _, wrong := range [][]string{{"--fault", "fire:1"}, {"--slots", "0"}, {"--slots", "2", "--fault", "free:3"}, {"--speed", "0"}} {
		if _, errs, code := p.run(append([]string{"demo", "--dir", p.path("other")}, wrong...)...); code != exitUsage {
			t.Errorf("%q: exit %d\n%s", wrong, code, errs)
		}
	}
	if _, errs, code := p.run("demo", "--dir", dir); code != exitFailed || !strings.Contains(errs, "no demo was") {
		t.Errorf("in the folder of another demo: exit %d\n%s", code, errs)
	}
}

// sealedOf tells whether a session of the recorder is sealed.
func sealedOf(list, recorder string) bool {
	for line := range strings.Lines(list) {
		if strings.Contains(line, recorder) && strings.Contains(line, "sealed") {
			return true
		}
	}
	return false
}

// firstOf gives the earliest session of a list in JSON.
func firstOf(t *testing.T, list string) string {
	t.Helper()
	var all struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(list), &all); err != nil || len(all.Items) == 0 {
		t.Fatalf("%v in %s", err, list)
	}
	return all.Items[len(all.Items)-1].ID
}
