package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/embedded"
)

const (
	withRules  = testConfig + "retention: {policy: rules.yaml}\n"
	rulesFor36 = "version: 1\ndefault: {months: 6, why: 第十一条}\nrules:\n  - {name: archive, match: {unit: [法制大队]}, months: 36, why: 行政执法档案}\n"
)

// rulesFor gives the same rule with other months.
func rulesFor(months string) string { return strings.Replace(rulesFor36, "36", months, 1) }

// locks asks a plain S3 client for the lock of everything below a prefix in the store
// of the running daemon.
func (p *place) locks(prefix string) map[string]time.Time {
	p.t.Helper()
	store, err := embedded.Open(p.t.Context(), embedded.Options{Root: p.path("store")})
	if err != nil || store.Started() {
		p.t.Fatalf("the daemon's store: %v", err)
	}
	defer store.Close()
	client, err := minio.New(store.Endpoint(), &minio.Options{
		Creds: credentials.NewStaticV4(store.AccessKey(), store.SecretKey(), ""), Region: store.Region(), Transport: store.Transport(),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	locks := map[string]time.Time{}
	for o := range client.ListObjectsIter(p.t.Context(), "footage", minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			p.t.Fatal(o.Err)
		}
		info, err := client.StatObject(p.t.Context(), "footage", o.Key, minio.StatObjectOptions{})
		if err != nil {
			p.t.Fatal(err)
		}
		until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if mode := info.Metadata.Get("X-Amz-Object-Lock-Mode"); err != nil || mode != "COMPLIANCE" {
			p.t.Errorf("%s: lock %q, %v", o.Key, mode, err)
		}
		locks[o.Key] = until
	}
	return locks
}

// sessionOf gives the session of a slot.
func (p *place) sessionOf(slot string) sessionJSON {
	p.t.Helper()
	var list struct{ Items []sessionJSON }
	if err := json.Unmarshal([]byte(p.must("sessions", "list", "-o", "json")), &list); err != nil {
		p.t.Fatal(err)
	}
	for _, s := range list.Items {
		if s.Slot == slot {
			return s
		}
	}
	p.t.Fatalf("no session of %s", slot)
	return sessionJSON{}
}

// keptFor tells whether everything of a session, with its four documents, is locked
// for as many months.
func (p *place) keptFor(s sessionJSON, months int) {
	p.t.Helper()
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		p.t.Fatal(err)
	}
	locks := p.locks(s.Prefix)
	for key, until := range locks {
		if want := storage.RetainUntil(*s.EndedAt, months, zone); !until.Equal(want) && !until.Equal(storage.RetainUntil(*s.DockedAt, months, zone)) {
			p.t.Errorf("%s is locked until %s, want %s", key, until, want)
		}
	}
	if len(locks) < 5 {
		p.t.Errorf("only %d objects of session %s", len(locks), s.ID)
	}
}

// A daemon takes new rules over for the sessions that begin, and keeps the old ones,
// aloud, when the new file is not valid.
func TestTheRulesAreLoadedAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t, withRules)
	standard := func(months string) string { return "version: 1\ndefault: {months: " + months + ", why: w}\n" }
	p.write("rules.yaml", standard("7"))
	d := p.startDaemon()
	hangUp := func() {
		t.Helper()
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	take := func(card string) {
		t.Helper()
		p.write("drop/"+card+"/a.mp4", "footage of "+card)
		d.waitFor(`"event":"ingest.finished","slot":"%s"`, card)
	}
	take("card1")
	p.keptFor(p.sessionOf("card1"), 7)

	p.write("rules.yaml", standard("36"))
	hangUp()
	d.waitFor(`in force: retention.policy (%s (rules SHA-256 `, p.path("rules.yaml"))
	take("card2")
	p.keptFor(p.sessionOf("card2"), 36)

	for n, broken := range []string{standard("5"), "version: 1\n"} {
		p.write("rules.yaml", broken)
		hangUp()
		for deadline := time.Now().Add(time.Minute); strings.Count(d.log(), `"event":"config.refused"`) <= n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("a broken file was not refused:\n%s", d.log())
			}
		}
	}
	d.waitFor(`rules.yaml: default.months at line 2: must be at least 6, not 5`)
	take("card3")
	p.write("rules.yaml", standard("6")) // the commands, too, want a valid one
	p.keptFor(p.sessionOf("card3"), 36)
	if code := d.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, d.log())
	}
	p.verify(0, "--all")
}

