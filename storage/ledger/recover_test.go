package ledger_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/bodyworn/ingestd/storage/ledger"
)

// What an append can leave that died, and what it can't have left.
func TestTails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	appendN(t, l, 0, 3)
	before := copyDir(t, dir)
	head := readFile(t, dir, "entries.jsonl")
	if _, err := l.Append(t.Context(), entry(3), entry(4), entry(5)); err != nil {
		t.Fatal(err)
	}
	next := readFile(t, dir, "checkpoint")
	batch := readFile(t, dir, "entries.jsonl")[len(head):]
	appendN(t, l, 6, 1)
	afterNext := readFile(t, dir, "checkpoint")
	more := readFile(t, dir, "entries.jsonl")[len(head):]

	zeros := bytes.Clone(batch)
	clear(zeros[10:90])
	alien := readFile(t, forged(t, keyOf("other"), entry(0), entry(1), entry(2), entry(3), entry(4), entry(5)), "checkpoint")
	const refused = "refused"
	type tail struct {
		name       string
		next, tail []byte
		want       string // the kind of Repair; "": none
	}
	cases := []tail{
		{"nothing written", next, nil, ""},
		{"next torn", next[:len(next)/2], nil, ""},
		{"next empty", []byte{}, nil, ""},
		{"whole", next, batch, ledger.RepairCompleted},
		{"zeros in it", next, zeros, ledger.RepairCut},
		{"only zeros", next, make([]byte, len(batch)), ledger.RepairCut},
		{"no next", nil, batch, refused},
		{"torn, no next", nil, batch[:40], refused},
		{"torn next", next[:len(next)-20], batch[:40], refused},
		{"next of another key", alien, batch[:40], refused},
		{"next of the size that is there", readFile(t, before, "checkpoint"), batch[:40], refused},
		{"as many lines, but others", next, bytes.Replace(batch, []byte("110123"), []byte("110124"), 1), refused},
		{"more lines", next, more, refused},
		{"more lines, the last torn", next, more[:len(more)-1], refused},
		{"a later next, its lines are not all there", afterNext, batch, ledger.RepairCut},
	}
	for at := 1; at < len(batch); at += 37 {
		cases = append(cases, tail{"torn", next, batch[:at], ledger.RepairCut})
	}
	cases = append(cases, tail{"all but the newline", next, batch[:len(batch)-1], ledger.RepairCut})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, before)
			whole := append(bytes.Clone(head), c.tail...)
			writeFile(t, whole, dir, "entries.jsonl")
			if c.next != nil {
				writeFile(t, c.next, dir, "checkpoint.next")
			}
			report := verify(t, dir)
			var repairs []ledger.Repair
			l, err := ledger.Open(t.Context(), dir, station, func(r ledger.Repair) { repairs = append(repairs, r) })
			if c.want == refused {
				if !errors.Is(err, ledger.ErrBroken) || report.Sound() || len(repairs) != 0 {
					t.Errorf("open says %v, repairs %v, findings %v", err, repairs, report.Findings)
				}
				if !bytes.Equal(readFile(t, dir, "entries.jsonl"), whole) {
					t.Error("a ledger that was refused was changed")
				}
				return
			}
			if err != nil || !report.Sound() || (len(report.Told) == 1) != (c.want != "") {
				t.Fatalf("%v, findings %v, told %v", err, report.Findings, report.Told)
			}
			size := 3
			if c.want == ledger.RepairCompleted {
				size = 6
			}
			if c.want == "" && len(repairs) != 0 || c.want != "" && (len(repairs) != 1 || repairs[0].Kind != c.want || repairs[0].Index != 3 || !bytes.Equal(repairs[0].Bytes, c.tail)) {
				t.Errorf("repairs %v", repairs)
			}
			appendN(t, l, 10, 1)
			checkSound(t, dir, int64(size+1))
		})
	}
}

// A process that is open meets what another has left.
func TestAppendTellsOfACut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var repairs []ledger.Repair
	var l *ledger.Ledger
	l, err := ledger.Open(t.Context(), dir, station, func(r ledger.Repair) {
		repairs = append(repairs, r)
		if _, err := l.Append(t.Context(), entry(9)); err != nil { // no lock is held
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 0, 2)
	other := copyDir(t, dir)
	head := len(readFile(t, dir, "entries.jsonl"))
	appendN(t, open(t, other), 2, 1)
	writeFile(t, readFile(t, other, "checkpoint"), dir, "checkpoint.next")
	writeFile(t, readFile(t, other, "entries.jsonl")[:head+50], dir, "entries.jsonl")
	appendN(t, l, 2, 1)
	if len(repairs) != 1 || repairs[0].Kind != ledger.RepairCut || len(repairs[0].Bytes) != 50 {
		t.Errorf("repairs %v", repairs)
	}
	checkSound(t, dir, 4)
}

// The first process may die while it makes an empty log.
func TestBeginningThatDied(t *testing.T) {
	t.Parallel()
	fresh := t.TempDir()
	open(t, fresh)
	for _, gone := range [][]string{{"checkpoint", "entries.jsonl", "hashes"}, {"entries.jsonl", "hashes"}, {"hashes"}} {
		dir := copyDir(t, fresh)
		for _, name := range gone {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		appendN(t, open(t, dir), 0, 1)
		checkSound(t, dir, 1)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small disk to fill")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("no small disk can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(disk, "ledger")
	l := open(t, dir)
	appendN(t, l, 0, 3)
	clock := 3
	filler := filepath.Join(disk, "filler")
	for free := 0; free <= 40<<10; free += 4 << 10 { // each step has room for more
		fill(t, filler, free)
		size, failed := mustSize(t, l), 0
		for n := range 100 { // entries and batches, small and larger than a page
			batch := make([]ledger.Entry, 1+n%20)
			for i := range batch {
				batch[i] = entry(clock)
				clock++
			}
			if _, err := l.Append(t.Context(), batch...); err != nil {
				if !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
				failed++
				break
			}
			size += int64(len(batch))
		}
		if failed == 0 {
			t.Fatalf("the disk never was full with %d bytes free", free)
		}
		checkSound(t, dir, size)
		remove(t, filler)
		appendN(t, l, clock, 1)
		clock++
		checkSound(t, dir, size+1)
	}
}

func mustSize(t *testing.T, l *ledger.Ledger) int64 {
	t.Helper()
	size, err := l.Size()
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// fill writes until the disk is full and gives so many bytes back.
func fill(t *testing.T, path string, free int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	written := 0
	for err == nil {
		var n int
		n, err = f.Write(make([]byte, 4096))
		written += n
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(max(0, written-free))); err != nil {
		t.Fatal(err)
	}
}
