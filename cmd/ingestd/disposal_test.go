package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// The orders of a disposal as a person at a shell gives them. That footage goes, and
// what stands in the way of it, is tested in package custody, where time can pass.
func TestDisposalByCommand(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	id := p.ingest(0, "card", "--recorder", "R1").Session.ID
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"retention plan", 0, "nothing to dispose of"},
		{"retention plan --as-of soon", 2, "2026-12-31"},
		{"retention plan --show P1 --as-of 2026-12-31", 2, "--show"},
		{"retention plan --show P1", 5, "not found"},
		{"retention preview", 0, "0 recordings in 0 sessions"},
		{"retention preview --days -1", 2, "--days"},
		{"retention apply", 2, "--plan"},
		{"retention apply --plan P1", 2, "--yes"},
		{"retention apply --plan P1 --yes", 5, "not found"},
	} {
		out, errs, code := p.run(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("ingestd %s: exit %d, want %d, with %q in\n%s%s", c.args, code, c.code, c.says, out, errs)
		}
	}
	var soon custody.Preview
	if err := json.Unmarshal([]byte(p.must("retention", "preview", "--days", "200", "-o", "json")), &soon); err != nil || len(soon.Sessions) != 1 || soon.Sessions[0].Session != id || soon.Totals.OpenGaps != nil {
		t.Errorf("%+v, %v", soon, err)
	}
	// A day in the future shows what it would bring, and that is all that it does.
	later := time.Now().AddDate(0, 8, 0).Format(time.DateOnly)
	var plan custody.Plan
	if err := json.Unmarshal([]byte(p.must("retention", "plan", "--as-of", later, "-o", "json")), &plan); err != nil || len(plan.Disposable) != 1 || plan.Disposable[0].Session != id || plan.ID == "" {
		t.Fatalf("%+v, %v", plan, err)
	}
	shown := p.must("retention", "plan", "--show", plan.ID)
	if !strings.Contains(shown, "can't be applied") || !strings.Contains(shown, "void") || !strings.Contains(shown, id) || !strings.Contains(shown, "未检查") {
		t.Errorf("%s", shown)
	}
	var again custody.Plan
	if err := json.Unmarshal([]byte(p.must("retention", "plan", "--show", plan.ID, "-o", "json")), &again); err != nil || again.ID != plan.ID {
		t.Errorf("%+v, %v", again, err)
	}
	if out, errs, code := p.run("retention", "apply", "--plan", plan.ID, "--yes", "-o", "json"); code != exitRefused || !strings.Contains(errs, "void") || !strings.Contains(out, `"objects": 0`) {
		t.Errorf("a preview was applied: exit %d\n%s%s", code, out, errs)
	}
	if out := p.must("ledger", "tail"); strings.Count(out, "disposal.planned") != 1 || strings.Count(out, "disposal.refused") != 1 {
		t.Errorf("%s", out)
	}
	if found := p.verify(0, "--all"); len(found) != 0 {
		t.Errorf("found %v", found)
	}
}

// A session whose footage was disposed of is shown as such, its documents can still be
// verified, and what is left of its footage is found.
func TestWhatWasDisposedOfIsShown(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	id := p.ingest(0, "card", "--recorder", "R1").Session.ID
	j, err := journal.Open(p.path("state"), journal.Share)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Disposed(t.Context(), id, time.Now().AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"sessions", "list"}, {"sessions", "show", id}, {"retention", "explain", id}} {
		if out := p.must(args...); !strings.Contains(out, "销毁") {
			t.Errorf("%v:\n%s", args, out)
		}
		if out := p.must(append(args, "-o", "json")...); !strings.Contains(out, `"disposed_at": "20`) {
			t.Errorf("%v:\n%s", args, out)
		}
	}
	if found := p.verify(exitFindings, id); len(found) != 1 || found[0] != "extra a.mp4" {
		t.Errorf("found %v", found)
	}
}

func TestTheStationAloneIsNoSecondPerson(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig+"custody: {two_persons: true, dispose: automatic}\n")
	if _, errs, code := p.run("config", "check"); code != exitConfig || !strings.Contains(errs, "custody.dispose") {
		t.Errorf("exit %d\n%s", code, errs)
	}
}

func TestTheDaemonTellsWhatExpires(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig+"custody: {dispose: automatic}\n")
	d := p.startDaemon()
	d.waitFor(`"event":"retention.preview"`)
	if code := d.stop(); code != 0 || strings.Contains(d.log(), "retention.trouble") || strings.Contains(d.log(), "retention.refused") {
		t.Errorf("exit %d\n%s", code, d.log())
	}
}
