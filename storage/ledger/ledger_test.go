package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bodyworn/ingestd/storage/ledger"
)

func TestAppendAndRead(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ledger")
	l := open(t, dir)
	checkSound(t, dir, 0)
	first, err := l.Append(t.Context(), entry(0), entry(1), entry(2))
	if err != nil || first != 0 {
		t.Fatal(first, err)
	}
	if first, err = l.Append(t.Context(), entry(3)); err != nil || first != 3 {
		t.Fatal(first, err)
	}
	l = open(t, dir)
	all := readAll(t, l, 1)
	if len(all) != 3 || all[0].Index != 1 || all[2].Index != 3 {
		t.Fatalf("%+v", all)
	}
	for _, s := range all {
		line, err := entry(int(s.Index)).Encode()
		if err != nil || !bytes.Equal(line, s.Line) || !s.Entry.Time.Equal(entry(int(s.Index)).Time) {
			t.Errorf("line %d is %s", s.Index, s.Line)
		}
	}
	if got := readAll(t, l, 4); len(got) != 0 {
		t.Errorf("behind the end there is %v", got)
	}
	for _, from := range []int64{5, -1} {
		refused := false
		for _, err := range l.Read(t.Context(), from) {
			refused = err != nil
		}
		if !refused {
			t.Errorf("read from %d", from)
		}
	}
	checkSound(t, dir, 4)
	for _, name := range []string{"entries.jsonl", "hashes", "checkpoint"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

func TestAppendIsAllOrNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	appendN(t, l, 0, 2)
	bad := entry(3)
	bad.Reason = "\xff"
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	big := entry(5)
	big.Detail = map[string]string{"x": strings.Repeat("x", ledger.MaxLine-2000)}
	for name, do := range map[string]func() error{
		"bad entry": func() error { _, err := l.Append(t.Context(), entry(2), bad, entry(4)); return err },
		"none":      func() error { _, err := l.Append(t.Context()); return err },
		"cancelled": func() error { _, err := l.Append(cancelled, entry(2)); return err },
		"huge batch": func() error {
			_, err := l.Append(t.Context(), slices.Repeat([]ledger.Entry{big}, 9)...)
			return err
		},
	} {
		if err := do(); err == nil {
			t.Errorf("%s: no error", name)
		}
		checkSound(t, dir, 2)
	}
	appendN(t, l, 2, 1)
	checkSound(t, dir, 3)
}

func TestSeveralOpenLedgersSeeEachOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	for n := range 10 {
		l := []*ledger.Ledger{a, b}[n%2]
		if first, err := l.Append(t.Context(), entry(n)); err != nil || first != int64(n) {
			t.Fatal(first, err)
		}
	}
	for _, l := range []*ledger.Ledger{a, b} {
		if size, err := l.Size(); err != nil || size != 10 || len(readAll(t, l, 0)) != 10 {
			t.Error(size, err)
		}
	}
	checkSound(t, dir, 10)
}

