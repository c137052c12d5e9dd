package console_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/console"
)

// telling is a card that tells of itself what a recorder would.
type telling struct {
	device.Recorder
	offset  time.Duration
	battery int
}

func (r telling) Clock(context.Context) (device.ClockReading, error) {
	uncertainty := 50 * time.Millisecond
	return device.ClockReading{Kind: device.ClockMeasured, Method: "PTP 0x5011", Offset: &r.offset, Uncertainty: &uncertainty}, nil
}

func (r telling) Health(context.Context) (device.Health, error) {
	return device.Health{BatteryPercent: &r.battery}, nil
}

// dockIn puts a card with one recording into a slot, whose session ends, and leaves it
// there until pull.
func (w *world) dockIn(slot, recorder string, as func(device.Recorder) device.Recorder) (pull func()) {
	w.t.Helper()
	dir, removed := w.t.TempDir(), make(chan struct{})
	if err := os.WriteFile(filepath.Join(dir, "A.MP4"), []byte("footage of "+recorder), 0o600); err != nil {
		w.t.Fatal(err)
	}
	_, err := w.station.Ingest(w.t.Context(), device.Docking{Slot: slot, Removed: removed, Open: func(context.Context) (device.Recorder, error) {
		r, err := folder.Open(dir)
		if err != nil {
			return nil, err
		}
		return as(r), nil
	}}, ingest.Options{Recorder: recorder, Officer: "012345"})
	if err != nil {
		w.t.Fatal(err)
	}
	return func() { close(removed) }
}

// The dock says what is in each slot, where the slot is, and what its recorder has told;
// what it has not told is unknown.
func TestTheDock(t *testing.T) {
	t.Parallel()
	w := storedWorld(t, func(o *console.Options) {
		o.Ports = map[string]string{"1": "USB 2-1.3", "2": "/media/dock/2"}
	})
	w.dockIn("1", "DSJ-0600", func(r device.Recorder) device.Recorder { return telling{r, -27 * time.Hour, 0} })
	pull := w.dockIn("2", "DSJ-0601", func(r device.Recorder) device.Recorder { return r })
	b := w.login("it")
	row := func(slot string) string {
		t.Helper()
		a := b.get("/admin/dock")
		_, rest, _ := strings.Cut(a.body, "<tr><td>"+slot+"</td>")
		rest, _, _ = strings.Cut(rest, "</tr>")
		return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(rest, " ")), " ")
	}
	for slot, want := range map[string][]string{
		"1": {"USB 2-1.3", "✓ 可以取下", "DSJ-0600", "012345", "1/1", "▲ 慢 1.1天", "0 %"},
		"2": {"/media/dock/2", "✓ 可以取下", "DSJ-0601", "未知"},
	} {
		got := row(slot)
		for _, word := range want {
			if !strings.Contains(got, word) {
				t.Errorf("slot %s does not say %q: %s", slot, word, got)
			}
		}
	}
	if got := row("2"); strings.Contains(got, "%") {
		t.Errorf("a battery that nobody has read: %s", got)
	}
	pull()
	var got string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got = row("2"); strings.Contains(got, "空闲") {
			break
		}
	}
	if !strings.Contains(got, "上一台 DSJ-0601：已全部入库") {
		t.Errorf("after it was taken out: %s", got)
	}
}
