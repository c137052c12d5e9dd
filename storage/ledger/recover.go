package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

// The kinds of Repair.
const (
	// RepairCut: an append was under way when a process died, and not all of its
	// lines had been written. They were never acknowledged and are cut off.
	RepairCut = "cut"
	// RepairCompleted: all lines of such an append were there; they are signed
	// for now. They were never acknowledged, so they may be written twice.
	RepairCompleted = "completed"
	// RepairHashes: the file of hashes did not fit the lines, which do fit the
	// checkpoint. It is made anew.
	RepairHashes = "hashes"
)

// Repair tells what was done to a folder that a crash had left, so that no cut is
// made in silence.
type Repair struct {
	Kind string
	// Index is the line at which it was done.
	Index int64
	// Bytes are those that were cut off or completed.
	Bytes []byte
}

func (r Repair) String() string {
	switch r.Kind {
	case RepairCut:
		return fmt.Sprintf("an append that was never acknowledged was cut off at line %d, %d bytes: %.200q", r.Index, len(r.Bytes), r.Bytes)
	case RepairCompleted:
		return fmt.Sprintf("an append of %d lines from line %d on was whole but not signed for, and is now", bytes.Count(r.Bytes, []byte("\n")), r.Index)
	}
	return fmt.Sprintf("the hashes did not fit the lines from %d on and were made anew; after a power cut that is to be expected", r.Index)
}

// look brings seen up to date under the lock: another process may have appended,
// or died in it. Where the file of entries is as this process left it, nothing is
// read; where it has grown, what is new is read; otherwise all of it.
func (l *Ledger) look() (repairs []Repair, err error) {
	signed, err := l.dir.read(checkpointName)
	if err != nil {
		return nil, err
	}
	if signed == nil {
		if signed, err = l.begin(); err != nil {
			return nil, err
		}
	}
	c, by, err := l.keys.parse(signed)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBroken, checkpointName, err)
	}
	f, err := l.openEntries(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	id, err := identify(f)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(signed, l.seen.note) && id == l.seen.id {
		return nil, nil
	}
	if c.Size < l.known.Size {
		return nil, fmt.Errorf("%w: the checkpoint is of size %d, it was of %d already", ErrBroken, c.Size, l.known.Size)
	}
	from := state{}
	if c.Size > l.seen.tree.size && id.ino == l.seen.id.ino && id.dev == l.seen.id.dev {
		from = l.seen
	}
	now, repairs, err := l.load(f, from, c)
	if err != nil {
		return nil, err
	}
	if err := l.keys.permits(by, &now.tree); err != nil {
		return repairs, fmt.Errorf("%w: %s: %w", ErrBroken, checkpointName, err)
	}
	now.note = signed
	if id.size > now.bytes {
		repair, err := l.mendTail(f, &now, id.size-now.bytes)
		if err != nil {
			return repairs, err
		}
		repairs = append(repairs, repair)
	} else if err := l.dir.remove(nextName); err != nil { // of an append that died before its first line
		return repairs, err
	}
	// What a crash has left comes first: it may be the very line that hands over.
	if err := l.keys.fits(&now.tree, now.tree.size); err != nil {
		return repairs, err
	}
	if now.id, err = identify(f); err != nil {
		return repairs, err
	}
	l.saw(now)
	return repairs, nil
}

// saw takes over what the folder is now.
func (l *Ledger) saw(now state) {
	l.seen = now
	l.known = now.tree.checkpoint()
}

// openEntries makes the file only for an empty log: begin may have died before it.
func (l *Ledger) openEntries(c Checkpoint) (*os.File, error) {
	if c.Size == 0 {
		return os.OpenFile(l.dir.path(entriesName), os.O_RDWR|os.O_CREATE, fileMode)
	}
	f, err := os.OpenFile(l.dir.path(entriesName), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is a checkpoint of %d lines, but no %s", ErrBroken, c.Size, entriesName)
	}
	return f, err
}

// begin makes the checkpoint of an empty log. It comes before the entries, so
// that entries without one are always a sign that something was taken away.
func (l *Ledger) begin() ([]byte, error) {
	if l.keys.last() > 0 {
		return nil, fmt.Errorf("%w: there is no %s", ErrNotHandedOver, checkpointName)
	}
	for _, name := range []string{entriesName, hashesName, nextName} {
		there, err := l.dir.exists(name)
		if err != nil {
			return nil, err
		}
		if there {
			return nil, fmt.Errorf("%w: there is %s, but no %s", ErrBroken, name, checkpointName)
		}
	}
	signed, err := signCheckpoint((&tree{}).checkpoint(), l.key)
	if err != nil {
		return nil, err
	}
	const unfinished = checkpointName + ".new"
	if err := l.dir.write(unfinished, signed); err != nil {
		return nil, err
	}
	return signed, l.dir.rename(unfinished, checkpointName)
}

