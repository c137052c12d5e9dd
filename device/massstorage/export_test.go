package massstorage

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// OnAnOldKernel has the mount calls of Linux 5.2 missing.
func OnAnOldKernel(t *testing.T) {
	newMount = func(string, string, []option, bool) (int, error) { return -1, unix.ENOSYS }
	t.Cleanup(func() { newMount = mountDetached })
}

// ReleaseWithin shortens the wait for a device to be let go.
func ReleaseWithin(t *testing.T, d time.Duration) {
	before := releaseWithin
	releaseWithin = d
	t.Cleanup(func() { releaseWithin = before })
}

// CountErrors stands for the SCSI layer's count; below 0 it can't be read.
func CountErrors(t *testing.T, count func() int64) {
	countErrors = func(*node) (int64, bool) {
		n := count()
		return n, n >= 0
	}
	t.Cleanup(func() { countErrors = (*node).readErrors })
}
