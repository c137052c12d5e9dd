//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// line is one event of the daemon's log; see ingest/README.md.
type line struct {
	Level    string    `json:"level"`
	Event    string    `json:"event"`
	Slot     string    `json:"slot"`
	Session  string    `json:"session"`
	Recorder string    `json:"recorder"`
	File     string    `json:"file"`
	Message  string    `json:"msg"`
	Err      string    `json:"err"`
	Time     time.Time `json:"time"` // by the machine's clock
	Bytes    int64     `json:"bytes"`
}

// daemon is one run of the program under test.
type daemon struct {
	m     *machine
	name  string
	from  int // of the machine's events
	ended bool
}

// run starts the daemon with the settings of every scenario and those given here,
// as YAML, and waits until it is ready.
func (w *world) run(t testing.TB, settings string) *daemon {
	t.Helper()
	m := w.m
	config := fmt.Sprintf(`station: {id: %s}
state_dir: /var/lib/ingestd
storage:
  kind: s3
  bucket: %s
  s3: {endpoint: "127.0.0.1:9000", tls: false, credentials_file: /etc/ingestd.keys}
  part_size: 5MiB
  buffer_memory: 40MiB
board: {listen: ""}
log: {format: json, level: debug}
%s
`, station, bucket, settings)
	m.must(t, "write", wire.File{Path: "/etc/ingestd.yaml", Data: []byte(config)}, nil)
	m.must(t, "write", wire.File{Path: "/etc/ingestd.keys", Data: []byte(w.store.keys), Mode: 0o600}, nil)
	return m.daemon(t, "/etc/ingestd.yaml")
}

// daemon starts the daemon with settings that are in the machine, and waits until it
// is ready.
func (m *machine) daemon(t testing.TB, config string) *daemon {
	t.Helper()
	d := &daemon{m: m, name: m.unique("ingestd"), from: m.now()}
	m.must(t, "start", wire.Start{Name: d.name, Args: []string{"/bin/ingestd", "run", "--config", config}}, nil)
	t.Cleanup(func() {
		d.stop(t)
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log())
		}
	})
	d.wait(t, "daemon.ready", "")
	return d
}

// stop ends it as systemd does, which must be clean. Once it has ended it does
// nothing.
func (d *daemon) stop(t testing.TB) {
	t.Helper()
	if d.ended {
		return
	}
	d.ended = true
	if err := d.m.ask("signal", wire.Signal{Name: d.name, Signal: int(syscall.SIGTERM)}, nil); err != nil {
		t.Errorf("%v: it has ended by itself", err)
		return
	}
	exit := d.m.wait(t, d.from, "the daemon to end", func(e wire.Event) bool { return e.Kind == wire.Exit && e.Name == d.name })
	if exit.Text != "exit status 0" {
		t.Errorf("the daemon has ended with %s", exit.Text)
	}
}

// kill ends it as a crash does.
func (d *daemon) kill(t testing.TB) {
	t.Helper()
	d.ended = true
	d.m.must(t, "signal", wire.Signal{Name: d.name, Signal: int(syscall.SIGKILL)}, nil)
	d.m.wait(t, d.from, "the daemon to end", func(e wire.Event) bool { return e.Kind == wire.Exit && e.Name == d.name })
}

func (d *daemon) log() string {
	var b strings.Builder
	events, _ := d.m.since(d.from)
	for _, e := range events {
		if e.Name == d.name {
			fmt.Fprintf(&b, "%s\n", e.Text)
		}
	}
	return b.String()
}

// is tells whether an event is a line of this daemon's log, and which.
func (d *daemon) is(e wire.Event) (line, bool) {
	var l line
	if e.Kind != wire.Output || e.Name != d.name || json.Unmarshal([]byte(e.Text), &l) != nil {
		return line{}, false
	}
	return l, true
}

// lines are all so far that are as wished.
func (d *daemon) lines(wished func(line) bool) (found []line) {
	events, _ := d.m.since(d.from)
	for _, e := range events {
		if l, ok := d.is(e); ok && wished(l) {
			found = append(found, l)
		}
	}
	return found
}

// wait gives the first event of a name in a slot, "" for any. An event that says
// that this can't come any more ends the wait.
func (d *daemon) wait(t testing.TB, event, slot string) line {
	t.Helper()
	return d.waitFrom(t, d.from, event, slot)
}

// waitFrom is wait for events from a number on.
func (d *daemon) waitFrom(t testing.TB, from int, event, slot string) (found line) {
	t.Helper()
	d.m.wait(t, from, event+" in slot "+slot, func(e wire.Event) bool {
		if e.Kind == wire.Exit && e.Name == d.name {
			t.Fatalf("the daemon has ended (%s) before %s", e.Text, event)
		}
		l, ok := d.is(e)
		if !ok || (slot != "" && l.Slot != slot) {
			return false
		}
		found = l
		if l.Event != event && event != "slot.removed" && l.ends() {
			t.Fatalf("%s came where %s was to come: %+v", l.Event, event, l)
		}
		return l.Event == event
	})
	return found
}

// ends tells whether an event is the end of a docking: nothing more is to come of
// it, unless it is tried again.
func (l line) ends() bool {
	switch l.Event {
	case "ingest.finished", "ingest.failed", "slot.removed_early", "device.conflict":
		return true
	case "device.unknown":
		return l.Err != "" // else it is taken in all the same
	}
	return false
}

// reached waits until an event has come in so many slots.
func (d *daemon) reached(t testing.TB, from int, event string, slots int) {
	t.Helper()
	in := map[string]bool{}
	d.m.wait(t, from, fmt.Sprintf("%s in %d slots", event, slots), func(e wire.Event) bool {
		l, ok := d.is(e)
		if ok && l.Event == event {
			in[l.Slot] = true
		} else if ok && event != "slot.removed" && l.ends() {
			t.Fatalf("%s came where %s was to come: %+v", l.Event, event, l)
		}
		return len(in) == slots
	})
}

// safe waits until the recorder in a slot may be taken, and gives that event. The
// log says it with ingest.finished, which has the state first.
func (d *daemon) safe(t testing.TB, from int, slot string) line {
	t.Helper()
	l := d.waitFrom(t, from, "ingest.finished", slot)
	if !strings.HasPrefix(l.Message, "safe") {
		t.Errorf("ingest.finished without safe: %+v", l)
	}
	return l
}

// counters are what the kernel tells of the daemon.
func (d *daemon) counters(t testing.TB) (c wire.Counters) {
	t.Helper()
	d.m.must(t, "counters", wire.Name{Name: d.name}, &c)
	return c
}
