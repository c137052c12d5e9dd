//go:build linux

// The command guest is the agent in the machine of scripts/e2e: the hands of the
// tests there. It runs the daemon under test, plugs simulated recorders in and
// tells what the kernel counts. The protocol is in package wire; it comes over a
// virtio serial port, so that the network is left to what is tested.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run() error {
	port, err := openPort()
	if err != nil {
		return err
	}
	a := &agent{port: port, processes: map[string]*process{}, recorders: map[string]*recorder{}}
	if err := a.watchNodes(); err != nil {
		return err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	a.tell(wire.Event{Kind: wire.Ready, Text: unix.ByteSliceToString(name.Release[:])})
	return a.serve()
}

// openPort opens the one virtio port that the machine has.
func openPort() (*os.File, error) {
	found, err := filepath.Glob("/dev/vport*")
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("no virtio port below /dev (%w)", errors.Join(err, os.ErrNotExist))
	}
	return os.OpenFile(found[0], os.O_RDWR, 0)
}

// agent is the state of one machine.
type agent struct {
	writing sync.Mutex // one line at a time
	port    *os.File

	mu        sync.Mutex
	processes map[string]*process  // guarded by mu; by name
	recorders map[string]*recorder // guarded by mu; what is plugged in, by name
}

func (a *agent) serve() error {
	lines := bufio.NewReader(a.port)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // the tests are gone, and the machine with them
		}
		if err != nil {
			return fmt.Errorf("read the port: %w", err)
		}
		var request wire.Request
		if err := json.Unmarshal(line, &request); err != nil {
			return fmt.Errorf("request %q: %w", strings.TrimSpace(string(line)), err)
		}
		go a.answer(request) // ends with its work; the machine is thrown away as a whole
	}
}

func (a *agent) answer(request wire.Request) {
	reply := wire.Message{ID: request.ID}
	value, err := a.do(request)
	if err == nil && value != nil {
		reply.Value, err = json.Marshal(value)
	}
	if err != nil {
		reply.Err = request.Op + ": " + err.Error()
	}
	a.send(reply)
}

// ops are what can be asked for.
func (a *agent) do(request wire.Request) (any, error) {
	switch request.Op {
	case "exec":
		return with(request, runToEnd)
	case "write":
		return with(request, writeFile)
	case "read":
		return with(request, readFile)
	case "fill":
		return with(request, fill)
	case "start":
		return with(request, a.start)
	case "signal":
		return with(request, a.signal)
	case "counters":
		return with(request, a.counters)
	case "mounts":
		return with(request, a.mounts)
	case "forward":
		return with(request, forward)
	case "drive":
		return with(request, drive)
	case "free":
		return with(request, free)
	case "attach":
		return with(request, a.attach)
	case "detach":
		return with(request, a.detach)
	case "recorder":
		return with(request, a.recorder)
	case "path":
		return with(request, portPath)
	case "keep-time":
		return with(request, keepTime)
	case "step-clock":
		return with(request, stepClock)
	case "delete":
		return with(request, tryToDelete)
	}
	return nil, errors.New("the agent knows no such request")
}

// with decodes the arguments for a request's function.
func with[T any](request wire.Request, do func(T) (any, error)) (any, error) {
	var args T
	if err := json.Unmarshal(request.Args, &args); err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	return do(args)
}

func (a *agent) tell(e wire.Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	a.send(wire.Message{Event: &e})
}

func (a *agent) send(m wire.Message) {
	line, err := json.Marshal(m)
	if err != nil {
		line = fmt.Appendf(nil, `{"id":%d,"err":%q}`, m.ID, err)
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	if _, err := a.port.Write(append(line, '\n')); err != nil {
		fmt.Fprintln(os.Stderr, "agent: write to the port:", err)
	}
}
