// Package staging keeps encrypted copies of docked recorders on a disk of the
// station while the final store is away (暂存). It stands beside the flow
// recorder → session → vault: Stage copies a recorder when no session can store
// it, and later Copy.Open gives that copy as a device.Recorder to an ordinary
// session, which brings it into the vault as if it were docked.
//
// A staged copy is a second copy for the case that the recorder is lost, and no
// more: it is never counted as stored, and neither the recorder may be cleared
// nor "safe to undock" (可取下) be said because of it. Only a session that was
// sealed in the vault lets a copy be removed.
//
// On disk a copy is a folder named by time and chance:
//
//	20260102T030405Z-1f2e3d4c/000001.age     one file of the recorder
//	20260102T030405Z-1f2e3d4c/copy.json.age  all paths, identity, clock, digests
//
// All of it is encrypted with age, and `age -d -i KEYFILE` decrypts each file.
// Names, ids and times of footage are not readable without the key; the number of
// files, their sizes and the time of copying are. While it is written the folder
// is called ….partial, while it is removed ….removed, and Open deletes such: the
// name without a suffix is the commit mark.
package staging

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// ErrLocked says that another process has the staging folder open.
var ErrLocked = errors.New("another process uses the staging folder: only one ingestd may")

// ErrWrongKey says that the folder holds copies that the key does not decrypt.
var ErrWrongKey = errors.New("the staging folder holds copies made with another key: give that key, or add it to the key file behind the new one")

// ErrDamaged says that a staged copy, or a file of it, is not what was written:
// the disk has lost or changed bytes. The recorder may be the only other copy.
var ErrDamaged = errors.New("the staged copy is damaged: check the staging disk")

// DefaultReserve is what Stage leaves free unless Dir.Reserve says otherwise.
const DefaultReserve = 1 << 30

const (
	lockName      = "staging.lock"
	partialSuffix = ".partial"
	removedSuffix = ".removed"
)

var (
	copyName    = regexp.MustCompile(`^\d{8}T\d{6}Z-[0-9a-f]{8}$`)
	rubbishName = regexp.MustCompile(`^\d{8}T\d{6}Z-[0-9a-f]{8}\.(partial|removed)$`)
)

// Dir is an open staging folder. Its methods may be called from several
// goroutines, so that several slots can be staged at once.
type Dir struct {
	// Reserve is how many bytes of the disk Stage leaves free. It is set before
	// the first call of Stage; Open sets DefaultReserve.
	Reserve int64

	path string
	key  Key
	root *os.Root
	lock *os.File // holds the flock until it is closed

	mu     sync.Mutex
	claims map[*claim]struct{} // guarded by mu: room that running copies still need
	inUse  map[string]int      // guarded by mu: by copy, how many recorders are open
}

// Open opens the staging folder at path for this process alone, ErrLocked if
// another has it. The folder is made with mode 0700 where its parent exists; a
// missing parent is an error, since the disk may not be mounted. One that others
// can enter is refused.
//
// What a crash has left of copies that were not complete, or whose removal had
// begun, is deleted; when Open returns that is durable. Sealed copies and names
// that are not ours are never touched. ErrWrongKey: nothing was deleted.
//
// Whether path lies on the right disk, and not on that of the store, is for the
// caller to find out.
func Open(path string, key Key) (_ *Dir, err error) {
	if len(key.identities) == 0 {
		return nil, fmt.Errorf("open staging folder %s: there is no key", path)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("open staging folder: %w", err)
	}
	if err := makeFolder(path); err != nil {
		return nil, fmt.Errorf("open staging folder: %w", err)
	}
	d := &Dir{Reserve: DefaultReserve, path: path, key: key, claims: map[*claim]struct{}{}, inUse: map[string]int{}}
	if d.root, err = os.OpenRoot(path); err != nil {
		return nil, fmt.Errorf("open staging folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := d.own(); err != nil {
		return nil, fmt.Errorf("open staging folder %s: %w", path, err)
	}
	if err := d.checkKey(); err != nil {
		return nil, fmt.Errorf("open staging folder %s: %w", path, err)
	}
	if err := d.clean(); err != nil {
		return nil, fmt.Errorf("clean staging folder %s: %w", path, err)
	}
	return d, nil
}

func makeFolder(path string) error {
	err := os.Mkdir(path, 0o700)
	if err == nil {
		return syncFolder(filepath.Dir(path))
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", path)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s has mode %04o, others can enter it: `chmod 700` it, or name a folder below it", path, info.Mode().Perm())
	}
	return nil
}

// own takes the folder until the file is closed or the process dies.
func (d *Dir) own() (err error) {
	if d.lock, err = d.root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// checkKey finds out at once, not when the store is back, that the copies that
// wait are not for this key. Other damage is told by Copies.
func (d *Dir) checkKey() error {
	names, err := d.names(copyName)
	if err != nil {
		return err
	}
	for _, id := range names {
		if _, err := d.readRecord(id); errors.Is(err, ErrWrongKey) {
			return err
		}
	}
	return nil
}

func (d *Dir) clean() error {
	names, err := d.names(rubbishName)
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		if err := d.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return d.sync()
}

// names lists what matches, in the order of the bytes and so of time.
func (d *Dir) names(pattern *regexp.Regexp) ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	all, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(name string) bool { return !pattern.MatchString(name) })
	slices.Sort(all)
	return all, nil
}

// Copies lists the sealed copies, oldest first. It reads their records only; the
// footage shows damage when it is read. Copies whose record can't be read are not
// passed over: they come as an error that is ErrDamaged, beside the good ones.
// Nothing on the disk changes.
func (d *Dir) Copies(ctx context.Context) ([]Copy, error) {
	names, err := d.names(copyName)
	if err != nil {
		return nil, fmt.Errorf("list staging folder %s: %w", d.path, err)
	}
	var copies []Copy
	var bad []error
	for _, id := range names {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		rec, err := d.readRecord(id)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		copies = append(copies, d.copyOf(rec))
	}
	return copies, errors.Join(bad...)
}

// Close gives the folder free. Recorders of copies are closed before, and no
// Stage may be under way.
func (d *Dir) Close() error {
	err := d.root.Close()
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	if err != nil {
		return fmt.Errorf("close staging folder %s: %w", d.path, err)
	}
	return nil
}

// sync makes names in the staging folder durable.
func (d *Dir) sync() error { return syncRoot(d.root) }

func syncRoot(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// isWrongKey tells a file for another key from a damaged one.
func isWrongKey(err error) bool {
	var none *age.NoIdentityMatchError
	return errors.As(err, &none)
}
