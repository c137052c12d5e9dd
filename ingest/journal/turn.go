package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// TakeTurn waits until nobody else does the kind of work that is named, in this process
// or another one that has the journal open, and keeps others waiting until giveBack is
// called. The kernel gives it back when a process dies.
func (j *Journal) TakeTurn(ctx context.Context, work string) (giveBack func() error, err error) {
	path := filepath.Join(j.dir, work+".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: take turns at %s: %w", work, err)
	}
	const first, longest = time.Millisecond, 50 * time.Millisecond
	for wait := first; ; wait = min(2*wait, longest) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("journal: lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("journal: wait for %s, which another ingestd has: %w", path, ctx.Err()), f.Close())
		case <-time.After(wait):
		}
	}
}
