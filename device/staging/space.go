package staging

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrFull says that the staging disk has no room for the copy beside its
// reserve. Nothing of the copy was kept.
var ErrFull = errors.New("the staging disk is full: bring the staged copies into the store, or give it a larger disk")

const (
	// spaceStep is how much is written between two looks at the disk.
	spaceStep = 16 << 20
	// fileOverhead is more than a file takes besides its bytes: the header of age,
	// the last block of the file system, and its line in the record.
	fileOverhead = 8 << 10
	// chunkBytes and tagBytes: age adds a tag to every chunk.
	chunkBytes, tagBytes = 64 << 10, 16
)

// claim is the room that one running copy has been promised. It belongs to the
// goroutine of its Stage; left is also read by others, under Dir.mu.
type claim struct {
	dir    *Dir
	left   int64 // guarded by dir.mu: bytes still to be written
	unseen int64 // bytes since the last look at the disk
}

// claimRoom promises room for files, or fails with ErrFull. What other copies
// still have to write is theirs.
func (d *Dir) claimRoom(files int, size int64) (*claim, error) {
	need := size + (size/chunkBytes)*tagBytes + int64(files+1)*fileOverhead
	d.mu.Lock()
	defer d.mu.Unlock()
	free, err := d.free()
	if err != nil {
		return nil, err
	}
	for other := range d.claims {
		free -= other.left
	}
	if free-d.Reserve < need {
		return nil, fmt.Errorf("%d bytes are needed, %d are free besides a reserve of %d: %w", need, max(free-d.Reserve, 0), d.Reserve, ErrFull)
	}
	c := &claim{dir: d, left: need}
	d.claims[c] = struct{}{}
	return c, nil
}

// wrote counts n bytes and looks now and then whether the reserve is touched, by
// whomever: it may be another program that fills the disk.
func (c *claim) wrote(n int) error {
	c.dir.mu.Lock()
	c.left = max(c.left-int64(n), 0)
	c.dir.mu.Unlock()
	if c.unseen += int64(n); c.unseen < spaceStep {
		return nil
	}
	c.unseen = 0
	free, err := c.dir.free()
	if err == nil && free < c.dir.Reserve {
		err = fmt.Errorf("%d bytes are free, less than the reserve of %d: %w", free, c.dir.Reserve, ErrFull)
	}
	return err
}

func (c *claim) release() {
	c.dir.mu.Lock()
	defer c.dir.mu.Unlock()
	delete(c.dir.claims, c)
}

// free is what an ordinary user could still write to the disk, in bytes.
func (d *Dir) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.lock.Fd()), &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", d.path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// orFull names a full disk as such, whatever ran out: blocks, a quota, the size
// that a file may have.
func orFull(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
