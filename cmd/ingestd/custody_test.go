package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/storetest"
)

const tagRules = "version: 1\ndefault: {months: 6, why: 第十一条}\nrules:\n  - {name: evidence, match: {tag: [证据]}, months: 36, why: 归档}\n"

// expect runs ingestd and wants an exit code and words.
func (p *place) expect(code int, says string, args ...string) string {
	p.t.Helper()
	out, errs, got := p.run(args...)
	if got != code || !strings.Contains(out+errs, says) {
		p.t.Errorf("ingestd %s: exit %d, want %d, with %q in\n%s%s", strings.Join(args, " "), got, code, says, out, errs)
	}
	return out
}

// hold gives what hold show has of a hold.
func (p *place) hold(id string) (h holdJSON) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(p.must("hold", "show", id, "-o", "json")), &h); err != nil {
		p.t.Fatal(err)
	}
	return h
}

func (p *place) addHold(args ...string) (h holdJSON) {
	p.t.Helper()
	out := p.must(append([]string{"hold", "add", "--case", "2026-0142", "--reason", "行政复议", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &h); err != nil {
		p.t.Fatalf("%v in %s", err, out)
	}
	return h
}

func TestTagsByCommand(t *testing.T) {
	t.Parallel()
	p := newPlace(t, withRules)
	p.write("rules.yaml", tagRules)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1")
	s := p.sessionOf("card")
	p.expect(0, "第十一条", "retention", "explain", s.ID)
	p.expect(0, "no rule of the retention file asks for 普通", "tag", "add", s.ID, "证据", "普通", "--reason", "移送")
	p.expect(0, "has these tags already", "tag", "add", s.ID, "证据")
	until := p.sessionOf("card")
	if strings.Join(until.Tags, ",") != "普通,证据" || !until.RetainUntil.After(*s.RetainUntil) || len(until.Holds) != 0 {
		t.Errorf("%v until %s", until.Tags, until.RetainUntil)
	}
	p.expect(0, "证据", "sessions", "list")
	p.expect(0, "证据", "sessions", "show", s.ID)
	p.expect(0, "证据", "tag", "list")
	p.expect(0, `"tag": "证据"`, "tag", "list", s.ID, "-o", "json")
	p.expect(0, `"tags": [`, "retention", "explain", s.ID, "-o", "json")
	p.expect(2, "--reason", "tag", "remove", s.ID, "证据")
	p.expect(0, "no lock becomes shorter", "tag", "remove", s.ID, "证据", "--reason", "标错")
	p.expect(5, "has no tag", "tag", "remove", s.ID, "证据", "--reason", "标错")
	for _, bad := range []string{"", "a\nb", strings.Repeat("x", 101)} {
		p.expect(2, "tag", "tag", "add", s.ID, bad)
	}
	p.expect(5, "not found", "tag", "add", "nowhere", "证据")
	p.expect(5, "not found", "tag", "list", "nowhere")
	p.expect(2, "requires at least 2", "tag", "add", s.ID)
	if after := p.sessionOf("card"); !after.RetainUntil.Equal(*until.RetainUntil) {
		t.Errorf("it was until %s and is %s", until.RetainUntil, after.RetainUntil)
	}
	p.expect(0, "1 stay as they are", "retention", "extend")
	p.write("rules.yaml", strings.Replace(tagRules, "months: 6,", "months: 48,", 1))
	p.expect(0, "the daemon extends it at its next look", "retention", "explain", s.ID)
	p.expect(0, `"rule": "default"`, "retention", "extend", "-o", "json")
	p.must("ledger", "verify")
	p.verify(0, "--all")
}

// The daemon lengthens what is stored already, at its start and when its rules are
// loaded again, and says so; what commands do beside it counts for it too.
func TestTheDaemonLengthensWhatIsStored(t *testing.T) {
	t.Parallel()
	p := newPlace(t, withRules)
	p.write("rules.yaml", tagRules)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1")
	s := p.sessionOf("card")
	p.write("rules.yaml", strings.Replace(tagRules, "months: 6,", "months: 12,", 1))
	d := p.startDaemon()
	d.waitFor(`"event":"retention.extended"`)
	p.keptFor(s, 12)
	p.write("rules.yaml", strings.Replace(tagRules, "months: 6,", "months: 24,", 1))
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); strings.Count(d.log(), `"event":"retention.extended"`) < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(d.log())
		}
	}
	p.keptFor(s, 24)
	p.must("tag", "add", s.ID, "证据")
	p.keptFor(s, 36)
	h := p.addHold(s.ID)
	p.must("hold", "release", h.ID, "--reason", "结案")
	if code := d.stop(); code != 0 || strings.Contains(d.log(), "retention.trouble") {
		t.Errorf("exit %d\n%s", code, d.log())
	}
	p.must("ledger", "verify")
	p.verify(0, "--all")
}

