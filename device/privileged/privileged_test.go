package privileged_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device/privileged"
)

// serve starts a process that may, on a socket of its own.
func serve(t *testing.T, s *privileged.Server) (c *privileged.Client, stop func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	return &privileged.Client{Path: path}, serveAt(t, s, path)
}

func serveAt(t *testing.T, s *privileged.Server, path string) (stop func()) {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// What the one process has opened the other reads, and what is asked for arrives as it
// was asked, but for the owner, who is whoever asks.
func TestAMountIsHandedOver(t *testing.T) {
	t.Parallel()
	card := t.TempDir()
	if err := os.WriteFile(filepath.Join(card, "a.mp4"), []byte("footage"), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := make(chan privileged.Mount, 1)
	c, _ := serve(t, &privileged.Server{
		Check: func(string) error { return nil },
		Mount: func(m privileged.Mount) (int, error) {
			asked <- m
			return unix.Open(card, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		},
	})
	fd, err := c.Mount(privileged.Mount{Node: "/dev/sda1", FileSystem: "vfat", East: 480, UID: 12345, GID: 12345})
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := root.ReadFile("a.mp4"); err != nil || string(got) != "footage" {
		t.Errorf("%q, %v", got, err)
	}
	if err := errors.Join(root.Close(), unix.Close(fd)); err != nil {
		t.Error(err)
	}
	want := privileged.Mount{Node: "/dev/sda1", FileSystem: "vfat", East: 480, UID: os.Getuid(), GID: os.Getgid()}
	if got := <-asked; got != want {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
	if left := descriptors(t, card); left > 0 {
		t.Errorf("%d descriptors of the mount are still open", left)
	}
}

func descriptors(t *testing.T, of string) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && at == of {
			n++
		}
	}
	return n
}

// An error arrives as what it was, so that it is told from others as if it had
// happened here.
func TestErrorsKeepTheirNumber(t *testing.T) {
	t.Parallel()
	answers := make(chan error, 2)
	c, _ := serve(t, &privileged.Server{
		Check:       func(string) error { return nil },
		Mount:       func(privileged.Mount) (int, error) { return -1, <-answers },
		SetReadOnly: func(string, bool) (bool, error) { return false, <-answers },
	})
	for _, answer := range []error{
		os.NewSyscallError("fsconfig", unix.EBUSY),
		fmt.Errorf("%w: %w", privileged.ErrNoFileSystem, os.NewSyscallError("fsopen", unix.ENODEV)),
		fmt.Errorf("open /dev/sda1: %w", unix.ENXIO),
		errors.New("nothing of the kernel's"),
	} {
		answers <- answer
		answers <- answer
		_, mountErr := c.Mount(privileged.Mount{Node: "/dev/sda1"})
		_, setErr := c.SetReadOnly("/dev/sda1", true)
		for _, got := range []error{mountErr, setErr} {
			if got == nil || !strings.Contains(got.Error(), answer.Error()) {
				t.Errorf("%v became %v", answer, got)
			}
			for _, is := range []error{unix.EBUSY, unix.ENODEV, unix.ENXIO, privileged.ErrNoFileSystem} {
				if errors.Is(got, is) != errors.Is(answer, is) {
					t.Errorf("%v became %v, as for %v", answer, got, is)
				}
			}
		}
	}
}

// A device that is not for a recorder is refused before anything is done with it.
func TestOtherDevicesAreRefused(t *testing.T) {
	t.Parallel()
	var touched atomic.Int64
	c, _ := serve(t, &privileged.Server{
		Mount:       func(privileged.Mount) (int, error) { touched.Add(1); return -1, nil },
		SetReadOnly: func(string, bool) (bool, error) { touched.Add(1); return false, nil },
	})
	nodes := []string{"", "/dev/", "/dev/..", "/etc/passwd", "/dev/../etc/passwd", "/dev/bus/usb/001/001", "/dev/null", "sda1", "/dev/no-such-disk"}
	// Every disk of this machine that is not on USB, its own ones among them.
	folders, err := filepath.Glob("/sys/class/block/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if to, err := filepath.EvalSymlinks(folder); err == nil && !strings.Contains(to, "/usb") {
			nodes = append(nodes, "/dev/"+filepath.Base(folder))
		}
	}
	t.Logf("%d devices", len(nodes))
	for _, node := range nodes {
		_, mountErr := c.Mount(privileged.Mount{Node: node, FileSystem: "vfat"})
		_, setErr := c.SetReadOnly(node, false)
		if mountErr == nil || setErr == nil || touched.Load() > 0 {
			t.Errorf("%q: %v, %v, touched %d times", node, mountErr, setErr, touched.Load())
		}
	}
}

// The process may be restarted, and may be away: that is told, and not for ever.
func TestTheProcessIsRestarted(t *testing.T) {
	t.Parallel()
	s := &privileged.Server{Clock: func() (privileged.Clock, error) {
		return privileged.Clock{State: unix.TIME_OK, MaxError: 3 * time.Millisecond}, nil
	}}
	c, stop := serve(t, s)
	ask := func() {
		t.Helper()
		if clock, err := c.ReadClock(); err != nil || clock.MaxError != 3*time.Millisecond {
			t.Errorf("%+v, %v", clock, err)
		}
	}
	ask()
	stop()
	if _, err := c.ReadClock(); err == nil || !strings.Contains(err.Error(), "ingestd-privileged.service") {
		t.Errorf("while it is away: %v", err)
	}
	stop = serveAt(t, s, c.Path)
	ask()
	stop()
	serveAt(t, s, c.Path)
	ask()
	if _, err := c.Mount(privileged.Mount{}); err == nil {
		t.Error("it mounts nothing")
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(ask)
	}
	all.Wait()
}

// A card that takes for ever to be mounted holds up no question about the clock, which
// every line of the ledger waits for.
func TestAHangingMountHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	hangs, goOn := make(chan struct{}), make(chan struct{})
	c, _ := serve(t, &privileged.Server{
		Check: func(string) error { return nil },
		Mount: func(privileged.Mount) (int, error) {
			close(hangs)
			<-goOn
			return -1, unix.EIO
		},
		Clock: privileged.ReadClock,
	})
	mounted := make(chan error, 1)
	go func() {
		_, err := c.Mount(privileged.Mount{Node: "/dev/sda1"})
		mounted <- err
	}()
	<-hangs
	if _, err := c.ReadClock(); err != nil {
		t.Error(err)
	}
	close(goOn)
	if err := <-mounted; !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
}

// Whatever is sent, the process goes on.
func TestNonsenseEndsOneConnectionOnly(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, &privileged.Server{Clock: privileged.ReadClock})
	for _, nonsense := range []string{"{", "[]", strings.Repeat("x", 100_000), `{"mount":{"Node":7}}`, "{}"} {
		conn, err := net.Dial("unixpacket", c.Path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(nonsense)) // it may refuse
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		answer := make([]byte, 1000)
		if n, err := conn.Read(answer); err == nil && n > 0 && !strings.Contains(string(answer[:n]), "no such question") {
			t.Errorf("%.20s is answered with %s", nonsense, answer[:n])
		}
		_ = conn.Close()
	}
	if _, err := c.ReadClock(); err != nil {
		t.Error(err)
	}
}
