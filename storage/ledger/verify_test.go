package ledger_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/ledger"
)

// forged has a log of other lines signed with the given key, as an intruder does
// who writes with our own program.
func forged(t *testing.T, key stationKey, entries ...ledger.Entry) string {
	t.Helper()
	dir := t.TempDir()
	l, err := ledger.Open(t.Context(), dir, key, noRepair(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Every manipulation must be found by Verify and, where it is one of the folder
// itself, keep Append from going on.
func TestVerifyFindsManipulations(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	l := open(t, whole)
	var notes [][]byte // by size, 1 and on
	for n := range 9 {
		appendN(t, l, n, 1)
		signed, err := l.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, signed)
	}
	given := [][]byte{notes[2], notes[4], notes[6]} // of sizes 3, 5 and 7
	checkSound(t, whole, 9, given...)

	edit := func(change func(lines [][]byte) [][]byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			lines := bytes.SplitAfter(readFile(t, dir, "entries.jsonl"), []byte("\n"))
			writeFile(t, bytes.Join(change(lines[:len(lines)-1]), nil), dir, "entries.jsonl")
		}
	}
	stranger := []byte(`{"actor":"a","event":"e","schema":"ingestd.ledger/1","station":"s","time":"2026-08-31T09:00:03+08:00"}` + "\n")
	replaced := func(key stationKey, entries ...ledger.Entry) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			other := forged(t, key, entries...)
			for _, name := range []string{"entries.jsonl", "hashes", "checkpoint"} {
				writeFile(t, readFile(t, other, name), dir, name)
			}
		}
	}
	var all []ledger.Entry
	for n := range 9 {
		all = append(all, entry(n))
	}
	otherFirst := slices.Clone(all)
	otherFirst[1].Officer = "999999"

	for name, c := range map[string]struct {
		do    func(*testing.T, string)
		kind  string
		index int64
		opens bool // the folder alone is consistent, or is put right
	}{
		"changed line": {edit(func(l [][]byte) [][]byte {
			l[3] = bytes.Replace(l[3], []byte("110123"), []byte("110124"), 1)
			return l
		}), ledger.FindingChanged, 3, false},
		"removed line": {edit(func(l [][]byte) [][]byte { return slices.Delete(l, 4, 5) }), ledger.FindingChanged, 4, false},
		"cut tail":     {edit(func(l [][]byte) [][]byte { return l[:8] }), ledger.FindingCut, 8, false},
		"cut in a line": {func(t *testing.T, dir string) {
			data := readFile(t, dir, "entries.jsonl")
			writeFile(t, data[:len(data)-1], dir, "entries.jsonl")
		}, ledger.FindingCut, 8, false},
		"all cut":       {edit(func([][]byte) [][]byte { return nil }), ledger.FindingCut, 0, false},
		"entries gone":  {func(t *testing.T, dir string) { remove(t, dir, "entries.jsonl") }, ledger.FindingCut, 0, false},
		"reordered":     {edit(func(l [][]byte) [][]byte { l[5], l[6] = l[6], l[5]; return l }), ledger.FindingChanged, 5, false},
		"inserted":      {edit(func(l [][]byte) [][]byte { return slices.Insert(l, 2, stranger) }), ledger.FindingChanged, 2, false},
		"duplicated":    {edit(func(l [][]byte) [][]byte { return slices.Insert(l, 2, l[1]) }), ledger.FindingChanged, 2, false},
		"appended":      {edit(func(l [][]byte) [][]byte { return append(l, stranger) }), ledger.FindingUnsigned, 9, false},
		"torn appended": {edit(func(l [][]byte) [][]byte { return append(l, stranger[:20]) }), ledger.FindingUnsigned, 9, false},
		"broken JSON":   {edit(func(l [][]byte) [][]byte { l[6] = []byte("{\n"); return l }), ledger.FindingLine, 6, false},
		"endless line": {edit(func(l [][]byte) [][]byte {
			l[6] = bytes.Repeat([]byte("x"), 2*ledger.MaxLine)
			return l
		}), ledger.FindingLine, 6, false},
		"hashes changed": {func(t *testing.T, dir string) {
			data := readFile(t, dir, "hashes")
			data[5*32] ^= 1
			writeFile(t, data, dir, "hashes")
		}, ledger.FindingHashes, 3, true},
		"hashes cut":            {func(t *testing.T, dir string) { writeFile(t, readFile(t, dir, "hashes")[:6*32], dir, "hashes") }, ledger.FindingHashes, 3, true},
		"hashes gone":           {func(t *testing.T, dir string) { remove(t, dir, "hashes") }, ledger.FindingHashes, 0, true},
		"signed by another key": {replaced(keyOf("other"), all...), ledger.FindingCheckpoint, -1, false},
		"signed by nobody": {func(t *testing.T, dir string) {
			body, _, _ := bytes.Cut(readFile(t, dir, "checkpoint"), []byte("\n\n"))
			writeFile(t, append(body, "\n\n"...), dir, "checkpoint")
		}, ledger.FindingCheckpoint, -1, false},
		"checkpoint changed": {func(t *testing.T, dir string) {
			writeFile(t, bytes.Replace(readFile(t, dir, "checkpoint"), []byte("\n9\n"), []byte("\n8\n"), 1), dir, "checkpoint")
		}, ledger.FindingCheckpoint, -1, false},
		"checkpoint gone":                    {func(t *testing.T, dir string) { remove(t, dir, "checkpoint") }, ledger.FindingCheckpoint, -1, false},
		"checkpoint put back":                {func(t *testing.T, dir string) { writeFile(t, notes[4], dir, "checkpoint") }, ledger.FindingUnsigned, 5, false},
		"all put back":                       {replaced(station, all[:6]...), ledger.FindingCut, 6, true},
		"another history with the right key": {replaced(station, otherFirst...), ledger.FindingChanged, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, whole)
			c.do(t, dir)
			report := verify(t, dir, given...)
			if !slices.ContainsFunc(report.Findings, func(f ledger.Finding) bool { return f.Kind == c.kind && f.Index == c.index && f.Words != "" }) {
				t.Errorf("no %s at %d in %v, told %v", c.kind, c.index, report.Findings, report.Told)
			}
			l, err := ledger.Open(t.Context(), dir, station, func(ledger.Repair) {})
			if c.opens != (err == nil) || err != nil && !errors.Is(err, ledger.ErrBroken) {
				t.Errorf("open says %v", err)
			}
			if l != nil && c.kind == ledger.FindingHashes {
				checkSound(t, dir, 9, given...)
			}
		})
	}
	// A copy without the lock file and on a folder that can't be written is read.
	dir := copyDir(t, whole)
	remove(t, dir, "lock")
	checkSound(t, dir, 9, given...)
}

