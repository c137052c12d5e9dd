package massstorage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/privileged"
)

// mount is a file system that is mounted nowhere: it is reached through its file
// descriptor only. No other program meets it, and with the process it is gone,
// also after a crash.
type mount struct {
	node *node
	fd   int // of the root; closing it unmounts
	root *os.Root
}

// option is one option of a mount; without a value it is a flag.
type option struct {
	key, value string
	// optional: a kernel that does not know it is not asked again.
	optional bool
}

// kernelTypes are the file systems that are mounted, by what Probe calls them,
// with the kernel's type. The rest is not read: the kernel would replay journals
// (NTFS, XFS, btrfs), or no recorder is known to write it.
var kernelTypes = map[string]string{
	"vfat": "vfat", "exfat": "exfat", "iso9660": "iso9660",
	"ext2": "ext4", "ext3": "ext4", "ext4": "ext4",
}

// options of a mount.
func options(m privileged.Mount) []option {
	minutes := strconv.Itoa(m.East)
	owner := []option{{key: "uid", value: strconv.Itoa(m.UID)}, {key: "gid", value: strconv.Itoa(m.GID)}, {key: "umask", value: "0077"}}
	switch kernelTypes[m.FileSystem] {
	case "vfat":
		// Names come as UTF-8; errors=continue because a damaged file is that
		// file's trouble.
		return append(owner, option{key: "utf8", value: "1"}, option{key: "shortname", value: "mixed"},
			option{key: "errors", value: "continue"}, option{key: "time_offset", value: minutes})
	case "exfat":
		return append(owner, option{key: "iocharset", value: "utf8"}, option{key: "errors", value: "continue"},
			option{key: "time_offset", value: minutes, optional: true})
	case "ext4":
		// A card can say of itself that the kernel has to panic at its errors.
		all := []option{{key: "errors", value: "continue"}}
		if !m.Writable {
			all = append(all, option{key: "noload"}) // the journal is not replayed: that would write
		}
		return all
	}
	return nil
}

// mountNode mounts the file system that Probe found on n.
func mountNode(ctx context.Context, n *node, fileSystem string, zone *time.Location, writable bool) (*mount, error) {
	if kernelTypes[fileSystem] == "" {
		return nil, fmt.Errorf("%s is a file system that the station does not read: %w", fileSystem, device.ErrNeedsPerson)
	}
	if err := n.free(ctx, claimWithin); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return nil, busy(n, err)
		}
		return nil, explainOpen(n, err)
	}
	isReadOnly, err := n.setReadOnly(!writable)
	switch {
	case err != nil:
		return nil, n.orRemoved(err)
	case writable && isReadOnly:
		return nil, fmt.Errorf("%s is write-protected: %w", n.path, unix.EROFS)
	case !writable && !isReadOnly:
		return nil, fmt.Errorf("%s does not stay read-only: %w", n.path, device.ErrNeedsPerson)
	}
	// FAT keeps local times without a zone: the offset of zone from UTC at this moment is
	// applied to all of the files, so that in zones with summer time the other half of the
	// year is an hour off.
	_, east := time.Now().In(zone).Zone()
	ask := Mount
	if other := askOther(); other != nil {
		ask = other.Mount
	}
	fd, err := ask(privileged.Mount{Node: n.path, FileSystem: fileSystem, East: east / 60, Writable: writable, UID: os.Geteuid(), GID: os.Getegid()})
	if err != nil {
		return nil, explainMount(n, fileSystem, err)
	}
	root, err := os.OpenRoot("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the root of %s: %w", n.path, n.orRemoved(err)), unix.Close(fd))
	}
	return &mount{node: n, fd: fd, root: root}, nil
}

// askOther is who mounts, where this process may not; nil: it may, or nobody is there,
// and the kernel's refusal says what is lacking.
func askOther() *privileged.Client {
	if privileged.MayMount() {
		return nil
	}
	return privileged.Process()
}

// Mount mounts a file system nowhere and gives the descriptor of its root. It is done
// here, or by the process of package privileged.
func Mount(m privileged.Mount) (fd int, err error) {
	kernelType := kernelTypes[m.FileSystem]
	if kernelType == "" {
		return -1, fmt.Errorf("%s is a file system that the station does not read: %w", m.FileSystem, privileged.ErrNoFileSystem)
	}
	set := options(m)
	if m.Writable {
		set = append(set, option{key: "sync"}, option{key: "dirsync"})
	}
	fd, err = newMount(m.Node, kernelType, set, m.Writable)
	if errors.Is(err, unix.ENOSYS) {
		return mountInPrivate(m.Node, kernelType, set, m.Writable)
	}
	return fd, err
}

func busy(n *node, err error) error {
	return fmt.Errorf("%s is in use by another program, which may have mounted it: switch automatic mounting off on this station and unmount it, then dock the recorder again: %w: %w", n.path, err, device.ErrNeedsPerson)
}

// explainOpen says what to do about a device that can't be opened.
func explainOpen(n *node, err error) error {
	err = fmt.Errorf("open %s: %w", n.path, n.orRemoved(err))
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: the station's program is not allowed to: it needs the group disk, and CAP_SYS_ADMIN or ingestd-privileged.service: %w", err, device.ErrNeedsPerson)
	}
	return err
}

