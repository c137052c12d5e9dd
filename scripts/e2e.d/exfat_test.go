//go:build e2e

package e2e

import (
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf16"
)

// exfatCard makes a card with an exFAT file system that holds the files. No tool
// of Debian writes into one that is not mounted, so this does: by Microsoft's
// "exFAT file system specification". fsck.exfat then checks the result, so that it
// is not only we who think that it is right. Runs of zeros take no room, which
// allows of files over 4 GiB.
func exfatCard(t testing.TB, w *world, l layout, files []file) string {
	t.Helper()
	l.Format = "exfat"
	if l.Size == 0 {
		l.Size = 64 << 20
	}
	image := newImage(t, w, layout{Size: l.Size})
	host(t, "mkfs.exfat", "-L", "BODYCAM", image)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := &exfat{t: t, f: f}
	e.read()
	for _, file := range files {
		e.add(file)
	}
	e.write()
	host(t, "fsck.exfat", "-n", image)
	if !l.Table {
		return image
	}
	whole := newImage(t, w, l)
	host(t, "dd", "if="+image, "of="+whole, "bs=1M", "seek=1", "conv=notrunc,sparse")
	return whole
}

// exfat is a file system that is being filled. Every file and folder lies in one
// run of clusters, so that the table of chains stays as it was.
type exfat struct {
	t testing.TB
	f *os.File

	cluster int64 // bytes
	heap    int64 // where cluster 2 begins
	bitmap  struct {
		at   int64
		bits []byte
		next uint32 // the first free cluster
	}
	folders map[string]*exfatFolder // by path; "" is the root
}

type exfatFolder struct {
	at      int64 // of its one cluster
	entries []byte
}

func (e *exfat) read() {
	boot := e.bytes(0, 512)
	little := binary.LittleEndian
	sector := int64(1) << boot[108]
	e.cluster = sector << boot[109]
	e.heap = int64(little.Uint32(boot[88:])) * sector
	root := &exfatFolder{at: e.where(little.Uint32(boot[96:]))}
	e.folders = map[string]*exfatFolder{"": root}
	raw := e.bytes(root.at, int(e.cluster))
	for at := 0; raw[at] != 0; at += 32 {
		root.entries = append(root.entries, raw[at:at+32]...)
		if raw[at] == 0x81 { // the allocation bitmap
			e.bitmap.at = e.where(little.Uint32(raw[at+20:]))
			e.bitmap.bits = e.bytes(e.bitmap.at, int(little.Uint64(raw[at+24:])))
		}
	}
	// What mkfs has made lies together at the start.
	for e.bitmap.next = 2; e.used(e.bitmap.next); e.bitmap.next++ {
	}
}

func (e *exfat) used(cluster uint32) bool {
	return e.bitmap.bits[(cluster-2)/8]>>((cluster-2)%8)&1 == 1
}

func (e *exfat) where(cluster uint32) int64 { return e.heap + int64(cluster-2)*e.cluster }

func (e *exfat) bytes(at int64, n int) []byte {
	data := make([]byte, n)
	if _, err := e.f.ReadAt(data, at); err != nil {
		e.t.Fatal(err)
	}
	return data
}

// take reserves a run of clusters for so many bytes.
func (e *exfat) take(size int64) (first uint32) {
	first = e.bitmap.next
	for n := (size + e.cluster - 1) / e.cluster; n > 0; n-- {
		i := e.bitmap.next - 2
		e.bitmap.bits[i/8] |= 1 << (i % 8)
		e.bitmap.next++
	}
	return first
}

func (e *exfat) add(f file) {
	folder, name := e.folder(f.Path)
	first := uint32(0)
	if f.size() > 0 {
		first = e.take(f.size())
		at := e.where(first) + f.Zeros
		content := f.open()
		if _, err := io.CopyN(io.Discard, content, f.Zeros); err != nil {
			e.t.Fatal(err)
		}
		if _, err := io.Copy(io.NewOffsetWriter(e.f, at), content); err != nil {
			e.t.Fatal(err)
		}
	}
	folder.entries = append(folder.entries, exfatEntry(name, 0x20, first, f.size())...)
}

// folder is the one that a path is in, made with those above it if need be.
func (e *exfat) folder(path string) (in *exfatFolder, name string) {
	at := strings.LastIndexByte(path, '/')
	if at < 0 {
		return e.folders[""], path
	}
	if in = e.folders[path[:at]]; in == nil {
		above, own := e.folder(path[:at])
		first := e.take(e.cluster)
		in = &exfatFolder{at: e.where(first)}
		e.folders[path[:at]] = in
		above.entries = append(above.entries, exfatEntry(own, 0x10, first, e.cluster)...)
	}
	return in, path[at+1:]
}

func (e *exfat) write() {
	writeAt := func(data []byte, at int64) {
		if _, err := e.f.WriteAt(data, at); err != nil {
			e.t.Fatal(err)
		}
	}
	for _, folder := range e.folders {
		if int64(len(folder.entries)) > e.cluster-32 {
			e.t.Fatal("too many files for a folder of one cluster")
		}
		whole := make([]byte, e.cluster) // zeros end it
		copy(whole, folder.entries)
		writeAt(whole, folder.at)
	}
	writeAt(e.bitmap.bits, e.bitmap.at)
	if err := e.f.Close(); err != nil {
		e.t.Fatal(err)
	}
}

// exfatEntry is the set of entries of a file or folder (§7.4, §7.6, §7.7).
func exfatEntry(name string, attributes uint16, first uint32, size int64) []byte {
	little := binary.LittleEndian
	units := utf16.Encode([]rune(name))
	names := (len(units) + 14) / 15
	set := make([]byte, 32*(2+names))
	set[0], set[1] = 0x85, byte(1+names)
	little.PutUint16(set[4:], attributes)
	const stamp = (2026-1980)<<25 | 11<<21 | 25<<16 | 10<<11 // 2026-11-25 10:00:00
	for _, at := range []int{8, 12, 16} {
		little.PutUint32(set[at:], stamp)
	}
	for _, at := range []int{22, 23, 24} {
		set[at] = 0x80 | 8*4 // UTC+8
	}
	stream := set[32:64]
	stream[0], stream[3] = 0xc0, byte(len(units))
	if stream[1] = 0x01; first != 0 {
		stream[1] = 0x03 // one run of clusters, no chain
	}
	var upper []byte
	for _, u := range units {
		if u >= 'a' && u <= 'z' {
			u -= 'a' - 'A'
		}
		upper = little.AppendUint16(upper, u)
	}
	little.PutUint16(stream[4:], exfatSum(upper, false))
	little.PutUint64(stream[8:], uint64(size))
	little.PutUint32(stream[20:], first)
	little.PutUint64(stream[24:], uint64(size))
	for i := range names {
		entry := set[64+32*i:]
		entry[0] = 0xc1
		for j, u := range units[15*i : min(15*i+15, len(units))] {
			little.PutUint16(entry[2+2*j:], u)
		}
	}
	little.PutUint16(set[2:], exfatSum(set, true))
	return set
}

// exfatSum is the sum of an entry set, which leaves out its own place, and of a
// name.
func exfatSum(data []byte, set bool) (sum uint16) {
	for i, b := range data {
		if set && (i == 2 || i == 3) {
			continue
		}
		sum = sum<<15 | sum>>1
		sum += uint16(b)
	}
	return sum
}
