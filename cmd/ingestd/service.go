package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/ingest"
)

// What follows is how the daemon speaks to systemd (sd_notify(3)); configs/systemd has
// the unit. Without $NOTIFY_SOCKET nothing is said.

const (
	// extendEvery is how often more time is asked for while the daemon starts, and
	// extendBy how much.
	extendEvery = 10 * time.Second
	extendBy    = 30 * time.Second
	// startWithin is for how long: a start that hangs must not be called a slow one.
	startWithin = 15 * time.Minute
)

// notifySystemd hands over one state: lines of NAME=VALUE.
func notifySystemd(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // a leading @ is an abstract name
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell systemd %q: %w", state, err)
	}
	return nil
}

// supervised is the daemon as systemd sees it. It is safe for concurrent use.
type supervised struct {
	notify func(state string) error
	// every is the time between two pings; 0: systemd wants none.
	every time.Duration

	mu     sync.Mutex
	slots  map[string]ingest.SlotState // guarded by mu; what the events have told of each
	status string                      // guarded by mu; what was told last
	loops  map[string]chan<- struct{}  // guarded by mu; what must turn over, by name
}

func newSupervised() *supervised {
	return &supervised{
		notify: notifySystemd, every: watchdogInterval(os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"), os.Getpid()),
		slots: map[string]ingest.SlotState{}, loops: map[string]chan<- struct{}{},
	}
}

// watchdogInterval is a quarter of what systemd waits for: one question may go
// unanswered and the next one still comes in time.
func watchdogInterval(usec, pid string, self int) time.Duration {
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || (pid != "" && pid != strconv.Itoa(self)) {
		return 0
	}
	return time.Duration(n) * time.Microsecond / 4
}

// tell says something that nothing depends on: systemd acts on what it misses.
func (s *supervised) tell(state string) { _ = s.notify(state) }

// starting asks for more time until started is called, or it was asked for too often.
func (s *supervised) starting() (started func()) {
	s.tell("STATUS=opening journal and store")
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(extendEvery)
		defer tick.Stop()
		for {
			s.tell(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()))
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		asking.Wait()
	}
}

// see takes an event into the status. Safe is only what the station has called so.
func (s *supervised) see(e ingest.Event) {
	if e.Slot == "" || e.Slot == ingest.StagingSlot {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Name {
	case "slot.inserted":
		s.slots[e.Slot] = ingest.Copying
	case "ingest.finished":
		if strings.HasPrefix(e.Message, string(ingest.Safe)+":") {
			s.slots[e.Slot] = ingest.Safe
		}
	case "ingest.failed", "device.conflict":
		s.slots[e.Slot] = ingest.Failed
	case "device.unknown":
		if e.Took > 0 { // it was turned away; else it is only told of, and taken in
			s.slots[e.Slot] = ingest.UnknownDevice
		}
	case "slot.removed", "slot.removed_early":
		delete(s.slots, e.Slot)
	default:
		return
	}
	s.tellStatus()
}

// ready tells that recorders are seen from now on.
func (s *supervised) ready() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell("READY=1")
	s.status = ""
	s.tellStatus()
}

func (s *supervised) tellStatus() {
	count := map[ingest.SlotState]int{}
	for _, state := range s.slots {
		count[state]++
	}
	status := fmt.Sprintf("%d 采集中, %d 可取下", count[ingest.Copying], count[ingest.Safe])
	if n := count[ingest.Failed] + count[ingest.UnknownDevice]; n > 0 {
		status += fmt.Sprintf(", %d 找管理员", n)
	}
	if status != s.status {
		s.status = status
		s.tell("STATUS=" + status)
	}
}

// asked is where a loop is asked whether it turns over, until ctx ends.
func (s *supervised) asked(ctx context.Context, name string) <-chan struct{} {
	ask := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loops[name] = ask
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.loops, name)
	})
	return ask
}

// watchdog pings as long as every loop answers, the journal too, and no session is
// stuck; see configs/systemd/README.md for why these. It ends with ctx.
func (s *supervised) watchdog(ctx context.Context, journal interface{ Answers(context.Context) error }, stuck func() error, emit func(ingest.Event)) {
	if s.every <= 0 {
		return
	}
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	told := false
	for {
		limit, cancel := context.WithTimeout(ctx, s.every)
		err := s.turnsOver(limit, journal, stuck)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			s.tell("WATCHDOG=1")
		case !told:
			emit(ingest.Event{Name: "daemon.stuck", Level: ingest.Alarm, Err: err,
				Message: "systemd is told nothing any more and starts ingestd again, unless it goes on by itself; sessions resume"})
		}
		told = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *supervised) turnsOver(ctx context.Context, journal interface{ Answers(context.Context) error }, stuck func() error) error {
	if err := journal.Answers(ctx); err != nil {
		return fmt.Errorf("the journal, on the disk of state_dir, does not answer: %w", err)
	}
	s.mu.Lock()
	loops := map[string]chan<- struct{}{}
	for name, ask := range s.loops {
		loops[name] = ask
	}
	s.mu.Unlock()
	for name, ask := range loops {
		select {
		case ask <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("%s does not turn over: %w", name, ctx.Err())
		}
	}
	return stuck()
}
