package massstorage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Found is what Probe found on a disk or partition. The zero value says that
// nothing there is known; it does not say that nothing is there.
type Found struct {
	// FileSystem is the kernel's name where it has one: vfat, exfat, ext2, ext3,
	// ext4, iso9660; or ntfs, luks, bitlocker, btrfs, xfs, f2fs, udf, apfs,
	// hfsplus, swap. Empty: none that is known.
	FileSystem string
	// Label is the volume's name. Empty: none, or none that could be read.
	Label string
	// Also names another file system whose signs are there too: the one before
	// the card was formatted, as a rule.
	Also string
	// Table is mbr or gpt where there is a partition table and not a file system.
	Table string
	// Partitions are the numbers of the partitions in Table: those of an MBR
	// without the logical ones.
	Partitions []int
	// Blank says that nothing but zeros, or nothing but the ones of erased flash,
	// was found at the beginning, the end and many places between.
	Blank bool
	// Dirty says that the file system was not unmounted in order; with NTFS and
	// others that are not read it is not looked for.
	Dirty bool
	// Faulty says that whoever used the file system noted errors in it.
	Faulty bool
	// JournalPending says that changes are in the journal which are not in the
	// file system yet. Who reads without replaying it may miss the newest files.
	JournalPending bool
}

const (
	// headBytes reach behind the last sign that is looked for, that of btrfs.
	headBytes = 68 << 10
	// maxDirectory bounds what is read of a root directory to find the label.
	maxDirectory = 64 << 10
	// blankEdge is read whole at both ends, and blankSamples pieces of blankSample
	// between, before a disk is called blank.
	blankEdge    = 1 << 20
	blankSamples = 256
	blankSample  = 4 << 10
)

// Probe looks at a few sectors of a disk or partition of the given size in bytes.
// It reads at most 5 MiB and writes nothing. Only an error of reading is an
// error; nonsense on the disk gives a Found that says little.
func Probe(r io.ReaderAt, size int64) (Found, error) {
	d := &sectors{r: r, size: size}
	head := d.at(0, headBytes)
	if d.err != nil {
		return Found{}, fmt.Errorf("look at the first %d KiB: %w", headBytes>>10, d.err)
	}
	var found Found
	for _, look := range looks {
		f, ok := look(d, head)
		switch {
		case !ok:
		case found.FileSystem == "":
			found = f
		case found.Also == "":
			found.Also = f.FileSystem
		}
	}
	if found.FileSystem == "" {
		found.Table, found.Partitions = table(d, head)
		found.Blank = found.Table == "" && d.blank()
	}
	if d.err != nil {
		return Found{}, fmt.Errorf("look for a file system: %w", d.err)
	}
	return found, nil
}

// looks are in the order of how sure their signs are. FAT comes before ext: a
// superblock of ext can outlive a formatting with FAT, but not the other way
// round, since mkfs of ext clears the first sector.
var looks = []func(*sectors, []byte) (Found, bool){
	lookExFAT, lookSigns, lookFAT, lookExt, lookISO,
}

// sectors reads pieces of a disk. Its first error stays.
type sectors struct {
	r    io.ReaderAt
	size int64
	err  error
}

// at reads n bytes, fewer at the end of the disk, none outside it.
func (d *sectors) at(offset, n int64) []byte {
	if d.err != nil || offset < 0 || offset >= d.size {
		return nil
	}
	n = min(n, d.size-offset)
	p := make([]byte, n)
	got, err := d.r.ReadAt(p, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		d.err = fmt.Errorf("read %d bytes at %d: %w", n, offset, err)
		return nil
	}
	return p[:got]
}

// blank reads the edges whole and samples between them.
func (d *sectors) blank() bool {
	first := d.at(0, blankEdge)
	if len(first) == 0 || (first[0] != 0 && first[0] != 0xff) {
		return false
	}
	same := func(p []byte) bool { return d.err == nil && len(bytes.Trim(p, string(first[:1]))) == 0 }
	if !same(first) || !same(d.at(max(0, d.size-blankEdge), blankEdge)) {
		return false
	}
	for i := range int64(blankSamples) {
		if !same(d.at(d.size/blankSamples*i&^(blankSample-1), blankSample)) {
			return false
		}
	}
	return true
}

// sign is a fixed text at a fixed place.
type sign struct {
	fileSystem string
	offset     int
	text       string
}

