//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// file is one file of a recorder. Its content is so many zeros and then what
// follows from the seed, unless Data is set.
type file struct {
	Path  string
	Data  []byte
	Seed  uint64
	Size  int64
	Zeros int64 // of Size
}

func (f file) open() io.Reader {
	if f.Data != nil {
		return bytes.NewReader(f.Data)
	}
	return io.MultiReader(io.LimitReader(zeros{}, f.Zeros), wire.Content(f.Seed, f.Size-f.Zeros))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (f file) size() int64 {
	if f.Data != nil {
		return int64(len(f.Data))
	}
	return f.Size
}

func (f file) sum(t testing.TB) string {
	t.Helper()
	return sumOf(t, f.open())
}

func sumOf(t testing.TB, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// imageSum is the digest of a whole image: what was written to it would show.
func imageSum(t testing.TB, image string) string {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return sumOf(t, f)
}

// identity is the file by which many recorders say who they are.
func identity(serial string) file {
	return file{Path: "Param.ini", Data: fmt.Appendf(nil, "[ZFY]\r\nDevNo=%s\r\nPolNo=052507\r\n", serial)}
}

// footage is what a recorder of a shift may hold: clips, a track with a Chinese
// name, an empty file. The seed makes it differ from every other.
func footage(serial string, seed uint64, clips int, clipSize int64) []file {
	files := []file{
		identity(serial),
		{Path: "DATA/轨迹记录.txt", Data: fmt.Appendf(nil, "%s,%d\r\n", serial, seed)},
		{Path: "DATA/EMPTY.LOG", Data: []byte{}},
	}
	for i := range clips {
		files = append(files, file{
			Path: fmt.Sprintf("DATA/20261125/%s_%03d.MP4", serial, i), Seed: seed<<16 | uint64(i), Size: clipSize - int64(i)*1000,
		})
	}
	return files
}

// layout is how a card is formatted.
type layout struct {
	Table  bool  // a partition table with one partition from 1 MiB on
	Size   int64 // bytes of the file system; 0: 64 MiB
	Format string
}

const partitionStart = 1 << 20

func (l layout) start() int64 {
	if l.Table {
		return partitionStart
	}
	return 0
}

// newImage makes an empty image with its partition table.
func newImage(t testing.TB, w *world, l layout) string {
	t.Helper()
	path := filepath.Join(w.m.dir, w.m.unique("image"))
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(l.start() + l.Size)
	}
	if err == nil && l.Table {
		_, err = f.WriteAt(partitionTable(l), 446)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// partitionTable is the tail of an MBR: one partition, three empty entries and the
// signature.
func partitionTable(l layout) []byte {
	types := map[string]byte{"vfat": 0x0c, "exfat": 0x07, "ext4": 0x83}
	table := make([]byte, 66)
	table[4] = types[l.Format]
	binary.LittleEndian.PutUint32(table[8:], partitionStart/512)
	binary.LittleEndian.PutUint32(table[12:], uint32(l.Size/512))
	table[64], table[65] = 0x55, 0xaa
	return table
}

// fatCard makes a card with a FAT32 file system that holds the files.
func fatCard(t testing.TB, w *world, l layout, files []file) string {
	t.Helper()
	l.Format = "vfat"
	if l.Size == 0 {
		l.Size = 64 << 20
	}
	image := newImage(t, w, l)
	host(t, "mkfs.vfat", "-F", "32", "-s", "1", "-n", "BODYCAM", "--offset", fmt.Sprint(l.start()/512), image, fmt.Sprint(l.Size/1024))
	top, err := filepath.Glob(filepath.Join(tree(t, files), "*"))
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-s", "-Q", "-i", fmt.Sprintf("%s@@%d", image, l.start())}, top...)
	host(t, "mcopy", append(args, "::/")...)
	return image
}

// ext4Card makes a card with an ext4 file system that holds the files.
func ext4Card(t testing.TB, w *world, l layout, files []file) string {
	t.Helper()
	l.Format = "ext4"
	if l.Size == 0 {
		l.Size = 64 << 20
	}
	image := newImage(t, w, l)
	host(t, "mkfs.ext4", "-q", "-L", "BODYCAM", "-d", tree(t, files), "-E", fmt.Sprintf("offset=%d", l.start()), image, fmt.Sprintf("%dk", l.Size/1024))
	return image
}

// tree writes the files below a folder of the host.
func tree(t testing.TB, files []file) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range files {
		path := filepath.Join(root, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(path)
		if err == nil {
			_, err = io.Copy(out, f.open())
		}
		if err == nil {
			err = out.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// find gives the place of a file's first byte in an image.
func find(t testing.TB, image string, f file) int64 {
	t.Helper()
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 512)
	if _, err := io.ReadFull(f.open(), head); err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, head)
	if at < 0 {
		t.Fatalf("%s is not in its image", f.Path)
	}
	return int64(at)
}

// breakChain ends a file of a FAT32 card in its middle, in both copies of the
// table, as a card does whose table was written in part.
func breakChain(t testing.TB, image string, f file) {
	t.Helper()
	var reserved, perTable, cluster int64
	patch(t, image, partitionStart, func(b []byte) {
		reserved = int64(binary.LittleEndian.Uint16(b[14:])) * 512
		perTable = int64(binary.LittleEndian.Uint32(b[36:])) * 512
		cluster = int64(b[13]) * 512
	}, 512)
	heap := partitionStart + reserved + 2*perTable
	entry := (find(t, image, f)-heap)/cluster + 2 + f.size()/cluster/2
	for table := range int64(2) {
		patch(t, image, partitionStart+reserved+table*perTable+4*entry, func(b []byte) { clear(b) }, 4)
	}
}

// host runs a program of the host, which must succeed.
func host(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	// Names are UTF-8 to mtools only in such a locale.
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// patch changes bytes of an image.
func patch(t testing.TB, image string, at int64, change func([]byte), length int) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, length)
	if _, err := f.ReadAt(data, at); err != nil {
		t.Fatal(err)
	}
	change(data)
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
}
