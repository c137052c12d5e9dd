package massstorage_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/device/massstorage"
)

// mbr makes a sector with a partition table of type, first sector and length.
func mbr(partitions [4][3]uint32) []byte {
	sector := make([]byte, 512)
	for i, p := range partitions {
		entry := sector[446+16*i:]
		entry[4] = byte(p[0])
		binary.LittleEndian.PutUint32(entry[8:], p[1])
		binary.LittleEndian.PutUint32(entry[12:], p[2])
	}
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// gpt makes the first sectors of a disk with these partitions used.
func gpt(sector int, used ...int) []byte {
	disk := make([]byte, sector*40)
	copy(disk, mbr([4][3]uint32{{0xee, 1, 1000}}))
	header := disk[sector:]
	copy(header, "EFI PART")
	binary.LittleEndian.PutUint64(header[72:], 2)
	binary.LittleEndian.PutUint32(header[80:], 128)
	binary.LittleEndian.PutUint32(header[84:], 128)
	for _, number := range used {
		disk[2*sector+128*(number-1)] = 0xa2
	}
	return disk
}

func signed(offset int, text string) []byte {
	p := make([]byte, 80<<10)
	p[1] = 1 // not blank
	copy(p[offset:], text)
	return p
}

func probe(t *testing.T, data []byte) massstorage.Found {
	t.Helper()
	found, err := massstorage.Probe(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// made is an image that the real mkfs made.
func made(t *testing.T, mib int64, mkfs string, args ...string) []byte {
	t.Helper()
	img := image(t, mib)
	tool(t, mkfs, append(args, img)...)
	data, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestProbeKnowsWhatMkfsMakes(t *testing.T) {
	type found = massstorage.Found
	set := func(offset int, value byte) func([]byte) {
		return func(p []byte) { p[offset] |= value }
	}
	unset := func(offset int, value byte) func([]byte) {
		return func(p []byte) { p[offset] &^= value }
	}
	fat32 := []string{"-F", "32", "-R", "32", "-s", "1", "-n", "BODYCAM"}
	fat16 := []string{"-F", "16", "-R", "4", "-n", "BODYCAM"}
	for _, c := range []struct {
		name   string
		mib    int64
		mkfs   string
		args   []string
		change func([]byte)
		want   found
	}{
		{"FAT12", 2, "mkfs.vfat", []string{"-F", "12", "-n", "TWELVE"}, nil, found{FileSystem: "vfat", Label: "TWELVE"}},
		{"FAT16", 32, "mkfs.vfat", fat16, nil, found{FileSystem: "vfat", Label: "BODYCAM"}},
		{"FAT32", 40, "mkfs.vfat", fat32, nil, found{FileSystem: "vfat", Label: "BODYCAM"}},
		{"FAT32 in large sectors", 300, "mkfs.vfat", []string{"-F", "32", "-S", "4096", "-n", "BODYCAM"}, nil, found{FileSystem: "vfat", Label: "BODYCAM"}},
		{"FAT without a label", 40, "mkfs.vfat", []string{"-F", "32"}, nil, found{FileSystem: "vfat"}},
		{"FAT12, dirty in the boot sector", 2, "mkfs.vfat", []string{"-F", "12"}, set(37, 1), found{FileSystem: "vfat", Dirty: true}},
		{"FAT16, dirty in the boot sector", 32, "mkfs.vfat", fat16, set(37, 1), found{FileSystem: "vfat", Label: "BODYCAM", Dirty: true}},
		{"FAT16, dirty in the table", 32, "mkfs.vfat", fat16, unset(4*512+3, 0x80), found{FileSystem: "vfat", Label: "BODYCAM", Dirty: true}},
		{"FAT16 with errors", 32, "mkfs.vfat", fat16, unset(4*512+3, 0x40), found{FileSystem: "vfat", Label: "BODYCAM", Faulty: true}},
		{"FAT32, dirty in the boot sector", 40, "mkfs.vfat", fat32, set(65, 1), found{FileSystem: "vfat", Label: "BODYCAM", Dirty: true}},
		{"FAT32, dirty in the table", 40, "mkfs.vfat", fat32, unset(32*512+7, 0x08), found{FileSystem: "vfat", Label: "BODYCAM", Dirty: true}},
		{"FAT32 with errors", 40, "mkfs.vfat", fat32, unset(32*512+7, 0x04), found{FileSystem: "vfat", Label: "BODYCAM", Faulty: true}},
		{"exFAT", 8, "mkfs.exfat", []string{"-L", "KAMERA"}, nil, found{FileSystem: "exfat", Label: "KAMERA"}},
		{"exFAT, dirty", 8, "mkfs.exfat", []string{"-L", "KAMERA"}, set(106, 2), found{FileSystem: "exfat", Label: "KAMERA", Dirty: true}},
		{"exFAT with errors", 8, "mkfs.exfat", nil, set(106, 4), found{FileSystem: "exfat", Faulty: true}},
		{"ext2", 8, "mkfs.ext4", []string{"-q", "-t", "ext2", "-L", "two"}, nil, found{FileSystem: "ext2", Label: "two"}},
		{"ext2, dirty", 8, "mkfs.ext4", []string{"-q", "-t", "ext2"}, unset(1024+58, 1), found{FileSystem: "ext2", Dirty: true}},
		{"ext3", 8, "mkfs.ext4", []string{"-q", "-t", "ext3"}, nil, found{FileSystem: "ext3"}},
		{"ext4", 8, "mkfs.ext4", []string{"-q", "-t", "ext4", "-L", "four"}, nil, found{FileSystem: "ext4", Label: "four"}},
		{"ext4 with a journal", 8, "mkfs.ext4", []string{"-q", "-t", "ext4"}, set(1024+96, 4), found{FileSystem: "ext4", Dirty: true, JournalPending: true}},
		{"ext4 with errors", 8, "mkfs.ext4", []string{"-q", "-t", "ext4"}, set(1024+58, 2), found{FileSystem: "ext4", Faulty: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := made(t, c.mib, c.mkfs, c.args...)
			if c.change != nil {
				c.change(data)
			}
			if got := probe(t, data); !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %+v, not %+v", got, c.want)
			}
		})
	}
}

func TestLabelsAreDecodedNotGuessed(t *testing.T) {
	for raw, want := range map[string]string{
		"\xd6\xb4\xb7\xa8\xbc\xc7\xc2\xbc   ": "执法记录", // GBK
		"OK         ":                         "OK", "A\x01B        ": "", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff": "",
	} {
		data := made(t, 2, "mkfs.vfat", "-F", "12", "-n", "TWELVE")
		for at := 0; ; {
			i := bytes.Index(data[at:], []byte("TWELVE     "))
			if i < 0 {
				break
			}
			at += i
			copy(data[at:], raw)
		}
		if got := probe(t, data); got.Label != want || got.FileSystem != "vfat" {
			t.Errorf("%q gives %+v", raw, got)
		}
	}
}

func TestProbeKnowsTheRestByItsSigns(t *testing.T) {
	type found = massstorage.Found
	toGo := made(t, 40, "mkfs.vfat", "-F", "32")
	copy(toGo[424:], "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01")
	reformatted := made(t, 8, "mkfs.vfat", "-R", "8")
	copy(reformatted[1024:2048], made(t, 8, "mkfs.ext4", "-q", "-t", "ext2")[1024:2048])
	iso := signed(32769, "CD001")
	copy(iso[32808:], "SETUP                           ")
	middle := make([]byte, 8<<20)
	middle[4<<20+5] = 1
	for _, c := range []struct {
		name string
		data []byte
		want found
	}{
		{"NTFS", signed(3, "NTFS    "), found{FileSystem: "ntfs"}},
		{"BitLocker", signed(3, "-FVE-FS-"), found{FileSystem: "bitlocker"}},
		{"BitLocker To Go", toGo, found{FileSystem: "bitlocker", Also: "vfat"}},
		{"LUKS", signed(0, "LUKS\xba\xbe"), found{FileSystem: "luks"}},
		{"XFS", signed(0, "XFSB"), found{FileSystem: "xfs"}},
		{"btrfs", signed(65600, "_BHRfS_M"), found{FileSystem: "btrfs"}},
		{"ISO 9660", iso, found{FileSystem: "iso9660", Label: "SETUP"}},
		{"FAT where ext was", reformatted, found{FileSystem: "vfat", Also: "ext2"}},
		{"MBR", append(mbr([4][3]uint32{{0x0c, 2048, 4096}, {}, {0x83, 8192, 100}}), make([]byte, 4096)...), found{Table: "mbr", Partitions: []int{1, 3}}},
		{"GPT", gpt(512, 1, 5), found{Table: "gpt", Partitions: []int{1, 5}}},
		{"GPT in large sectors", gpt(4096, 2), found{Table: "gpt", Partitions: []int{2}}},
		{"zeros", make([]byte, 8<<20), found{Blank: true}},
		{"erased flash", bytes.Repeat([]byte{0xff}, 8<<20), found{Blank: true}},
		{"zeros and ones", append(make([]byte, 4<<20), bytes.Repeat([]byte{0xff}, 4<<20)...), found{}},
		{"something in the middle", middle, found{}},
		{"something at the end", append(make([]byte, 4096), 1), found{}},
		{"noise", []byte(strings.Repeat("noise", 100_000)), found{}},
		{"nothing", nil, found{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := probe(t, c.data); !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %+v, not %+v", got, c.want)
			}
		})
	}
}

// failing has a bad sector.
type failing struct {
	io.ReaderAt
	at int64
}

var errBad = errors.New("bad sector")

func (f failing) ReadAt(p []byte, offset int64) (int, error) {
	if offset <= f.at && f.at < offset+int64(len(p)) {
		return 0, errBad
	}
	return f.ReaderAt.ReadAt(p, offset)
}

// A sector that can't be read is not a blank one.
func TestABadSectorIsNotBlank(t *testing.T) {
	zeros := make([]byte, 8<<20)
	for _, at := range []int64{0, 100 << 10, 4 << 20, 8<<20 - 1} {
		found, err := massstorage.Probe(failing{bytes.NewReader(zeros), at}, int64(len(zeros)))
		if !errors.Is(err, errBad) || found.Blank {
			t.Errorf("with a bad sector at %d: %+v, %v", at, found, err)
		}
	}
}

// counting bounds what is read.
type counting struct {
	io.ReaderAt
	bytes int
}

func (c *counting) ReadAt(p []byte, offset int64) (int, error) {
	c.bytes += len(p)
	return c.ReaderAt.ReadAt(p, offset)
}

func FuzzProbe(f *testing.F) {
	for _, seed := range [][]byte{
		nil, mbr([4][3]uint32{{0x0c, 1, 2}}), gpt(512, 1)[:4096], signed(3, "EXFAT   ")[:512], signed(1080, "\x53\xef")[:2048],
		// A boot sector of FAT16 and one of FAT32 with a directory behind it.
		append(bootSector(false), make([]byte, 4096)...), append(bootSector(true), bytes.Repeat([]byte("LABEL      \x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 64)...),
		exFATSector(),
	} {
		f.Add(seed, int64(len(seed)))
		f.Add(seed, int64(1<<40))
	}
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		r := &counting{ReaderAt: bytes.NewReader(data)}
		found, err := massstorage.Probe(r, size)
		if err != nil {
			t.Fatalf("nonsense is no error of reading: %v", err)
		}
		if r.bytes > 5<<20 {
			t.Errorf("%d bytes were read", r.bytes)
		}
		if found.Blank && (found.FileSystem != "" || found.Table != "") {
			t.Errorf("%+v", found)
		}
	})
}

func bootSector(is32 bool) []byte {
	b := mbr([4][3]uint32{})
	b[0] = 0xeb
	binary.LittleEndian.PutUint16(b[11:], 512)
	b[13], b[14], b[16], b[21] = 1, 1, 1, 0xf8
	binary.LittleEndian.PutUint32(b[32:], 100_000)
	if is32 {
		binary.LittleEndian.PutUint32(b[36:], 1)
		binary.LittleEndian.PutUint32(b[44:], 2)
	} else {
		b[17], b[22] = 16, 1
	}
	return b
}

func exFATSector() []byte {
	b := make([]byte, 2048)
	copy(b[3:], "EXFAT   ")
	binary.LittleEndian.PutUint32(b[88:], 2)
	binary.LittleEndian.PutUint32(b[92:], 10)
	binary.LittleEndian.PutUint32(b[96:], 2)
	b[108] = 9
	copy(b[1024:], "\x83\x03A\x00B\x00C\x00")
	return b
}
