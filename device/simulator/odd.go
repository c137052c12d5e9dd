package simulator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Oddity is one hostile thing on a card.
type Oddity struct {
	// Path below the card, exact bytes, with slashes.
	Path string
	// Mode has the type as Lstat reports it. The permissions count only where
	// they are zero: nobody but root can read the file or folder then.
	Mode fs.FileMode
	// Why it is here: what went wrong somewhere with the like of it.
	Why string
	// Skipped is why it could not be made here, for instance a device node
	// without root. Empty if it is there.
	Skipped string

	data       []byte
	target     string    // of a symbolic link
	sameAs     string    // of a hard link
	modifiedAt time.Time // zero leaves the time of writing
}

// OddContent is what a regular file of [Odd] holds, unless it is empty or a
// hard link: its own path, so that a swapped or merged object shows.
func OddContent(path string) []byte { return fmt.Appendf(nil, "odd %q\n", path) }

// Odd writes a card of hostile names and shapes below dir, which must be
// absent or empty, and returns everything it put there or could not. Folders
// that only hold listed things are not listed themselves. All of it can be
// removed with os.RemoveAll, without root.
func Odd(dir string) ([]Oddity, error) {
	if err := makeEmpty(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open card: %w", err)
	}
	defer root.Close()
	all := oddities()
	for i := range all {
		err := all[i].make(root)
		switch {
		case refused(err):
			all[i].Skipped = err.Error()
		case err != nil:
			return nil, fmt.Errorf("make %q, %s: %w", all[i].Path, all[i].Why, err)
		}
	}
	return all, nil
}

