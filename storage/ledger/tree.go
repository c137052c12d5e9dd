package ledger

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the right edge of a Merkle tree (RFC 6962): all that is needed to let
// it grow and to compute its root. It lives in memory, so that what is signed
// never rests on the file of hashes. It is a value: a copy made with fork grows
// on its own.
type tree struct {
	size   int64
	edge   []tlog.Hash // the full subtrees, from left (large) to right (small)
	handed []handOver  // from key to key, by the lines so far
}

// add takes in a line and gives the hashes that it completes, in the order of
// tlog.StoredHashIndex.
func (t *tree) add(line []byte) []tlog.Hash {
	h := tlog.RecordHash(line)
	done := []tlog.Hash{h}
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.edge) - 1
		h = tlog.NodeHash(t.edge[last], h)
		t.edge = t.edge[:last]
		done = append(done, h)
	}
	t.edge = append(t.edge, h)
	t.size++
	if h, is := handOverOf(line, t.size); is {
		t.handed = append(t.handed, h)
	}
	return done
}

func (t *tree) fork() tree {
	return tree{size: t.size, edge: slices.Clone(t.edge), handed: slices.Clone(t.handed)}
}

func (t *tree) checkpoint() Checkpoint {
	if t.size == 0 {
		return Checkpoint{Root: sha256.Sum256(nil)} // RFC 6962: MTH({})
	}
	root := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		root = tlog.NodeHash(t.edge[i], root)
	}
	return Checkpoint{Size: t.size, Root: root}
}

// CheckInclusion checks that line, without its newline, is the one at index in
// the log that the checkpoint is of (RFC 6962, 2.1.1). It needs no ledger.
func CheckInclusion(proof tlog.RecordProof, of Checkpoint, index int64, line []byte) error {
	if err := tlog.CheckRecord(proof, of.Size, of.Root, index, tlog.RecordHash(line)); err != nil {
		return fmt.Errorf("line %d is not proven to be in the log of size %d: %w", index, of.Size, err)
	}
	return nil
}

// CheckGrowth checks that the log of the older checkpoint is the head of the log
// of the newer one (RFC 6962, 2.1.2): nothing of it was changed or taken away.
func CheckGrowth(proof tlog.TreeProof, older, newer Checkpoint) error {
	if older.Size == 0 {
		if (&tree{}).checkpoint() != older || len(proof) != 0 {
			return fmt.Errorf("the checkpoint of size 0 is not of an empty log")
		}
		return nil
	}
	if err := tlog.CheckTree(proof, newer.Size, newer.Root, older.Size, older.Root); err != nil {
		return fmt.Errorf("the log of size %d is not proven to be the head of that of size %d: %w", older.Size, newer.Size, err)
	}
	return nil
}
