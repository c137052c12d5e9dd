package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// lines gives the entries of an event, read from the file as it lies there.
func (p *place) lines(event string) (found []ledger.Entry) {
	p.t.Helper()
	text, err := os.ReadFile(p.path("state/ledger/entries.jsonl"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		e, err := ledger.ParseLine([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			p.t.Fatal(err)
		}
		if e.Event == event {
			found = append(found, e)
		}
	}
	return found
}

// runWith is run with more variables in the environment.
func (p *place) runWith(env []string, args ...string) (string, int) {
	p.t.Helper()
	cmd := p.command(args...)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// lockLedger makes a ledger that can be read and not appended to, for root too.
func (p *place) lockLedger() (unlock func()) {
	p.t.Helper()
	p.write("state/ledger/unsigned.jsonl", "0\n")
	return func() {
		if err := os.Remove(p.path("state/ledger/unsigned.jsonl")); err != nil {
			p.t.Fatal(err)
		}
	}
}

// Settings that would keep footage for less than the law wants, or that have a slip in
// them, let nothing run, and the ledger has the attempt: from a file, the environment,
// or the retention file.
func TestRefusedSettingsAreInTheLedger(t *testing.T) {
	t.Parallel()
	const rules = "version: 1\ndefault: {months: 6, why: w}\n"
	next := strconv.Itoa(strings.Count(testConfig, "\n") + 1) // line, behind all of it
	for name, c := range map[string]struct {
		config, rules, env string
		says               string
	}{
		"months in the file":           {testConfig + "retention: {months: 3}\n", "", "", "retention.months at line " + next + ": must be at least 6, not 3"},
		"months in the environment":    {testConfig, "", "INGESTD_RETENTION_MONTHS=3", "retention.months from env INGESTD_RETENTION_MONTHS: must be at least 6, not 3"},
		"months in the retention file": {withRules, "version: 1\ndefault: {months: 5, why: w}\n", "", "default.months at line 2: must be at least 6, not 5"},
		"a slip in the retention file": {withRules, "version: 1\ndefault: {month: 6, why: w}\n", "", "default.month"},
		"a slip in the settings":       {testConfig + "clok: {set: true}\n", "", "", "clok at line " + next + ": no such setting"},
		"a name in the environment":    {testConfig, "", "INGESTD_RETENTION_MONTH=7", "INGESTD_RETENTION_MONTH in the environment"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := testConfig
			if c.rules != "" {
				good = withRules
			}
			p := newPlace(t, good)
			p.write("rules.yaml", rules)
			p.write("card/a.mp4", "footage")
			p.sign()
			p.write("ingestd.yaml", c.config)
			if c.rules != "" {
				p.write("rules.yaml", c.rules)
			}
			env := []string{}
			if c.env != "" {
				env = append(env, c.env)
			}
			for n, args := range []string{"run", "ingest card", "verify --all", "recorders add R1", "config check", "retention show"} {
				out, code := p.runWith(env, strings.Fields(args)...)
				if code != exitConfig || !strings.Contains(out, c.says) {
					t.Errorf("%s: exit %d, want %q in\n%s", args, code, c.says, out)
				}
				refused := p.lines("config.refused")
				if len(refused) != 1 { // within the hour it is the same refusal
					t.Fatalf("after command %d the ledger has %d refusals", n+1, len(refused))
				}
				if e := refused[0]; !strings.Contains(e.Reason, c.says) || e.Actor != actor() || e.Detail["file"] != p.path("ingestd.yaml") {
					t.Errorf("the ledger has %+v", e)
				}
			}
			if _, err := os.Stat(p.path("store")); err == nil {
				t.Error("the store was made all the same")
			}
			p.write("ingestd.yaml", good)
			p.write("rules.yaml", rules)
			p.must("ledger", "verify", "--local")
			if out := p.must("recorders", "list"); strings.Contains(out, "R1") {
				t.Errorf("the register was changed:\n%s", out)
			}
		})
	}
}

// A refusal that can't be written down is said beside the reason, and never in its
// place; a look at the settings alone writes nothing.
func TestARefusalIsNeverHiddenByTheLedger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.write("ingestd.yaml", testConfig+"retention: {months: 3}\n")
	ingest := func(want string) string {
		t.Helper()
		out, errs, code := p.run("ingest", "card")
		if code != exitConfig || !strings.Contains(errs, "第十一条") || !strings.Contains(errs, want) || out != "" {
			t.Errorf("exit %d, want %q in\n%s%s", code, want, out, errs)
		}
		return errs
	}
	if errs := ingest(""); strings.Contains(errs, "ledger") {
		t.Errorf("a station without a ledger is asked for one:\n%s", errs)
	}
	if _, err := os.Lstat(p.path("state")); err == nil {
		t.Error("a refused station has made its folder")
	}
	p.write("ingestd.yaml", testConfig)
	p.sign()
	p.write("ingestd.yaml", testConfig+"retention: {months: 3}\n")
	for _, args := range [][]string{{"config", "check"}, {"retention", "show"}, {"sessions", "list"}, {"retention", "check", p.path("rules.yaml")}} {
		if _, _, code := p.run(args...); code == 0 {
			t.Errorf("%v: exit 0", args)
		}
	}
	if n := len(p.lines("config.refused")); n != 0 {
		t.Errorf("who only looks has %d refusals in the ledger", n)
	}
	unlock := p.lockLedger()
	ingest("config.refused is not in the ledger")
	unlock()
	if err := os.Rename(p.path("state/station.key"), p.path("away.key")); err != nil {
		t.Fatal(err)
	}
	ingest("only the station's key can write to the ledger")
	if err := os.Rename(p.path("away.key"), p.path("state/station.key")); err != nil {
		t.Fatal(err)
	}
	// Whose folder it is can't be told: no other one is guessed.
	p.write("ingestd.yaml", "station: [\n")
	if _, errs, code := p.run("ingest", "card"); code != exitConfig || !strings.Contains(errs, "is in no ledger") {
		t.Errorf("not YAML: exit %d\n%s", code, errs)
	}
	if n := len(p.lines("config.refused")); n != 0 {
		t.Errorf("%d lines were written", n)
	}
}

// Which settings are in force is in the ledger once, from the start and from each
// change on.
func TestSettingsInForceAreInTheLedger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	stop := func(d *daemon) (log string) {
		t.Helper()
		if code := d.stop(); code != 0 {
			t.Fatalf("exit %d\n%s", code, d.log())
		}
		log = d.log()
		if err := os.Remove(d.file); err != nil {
			t.Fatal(err)
		}
		return log
	}
	stop(p.startDaemon())
	p.must("run", "--check-only")
	stop(p.startDaemon())
	taken := p.lines("config.taken")
	if len(taken) != 1 || taken[0].Detail["retention_months"] != "6" || len(taken[0].Detail["settings_sha256"]) != 64 || taken[0].Detail["software"] != "ingestd "+version() {
		t.Fatalf("after two starts: %+v", taken)
	}
	d := p.startDaemon()
	hangUp := func(config, wait string) {
		t.Helper()
		p.write("ingestd.yaml", config)
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		d.waitFor("%s", wait)
	}
	hangUp(testConfig, "nothing has changed")
	if n := len(p.lines("config.changed")); n != 0 {
		t.Errorf("%d lines of no change", n)
	}
	hangUp(testConfig+"retention: {months: 4}\n", `"event":"config.refused"`)
	if refused := p.lines("config.refused"); len(refused) != 1 || refused[0].Actor != "station" || !strings.Contains(refused[0].Reason, "must be at least 6, not 4") {
		t.Errorf("refused: %+v", refused)
	}
	next := testConfig + "clock: {warn_over: 9s}\nretention: {months: 8}\n"
	hangUp(next, `in force: clock.warn_over`)
	changed := p.lines("config.changed")
	if len(changed) != 1 || changed[0].Detail["in_force"] != "clock.warn_over (9s, was 5s)" || changed[0].Detail["after_restart"] != "retention.months (8, was 6)" ||
		changed[0].Detail["retention_months"] != "6" || changed[0].Detail["settings_sha256"] == taken[0].Detail["settings_sha256"] {
		t.Errorf("changed: %+v", changed)
	}
	// What the ledger can't have is not put in force.
	unlock := p.lockLedger()
	hangUp(testConfig+"clock: {warn_over: 7s}\n", "adopt them first")
	unlock()
	if log := stop(d); strings.Contains(log, "clock.warn_over (7s") {
		t.Errorf("it is in force all the same:\n%s", log)
	}
	if strings.Contains(fmt.Sprint(p.lines("config.changed")), "7s") || len(p.lines("config.changed")) != 1 {
		t.Errorf("%+v", p.lines("config.changed"))
	}
	p.write("ingestd.yaml", next)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card")
	if taken = p.lines("config.taken"); len(taken) != 2 || taken[1].Detail["retention_months"] != "8" {
		t.Errorf("with the months of the file: %+v", taken)
	}
	p.must("ledger", "verify")
}

