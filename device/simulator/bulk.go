package simulator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	sparseBlock     = 64 << 10
	filesPerFolder  = 500
	manyBufferBytes = 1 << 20
)

// Sparse makes a file of the given size, most of it a hole that takes no room
// on disk, with data in its first, middle and last 64 KiB: enough to catch a
// reader that stops early or loses its place, at any size.
func Sparse(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("create sparse file: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close sparse file %s: %w", path, closeErr)
		}
	}()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("size sparse file %s to %d bytes: %w", path, size, err)
	}
	block := make([]byte, min(size, sparseBlock))
	random := Card{}.random(fmt.Sprintf("sparse %d", size))
	for _, at := range []int64{0, (size - int64(len(block))) / 2, size - int64(len(block))} {
		_, _ = random.Read(block) // never fails
		if _, err := f.WriteAt(block, at); err != nil {
			return fmt.Errorf("write sparse file %s at %d: %w", path, at, err)
		}
	}
	return nil
}

// Many makes n files of the given size below dir, 500 to a folder, as a card
// full of photos has them. Files of eight bytes and more differ from each
// other.
func Many(dir string, n int, size int64) error {
	if err := makeEmpty(dir); err != nil {
		return err
	}
	content := make([]byte, min(size, manyBufferBytes))
	random := Card{}.random("many")
	_, _ = random.Read(content) // never fails
	var folder string
	for i := range n {
		if i%filesPerFolder == 0 {
			folder = filepath.Join(dir, "DCIM", fmt.Sprintf("%dMEDIA", 100+i/filesPerFolder))
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return fmt.Errorf("make folder %d of many: %w", i/filesPerFolder, err)
			}
		}
		if len(content) >= 8 {
			binary.BigEndian.PutUint64(content, uint64(i))
		}
		path := filepath.Join(folder, fmt.Sprintf("IMG_%07d.JPG", i+1))
		if err := writeRepeated(path, content, size); err != nil {
			return fmt.Errorf("write %s, one of many: %w", path, err)
		}
	}
	return nil
}

// writeRepeated fills a new file with content, over and over up to size.
func writeRepeated(path string, content []byte, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	for left := size; left > 0 && err == nil; left -= int64(len(content)) {
		_, err = f.Write(content[:min(left, int64(len(content)))])
	}
	return errors.Join(err, f.Close())
}
