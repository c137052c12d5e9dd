package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runAsProgram makes the test binary be ingestd itself: what is tested is a real
// process with a real store process below it, and it can be killed.
const runAsProgram = "BODYWORN_RUN_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(runAsProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// place is a folder with a configured station in it.
type place struct {
	t   *testing.T
	dir string
}

const testConfig = `
station: {id: TEST-01}
state_dir: state
storage:
  embedded: {root: store}
  part_size: 5MiB
  buffer_memory: 32MiB
ingest: {settle: 300ms}
board: {listen: ""}
metrics: {listen: ""}
sources:
  - {path: drop, kind: folder}
`

func newPlace(t *testing.T, config string) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir()}
	p.write("ingestd.yaml", config)
	if err := os.Mkdir(p.path("drop"), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) write(name, content string) {
	p.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(p.path(name)), 0o700), os.WriteFile(p.path(name), []byte(content), 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

// command is ingestd with the place's settings, not started.
func (p *place) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"--config", p.path("ingestd.yaml")}, args...)...)
	if exe, err := os.Executable(); err == nil {
		cmd.Path = exe
	}
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), runAsProgram+"=1")
	return cmd
}

// run runs ingestd to its end.
func (p *place) run(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := p.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (p *place) must(args ...string) string {
	p.t.Helper()
	out, errs, code := p.run(args...)
	if code != 0 {
		p.t.Fatalf("ingestd %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// ingest gives the report of an ingest that ends with the wanted code.
func (p *place) ingest(want int, args ...string) reportJSON {
	p.t.Helper()
	out, errs, code := p.run(append([]string{"ingest", "-o", "json"}, args...)...)
	if code != want {
		p.t.Fatalf("ingest %v: exit %d, want %d\n%s%s", args, code, want, out, errs)
	}
	var r reportJSON
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		p.t.Fatalf("%v in %s", err, out)
	}
	return r
}

func (p *place) verify(want int, args ...string) (findings []string) {
	p.t.Helper()
	out, errs, code := p.run(append([]string{"verify", "-o", "json"}, args...)...)
	if code != want {
		p.t.Errorf("verify %v: exit %d, want %d\n%s%s", args, code, want, out, errs)
	}
	var v struct {
		Findings []struct{ Problem, Key, Session string }
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		p.t.Fatalf("%v in %s", err, out)
	}
	for _, f := range v.Findings {
		findings = append(findings, f.Problem+" "+filepath.Base(f.Key))
	}
	return findings
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"version", 0, "ingestd"},
		{"--help", 0, "may be taken"},
		{"completion bash", 0, "bash completion"},
		{"config check", 0, "valid"},
		{"config show", 0, "station.id"},
		{"retention show", 0, "第十一条"},
		{"recorders list", 0, "SERIAL"},
		{"sessions list", 0, "SESSION"},
		{"run --check-only", 0, "ready"},
		{"ingest card", 0, "可以取下"},
		{"verify --all", 0, "0 findings"},
		{"", 0, "Usage"},
		{"nonsense", 2, "unknown command"},
		{"ingest", 2, "accepts 1 arg"},
		{"ingest card --nonsense", 2, "unknown flag"},
		{"ingest ingestd.yaml", 2, "not a directory"},
		{"ingest .", 2, "no footage"},
		{"ingest store/data", 2, "no footage"},
		{"-o xml version", 2, "table or json"},
		{"sessions", 2, "list"},
		{"verify", 2, "--all"},
		{"verify --all X", 2, "not both"},
		{"recorders add 000000", 2, "names no recorder"},
		{"ingest nowhere", 5, "no such file"},
		{"sessions show nowhere", 5, "not found"},
		{"verify nowhere", 5, "not found"},
		{"--config nowhere.yaml config check", 6, "nowhere.yaml"},
	} {
		out, errs, code := p.run(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("ingestd %s: exit %d, want %d, with %q in\n%s%s", c.args, code, c.code, c.says, out, errs)
		}
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ config, env, says string }{
		"typo":           {testConfig + "storge: {}\n", "", "storge"},
		"below floor":    {testConfig + "retention: {months: 5}\n", "", "第十一条"},
		"floor from env": {testConfig, "INGESTD_RETENTION_MONTHS=5", "第十一条"},
		"unknown env":    {testConfig, "INGESTD_RETENTION_MONTH=7", "INGESTD_RETENTION_MONTH"},
		"secret":         {testConfig + "secret_key: x\n", "", "secret"},
		"not YAML":       {"station: [\n", "", "ingestd.yaml"},
	} {
		p := newPlace(t, c.config)
		p.write("card/a.mp4", "footage")
		cmd := p.command("ingest", "card")
		if c.env != "" {
			cmd.Env = append(cmd.Env, c.env)
		}
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != exitConfig || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: exit %d (%v), want %d, with %q in\n%s", name, code, err, exitConfig, c.says, out)
		}
		if _, err := os.Stat(p.path("store")); err == nil {
			t.Errorf("%s: the store was made all the same", name)
		}
	}
}