func TestHoldsByCommand(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.write("card/b c.mp4", "footage of b")
	p.ingest(0, "card", "--recorder", "R1", "--officer", "052507")
	s := p.sessionOf("card")
	day := s.DockedAt.Format(time.DateOnly)
	p.expect(2, "--case", "hold", "add", s.ID, "--reason", "r")
	p.expect(2, "--case", "hold", "add", s.ID, "--case", "1")
	p.expect(2, "not both", "hold", "add", "--case", "1", "--reason", "r")
	p.expect(2, "not both", "hold", "add", s.ID, "--officer", "052507", "--case", "1", "--reason", "r")
	p.expect(2, "such as 2026-11-24", "hold", "add", "--from", "yesterday", "--case", "1", "--reason", "r")
	p.expect(2, "before --from", "hold", "add", "--from", "2026-02-01", "--to", "2026-01-01", "--case", "1", "--reason", "r")
	p.expect(2, "one key", "hold", "add", s.ID, "--case", "1", "--reason", "r", "--credentials", "keys")
	p.expect(5, "not found", "hold", "add", "nowhere", "--case", "1", "--reason", "r")
	p.expect(5, "no ended session matches: officer 1", "hold", "add", "--officer", "1", "--case", "1", "--reason", "r")
	p.expect(5, "no stored recording", "hold", "add", s.ID+"/z.mp4", "--case", "1", "--reason", "r")
	p.expect(0, `"items": []`, "hold", "list", "-o", "json")

	p.expect(0, "later sessions are not in it", "hold", "add", "--officer", "052507", "--from", day, "--to", day, "--case", "1", "--reason", "r")
	h := p.addHold(s.ID + "/b c.mp4")
	if h.State != "held" || len(h.Of) != 1 || h.Of[0] != (heldJSON{s.ID, "b c.mp4"}) || h.Case != "2026-0142" || h.AddedBy != person() {
		t.Errorf("%+v", h)
	}
	if on := p.sessionOf("card").Holds; len(on) != 2 {
		t.Errorf("on hold by %v", on)
	}
	p.expect(0, h.ID, "hold", "list")
	p.expect(0, "ON HOLD", "sessions", "show", s.ID)
	p.expect(0, "kept until it is released", "retention", "explain", s.ID)
	p.expect(0, "confirmed by the store", "hold", "retry", h.ID)
	p.expect(2, "--reason", "hold", "release", h.ID)
	p.expect(5, "not found", "hold", "release", "H1", "--reason", "r")
	p.expect(5, "not found", "hold", "show", "H1")
	p.expect(0, "已解除", "hold", "release", h.ID, "--reason", "结案")
	p.expect(1, "was released at", "hold", "release", h.ID, "--reason", "结案")
	if out := p.must("hold", "list"); strings.Contains(out, h.ID) {
		t.Errorf("released, and listed:\n%s", out)
	}
	p.expect(0, h.ID, "hold", "list", "--all")
	if on := p.sessionOf("card").Holds; len(on) != 1 {
		t.Errorf("on hold by %v", on)
	}
	p.must("ledger", "verify")
	p.verify(0, "--all")
}

