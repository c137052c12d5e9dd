package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
)

// The states that would take hours to come about, each as the pulse of a session shows
// it. Whoever stops the watchdog's pings by mistake cuts off other recorders.
func TestOnlyAStandstillThatARestartMendsIsStuck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		after time.Duration
		waits [][]wait // of each session
		moves bool     // the last session goes on
		says  string   // empty: not stuck
	}{
		{"nothing to do", time.Hour, nil, false, ""},
		{"just begun", time.Minute, [][]wait{{}}, false, ""},
		{"waits for nothing", stuckAfter, [][]wait{{}}, false, "slot 0"},
		{"waits for nothing, beside one that moves", stuckAfter, [][]wait{{}, {forRecorder}}, true, "slot 0"},
		{"moves", time.Hour, [][]wait{{}}, true, ""},
		{"its turn", 9 * time.Hour, [][]wait{{forTurn}}, false, ""},
		{"the store, as long as it may", stuckAfter, [][]wait{{forStore}}, false, ""},
		{"the store, beyond every limit", hungAfter, [][]wait{{forStore}}, false, "slot 0"},
		{"a recorder, while another moves", 9 * time.Hour, [][]wait{{forRecorder}, {}}, true, ""},
		{"a recorder, while another waits for its turn", hungAfter, [][]wait{{forRecorder}, {forTurn}}, false, "slot 0"},
		{"memory that nobody uses", stuckAfter, [][]wait{{forMemory}, {forMemory}}, false, "slot "},
		{"memory that another needs for the store", stuckAfter, [][]wait{{forMemory}, {forStore}}, false, ""},
	} {
		var all working
		var last *session
		for i, waits := range c.waits {
			last = &session{docking: device.Docking{Slot: string(rune('0' + i))}}
			for _, what := range waits {
				last.pulse.now[what].Add(1)
			}
			defer all.begin(last)()
		}
		if c.moves {
			last.pulse.beat()
		}
		err := all.stuck(time.Now().Add(c.after))
		if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

func TestASessionThatHasEndedIsNotStuck(t *testing.T) {
	t.Parallel()
	var all working
	all.begin(&session{})()
	if err := all.stuck(time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
}