// load reads the lines behind from that the checkpoint covers, and puts the file
// of hashes right where it does not fit them.
func (l *Ledger) load(f *os.File, from state, c Checkpoint) (now state, repairs []Repair, err error) {
	now = state{tree: from.tree.fork(), bytes: from.bytes}
	lines := newLineReader(io.NewSectionReader(f, from.bytes, 1<<62))
	var hashes []tlog.Hash
	for now.tree.size < c.Size {
		line, err := lines.next()
		if err != nil {
			return state{}, nil, fmt.Errorf("%w: the checkpoint is of %d lines, line %d can't be read: %w", ErrBroken, c.Size, now.tree.size, err)
		}
		hashes = append(hashes, now.tree.add(line)...)
		now.bytes += int64(len(line)) + 1
		if now.tree.size == l.known.Size && now.tree.checkpoint() != l.known {
			return state{}, nil, fmt.Errorf("%w: its first %d lines are not what they were", ErrBroken, l.known.Size)
		}
	}
	if now.tree.checkpoint() != c {
		return state{}, nil, fmt.Errorf("%w: its %d lines do not hash to what the checkpoint says", ErrBroken, c.Size)
	}
	differed, err := l.dir.keepHashes(from.tree.size, hashes)
	if differed {
		repairs = append(repairs, Repair{Kind: RepairHashes, Index: from.tree.size})
	}
	return now, repairs, err
}

// mendTail handles bytes behind the lines that are signed for. Only an append
// that died can have left them, and it left checkpoint.next before: signed with
// the station's key, for a larger size. Every other tail is refused, above all
// one that is there because an older checkpoint was put in its place: those lines
// were acknowledged.
func (l *Ledger) mendTail(f *os.File, now *state, length int64) (Repair, error) {
	refuse := func(why string, err error) (Repair, error) {
		return Repair{}, errors.Join(fmt.Errorf("%w: %d bytes behind line %d, where the checkpoint ends, and %s", ErrBroken, length, now.tree.size, why), err)
	}
	signed, err := l.dir.read(nextName)
	if err != nil {
		return Repair{}, err
	}
	if signed == nil {
		return refuse("no append was under way", nil)
	}
	next, by, err := l.keys.parse(signed)
	if err != nil {
		return refuse("the append under way is not signed", err)
	}
	if next.Size <= now.tree.size || length > maxBatch {
		return refuse(fmt.Sprintf("the append under way was to end at %d", next.Size), nil)
	}
	tail := make([]byte, length)
	if _, err := f.ReadAt(tail, now.bytes); err != nil {
		return Repair{}, fmt.Errorf("read the unfinished append: %w", err)
	}
	repair := Repair{Index: now.tree.size, Bytes: tail}
	var grown tree
	var hashes []tlog.Hash
	repair.Kind, grown, hashes = judgeTail(tail, &now.tree, next)
	switch repair.Kind {
	case RepairCompleted:
		if err := l.keys.permits(by, &grown); err != nil {
			return refuse("the append under way was signed by a former key", err)
		}
		return repair, l.complete(f, now, state{tree: grown, bytes: now.bytes + length, note: signed}, hashes)
	case RepairCut:
		if err := f.Truncate(now.bytes); err != nil {
			return repair, err
		}
		if err := f.Sync(); err != nil {
			return repair, err
		}
		return repair, l.dir.remove(nextName)
	}
	return refuse("it is not what the append under way was to write", nil)
}

// judgeTail tells what an append that was to end at next has left: all of its
// lines (RepairCompleted), a part of them (RepairCut), or "" for what it can't
// have left.
func judgeTail(tail []byte, from *tree, next Checkpoint) (kind string, grown tree, hashes []tlog.Hash) {
	grown = from.fork()
	for line := range bytes.Lines(tail) {
		hashes = append(hashes, grown.add(bytes.TrimSuffix(line, []byte("\n")))...)
	}
	ended := int64(bytes.Count(tail, []byte("\n")))
	expected := next.Size - from.size
	switch {
	case bytes.HasSuffix(tail, []byte("\n")) && grown.checkpoint() == next:
		return RepairCompleted, grown, hashes
	case ended < expected || ended == expected && bytes.IndexByte(tail, 0) >= 0:
		// A line is missing, has no end, or has blocks that were never written:
		// some file systems show zeros for these, and no line holds one.
		return RepairCut, grown, hashes
	}
	return "", grown, hashes
}

// complete does what is left of write.
func (l *Ledger) complete(f *os.File, now *state, grown state, hashes []tlog.Hash) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := l.dir.keepHashes(now.tree.size, hashes); err != nil {
		return err
	}
	if err := l.dir.rename(nextName, checkpointName); err != nil {
		return err
	}
	*now = grown
	return nil
}