// The settings name who may release, by uid or name, and that it takes two.
func TestReleasesByCommandNeedTheirPersons(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can be several persons, by what sudo tells")
	}
	p := newPlace(t, testConfig+"custody: {administrators: [root, \"1001\", \"1002\"], two_persons: true}\n")
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1")
	h := p.addHold(p.sessionOf("card").ID)
	releaseAs := func(uid string, code int, says string) {
		t.Helper()
		cmd := p.command("hold", "release", h.ID, "--reason", "结案")
		if uid != "" {
			cmd.Env = append(cmd.Env, "SUDO_UID="+uid, "SUDO_USER=somebody")
		}
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), says) {
			t.Errorf("uid %s: exit %d (%v), want %d, with %q in\n%s", uid, got, err, code, says, out)
		}
	}
	releaseAs("1003", exitRefused, "not among custody.administrators")
	releaseAs("1001", 0, "待第二人确认")
	releaseAs("1001", exitRefused, "another person must confirm")
	releaseAs("1003", exitRefused, "not among custody.administrators")
	if h := p.hold(h.ID); h.State != "asked" || h.ReleaseAskedBy != "uid 1001" {
		t.Errorf("%+v", h)
	}
	releaseAs("", 0, "已解除") // root, by its name
	if h := p.hold(h.ID); h.State != "released" || h.ReleasedBy != "uid 0" {
		t.Errorf("%+v", h)
	}
	if out := p.must("ledger", "tail"); strings.Count(out, "hold.refused") != 3 || strings.Count(out, "hold.release_asked") != 1 || strings.Count(out, "hold.released") != 1 {
		t.Errorf("the ledger:\n%s", out)
	}
	p.write("ingestd.yaml", testConfig+"custody: {administrators: [nobody-of-this-name]}\n")
	p.expect(exitConfig, "no user of this machine", "hold", "retry", h.ID)
}

// Killed at random moments, a hold that the journal has counts, and retry finishes it;
// one that is not there was never told to be.
func TestHoldsAreKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	p := newPlace(t, testConfig)
	for i := range 40 {
		p.write(fmt.Sprintf("card/%02d.mp4", i), fmt.Sprint("footage ", i))
	}
	p.ingest(0, "card", "--recorder", "R1")
	s := p.sessionOf("card")
	began := time.Now()
	p.addHold(s.ID)
	whole, killed := time.Since(began), 0
	for range 5 {
		cmd := p.command("hold", "add", s.ID, "--case", "1", "--reason", "r", "-q")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(whole))), func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // how it ended is what is looked at
		timer.Stop()
		if cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			killed++
		}
	}
	t.Logf("%d kills in %s", killed, whole)
	if killed == 0 {
		t.Error("no round was killed: the test has shown nothing")
	}
	ids := p.sessionOf("card").Holds
	for _, id := range ids {
		p.must("hold", "retry", id)
		if h := p.hold(id); h.State != "held" {
			t.Errorf("%+v", h)
		}
	}
	if out := p.must("ledger", "tail", "-n", "1000"); strings.Count(out, "hold.added") != len(ids) {
		t.Errorf("%d holds, the ledger has\n%s", len(ids), out)
	}
	for _, id := range ids {
		p.must("hold", "release", id, "--reason", "结案")
	}
	p.must("ledger", "verify")
	p.verify(0, "--all")
}

// With an external store, another key than the station's can be given, and a tag is
// noted also while the store is away.
func TestCustodyOnAnExternalServer(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	p := s3Place(t, server.Config())
	p.write("rules.yaml", tagRules)
	config, err := os.ReadFile(p.path("ingestd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p.write("ingestd.yaml", string(config)+"retention: {policy: rules.yaml}\n")
	p.ingest(0, "card", "--recorder", "R1")
	s := p.sessionOf("card")
	p.write("other", "access_key: nobody\nsecret_key: wrong-wrong\n")
	p.expect(1, "refused the credentials", "hold", "add", s.ID, "--case", "1", "--reason", "r", "--credentials", p.path("other"))
	p.expect(5, "no such file", "hold", "add", s.ID, "--case", "1", "--reason", "r", "--credentials", p.path("nowhere"))
	keys, err := os.ReadFile(p.path("keys"))
	if err != nil {
		t.Fatal(err)
	}
	p.write("other", string(keys))
	p.write("keys", "access_key: nobody\nsecret_key: wrong-wrong\n")
	h := p.addHold(s.ID, "--credentials", p.path("other"))
	p.must("hold", "release", h.ID, "--reason", "结案", "--credentials", p.path("other"))
	p.write("keys", string(keys))

	server.Kill()
	p.expect(1, "the tag is there, and the locks could not be lengthened now", "tag", "add", s.ID, "证据")
	server.Start(t)
	if tagged := p.sessionOf("card"); len(tagged.Tags) != 1 || !tagged.RetainUntil.Equal(*s.RetainUntil) {
		t.Errorf("%v until %s", tagged.Tags, tagged.RetainUntil)
	}
	p.expect(0, "1 locked for longer", "retention", "extend")
	p.verify(0, "--all")
	p.must("ledger", "verify")
}
