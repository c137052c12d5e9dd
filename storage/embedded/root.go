package embedded

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The names below the root. data and versions belong to versitygw.
const (
	socketName      = "s3.sock"
	lockName        = "lock"
	credentialsName = "credentials.json"
	dataName        = "data"
	versionsName    = "versions"
)

// ErrServed says that another process serves this root. Open attaches to it
// instead of failing.
var ErrServed = errors.New("this store is already served by another process")

// rootDir is the store's folder, held open so that everything in it is reached
// through the descriptor: the path of a unix socket may not exceed 108 bytes,
// /proc/self/fd/N/s3.sock never does.
type rootDir struct {
	path string // absolute
	dir  *os.File
}

// openRoot makes the folder if it is missing and takes it away from everyone
// else: the socket's and the keys' modes are the second fence, this is the first.
func openRoot(path string) (*rootDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store folder %q: %w", path, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("make store folder %s: %w", abs, err)
	}
	dir, err := os.Open(abs)
	if err != nil {
		return nil, fmt.Errorf("open store folder %s: %w", abs, err)
	}
	if err := dir.Chmod(0o700); err != nil {
		dir.Close()
		return nil, fmt.Errorf("close store folder %s to other users: %w (it must belong to the user that runs ingestd)", abs, err)
	}
	return &rootDir{path: abs, dir: dir}, nil
}

func (r *rootDir) close() error            { return r.dir.Close() }
func (r *rootDir) join(name string) string { return filepath.Join(r.path, name) }
func (r *rootDir) socket() string          { return fmt.Sprintf("/proc/self/fd/%d/%s", r.dir.Fd(), socketName) }
func (r *rootDir) syncNames(what string) error {
	if err := r.dir.Sync(); err != nil {
		return fmt.Errorf("make %s in %s durable: %w", what, r.path, err)
	}
	return nil
}

// checkAttributes proves that the file system keeps user.* extended attributes:
// versions, checksums, locks and holds live there and nowhere else. It leaves
// nothing behind.
func (r *rootDir) checkAttributes() error {
	const probe = "user.ingestd.probe"
	fd := int(r.dir.Fd())
	err := unix.Fsetxattr(fd, probe, []byte{1}, 0)
	if err == nil {
		err = unix.Fremovexattr(fd, probe)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTSUP):
		return fmt.Errorf("%s is on a file system without user extended attributes, so no lock could be kept there; put the store on ext4, xfs or btrfs: %w", r.path, err)
	default:
		return fmt.Errorf("write an extended attribute on %s: %w", r.path, err)
	}
}

// lock takes the root for this process, until the file is closed or the process
// dies. It is an open-file-description lock: unlike flock it can be asked about
// (lockHeld) without being taken for a moment from whoever is just starting.
func (r *rootDir) lock() (*os.File, error) {
	f, err := os.OpenFile(r.join(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of store %s: %w", r.path, err)
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		f.Close()
		return nil, fmt.Errorf("store %s (process %s): %w", r.path, strings.TrimSpace(string(pid)), ErrServed)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock store %s: %w", r.path, err)
	}
	// The number is for people who read the message above; nothing depends on it.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

func (r *rootDir) lockHeld() (bool, error) {
	f, err := os.OpenFile(r.join(lockName), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open lock of store %s: %w", r.path, err)
	}
	defer f.Close()
	state := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &state); err != nil {
		return false, fmt.Errorf("ask for lock of store %s: %w", r.path, err)
	}
	return state.Type != unix.F_UNLCK, nil
}

// credentials are the store's only account. They are random for each install
// and never leave the 0600 file, not even in arguments or environment.
type credentials struct {
	Access string `json:"access_key"`
	Secret string `json:"secret_key"`
}

func (r *rootDir) readCredentials() (credentials, error) {
	path := r.join(credentialsName)
	raw, err := os.ReadFile(path)
	if err != nil {
		return credentials{}, fmt.Errorf("read keys of store: %w", err)
	}
	var c credentials
	err = json.Unmarshal(raw, &c)
	if err == nil && (c.Access == "" || c.Secret == "") {
		err = errors.New("a key is empty")
	}
	if err != nil {
		return credentials{}, fmt.Errorf("keys of store in %s are damaged, stop ingestd and remove the file, new ones are made and footage is not affected: %w", path, err)
	}
	return c, nil
}

// ensureCredentials makes the keys on the first start. Only the holder of the
// lock calls it.
//
//  1. credentials.json.new is written and synced: a crash leaves it, the next
//     start overwrites it.
//  2. It is renamed: whoever reads credentials.json reads whole keys.
//  3. The folder is synced: the same keys are there after a power cut.
func (r *rootDir) ensureCredentials() (credentials, error) {
	c, err := r.readCredentials()
	if !errors.Is(err, os.ErrNotExist) {
		return c, err
	}
	c = credentials{Access: rand.Text(), Secret: rand.Text() + rand.Text()}
	raw, err := json.Marshal(c)
	if err != nil {
		return c, fmt.Errorf("make keys of store: %w", err)
	}
	fresh := r.join(credentialsName + ".new")
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return c, fmt.Errorf("write keys of store: %w", err)
	}
	_, err = f.Write(append(raw, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return c, fmt.Errorf("write keys of store to %s: %w", fresh, err)
	}
	if err := os.Rename(fresh, r.join(credentialsName)); err != nil {
		return c, fmt.Errorf("put keys of store in place: %w", err)
	}
	return c, r.syncNames("keys")
}

// makeFolders creates data and versions and sees that one syncfs covers both.
func (r *rootDir) makeFolders() error {
	var root unix.Stat_t
	if err := unix.Fstat(int(r.dir.Fd()), &root); err != nil {
		return fmt.Errorf("stat %s: %w", r.path, err)
	}
	for _, name := range []string{dataName, versionsName} {
		path := r.join(name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("make folder of store: %w", err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return fmt.Errorf("stat %s: %w", path, err)
		}
		if st.Dev != root.Dev {
			return fmt.Errorf("%s is on another file system than %s, so that writes could not be made durable together; mount the whole store folder instead", path, r.path)
		}
	}
	return r.syncNames("folders")
}