// refused reports whether this user or this file system does not allow it: FAT
// knows no links and few characters, others want UTF-8.
func refused(err error) bool {
	for _, refusal := range []error{
		syscall.EPERM, syscall.EINVAL, syscall.EILSEQ,
		syscall.ENOTSUP, syscall.ENOSYS, syscall.ENAMETOOLONG, syscall.EEXIST,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// make goes through root, which walks one folder at a time and so reaches
// below PATH_MAX.
func (o *Oddity) make(root *os.Root) error {
	if parent := filepath.Dir(o.Path); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	at := filepath.Join(root.Name(), o.Path)
	switch o.Mode.Type() {
	case fs.ModeSymlink:
		return root.Symlink(o.target, o.Path)
	case fs.ModeDir:
		return root.Mkdir(o.Path, o.Mode.Perm())
	case fs.ModeNamedPipe:
		return syscall.Mkfifo(at, 0o644)
	case fs.ModeSocket:
		return syscall.Mknod(at, syscall.S_IFSOCK|0o644, 0)
	case fs.ModeDevice | fs.ModeCharDevice:
		const null = 1<<8 | 3 // major and minor number of /dev/null
		return syscall.Mknod(at, syscall.S_IFCHR|0o644, null)
	}
	if o.sameAs != "" {
		return root.Link(o.sameAs, o.Path)
	}
	// O_EXCL tells a file system that takes two of our names for one.
	f, err := root.OpenFile(o.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, o.Mode.Perm())
	if err != nil {
		return err
	}
	if _, err := f.Write(o.data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil || o.modifiedAt.IsZero() {
		return err
	}
	return root.Chtimes(o.Path, o.modifiedAt, o.modifiedAt)
}

func oddities() []Oddity {
	all := oddNames()
	all = append(all, oddTrees()...)
	all = append(all, oddTimes()...)
	for i := range all {
		all[i].Mode, all[i].data = 0o644, OddContent(all[i].Path)
	}
	return append(all, oddShapes()...)
}

// oddNames are regular files whose names break something.
func oddNames() []Oddity {
	return []Oddity{
		{Path: "names/new\nline.MP4", Why: "lists by line"},
		{Path: "names/return\r.MP4", Why: "lists by line"},
		{Path: "names/tab\t.MP4", Why: "lists by field"},
		{Path: "names/escape\x1b[31mred.MP4", Why: "terminal control"},
		{Path: "names/control\x01\x7f.MP4", Why: "not allowed in XML, the language of S3"},
		{Path: "names/non\uFFFEcharacter.MP4", Why: "not allowed in XML, the language of S3"},
		{Path: "names/single'quote.MP4", Why: "shell and SQL quoting"},
		{Path: "names/double\"quote.MP4", Why: "shell, CSV and JSON quoting"},
		{Path: "names/back`tick$(id)${IFS}.MP4", Why: "shell expansion"},
		{Path: `names/back\slash.MP4`, Why: "a separator elsewhere; sha256sum escapes it"},
		{Path: `names/..\up.MP4`, Why: "goes up elsewhere"},
		{Path: "names/-rf", Why: "read as an option"},
		{Path: "names/=cmd|'calc'!A0", Why: "a formula in a spreadsheet"},
		{Path: "names/<img src=x onerror=alert(1)>.MP4", Why: "HTML"},
		{Path: "names/a&b;c?d#e+f.MP4", Why: "URL syntax; + decodes to a space"},
		{Path: "names/colon:star*pipe|.MP4", Why: "not allowed on FAT and Windows"},
		{Path: "names/100%.MP4", Why: "a broken percent escape"},
		{Path: "names/a%2Fb.MP4", Why: "decodes to the path of another file"},
		{Path: "names/a/b.MP4", Why: "what names/a%2Fb.MP4 decodes to"},
		{Path: "names/a%252Fb.MP4", Why: "decodes twice"},
		{Path: "names/%00.MP4", Why: "decodes to NUL"},
		{Path: "names/~", Why: "home folder"},
		{Path: "names/file.MP4~", Why: "taken for a backup and skipped"},
		{Path: "names/ leading space.MP4", Why: "trimmed"},
		{Path: "names/trailing space ", Why: "trimmed"},
		{Path: "names/trailing dots..", Why: "trimmed on Windows"},
		{Path: "names/ ", Why: "nothing left when trimmed"},
		{Path: "names/...", Why: "looks like a relative path"},
		{Path: "names/..MP4", Why: "begins like the parent folder"},
		{Path: "names/.hidden", Why: "hidden files are skipped"},
		{Path: "names/Case.MP4", Why: "differs only in case"},
		{Path: "names/CASE.MP4", Why: "differs only in case"},
		{Path: "names/case.mp4", Why: "differs only in case"},
		{Path: "names/caf\u00e9.MP4", Why: "NFC, the same to the eye as NFD"},
		{Path: "names/cafe\u0301.MP4", Why: "NFD, the same to the eye as NFC"},
		{Path: "names/👮🏽‍♀️🎥.MP4", Why: "beyond the basic plane, joined"},
		{Path: "names/right\u202E4PM.exe", Why: "right-to-left override disguises the suffix"},
		{Path: "names/zero\u200Bwidth.MP4", Why: "invisible character"},
		{Path: "names/bad\xff\xfeutf8.MP4", Why: "not UTF-8, not a valid S3 key"},
		{Path: "names/\xd6\xb4\xb7\xa8\xbc\xc7\xc2\xbc.MP4", Why: "执法记录 in GBK"},
		{Path: "names/执法记录.MP4", Why: "执法记录 in UTF-8"},
		{Path: "names/bad\uFFFD\uFFFDutf8.MP4", Why: "what the invalid name becomes when repaired"},
		{Path: "names/" + strings.Repeat("n", 251) + ".MP4", Why: "255 bytes, no room for a suffix of ours"},
		{Path: "names/" + strings.Repeat("长", 85), Why: "255 bytes in 85 characters"},
		{Path: "names/" + strings.Repeat("\n", 255), Why: "255 bytes that triple when escaped"},
		{Path: "names/NUL", Why: "a device on Windows"},
		{Path: "names/null", Why: "read as no value"},
		{Path: "names/0", Why: "read as false"},
		{Path: "names/Folder", Why: "a file named like the folder beside it, but for the case"},
		{Path: "names/folder/file.MP4", Why: "in the folder named like a file"},
		{Path: "names/folder.MP4/file", Why: "a folder with the suffix of a file"},
	}
}

// oddTrees are regular files in odd places, among them names that stores and
// we ourselves use for other ends.
func oddTrees() []Oddity {
	return []Oddity{
		{Path: "xl.meta", Why: "MinIO's own file"},
		{Path: "object/xl.meta", Why: "MinIO takes the folder for an object"},
		{Path: "a__XLDIR__", Why: "MinIO's mark of a folder"},
		{Path: "b__XLDIR__/file", Why: "MinIO's mark of a folder"},
		{Path: ".minio.sys/format.json", Why: "MinIO's own folder"},
		{Path: ".sgwtmp/file", Why: "versitygw's own folder"},
		{Path: "SHA256SUMS", Why: "named like our manifest"},
		{Path: "manifest.json", Why: "named like our manifest"},
		{Path: "System Volume Information/IndexerVolumeGuid", Why: "written by Windows, still accounted for"},
		{Path: "._file.MP4", Why: "written by macOS, still accounted for"},
		{Path: "FOUND.000/FILE0000.CHK", Why: "footage that a repair of the card found"},
		{Path: "deep" + strings.Repeat("/d", 200) + "/file.MP4", Why: "200 folders deep"},
		{Path: "long" + strings.Repeat("/"+strings.Repeat("l", 200), 6) + "/file.MP4",
			Why: "longer than the 1024 bytes of an S3 key"},
		{Path: "escaped" + strings.Repeat("/"+strings.Repeat("长", 60), 4) + "/file.MP4",
			Why: "within 1024 bytes, beyond once percent-encoded"},
		{Path: "toolong" + strings.Repeat("/"+strings.Repeat("t", 250), 17) + "/file.MP4",
			Why: "longer than PATH_MAX, reached only folder by folder"},
	}
}

// oddTimes are regular files whose times betray a clock. FAT can keep 1980 to
// 2107.
func oddTimes() []Oddity {
	at := func(year int, month time.Month, day int) time.Time {
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	}
	return []Oddity{
		{Path: "times/1969.MP4", Why: "before the Unix epoch", modifiedAt: at(1969, 12, 31)},
		{Path: "times/1970.MP4", Why: "clock reset, or a time lost over MTP", modifiedAt: at(1970, 1, 1)},
		{Path: "times/1980.MP4", Why: "clock reset to the FAT epoch", modifiedAt: at(1980, 1, 1)},
		{Path: "times/2010.MP4", Why: "clock reset to the firmware's date", modifiedAt: at(2010, 1, 1)},
		{Path: "times/2038.MP4", Why: "beyond 32-bit seconds", modifiedAt: at(2038, 1, 20)},
		{Path: "times/2107.MP4", Why: "the last day of FAT", modifiedAt: at(2107, 12, 31)},
	}
}

// oddShapes is what is not a plain readable file with content.
func oddShapes() []Oddity {
	const shared = "shapes/hard link 1.MP4"
	return []Oddity{
		{Path: "shapes/zero.MP4", Mode: 0o644, Why: "empty, and still a file"},
		{Path: "shapes/empty", Mode: fs.ModeDir | 0o755, Why: "empty folder"},
		{Path: shared, Mode: 0o644, Why: "one file, two names", data: OddContent(shared)},
		{Path: "shapes/hard link 2.MP4", Mode: 0o644, Why: "one file, two names", sameAs: shared},
		{Path: "shapes/loop", Mode: fs.ModeSymlink, target: "loop", Why: "link to itself"},
		{Path: "shapes/here", Mode: fs.ModeSymlink, target: ".", Why: "link to its own folder, an endless walk"},
		{Path: "shapes/outside file.MP4", Mode: fs.ModeSymlink, target: "/etc/passwd", Why: "leaves the card"},
		{Path: "shapes/outside folder", Mode: fs.ModeSymlink, target: "../../..", Why: "leaves the card"},
		{Path: "shapes/dangling", Mode: fs.ModeSymlink, target: "nowhere", Why: "link to nothing"},
		{Path: "shapes/fifo.MP4", Mode: fs.ModeNamedPipe, Why: "opening it waits for ever"},
		{Path: "shapes/socket.MP4", Mode: fs.ModeSocket, Why: "cannot be opened"},
		{Path: "shapes/device.MP4", Mode: fs.ModeDevice | fs.ModeCharDevice, Why: "/dev/null; others never end"},
		{Path: "shapes/unreadable.MP4", Mode: 0, Why: "reading is refused", data: OddContent("shapes/unreadable.MP4")},
		{Path: "shapes/unreadable folder", Mode: fs.ModeDir, Why: "listing is refused"},
	}
}
