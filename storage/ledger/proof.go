package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

// Prove proves that the line at index is in the log of the given size, which is
// the present one or an older one. CheckInclusion checks it.
func (l *Ledger) Prove(ctx context.Context, index, size int64) (proof tlog.RecordProof, err error) {
	err = l.proving(ctx, size, func(r tlog.HashReader) error {
		proof, err = tlog.ProveRecord(size, index, r)
		if err != nil {
			return err
		}
		leaf, err := r.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return err
		}
		root, err := tlog.TreeHash(size, r)
		if err != nil {
			return err
		}
		return tlog.CheckRecord(proof, size, root, index, leaf[0])
	})
	if err != nil {
		return nil, fmt.Errorf("prove line %d in the log of size %d: %w", index, size, err)
	}
	return proof, nil
}

// ProveGrowth proves that the log of size older is the head of that of size
// newer. CheckGrowth checks it. The proof for an empty older log is empty.
func (l *Ledger) ProveGrowth(ctx context.Context, older, newer int64) (proof tlog.TreeProof, err error) {
	err = l.proving(ctx, newer, func(r tlog.HashReader) error {
		if older == 0 {
			return nil
		}
		if proof, err = tlog.ProveTree(newer, older, r); err != nil {
			return err
		}
		was, err := tlog.TreeHash(older, r)
		if err != nil {
			return err
		}
		is, err := tlog.TreeHash(newer, r)
		if err != nil {
			return err
		}
		return CheckGrowth(proof, Checkpoint{older, was}, Checkpoint{newer, is})
	})
	if err != nil {
		return nil, fmt.Errorf("prove growth from %d to %d: %w", older, newer, err)
	}
	return proof, nil
}

// proving gives the file of hashes to do, after it has proven from it that the
// tree of the given size is the head of the one that is signed: the file is
// only an aid, and a wrong proof would look like a forged log.
func (l *Ledger) proving(ctx context.Context, size int64, do func(tlog.HashReader) error) error {
	now, err := l.snapshot(ctx)
	if err != nil {
		return err
	}
	if size < 0 || size > now.tree.size {
		return fmt.Errorf("the log has %d lines", now.tree.size)
	}
	f, err := os.Open(l.dir.path(hashesName))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	reader := hashFile{f}
	if size > 0 {
		root, err := tlog.TreeHash(size, reader)
		if err != nil {
			return err
		}
		head, err := tlog.ProveTree(now.tree.size, size, reader)
		if err != nil {
			return err
		}
		if err := CheckGrowth(head, Checkpoint{size, root}, now.tree.checkpoint()); err != nil {
			return fmt.Errorf("the file %s was changed; it is made anew when the ledger is opened: %w", hashesName, err)
		}
	}
	return do(reader)
}

type hashFile struct{ f *os.File }

func (h hashFile) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 {
			return nil, errors.New("hash with a negative index")
		}
		if _, err := h.f.ReadAt(hashes[i][:], index*tlog.HashSize); err != nil {
			return nil, fmt.Errorf("hash %d of %s: %w", index, h.f.Name(), err)
		}
	}
	return hashes, nil
}