// What other people's code makes of our notes and proofs.
func TestCheckpointIsACommonSignedNote(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	appendN(t, l, 0, 5)
	signed, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ledger.VerifierKey(origin, station.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ledger.ParseCheckpoint(signed, station.PublicKey(), origin)
	if err != nil || n.Text != origin+"\n5\n"+c.Root.String()+"\n" {
		t.Errorf("%v: %s", err, n.Text)
	}
	// The root by the definition in RFC 6962, 2.1, written out for five leaves.
	leaf := func(i int) tlog.Hash { return tlog.RecordHash(readAll(t, l, 0)[i].Line) }
	node := tlog.NodeHash
	if want := node(node(node(leaf(0), leaf(1)), node(leaf(2), leaf(3))), leaf(4)); c.Root != want {
		t.Errorf("root %v, want %v", c.Root, want)
	}
	for name, name2 := range map[string]string{"space": "a b", "plus": "a+b", "empty": ""} {
		if _, err := ledger.VerifierKey(name2, station.PublicKey()); err == nil {
			t.Errorf("a name with %s is taken", name)
		}
		k := station
		k.name = name2
		if _, err := ledger.Open(t.Context(), t.TempDir(), k, noRepair(t)); err == nil {
			t.Errorf("a ledger whose name has %s", name)
		}
	}
}

func TestProofs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	const size = 9
	at := []ledger.Checkpoint{parse(t, l)}
	for n := range size {
		appendN(t, l, n, 1)
		at = append(at, parse(t, l))
	}
	lines := readAll(t, l, 0)
	for newer := int64(0); newer <= size; newer++ {
		for i := range newer {
			proof, err := l.Prove(t.Context(), i, newer)
			if err != nil {
				t.Fatal(err)
			}
			if err := ledger.CheckInclusion(proof, at[newer], i, lines[i].Line); err != nil {
				t.Error(err)
			}
			if err := ledger.CheckInclusion(proof, at[newer], i, append([]byte(" "), lines[i].Line...)); err == nil {
				t.Error("another line is proven")
			}
		}
		for older := range newer + 1 {
			proof, err := l.ProveGrowth(t.Context(), older, newer)
			if err != nil {
				t.Fatal(err)
			}
			if err := ledger.CheckGrowth(proof, at[older], at[newer]); err != nil {
				t.Error(older, newer, err)
			}
			wrong := at[older]
			wrong.Root[0] ^= 1
			if err := ledger.CheckGrowth(proof, wrong, at[newer]); err == nil {
				t.Error(older, newer, "another log is proven")
			}
		}
	}
	for _, err := range []error{
		second(l.Prove(t.Context(), 0, size+1)), second(l.Prove(t.Context(), size, size)), second(l.Prove(t.Context(), -1, size)),
		second(l.ProveGrowth(t.Context(), 3, 2)), second(l.ProveGrowth(t.Context(), -1, 2)), second(l.ProveGrowth(t.Context(), 1, size+1)),
	} {
		if err == nil {
			t.Error("an impossible proof")
		}
	}

	// A file of hashes that was changed gives no wrong proof, but an error.
	hashes := readFile(t, dir, "hashes")
	for i := range len(hashes) / 32 {
		changed := bytes.Clone(hashes)
		changed[32*i] ^= 1
		writeFile(t, changed, dir, "hashes")
		for k := range int64(size) {
			if proof, err := l.Prove(t.Context(), k, size); err == nil {
				if err := ledger.CheckInclusion(proof, at[size], k, lines[k].Line); err != nil {
					t.Errorf("hash %d changed: a wrong proof of line %d was given", i, k)
				}
			}
			if proof, err := l.ProveGrowth(t.Context(), k, size); err == nil {
				if err := ledger.CheckGrowth(proof, at[k], at[size]); err != nil {
					t.Errorf("hash %d changed: a wrong proof of growth from %d was given", i, k)
				}
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func parse(t *testing.T, l *ledger.Ledger) ledger.Checkpoint {
	t.Helper()
	signed, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ledger.ParseCheckpoint(signed, station.PublicKey(), origin)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// brokenKey signs with another key than it shows.
type brokenKey struct{ stationKey }

func (brokenKey) SignRaw(m []byte) []byte { return keyOf("other").SignRaw(m) }

func TestAKeyThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	appendN(t, open(t, dir), 0, 1)
	l, err := ledger.Open(t.Context(), dir, brokenKey{station}, noRepair(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), entry(1)); err == nil {
		t.Error("appended with a signature that does not hold")
	}
	checkSound(t, dir, 1)
}

// While a ledger is open, somebody else changes its folder.
func TestAnOpenLedgerNoticesWhatOthersDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	appendN(t, l, 0, 3)
	older := copyDir(t, dir)
	appendN(t, l, 3, 3)
	lines := bytes.SplitAfter(readFile(t, dir, "entries.jsonl"), []byte("\n"))
	for name, change := range map[string]func(t *testing.T, dir string){
		"line changed": func(t *testing.T, dir string) {
			writeFile(t, bytes.Replace(bytes.Join(lines, nil), []byte("110123"), []byte("110124"), 1), dir, "entries.jsonl")
		},
		"all put back": func(t *testing.T, dir string) {
			for _, name := range []string{"entries.jsonl", "hashes", "checkpoint"} {
				writeFile(t, readFile(t, older, name), dir, name)
			}
		},
		"checkpoint put back": func(t *testing.T, dir string) { writeFile(t, readFile(t, older, "checkpoint"), dir, "checkpoint") },
		"entries gone":        func(t *testing.T, dir string) { remove(t, dir, "entries.jsonl") },
		"checkpoint gone":     func(t *testing.T, dir string) { remove(t, dir, "checkpoint") },
		"put back and grown otherwise": func(t *testing.T, dir string) {
			for _, name := range []string{"entries.jsonl", "hashes", "checkpoint"} {
				writeFile(t, readFile(t, older, name), dir, name)
			}
			appendN(t, open(t, dir), 10, 5)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mine := copyDir(t, dir)
			l := open(t, mine)
			change(t, mine)
			for range 2 { // the second time nothing is left in memory
				if _, err := l.Append(t.Context(), entry(6)); !errors.Is(err, ledger.ErrBroken) {
					t.Errorf("append says %v", err)
				}
			}
		})
	}
}

func remove(t *testing.T, parts ...string) {
	t.Helper()
	if err := os.Remove(filepath.Join(parts...)); err != nil {
		t.Fatal(err)
	}
}

// The lines change under a reader that has begun.
func TestReadEndsWithTheTruth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	var batch []ledger.Entry
	for n := range 4 { // more than any buffer holds
		e := entry(n)
		e.Reason = strings.Repeat("x", ledger.MaxLine*3/4)
		batch = append(batch, e)
	}
	if _, err := l.Append(t.Context(), batch...); err != nil {
		t.Fatal(err)
	}
	var last error
	for s, err := range l.Read(t.Context(), 0) {
		if last = err; err == nil && s.Index == 0 {
			data := readFile(t, dir, "entries.jsonl")
			at := bytes.LastIndex(data, []byte("110123"))
			data[at] = '9'
			writeFile(t, data, dir, "entries.jsonl")
		}
	}
	if !errors.Is(last, ledger.ErrBroken) {
		t.Errorf("the last word is %v", last)
	}
}

// Lines are searched for by session and by event, whatever stands in their other words.
func TestSearchedLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	about := func(event, session string, detail map[string]string) ledger.Entry {
		e := entry(0)
		e.Event, e.Session, e.Detail = event, session, detail
		return e
	}
	if _, err := l.Append(t.Context(),
		about("view.file", "S-1", nil), about("view.page", "S-2", nil), about("session.sealed", "S-1", map[string]string{"event": "view.file"}), about("verify.done", "", map[string]string{"session": "S-1"}),
	); err != nil {
		t.Fatal(err)
	}
	indices := func(lines iter.Seq2[ledger.Stored, error]) (all []int64, last error) {
		for line, err := range lines {
			if err != nil {
				return all, err
			}
			all = append(all, line.Index)
		}
		return all, nil
	}
	for name, c := range map[string]struct {
		lines iter.Seq2[ledger.Stored, error]
		want  []int64
	}{
		"a session":    {l.About(t.Context(), "S-1"), []int64{0, 2}},
		"an event":     {l.Events(t.Context(), "view.file"), []int64{0}},
		"a kind of it": {l.Events(t.Context(), "view."), []int64{0, 1}},
		"none":         {l.Events(t.Context(), "done"), nil},
	} {
		if got, err := indices(c.lines); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: lines %v, %v; want %v", name, got, err, c.want)
		}
	}
	text := readFile(t, dir, "entries.jsonl")
	writeFile(t, bytes.Replace(text, []byte("S-2"), []byte("S-9"), 1), dir, "entries.jsonl")
	if _, err := indices(l.Events(t.Context(), "view.")); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("a ledger that was changed is searched: %v", err)
	}
}
