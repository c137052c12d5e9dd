package folder

import (
	"errors"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// came tells how much of a buffer is filled, from its start.
type came struct {
	n   int
	err error // behind that
}

// Fill implements device.Filler. While each works on a block, a goroutine reads
// the next one; it has ended when Fill returns, so that buf is the caller's alone
// again.
func (f *file) Fill(buf []byte, each func(piece []byte) error) (n int, err error) {
	blocks := len(buf)/block + 1
	arrived := make(chan came, blocks+1) // never full: reading waits for nobody
	stop := make(chan struct{})
	fill := func() {
		defer close(arrived)
		f.readBlocks(buf, arrived, stop)
	}
	if blocks > 1 {
		go fill()
	} else {
		fill() // there is nothing to be done meanwhile
	}
	stopped := false
	for c := range arrived {
		if stopped {
			continue // until the goroutine has ended
		}
		if c.n > n {
			err = each(buf[n:c.n:c.n])
			n = c.n
		}
		if err != nil {
			stopped = true
			close(stop)
			continue
		}
		if err = c.err; err != nil && !errors.Is(err, io.EOF) {
			err = f.recorder.orRemoved(err)
		}
	}
	f.offset += int64(n)
	return n, err
}

// readBlocks fills buf from where the file stands and tells each block; an error
// comes with the bytes before it and is the last.
func (f *file) readBlocks(buf []byte, arrived chan<- came, stop <-chan struct{}) {
	direct := f.ahead == nil && f.past != nil && f.offset%alignment == 0 && isAligned(buf)
	for n := 0; n < len(buf); {
		select {
		case <-stop:
			return
		default:
		}
		into := buf[n:min(n+block, len(buf))]
		got, err := f.readBlock(into, f.offset+int64(n), &direct)
		n += got
		arrived <- came{n, err}
		if err != nil {
			return
		}
	}
}

// readBlock fills one block, past the page cache as long as that goes: not in a
// file system that can't, not with a length that is no multiple of a sector, and
// not behind the last whole sector of the file.
func (f *file) readBlock(into []byte, offset int64, direct *bool) (n int, err error) {
	if f.ahead != nil { // who has begun with Read goes on with what that has read
		if n, err = io.ReadFull(f.ahead, into); errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return n, err
	}
	if *direct {
		whole := len(into) - len(into)%alignment
		n, err = pread(int(f.past.Fd()), into[:whole], offset)
		if *direct = err == nil && n == whole; err != nil && !errors.Is(err, unix.EINVAL) {
			return n, err
		}
	}
	if n == len(into) {
		return n, nil
	}
	more, err := f.open.ReadAt(into[n:], offset+int64(n))
	return n + more, err
}

func isAligned(buf []byte) bool {
	return len(buf) > 0 && uintptr(unsafe.Pointer(&buf[0]))%alignment == 0
}
