package folder

import (
	"errors"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// block is read at once past the page cache; a multiple of any device's
	// sector, which O_DIRECT asks of offset, length and memory.
	block = 1 << 20
	// blocksAhead are read while earlier ones are worked on, in the place of the
	// kernel's readahead, so that a slow recorder never waits for us.
	blocksAhead = 3
	alignment   = 4096
)

// ahead reads a large file past the page cache, in a goroutine of its own.
// Footage is read once, so that caching it costs CPU, pushes out what is of use,
// and would let a second look see the cache instead of the card. Where the file
// system can't do it (O_DIRECT), and at the end of the file, it goes on in the
// ordinary way at the same byte.
type ahead struct {
	ready chan piece
	empty chan []byte
	piece piece // what Read is handing out
	stop  chan struct{}
	ended sync.WaitGroup
}

type piece struct {
	buf  []byte // the whole buffer, to be used again
	data []byte // what of it is to be handed out
	err  error  // behind the data
}

// readAhead reads from offset on, which is a multiple of alignment. past is open
// with O_DIRECT and is closed at the end; ordinary stays the caller's.
func readAhead(past, ordinary *os.File, offset int64) *ahead {
	a := &ahead{ready: make(chan piece), empty: make(chan []byte, blocksAhead), stop: make(chan struct{})}
	for range blocksAhead {
		a.empty <- aligned(block)
	}
	a.ended.Go(func() {
		defer func() { _ = past.Close() }() // only read from
		a.run(int(past.Fd()), ordinary, offset)
	})
	return a
}

func aligned(n int) []byte {
	b := make([]byte, n+alignment)
	skip := alignment - int(uintptr(unsafe.Pointer(&b[0]))%alignment)
	return b[skip : skip+n]
}

func (a *ahead) run(past int, ordinary *os.File, offset int64) {
	for direct := true; ; {
		var p piece
		select {
		case p.buf = <-a.empty:
		case <-a.stop:
			return
		}
		n := 0
		if direct {
			n, p.err = pread(past, p.buf, offset)
			if direct = n == block; errors.Is(p.err, unix.EINVAL) {
				p.err = nil
			}
		}
		if !direct && p.err == nil {
			var more int
			more, p.err = ordinary.ReadAt(p.buf[n:], offset+int64(n))
			n += more
		}
		p.data = p.buf[:n]
		offset += int64(n)
		select {
		case a.ready <- p:
		case <-a.stop:
			return
		}
		if p.err != nil {
			return
		}
	}
}

func pread(fd int, buf []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(fd, buf, offset)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// Read hands out in order; an error comes at its byte and stays. The end is
// where it was when it was read: that it has moved since shows in Stat.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.piece.data) == 0 {
		if a.piece.err != nil {
			return 0, a.piece.err
		}
		if a.piece.buf != nil {
			a.empty <- a.piece.buf
		}
		a.piece = <-a.ready
	}
	n := copy(p, a.piece.data)
	a.piece.data = a.piece.data[n:]
	return n, nil
}

// close waits for a read on the way, which a pulled recorder fails promptly.
func (a *ahead) close() {
	close(a.stop)
	a.ended.Wait()
}
