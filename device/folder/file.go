package folder

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

// file is a file on a card, read by Read or by Fill. It does not embed os.File:
// io.Copy would find its WriteTo and pass by Read, and with it what tells a
// removal.
type file struct {
	open     *os.File
	past     *os.File // the same past the page cache; nil where that can't be or does not pay
	ahead    *ahead   // reads past in its place from the first Read on
	recorder *Recorder
	path     string
	size     int64 // as it was listed
	offset   int64 // of the next byte, where ahead does not have it
}

var _ device.Filler = (*file)(nil)

// openPast opens a large file a second time, past the page cache. What can't be
// read like that is read in the ordinary way.
func (r *Recorder) openPast(e device.Entry, offset int64) *os.File {
	if e.Size < largeFile || offset%alignment != 0 {
		return nil
	}
	past, err := r.openItself(e.Path, openFlags|unix.O_DIRECT)
	if err != nil {
		return nil
	}
	return past
}

// Close implements device.File.
func (f *file) Close() error {
	switch {
	case f.ahead != nil:
		f.ahead.close()
	case f.past != nil:
		_ = f.past.Close() // only read from
	}
	return f.open.Close()
}

// Read implements device.File. Who begins with it is read ahead for, into memory
// of the driver's own.
func (f *file) Read(p []byte) (n int, err error) {
	if f.ahead == nil && f.past != nil && f.offset < f.size && f.offset%alignment == 0 {
		f.ahead = readAhead(f.past, f.open, f.offset)
	}
	if f.ahead != nil {
		n, err = f.ahead.Read(p)
	} else {
		n, err = f.open.ReadAt(p, f.offset)
	}
	f.offset += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = f.recorder.orRemoved(err)
	}
	return n, err
}

// Stat looks at the path, not at the open file: one that was replaced by another
// of the same name counts as changed, with the newcomer's size and time.
func (f *file) Stat() (int64, time.Time, error) {
	info, err := f.recorder.root.Lstat(f.path)
	if err != nil {
		return 0, time.Time{}, f.recorder.orRemoved(err)
	}
	return info.Size(), info.ModTime(), nil
}
