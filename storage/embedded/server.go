package embedded

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// server is the process of a store that another process owns, watched for its end.
// The kernel tells it at once, however it comes about.
type server struct {
	pid   int
	fd    *os.File      // a pidfd: it means this process even when the number is used again
	ended chan struct{} // closed when the process has ended, or by stop
}

// watchServer begins to watch a process; nil without an error: it is gone.
func watchServer(pid int) (*server, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err == nil {
		err = unix.SetNonblock(fd, true) // else its file could not be waited for and closed
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d of the store: %w", pid, err)
	}
	s := &server{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd"), ended: make(chan struct{})}
	raw, err := s.fd.SyscallConn()
	if err != nil {
		_ = s.fd.Close()
		return nil, fmt.Errorf("watch process %d of the store: %w", pid, err)
	}
	go func() { // ends with the process, or by stop
		defer close(s.ended)
		// It fails when stop has closed the file, which is an end too.
		_ = raw.Read(hasExited)
	}()
	return s, nil
}

// hasExited asks a pidfd, which can be read from when its process has ended.
func hasExited(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err != nil || n > 0
	}
}

// stop ends the watch.
func (s *server) stop() error {
	err := s.fd.Close()
	<-s.ended
	return err
}