func TestVerifyRefusesForeignCheckpoints(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	appendN(t, open(t, dir), 0, 3)
	elsewhere := station
	elsewhere.name = "ingestd/STATION-2"
	for name, signed := range map[string][]byte{
		"another key":     readFile(t, forged(t, keyOf("other"), entry(0)), "checkpoint"),
		"another station": readFile(t, forged(t, elsewhere, entry(0)), "checkpoint"),
		"garbage":         []byte("garbage"),
	} {
		if report := verify(t, dir, signed); report.Sound() || report.Findings[0].Kind != ledger.FindingCheckpoint {
			t.Errorf("%s: %v", name, report.Findings)
		}
	}
	if _, err := ledger.Verify(t.Context(), filepath.Join(dir, "none"), ledger.Keys{station.PublicKey()}, origin); err == nil {
		t.Error("a folder that is not there is verified")
	}
}

func TestTimeGoingBackIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	appendN(t, l, 5, 2)
	appendN(t, l, 0, 2)
	west := entry(9) // later, though its hour reads less
	west.Time = west.Time.In(time.FixedZone("", -8*3600))
	if _, err := l.Append(t.Context(), west); err != nil {
		t.Fatal(err)
	}
	report := verify(t, dir)
	if !report.Sound() || len(report.Told) != 1 || report.Told[0].Kind != ledger.FindingTimeBack || report.Told[0].Index != 2 {
		t.Errorf("%v, told %v", report.Findings, report.Told)
	}
}
