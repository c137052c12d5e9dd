package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// dieAtStep names the step of a change of the key at which a child is to die.
const dieAtStep = "BODYWORN_DIE_AT_STEP"

func init() {
	if at := os.Getenv(dieAtStep); at != "" {
		rotationStep = func(step string) {
			if step == at {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
	}
}

func (p *place) rotate(reason string) (r rotationJSON) {
	p.t.Helper()
	p.into(&r, 0, "key", "rotate", "--reason", reason)
	return r
}

func (p *place) events() (all tailJSON, names []string) {
	p.t.Helper()
	p.into(&all, 0, "ledger", "tail", "-n", "100")
	for _, item := range all.Items {
		names = append(names, item.Entry.Event)
	}
	return all, names
}

// soundAfterRotation proves from outside that all that was ever signed still holds.
func (p *place) soundAfterRotation(keys int) {
	p.t.Helper()
	k := p.keyShow(0)
	if n := strings.Count(k.AllowedSigners, "TEST-01 "); n != keys || k.PrivateKey.State != keyPresent {
		p.t.Errorf("%d keys, want %d, the private one %+v", n, keys, k.PrivateKey)
	}
	var v ledgerVerification
	if p.into(&v, 0, "ledger", "verify"); !v.Sound || len(v.Told) != 0 || len(v.FormerKeys) != keys-1 || v.Key != k.Fingerprint || v.Bucket.Size != v.Folder.Size {
		p.t.Errorf("%+v %+v %+v", v, v.Bucket, v.Folder)
	}
	if found := p.verify(0, "--all"); len(found) != 0 {
		p.t.Errorf("verify found %v", found)
	}
	if left, err := filepath.Glob(p.path("state/station.key.next*")); err != nil || len(left) != 0 {
		p.t.Errorf("left: %v %v", left, err)
	}
	listed, err := exec.Command("ssh-keygen", "-lf", p.path("state/station.key.pub")).CombinedOutput()
	if err != nil || strings.Fields(string(listed))[1] != k.Fingerprint {
		p.t.Errorf("station.key.pub is %s (%v), the key %s", listed, err, k.Fingerprint)
	}
}

func TestKeyRotate(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	if _, errs, code := p.run("key", "rotate", "--reason", "x"); code != exitRefused || !strings.Contains(errs, "nothing was signed here yet") {
		t.Errorf("before there is a key: exit %d\n%s", code, errs)
	}
	d := p.startDaemon()
	d.sealed("card1", map[string]string{"a.mp4": "footage"})
	if _, errs, code := p.run("key", "rotate", "--reason", "x"); code != exitLocked {
		t.Errorf("beside the daemon: exit %d\n%s", code, errs)
	}
	d.end()
	if _, errs, code := p.run("key", "rotate", "--reason", " "); code != exitUsage {
		t.Errorf("without a reason: exit %d\n%s", code, errs)
	}
	p.must("ledger", "checkpoint", "--out", "older")
	_, events := p.events()
	p.write("older-proof", p.must("ledger", "prove", fmt.Sprint(slices.Index(events, "session.sealed"))))
	before := p.keyShow(0)
	p.write("former.pub", before.PublicKey+"\n")
	stolen, err := stationkey.Load(p.path("state/station.key"))
	if err != nil {
		t.Fatal(err)
	}

	r := p.rotate("the keeper has left")
	after := p.keyShow(0)
	if r.OldKey != before.Fingerprint || r.NewKey != after.Fingerprint || r.OldKey == r.NewKey || r.Resumed || r.Station != "TEST-01" || r.Reason != "the keeper has left" {
		t.Errorf("%+v", r)
	}
	all, events := p.events()
	if n := len(events); !slices.Equal(events[n-2:], []string{"key.rotated", "key.in_force"}) || r.LastSize != int64(n-1) {
		t.Fatal(events, r.LastSize)
	}
	line := all.Items[r.LastSize-1].Entry
	if line.Reason != r.Reason || line.Actor != actor() || line.Detail["old_fingerprint"] != r.OldKey || line.Detail["new_fingerprint"] != r.NewKey || line.Detail["new_public_key"] != after.PublicKey {
		t.Errorf("%+v", line)
	}
	p.soundAfterRotation(2)
	p.must("ledger", "verify", "--local", "--checkpoint", "older")
	p.write("card2/b.mp4", "more footage")
	p.ingest(0, "card2", "--recorder", "R2")
	// Commands beside the daemon go on with the new key too.
	p.must("recorders", "add", "R2", "--officer", "150525")
	p.must("verify", "--all")
	p.soundAfterRotation(2)
	p.proofsAfterRotation(before, after, stolen, int(r.LastSize))
	p.publicToolsAfterRotation(before, after, r)

	// An empty machine has the list, the key and the bucket.
	if err := os.RemoveAll(p.path("state/ledger")); err != nil {
		t.Fatal(err)
	}
	p.must("ledger", "fetch")
	p.soundAfterRotation(2)
	var doctored struct {
		Findings []struct{ Check, Severity, What string }
	}
	out, errs, _ := p.run("doctor", "-o", "json")
	if err := json.Unmarshal([]byte(out), &doctored); err != nil {
		t.Fatal(err, errs)
	}
	for _, f := range doctored.Findings {
		if slices.Contains([]string{"signing_key", "trusted_keys", "ledger"}, f.Check) && (f.Severity == "error" || f.Severity == "warning") {
			t.Errorf("doctor: %+v", f)
		}
	}
	if again := p.rotate("yearly"); again.OldKey != r.NewKey {
		t.Errorf("%+v", again)
	}
	p.ingest(0, "card2", "--recorder", "R3")
	p.soundAfterRotation(3)
}

// publicToolsAfterRotation checks what a plain client fetches, as somebody who has only
// the first key from paper.
func (p *place) publicToolsAfterRotation(before, after keyJSON, r rotationJSON) {
	p.t.Helper()
	fetched := p.path("fetched")
	d := p.startDaemon()
	d.waitFor(`"event":"daemon.ready"`)
	p.fetch("TEST-01/", fetched)
	d.end()
	named := func(suffix string) string {
		return filepath.Join(fetched, "TEST-01/keys", ingest.KeyDocument(r.NewKey, suffix))
	}
	list, err := os.ReadFile(named(".allowed_signers"))
	if err != nil || string(list) != after.AllowedSigners {
		p.t.Errorf("%v: published\n%s, shown\n%s", err, list, after.AllowedSigners)
	}
	text, err := os.ReadFile(named(".handover.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	h, err := stationkey.DecodeHandOver(text)
	if err != nil {
		p.t.Fatal(err)
	}
	for signers, accepted := range map[string]bool{before.AllowedSigners: true, "": false} {
		ring, err := stationkey.ParseRing([]byte(signers))
		if err != nil {
			p.t.Fatal(err)
		}
		if err := ring.Accept(h); (err == nil) != accepted {
			p.t.Errorf("accepted %v: %v", accepted, err)
		}
		if accepted && string(ring.Format()) != after.AllowedSigners {
			p.t.Errorf("the hand-over gives\n%s", ring.Format())
		}
	}
	readme, err := os.ReadFile("../../storage/stationkey/README.md")
	if err != nil {
		p.t.Fatal(err)
	}
	recipes := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(recipes) != 2 {
		p.t.Fatalf("the README has %d recipes", len(recipes))
	}
	for paper, whole := range map[string]bool{r.OldKey: true, r.NewKey: false} {
		cmd := exec.Command("sh", "-c", recipes[1][1])
		cmd.Dir = p.t.TempDir()
		cmd.Env = append(os.Environ(), "station=TEST-01", "handover="+named(".handover.json"), "paper="+paper)
		if out, err := cmd.CombinedOutput(); (err == nil) != whole || whole && !strings.Contains(string(out), r.NewKey) {
			p.t.Errorf("the recipe, %v: %v\n%s", whole, err, out)
		}
	}
	manifests, err := filepath.Glob(filepath.Join(fetched, "TEST-01/2*/*/manifest.json"))
	if err != nil || len(manifests) != 2 {
		p.t.Fatalf("%v %v", manifests, err)
	}
	byOld := 0
	for _, m := range manifests {
		stored, err := os.Stat(filepath.Join(p.path("store/data/footage"), strings.TrimPrefix(m, fetched)+".sig"))
		if err != nil {
			p.t.Fatal(err)
		}
		check := func(list, at string) error {
			body, err := os.Open(m)
			if err != nil {
				p.t.Fatal(err)
			}
			defer body.Close()
			cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", list, "-I", "TEST-01", "-n", "ingestd-manifest", "-O", "verify-time="+at, "-s", m+".sig")
			cmd.Stdin = body
			return cmd.Run()
		}
		at := stored.ModTime().UTC().Format("20060102150405") + "Z"
		if err := check(named(".allowed_signers"), at); err != nil {
			p.t.Errorf("%s at %s: %v", m, at, err)
		}
		// The same by our own command, with the ledger.
		p.must("verify", "--folder", filepath.Dir(m), "--signers", named(".allowed_signers"), "--ledger", filepath.Join(fetched, "TEST-01/ledger"),
			"--signed-at", stored.ModTime().UTC().Format(time.RFC3339))
		body, err := os.ReadFile(m)
		if err != nil {
			p.t.Fatal(err)
		}
		if strings.Contains(string(body), r.OldKey) { // which manifest.json says it was signed with
			byOld++
			if err := check(named(".allowed_signers"), "20991231235959Z"); err == nil {
				p.t.Error("the former key is trusted for ever")
			}
		}
	}
	if byOld != 1 {
		p.t.Errorf("%d sessions are of the former key's time", byOld)
	}
}

// Wherever a change is cut off, the next start or the next try has a key that signs and
// that all trust.
func TestKeyRotateKilled(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1")
	keys := 1
	for n, c := range []struct {
		step  string
		begun bool
	}{
		{"published", false}, {"made", false}, {"begun", true}, {"line published", true}, {"documents written", true}, {"documents published", true},
		{"new key signed", true}, {"new key published", true}, {"trusted", true}, {"replaced", true},
	} {
		for _, byStart := range []bool{true, false} {
			if n > 2 && byStart == (n%2 == 0) {
				continue // each rotation takes seconds; from here on the ways alternate
			}
			before := p.keyShow(0).Fingerprint
			cmd := p.command("key", "rotate", "--reason", c.step)
			cmd.Env = append(cmd.Env, dieAtStep+"="+c.step)
			if out, err := cmd.CombinedOutput(); !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
				t.Fatalf("%s: not killed: %v\n%s", c.step, err, out)
			}
			switch {
			case byStart:
				p.write(fmt.Sprintf("card/%d.mp4", n), c.step)
				p.ingest(0, "card", "--recorder", "R1")
			case c.step == "replaced": // nothing is left to be finished
			default:
				r := p.rotate("again")
				if r.Resumed != c.begun || c.begun != (r.Reason == c.step) || r.OldKey != before {
					t.Errorf("%s: %+v", c.step, r)
				}
			}
			if changed := p.keyShow(0).Fingerprint != before; changed != (c.begun || !byStart) {
				t.Errorf("%s, by start %v: changed %v", c.step, byStart, changed)
			} else if changed {
				keys++
			}
			p.soundAfterRotation(keys)
		}
	}
	p.ingest(0, "card", "--recorder", "R2")
	p.soundAfterRotation(keys)
	if _, events := p.events(); keys != 12 || !slices.Contains(events, "key.in_force") {
		t.Errorf("%d keys, %v", keys, events)
	}
}

// A change that was cut off is told to whoever only reads.
func TestReadersTellThatARotationWasCutOff(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1")
	cmd := p.command("key", "rotate", "--reason", "x")
	cmd.Env = append(cmd.Env, dieAtStep+"=new key signed")
	_ = cmd.Run()
	for args, want := range map[string]int{"key show": exitFindings, "ledger tail": exitFindings, "ledger checkpoint": exitFindings, "ledger verify --local": exitFindings, "verify --all": 0} {
		out, errs, code := p.run(strings.Fields(args)...)
		if code != want || want != 0 && !strings.Contains(out+errs, "cut off") {
			t.Errorf("%s: exit %d\n%s%s", args, code, out, errs)
		}
	}
	out, errs, _ := p.run("doctor")
	if !strings.Contains(out+errs, "A change of the station's key was cut off") {
		t.Errorf("doctor says\n%s%s", out, errs)
	}
	p.must("run", "--check-only")
	p.soundAfterRotation(2)
}