// Nothing begins with a retention file that is not valid, wherever it is named, and no
// flag lowers the floor.
func TestABrokenRetentionFileIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ config, file, env, args, says string }{
		"daemon":          {withRules, rulesFor("5"), "", "run", "rules[0].months at line 4: must be at least 6, not 5"},
		"ingest":          {withRules, rulesFor("0"), "", "ingest card", "rules[0].months at line 4"},
		"by default":      {withRules, "version: 1\ndefault: {months: 5, why: w}\n", "", "run", "default.months at line 2: must be at least 6"},
		"all its faults":  {withRules, "version: 2\n", "", "run", "2 problems"},
		"by environment":  {testConfig, rulesFor("5"), "INGESTD_RETENTION_POLICY=rules.yaml", "run", "rules[0].months at line 4"},
		"not there":       {testConfig + "retention: {policy: nowhere.yaml}\n", "", "", "run", "nowhere.yaml cannot be read"},
		"config check":    {withRules, rulesFor("5"), "", "config check", "rules[0].months at line 4"},
		"not a flag":      {withRules, rulesFor36, "", "run --retention-months 5", "unknown flag"},
		"nor of a policy": {withRules, rulesFor36, "", "ingest card --policy short.yaml", "unknown flag"},
	} {
		p := newPlace(t, c.config)
		p.write("card/a.mp4", "footage")
		p.write("rules.yaml", c.file)
		cmd := p.command(strings.Fields(c.args)...)
		if c.env != "" {
			cmd.Env = append(cmd.Env, c.env)
		}
		want := exitConfig
		if strings.Contains(c.says, "flag") {
			want = exitUsage
		}
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != want || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: exit %d (%v), want %d, with %q in\n%s", name, code, err, want, c.says, out)
		}
		if _, err := os.Stat(p.path("store")); err == nil {
			t.Errorf("%s: the store was made all the same", name)
		}
	}
}

