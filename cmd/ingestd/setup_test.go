package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/configs"
)

// setup runs ingestd setup with typed lines or, where there are none, answers.
func (p *place) setup(typed, answers string) (string, int) {
	p.t.Helper()
	args := []string{"setup"}
	if answers != "" {
		p.write("answers.yaml", answers)
		args = append(args, "--answers", p.path("answers.yaml"))
	}
	cmd := p.command(args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(typed), &out, &out
	// A shell's own settings are not the service's.
	cmd.Env = append(cmd.Env, "INGESTD_RETENTION_MONTHS=99")
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func newSetupPlace(t *testing.T) *place {
	t.Helper()
	p := newPlace(t, "")
	if err := os.Remove(p.path("ingestd.yaml")); err != nil {
		t.Fatal(err)
	}
	return p
}

// settled are the settings that setup wrote, by key. Its state is in the place's own
// folder, which no question asks for.
func (p *place) settled() map[string]string {
	p.t.Helper()
	cfg, err := configs.Load(p.path("ingestd.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	values := map[string]string{}
	for _, s := range cfg.Effective() {
		values[s.Key] = s.Value
	}
	return values
}

const answersOfATest = `
language: en
station.id: 0412
station.name: '县局 "一楼"'
storage.embedded.root: store
slots: 1=1-2.1, 2=1-2.2
try: no
`

func TestSetupFromAnswers(t *testing.T) {
	t.Parallel()
	p := newSetupPlace(t)
	out, code := p.setup("", answersOfATest)
	if code != 3 || !strings.Contains(out, "what is missing is listed above") {
		t.Errorf("exit %d, want 3: nothing was tried yet\n%s", code, out)
	}
	got := p.settled()
	for key, want := range map[string]string{
		"station.id": "0412", "station.name": `县局 "一楼"`, "station.timezone": "Asia/Shanghai", "storage.kind": "embedded",
		"storage.embedded.root": p.path("store"), "usb.watch": "slots", "usb.slots[1].port": "1-2.2", "retention.months": "6",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	text, err := os.ReadFile(p.path("ingestd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "#"); n < 100 {
		t.Errorf("only %d comments are left", n)
	}
	if _, err := os.Stat(p.path("store")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the store was touched although it was not to be tried: %v", err)
	}
}

// Nothing is written unless all is answered well, and nothing waits for what can't come.
func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typed, answers string
		code           int
		says           string
	}{
		"no id":              {"", "language: en", 2, "station.id"},
		"a bad id":           {"", "station.id: a/b", 2, "letters"},
		"the reserved id":    {"", "station.id: ingestd-selftest", 2, "reserved"},
		"a bad zone":         {"", "station.id: A\nstation.timezone: Mars/Olympus", 2, "station.timezone"},
		"a relative store":   {"", "station.id: A\nstorage.embedded.root: ''\nstorage.kind: tape", 2, "none of embedded, s3"},
		"a slip":             {"", "station.id: A\nretention.month: 12", 2, "retention.month"},
		"a list":             {"", "station.id: [A]", 2, "line 1"},
		"one slot twice":     {"", "station.id: A\nslots: 1=1-2 2=1-2", 6, "usb.slots[1].port is that of usb.slots[0] too"},
		"no port":            {"", "station.id: A\nslots: 1=", 2, "NAME=VALUE"},
		"a secret":           {"", "station.id: A\nstorage.kind: s3\nstorage.s3.endpoint: s3.example:443\naccess_key: X", 2, "access_key"},
		"ends in the middle": {"en\nA-1\n", "", 1, "the input ended at the question station.name"},
		"nothing at all":     {"", "", 1, "the input ended"},
	} {
		p := newSetupPlace(t)
		out, code := p.setup(c.typed, c.answers)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit %d, want %d and %q\n%s", name, code, c.code, c.says, out)
		}
		left, err := filepath.Glob(p.path("*ingestd.yaml*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

// Settings that are there are safe from an empty answer. After a yes, what the questions
// do not ask for stays as it was, a longer retention above all, and the old file is kept.
func TestSetupReplacesOnlyAfterAYes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	old := fmt.Sprintf("station: {id: OLD-1, name: 旧}\nretention: {months: 36}\nstate_dir: %s\nsources: [{path: %s, kind: folder, slot: X}]\n", p.path("state"), p.path("drop"))
	p.write("ingestd.yaml", old)
	read := func(name string) string {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for _, c := range [][2]string{{"en\n\n", ""}, {"en\nno\n", ""}, {"", "station.id: NEW-1"}} {
		if out, code := p.setup(c[0], c[1]); code != 4 || read(p.path("ingestd.yaml")) != old {
			t.Errorf("%q: exit %d, want 4, and the file now:\n%s\n%s", c, code, read(p.path("ingestd.yaml")), out)
		}
	}
	out, code := p.setup("", fmt.Sprintf("replace: yes\nstation.name: 新\nstorage.embedded.root: %s\ntry: yes\nrecorders: NMQ0007=150525 NMQ0008\n", p.path("store")))
	if code != 0 && code != 3 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	got := p.settled()
	for key, want := range map[string]string{"station.id": "OLD-1", "station.name": "新", "retention.months": "36", "sources[0].slot": "X", "state_dir": p.path("state")} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	kept, err := filepath.Glob(p.path("ingestd.yaml.2*"))
	if err != nil || len(kept) != 1 || read(kept[0]) != old {
		t.Errorf("the old settings are not kept: %v, %v", kept, err)
	}
	// It was tried: the key is made, and both recorders are in the register.
	if !strings.Contains(out, "fingerprint") || !regexp.MustCompile(`NMQ0007\s+150525[\s\S]*NMQ0008`).MatchString(p.must("recorders", "list")) {
		t.Errorf("no key or no recorders:\n%s", out)
	}
	p.must("config", "check")
}

// The first administrator can log in when setup has ended, and nobody has seen his password.
func TestSetupMakesTheFirstAdministrator(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "station: {id: OLD-1}\nstate_dir: state\n") // not where the service of this machine has it
	p.write("password", "correct horse battery\n")
	out, code := p.setup("", "replace: yes\nstorage.embedded.root: "+p.path("store")+"\ntry: no\nadministrator: wulan\nadministrator.password_file: "+p.path("password")+"\n")
	if code != 3 || strings.Contains(out, "horse") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if got := p.settled()["admin.listen"]; got != "127.0.0.1:8443" {
		t.Errorf("the console listens on %q", got)
	}
	if out := p.must("user", "list"); !regexp.MustCompile(`wulan\s+admin`).MatchString(out) {
		t.Errorf("%s", out)
	}
	for name, more := range map[string]string{
		"no password": "administrator: wulan\n", "a bad one": "administrator: wulan\nadministrator.password_file: " + p.path("ingestd.yaml") + "x\n", "a bad name": "administrator: 'a b'\nadministrator.password_file: " + p.path("password") + "\n",
	} {
		p := newSetupPlace(t)
		if out, code := p.setup("", answersOfATest+more); code == 0 || code == 3 {
			t.Errorf("%s: exit %d\n%s", name, code, out)
		}
		if left, err := filepath.Glob(p.path("*ingestd.yaml*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

// On a terminal the keys of the store are not seen, and a wrong answer is asked for again.
func TestSetupOnATerminal(t *testing.T) {
	t.Parallel()
	p := newSetupPlace(t)
	ptmx, tty := openTerminal(t)
	cmd := p.command("setup")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	screen, answered := "", 0 // how much of the screen was there when the last answer was typed
	piece := make([]byte, 4096)
	more := func() bool {
		t.Helper()
		if err := ptmx.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, err := ptmx.Read(piece)
		screen += string(piece[:n])
		return err == nil
	}
	for _, step := range [][2]string{
		{"language", "en"},
		{"station id", "a b"},
		{"✗", "T-1"},
		{"name of the station", ""},
		{"time zone, in", ""},
		{"storage (embedded, s3)", "s3"},
		{"without https", "127.0.0.1:1"},
		{"authority", ""},
		{"bucket", ""},
		{"file with its keys", ""},
		{"access key (not shown)", "AKIA-SEEN"},
		{"secret key (not shown)", "SECRET-SEEN"},
		{"slots:", "0"},
		{"recorders", ""},
		{"try the store", "no"},
		{"first administrator", "wulan"},
		{"at least 12", "PASSWORD-SEEN correct"},
		{"same again", "PASSWORD-SEEN correct"},
	} {
		for !strings.Contains(screen[answered:], step[0]) {
			if !more() {
				t.Fatalf("it ended before it asked for %q:\n%s", step[0], screen)
			}
		}
		answered = len(screen)
		// The prompt comes a moment before the terminal stops showing what is typed.
		for tries := 0; strings.Contains(step[1], "-SEEN") && tries < 300; tries++ {
			if mode, err := unix.IoctlGetTermios(int(ptmx.Fd()), unix.TCGETS); err != nil {
				t.Fatal(err)
			} else if mode.Lflag&unix.ECHO == 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if _, err := ptmx.WriteString(step[1] + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	for more() {
	}
	_ = cmd.Wait() // 3: the store is not there
	if strings.Contains(screen, "-SEEN") {
		t.Errorf("a key is on the screen:\n%s", screen)
	}
	keys, err := os.ReadFile(p.path("s3.keys"))
	if want := "access_key: AKIA-SEEN\nsecret_key: SECRET-SEEN\n"; err != nil || string(keys) != want {
		t.Errorf("s3.keys: %q, %v\n%s", keys, err, screen)
	}
	if info, err := os.Stat(p.path("s3.keys")); err != nil || info.Mode().Perm()&0o037 != 0 {
		t.Errorf("s3.keys is open to others: %v, %v", info.Mode(), err)
	}
}

// openTerminal is a pair as pty(7) has it.
func openTerminal(t *testing.T) (ptmx, tty *os.File) {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no terminal can be made here: %v", err)
	}
	t.Cleanup(func() { ptmx.Close() })
	number := 0
	raw, err := ptmx.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) {
			if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
				number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
			}
		}), err)
	}
	if err != nil {
		t.Skipf("no terminal can be made here: %v", err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skipf("no terminal can be made here: %v", err)
	}
	return ptmx, tty
}
