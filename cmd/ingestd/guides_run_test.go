package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guideStation is a station of which a guide's commands are true: with footage, a key, and
// programs of the machine that do nothing in the place of those that would change it.
type guideStation struct {
	*place
	session string
}

func newGuideStation(t *testing.T) *guideStation {
	t.Helper()
	if testing.Short() {
		t.Skip("it tries the lock of the store, which takes long")
	}
	p := newPlace(t, strings.Replace(testConfig, "TEST-01", "STATION", 1))
	s := &guideStation{place: p}
	for _, r := range []string{"R1", "R2"} {
		p.write("card-"+r+"/a.mp4", "footage "+r)
		s.session = p.ingest(0, "card-"+r, "--recorder", r, "--officer", "150525").Session.ID
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.write("bin/ingestd", fmt.Sprintf("#!/bin/sh\n%s=1 exec %s --config %s \"$@\"\n", runAsProgram, exe, p.path("ingestd.yaml")))
	p.write("bin/sudo", "#!/bin/sh\n[ \"$1\" != -u ] || shift 2\nexec \"$@\"\n")
	for _, other := range []string{"systemctl", "sudoedit", "journalctl", "chown"} { // the machine's
		p.write("bin/"+other, "#!/bin/sh\nexit 0\n")
	}
	// The owners of files are the package's, which this machine does not have.
	p.write("bin/install", "#!/bin/bash\nargs=()\nwhile [ $# -gt 0 ]; do case $1 in -o | -g) shift 2 ;; *) args+=(\"$1\") && shift ;; esac; done\nexec /usr/bin/install \"${args[@]}\"\n")
	programs, err := filepath.Glob(p.path("bin/*"))
	for _, file := range programs {
		err = errors.Join(err, os.Chmod(file, 0o755))
	}
	// What a person has from elsewhere: the documents of a session, and copies of the key.
	for to, from := range map[string]string{"station.pub": "state/station.key.pub", "allowed_signers": "state/allowed_signers", "station.key": "state/station.key"} {
		text, readErr := os.ReadFile(p.path(from))
		p.write(to, string(text))
		err = errors.Join(err, readErr)
	}
	prefix := strings.TrimSuffix(regexp.MustCompile(`"prefix": "([^"]*)"`).FindStringSubmatch(p.must("sessions", "show", s.session, "-o", "json"))[1], "/")
	err = errors.Join(err, os.CopyFS(p.path("session"), os.DirFS(p.path("store/data/footage/"+prefix))),
		os.CopyFS(p.path("STATION/ledger"), os.DirFS(p.path("store/data/footage/STATION/ledger"))))
	if err != nil {
		t.Fatal(err)
	}
	p.write("etc/ingestd.yaml", strings.NewReplacer("state_dir: state", "state_dir: "+p.path("state"), "root: store", "root: "+p.path("store"), "path: drop", "path: "+p.path("drop")).
		Replace(strings.Replace(testConfig, "TEST-01", "STATION", 1)))
	p.write("checkpoint.txt", p.must("ledger", "checkpoint"))
	return s
}

// here puts the place of the test where a guide has that of a machine.
func (s *guideStation) here(line string) string {
	hold := "H-none"
	if m := regexp.MustCompile(`"id": "(H[^"]*)"`).FindStringSubmatch(s.must("hold", "list", "-o", "json")); m != nil {
		hold = m[1]
	}
	return strings.NewReplacer(
		"/etc/ingestd/", s.path("etc")+"/", "/var/lib/ingestd", s.path("state"), "/usr/share/doc/ingestd/examples/", mustAbs("../../configs")+"/", "/tmp/", s.dir+"/",
		"20261124-192012-awtywm5l", s.session, "SESSION", s.session, "H…", hold, "P…", "P-none", "prove 1234", "prove 1", "--to 2026-11-24", "--to 2099-12-31",
	).Replace(line)
}

func mustAbs(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return abs
}

// otherwise is what a line of a guide ends with where that can't be 0 here, and why.
var otherwise = []struct {
	line *regexp.Regexp
	code int
	why  string
}{
	{regexp.MustCompile(`--credentials`), exitUsage, "the embedded store has one key, and another one can't be given"},
	{regexp.MustCompile(`retention apply`), exitUsage, "it is confirmed on a terminal, which is not here"},
	{regexp.MustCompile(`P-none`), exitNotFound, "nothing here is six months old, and so there is no plan"},
	{regexp.MustCompile(`user add`), exitUsage, "the password is asked for on a terminal, which is not here"},
	{regexp.MustCompile(`user (passwd|disable)`), exitNotFound, "so there is no account"},
	{regexp.MustCompile(`doctor`), exitFindings, "no time service keeps the clock of a test, and no unit is installed"},
}

// skipped are lines that are not run, and why.
var skipped = []struct {
	line *regexp.Regexp
	why  string
}{
	{regexp.MustCompile(`^scripts/package|apt-get`), "scripts/package.d/check does it, in a Debian of its own"},
	{regexp.MustCompile(`ingestd (setup|slots learn)`), "it asks a person; setup_test.go and scripts/e2e do it"},
	{regexp.MustCompile(`^curl|journalctl`), "no daemon runs; metrics_test.go does it"},
	{regexp.MustCompile(`tar .* keys`), "the key was not changed before, so that there is no folder keys"},
	{regexp.MustCompile(`s3\.keys`), "there is no S3 server"},
}

// follow runs the shell lines of a guide in their order.
func (s *guideStation) follow(doc string, before func(line string)) (ran int) {
	t := s.t
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", doc))
	if err != nil {
		t.Fatal(err)
	}
	fenced := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			fenced = line == "```sh"
			continue
		}
		if !fenced || line == "" {
			continue
		}
		if i := slices.IndexFunc(skipped, func(o struct {
			line *regexp.Regexp
			why  string
		}) bool {
			return o.line.MatchString(line)
		}); i >= 0 {
			t.Logf("not run: %s: %s", line, skipped[i].why)
			continue
		}
		before(line)
		here, want := s.here(line), 0
		for _, o := range otherwise {
			if o.line.MatchString(here) {
				want = o.code
				break
			}
		}
		cmd := exec.Command("bash", "-c", here)
		cmd.Dir = s.dir
		cmd.Env = append(os.Environ(), "PATH="+s.path("bin")+":"+os.Getenv("PATH"))
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%s: `%s` ends with %d, want %d:\n%s", doc, line, code, want, said.String())
		}
		ran++
	}
	return ran
}

