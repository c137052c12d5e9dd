//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

const (
	day = 24 * time.Hour
	// afterSixMonths is longer than any six calendar months, and the rest of the day
	// that a lock is rounded up to.
	afterSixMonths = 187 * day
	// beforeSixMonths is what six months of thirty days would be.
	beforeSixMonths = 180 * day
	// livedDays is on how many days the ledger must tell of something, see custody.
	livedDays = 90
)

// Exit codes of ingestd, see README.
const (
	exitDone    = 0
	exitRefused = 4
)

// testDisposal has the machine's clock go on, by which the embedded store, a part of the
// station here, lets locks end. What is in it goes when its time has come, and not
// because a hand has set the clock ahead.
func testDisposal(t *testing.T, w *world) {
	c := w.m.clock(t)
	w.disk(t)
	aYearAtOnce(t, w, c)
	if w.long {
		halfAYear(t, w, c)
	}
}

// aYearAtOnce: what is locked nobody deletes, not by any command and not by the store's
// own key. With the clock a year ahead the locks have ended; disposal is refused all the
// same, by whatever the clock is kept then.
func aYearAtOnce(t *testing.T, w *world, c *clock) {
	p := w.depot(t, "AHEAD-1")
	first, _, third := p.takeIn(t)
	d := p.daemon(t)
	p.plans(t, 0)
	p.keepsAgainstItsKey(t, first, 2)
	p.keepsAgainstItsKey(t, third, 1)
	hold := p.hold(t, first)
	d.stop(t)

	c.on(t, 365*day)
	d = p.daemon(t)
	p.plans(t, 1, third)
	p.keepsAgainstItsKey(t, first, 2) // by the hold alone
	p.run(t, exitDone, "hold", "release", hold, "--reason", "judged")
	plan := p.plans(t, 3).ID
	if refused := p.run(t, exitRefused, "retention", "apply", "--plan", plan, "--yes"); !strings.Contains(refused, "clock is not to be trusted") {
		t.Errorf("refused for another reason: %s", refused)
	}
	w.m.must(t, "keep-time", struct{}{}, nil)
	told, applied := p.apply(t, plan)
	if applied || told < 2 || told > 4 { // the day of each clock; midnight may have come in both
		t.Errorf("the ledger tells of %d days; applied: %t", told, applied)
	}
	p.has(t, 3)
	p.run(t, exitDone, "verify", "--all")
	d.stop(t)
	w.note("a year ahead: refused")
}

// halfAYear has a station live on to the end of its locks, a day at a time.
func halfAYear(t *testing.T, w *world, c *clock) {
	const lived = 84
	p := w.depot(t, "TIME-1")
	first, second, third := p.takeIn(t)
	hold := p.hold(t, first)
	for range lived {
		c.on(t, day)
		p.daemon(t).stop(t)
	}

	c.on(t, beforeSixMonths-lived*day)
	d := p.daemon(t)
	p.plans(t, 0)
	p.keepsAgainstItsKey(t, third, 1)
	d.stop(t)

	c.on(t, afterSixMonths-beforeSixMonths)
	w.m.must(t, "keep-time", struct{}{}, nil)
	d = p.daemon(t)
	p.plans(t, 1, third)
	p.run(t, exitDone, "hold", "release", hold, "--reason", "judged")
	plan := p.plans(t, 3, first, second, third).ID
	last := 0
	for {
		told, applied := 0, false
		// The store's time has whole seconds: a line counts from the next one on.
		w.m.poll(t, "the day to count", func() bool {
			told, applied = p.apply(t, plan)
			return applied || told > last
		})
		if applied {
			break
		}
		p.has(t, 3)
		if told >= livedDays {
			t.Fatalf("refused, though the ledger tells of %d days", told)
		}
		last = told
		d.stop(t)
		c.on(t, day)
		w.m.must(t, "keep-time", struct{}{}, nil)
		d = p.daemon(t)
	}
	if last != livedDays-1 {
		t.Errorf("applied after the ledger told of %d days only", last)
	}

	p.has(t, 0)
	if manifests := p.find(t, "manifest.json"); len(manifests) != 3 {
		t.Errorf("of three sessions the manifests %q are left", manifests)
	}
	var v ingest.Verification
	p.decode(t, &v, "verify", "--all")
	if v.Disposed != 3 || len(v.Findings) > 0 {
		t.Errorf("verify tells of %d sessions that were disposed of, and of %+v", v.Disposed, v.Findings)
	}
	p.run(t, exitDone, "ledger", "verify")
	p.run(t, exitRefused, "retention", "apply", "--plan", plan, "--yes")
	for _, id := range []string{first, second, third} {
		if shown := p.run(t, exitDone, "sessions", "show", id); !strings.Contains(shown, "disposed 已销毁") {
			t.Errorf("it is not shown that session %s was disposed of:\n%s", id, shown)
		}
	}
	d.stop(t)
	w.note("half a year: disposed of, refused at %d days", last)
}

