// Package folder reads a directory as a recorder: a card in a reader, a mounted
// recorder, a drop folder. It is the plainest driver of package device.
//
// It opens everything through one os.Root, so that no link on the card can lead
// outside it, never follows a link, never opens anything but a regular file,
// and never writes.
package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

// Recorder is a directory that is treated as a docked recorder.
type Recorder struct {
	place    string // the directory, or what it is called in messages
	root     *os.Root
	identity device.Identity
	// gone tells whether the card as a whole is not there any more. It is called
	// with an error that may mean it, or with nil.
	gone func(error) bool
}

var _ device.Recorder = (*Recorder)(nil)

// Open opens dir, which must be a directory, and reads the identity file in it
// if there is one.
func Open(dir string) (*Recorder, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open recorder %s: %w", dir, err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("open recorder %s: %w", dir, err)
	}
	return OpenRoot(root, abs, func(error) bool {
		opened, openErr := root.Stat(".")
		now, nowErr := os.Stat(abs)
		return openErr != nil || nowErr != nil || !os.SameFile(opened, now) || unlinked(opened)
	}), nil
}

// OpenRoot is Open for a directory that is open already and perhaps has no path,
// such as the root of a file system that is mounted nowhere. Place is what it is
// called in messages and in the identity. Gone tells whether the card as a whole
// is gone: it is called with nil before a listing, and with an error that may
// mean it (EIO, a path that does not exist). The Recorder closes the root.
func OpenRoot(root *os.Root, place string, gone func(cause error) bool) *Recorder {
	r := &Recorder{place: place, root: root, gone: gone}
	r.identity = device.Identity{Driver: "folder", Place: place}
	r.identity.Serial, r.identity.Officer = r.readIdentity()
	return r
}

// readIdentity looks for Param.ini in the root, in whichever case it is written.
func (r *Recorder) readIdentity() (serial, officer device.Fact) {
	names, err := r.list(".")
	if err != nil {
		return device.Fact{}, device.Fact{} // Inventory will tell why
	}
	for _, name := range names {
		if !strings.EqualFold(name, "param.ini") {
			continue
		}
		f, err := r.openRegular(name)
		if err != nil {
			continue // a folder or link of that name, or Inventory will tell why
		}
		serial, officer = device.ParseParamINI(f)
		_ = f.Close() // read-only
		return serial, officer
	}
	return device.Fact{}, device.Fact{}
}

// Identity implements device.Recorder.
func (r *Recorder) Identity() device.Identity { return r.identity }

// Clock implements device.Recorder: a directory has no clock to ask.
func (r *Recorder) Clock(context.Context) (device.ClockReading, error) {
	return device.ClockReading{
		Kind:        device.ClockUnknown,
		Method:      "a directory has no clock that could be read",
		StationTime: time.Now(),
	}, nil
}

// Health implements device.Recorder with what the file system tells.
func (r *Recorder) Health(context.Context) (device.Health, error) {
	if err := r.there(); err != nil {
		return device.Health{}, fmt.Errorf("capacity of %s: %w", r.place, err)
	}
	var st unix.Statfs_t
	dir, err := r.root.Open(".")
	if err == nil {
		err = errors.Join(unix.Fstatfs(int(dir.Fd()), &st), dir.Close())
	}
	if err != nil {
		return device.Health{}, fmt.Errorf("capacity of %s: %w", r.place, r.orRemoved(err))
	}
	capacity, free := int64(st.Blocks)*st.Bsize, int64(st.Bfree)*st.Bsize
	return device.Health{CapacityBytes: &capacity, FreeBytes: &free}, nil
}

// Inventory implements device.Recorder. Directories are walked in the order of
// their names' bytes, so that two inventories of one card can be compared.
func (r *Recorder) Inventory(ctx context.Context, found func(device.Entry) error) error {
	if err := r.there(); err != nil {
		return fmt.Errorf("list %s: %w", r.place, err)
	}
	return r.walk(ctx, ".", found)
}

// there looks before something is asked that a root can answer also when its
// card is gone.
func (r *Recorder) there() error {
	if r.gone(nil) {
		return device.ErrRemoved
	}
	return nil
}

