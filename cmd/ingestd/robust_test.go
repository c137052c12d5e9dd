package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/embedded"
)

// A command whose store dies under it says so at once; it does not wait for a store
// that can't come back.
func TestIngestNoticesTheEndOfItsStore(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.must("run", "--check-only")
	p.write("card/small.mp4", "footage")
	if err := simulator.Sparse(p.path("card/big.mp4"), 1<<30); err != nil {
		t.Fatal(err)
	}
	cmd := p.command("ingest", "card", "--recorder", "R1", "-o", "json")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(p.must("sessions", "list"), " open "); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no session was begun")
		}
	}
	killed := time.Now()
	killStore(t, p)
	_ = cmd.Wait() // its code is what counts
	var r reportJSON
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s%s", err, out.String(), errs.String())
	}
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || r.Safe || !strings.Contains(errs.String(), "the embedded store has ended") {
		t.Errorf("exit %d, safe %v: %s", code, r.Safe, errs.String())
	}
	if took := time.Since(killed); took > patience {
		t.Errorf("it took %s to notice", took)
	}
	if err := os.Truncate(p.path("card/big.mp4"), 100); err != nil { // the rest of a GiB would only take time
		t.Fatal(err)
	}
	if again := p.ingest(0, "card", "--recorder", "R1"); !again.Safe || !again.Resumed {
		t.Errorf("again: %s, resumed %v", again.State, again.Resumed)
	}
}

// Whoever works with the store of another process learns of its end too.
func TestTheEndOfAnotherProcesssStore(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	d := p.startDaemon()
	store, err := embedded.Open(t.Context(), embedded.Options{Root: p.path("store")})
	if err != nil || store.Started() {
		t.Fatalf("started %v, %v", err == nil && store.Started(), err)
	}
	w := &workplace{store: store}
	ctx, release := w.whileStored(t.Context())
	defer release()
	if ctx.Err() != nil {
		t.Fatal("a running store is called ended")
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Wait() // it was killed
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Fatal("nobody is told")
	}
	if cause := context.Cause(ctx); !strings.Contains(cause.Error(), "the embedded store has ended") {
		t.Errorf("told: %v", cause)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

func TestVerifyASample(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	for _, name := range []string{"a", "b", "c"} {
		p.write("card/"+name+".mp4", "footage "+name)
	}
	r := p.ingest(0, "card")
	type result struct {
		Bytes    int64
		Sample   ingest.Sample
		Findings []struct{ Problem string }
	}
	sample := func(want int, args ...string) (v result) {
		t.Helper()
		out, errs, code := p.run(append([]string{"verify", "-o", "json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != want {
			t.Fatalf("verify %v: exit %d, %v\n%s%s", args, code, err, out, errs)
		}
		return v
	}
	one := sample(0, "--sample", "50%")
	if one.Sample.Population != 4 || one.Sample.Size != 2 || one.Bytes == 0 {
		t.Errorf("%+v", one)
	}
	words := p.must("verify", "--sample", "50%", "--seed", "17")
	if !strings.Contains(words, "sample of 2 of 4 objects (50%), --seed 17") {
		t.Errorf("it says\n%s", words)
	}
	if err := os.Remove(p.path("store/data/footage/" + r.Session.Prefix + "footage/a.mp4")); err != nil {
		t.Fatal(err)
	}
	if all := sample(exitFindings, "--sample", "100%"); len(all.Findings) != 1 || all.Findings[0].Problem != "missing" {
		t.Errorf("%+v", all)
	}
	for _, args := range [][]string{{"--sample", "5"}, {"--sample", "0%"}, {"--sample", "101%"}, {"--sample", "NaN%"}, {"--sample", "5%", "--all"}, {"--all", "--seed", "1"}} {
		if _, errs, code := p.run(append([]string{"verify"}, args...)...); code != exitUsage {
			t.Errorf("verify %v: exit %d, %s", args, code, errs)
		}
	}
}

// SIGHUP takes over what can be taken over, as a whole or not at all, and says what
// can't be.
func TestSettingsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	d := p.startDaemon()
	hangUp := func() {
		t.Helper()
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hangUp()
	d.waitFor(`nothing has changed`)

	// One mistake, and nothing of it is taken over.
	p.write("ingestd.yaml", testConfig+"recorders: {unregistered: refuse}\nclock: {warn_over: 1ms}\n")
	hangUp()
	d.waitFor(`"event":"config.refused"`)
	p.write("drop/card1/a.mp4", "footage")
	d.waitFor(`"event":"ingest.finished","slot":"card1"`)

	p.write("ingestd.yaml", testConfig+"recorders: {unregistered: refuse}\nretention: {months: 7}\nlog: {level: info}\n")
	hangUp()
	d.waitFor(`"event":"config.reloaded"`)
	d.waitFor(`in force: recorders.unregistered (refuse, was ingest); in force only after ingestd is started again: retention.months`)
	p.write("drop/card2/a.mp4", "footage")
	d.waitFor(`"event":"device.unknown","slot":"card2"`)

	p.write("ingestd.yaml", testConfig+"log: {level: error}\n")
	hangUp()
	// Below its level nothing is said, not even this.
	time.Sleep(500 * time.Millisecond)
	p.write("drop/card3/a.mp4", "footage")
	for deadline := time.Now().Add(time.Minute); strings.Count(p.must("sessions", "list"), " sealed ") < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("card3 was not taken in\n%s", d.log())
		}
	}
	if strings.Contains(d.log(), "card3") {
		t.Errorf("log.level is error, and it says\n%s", d.log())
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, d.log())
	}
}

func TestSessionsShowTellsOfProofs(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	r := p.ingest(0, "card")
	if out := p.must("sessions", "show", r.Session.ID); !strings.Contains(out, "never since it was stored") {
		t.Errorf("before:\n%s", out)
	}
}
