package simulator_test

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/bodyworn/ingestd/device/simulator"
)

func TestSparse(t *testing.T) {
	for _, size := range []int64{0, 1, 64 << 10, 100_000, 5 << 30} {
		path := filepath.Join(t.TempDir(), "sparse")
		if err := simulator.Sparse(path, size); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() != size {
			t.Errorf("%d bytes, want %d", info.Size(), size)
		}
		if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 1<<20 {
			t.Errorf("%d bytes take %d on disk", size, used)
		}
		if size == 0 {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		block := make([]byte, min(size, 64<<10))
		for _, at := range []int64{0, (size - int64(len(block))) / 2, size - int64(len(block))} {
			if _, err := f.ReadAt(block, at); err != nil {
				t.Errorf("read at %d: %v", at, err)
			}
			if zeros := countZeros(block); len(block) > 1 && zeros > len(block)/100 {
				t.Errorf("%d of %d bytes at %d are zero", zeros, len(block), at)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func countZeros(block []byte) (zeros int) {
	for _, b := range block {
		if b == 0 {
			zeros++
		}
	}
	return zeros
}

func TestMany(t *testing.T) {
	const n, size = 1203, 3000
	dir := filepath.Join(t.TempDir(), "many")
	if err := simulator.Many(dir, n, size); err != nil {
		t.Fatal(err)
	}
	digests := map[[32]byte]bool{}
	perFolder := map[string]int{}
	err := filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(at)
		if len(data) != size {
			t.Errorf("%s has %d bytes, want %d", at, len(data), size)
		}
		digests[sha256.Sum256(data)] = true
		perFolder[filepath.Dir(at)]++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(digests) != n || len(perFolder) != 3 {
		t.Errorf("%d different files in %d folders, want %d in 3", len(digests), len(perFolder), n)
	}
}

func BenchmarkMany(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		dir := filepath.Join(b.TempDir(), "many")
		if err := simulator.Many(dir, n, 4096); err != nil {
			b.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "files/s")
}
