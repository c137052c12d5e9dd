package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest"
)

// systemd is the other end of $NOTIFY_SOCKET.
type systemd struct {
	t    *testing.T
	path string

	mu   sync.Mutex
	said []string // guarded by mu
}

func newSystemd(t *testing.T) *systemd {
	t.Helper()
	s := &systemd{t: t, path: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		p := make([]byte, 4096)
		for {
			n, err := conn.Read(p)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.said = append(s.said, string(p[:n]))
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *systemd) count(state string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, said := range s.said {
		if said == state {
			n++
		}
	}
	return n
}

func (s *systemd) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.said)
}

func (s *systemd) waitFor(state string, more int) {
	s.t.Helper()
	for end := time.Now().Add(90 * time.Second); s.count(state) < more; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("systemd was not told %s %d times: %q", state, more, s.all())
		}
	}
}

// The daemon as systemd sees it: ready when it is, what its slots show, and pings that
// end when its journal, held here by another program, does not commit.
func TestSystemdIsToldWhatIsTrue(t *testing.T) {
	t.Parallel()
	s := newSystemd(t)
	p := newPlace(t, testConfig)
	d := p.startDaemon("NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=8000000")
	s.waitFor("READY=1", 1)
	d.waitFor(`"daemon.ready"`)
	s.waitFor("WATCHDOG=1", 2)
	all := s.all()
	if ready, more := slices.Index(all, "READY=1"), slices.Index(all, "EXTEND_TIMEOUT_USEC=30000000"); more < 0 || more > ready {
		t.Errorf("no more time was asked for while the store was opened: %q", all)
	}
	p.write("drop/1/a.mp4", "footage")
	s.waitFor("STATUS=0 采集中, 1 可取下", 1)
	d.waitFor("safe: 1 files")
	if s.count("STATUS=1 采集中, 0 可取下") != 1 {
		t.Errorf("it was not told that a recorder was being taken in: %q", s.all())
	}

	db, err := sql.Open("sqlite", p.path("state/journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err == nil {
		_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	}
	if err != nil {
		t.Fatal(err)
	}
	p.write("drop/2/a.mp4", "footage")
	d.waitFor("the journal, on the disk of state_dir, does not answer")
	before := s.count("WATCHDOG=1")
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	s.waitFor("WATCHDOG=1", before+1)
	s.waitFor("STATUS=0 采集中, 2 可取下", 1)
	if code := d.stop(); code != 0 {
		t.Errorf("the daemon ended with %d", code)
	}
}

// answers is a journal.
type answers func(context.Context) error

func (a answers) Answers(ctx context.Context) error { return a(ctx) }

func TestNoPingWhileSomethingIsStuck(t *testing.T) {
	t.Parallel()
	fine := answers(func(context.Context) error { return nil })
	for name, c := range map[string]struct {
		journal answers
		loop    bool // it turns over
		stuck   error
		says    string
	}{
		"nothing":   {fine, true, nil, ""},
		"journal":   {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, true, nil, "journal"},
		"a watcher": {fine, false, nil, "the watcher of folders"},
		"a session": {fine, true, errors.New("the session in slot 3 has stood still"), "slot 3"},
	} {
		ctx, stop := context.WithCancel(t.Context())
		pinged, told := make(chan string, 100), make(chan ingest.Event, 100)
		s := &supervised{
			every: 20 * time.Millisecond, loops: map[string]chan<- struct{}{},
			notify: func(state string) error { pinged <- state; return nil },
		}
		ask := s.asked(ctx, "the watcher of folders")
		if c.loop {
			go func() {
				for {
					select {
					case <-ask:
					case <-ctx.Done():
						return
					}
				}
			}()
		}
		go s.watchdog(ctx, c.journal, func() error { return c.stuck }, func(e ingest.Event) { told <- e })
		if c.says == "" {
			if got := <-pinged; got != "WATCHDOG=1" {
				t.Errorf("%s: %s", name, got)
			}
		} else if e := <-told; e.Name != "daemon.stuck" || !strings.Contains(e.Err.Error(), c.says) {
			t.Errorf("%s: %+v", name, e)
		}
		stop()
		if c.says != "" && len(pinged) > 0 {
			t.Errorf("%s: pinged all the same", name)
		}
	}
}

func TestSlotsInTheStatus(t *testing.T) {
	t.Parallel()
	var last string
	s := newSupervised()
	s.notify = func(state string) error { last = state; return nil }
	for _, c := range []struct {
		e    ingest.Event
		want string
	}{
		{ingest.Event{Name: "slot.inserted", Slot: "1"}, "1 采集中, 0 可取下"},
		{ingest.Event{Name: "slot.inserted", Slot: "2"}, "2 采集中, 0 可取下"},
		{ingest.Event{Name: "ingest.finished", Slot: "1", Message: "failed: 2 files"}, "2 采集中, 0 可取下"},
		{ingest.Event{Name: "ingest.finished", Slot: "1", Message: "sealed after an interruption: sealed"}, "2 采集中, 0 可取下"},
		{ingest.Event{Name: "ingest.finished", Slot: "1", Message: "safe: 2 files"}, "1 采集中, 1 可取下"},
		{ingest.Event{Name: "device.unknown", Slot: "2", Message: "taken in all the same"}, "1 采集中, 1 可取下"},
		{ingest.Event{Name: "ingest.failed", Slot: "2"}, "0 采集中, 1 可取下, 1 找管理员"},
		{ingest.Event{Name: "slot.removed", Slot: "1"}, "0 采集中, 0 可取下, 1 找管理员"},
		{ingest.Event{Name: "slot.removed_early", Slot: "2"}, "0 采集中, 0 可取下"},
		{ingest.Event{Name: "slot.inserted", Slot: ingest.StagingSlot}, "0 采集中, 0 可取下"},
	} {
		s.see(c.e)
		if last != "STATUS="+c.want {
			t.Errorf("after %+v: %s, want %s", c.e, last, c.want)
		}
	}
}

func TestWatchdogInterval(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"180000000", "", 45 * time.Second}, {"180000000", "7", 45 * time.Second},
		{"180000000", "8", 0}, {"", "", 0}, {"0", "", 0}, {"-4", "", 0}, {"soon", "", 0},
	} {
		if got := watchdogInterval(c.usec, c.pid, 7); got != c.want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}

// Whoever stops the daemon while it starts does not find it failing, at whatever moment.
func TestToldToStopWhileItStarts(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	early := 0
	for wait := 50 * time.Millisecond; wait < time.Second; wait += 150 * time.Millisecond {
		cmd := p.command("run")
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if strings.Contains(said.String(), `"daemon.ready"`) {
			break
		}
		early++
		// Before the program itself has begun it ends by the signal.
		if by := cmd.ProcessState.Sys().(syscall.WaitStatus); err != nil && !by.Signaled() {
			t.Errorf("after %s it ended with %v:\n%s", wait, err, said.String())
		}
	}
	t.Logf("stopped %d times before it was ready", early)
	p.must("run", "--check-only")
}
