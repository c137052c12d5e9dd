package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// proofsAfterRotation has proofs of either time checked, and those of a thief who has the
// former key.
func (p *place) proofsAfterRotation(before, after keyJSON, stolen *stationkey.Key, last int) {
	p.t.Helper()
	p.write("new.pub", after.PublicKey+"\n")
	var doc ledgerProof
	for _, index := range []int{0, last - 1, last} {
		text := p.must("ledger", "prove", fmt.Sprint(index))
		p.write("proof", text)
		p.must("ledger", "prove", "--check", "proof")
		p.must("ledger", "prove", "--check", "proof", "--key", "new.pub")
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			p.t.Fatal(err)
		}
	}
	p.must("ledger", "prove", "--check", "older-proof")
	p.must("ledger", "prove", "--check", "older-proof", "--key", "former.pub")
	if _, _, code := p.run("ledger", "prove", "--check", "older-proof", "--key", "new.pub"); code != exitFindings {
		p.t.Errorf("a proof by the former key holds for the new one: exit %d", code)
	}
	// True lines, but of a size that the former key may not sign.
	doc.Key, doc.Checkpoint = before.Fingerprint, resigned(p.t, doc.Checkpoint, stolen)
	text, err := json.Marshal(doc)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("proof", string(text))
	if out, errs, code := p.run("ledger", "prove", "--check", "proof"); code != exitFindings || !strings.Contains(errs, "other hands") {
		p.t.Errorf("a thief's proof: exit %d\n%s%s", code, out, errs)
	}
	p.must("ledger", "prove", "--check", "proof", "--key", "former.pub") // who gives a key vouches for it
	p.write("checkpoint", doc.Checkpoint)
	p.finds("the thief's checkpoint", "--checkpoint", "checkpoint")

	// His own ledger in the place of the station's.
	all, _ := p.events()
	l, err := ledger.Open(p.t.Context(), p.path("forged"), ingest.LedgerSigner(stolen, "TEST-01"), func(ledger.Repair) {})
	if err != nil {
		p.t.Fatal(err)
	}
	for n := range last + 2 {
		if n == last-1 {
			continue // the line that hands over
		}
		if _, err := l.Append(p.t.Context(), all.Items[n].Entry); err != nil {
			p.t.Fatal(err)
		}
	}
	folder := p.path("state/ledger")
	if err := errors.Join(os.Rename(folder, p.path("kept")), os.CopyFS(folder, os.DirFS(p.path("forged")))); err != nil {
		p.t.Fatal(err)
	}
	p.finds("without the line that hands over")
	for _, args := range [][]string{{"ingest", "card2", "--recorder", "R2"}, {"key", "rotate", "--reason", "x"}} {
		if out, errs, code := p.run(args...); code != exitFailed || strings.Contains(out, "可以取下") || !strings.Contains(errs, ledger.ErrNotHandedOver.Error()) {
			p.t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}
	e, err := ledger.Rotated(all.Items[last-1].Entry, "ingestd/TEST-01", stolen.Public(), p.trusted(after.Fingerprint).Key)
	if err == nil {
		_, err = l.Append(p.t.Context(), e)
	}
	if err := errors.Join(err, os.RemoveAll(folder), os.CopyFS(folder, os.DirFS(p.path("forged")))); err != nil {
		p.t.Fatal(err)
	}
	p.finds("with a later one")
	if err := errors.Join(os.RemoveAll(folder), os.Rename(p.path("kept"), folder)); err != nil {
		p.t.Fatal(err)
	}
}

// finds has the folder's ledger verified, and wants a finding about its keys.
func (p *place) finds(what string, args ...string) {
	p.t.Helper()
	var v ledgerVerification
	p.into(&v, exitFindings, append([]string{"ledger", "verify", "--local"}, args...)...)
	if !slices.ContainsFunc(v.Findings, func(f ledgerFinding) bool { return f.Kind == ledger.FindingKey }) {
		p.t.Errorf("%s: %+v", what, v.Findings)
	}
}

// resigned is a checkpoint of the same lines, signed with another key.
func resigned(t *testing.T, signed string, key *stationkey.Key) string {
	t.Helper()
	text, _, _ := strings.Cut(signed, "\n\n")
	name, err := ledger.VerifierKey("ingestd/TEST-01", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := note.Sign(&note.Note{Text: text + "\n"}, thief{verifier, key})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

type thief struct {
	note.Verifier
	key *stationkey.Key
}

func (s thief) Sign(message []byte) ([]byte, error) { return s.key.SignRaw(message), nil }

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

// A ledger that was put back to before the change must not cost the new key, which is the
// only one that can go on with what the bucket has.
func TestKeyIsKeptWhereTheLedgerWasPutBack(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1")
	if err := os.CopyFS(p.path("yesterday"), os.DirFS(p.path("state/ledger"))); err != nil {
		t.Fatal(err)
	}
	cmd := p.command("key", "rotate", "--reason", "x")
	cmd.Env = append(cmd.Env, dieAtStep+"=line published")
	_ = cmd.Run()
	folder := p.path("state/ledger")
	if err := errors.Join(os.Rename(folder, p.path("kept")), os.CopyFS(folder, os.DirFS(p.path("yesterday")))); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"key", "rotate", "--reason", "x"}, {"ingest", "card", "--recorder", "R1"}} {
		if out, errs, code := p.run(args...); code != exitFailed || !strings.Contains(errs, "it is kept") {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}
	if err := errors.Join(os.RemoveAll(folder), os.Rename(p.path("kept"), folder)); err != nil {
		t.Fatal(err)
	}
	if r := p.rotate("y"); !r.Resumed || r.Reason != "x" {
		t.Errorf("%+v", r)
	}
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
	// The former key, from its backup, is none of the present either.
	if err := os.Link(p.path("state/station.key"), p.path("backup")); err != nil {
		t.Fatal(err)
	}
	r := p.rotate("x")
	if err := errors.Join(os.Rename(p.path("state/station.key"), p.path("present")), os.Link(p.path("backup"), p.path("state/station.key"))); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := p.run("ingest", "card", "--recorder", "R1"); code != exitFailed || !strings.Contains(errs, "is trusted, by") || !strings.Contains(errs, r.NewKey) {
		t.Errorf("the former key: exit %d\n%s%s", code, out, errs)
	}
	if err := os.Rename(p.path("present"), p.path("state/station.key")); err != nil {
		t.Fatal(err)
	}
	p.ingest(0, "card", "--recorder", "R1")
	p.soundAfterRotation(2)
	// As a credential the key can't be changed from here.
	p.write("credentials/station-key", "")
	cmd := p.command("key", "rotate", "--reason", "x")
	cmd.Env = append(cmd.Env, "CREDENTIALS_DIRECTORY="+p.path("credentials"))
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != exitRefused || !strings.Contains(string(out), "two steps") {
		t.Errorf("a credential: exit %d\n%s", cmd.ProcessState.ExitCode(), out)
	}
}
