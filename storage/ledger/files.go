package ledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"golang.org/x/mod/sumdb/tlog"
)

// The files of a ledger's folder. README.md describes them.
const (
	entriesName    = "entries.jsonl"
	hashesName     = "hashes"
	checkpointName = "checkpoint"
	// nextName holds the checkpoint that the append under way will have.
	nextName = "checkpoint.next"
	// unsignedName holds lines that came from a bucket without their checkpoint.
	unsignedName = "unsigned.jsonl"
	// segmentName holds the bounds of the segment that is on its way to a bucket.
	segmentName = "segment.next"
	lockName    = "lock"
	sendingName = "sending.lock"

	fileMode   = 0o600
	folderMode = 0o700
)

// folder is the path of a ledger's folder.
type folder string

func (d folder) path(name string) string { return filepath.Join(string(d), name) }

// read gives the content of a small file; nil and no error where there is none.
func (d folder) read(name string) ([]byte, error) {
	data, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func (d folder) exists(name string) (bool, error) {
	_, err := os.Lstat(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// write makes a file anew and durable, its name included.
func (d folder) write(name string, data []byte) error {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.sync()
}

// rename puts a file in the place of another, durably.
func (d folder) rename(from, to string) error {
	if err := os.Rename(d.path(from), d.path(to)); err != nil {
		return err
	}
	return d.sync()
}

// remove takes a file away; that there is none is no error.
func (d folder) remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sync makes the names in the folder durable.
func (d folder) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lock waits for the lock file: unix.LOCK_EX or unix.LOCK_SH. Each call has a
// file description of its own, so it keeps apart goroutines as well as
// processes, and the kernel frees it when a process dies. Closing the file gives
// it back.
func (d folder) lock(ctx context.Context, name string, how int) (*os.File, error) {
	flags := os.O_RDWR | os.O_CREATE
	if how == unix.LOCK_SH {
		flags = os.O_RDONLY // a copy on a disc can be read too
	}
	const first, longest = time.Millisecond, 50 * time.Millisecond
	for wait := first; ; wait = min(2*wait, longest) {
		f, err := d.tryLock(name, flags, how)
		if err != nil || f != nil {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", d.path(name), ctx.Err())
		case <-time.After(wait):
		}
	}
}

// tryLock gives nil and no error where another has the lock.
func (d folder) tryLock(name string, flags, how int) (*os.File, error) {
	f, err := os.OpenFile(d.path(name), flags, fileMode)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if err == nil {
		// A lock on a file that was replaced meanwhile keeps no one out.
		var mine, there os.FileInfo
		if mine, err = f.Stat(); err == nil {
			there, err = os.Stat(d.path(name))
		}
		if err == nil && os.SameFile(mine, there) {
			return f, nil
		}
	}
	if err := errors.Join(ignoring(err, unix.EWOULDBLOCK, unix.EINTR, fs.ErrNotExist), f.Close()); err != nil {
		return nil, fmt.Errorf("lock %s: %w", d.path(name), err)
	}
	return nil, nil
}

func ignoring(err error, these ...error) error {
	for _, e := range these {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// identity tells whether the file of entries was touched since it was looked at.
type identity struct {
	dev, ino                      uint64
	changedSec, changedNsec, size int64
}

func identify(f *os.File) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return identity{}, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	sec, nsec := st.Ctim.Unix()
	return identity{dev: st.Dev, ino: st.Ino, changedSec: sec, changedNsec: nsec, size: st.Size}, nil
}

// errTorn is a last line without a newline, errTooLong one that no ledger wrote.
var (
	errTorn    = errors.New("the last line has no newline")
	errTooLong = fmt.Errorf("a line is longer than %d bytes", MaxLine)
)

// lineReader gives the lines of entries.jsonl without their newline.
type lineReader struct{ r *bufio.Reader }

func newLineReader(r io.Reader) lineReader {
	return lineReader{bufio.NewReaderSize(r, MaxLine+1)}
}

// next gives a line that is good until the call after it; io.EOF at the end.
func (l lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errTooLong
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, errTorn
	}
	return nil, err
}

// hashesAt gives the place of the hashes of line number index in their file.
func hashesAt(index int64) int64 { return tlog.StoredHashCount(index) * tlog.HashSize }

func joined(hashes []tlog.Hash) []byte {
	var out bytes.Buffer
	out.Grow(len(hashes) * tlog.HashSize)
	for _, h := range hashes {
		out.Write(h[:])
	}
	return out.Bytes()
}

// keepHashes sees to it that the file of hashes holds these from the given line
// on, and nothing behind them, and tells whether something else was in their
// place. They need no fsync: what a crash takes away is made again from the
// entries.
func (d folder) keepHashes(from int64, hashes []tlog.Hash) (differed bool, err error) {
	f, err := os.OpenFile(d.path(hashesName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	want, at := joined(hashes), hashesAt(from)
	have := make([]byte, len(want))
	n, err := f.ReadAt(have, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if differed = !bytes.Equal(have[:n], want); differed {
		if _, err := f.WriteAt(want, at); err != nil {
			return true, err
		}
	}
	return differed, f.Truncate(at + int64(len(want)))
}
