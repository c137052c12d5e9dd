package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	askEvery  = 10 * time.Millisecond // how often a starting server is asked whether it is up
	askFor    = 2 * time.Second       // how long one answer may take
	stopGrace = 30 * time.Second      // versitygw gives requests 10 s; the rest is for the last sync
)

// Options says which store Open opens and how to start it.
type Options struct {
	// Root is the store's folder, see Config.
	Root string

	// Command is the program that calls Serve with its stdin as Lifeline,
	// usually our own: {"/proc/self/exe", "store", "serve", ...}. It must not
	// contain secrets; none are needed.
	Command []string

	// Stderr takes the child's output, stdout and stderr alike; nil discards it.
	Stderr io.Writer
}

// Store is a running store, as its clients see it. Safe for concurrent use.
type Store struct {
	root      *rootDir
	keys      credentials
	transport *http.Transport
	child     *child  // nil if the store was running already
	server    *server // whom we are attached to; nil if child is not

	closed    chan struct{}
	closeOnce sync.Once
	closeErr  error // set once by closeOnce
}

// Open gives a running store on o.Root: the one that another process of this
// station already runs, or a child of this one. Of several processes that open
// a root at once one becomes the owner, the others attach. ctx bounds the
// opening only; give it a deadline.
//
// The store ends with its owner: Close, exit or kill -9 of the process whose
// Store answers true to Started. Processes that attached learn of it by Done, get
// errors from then on, and must Open again. One that is ending is not attached to:
// Open waits for its end and starts the next.
func Open(ctx context.Context, o Options) (*Store, error) {
	root, err := openRoot(o.Root)
	if err != nil {
		return nil, err
	}
	s := &Store{root: root, closed: make(chan struct{})}
	s.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", root.socket())
		},
		DisableCompression:    true, // a hash must see what is stored
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: 15 * time.Minute, // Complete copies all parts before it answers
	}
	if err := s.attachOrStart(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) attachOrStart(ctx context.Context, o Options) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		if pid := s.answers(ctx); pid != 0 && s.settled(pid) {
			attached, err := s.attach(ctx, pid)
			if attached || err != nil {
				return err
			}
		}
		held, err := s.root.lockHeld()
		if err != nil {
			return err
		}
		if s.child.ended() {
			// Lost the race for the lock, or found the last owner still closing:
			// attach, or try again. Everything else is an error of its own.
			if !held && !s.child.lostRace() {
				return fmt.Errorf("start store %s: %w", s.root.path, s.child.failure())
			}
			s.child = nil
		}
		if s.child == nil && !held {
			if s.child, err = start(o); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for store %s to answer: %w", s.root.path, ctx.Err())
		case <-s.child.done(): // nil blocks for ever
		case <-tick.C:
		}
	}
}

// attach takes the server that has just answered for ours. It is false where that
// has ended, or begun to end, in between.
func (s *Store) attach(ctx context.Context, pid int) (attached bool, err error) {
	var watched *server
	if s.child == nil {
		if watched, err = watchServer(pid); err != nil || watched == nil {
			return false, err
		}
		// The number may have been given to another process since. One that still
		// answers is the one that is watched.
		if s.answers(ctx) != pid {
			return false, watched.stop()
		}
	}
	if s.keys, err = s.root.readCredentials(); err != nil {
		if watched != nil {
			err = errors.Join(err, watched.stop())
		}
		return false, err
	}
	s.server = watched
	return true, nil
}

// settled reports whether it is clear whose server answers. While our child
// lives and someone else's answers, the child has lost the race and is about to
// find out.
func (s *Store) settled(server int) bool {
	if s.child.ended() {
		s.child = nil
	}
	if s.child == nil {
		return true
	}
	group, err := unix.Getpgid(server) // the child's own, even below a wrapper
	return err == nil && group == s.child.cmd.Process.Pid
}

// answers asks the server for a sign of life and returns its process, 0 if
// there is none.
func (s *Store) answers(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	var server int
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) { server = peer(got.Conn) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Endpoint()+healthPath, nil)
	if err != nil {
		return 0
	}
	res, err := s.transport.RoundTrip(req)
	if err != nil {
		return 0
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0
	}
	return server
}

