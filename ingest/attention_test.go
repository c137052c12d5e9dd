package ingest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest"
)

// What a person should look after is kept once for each kind and slot, the latest of it,
// and not for ever.
func TestAttention(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var a ingest.Attention
	if all := a.All(); len(all) != 0 {
		t.Errorf("%+v before anything has happened", all)
	}
	for _, e := range []ingest.Event{
		{Name: "ingest.finished", Level: ingest.Info, Time: now},
		{Name: "clock.not_set", Level: ingest.Warn, Slot: "1", Time: now.Add(-8 * 24 * time.Hour)},
		{Name: "slot.removed_early", Level: ingest.Alarm, Slot: "3", Time: now.Add(-3 * time.Hour), Session: "A"},
		{Name: "ledger.unpublished", Level: ingest.Warn, Time: now.Add(-2 * time.Hour)},
		{Name: "slot.removed_early", Level: ingest.Alarm, Slot: "3", Time: now.Add(-time.Hour), Session: "B"},
		{Name: "slot.removed_early", Level: ingest.Alarm, Slot: "4", Time: now.Add(-90 * time.Minute), Session: "C"},
	} {
		a.Observe(e)
	}
	got := ""
	for _, n := range a.All() {
		got += fmt.Sprintf("%s %s %s %d× %s; ", n.Name, n.Slot, n.Session, n.Times, n.Time.Sub(n.First))
	}
	const want = "slot.removed_early 3 B 2× 2h0m0s; slot.removed_early 4 C 1× 0s; ledger.unpublished   1× 0s; "
	if got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	for i := range 1000 {
		a.Observe(ingest.Event{Name: "source.trouble", Level: ingest.Alarm, Slot: fmt.Sprint(i), Time: now.Add(time.Duration(i))})
	}
	if all := a.All(); len(all) != 100 || all[0].Slot != "999" || all[99].Slot != "900" {
		t.Errorf("%d are kept", len(all))
	}
}