// The register changes when the ledger has it.
func TestTheRegisterIsInTheLedger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.must("recorders", "add", "NMQ0007", "--officer", "150525", "--unit", "执法一队", "--note", "belongs to 张三")
	added := p.lines("recorder.registered")
	if len(added) != 1 || added[0].Recorder != "NMQ0007" || added[0].Actor != actor() ||
		added[0].Detail["officer"] != "150525" || added[0].Detail["unit"] != "执法一队" || added[0].Detail["profile"] != "" || len(added[0].Detail) != 3 {
		t.Fatalf("%+v", added)
	}
	j, err := journal.Open(p.path("state"), journal.Share)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := j.Recorders(t.Context())
	if err := errors.Join(err, j.Close()); err != nil || len(rows) != 1 || !rows[0].AddedAt.Equal(added[0].Time) {
		t.Errorf("%v: the journal has %+v, the ledger %s", err, rows, added[0].Time)
	}
	if _, errs, code := p.run("recorders", "remove", "NMQ0008"); code != exitNotFound || !strings.Contains(errs, "not in the register") {
		t.Errorf("one that is not there: exit %d\n%s", code, errs)
	}
	unlock := p.lockLedger()
	for _, args := range []string{"add NMQ0008", "add NMQ0007 --officer 9", "remove NMQ0007"} {
		if _, errs, code := p.run(append([]string{"recorders"}, strings.Fields(args)...)...); code != exitFailed || !strings.Contains(errs, "to the ledger") {
			t.Errorf("%s without a ledger: exit %d\n%s", args, code, errs)
		}
	}
	unlock()
	if out := p.must("recorders", "list"); strings.Contains(out, "NMQ0008") || !strings.Contains(out, "150525") {
		t.Errorf("the register was changed:\n%s", out)
	}
	p.must("recorders", "remove", "NMQ0007")
	if out := p.must("recorders", "list"); strings.Contains(out, "NMQ0007") || len(p.lines("recorder.removed")) != 1 || len(p.lines("recorder.registered")) != 1 {
		t.Errorf("after its removal:\n%s", out)
	}
	p.must("ledger", "verify", "--local")
}