// clock is the machine's, set by hand. It is right again when the scenario ends.
type clock struct {
	m     *machine
	ahead time.Duration
}

func (m *machine) clock(t *testing.T) *clock {
	c := &clock{m: m}
	t.Cleanup(func() {
		if err := m.ask("step-clock", wire.Step{By: -c.ahead}, nil); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *clock) on(t testing.TB, by time.Duration) {
	t.Helper()
	c.m.must(t, "step-clock", wire.Step{By: by}, nil)
	c.ahead += by
}

// disk mounts an ext4 disk at /srv: the machine's own file systems have no extended
// attributes, which the store needs.
func (w *world) disk(t *testing.T) {
	t.Helper()
	image := ext4Card(t, w, layout{Size: 512 << 20}, nil)
	from := w.m.now()
	w.m.plug(t, stick{Image: image, Serial: "STORE", Port: 1})
	node := w.m.wait(t, from, "a disk", func(e wire.Event) bool { return e.Kind == wire.Block }).Name
	w.m.run(t, "mkdir", "-p", "/srv")
	w.m.run(t, "mount", "-t", "ext4", node, "/srv")
	t.Cleanup(func() { w.m.run(t, "umount", "/srv") })
}

// depot is a station with an embedded store.
type depot struct {
	m                       *machine
	station, home, settings string
}

func (w *world) depot(t *testing.T, station string) *depot {
	t.Helper()
	p := &depot{m: w.m, station: station, home: "/srv/" + station}
	p.settings = p.home + "/ingestd.yaml"
	p.m.must(t, "write", wire.File{Path: p.settings, Data: fmt.Appendf(nil, `station: {id: %s}
state_dir: state
storage: {embedded: {root: store}}
sources: [{path: inbox, kind: folder}]
log: {format: json, level: debug}
`, station)}, nil)
	p.m.run(t, "mkdir", p.home+"/inbox")
	return p
}

func (p *depot) daemon(t *testing.T) *daemon {
	t.Helper()
	d := p.m.daemon(t, p.settings)
	d.wait(t, "retention.preview", "")
	return d
}

// run gives what a command has said, which must end with this code.
func (p *depot) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	said, got := p.try(t, args...)
	if got != code {
		t.Fatalf("ingestd %q: exit status %d, want %d: %s", args, got, code, said)
	}
	return said
}

func (p *depot) try(t *testing.T, args ...string) (said string, code int) {
	t.Helper()
	var ran wire.Ran
	p.m.must(t, "exec", wire.Exec{Args: append([]string{"/bin/ingestd", "--quiet", "--config", p.settings}, args...), Within: patience}, &ran)
	return string(ran.Out), ran.Code
}

// decode takes the result of a command that must succeed.
func (p *depot) decode(t *testing.T, result any, args ...string) {
	t.Helper()
	said := p.run(t, exitDone, append(args, "-o", "json")...)
	// What its store says when it ends may come behind it.
	if err := json.NewDecoder(strings.NewReader(said)).Decode(result); err != nil {
		t.Fatalf("ingestd %q: %v: %s", args, err, said)
	}
}

// takeIn has three cards of one recorder stored: one with two recordings, one with the
// first of these again, one with a third.
func (p *depot) takeIn(t *testing.T) (first, second, third string) {
	t.Helper()
	cards := p.home + "/cards/"
	for i, name := range []string{"1/A", "1/B", "3/C"} {
		p.m.must(t, "fill", wire.Fill{Path: cards + name + ".MP4", Seed: uint64(600 + i), Size: 300<<10 + int64(i)}, nil)
	}
	p.m.run(t, "mkdir", cards+"2")
	p.m.run(t, "cp", cards+"1/A.MP4", cards+"2/A.MP4")
	p.m.run(t, "touch", "-d", "2026-11-25 10:00:00", cards+"1/A.MP4", cards+"2/A.MP4")
	var ids []string
	for _, want := range []struct {
		card              string
		stored, identical int
	}{{"1", 2, 0}, {"2", 0, 1}, {"3", 1, 0}} {
		var report struct {
			Safe      bool `json:"safe_to_undock"`
			Stored    int  `json:"stored"`
			Identical int  `json:"identical"`
			Session   struct {
				ID string `json:"id"`
			} `json:"session"`
		}
		p.decode(t, &report, "ingest", cards+want.card, "--recorder", "R1")
		if !report.Safe || report.Stored != want.stored || report.Identical != want.identical {
			t.Fatalf("card %s: %+v", want.card, report)
		}
		ids = append(ids, report.Session.ID)
	}
	p.has(t, 3)
	return ids[0], ids[1], ids[2]
}

func (p *depot) hold(t *testing.T, session string) (id string) {
	t.Helper()
	var hold struct {
		ID string `json:"id"`
	}
	p.decode(t, &hold, "hold", "add", session, "--case", "2026-001", "--reason", "appeal")
	return hold.ID
}

// plans makes a plan, which must list so many sessions, these among them.
func (p *depot) plans(t *testing.T, sessions int, among ...string) *custody.Plan {
	t.Helper()
	var plan custody.Plan
	p.decode(t, &plan, "retention", "plan")
	var listed []string
	for _, s := range plan.Disposable {
		listed = append(listed, s.Session)
	}
	for _, id := range among {
		if !slices.Contains(listed, id) {
			t.Errorf("session %s is not in the plan", id)
		}
	}
	if len(listed) != sessions || len(plan.Kept) != 3-sessions || (plan.ID == "") != (sessions == 0) {
		t.Fatalf("plan %q lists %q and keeps %+v, want %d sessions", plan.ID, listed, plan.Kept, sessions)
	}
	if sessions > 0 {
		return &plan
	}
	for _, k := range plan.Kept {
		if !slices.ContainsFunc(k.Reasons, func(r custody.Reason) bool { return r.Kind == custody.Locked }) {
			t.Errorf("session %s is kept, and not by its lock: %+v", k.Session, k.Reasons)
		}
	}
	return &plan
}

var daysTold = regexp.MustCompile(`the ledger tells of (\d+) days`)

// apply gives of how many days the ledger has told, where a plan was refused for that.
func (p *depot) apply(t *testing.T, plan string) (told int, applied bool) {
	t.Helper()
	said, code := p.try(t, "retention", "apply", "--plan", plan, "--yes")
	if code == exitDone {
		return 0, true
	}
	found := daysTold.FindStringSubmatch(said)
	if code != exitRefused || found == nil {
		t.Fatalf("exit status %d: %s", code, said)
	}
	told, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return told, false
}

// find gives the files of a name, or pattern, in the folder of the store, wherever it
// puts them.
func (p *depot) find(t *testing.T, name string) []string {
	t.Helper()
	return strings.Fields(p.m.run(t, "find", p.home+"/store", "-type", "f", "-name", name))
}

// has counts the recordings that the disk of the store has.
func (p *depot) has(t *testing.T, recordings int) {
	t.Helper()
	if found := p.find(t, "*.MP4"); len(found) != recordings {
		t.Fatalf("on the disk are %q, want %d recordings", found, recordings)
	}
}

// keepsAgainstItsKey proves that whoever has the store's key deletes none of a session's
// recordings. A daemon must run, for its store.
func (p *depot) keepsAgainstItsKey(t *testing.T, session string, recordings int) {
	t.Helper()
	documents := p.find(t, "manifest.json")
	at := slices.IndexFunc(documents, func(path string) bool { return filepath.Base(filepath.Dir(path)) == session })
	if at < 0 {
		t.Fatalf("session %s has no manifest on the disk", session)
	}
	prefix, ok := strings.CutPrefix(filepath.Dir(documents[at]), p.home+"/store/data/"+bucket+"/")
	if !ok {
		t.Fatalf("%s is not in the bucket", documents[at])
	}
	var attempts []wire.Attempt
	p.m.must(t, "delete", wire.Delete{Root: p.home + "/store", Bucket: bucket, Prefix: prefix + "/footage/"}, &attempts)
	if len(attempts) != recordings {
		t.Errorf("session %s shows %+v, want %d recordings", session, attempts, recordings)
	}
	for _, a := range attempts {
		if a.Code != "AccessDenied" {
			t.Errorf("the store answered %q to the deletion of %s", a.Code, a.Key)
		}
	}
	p.has(t, 3)
}
