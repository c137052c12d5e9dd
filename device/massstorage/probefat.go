package massstorage

import (
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// fatLayout is where the parts of a FAT volume are, in bytes from its beginning.
type fatLayout struct {
	bits              int // 12, 16 or 32
	table             int64
	root, rootLength  int64
	stateAt, labelAt  int // in the boot sector
	extendedSignature int
}

// lookFAT: Microsoft's FAT specification (fatgen103). A boot sector has no sign
// of its own that can be relied on, so all of its numbers must make sense.
func lookFAT(d *sectors, head []byte) (Found, bool) {
	l, ok := readFATLayout(head)
	if !ok {
		return Found{}, false
	}
	f := Found{FileSystem: "vfat"}
	// Who mounts it for writing sets bit 0 here (Windows, Linux); bit 1 asks for a
	// test of the medium.
	f.Dirty, f.Faulty = head[l.stateAt]&1 != 0, head[l.stateAt]&2 != 0
	// And in the second entry of the table two bits are cleared: the topmost
	// says that it was shut down in order, the next that no error was met. FAT12
	// has no room for them.
	if entries := d.at(l.table, 8); len(entries) == 8 {
		switch l.bits {
		case 16:
			second := binary.LittleEndian.Uint16(entries[2:])
			f.Dirty, f.Faulty = f.Dirty || second&0x8000 == 0, f.Faulty || second&0x4000 == 0
		case 32:
			second := binary.LittleEndian.Uint32(entries[4:])
			f.Dirty, f.Faulty = f.Dirty || second&0x08000000 == 0, f.Faulty || second&0x04000000 == 0
		}
	}
	f.Label = fatLabel(d.at(l.root, min(l.rootLength, maxDirectory)))
	if f.Label == "" && head[l.extendedSignature] == 0x29 {
		if f.Label = label(head[l.labelAt : l.labelAt+11]); f.Label == "NO NAME" {
			f.Label = ""
		}
	}
	return f, true
}

func readFATLayout(head []byte) (fatLayout, bool) {
	if len(head) < 512 {
		return fatLayout{}, false
	}
	sector := int64(binary.LittleEndian.Uint16(head[11:]))
	cluster := int64(head[13])
	reserved := int64(binary.LittleEndian.Uint16(head[14:]))
	tables := int64(head[16])
	rootEntries := int64(binary.LittleEndian.Uint16(head[17:]))
	total := int64(binary.LittleEndian.Uint16(head[19:]))
	media := head[21]
	tableSectors := int64(binary.LittleEndian.Uint16(head[22:]))
	if total == 0 {
		total = int64(binary.LittleEndian.Uint32(head[32:]))
	}
	l := fatLayout{stateAt: 37, extendedSignature: 38, labelAt: 43}
	if tableSectors == 0 {
		l = fatLayout{bits: 32, stateAt: 65, extendedSignature: 66, labelAt: 71}
		tableSectors = int64(binary.LittleEndian.Uint32(head[36:]))
	}
	powerOf2 := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	signed := head[510] == 0x55 && head[511] == 0xaa || head[0] == 0xeb || head[0] == 0xe9
	if !signed || !powerOf2(sector) || sector < 512 || sector > 4096 || !powerOf2(cluster) ||
		reserved == 0 || tables == 0 || tables > 4 || media != 0xf0 && media < 0xf8 || tableSectors == 0 {
		return fatLayout{}, false
	}
	rootSectors := (rootEntries*32 + sector - 1) / sector
	data := reserved + tables*tableSectors + rootSectors
	if data >= total {
		return fatLayout{}, false
	}
	l.table = reserved * sector
	if l.bits == 32 {
		first := int64(binary.LittleEndian.Uint32(head[44:]))
		l.root, l.rootLength = (data+(first-2)*cluster)*sector, cluster*sector
		return l, first >= 2
	}
	l.bits = 16
	if (total-data)/cluster < 4085 {
		l.bits = 12
	}
	l.root, l.rootLength = (reserved+tables*tableSectors)*sector, rootEntries*32
	return l, true
}

// fatLabel finds the label's entry in a root directory: it outlives the one in
// the boot sector, which not every system keeps up to date.
func fatLabel(directory []byte) string {
	for ; len(directory) >= 32; directory = directory[32:] {
		const attributes, longName, volume, folder = 11, 0x0f, 0x08, 0x10
		kind := directory[attributes]
		switch {
		case directory[0] == 0:
			return ""
		case directory[0] == 0xe5 || kind&0x3f == longName || kind&(volume|folder) != volume:
			continue
		}
		name := []byte(string(directory[:11]))
		if name[0] == 0x05 { // stands for 0xe5, which marks what is deleted
			name[0] = 0xe5
		}
		return label(name)
	}
	return ""
}

// lookExFAT: Microsoft's exFAT specification §3.1 and §7.
func lookExFAT(d *sectors, head []byte) (Found, bool) {
	if len(head) < 512 || string(head[3:11]) != "EXFAT   " {
		return Found{}, false
	}
	flags := binary.LittleEndian.Uint16(head[106:])
	f := Found{FileSystem: "exfat", Dirty: flags&2 != 0, Faulty: flags&4 != 0}
	heap := int64(binary.LittleEndian.Uint32(head[88:]))
	clusters := int64(binary.LittleEndian.Uint32(head[92:]))
	first := int64(binary.LittleEndian.Uint32(head[96:]))
	sectorShift, clusterShift := head[108], head[109]
	if sectorShift < 9 || sectorShift > 12 || clusterShift > 25-sectorShift || first < 2 || first > clusters+1 {
		return f, true // broken: the mount will say so
	}
	length := int64(1) << (sectorShift + clusterShift)
	directory := d.at(heap<<sectorShift+(first-2)*length, min(length, maxDirectory))
	for ; len(directory) >= 32 && directory[0] != 0; directory = directory[32:] {
		if directory[0] != 0x83 {
			continue
		}
		letters := make([]uint16, min(directory[1], 11))
		for i := range letters {
			letters[i] = binary.LittleEndian.Uint16(directory[2+2*i:])
		}
		f.Label = label([]byte(string(utf16.Decode(letters))))
		break
	}
	return f, true
}

// label decodes a name in UTF-8 or, as Chinese systems write it, GBK. One that is
// neither is left out, not guessed.
func label(raw []byte) string {
	text, _, _ := strings.Cut(string(raw), "\x00")
	if !utf8.ValidString(text) {
		decoded, err := simplifiedchinese.GB18030.NewDecoder().String(text)
		if err != nil {
			return ""
		}
		text = decoded
	}
	text = strings.TrimSpace(text)
	if strings.ContainsFunc(text, func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }) {
		return ""
	}
	return text
}