func explainMount(n *node, fileSystem string, err error) error {
	err = fmt.Errorf("mount %s (%s): %w", n.path, fileSystem, err)
	switch removed := n.orRemoved(err); {
	case errors.Is(err, privileged.ErrNoFileSystem):
		return fmt.Errorf("%w: this kernel can't read %s: install its module: %w", err, fileSystem, device.ErrNeedsPerson)
	case errors.Is(removed, device.ErrRemoved):
		return removed
	case errors.Is(err, unix.EBUSY):
		return busy(n, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: mounting needs CAP_SYS_ADMIN, or ingestd-privileged.service: %w", err, device.ErrNeedsPerson)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: this kernel lacks a module that the file system needs, its log says which: %w", err, device.ErrNeedsPerson)
	}
	return fmt.Errorf("%w: the file system may be damaged: have it read by someone who can, do not format it: %w", err, device.ErrNeedsPerson)
}

// newMount is replaced in tests by what a kernel without these calls answers.
var newMount = mountDetached

// mountDetached uses the mount calls of Linux 5.2.
func mountDetached(source, kernelType string, set []option, writable bool) (int, error) {
	fsfd, err := unix.Fsopen(kernelType, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return -1, fmt.Errorf("%w: %w", privileged.ErrNoFileSystem, err)
	}
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer func() { _ = unix.Close(fsfd) }() // the mount lives on without it
	set = append([]option{{key: "source", value: source}}, set...)
	if !writable {
		set = append(set, option{key: "ro"})
	}
	for _, o := range set {
		if o.value == "" {
			err = unix.FsconfigSetFlag(fsfd, o.key)
		} else {
			err = unix.FsconfigSetString(fsfd, o.key, o.value)
		}
		if err != nil && (!o.optional || !errors.Is(err, unix.EINVAL)) {
			return -1, fmt.Errorf("option %s: %w%s", o.key, os.NewSyscallError("fsconfig", err), kernelSays(fsfd))
		}
	}
	if err := create(fsfd); err != nil {
		return -1, fmt.Errorf("%w%s", os.NewSyscallError("fsconfig", err), kernelSays(fsfd))
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, mountAttributes(writable))
	if err != nil {
		return -1, fmt.Errorf("%w%s", os.NewSyscallError("fsmount", err), kernelSays(fsfd))
	}
	return fd, nil
}

func mountAttributes(writable bool) int {
	attributes := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOATIME
	if !writable {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	return attributes
}

// create makes the superblock and, since Linux 6.6, insists that it is a new one:
// else the kernel would hand out that of another program's mount.
func create(fsfd int) error {
	const createExclusive = 8 // FSCONFIG_CMD_CREATE_EXCL of linux/mount.h
	_, _, errno := unix.Syscall6(unix.SYS_FSCONFIG, uintptr(fsfd), createExclusive, 0, 0, 0, 0)
	switch errno {
	case 0:
		return nil
	case unix.EOPNOTSUPP:
		return unix.FsconfigCreate(fsfd)
	}
	return errno
}

// kernelSays reads what the kernel had to say about a failed mount; the letter
// before each message is its level.
func kernelSays(fsfd int) string {
	var said strings.Builder
	p := make([]byte, 1024)
	for range 8 {
		n, err := unix.Read(fsfd, p)
		if err != nil || n <= 2 {
			break // ENODATA: that was all
		}
		said.WriteString("; the kernel says: " + strings.TrimSpace(string(p[2:n])))
	}
	return said.String()
}

// mountInPrivate is for older kernels: it mounts in a mount namespace that ends
// with the thread that made it. What stays is the descriptor.
func mountInPrivate(source, kernelType string, set []option, writable bool) (int, error) {
	type result struct {
		fd  int
		err error
	}
	var run func(chan<- result)
	run = func(done chan<- result) {
		// Never unlocked: the thread ends with the goroutine, and its namespace
		// with it. The process's first thread can't end, and /proc/self shows its
		// namespace, so it must not be this one: it hands on to another.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			other := make(chan result)
			go run(other)
			done <- <-other
			return
		}
		fd, err := mountHere(source, kernelType, set, writable)
		done <- result{fd, err}
	}
	done := make(chan result)
	go run(done)
	r := <-done
	return r.fd, r.err
}

func mountHere(source, kernelType string, set []option, writable bool) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make the mounts private: %w", os.NewSyscallError("mount", err))
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	if !writable {
		flags |= unix.MS_RDONLY
	}
	var data []string
	for _, o := range set {
		switch {
		case o.key == "sync":
			flags |= unix.MS_SYNCHRONOUS
		case o.key == "dirsync":
			flags |= unix.MS_DIRSYNC
		case o.value == "":
			data = append(data, o.key)
		default:
			data = append(data, o.key+"="+o.value)
		}
	}
	// Over the folder of the device node, which is sure to be there; only this
	// thread sees it.
	place := filepath.Dir(source)
	if err := unix.Mount(source, place, kernelType, flags, strings.Join(data, ",")); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return -1, fmt.Errorf("%w: %w", privileged.ErrNoFileSystem, err)
		}
		return -1, os.NewSyscallError("mount", err)
	}
	fd, err := unix.Open(place, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("open", err)
}

// close unmounts and waits until the kernel has let go of the device: only then
// is nothing of it in use. A device that is gone is not in use.
func (m *mount) close() error {
	var errs []error
	if m.root != nil {
		errs = append(errs, m.root.Close(), os.NewSyscallError("close", unix.Close(m.fd)))
		m.root = nil
	}
	err := m.node.free(context.Background(), releaseWithin)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%s is still in use after it was unmounted: %w", m.node.path, err)
	} else if err != nil && m.node.left() || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOMEDIUM) || errors.Is(err, unix.ENODEV) {
		err = nil
	}
	return errors.Join(append(errs, err)...)
}

// releaseWithin is how long the kernel may take to let go of an unmounted
// device. Nothing was written, so that there is nothing to wait for but files
// that are still open.
var releaseWithin = 10 * time.Second