// A verification is in the ledger, and in the bucket, when its result is shown.
func TestVerificationsAreInTheLedger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.verify(0, "--all")
	if _, err := os.Lstat(p.path("state/ledger")); err == nil {
		t.Error("who verifies has made a ledger")
	}
	p.write("card/a.mp4", "footage")
	p.write("card/b.mp4", "more footage")
	r := p.ingest(0, "card")
	p.verify(0, "--all")
	if err := rewrite(p.path("store/data/footage/"+r.Session.Prefix+"footage/a.mp4"), func(b []byte) []byte { return []byte(strings.ToUpper(string(b))) }); err != nil {
		t.Fatal(err)
	}
	p.verify(exitFindings, r.Session.ID)
	p.must("verify", "--sample", "1%", "--seed", "3")
	done := p.lines("verify.done")
	if len(done) != 3 {
		t.Fatalf("%d lines", len(done))
	}
	want := []map[string]string{
		{"scope": "all", "sessions": "1", "objects": "6", "findings": "0"},
		{"scope": r.Session.ID, "sessions": "1", "objects": "6", "findings": "1", "mismatch": "1"},
		{"scope": "sample of 1%", "seed": "3", "objects": "1", "findings": "0"},
	}
	for i, e := range done {
		for key, value := range want[i] {
			if e.Detail[key] != value {
				t.Errorf("line %d: %s is %q, want %q", i, key, e.Detail[key], value)
			}
		}
	}
	if o := done[1].Objects; len(o) != 1 || filepath.Base(o[0].Key) != "a.mp4" || o[0].Version == "" {
		t.Errorf("found: %+v", o)
	}
	var v ledgerVerification
	if p.into(&v, 0, "ledger", "verify"); len(v.Told) != 0 || v.Bucket.Size != v.Folder.Size {
		t.Errorf("not published: %+v", v)
	}
	// Without the key it is done all the same, and said.
	if err := os.Rename(p.path("state/station.key"), p.path("away.key")); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := p.run("verify", "--all"); code != exitFindings || !strings.Contains(out, "1 findings") || !strings.Contains(errs, "the ledger does not have this verification") {
		t.Errorf("without the key: exit %d\n%s%s", code, out, errs)
	}
	if n := len(p.lines("verify.done")); n != 3 {
		t.Errorf("%d lines", n)
	}
}