// From the register to the lock, and back to the reason.
func TestTheRuleOfAUnitIsExplained(t *testing.T) {
	t.Parallel()
	p := newPlace(t, withRules)
	p.write("rules.yaml", rulesFor36)
	p.write("card/a.mp4", "footage")
	p.must("recorders", "add", "R1", "--unit", "法制大队")
	if out := p.must("recorders", "list"); !strings.Contains(out, "UNIT") || !strings.Contains(out, "法制大队") {
		t.Errorf("the register:\n%s", out)
	}
	var register struct{ Items []struct{ Unit string } }
	if err := json.Unmarshal([]byte(p.must("recorders", "list", "-o", "json")), &register); err != nil || len(register.Items) != 1 || register.Items[0].Unit != "法制大队" {
		t.Errorf("%v, the register: %+v", err, register)
	}
	id := p.ingest(0, "card", "--recorder", "R1").Session.ID
	out := p.must("retention", "explain", id)
	for _, says := range []string{
		"rule 规则 archive: 36 months 个月, 行政执法档案", "依据：行政执法档案；适用规则：archive", "decided by 适用规则 archive",
		"by the journal 日志", "counted from 起算",
	} {
		if !strings.Contains(out, says) {
			t.Errorf("explained without %q:\n%s", says, out)
		}
	}
	if strings.Contains(out, "the lock") {
		t.Errorf("nothing has changed, and it says\n%s", out)
	}
	explain := func(args ...string) (e explanation) {
		t.Helper()
		if err := json.Unmarshal([]byte(p.must(append(args, "retention", "explain", id, "-o", "json")...)), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := explain()
	if e.Lock.Journal == nil || e.Lock.Manifest == nil || e.Decision == nil || !e.Lock.Journal.Equal(*e.Lock.Manifest) || !e.Decision.Until.Equal(*e.Lock.Manifest) {
		t.Fatalf("%+v", e)
	}
	if e.Decision.Winner != "archive" || e.Lock.Rule.Name != "archive" || e.Lock.Rule.Months != 36 || len(e.Explain["zh-CN"]) < 4 || len(e.Explain["en"]) != len(e.Explain["zh-CN"]) {
		t.Errorf("%+v", e)
	}
	if e.Policy == nil || e.Policy.File != p.path("rules.yaml") || !strings.Contains(p.must("config", "show"), e.Policy.Digest) || !strings.Contains(p.must("retention", "show"), e.Policy.Digest) {
		t.Errorf("the policy is %+v\n%s", e.Policy, p.must("config", "show"))
	}

	// The lock is what counts; what is in force now may say otherwise.
	p.write("rules.yaml", rulesFor("7"))
	if e := explain(); e.Decision.Months != 7 || e.Lock.Rule.Months != 36 || !e.Decision.Until.Before(*e.Lock.Manifest) {
		t.Errorf("under a shorter rule: %+v", e)
	}
	if out := p.must("retention", "explain", id); !strings.Contains(out, "it can't be shortened") {
		t.Errorf("under a shorter rule:\n%s", out)
	}
	p.write("rules.yaml", rulesFor("48"))
	if out := p.must("retention", "explain", id); !strings.Contains(out, "asks for more than the lock") {
		t.Errorf("under a longer rule:\n%s", out)
	}
	p.write("ingestd.yaml", testConfig)
	if e := explain(); e.Policy != nil || e.Decision != nil || e.Lock.Rule.Months != 36 {
		t.Errorf("without a policy: %+v", e)
	}
	if _, errs, code := p.run("retention", "explain", "nowhere"); code != exitNotFound {
		t.Errorf("of no session: exit %d, %s", code, errs)
	}

	// What the store has is read, not believed.
	manifest := p.path("store/data/footage/" + p.sessionOf("card").ManifestKey)
	text, err := os.ReadFile(manifest)
	if err == nil {
		err = os.WriteFile(manifest, bytes.Replace(text, []byte("archive"), []byte("forgery"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, errs, code := p.run("retention", "explain", id); code == 0 || !strings.Contains(errs, "ingestd verify "+id) || !strings.Contains(out, "locked   锁定至") || strings.Contains(out, "forgery") {
		t.Errorf("with a spoilt manifest: exit %d\n%s%s", code, out, errs)
	}
}

func TestARetentionFileIsCheckedAgainstTheSessions(t *testing.T) {
	t.Parallel()
	p := newPlace(t, withRules)
	p.write("rules.yaml", rulesFor36)
	p.must("recorders", "add", "R1", "--unit", "法制大队")
	p.must("recorders", "add", "R2")
	sessions := map[string]string{}
	for _, recorder := range []string{"R1", "R2"} {
		p.write(recorder+"/a.mp4", "footage of "+recorder)
		sessions[recorder] = p.ingest(0, recorder, "--recorder", recorder).Session.ID
	}
	type result struct {
		Valid    bool
		Problems []retentionFault
		Sessions []keptJSON
	}
	check := func(want int, text string) (r result) {
		t.Helper()
		p.write("new.yaml", text)
		out, errs, code := p.run("retention", "check", "new.yaml", "-o", "json")
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != want {
			t.Fatalf("exit %d, want %d, %v\n%s%s", code, want, err, out, errs)
		}
		return r
	}
	for name, c := range map[string]struct{ text, r1, r2 string }{
		"the same":  {rulesFor36, "same", "same"},
		"longer":    {rulesFor("48"), "longer", "same"},
		"shorter":   {rulesFor("7"), "stays", "same"},
		"permanent": {rulesFor("permanent"), "longer", "same"},
		"default":   {"version: 1\ndefault: {months: 12, why: w}\n", "stays", "longer"},
	} {
		r := check(0, c.text)
		got := map[string]string{}
		for _, k := range r.Sessions {
			got[k.Session] = k.Effect
		}
		if !r.Valid || len(got) != 2 || got[sessions["R1"]] != c.r1 || got[sessions["R2"]] != c.r2 {
			t.Errorf("%s: R1 %s, R2 %s, want %s and %s", name, got[sessions["R1"]], got[sessions["R2"]], c.r1, c.r2)
		}
	}
	p.write("rules.yaml", rulesFor("permanent"))
	for _, k := range check(0, rulesFor("1200")).Sessions {
		if want := map[bool]string{true: "stays", false: "same"}[k.Session == sessions["R1"]]; k.Effect != want {
			t.Errorf("%s, permanent by what is in force: %s, want %s", k.Session, k.Effect, want)
		}
	}
	out := p.must("retention", "check", "new.yaml")
	if !strings.Contains(out, "sessions: 2; ") || !strings.Contains(out, "valid") {
		t.Errorf("it says\n%s", out)
	}
	r := check(exitConfig, strings.Replace(rulesFor("5"), "why: 行", "wy: 行", 1))
	if r.Valid || len(r.Problems) != 3 || r.Problems[0].Line != 4 {
		t.Errorf("%+v", r)
	}
	_, errs, code := p.run("retention", "check", "new.yaml")
	if code != exitConfig || strings.Count(errs, "at line 4") != 3 {
		t.Errorf("exit %d:\n%s", code, errs)
	}
	if _, _, code := p.run("retention", "check", "nowhere.yaml"); code != exitNotFound {
		t.Errorf("no such file: exit %d", code)
	}
	// Checking has changed nothing.
	p.verify(0, "--all")
}
