package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/ledger"
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
	if p.into(&v, 0, "ledger", "verify"); !v.Sound || len(v.Told) != 0 || v.Key != k.Fingerprint || v.Bucket.Size != v.Folder.Size {
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
	d.published(2)
	if _, errs, code := p.run("key", "rotate", "--reason", "x"); code != exitLocked {
		t.Errorf("beside the daemon: exit %d\n%s", code, errs)
	}
	d.end()
	if _, errs, code := p.run("key", "rotate", "--reason", " "); code != exitUsage {
		t.Errorf("without a reason: exit %d\n%s", code, errs)
	}
	p.must("ledger", "checkpoint", "--out", "older")
	p.write("older-proof", p.must("ledger", "prove", "1"))
	before := p.keyShow(0)
	p.write("former.pub", before.PublicKey+"\n")
	stolen, err := stationkey.Load(p.path("state/station.key"))
	if err != nil {
		t.Fatal(err)
	}

	r := p.rotate("the keeper has left")
	after := p.keyShow(0)
	if r.OldKey != before.Fingerprint || r.NewKey != after.Fingerprint || r.OldKey == r.NewKey || r.LastSize != 3 || r.Resumed || r.Station != "TEST-01" || r.Reason != "the keeper has left" {
		t.Errorf("%+v", r)
	}
	all, events := p.events()
	if !slices.Equal(events, []string{"key.made", "session.sealed", "key.rotated", "key.in_force"}) {
		t.Fatal(events)
	}
	line := all.Items[2].Entry
	if line.Reason != r.Reason || line.Actor != actor() || line.Detail["old_fingerprint"] != r.OldKey || line.Detail["new_fingerprint"] != r.NewKey || line.Detail["new_public_key"] != after.PublicKey {
		t.Errorf("%+v", line)
	}
	p.soundAfterRotation(2)
	p.must("ledger", "verify", "--local", "--checkpoint", "older")
	p.write("card2/b.mp4", "more footage")
	p.ingest(0, "card2", "--recorder", "R2")
	p.soundAfterRotation(2)
	p.proofsAfterRotation(before, after, stolen)
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

// proofsAfterRotation has proofs of either time checked, and one by a thief.
func (p *place) proofsAfterRotation(before, after keyJSON, stolen *stationkey.Key) {
	p.t.Helper()
	p.write("new.pub", after.PublicKey+"\n")
	for index := range 4 {
		p.write("proof", p.must("ledger", "prove", fmt.Sprint(index)))
		p.must("ledger", "prove", "--check", "proof")
		p.must("ledger", "prove", "--check", "proof", "--key", "new.pub")
	}
	p.must("ledger", "prove", "--check", "older-proof")
	p.must("ledger", "prove", "--check", "older-proof", "--key", "former.pub")
	if _, _, code := p.run("ledger", "prove", "--check", "older-proof", "--key", "new.pub"); code != exitFindings {
		p.t.Errorf("a proof by the former key holds for the new one: exit %d", code)
	}
	// The thief goes on where the former key still signed.
	l, err := ledger.Open(p.t.Context(), p.path("forged"), ingest.LedgerSigner(stolen, "TEST-01"), func(ledger.Repair) {})
	if err != nil {
		p.t.Fatal(err)
	}
	all, _ := p.events()
	for _, i := range []int{0, 1, 1, 1, 1} {
		if _, err := l.Append(p.t.Context(), all.Items[i].Entry); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, size := range []int64{3, 5} {
		doc := ledgerProof{Schema: ledgerProofSchema, Origin: "ingestd/TEST-01", Key: before.Fingerprint, Index: 1, Size: size}
		proof, err1 := l.Prove(p.t.Context(), 1, size)
		line, err2 := all.Items[1].Entry.Encode()
		note, err3 := l.Checkpoint()
		doc.Proof, doc.Line, doc.Checkpoint = proof, string(line), string(note)
		text, err4 := json.Marshal(doc)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			p.t.Fatal(err)
		}
		p.write("proof", string(text))
		if _, errs, code := p.run("ledger", "prove", "--check", "proof"); code != exitFindings {
			p.t.Errorf("a thief's proof of size %d: exit %d\n%s", size, code, errs)
		}
	}
	// His ledger in the place of the station's is seen, and nothing goes on with it.
	for name, rotated := range map[string]bool{"without the line that hands over": false, "with a later one": true} {
		if rotated {
			e, err := ledger.Rotated(all.Items[2].Entry, "ingestd/TEST-01", stolen.Public(), p.trusted(after.Fingerprint).Key)
			if err == nil {
				_, err = l.Append(p.t.Context(), e)
			}
			if err != nil {
				p.t.Fatal(err)
			}
		}
		kept, folder := p.path("kept"), p.path("state/ledger")
		if err := errors.Join(os.Rename(folder, kept), os.CopyFS(folder, os.DirFS(p.path("forged")))); err != nil {
			p.t.Fatal(err)
		}
		var v ledgerVerification
		if p.into(&v, exitFindings, "ledger", "verify", "--local"); v.Sound || !slices.ContainsFunc(v.Findings, func(f ledgerFinding) bool { return f.Kind == ledger.FindingKey }) {
			p.t.Errorf("%s: %+v", name, v.Findings)
		}
		if !rotated {
			if out, errs, code := p.run("ingest", "card2", "--recorder", "R2"); code != exitFailed || strings.Contains(out, "可以取下") {
				p.t.Errorf("%s, ingest: exit %d\n%s%s", name, code, out, errs)
			}
		}
		if err := errors.Join(os.RemoveAll(folder), os.Rename(kept, folder)); err != nil {
			p.t.Fatal(err)
		}
		if rotated {
			break
		}
	}
}

// trusted is a key of the station's list.
func (p *place) trusted(fingerprint string) stationkey.Signer {
	p.t.Helper()
	text, err := os.ReadFile(p.path("state/allowed_signers"))
	if err != nil {
		p.t.Fatal(err)
	}
	ring, err := stationkey.ParseRing(text)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, s := range ring.Signers() {
		if s.Fingerprint() == fingerprint {
			return s
		}
	}
	p.t.Fatalf("%s is not in\n%s", fingerprint, text)
	return stationkey.Signer{}
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
		check := func(list, time string) error {
			body, err := os.Open(m)
			if err != nil {
				p.t.Fatal(err)
			}
			defer body.Close()
			cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", list, "-I", "TEST-01", "-n", "ingestd-manifest", "-O", "verify-time="+time, "-s", m+".sig")
			cmd.Stdin = body
			return cmd.Run()
		}
		at := stored.ModTime().UTC().Format("20060102150405") + "Z"
		if err := check(named(".allowed_signers"), at); err != nil {
			p.t.Errorf("%s at %s: %v", m, at, err)
		}
		if h.HandOver.At.After(stored.ModTime()) {
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

// A key that the present one did not hand over to is not signed with.
func TestForeignKeysAreRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1")
	k := p.keyShow(0)
	if err := os.Rename(p.path("state/station.key"), p.path("kept")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(p.path("state/station.key.pub")); err != nil {
		t.Fatal(err)
	}
	foreign, err := stationkey.Create(p.path("state/station.key"), "TEST-01")
	if err != nil {
		t.Fatal(err)
	}
	p.write("card/b.mp4", "more")
	for _, args := range [][]string{{"ingest", "card", "--recorder", "R1"}, {"run", "--check-only"}, {"key", "rotate", "--reason", "x"}} {
		out, errs, code := p.run(args...)
		if code != exitFailed || !strings.Contains(errs, foreign.Fingerprint()) || !strings.Contains(errs, k.Fingerprint) || !strings.Contains(errs, "backup") || strings.Contains(out, "可以取下") {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}
	// In the place of the next key: nothing hands over to it.
	if err := errors.Join(os.Rename(p.path("state/station.key"), p.path("state/station.key.next")), os.Rename(p.path("kept"), p.path("state/station.key")),
		os.Rename(p.path("state/station.key.pub"), p.path("state/station.key.next.pub")), os.WriteFile(p.path("state/station.key.pub"), []byte(k.PublicKey+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	p.ingest(0, "card", "--recorder", "R1")
	p.soundAfterRotation(1)
	if now := p.keyShow(0).Fingerprint; now != k.Fingerprint {
		t.Errorf("the key is %s now", now)
	}
	// As a credential the key can't be changed from here.
	p.write("credentials/station-key", "")
	cmd := p.command("key", "rotate", "--reason", "x")
	cmd.Env = append(cmd.Env, "CREDENTIALS_DIRECTORY="+p.path("credentials"))
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != exitRefused || !strings.Contains(string(out), "two steps") {
		t.Errorf("a credential: exit %d\n%s", cmd.ProcessState.ExitCode(), out)
	}
}