// What was published once must be in the bucket: one that was emptied is found, and to
// publish again does not hide it.
func TestAnEmptiedBucketIsFound(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card")
	const published = "5" // key, settings, bucket, and two lines for the docking
	bucket := p.path("store/data/footage/TEST-01/ledger")
	segments, err := filepath.Glob(bucket + "/entries/*")
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	if err := os.RemoveAll(bucket); err != nil {
		t.Fatal(err)
	}
	var v ledgerVerification
	p.into(&v, exitFindings, "ledger", "verify")
	if !slices.ContainsFunc(v.Findings, func(f ledgerFinding) bool { return f.Kind == findingEmptied }) {
		t.Errorf("%+v", v.Findings)
	}
	// With the folder gone too it is not "no ledger here".
	if err := os.Rename(p.path("state/ledger"), p.path("away")); err != nil {
		t.Fatal(err)
	}
	p.into(&v, exitFindings, "ledger", "verify")
	if err := os.Rename(p.path("away"), p.path("state/ledger")); err != nil {
		t.Fatal(err)
	}
	p.write("card/b.mp4", "more")
	p.ingest(0, "card")
	again := p.lines("ledger.republished")
	if len(again) != 1 || again[0].Detail["published"] != published || again[0].Detail["found"] != "0" {
		t.Errorf("%+v", again)
	}
	p.must("ledger", "verify")
	p.ingest(0, "card")
	if n := len(p.lines("ledger.republished")); n != 1 {
		t.Errorf("%d lines of one loss", n)
	}
}

// A bucket without a lock is refused before anything else is done, and the ledger has it
// once, however often it is tried.
func TestABucketWithoutALockIsInTheLedger(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	c := server.Config()
	c.Bucket = "unlocked"
	if err := server.Client().MakeBucket(t.Context(), c.Bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	p := s3Place(t, c)
	p.sign()
	for range 2 {
		if out, errs, code := p.run("ingest", "card"); code != exitFailed || strings.Contains(out, "可以取下") {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
	}
	refused := p.lines("bucket.refused")
	if len(refused) != 1 || refused[0].Detail["store"] != "unlocked" || !strings.Contains(refused[0].Reason, "locked") {
		t.Errorf("%+v", refused)
	}
	p.must("ledger", "verify", "--local")
}

// Another bucket than the one that was marked is refused.
func TestARefusedBucketIsInTheLedger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card")
	marker, err := filepath.Glob(p.path("store/data/footage/.ingestd/*"))
	if err != nil || len(marker) == 0 {
		t.Fatal(marker, err)
	}
	for _, file := range marker {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if out, errs, code := p.run("ingest", "card"); code != exitFailed || strings.Contains(out, "可以取下") || !strings.Contains(errs, "not the bucket") {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
	}
	refused := p.lines("bucket.refused")
	if len(refused) != 1 || !strings.Contains(refused[0].Reason, "not the bucket") || refused[0].Detail["store"] == "" || len(p.lines("bucket.marked")) != 1 {
		t.Errorf("%+v", refused)
	}
	if age := time.Since(refused[0].Time); age < 0 || age > time.Hour {
		t.Errorf("it is of %s", refused[0].Time)
	}
}
