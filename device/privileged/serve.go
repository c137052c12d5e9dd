package privileged

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Server is the process that may. It does for whoever reaches its socket what its
// functions do, on devices that are disks on USB, of which nothing is mounted in this
// machine's file tree: a daemon that was taken over can have no other disk.
type Server struct {
	Mount       func(Mount) (fd int, err error)
	SetReadOnly func(node string, on bool) (isReadOnly bool, err error)
	Clock       func() (Clock, error)
	// Check says why a device is none for the functions; nil: RecordersDisk.
	Check func(node string) error
}

// Serve answers until ctx ends. Each connection has its requests answered in turn.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })() // it ends Accept
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for questions: %w", err)
		}
		conns.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			defer conn.Close()
			s.converse(conn)
		})
	}
}

// converse ends with the connection, or with the first packet that is no question.
func (s *Server) converse(conn *net.UnixConn) {
	uid, gid, err := peer(conn)
	if err != nil {
		return
	}
	packet := make([]byte, packetAtMost)
	for {
		n, err := conn.Read(packet)
		if err != nil || n == 0 {
			return
		}
		var q request
		if err := json.Unmarshal(packet[:n], &q); err != nil {
			return
		}
		r, fd := s.answer(q, uid, gid)
		if err := send(conn, r, fd); err != nil {
			return
		}
	}
}

// peer is who asks.
func peer(conn *net.UnixConn) (uid, gid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var who *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) { who, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, asked); err != nil {
		return 0, 0, err
	}
	return int(who.Uid), int(who.Gid), nil
}

func (s *Server) answer(q request, uid, gid int) (r reply, fd int) {
	fd = -1
	check := s.Check
	if check == nil {
		check = RecordersDisk
	}
	var err error
	switch {
	case q.Mount != nil:
		m := *q.Mount
		m.UID, m.GID = uid, gid // whoever asks owns the files, and nobody else
		if err = check(m.Node); err == nil {
			fd, err = s.Mount(m)
		}
	case q.ReadOnly != nil:
		if err = check(q.ReadOnly.Node); err == nil {
			r.IsReadOnly, err = s.SetReadOnly(q.ReadOnly.Node, q.ReadOnly.On)
		}
	case q.Clock != nil:
		var c Clock
		c, err = s.Clock()
		r.Clock = &c
	default:
		err = errors.New("this version knows no such question: daemon and ingestd-privileged.service must be of one version")
	}
	if err != nil {
		r = reply{Error: err.Error(), NoFileSystem: errors.Is(err, ErrNoFileSystem)}
		_ = errors.As(err, &r.Errno) // 0: there is none
	}
	return r, fd
}

// send gives a descriptor away and closes it here.
func send(conn *net.UnixConn, r reply, fd int) error {
	defer func() { _ = closed(fd) }() // the mount is the receiver's, or nobody's
	packet, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var control []byte
	if fd >= 0 {
		control = unix.UnixRights(fd)
	}
	_, _, err = conn.WriteMsgUnix(packet, control, nil)
	return err
}

var onUSB = regexp.MustCompile(`/usb[0-9]+/`)

// RecordersDisk says why a device is no disk that a recorder could have: it must be a
// disk on USB, or a part of one, and nothing of the disk may be mounted in the file tree.
func RecordersDisk(node string) error {
	name := strings.TrimPrefix(node, "/dev/")
	if name == node || name == "" || strings.ContainsRune(name, '/') || name == "." || name == ".." {
		return fmt.Errorf("%s is no block device: %w", node, unix.EPERM)
	}
	folder, err := filepath.EvalSymlinks("/sys/class/block/" + name)
	if err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	if !onUSB.MatchString(folder) {
		return fmt.Errorf("%s is no disk on USB, and not for a recorder: %w", node, unix.EPERM)
	}
	disk := folder
	if _, err := os.Stat(filepath.Join(folder, "partition")); err == nil {
		disk = filepath.Dir(folder)
	}
	parts, err := filepath.Glob(filepath.Join(disk, "*", "dev"))
	if err != nil {
		return err
	}
	devices := map[string]bool{}
	for _, file := range append(parts, filepath.Join(disk, "dev")) {
		number, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("%s: %w", node, err)
		}
		devices[strings.TrimSpace(string(number))] = true
	}
	at, err := mountedAt(devices)
	if err != nil {
		return fmt.Errorf("is %s mounted: %w", node, err)
	}
	if at != "" {
		return fmt.Errorf("%s: of its disk this machine has mounted something at %s: %w", node, at, syscall.EBUSY)
	}
	return nil
}

// mountedAt finds a mount of one of the devices, each MAJOR:MINOR (proc(5), mountinfo).
func mountedAt(devices map[string]bool) (at string, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read from
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 4 && devices[words[2]] {
			return words[4], nil
		}
	}
	return "", lines.Err()
}