func TestJSONIsEmptyListsNotNull(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	for _, args := range []string{"sessions list", "recorders list"} {
		out := p.must(append(strings.Fields(args), "-o", "json")...)
		if !strings.Contains(strings.Join(strings.Fields(out), ""), `"items":[]`) {
			t.Errorf("%s: %s", args, out)
		}
	}
	if out := p.must("verify", "--all", "-o", "json"); !strings.Contains(strings.Join(strings.Fields(out), ""), `"findings":[]`) {
		t.Errorf("verify: %s", out)
	}
}

func TestNothingOfACardReachesTheTerminalAsControl(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/\x1b[2Jgone.mp4", "footage")
	if err := os.Symlink("/etc\x1b[31m", p.path("card/\nlink")); err != nil {
		t.Fatal(err)
	}
	out, errs, code := p.run("ingest", "card")
	shown := p.must("sessions", "show", p.ingest(0, "card").Session.ID)
	if code != 0 || strings.Contains(out+errs+shown, "\x1b") {
		t.Errorf("exit %d; escape sequences of a card's names in\n%q", code, out+errs+shown)
	}
}

func TestPartialIngestIsAFindingNotASuccess(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		// Root reads everything; a directory that can't be listed is made by
		// running as somebody else.
		runAsNobody(t)
		return
	}
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.write("card/b.mp4", "footage")
	if err := os.Chmod(p.path("card/b.mp4"), 0); err != nil {
		t.Fatal(err)
	}
	r := p.ingest(exitFindings, "card")
	if r.Safe || r.State != "failed" || r.Stored != 1 || r.NotStored != 1 {
		t.Errorf("safe %v, state %s, %d stored, %d not", r.Safe, r.State, r.Stored, r.NotStored)
	}
	out, _, code := p.run("ingest", "card")
	if code != exitFindings || strings.Contains(out, "可以取下") || !strings.Contains(out, "请勿取下") || !strings.Contains(out, "b.mp4") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// runAsNobody runs the calling test again as a user without rights.
func runAsNobody(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "test")
	if err := errors.Join(os.WriteFile(mine, binary, 0o755), os.Chmod(mine, 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(mine, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

func TestASecondOwnerIsRefusedAndReadersAreNot(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	d := p.startDaemon()
	if _, errs, code := p.run("ingest", "card"); code != exitLocked {
		t.Errorf("ingest beside the daemon: exit %d\n%s", code, errs)
	}
	if _, errs, code := p.run("run"); code != exitLocked {
		t.Errorf("a second daemon: exit %d\n%s", code, errs)
	}
	p.must("sessions", "list")
	p.must("recorders", "add", "NMQ0007", "--officer", "150525")
	p.must("verify", "--all")
	if code := d.stop(); code != 0 {
		t.Errorf("the daemon ended with %d:\n%s", code, d.log())
	}
	p.ingest(0, "card")
}

func TestDaemonTakesInWhatAppearsAndStopsCleanly(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	d := p.startDaemon()
	for i := range 3 {
		p.write(fmt.Sprintf("drop/card%d/a.mp4", i), strings.Repeat("footage", 1000+i))
	}
	for i := range 3 {
		d.waitFor(`"event":"ingest.finished","slot":"card%d"`, i)
	}
	p.write("drop/card1/b.mp4", "more")
	d.waitFor(`safe: 2 files, 1 stored, 1 identical`)
	if err := os.RemoveAll(p.path("drop/card2")); err != nil {
		t.Fatal(err)
	}
	d.waitFor(`"event":"slot.removed","slot":"card2"`)
	if code := d.stop(); code != 0 {
		t.Errorf("SIGTERM: exit %d\n%s", code, d.log())
	}
	if found := p.verify(0, "--all"); len(found) != 0 {
		t.Errorf("found %v", found)
	}
	if out := p.must("sessions", "list"); strings.Count(out, " sealed ") != 4 {
		t.Errorf("sessions:\n%s", out)
	}
}

// daemon is a running `ingestd run`.
type daemon struct {
	p    *place
	cmd  *exec.Cmd
	file string
}

func (p *place) startDaemon(env ...string) *daemon {
	p.t.Helper()
	d := &daemon{p: p, cmd: p.command("run"), file: p.path("daemon.log")}
	f, err := os.OpenFile(d.file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	d.cmd.Stderr, d.cmd.Stdout = f, f
	d.cmd.Env = append(d.cmd.Env, env...)
	if err := d.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	d.waitFor(`"event":"daemon.ready"`)
	return d
}

func (d *daemon) log() string {
	body, err := os.ReadFile(d.file)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func (d *daemon) waitFor(format string, args ...any) {
	d.p.t.Helper()
	want := fmt.Sprintf(format, args...)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(d.log(), want); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.p.t.Fatalf("the daemon did not say %s:\n%s", want, d.log())
		}
	}
}

func (d *daemon) stop() int {
	d.p.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.p.t.Fatal(err)
	}
	_ = d.cmd.Wait() // its code is what counts
	return d.cmd.ProcessState.ExitCode()
}
