package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/ingest/fetched"
)

// What a plain client fetched from a station is checked where no station is: no
// settings, no state, no store.
func TestVerifyFolderNeedsNoStation(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	d := p.startDaemon()
	d.sealed("card1", map[string]string{"a.mp4": "footage", "片段 b.mp4": "other footage"})
	p.must("ledger", "checkpoint", "--out", "paper")
	p.write("drop/card1/c.mp4", "third footage")
	d.waitFor(`safe: 3 files, 1 stored, 2 identical`)
	d.published(8) // key, settings, bucket and preview; two lines for each of the two dockings
	there := p.path("fetched")
	p.fetch("TEST-01/", there)
	p.write("signers", p.keyShow(0).AllowedSigners)
	if code := d.stop(); code != 0 {
		t.Errorf("the daemon ended with %d:\n%s", code, d.log())
	}
	for _, station := range []string{"store", "state", "ingestd.yaml"} {
		if err := os.RemoveAll(p.path(station)); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(want int, args ...string) (r struct {
		Schema string
		Whole  bool
		fetched.Report
	}) {
		t.Helper()
		out, code := p.inside(append([]string{"-o", "json", "verify", "--folder"}, args...)...)
		// What an error says comes behind the document.
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); err != nil || code != want || r.Whole != (want == 0) {
			t.Errorf("%v: exit %d, want %d, %v\n%s", args, code, want, err, out)
		}
		return r
	}
	all := []string{there, "--signers", p.path("signers"), "--ledger", filepath.Join(there, "TEST-01/ledger"), "--checkpoint", p.path("paper")}
	r := verify(0, all...)
	if len(r.Sessions) != 2 || r.Ledger == nil || r.Ledger.Size != 8 || r.Schema != "ingestd.verify-folder/1" {
		t.Fatalf("%+v", r)
	}
	byStored := r.Sessions
	slices.SortFunc(byStored, func(a, b *fetched.Session) int { return b.Files - a.Files })
	if a, b := byStored[0], byStored[1]; a.Files != 2 || b.Files != 1 || b.Elsewhere != 2 || a.LedgerLine == nil || b.LedgerLine == nil || a.SignedBy == "" {
		t.Errorf("%+v %+v", a, b)
	}
	one := filepath.Join(there, byStored[0].Path)
	if out, code := p.inside("verify", "--folder", one, "--signers", p.path("signers")); code != 0 || !strings.Contains(out, byStored[0].ID) || !strings.Contains(out, "0 findings, 0 not checked") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if out, code := p.inside("verify", "--folder", one); code != exitFindings || !strings.Contains(out, "signature not checked: not known whose") || !strings.Contains(out, "未知 unknown") {
		t.Errorf("without the key: exit %d\n%s", code, out)
	}
	if r := verify(exitFindings, filepath.Join(there, byStored[1].Path), "--signers", p.path("signers")); len(r.Findings) != 0 || len(r.NotChecked) != 2 {
		t.Errorf("without the session before it: %+v", r)
	}
	if err := os.WriteFile(filepath.Join(one, "footage/a.mp4"), []byte("Footage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify(exitFindings, all...); len(r.Findings) != 2 || fmt.Sprint(r.Findings[0].Problem, r.Findings[1].Problem) != "mismatchmismatch" {
		t.Errorf("changed: %+v", r.Findings)
	}
	for args, want := range map[string]int{
		"--folder nowhere": exitNotFound, "--folder " + p.path("drop"): exitNotFound, "--folder " + one + " --signers nowhere": exitNotFound,
		"--folder " + one + " --signers " + filepath.Join(one, "SHA256SUMS"): exitUsage, "--folder " + one + " --signers /dev/null": exitUsage,
		"--folder " + one + " --ledger nowhere": exitNotFound, "--folder " + one + " --checkpoint " + p.path("paper"): exitUsage,
		"--folder " + one + " --signed-at noon": exitUsage, "--folder " + one + " --seed 1": exitUsage, "--folder " + one + " --all": exitUsage,
		"--all --signers x": exitUsage, "X --ledger x": exitUsage,
	} {
		if out, code := p.inside(append([]string{"verify"}, strings.Fields(args)...)...); code != want {
			t.Errorf("verify %s: exit %d, want %d\n%s", args, code, want, out)
		}
	}
}
