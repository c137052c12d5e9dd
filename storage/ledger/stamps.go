package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	stampFolder = "/timestamp/"
	stampSuffix = ".tsr"
)

func stampKey(prefix string, size int64) string {
	return fmt.Sprintf("%s%s%016d%s", prefix, stampFolder, size, stampSuffix)
}

// StampLast has the last published checkpoint stamped by somebody who is trusted with
// the time, and puts the stamp beside it:
//
//	PREFIX/timestamp/SIZE.tsr
//
// stamp gets the bytes of the checkpoint as they are in the bucket, and gives what is
// to be stored. Whoever holds a stamp can tell that all lines up to it were there at
// its time; so older checkpoints need none. It gives the size of the checkpoint, 0
// where none is published, and whether it was stamped now: it may have a stamp
// already, also from a call whose answer was lost.
func (l *Ledger) StampLast(ctx context.Context, store Store, prefix string, stamp func(ctx context.Context, signed []byte) ([]byte, error)) (size int64, stamped bool, err error) {
	size, stamped, err = l.stampLast(ctx, store, prefix, stamp)
	if err != nil {
		return size, false, fmt.Errorf("stamp the last checkpoint in %s: %w", prefix, err)
	}
	return size, stamped, nil
}

func (l *Ledger) stampLast(ctx context.Context, store Store, prefix string, stamp func(context.Context, []byte) ([]byte, error)) (size int64, stamped bool, err error) {
	keys, err := store.List(ctx, prefix+checkpointFolder)
	if err != nil {
		return 0, false, fmt.Errorf("list %s: %w", prefix+checkpointFolder, err)
	}
	var there published
	for _, key := range keys {
		there.add(key, prefix)
	}
	if len(there.checkpoints) == 0 {
		return 0, false, nil
	}
	size = slices.Max(there.checkpoints)
	key := stampKey(prefix, size)
	if keys, err = store.List(ctx, key); err != nil {
		return size, false, fmt.Errorf("list %s: %w", key, err)
	}
	if slices.Contains(keys, key) {
		return size, false, nil
	}
	signed, err := store.Get(ctx, CheckpointKey(prefix, size))
	if err != nil {
		return size, false, fmt.Errorf("get %s: %w", CheckpointKey(prefix, size), err)
	}
	// Nobody else's checkpoint is made older than it is.
	if c, err := ParseCheckpoint(signed, l.key.PublicKey(), l.key.Name()); err != nil || c.Size != size {
		return size, false, errors.Join(fmt.Errorf("%w: %s in the bucket is not this ledger's of that size", ErrBroken, CheckpointKey(prefix, size)), err)
	}
	body, err := stamp(ctx, signed)
	if err != nil {
		return size, false, err
	}
	if err := store.Create(ctx, key, body); err != nil && !errors.Is(err, ErrExists) {
		return size, false, fmt.Errorf("create %s: %w", key, err)
	}
	return size, true, nil
}

// Stamped is a checkpoint with a stamp that holds.
type Stamped struct {
	Size int64
	Time time.Time // as the stamp says
}

// Stamps is what VerifyStamps has seen.
type Stamps struct {
	Held     int
	Last     *Stamped // the largest that holds; nil: none does
	Findings []Finding
	Omitted  int // findings that were left out as too many
}

// VerifyStamps reads the stamps in a bucket and has each compared, by check, with the
// bytes of its checkpoint there; whether those are right is for VerifyPublished. check
// gives the time that the stamp says.
func VerifyStamps(ctx context.Context, store Store, prefix string, check func(stamp, signed []byte) (time.Time, error)) (*Stamps, error) {
	keys, err := store.List(ctx, prefix+stampFolder)
	if err != nil {
		return nil, fmt.Errorf("verify stamps: list %s: %w", prefix+stampFolder, err)
	}
	slices.Sort(keys)
	// Listed behind the stamps: a checkpoint comes before its stamp.
	checkpoints, err := store.List(ctx, prefix+checkpointFolder)
	if err != nil {
		return nil, fmt.Errorf("verify stamps: list %s: %w", prefix+checkpointFolder, err)
	}
	slices.Sort(checkpoints)
	var report Report
	var seen Stamps
	for _, key := range slices.Compact(keys) {
		size := number(strings.TrimSuffix(strings.TrimPrefix(key, prefix+stampFolder), stampSuffix))
		if size <= 0 || stampKey(prefix, size) != key {
			report.find(FindingForeign, noIndex, "%q is no stamp", key)
			continue
		}
		of := CheckpointKey(prefix, size)
		if _, there := slices.BinarySearch(checkpoints, of); !there {
			report.find(FindingStamp, noIndex, "%s is there, and %s, which was stamped, is not", key, of)
			continue
		}
		stamp, err := store.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("verify stamps: get %s: %w", key, err)
		}
		signed, err := store.Get(ctx, of)
		if err != nil {
			return nil, fmt.Errorf("verify stamps: get %s: %w", of, err)
		}
		at, err := check(stamp, signed)
		if err != nil {
			report.find(FindingStamp, noIndex, "%s: %v", key, err)
			continue
		}
		seen.Held++
		seen.Last = &Stamped{size, at}
	}
	seen.Findings, seen.Omitted = report.Findings, report.Omitted
	return &seen, nil
}
