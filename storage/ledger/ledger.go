// Package ledger keeps what happened at a station in a form that can't be changed
// unseen: one line of JSON for each event, a Merkle tree over the lines (RFC 6962)
// and signed checkpoints of it (C2SP tlog-checkpoint, signed-note). Ingest, the
// workplace and disposal append to it before the effect of an act is shown; the
// lines and checkpoints go into the locked bucket, and a checkpoint can stand on
// any label or sheet of paper.
//
// It promises that what Append has acknowledged is durable, that a line once
// signed is never changed or cut by this program, and that Verify finds every
// change by anybody else, as far back as the checkpoints go that it is given. It
// can't promise more: who holds the folder can put an older state of the whole
// folder back, and only a checkpoint that was kept elsewhere shows that.
//
// The station's key may change: the old one hands over to the new one by a line of
// the log, and may sign nothing behind it; see Keys.
//
// README.md describes the format and how it is checked with common tools.
package ledger

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrBroken is a ledger whose lines are not what its checkpoints say. Nothing is
// appended to it and nothing is repaired: a person must look at it.
var ErrBroken = errors.New("the ledger is broken, verify it against the checkpoints that were kept elsewhere")

// maxBatch bounds what one Append writes, in bytes: it is held in memory, and no
// unfinished tail can be longer.
const maxBatch = 8 << 20

// Ledger is an open ledger. Its methods are safe between goroutines; several
// processes, and several values in one, may have the same folder open.
type Ledger struct {
	dir  folder
	key  Signer
	keys *succession // key is the last of it
	told func(Repair)

	// turn holds one token: whoever has it owns seen, and is alone in waiting
	// for the lock file.
	turn chan struct{}
	// seen is the folder as it was last looked at under the lock. The zero value
	// has everything read anew.
	seen state
	// known is the newest checkpoint that was ever seen here, also after an
	// error: the log may grow from it and never go back behind it.
	known Checkpoint
}

// state is what is known of a folder, and how to tell that it is so no longer.
type state struct {
	tree  tree
	bytes int64 // of entries.jsonl that the checkpoint covers
	note  []byte
	id    identity
}

// Stored is one line of the log.
type Stored struct {
	Index int64
	Line  []byte // without its newline: the leaf of the tree
	Entry Entry
}

// Open opens the ledger in a folder, or begins one where there is none. It reads
// all of it and compares it with its signed checkpoint: ErrBroken where it does
// not fit, or is signed with another key. What a crash has left is put right, and
// told must then say so to somebody; it is called with no lock held, by Open and
// by any method that comes after a crash of another process, so perhaps from
// several goroutines.
//
// former are the keys before the present one; see Keys. Where the lines do not hand
// over to key the error is ErrNotHandedOver, and ErrHandedOver where they hand over
// from it.
func Open(ctx context.Context, dir string, key Signer, told func(Repair), former ...ed25519.PublicKey) (*Ledger, error) {
	if told == nil {
		return nil, errors.New("open ledger: nobody to tell what was cut off after a crash")
	}
	keys, err := newSuccession(key.Name(), append(slices.Clone(Keys(former)), key.PublicKey()))
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := &Ledger{dir: folder(dir), key: key, keys: keys, told: told, turn: make(chan struct{}, 1)}
	if err := l.locked(ctx, func() error { return nil }); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", dir, err)
	}
	return l, nil
}

