//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// command is one of ingestd's that goes on until it is told to end.
type command struct {
	m    *machine
	name string
	from int
}

func (m *machine) begin(t testing.TB, args ...string) *command {
	t.Helper()
	c := &command{m: m, name: m.unique(args[0]), from: m.now()}
	m.must(t, "start", wire.Start{Name: c.name, Args: append([]string{"/bin/ingestd", "--config", "/etc/ingestd.yaml"}, args...)}, nil)
	return c
}

// says waits for a line with these words.
func (c *command) says(t testing.TB, words string) {
	t.Helper()
	c.m.wait(t, c.from, "the command to say "+words, func(e wire.Event) bool {
		if e.Kind == wire.Exit && e.Name == c.name {
			t.Fatalf("%s has ended (%s) before it said %q", c.name, e.Text, words)
		}
		return e.Kind == wire.Output && e.Name == c.name && strings.Contains(e.Text, words)
	})
}

// ends waits until it has ended, which must be as wished.
func (c *command) ends(t testing.TB, want string) {
	t.Helper()
	end := c.m.wait(t, c.from, "the command to end", func(e wire.Event) bool { return e.Kind == wire.Exit && e.Name == c.name })
	if end.Text != want {
		t.Errorf("%s has ended with %s, want %s", c.name, end.Text, want)
	}
}

// testCommands does what an installer and a developer do: learn a slot by plugging
// something in, look at what is plugged in, and plug in a recorder that is software.
func testCommands(t *testing.T, w *world) {
	d := w.run(t, "usb: {watch: all}")
	learn := w.m.begin(t, "slots", "learn", "--count", "1")
	learn.says(t, "slot 1: plug in a recorder")
	files := footage("LEARNED", 400, 1, 64<<10)
	p := w.m.plug(t, stick{Image: fatCard(t, w, layout{}, files), Serial: "LEARNED", Port: 6})
	learn.says(t, `{name: "1", port: 2-6}`)
	learn.ends(t, "exit status 0")
	d.safe(t, d.from, "2-6")
	if list := w.m.run(t, "/bin/ingestd", "--config", "/etc/ingestd.yaml", "slots", "list"); !strings.Contains(list, "2-6") || !strings.Contains(list, "LEARNED") {
		t.Errorf("slots list shows\n%s", list)
	}
	if found := w.m.run(t, "/bin/ingestd", "--config", "/etc/ingestd.yaml", "recorders", "test", "usb:2-6"); !strings.Contains(found, "LEARNED") {
		t.Errorf("recorders test usb shows\n%s", found)
	}
	from := w.m.now()
	p.unplug(t)
	d.waitFrom(t, from, "slot.removed", "2-6")
	d.waitFrom(t, from, "slot.preuse", "2-6")

	from = w.m.now()
	demo := w.m.begin(t, "demo", "--usb", "--serial", "SIM0001", "--clips", "1")
	demo.says(t, "recorder SIM0001 is plugged in")
	safe := d.safe(t, from, "")
	if safe.Recorder != "SIM0001" {
		t.Errorf("the simulated recorder is known as %q", safe.Recorder)
	}
	w.m.must(t, "signal", wire.Signal{Name: demo.name, Signal: int(syscall.SIGTERM)}, nil)
	demo.says(t, "pulled out")
	demo.ends(t, "exit status 0")
	d.waitFrom(t, from, "slot.removed", "")
}