var signs = []sign{
	{"ntfs", 3, "NTFS    "},
	{"bitlocker", 3, "-FVE-FS-"},
	// BitLocker To Go looks like FAT32 but for this GUID.
	{"bitlocker", 424, "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"},
	{"luks", 0, "LUKS\xba\xbe"},
	{"xfs", 0, "XFSB"},
	{"apfs", 32, "NXSB"},
	{"hfsplus", 1024, "H+\x00\x04"},
	{"f2fs", 1024, "\x10\x20\xf5\xf2"},
	{"swap", 4086, "SWAPSPACE2"},
	{"btrfs", 65536 + 64, "_BHRfS_M"},
	{"udf", 32768 + 1, "BEA01"},
}

func lookSigns(_ *sectors, head []byte) (Found, bool) {
	for _, s := range signs {
		if len(head) > s.offset && strings.HasPrefix(string(head[s.offset:min(len(head), s.offset+len(s.text))]), s.text) {
			return Found{FileSystem: s.fileSystem}, true
		}
	}
	return Found{}, false
}

// lookISO: ECMA-119, the primary volume descriptor in sector 16.
func lookISO(_ *sectors, head []byte) (Found, bool) {
	const descriptor = 16 * 2048
	if len(head) < descriptor+72 || string(head[descriptor+1:descriptor+6]) != "CD001" {
		return Found{}, false
	}
	return Found{FileSystem: "iso9660", Label: label(head[descriptor+40 : descriptor+72])}, true
}

// The bits of an ext superblock (kernel.org, ext4 Data Structures, Super Block).
const (
	extStateValid   = 0x1
	extStateErrors  = 0x2
	extHasJournal   = 0x4 // compatible
	extNeedsReplay  = 0x4 // incompatible
	extJournalDisk  = 0x8
	extOnlyInExt4   = 0x40 | 0x80 | 0x200 | 0x400 | 0x2000 | 0x10000 // extents, 64bit, flex_bg, …
	extROOnlyInExt4 = 0x8 | 0x10 | 0x20 | 0x40 | 0x400               // huge_file, gdt_csum, …
)

func lookExt(_ *sectors, head []byte) (Found, bool) {
	if len(head) < 2048 {
		return Found{}, false
	}
	super := head[1024:]
	if binary.LittleEndian.Uint16(super[56:]) != 0xef53 {
		return Found{}, false
	}
	state := binary.LittleEndian.Uint16(super[58:])
	compatible := binary.LittleEndian.Uint32(super[92:])
	incompatible := binary.LittleEndian.Uint32(super[96:])
	readOnly := binary.LittleEndian.Uint32(super[100:])
	f := Found{
		FileSystem:     "ext2",
		Label:          label(super[120:136]),
		JournalPending: incompatible&extNeedsReplay != 0,
		Faulty:         state&extStateErrors != 0,
	}
	// With a journal the state says clean also while it is mounted.
	f.Dirty = f.JournalPending || state&extStateValid == 0
	switch {
	case incompatible&extJournalDisk != 0:
		f.FileSystem = "ext journal"
	case incompatible&extOnlyInExt4 != 0 || readOnly&extROOnlyInExt4 != 0:
		f.FileSystem = "ext4"
	case compatible&extHasJournal != 0:
		f.FileSystem = "ext3"
	}
	return f, true
}

// table reads a GPT (UEFI 2.10 §5.3) or an MBR with the numbers of its used
// entries. The kernel is the one to read it properly; this is to notice when
// it shows fewer partitions than there are.
func table(d *sectors, head []byte) (kind string, numbers []int) {
	for _, sector := range []int64{512, 4096} {
		if int64(len(head)) < sector+92 || string(head[sector:sector+8]) != "EFI PART" {
			continue
		}
		header := head[sector:]
		first := binary.LittleEndian.Uint64(header[72:])
		count := int64(binary.LittleEndian.Uint32(header[80:]))
		each := int64(binary.LittleEndian.Uint32(header[84:]))
		if first > uint64(d.size)/uint64(sector) || each < 128 || each > 4096 {
			return "gpt", nil
		}
		// 128 entries is what is made everywhere.
		entries := d.at(int64(first)*sector, min(count, 256)*each)
		for i := int64(0); (i+1)*each <= int64(len(entries)); i++ {
			if !bytes.Equal(entries[i*each:i*each+16], make([]byte, 16)) {
				numbers = append(numbers, int(i)+1)
			}
		}
		return "gpt", numbers
	}
	if len(head) < 512 || head[510] != 0x55 || head[511] != 0xaa {
		return "", nil
	}
	for i := range 4 {
		entry := head[446+16*i:]
		if entry[0]&0x7f != 0 {
			return "", nil // no boot flag: a boot sector of another kind
		}
		if entry[4] == 0xee {
			kind = "gpt" // protective, without the table itself
		}
		if binary.LittleEndian.Uint32(entry[12:]) != 0 {
			numbers = append(numbers, i+1)
		}
	}
	if kind == "" {
		kind = "mbr"
	}
	return kind, numbers
}
