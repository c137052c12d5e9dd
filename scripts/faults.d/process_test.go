//go:build faults

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// patience is how long anything may take: many times what it takes on a slow and
// busy machine, and more than ingestd waits for a store.
const patience = 4 * time.Minute

// process is one run of ingestd.
type process struct {
	p         *place
	name      string
	cmd       *exec.Cmd
	out, errs lockedBuffer
	ended     chan struct{} // closed when it has ended
}

// ran is how a process ended: its exit code, or a signal.
type ran struct {
	code   int            // -1: by a signal
	signal syscall.Signal // 0: none
	safe   bool           // it has said that it is safe to undock
	out    string
	errs   string
}

// start starts ingestd with the place's settings; env adds to the environment.
func (p *place) start(env []string, args ...string) *process {
	p.t.Helper()
	return p.startBy(nil, env, args...)
}

// startBy is start below another program, such as a shell that sets a limit.
func (p *place) startBy(wrapper, env []string, args ...string) *process {
	p.t.Helper()
	line := append(append([]string{}, wrapper...), p.k.s.program, "--config", p.path("ingestd.yaml"))
	line = append(line, args...)
	p.started++
	pr := &process{p: p, name: fmt.Sprintf("%d: %s %s", p.started, strings.Join(env, " "), strings.Join(args, " ")), ended: make(chan struct{})}
	pr.cmd = exec.Command(line[0], line[1:]...)
	pr.cmd.Dir, pr.cmd.Env = p.dir, append(os.Environ(), env...)
	pr.cmd.Stdout, pr.cmd.Stderr = &pr.out, &pr.errs
	// What is left of a killed daemon must not keep this one from ending.
	pr.cmd.WaitDelay = time.Second
	// A test that panics ends nothing by itself.
	pr.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := pr.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = pr.cmd.Wait() // how it ended is in ProcessState
		close(pr.ended)
	}()
	return pr
}

// wait waits for the end and notes whether it was said to be safe.
func (pr *process) wait() ran {
	pr.p.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-pr.ended:
	case <-timer.C:
		_ = pr.cmd.Process.Signal(syscall.SIGQUIT) // for its stacks
		select {
		case <-pr.ended:
		case <-time.After(5 * time.Second):
		}
		_ = pr.cmd.Process.Kill() // it may be gone
		<-pr.ended
		pr.p.violate("%s did not end within %s", pr.name, patience)
	}
	status := pr.cmd.ProcessState.Sys().(syscall.WaitStatus)
	r := ran{code: status.ExitStatus(), out: pr.out.String(), errs: pr.errs.String()}
	if status.Signaled() {
		r.code, r.signal = -1, status.Signal()
	}
	r.safe = pr.saidSafe(r)
	pr.sessions()
	if strings.Contains(pr.name, " ingest ") || strings.HasSuffix(pr.name, " run") {
		pr.p.last = r
	}
	if r.safe {
		pr.p.holding.Lock()
		pr.p.claims = append(pr.p.claims, claim{pr.name, maps.Clone(pr.p.now)})
		pr.p.holding.Unlock()
	}
	fmt.Fprintf(&pr.p.log, "---- %s\n%s%s---- exit %d, signal %d, safe %v\n", pr.name, shorten(r.out), r.errs, r.code, r.signal, r.safe)
	return r
}

func shorten(text string) string {
	if len(text) > 3000 {
		return text[:1500] + "\n…\n" + text[len(text)-1500:] + "\n"
	}
	return text
}

// saidSafe tells whether anything that a person, a script or a board would take
// for it said that the recorder may be taken, and whether all of it agrees.
func (pr *process) saidSafe(r ran) bool {
	said := strings.Contains(r.out, `"safe_to_undock": true`) || strings.Contains(r.out, "可以取下")
	for _, e := range pr.events() {
		if e.saysSafe() {
			said = true
		}
	}
	if !strings.Contains(pr.name, " ingest ") {
		return said
	}
	var report struct {
		Safe  bool   `json:"safe_to_undock"`
		State string `json:"state"`
	}
	if r.signal == 0 && len(r.out) > 0 {
		if err := json.Unmarshal([]byte(r.out), &report); err != nil {
			pr.p.violate("%s: its report can't be read: %v", pr.name, err)
		}
	}
	if r.code == 0 && (!report.Safe || report.State != "safe") {
		pr.p.violate("%s: exit 0 with state %q, safe %v", pr.name, report.State, report.Safe)
	}
	if r.signal == 0 && r.code != 0 && report.Safe {
		pr.p.violate("%s: exit %d, and the report says safe", pr.name, r.code)
	}
	return said || r.code == 0
}

// event is a line of the log.
type event struct {
	Event   string `json:"event"`
	Level   string `json:"level"`
	File    string `json:"file"`
	Session string `json:"session"`
	Message string `json:"msg"`
	Err     string `json:"err"`
}

func (e event) saysSafe() bool {
	return e.Event == "ingest.finished" && strings.HasPrefix(e.Message, "safe:")
}

// saysSealed is said at the start, of a session that was cut off while it was
// sealed. The card may have got more files since.
func (e event) saysSealed() bool {
	return strings.HasSuffix(e.Message, ": sealed")
}

// sessions notes which card each session took in, and holds what is said to be
// sealed against the card that was there when it was taken in.
func (pr *process) sessions() {
	p := pr.p
	p.holding.Lock()
	defer p.holding.Unlock()
	for _, e := range pr.events() {
		switch e.Event {
		case "ingest.started", "ingest.resumed":
			p.taken[e.Session] = maps.Clone(p.now)
		case "ingest.finished":
			if card, known := p.taken[e.Session]; known && e.saysSealed() {
				p.claims = append(p.claims, claim{pr.name + ", of " + e.Session, card})
			}
		}
	}
}

func (pr *process) events() (all []event) {
	for _, line := range bytes.Split([]byte(pr.errs.String()), []byte("\n")) {
		var e event
		if json.Unmarshal(line, &e) == nil && e.Event != "" {
			all = append(all, e)
		}
	}
	return all
}

func (pr *process) saw(name string) bool {
	for _, e := range pr.events() {
		if e.Event == name {
			return true
		}
	}
	return false
}

// until waits for something, or for the end of the process; it tells which.
func (pr *process) until(what func() bool) bool {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if what() {
			return true
		}
		select {
		case <-pr.ended:
			return what()
		case <-time.After(10 * time.Millisecond):
		}
	}
	pr.p.violate("%s: waited in vain for %s", pr.name, patience)
	return false
}

// untilSafe waits until a daemon has said that it is safe, or has ended.
func (pr *process) untilSafe() bool {
	return pr.until(func() bool {
		for _, e := range pr.events() {
			if e.saysSafe() {
				return true
			}
		}
		return false
	})
}

func (pr *process) signal(s syscall.Signal) {
	_ = pr.cmd.Process.Signal(s) // it may have ended
}

// ingest runs `ingestd ingest` on the card to its end.
func (p *place) ingest(env []string) ran {
	p.t.Helper()
	return p.start(env, "ingest", "-o", "json", p.path(cardDir)).wait()
}

// storePID is the process of the embedded store, 0 if there is none.
func (p *place) storePID() int {
	body, err := os.ReadFile(p.path("store/lock"))
	if err != nil {
		return 0
	}
	var pid int
	if _, err := fmt.Sscan(string(body), &pid); err != nil || pid < 2 {
		return 0
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.Contains(args, []byte(filepath.Join(p.dir, "store"))) {
		return 0 // an old number
	}
	return pid
}
