package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Verify reads a ledger's folder anew and trusts nothing in it. It computes the
// tree from the lines, and compares it with the folder's signed checkpoint and
// with every older one that is given: from the bucket, a disc, a sheet of paper.
// Each must be of a head of the log. It changes nothing, and waits for an append
// that is under way; a copy of a folder, without its lock file, is read too.
//
// The error is for what could not be read; what was read and is wrong is in the
// report.
func Verify(ctx context.Context, dir string, keys Keys, origin string, checkpoints ...[]byte) (*Report, error) {
	a, err := newAudit(keys, origin)
	if err != nil {
		return nil, fmt.Errorf("verify ledger %s: %w", dir, err)
	}
	for i, signed := range checkpoints {
		a.want(signed, fmt.Sprintf("the given checkpoint number %d", i+1))
	}
	if err := a.folder(ctx, folder(dir)); err != nil {
		return nil, fmt.Errorf("verify ledger %s: %w", dir, err)
	}
	return a.end(), nil
}

// folder takes in the lines of a folder.
func (a *audit) folder(ctx context.Context, d folder) error {
	s, err := d.stand(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	own, signed := Checkpoint{}, false
	if s.checkpoint == nil {
		a.report.find(FindingCheckpoint, noIndex, "the folder has no %s", checkpointName)
	} else {
		own, signed = a.want(s.checkpoint, "the checkpoint of the folder")
	}
	if s.waiting {
		a.report.tell(FindingUnfinished, own.Size, "%s holds lines from the bucket that are not signed and wait to be adopted", unsignedName)
	}
	a.begin()
	a.hashes = s.hashes
	lines := newLineReader(io.NewSectionReader(s.entries, 0, s.size))
	for at := int64(0); at < s.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if signed && a.tree.size == own.Size {
			a.hashes = nil // none are owed behind the checkpoint
			unfinished, err := s.unfinished(at, &a.tree, a.keys)
			if err != nil {
				return err
			}
			if unfinished {
				a.report.tell(FindingUnfinished, own.Size, "a process died while it appended; nobody was told that these lines are safe, and they are put right when the ledger is opened")
				return nil
			}
			a.report.find(FindingUnsigned, own.Size, "from here on there are lines that the checkpoint of the folder does not cover: it was put back, or they were written by something else")
		}
		line, err := lines.next()
		if errors.Is(err, errTorn) || errors.Is(err, errTooLong) {
			a.report.find(FindingLine, a.tree.size, "%v; nothing behind it is read", err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read line %d: %w", a.tree.size, err)
		}
		at += int64(len(line)) + 1
		a.line(line)
	}
	return nil
}

// standing is a folder at one moment. Lines that are signed for never change, so
// appends may go on; where a dead process has left an append, the lock is held to
// the end, lest another puts it right meanwhile.
type standing struct {
	checkpoint, next []byte
	entries          *os.File
	size             int64 // of entries, in bytes
	hashes           *os.File
	waiting          bool // there is a file of unsigned lines
	lock             *os.File
}

func (d folder) stand(ctx context.Context) (s *standing, err error) {
	s = &standing{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.lock, err = d.lock(ctx, lockName, unix.LOCK_SH); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if s.checkpoint, err = d.read(checkpointName); err != nil {
		return s, err
	}
	if s.next, err = d.read(nextName); err != nil {
		return s, err
	}
	if s.waiting, err = d.exists(unsignedName); err != nil {
		return s, err
	}
	s.entries, err = os.Open(d.path(entriesName))
	if errors.Is(err, fs.ErrNotExist) && s.checkpoint != nil {
		s.entries, err = os.Open(os.DevNull) // all of it was cut off, says the checkpoint
	}
	if err != nil {
		return s, err
	}
	info, err := s.entries.Stat()
	if err != nil {
		return s, err
	}
	s.size = info.Size()
	if s.hashes, err = os.Open(d.path(hashesName)); errors.Is(err, fs.ErrNotExist) {
		// An empty file, for whoever compares: it fits no line.
		s.hashes, err = os.Open(os.DevNull)
	}
	if err == nil && s.next == nil && s.lock != nil {
		err = s.lock.Close()
		s.lock = nil
	}
	return s, err
}

func (s *standing) close() {
	for _, f := range []*os.File{s.entries, s.hashes, s.lock} {
		if f != nil {
			_ = f.Close() // only read
		}
	}
}

// unfinished tells whether the bytes from at on are what an append that died can
// have left.
func (s *standing) unfinished(at int64, so *tree, keys *succession) (bool, error) {
	if s.next == nil || s.size-at > maxBatch {
		return false, nil
	}
	next, by, err := keys.parse(s.next)
	if err != nil || next.Size <= so.size {
		return false, nil //nolint:nilerr // whatever that file is, it excuses nothing
	}
	tail := make([]byte, s.size-at)
	if _, err := s.entries.ReadAt(tail, at); err != nil {
		return false, fmt.Errorf("read what is behind line %d: %w", so.size, err)
	}
	kind, grown, _ := judgeTail(tail, so, next)
	return kind == RepairCut || kind == RepairCompleted && keys.permits(by, &grown) == nil, nil
}