// locked does something while no other goroutine or process can append, with
// seen up to date.
func (l *Ledger) locked(ctx context.Context, do func() error) (err error) {
	var repairs []Repair
	defer func() {
		for _, r := range repairs {
			l.told(r)
		}
	}()
	if err := ctx.Err(); err != nil {
		return err // a select could still go the other way
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.turn }()
	lock, err := l.dir.lock(ctx, lockName, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // gives it back in any case
	repairs, err = l.look()
	if err == nil {
		err = do()
	}
	if err != nil {
		l.seen = state{} // whatever went wrong, memory is not to be trusted
	}
	return err
}

// Append writes entries one after the other and gives the index of the first.
// When it returns without an error, all of them are durable and signed for. After
// an error none of them is, with one exception that the error names: when the
// disk fails at the very last step, nobody can know.
func (l *Ledger) Append(ctx context.Context, entries ...Entry) (first int64, err error) {
	var lines [][]byte
	for i, e := range entries {
		line, err := e.Encode()
		if err != nil {
			return 0, fmt.Errorf("append entry %d of %d: %w", i+1, len(entries), err)
		}
		lines = append(lines, line)
	}
	err = l.locked(ctx, func() error {
		waiting, err := l.dir.exists(unsignedName)
		if err != nil {
			return err
		}
		if waiting {
			return fmt.Errorf("%s holds lines that are in the bucket but not signed: look at them and adopt them first", unsignedName)
		}
		first = l.seen.tree.size
		return l.write(lines)
	})
	if err != nil {
		return 0, fmt.Errorf("append to ledger %s: %w", string(l.dir), err)
	}
	return first, nil
}

// write appends lines under the lock. The order is what makes it safe; a crash
// after each step leaves:
//
//  1. checkpoint.next, durable: nothing but a file that the next append replaces.
//  2. entries.jsonl, durable: with all lines there, look goes on with step 4;
//     with fewer, it cuts them off. Nobody was told that they are safe.
//  3. hashes: they are made anew when they do not fit.
//  4. checkpoint.next becomes checkpoint: the lines are signed for.
func (l *Ledger) write(lines [][]byte) (err error) {
	var batch bytes.Buffer
	var hashes []tlog.Hash
	grown := l.seen.tree.fork()
	for _, line := range lines {
		batch.Write(line)
		batch.WriteByte('\n')
		hashes = append(hashes, grown.add(line)...)
	}
	if len(lines) == 0 || batch.Len() > maxBatch {
		return fmt.Errorf("%d entries with %d bytes: there must be one at least, and at most %d bytes", len(lines), batch.Len(), maxBatch)
	}
	if err := l.keys.mayGrow(&grown, l.seen.tree.size); err != nil {
		return err
	}
	signed, err := signCheckpoint(grown.checkpoint(), l.key)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(l.dir.path(entriesName), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // what counts was synced

	err = l.dir.write(nextName, signed)
	if err == nil {
		_, err = f.WriteAt(batch.Bytes(), l.seen.bytes)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		_, err = l.dir.keepHashes(l.seen.tree.size, hashes)
	}
	if err == nil {
		err = os.Rename(l.dir.path(nextName), l.dir.path(checkpointName))
	}
	if err != nil {
		return errors.Join(err, l.undo(f))
	}
	if err := l.dir.sync(); err != nil {
		return fmt.Errorf("the entries %d to %d may be in the log or not, look before they are written again: %w", l.seen.tree.size, grown.size-1, err)
	}
	id, err := identify(f)
	if err != nil {
		id = identity{} // the next look reads all of it; the append stands
	}
	l.saw(state{tree: grown, bytes: l.seen.bytes + int64(batch.Len()), note: signed, id: id})
	return nil
}

// undo takes a failed append back. Where that fails too, checkpoint.next stays
// and lets the next look cut off what is there.
func (l *Ledger) undo(f *os.File) error {
	err := f.Truncate(l.seen.bytes)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.dir.remove(nextName)
	}
	if err != nil {
		return fmt.Errorf("take back the failed append: %w", err)
	}
	return nil
}

// snapshot gives the state after all appends that were acknowledged before.
func (l *Ledger) snapshot(ctx context.Context) (now state, err error) {
	err = l.locked(ctx, func() error {
		now = l.seen
		now.tree = l.seen.tree.fork()
		return nil
	})
	return now, err
}

// Read gives the lines from an index on, up to the size that the log has at the
// call. When they are not what the checkpoint says, the last pair is ErrBroken;
// who stops before has no such proof. Line and Entry belong to the caller.
func (l *Ledger) Read(ctx context.Context, from int64) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		now, err := l.snapshot(ctx)
		if err == nil && (from < 0 || from > now.tree.size) {
			err = fmt.Errorf("line %d: the log has %d", from, now.tree.size)
		}
		if err == nil {
			err = l.eachLine(ctx, now, func(line []byte, so *tree) (bool, error) {
				if so.size <= from {
					return true, nil
				}
				entry, err := ParseLine(line)
				if err != nil {
					return false, fmt.Errorf("%w: line %d: %w", ErrBroken, so.size-1, err)
				}
				return yield(Stored{Index: so.size - 1, Line: bytes.Clone(line), Entry: entry}, nil), nil
			})
		}
		if err != nil {
			yield(Stored{}, fmt.Errorf("read ledger %s: %w", string(l.dir), err))
		}
	}
}

