package folder_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

// memory is n bytes that begin at a multiple of 4096, or one byte behind one.
func memory(n int, aligned bool) []byte {
	b := make([]byte, n+2*4096)
	skip := 4096 - int(uintptr(unsafe.Pointer(&b[0]))%4096)
	if !aligned {
		skip++
	}
	return b[skip : skip+n]
}

// content is bytes that are nowhere the same.
func content(n int) []byte {
	b := make([]byte, n)
	x := uint64(n) + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

func card(t *testing.T, want []byte) (dir string, open func(offset int64) device.Filler) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.mp4"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, func(offset int64) device.Filler {
		t.Helper()
		f, err := openCard(t, dir).Open(t.Context(), device.Entry{Path: "a.mp4", Kind: device.KindFile, Size: int64(len(want))}, offset)
		if err != nil {
			t.Fatal(err)
		}
		filler, ok := f.(device.Filler)
		if !ok {
			t.Fatal("a folder's file can't Fill")
		}
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		return filler
	}
}

func openCard(t *testing.T, dir string) device.Recorder { return open(t, dir) }

// fill checks what must hold of every Fill and gives the bytes that came.
func fill(t *testing.T, f device.Filler, buf []byte) ([]byte, error) {
	t.Helper()
	told := 0
	n, err := f.Fill(buf, func(piece []byte) error {
		if len(piece) == 0 || &piece[0] != &buf[told] {
			t.Fatalf("a piece of %d bytes is not at byte %d of the buffer", len(piece), told)
		}
		told += len(piece)
		return nil
	})
	if told != n {
		t.Fatalf("%d bytes were told piece by piece and %d at the end", told, n)
	}
	if n < len(buf) && err == nil {
		t.Fatalf("%d of %d bytes came without an error", n, len(buf))
	}
	return buf[:n], err
}

// Whatever the size of the file and of the buffer, where it is begun and where the
// memory lies: every byte comes once and in order, then the end.
func TestFillGivesEveryByteInOrder(t *testing.T) {
	for _, size := range []int{0, 1, 4096, 65537, 4 << 20, 4<<20 + 1, 9<<20 + 12345} {
		want := content(size)
		_, open := card(t, want)
		for _, c := range []struct {
			offset, buffer int
			aligned        bool
		}{{0, 8 << 20, true}, {0, 8 << 20, false}, {0, 5<<20 + 777, true}, {4096, 5 << 20, true}, {777, 5 << 20, true}, {0, 16 << 20, true}, {0, 100000, true}} {
			if c.offset > size {
				continue
			}
			t.Run(fmt.Sprintf("%d from %d by %d %v", size, c.offset, c.buffer, c.aligned), func(t *testing.T) {
				f := open(int64(c.offset))
				var got []byte
				for {
					data, err := fill(t, f, memory(c.buffer, c.aligned))
					got = append(got, data...)
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(got, want[c.offset:]) {
					t.Errorf("%d bytes came, not the %d of the file", len(got), size-c.offset)
				}
				if n, err := f.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("behind the end: %d bytes, %v", n, err)
				}
			})
		}
	}
}

// Read and Fill take turns on one file without losing or doubling a byte.
func TestFillAndReadTakeTurns(t *testing.T) {
	want := content(9 << 20)
	_, open := card(t, want)
	for _, readFirst := range []bool{true, false} {
		f := open(0)
		var got []byte
		for turn := 0; len(got) < len(want); turn++ {
			if (turn%2 == 0) == readFirst {
				buf := make([]byte, 4096*3)
				n, err := f.Read(buf)
				if err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				got = append(got, buf[:n]...)
				continue
			}
			data, err := fill(t, f, memory(2<<20, true))
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			got = append(got, data...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("read first %v: other bytes came", readFirst)
		}
	}
}

// A file that grows shows the bytes behind its listed end, one that shrinks ends
// early: neither is hidden.
func TestFillSeesAFileGrowAndShrink(t *testing.T) {
	want := content(8 << 20)
	for _, now := range []int64{3<<20 + 5, 9 << 20} {
		dir, open := card(t, want)
		f := open(0)
		if _, err := fill(t, f, memory(2<<20, true)); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, "a.mp4"), now); err != nil {
			t.Fatal(err)
		}
		data, err := fill(t, f, memory(16<<20, true))
		if !errors.Is(err, io.EOF) || int64(len(data))+2<<20 != now {
			t.Errorf("the file ends at %d now; it was read to %d, %v", now, len(data)+2<<20, err)
		}
		if size, _, err := f.Stat(); err != nil || size != now {
			t.Errorf("it is %d bytes now, %v", size, err)
		}
	}
}

// An error of who works on the bytes ends it, and nothing writes into the buffer
// any more.
func TestFillEndsWithAnErrorOfEach(t *testing.T) {
	_, open := card(t, content(16<<20))
	f := open(0)
	buf := memory(16<<20, true)
	boom := errors.New("no more")
	calls := 0
	n, err := f.Fill(buf, func([]byte) error {
		calls++
		if calls == 2 {
			return boom
		}
		return nil
	})
	if !errors.Is(err, boom) || calls != 2 || n != 2<<20 {
		t.Errorf("%d bytes in %d calls, %v", n, calls, err)
	}
	clear(buf) // the race detector sees a reader that goes on
	rest, err := fill(t, f, memory(1<<20, true))
	if err != nil || bytes.Equal(rest, buf[:1<<20]) || bytes.Count(buf, []byte{0}) != len(buf) {
		t.Errorf("%d bytes behind it, %v, or the buffer was written to after Fill had returned", len(rest), err)
	}
}

// A place that can't be read is told with every byte before it, and is not taken
// for the end.
func TestFillStopsAtABadPlace(t *testing.T) {
	const good, hole = 3<<20 + 8192, 1 << 20
	// The kernel reads a process's memory like a card with bad places where none
	// is mapped.
	region, err := unix.Mmap(-1, 0, good+hole, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	start := int64(uintptr(unsafe.Pointer(&region[0])))
	want := content(good)
	copy(region, want)
	if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, uintptr(start)+good, hole, 0); errno != 0 {
		t.Fatal(errno)
	}
	defer func() {
		if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, uintptr(start), good, 0); errno != 0 {
			t.Error(errno)
		}
	}()
	r := open(t, "/proc/self")
	f, err := r.Open(t.Context(), device.Entry{Path: "mem", Kind: device.KindFile, Size: good + hole}, start)
	if err != nil {
		t.Skipf("this kernel does not let a process read its memory as a file: %v", err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	got, err := fill(t, f.(device.Filler), memory(4<<20, true))
	if !errors.Is(err, unix.EIO) || errors.Is(err, device.ErrRemoved) || !bytes.Equal(got, want) {
		t.Errorf("%d of %d good bytes came, %v", len(got), good, err)
	}
}
