package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// VerifyPublished reads the bucket's copy anew, compares it with the checkpoints
// there, and then the folder with all of these, as Verify does. An empty dir
// leaves the folder out: whoever has only the bucket and the public keys can check
// it. Older checkpoints that were kept elsewhere are compared with the bucket's lines;
// only they show that an older state of all of it was put back. The report is of the
// bucket; what is wrong with the folder is said with the words "in the folder" before it.
func VerifyPublished(ctx context.Context, store Store, prefix, dir string, keys Keys, origin string, checkpoints ...[]byte) (*Report, error) {
	report, err := verifyPublished(ctx, store, prefix, dir, keys, origin, checkpoints...)
	if err != nil {
		return nil, fmt.Errorf("verify published ledger %s: %w", prefix, err)
	}
	return report, nil
}

// VerifyPublished is VerifyPublished for this ledger's own folder and keys.
func (l *Ledger) VerifyPublished(ctx context.Context, store Store, prefix string) (*Report, error) {
	return VerifyPublished(ctx, store, prefix, string(l.dir), l.keys.keys, l.key.Name())
}

func verifyPublished(ctx context.Context, store Store, prefix, dir string, keys Keys, origin string, checkpoints ...[]byte) (*Report, error) {
	a, err := newAudit(keys, origin)
	if err != nil {
		return nil, err
	}
	for i, signed := range checkpoints {
		a.want(signed, fmt.Sprintf("the given checkpoint number %d", i+1))
	}
	there, err := a.listed(ctx, store, prefix)
	if err != nil {
		return nil, err
	}
	ignore := func(int64, []byte, []tlog.Hash) error { return nil }
	if err := a.segments(ctx, store, prefix, there, ignore); err != nil {
		return nil, err
	}
	report := a.end()
	if dir == "" {
		return report, nil
	}
	local, err := newAudit(keys, origin)
	if err != nil {
		return nil, err
	}
	for i, signed := range there.notes {
		local.want(signed, "the published checkpoint of size "+fmt.Sprint(there.sizes[i]))
	}
	if report.Sound() {
		// Also the lines behind the last checkpoint must be the folder's.
		local.wanted = append(local.wanted, claim{report.Checkpoint, nobody, "what the segments in the bucket hash to; it"})
	}
	if err := local.folder(ctx, folder(dir)); err != nil {
		return nil, err
	}
	of := local.end()
	for _, f := range of.Findings {
		report.find(f.Kind, f.Index, "in the folder, %s", f.Words)
	}
	for _, f := range of.Told {
		if f.Kind != FindingTimeBack { // the same lines have told it already
			report.tell(f.Kind, f.Index, "in the folder, %s", f.Words)
		}
	}
	report.Omitted += of.Omitted
	return report, nil
}

// inBucket is what a bucket holds, with its checkpoints.
type inBucket struct {
	*published
	notes [][]byte // those that are signed as they must be, by size
	sizes []int64
}

// signedSize is that of the last checkpoint.
func (b *inBucket) signedSize() int64 {
	if len(b.sizes) == 0 {
		return 0
	}
	return b.sizes[len(b.sizes)-1]
}

// listed takes in the keys and the checkpoints of a bucket.
func (a *audit) listed(ctx context.Context, store Store, prefix string) (*inBucket, error) {
	keys, err := listPublished(ctx, store, prefix)
	if err != nil {
		return nil, err
	}
	there := &inBucket{published: keys}
	keys.check(&a.report)
	for _, size := range keys.checkpoints {
		key := CheckpointKey(prefix, size)
		signed, err := store.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", key, err)
		}
		c, ok := a.want(signed, key)
		if ok && c.Size != size {
			a.report.find(FindingCheckpoint, noIndex, "%s is of size %d", key, c.Size)
			ok = false
		}
		if ok {
			there.notes, there.sizes = append(there.notes, signed), append(there.sizes, size)
		}
	}
	a.begin()
	return there, nil
}

// segments takes in the lines of a bucket, as far as they go without a hole.
func (a *audit) segments(ctx context.Context, store Store, prefix string, there *inBucket, do func(index int64, line []byte, hashes []tlog.Hash) error) error {
	for _, s := range there.segments {
		if s.from != a.tree.size {
			continue // a hole or an overlap, which the keys have told
		}
		key := s.key(prefix)
		body, err := store.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("get %s: %w", key, err)
		}
		lines := newLineReader(bytes.NewReader(body))
		for {
			line, err := lines.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				a.report.find(FindingLine, a.tree.size, "%s: %v; nothing behind it is read", key, err)
				return nil
			}
			index := a.tree.size
			if err := do(index, line, a.line(line)); err != nil {
				return err
			}
		}
		if a.tree.size != s.to {
			a.report.find(FindingSegment, s.from, "%s holds %d lines; nothing behind it is read", key, a.tree.size-s.from)
			return nil
		}
	}
	return nil
}