// Who follows the administrator's guide to the letter, from the first line to the
// station whose disk is gone, gets what it says.
func TestTheAdministratorsGuideIsFollowed(t *testing.T) {
	t.Parallel()
	s := newGuideStation(t)
	stops := 0
	ran := s.follow("ingest/custody/README.zh-CN.md", func(line string) {
		if line != "sudo systemctl stop ingestd" {
			return
		}
		if stops++; stops != 2 {
			return
		}
		// The disk of the state is gone; a safe has the key, as the guide wants.
		for _, name := range []string{"station.key", "allowed_signers"} {
			text, err := os.ReadFile(s.path("state/" + name))
			if err != nil {
				t.Fatal(err)
			}
			s.write(name, string(text))
		}
		if err := errors.Join(os.CopyFS(s.path("keys"), os.DirFS(s.path("state/keys"))), os.RemoveAll(s.path("state"))); err != nil {
			t.Fatal(err)
		}
	})
	if ran < 45 {
		t.Errorf("only %d lines were run", ran)
	}
}

func TestTheOperatorsGuideIsFollowed(t *testing.T) {
	t.Parallel()
	s := newGuideStation(t)
	ran := s.follow("configs/README.md", func(line string) {
		if strings.Contains(line, "ledger fetch") { // into a state that has key and list, and nothing else
			if err := os.RemoveAll(s.path("state")); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"station.key", "allowed_signers"} {
				text, err := os.ReadFile(s.path(name))
				if err != nil {
					t.Fatal(err)
				}
				s.write("state/"+name, string(text))
			}
		}
	})
	if ran < 18 {
		t.Errorf("only %d lines were run", ran)
	}
}
