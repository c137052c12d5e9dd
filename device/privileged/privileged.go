// Package privileged is the line between the daemon, which runs as a user that may do
// little, and a small process that may do what only root can: have the kernel refuse
// writes to a recorder's disk, mount it, and tell whether a time service keeps the
// station's clock. It stands beside the flow, below packages device and massstorage,
// and knows nothing of recorders.
//
// The process is `ingestd privileged`, started by systemd on a socket that only root
// and the daemon's group can reach. A daemon that may do these things itself, as root
// in a terminal, asks nobody.
//
// Who can reach the socket can have disks on USB mounted that nobody else uses, and
// nothing more: see Server.
package privileged

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is where the process is reached.
const Socket = "/run/ingestd-privileged.sock"

// How long the process may take: the kernel reads a worn card slowly when it mounts it,
// and a line of the ledger waits for the clock.
const (
	diskWithin  = 2 * time.Minute
	clockWithin = 5 * time.Second
)

// ErrNoFileSystem says that the kernel can't read this file system.
var ErrNoFileSystem = errors.New("unknown file system")

// Mount is a file system on a disk that is mounted nowhere: what comes of it is the
// descriptor of its root.
type Mount struct {
	Node       string // /dev/sda1
	FileSystem string // vfat, exfat, …, as package massstorage calls it
	// East is how far east of UTC the recorder's clock is, in minutes: FAT's times.
	East     int
	Writable bool
	// UID and GID own the files where the file system has no owners.
	UID, GID int
}

// Clock is what adjtimex(2) says; only questions are asked.
type Clock struct {
	State    int
	Status   int32
	MaxError time.Duration
}

// ReadClock asks the kernel.
func ReadClock() (Clock, error) {
	var t unix.Timex // Modes 0: read only
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return Clock{}, os.NewSyscallError("adjtimex", err)
	}
	return Clock{State: state, Status: t.Status, MaxError: time.Duration(t.Maxerror) * time.Microsecond}, nil
}

// Process gives the process that is there to be asked; nil: what we may not do nobody
// does for us.
func Process() *Client {
	if _, err := os.Stat(Socket); err != nil {
		return nil
	}
	return &Client{Path: Socket}
}

// MayMount tells whether this process itself has what mounting takes.
func MayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// request and reply are one packet each, in JSON. A mount comes with the reply.
type request struct {
	Mount    *Mount    `json:"mount,omitempty"`
	ReadOnly *readOnly `json:"read_only,omitempty"`
	Clock    *struct{} `json:"clock,omitempty"`
}

type readOnly struct {
	Node string `json:"node"`
	On   bool   `json:"on"`
}

type reply struct {
	Error        string        `json:"error,omitempty"`
	Errno        syscall.Errno `json:"errno,omitempty"`
	NoFileSystem bool          `json:"no_file_system,omitempty"`
	IsReadOnly   bool          `json:"is_read_only,omitempty"`
	Clock        *Clock        `json:"clock,omitempty"`
}

// packetAtMost bounds a request and a reply, in bytes.
const packetAtMost = 16 << 10

// failure is an error of the process, with what it was made of: callers ask for errno.
type failure struct{ reply }

func (f failure) Error() string { return f.reply.Error }

func (f failure) Unwrap() (all []error) {
	if f.Errno != 0 {
		all = append(all, f.Errno)
	}
	if f.NoFileSystem {
		all = append(all, ErrNoFileSystem)
	}
	return all
}

// Client asks the process, over a connection for each question: a card that takes minutes
// to be mounted holds up nothing else. It is safe for concurrent use.
type Client struct {
	Path string
}

// Mount gives the descriptor of the root of a file system; closing it unmounts.
func (c *Client) Mount(m Mount) (fd int, err error) {
	_, fd, err = c.ask(request{Mount: &m}, diskWithin)
	if err == nil && fd < 0 {
		err = errors.New("the process that mounts has sent no mount")
	}
	return fd, err
}

// SetReadOnly has the kernel refuse, or no longer refuse, every write to a device, and
// tells what it is then.
func (c *Client) SetReadOnly(node string, on bool) (isReadOnly bool, err error) {
	r, _, err := c.ask(request{ReadOnly: &readOnly{node, on}}, diskWithin)
	return r.IsReadOnly, err
}

// ReadClock is ReadClock of the process.
func (c *Client) ReadClock() (Clock, error) {
	r, _, err := c.ask(request{Clock: &struct{}{}}, clockWithin)
	if err == nil && r.Clock == nil {
		err = errors.New("the process that may ask has told nothing of the clock")
	}
	if err != nil {
		return Clock{}, err
	}
	return *r.Clock, nil
}

// ask gives the answer to one question, and the descriptor that came with it, or -1.
func (c *Client) ask(q request, within time.Duration) (r reply, fd int, err error) {
	if r, fd, err = c.exchange(q, within); err != nil {
		return r, -1, fmt.Errorf("ask ingestd-privileged.service at %s: %w", c.Path, err)
	}
	if r.Error != "" {
		return r, -1, errors.Join(failure{r}, closed(fd))
	}
	return r, fd, nil
}

func closed(fd int) error {
	if fd < 0 {
		return nil
	}
	return os.NewSyscallError("close", unix.Close(fd))
}

func (c *Client) exchange(q request, within time.Duration) (r reply, fd int, err error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: c.Path, Net: "unixpacket"})
	if err != nil {
		return r, -1, err
	}
	defer func() { _ = conn.Close() }() // all that it had to say was read
	packet, err := json.Marshal(q)
	if err = errors.Join(err, conn.SetDeadline(time.Now().Add(within))); err != nil {
		return r, -1, err
	}
	if _, err := conn.Write(packet); err != nil {
		return r, -1, err
	}
	answer, control := make([]byte, packetAtMost), make([]byte, unix.CmsgSpace(4))
	n, controls, _, _, err := conn.ReadMsgUnix(answer, control)
	if err != nil {
		return r, -1, err
	}
	if fd, err = sentWith(control[:controls]); err != nil {
		return r, -1, err
	}
	if err := json.Unmarshal(answer[:n], &r); err != nil {
		return r, -1, errors.Join(fmt.Errorf("its answer is no answer: %w", err), closed(fd))
	}
	return r, fd, nil
}

// sentWith gives the descriptor that came with a packet, or -1.
func sentWith(control []byte) (fd int, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return -1, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1, err
	}
	unix.CloseOnExec(fds[0])
	return fds[0], nil
}