func (r *Recorder) walk(ctx context.Context, dir string, found func(device.Entry) error) error {
	names, err := r.list(dir)
	if err != nil {
		err = r.orRemoved(err)
		if dir == "." || errors.Is(err, device.ErrRemoved) {
			return fmt.Errorf("list %s: %w", filepath.Join(r.place, dir), err)
		}
		return found(device.Entry{Path: dir, Kind: device.KindDir, Err: err})
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := name
		if dir != "." {
			p = dir + "/" + name
		}
		e := r.examine(p)
		if errors.Is(e.Err, device.ErrRemoved) {
			return fmt.Errorf("list %s: %w", r.place, e.Err)
		}
		if err := found(e); err != nil {
			return err
		}
		if e.Kind == device.KindDir && e.Err == nil {
			if err := r.walk(ctx, p, found); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Recorder) examine(p string) device.Entry {
	e := device.Entry{Path: p, Kind: device.KindSpecial}
	info, err := r.root.Lstat(p)
	if err != nil {
		e.Err = r.orRemoved(err)
		return e
	}
	e.ModTime = info.ModTime()
	switch mode := info.Mode(); {
	case mode.IsRegular():
		e.Kind, e.Size = device.KindFile, info.Size()
	case mode.IsDir():
		e.Kind = device.KindDir
	case mode&fs.ModeSymlink != 0:
		e.Kind = device.KindLink
		if target, err := r.root.Readlink(p); err == nil {
			e.Note = "points to " + target
		}
	case mode&fs.ModeNamedPipe != 0:
		e.Note = "FIFO"
	case mode&fs.ModeSocket != 0:
		e.Note = "socket"
	case mode&fs.ModeDevice != 0:
		e.Note = "device node"
	default:
		e.Note = mode.Type().String()
	}
	return e
}

func (r *Recorder) list(dir string) ([]string, error) {
	f, err := r.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read-only
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// Open implements device.Recorder.
func (r *Recorder) Open(_ context.Context, e device.Entry, offset int64) (device.File, error) {
	f, err := r.openRegular(e.Path)
	if err != nil {
		return nil, err
	}
	return &file{
		open: f, past: r.openPast(e, offset),
		recorder: r, path: e.Path, size: e.Size, offset: offset,
	}, nil
}

const (
	openFlags = os.O_RDONLY | unix.O_NONBLOCK
	// largeFile is the size from which it pays to read past the page cache.
	largeFile = 4 * block
)

// openRegular opens a path that is a regular file. It does not wait on a FIFO
// that has taken the file's place meanwhile, and it leaves the access time alone
// where the kernel lets it.
func (r *Recorder) openRegular(p string) (*os.File, error) {
	f, err := r.openItself(p, openFlags|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) { // only the owner may ask for O_NOATIME
		f, err = r.openItself(p, openFlags)
	}
	if err != nil {
		return nil, fmt.Errorf("open %q on the recorder: %w", p, r.orRemoved(err))
	}
	// The card is read once and in order; without the hint a small readahead
	// window makes a slow reader slower. Not all file systems take the hint.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_SEQUENTIAL)
	return f, nil
}

// openItself opens what the path names and not what a link there points to:
// os.Root keeps links within the card but follows them, O_NOFOLLOW or not.
func (r *Recorder) openItself(p string, flags int) (*os.File, error) {
	named, err := r.root.Lstat(p)
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, fmt.Errorf("it is no regular file: %s", named.Mode().Type())
	}
	f, err := r.root.OpenFile(p, flags, 0)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(named, opened) {
		err = errors.New("another file took its place while it was opened")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close implements device.Recorder.
func (r *Recorder) Close() error {
	if err := r.root.Close(); err != nil {
		return fmt.Errorf("close recorder %s: %w", r.place, err)
	}
	return nil
}

// orRemoved turns an error into device.ErrRemoved where it means that the card
// as a whole is gone: the root no longer answers. A single missing file does
// not.
func (r *Recorder) orRemoved(err error) error {
	if err == nil || errors.Is(err, device.ErrRemoved) {
		return err
	}
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOMEDIUM) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("%w: %w", device.ErrRemoved, err)
	}
	if !errors.Is(err, unix.EIO) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r.gone(err) {
		return fmt.Errorf("%w: %w", device.ErrRemoved, err)
	}
	return err
}

func unlinked(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}
