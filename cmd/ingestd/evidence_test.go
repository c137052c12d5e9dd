package main

import (
	"os"
	"strings"
	"testing"
)

// What is lost of a station's evidence is never quietly begun anew: the station itself
// would sign another past.
func TestLostEvidenceIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1")
	p.lost("state/ledger", "ledger fetch")
	p.must("ledger", "fetch")
	p.must("ledger", "verify")
	if _, errs, code := p.run("ledger", "fetch"); code == 0 {
		t.Errorf("a ledger that is there was fetched over: %s", errs)
	}
	p.write("card/b.mp4", "more footage")
	p.ingest(0, "card", "--recorder", "R1")
	p.must("ledger", "verify")
	p.lost("state/station.key", "backup")
}

// The ended sessions in the journal, too, show that there was a ledger; and it can be
// fetched with the key alone.
func TestALedgerIsNotBegunAnewUnderEndedSessions(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card", "--recorder", "R1")
	if err := os.Remove(p.path("state/allowed_signers")); err != nil {
		t.Fatal(err)
	}
	p.lost("state/ledger", "ledger fetch")
	if _, errs, code := p.run("recorders", "add", "R1"); code != exitFailed || !strings.Contains(errs, "ledger fetch") {
		t.Errorf("recorders add: exit %d\n%s", code, errs)
	}
	p.must("ledger", "fetch")
	p.must("ledger", "verify")
	before := len(p.lines("config.taken"))
	p.ingest(0, "card", "--recorder", "R1")
	if after := len(p.lines("config.taken")); after != before+1 {
		t.Errorf("%d lines of the settings, then %d: what the fetched ledger may have lost was not said again", before, after)
	}
	p.must("ledger", "verify")
}

// lost removes a part of the evidence: nothing is called safe without it, and what to
// do is said.
func (p *place) lost(part, hint string) {
	p.t.Helper()
	if err := os.RemoveAll(p.path(part)); err != nil {
		p.t.Fatal(err)
	}
	out, errs, code := p.run("ingest", "card", "--recorder", "R1")
	if code != 1 || !strings.Contains(errs, hint) || strings.Contains(out, "可以取下") {
		p.t.Errorf("without %s: exit %d\n%s%s", part, code, out, errs)
	}
	if _, err := os.Lstat(p.path(part)); err == nil {
		p.t.Errorf("%s was made anew", part)
	}
}
