//go:build !race

package ingest

import "golang.org/x/sys/unix"

// takeMemory gives n bytes that begin at a page, from the system and not from the
// garbage collector's heap. There they would count: the collector lets a heap grow
// to twice of what lives in it, so that every buffer would cost its size again.
// A file that is read past the page cache needs the alignment.
func takeMemory(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	// In large pages there are fewer to be found, pinned and copied from. A kernel
	// without them uses small ones.
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	return b, nil
}

// freeMemory gives it back. Nothing may look at it any more.
func freeMemory(b []byte) error { return unix.Munmap(b[:cap(b)]) }
