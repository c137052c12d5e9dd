package massstorage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

const (
	// claimWithin is how long another program may go on looking at a disk: some
	// open it for themselves for a moment when it appears.
	claimWithin = 5 * time.Second
	// leaveWithin is how long after the first error of reading the kernel may take
	// to say that a pulled disk is gone; tens of milliseconds were seen.
	leaveWithin = time.Second
	pollEvery   = 25 * time.Millisecond
)

// node is a block device, a disk or a partition. It remembers its folder in
// sysfs, not the name: sda can be another disk a moment later.
type node struct {
	name, path string
	sysfs      *os.File // nil where sysfs does not show it
	disk       string   // the whole disk's node; the same as path if this is one
}

func newNode(name, path, disk string) *node {
	n := &node{name: name, path: path, disk: disk}
	if f, err := os.Open("/sys/class/block/" + name); err == nil {
		n.sysfs = f
	}
	return n
}

func (n *node) close() {
	if n.sysfs != nil {
		_ = n.sysfs.Close() // only looked at
		n.sysfs = nil
	}
}

// left reports whether the kernel has taken the device away.
func (n *node) left() bool {
	if n.sysfs == nil {
		_, err := os.Stat(n.path)
		return errors.Is(err, os.ErrNotExist)
	}
	var st unix.Stat_t
	err := unix.Fstatat(int(n.sysfs.Fd()), "dev", &st, 0)
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}

// leaves is left, but gives the kernel time to notice.
func (n *node) leaves() bool {
	for end := time.Now().Add(leaveWithin); ; time.Sleep(pollEvery) {
		if n.left() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// orRemoved turns an error of the device into device.ErrRemoved if it is gone.
func (n *node) orRemoved(err error) error {
	switch {
	case err == nil || errors.Is(err, device.ErrRemoved):
		return err
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: %w", device.ErrRemoved, err)
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		if n.leaves() {
			return fmt.Errorf("%w: %w", device.ErrRemoved, err)
		}
	}
	return err
}

// readErrors is how many commands to the disk have failed since it was plugged in,
// as the SCSI layer counts them. Not known for other kinds of disk.
func (n *node) readErrors() (count int64, known bool) {
	count, err := strconv.ParseInt(n.scsi("ioerr_cnt"), 0, 64)
	return count, err == nil
}

// offline reports whether the SCSI layer has given the disk up or is about to
// remove it. It then refuses to read without counting that as an error.
func (n *node) offline() bool {
	switch n.scsi("state") {
	case "cancel", "deleted", "offline", "transport-offline":
		return true
	}
	return false
}

// scsi reads an attribute of the disk's SCSI device. Empty: there is none.
func (n *node) scsi(attribute string) string {
	text, err := os.ReadFile("/sys/class/block/" + filepath.Base(n.disk) + "/device/" + attribute)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// free waits until no one holds the device: not a mount, not another program. It
// can't be held by us as well while the kernel mounts it, since the mount is
// itself such a hold; what is mounted by another in between is noticed there.
func (n *node) free(ctx context.Context, within time.Duration) error {
	for end := time.Now().Add(within); ; {
		fd, err := openNode(n.path, unix.O_EXCL)
		if err == nil {
			return os.NewSyscallError("close", unix.Close(fd))
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return os.NewSyscallError("open", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// setReadOnly has the kernel refuse, or no longer refuse, every write to the
// device, whoever asks. It reports what the device is then: a write-protected
// card stays read-only.
func (n *node) setReadOnly(readOnly bool) (isReadOnly bool, err error) {
	set := SetReadOnly
	if other := askOther(); other != nil {
		set = other.SetReadOnly
	}
	for _, path := range []string{n.disk, n.path} {
		if isReadOnly, err = set(path, readOnly); err != nil {
			return isReadOnly, err
		}
	}
	return isReadOnly, nil
}

// SetReadOnly has the kernel refuse, or no longer refuse, every write to a block device,
// and tells what it is then. It is done here, or by the process of package privileged.
func SetReadOnly(path string, readOnly bool) (isReadOnly bool, err error) {
	fd, err := openNode(path, 0)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }() // only read from
	value := 0
	if readOnly {
		value = 1
	}
	if err := unix.IoctlSetPointerInt(fd, unix.BLKROSET, value); err != nil {
		return false, fmt.Errorf("set %s read-only to %t (it needs CAP_SYS_ADMIN): %w", path, readOnly, err)
	}
	now, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	if err != nil {
		return false, fmt.Errorf("ask whether %s is read-only: %w", path, err)
	}
	return now != 0, nil
}

// openNode opens a device for reading; after a signal again.
func openNode(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
