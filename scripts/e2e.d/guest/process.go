//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// process is one that was started and whose output is told.
type process struct {
	cmd *exec.Cmd
}

func (a *agent) start(s wire.Start) (any, error) {
	cmd := exec.Command(s.Args[0], s.Args[1:]...)
	cmd.Env = append(os.Environ(), s.Env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout // in the order of writing
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.processes[s.Name] = &process{cmd: cmd}
	a.mu.Unlock()
	go func() { // ends with the process
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if line != "" {
				a.tell(wire.Event{Kind: wire.Output, Name: s.Name, Text: strings.TrimRight(line, "\n")})
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
					fmt.Fprintln(os.Stderr, "agent: output of", s.Name, err)
				}
				break
			}
		}
		end := "exit status 0"
		if err := cmd.Wait(); err != nil {
			end = err.Error()
		}
		a.mu.Lock()
		delete(a.processes, s.Name)
		a.mu.Unlock()
		a.tell(wire.Event{Kind: wire.Exit, Name: s.Name, Text: end})
	}()
	return cmd.Process.Pid, nil
}

func (a *agent) running(name string) (*process, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.processes[name]
	if p == nil {
		return nil, fmt.Errorf("%s does not run", name)
	}
	return p, nil
}

func (a *agent) signal(s wire.Signal) (any, error) {
	p, err := a.running(s.Name)
	if err != nil {
		return nil, err
	}
	return nil, p.cmd.Process.Signal(syscall.Signal(s.Signal))
}

func (a *agent) mounts(n wire.Name) (any, error) {
	p, err := a.running(n.Name)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", p.cmd.Process.Pid))
	return string(data), err
}

// counters reads /proc (proc(5)). The switches of a process are those of its
// threads; the status file of the process itself has only the first thread's.
func (a *agent) counters(n wire.Name) (any, error) {
	p, err := a.running(n.Name)
	if err != nil {
		return nil, err
	}
	home := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	var c wire.Counters
	tasks, err := filepath.Glob(home + "/task/*/status")
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		n, err := statusField(task, "voluntary_ctxt_switches:")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has just ended
		}
		if err != nil {
			return nil, err
		}
		c.Threads++
		c.Switches += n
	}
	if c.ResidentKiB, err = statusField(home+"/status", "RssAnon:"); err != nil {
		return nil, err
	}
	descriptors, err := os.ReadDir(home + "/fd")
	if err != nil {
		return nil, err
	}
	c.Descriptors = len(descriptors)
	mounts, err := os.ReadFile(home + "/mountinfo")
	if err != nil {
		return nil, err
	}
	c.Mounts = bytes.Count(mounts, []byte("\n"))
	if c.CPU, err = cpuTime(home + "/stat"); err != nil {
		return nil, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return nil, err
	}
	c.Up = time.Duration(now.Nano())
	return c, nil
}

func statusField(path, name string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: no %s in it", path, name)
}

// cpuTime is user and system time: fields 14 and 15, in ticks of 10 ms. The name
// in field 2 may hold spaces and is skipped by its closing bracket.
func cpuTime(path string) (time.Duration, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s: too short", path)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}
