package folder

import (
	"context"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watchMounts tells when the mount table has changed: mounting on a folder that
// is there already makes no inotify event. The kernel flags the change on
// mountinfo (proc(5)). The goroutine ends with ctx.
func watchMounts(ctx context.Context) (<-chan struct{}, error) {
	// Not by os.Open: the runtime's own poller would take the event away.
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	stopped, stop, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, unix.Close(table))
	}
	changed := make(chan struct{}, 1)
	var closing sync.WaitGroup
	closing.Go(func() {
		<-ctx.Done()
		_ = stop.Close() // wakes the poll
	})
	go func() {
		defer func() {
			closing.Wait()
			_, _ = unix.Close(table), stopped.Close() // only read from
		}()
		fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}, {Fd: int32(stopped.Fd()), Events: unix.POLLIN}}
		for ctx.Err() == nil {
			_, err := unix.Poll(fds, -1)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return // the sweep goes on
			}
			if fds[0].Revents != 0 {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
	}()
	return changed, nil
}
