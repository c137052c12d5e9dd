//go:build faults

package faults

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
)

// judgeLedger reads the file as it lies there: a line of JSON for each event, of which
// a crash may have left the last one half.
func (p *place) judgeLedger(all []object, sessions []session) {
	sums := map[string]string{}
	for _, o := range all {
		sums[o.key] = o.sum
	}
	text, err := os.ReadFile(p.path("state/ledger/entries.jsonl"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.violate("the ledger can't be read: %v", err)
		return
	}
	told := map[string]string{} // by session, how it has ended and with which manifest
	lines := strings.Split(string(text), "\n")
	for i, line := range lines[:len(lines)-1] {
		var e struct {
			Event, Session string
			Objects        []struct{ SHA256 string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			p.violate("line %d of the ledger: %v", i+1, err)
		} else if len(e.Objects) == 1 {
			told[e.Session] = e.Event + " " + e.Objects[0].SHA256
		}
	}
	for _, s := range sessions {
		if s.State != "sealed" && s.State != "failed" {
			continue
		}
		if want := "session." + s.State + " " + sums[s.Manifest]; told[s.ID] != want {
			p.violate("session %s is %s, and the ledger says %q, not %q", s.ID, s.State, told[s.ID], want)
		}
	}
}