// peer is the process that listens at the other end of a unix connection.
func peer(conn net.Conn) int {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// Endpoint is a name that resolves nowhere: only Transport reaches the store.
func (s *Store) Endpoint() string { return "embedded.invalid:80" }

// Region is the region to sign for.
func (s *Store) Region() string { return region }

// AccessKey is the store's only account.
func (s *Store) AccessKey() string { return s.keys.Access }

// SecretKey belongs to AccessKey. It must not be logged.
func (s *Store) SecretKey() string { return s.keys.Secret }

// Transport dials the store's socket, whatever the host. Plain HTTP: the
// socket's file mode is the protection.
func (s *Store) Transport() *http.Transport { return s.transport }

// Started reports whether the store is a child of this process and ends with it.
func (s *Store) Started() bool { return s.child != nil }

// Done is closed when the store's process has ended, expected or not, whether it is
// a child of ours or another process's. For an attached store Close closes it too.
func (s *Store) Done() <-chan struct{} {
	if s.child != nil {
		return s.child.exited
	}
	return s.server.ended
}

// Err says why the store ended; nil while it runs and after Close.
func (s *Store) Err() error {
	select {
	case <-s.Done():
	default:
		return nil
	}
	select {
	case <-s.closed:
		return nil
	default:
		if s.child == nil {
			return fmt.Errorf("store %s: process %d, which ran it for another ingestd, has ended", s.root.path, s.server.pid)
		}
		return fmt.Errorf("store %s: %w", s.root.path, s.child.failure())
	}
}

// Close stops a child that Open started: it finishes the requests in flight and
// is killed if that takes longer than half a minute, which loses nothing that was
// acknowledged. An attached store stays up. Close may be called more than once.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.transport.CloseIdleConnections()
		close(s.closed)
		if s.child != nil {
			s.closeErr = s.child.stop()
		}
		if s.server != nil {
			s.closeErr = s.server.stop()
		}
		s.closeErr = errors.Join(s.closeErr, s.root.close())
	})
	return s.closeErr
}

// child is the process that runs Serve. All methods but stop accept nil.
type child struct {
	cmd      *exec.Cmd
	lifeline io.Closer     // the write end of its stdin
	output   *tail         // the last of what it said
	exited   chan struct{} // closed after wait is set
	wait     error
}

func start(o Options) (*child, error) {
	if len(o.Command) == 0 {
		return nil, errors.New("start store: no command given")
	}
	c := &child{output: &tail{next: o.Stderr}, exited: make(chan struct{})}
	c.cmd = exec.Command(o.Command[0], o.Command[1:]...)
	c.cmd.Stdout, c.cmd.Stderr = c.output, c.output
	// A group of its own: Ctrl-C in a terminal goes to ours.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if c.lifeline, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start store: %w", err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start store: %w", err)
	}
	go func() {
		c.wait = c.cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

func (c *child) done() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.exited
}

func (c *child) ended() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// lostRace recognises our own message: the exit code belongs to the program.
func (c *child) lostRace() bool {
	return bytes.Contains(c.output.last(), []byte(ErrServed.Error()))
}

func (c *child) failure() error {
	said := bytes.TrimSpace(c.output.last())
	if c.wait == nil {
		return fmt.Errorf("the store process ended; it said: %s", said)
	}
	return fmt.Errorf("the store process ended, %w; it said: %s", c.wait, said)
}

func (c *child) stop() error {
	if c.ended() {
		return nil // Err has said why
	}
	_ = c.lifeline.Close() // fails only if the child is gone
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-c.exited:
	case <-timer.C:
		_ = c.cmd.Process.Kill()
		<-c.exited
		return fmt.Errorf("stop store: process %d did not end within %s and was killed", c.cmd.Process.Pid, stopGrace)
	}
	if c.wait != nil {
		return fmt.Errorf("stop store: %w", c.failure())
	}
	return nil
}

// tail passes output on and remembers its end for error messages.
type tail struct {
	next io.Writer // may be nil

	mu  sync.Mutex
	end []byte // guarded by mu
}

const tailBytes = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.end = append(t.end, p...)
	if extra := len(t.end) - tailBytes; extra > 0 {
		t.end = append(t.end[:0], t.end[extra:]...)
	}
	t.mu.Unlock()
	if t.next != nil {
		_, _ = t.next.Write(p) // a full log must not stop the store
	}
	return len(p), nil
}

func (t *tail) last() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.end)
}