// About gives the lines that name a session, as Read does, and reads the others only to
// compare all of them with the checkpoint.
func (l *Ledger) About(ctx context.Context, session string) iter.Seq2[Stored, error] {
	mark, err := json.Marshal(session)
	return l.search(ctx, append([]byte(`"session":`), mark...), err, func(e Entry) bool { return e.Session == session })
}

// Events gives the lines whose event begins with a prefix, in the same way.
func (l *Ledger) Events(ctx context.Context, prefix string) iter.Seq2[Stored, error] {
	mark, err := json.Marshal(prefix)
	mark = bytes.TrimSuffix(mark, []byte(`"`))
	return l.search(ctx, append([]byte(`"event":`), mark...), err, func(e Entry) bool { return strings.HasPrefix(e.Event, prefix) })
}

// search parses the lines that have mark in them, and gives those that are wanted: the
// mark may stand in other words of a line too.
func (l *Ledger) search(ctx context.Context, mark []byte, err error, wanted func(Entry) bool) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		var now state
		if err == nil {
			now, err = l.snapshot(ctx)
		}
		if err == nil {
			err = l.eachLine(ctx, now, func(line []byte, so *tree) (bool, error) {
				if !bytes.Contains(line, mark) {
					return true, nil
				}
				entry, err := ParseLine(line)
				if err != nil {
					return false, fmt.Errorf("%w: line %d: %w", ErrBroken, so.size-1, err)
				}
				if !wanted(entry) {
					return true, nil
				}
				return yield(Stored{Index: so.size - 1, Line: bytes.Clone(line), Entry: entry}, nil), nil
			})
		}
		if err != nil {
			yield(Stored{}, fmt.Errorf("read ledger %s: %w", string(l.dir), err))
		}
	}
}

// eachLine gives every line of a snapshot to do, with the tree that it ends, and
// at the end compares the tree with the snapshot's. It stops without an error
// where do says false.
func (l *Ledger) eachLine(ctx context.Context, now state, do func(line []byte, so *tree) (bool, error)) (err error) {
	f, err := os.Open(l.dir.path(entriesName))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := newLineReader(io.LimitReader(f, now.bytes))
	var so tree
	for so.size < now.tree.size {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := lines.next()
		if err != nil {
			return fmt.Errorf("%w: line %d of %d: %w", ErrBroken, so.size, now.tree.size, err)
		}
		so.add(line)
		if more, err := do(line, &so); err != nil || !more {
			return err
		}
	}
	if so.checkpoint() != now.tree.checkpoint() {
		return fmt.Errorf("%w: its %d lines do not hash to what the checkpoint says", ErrBroken, so.size)
	}
	return nil
}

// Checkpoint gives the signed note of the present size, by the present key. It
// waits for nobody: the file is replaced as a whole.
func (l *Ledger) Checkpoint() ([]byte, error) {
	signed, err := l.dir.read(checkpointName)
	if err == nil {
		_, err = ParseCheckpoint(signed, l.key.PublicKey(), l.key.Name())
	}
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", string(l.dir), err)
	}
	return signed, nil
}

// Size gives the number of lines that are signed for.
func (l *Ledger) Size() (int64, error) {
	signed, err := l.Checkpoint()
	if err != nil {
		return 0, err
	}
	c, err := ParseCheckpoint(signed, l.key.PublicKey(), l.key.Name())
	return c.Size, err
}
