package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Store is what the published form needs of a bucket.
type Store interface {
	// Create stores body under a key that must be free; an error that wraps
	// ErrExists says that it is not. After any other error the object may be
	// there or not, now or later.
	Create(ctx context.Context, key string, body []byte) error
	// Get gives what lies under a key that List has named.
	Get(ctx context.Context, key string) ([]byte, error)
	// List gives all keys that begin with prefix, in any order. It sees every
	// object whose Create has returned.
	List(ctx context.Context, prefix string) ([]string, error)
}

// ErrExists is what a Store says when a key is not free.
var ErrExists = errors.New("the key is taken")

const (
	entriesFolder    = "/entries/"
	checkpointFolder = "/checkpoint/"
	segmentSuffix    = ".jsonl"
)

// segment is a published run of lines: from is its first index, to the one
// behind its last, and so the size of the log that ends with it.
type segment struct{ from, to int64 }

func (s segment) key(prefix string) string {
	return fmt.Sprintf("%s%s%016d-%016d%s", prefix, entriesFolder, s.from, s.to, segmentSuffix)
}

// CheckpointKey is where the checkpoint of a size lies in a bucket.
func CheckpointKey(prefix string, size int64) string {
	return fmt.Sprintf("%s%s%016d", prefix, checkpointFolder, size)
}

// published is what a bucket holds, as far as keys tell it.
type published struct {
	segments    []segment // sorted
	checkpoints []int64   // sizes, sorted
	foreign     []string  // keys that are neither
}

// listPublished asks the bucket: no memory of what was published is ever trusted.
// A station may be publishing meanwhile. Segments come before their checkpoints,
// so where no checkpoint came between two listings, one segment at most lacks its
// own.
func listPublished(ctx context.Context, store Store, prefix string) (*published, error) {
	list := func(folder string) ([]string, error) {
		keys, err := store.List(ctx, prefix+folder)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix+folder, err)
		}
		slices.Sort(keys)
		return keys, nil
	}
	const tries = 20
	for range tries {
		before, err := list(checkpointFolder)
		if err != nil {
			return nil, err
		}
		segments, err := list(entriesFolder)
		if err != nil {
			return nil, err
		}
		after, err := list(checkpointFolder)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(before, after) {
			continue
		}
		var p published
		for _, key := range slices.Concat(segments, after) {
			p.add(key, prefix)
		}
		p.sort()
		return &p, nil
	}
	return nil, fmt.Errorf("list %s: its checkpoints changed in each of %d tries, try again later", prefix, tries)
}

func (p *published) sort() {
	slices.SortFunc(p.segments, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	slices.Sort(p.checkpoints)
}

func (p *published) add(key, prefix string) {
	if name, ok := strings.CutPrefix(key, prefix+entriesFolder); ok {
		from, to, _ := strings.Cut(strings.TrimSuffix(name, segmentSuffix), "-")
		s := segment{number(from), number(to)}
		if s.from >= 0 && s.from < s.to && s.key(prefix) == key {
			p.segments = append(p.segments, s)
			return
		}
	}
	if name, ok := strings.CutPrefix(key, prefix+checkpointFolder); ok {
		if size := number(name); size > 0 && CheckpointKey(prefix, size) == key {
			p.checkpoints = append(p.checkpoints, size)
			return
		}
	}
	p.foreign = append(p.foreign, key)
}

// number gives -1 for what is none.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// PublishedSize is the number of lines that a bucket holds, as its keys tell it; what
// is in them is for VerifyPublished.
func PublishedSize(ctx context.Context, store Store, prefix string) (int64, error) {
	there, err := listPublished(ctx, store, prefix)
	if err != nil {
		return 0, fmt.Errorf("size of the published ledger %s: %w", prefix, err)
	}
	return there.end(), nil
}

// end is the number of lines that the bucket holds.
func (p *published) end() int64 {
	if len(p.segments) == 0 {
		return 0
	}
	return p.segments[len(p.segments)-1].to
}

// check says in report where the keys alone do not make a log.
func (p *published) check(report *Report) {
	for _, key := range p.foreign {
		report.find(FindingForeign, noIndex, "%q is neither a segment nor a checkpoint", key)
	}
	var end int64
	ends := map[int64]bool{}
	for _, s := range p.segments {
		switch {
		case s.from > end:
			report.find(FindingHole, end, "the lines %d to %d are in no segment", end, s.from-1)
		case s.from < end:
			report.find(FindingOverlap, s.from, "the segment %d-%d holds lines that another holds too", s.from, s.to)
		}
		end = max(end, s.to)
		ends[s.to] = true
	}
	for _, size := range p.checkpoints {
		if size > end {
			report.find(FindingHole, end, "there is a checkpoint of size %d, but the segments end at %d", size, end)
		}
		if size <= end && !ends[size] {
			report.find(FindingCheckpoint, size, "there is a checkpoint of size %d, where no segment ends", size)
		}
		delete(ends, size)
	}
	for _, s := range p.segments {
		if !ends[s.to] {
			continue
		}
		delete(ends, s.to)
		if s.to == end {
			report.tell(FindingUnfinished, s.to, "the checkpoint of size %d, the last, is not published; the next publication does it", s.to)
			continue
		}
		report.find(FindingCheckpoint, s.to, "the checkpoint of size %d is missing", s.to)
	}
}
