package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// segmentSoftLimit is the size in bytes at which a segment ends, so that neither
// side has to hold a long log in memory. It leaves room for one line more below
// maxBatch.
const segmentSoftLimit = 4 << 20

// Publish puts the lines that are not in the bucket yet under
//
//	PREFIX/entries/FROM-TO.jsonl  the lines FROM to TO-1, each with its newline
//	PREFIX/checkpoint/TO          the signed checkpoint of size TO
//
// with numbers of 16 digits; prefix has no slash at its end. It asks the bucket
// what is there, so it may be called again after any failure. Processes that
// publish the same folder wait for each other; anything else in the way of a key
// is compared, and ErrBroken where it differs, also where the bucket holds more
// lines than the folder: then the folder was put back to an older state.
//
// The order, and what a crash leaves after each step:
//
//  1. segment.next in the folder, durable: the bounds. A request whose answer was
//     lost can still arrive; with other bounds, its lines would be there twice.
//  2. the segment: its checkpoint is missing, and the next call makes it.
//  3. the checkpoint: the lines are published.
func (l *Ledger) Publish(ctx context.Context, store Store, prefix string) error {
	if err := l.publish(ctx, store, prefix); err != nil {
		return fmt.Errorf("publish ledger %s to %s: %w", string(l.dir), prefix, err)
	}
	return nil
}

func (l *Ledger) publish(ctx context.Context, store Store, prefix string) error {
	lock, err := l.dir.lock(ctx, sendingName, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // gives it back in any case
	now, err := l.snapshot(ctx)
	if err != nil {
		return err
	}
	there, err := listPublished(ctx, store, prefix)
	if err != nil {
		return err
	}
	var keys Report
	if there.check(&keys); !keys.Sound() {
		return fmt.Errorf("%w: in the bucket, %s", ErrBroken, keys.Findings[0])
	}
	end := there.end()
	if end > now.tree.size {
		return fmt.Errorf("%w: the bucket holds %d lines and the folder %d, it was put back to an older state", ErrBroken, end, now.tree.size)
	}
	p := publication{l: l, store: store, prefix: prefix, now: now, from: end}
	if end > 0 && !slices.Contains(there.checkpoints, end) {
		p.resume = true
		p.from = there.segments[len(there.segments)-1].from
		p.to = end
	}
	if err := p.prove(ctx); err != nil || p.from == now.tree.size {
		return err
	}
	if err := p.plan(); err != nil {
		return err
	}
	return l.eachLine(ctx, now, func(line []byte, so *tree) (bool, error) {
		if so.size <= p.from {
			return true, nil
		}
		p.body.Write(line)
		p.body.WriteByte('\n')
		if so.size == p.to || p.to == 0 && (so.size == now.tree.size || p.body.Len() >= segmentSoftLimit) {
			return true, p.send(ctx, so)
		}
		return true, nil
	})
}

// publication is one run of Publish.
type publication struct {
	l      *Ledger
	store  Store
	prefix string
	now    state // that is published

	from int64 // the first line of the segment in body
	to   int64 // where it must end, because it may be on its way; 0: anywhere
	body bytes.Buffer
	// resume says that the segment is in the bucket and lacks its checkpoint.
	resume bool
}

// prove compares all lines with the folder's checkpoint, and those before p.from
// with the bucket's: what goes under a lock can't be taken back.
func (p *publication) prove(ctx context.Context) error {
	var head Checkpoint
	by := p.l.keys.last()
	if p.from > 0 {
		key := CheckpointKey(p.prefix, p.from)
		signed, err := p.store.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("get %s: %w", key, err)
		}
		if head, by, err = p.l.keys.parse(signed); err != nil {
			return fmt.Errorf("%w: %s in the bucket: %w", ErrBroken, key, err)
		}
		if head.Size != p.from {
			return fmt.Errorf("%w: %s in the bucket is of size %d", ErrBroken, key, head.Size)
		}
	}
	return p.l.eachLine(ctx, p.now, func(_ []byte, so *tree) (bool, error) {
		if so.size != p.from {
			return true, nil
		}
		if so.checkpoint() != head {
			return false, fmt.Errorf("%w: the bucket holds %d other lines than the folder", ErrBroken, p.from)
		}
		if err := p.l.keys.permits(by, so); err != nil {
			return false, fmt.Errorf("%w: the last checkpoint in the bucket: %w", ErrBroken, err)
		}
		return true, nil
	})
}

// plan reads the bounds of a segment that may be on its way.
func (p *publication) plan() error {
	if p.resume {
		return nil
	}
	p.to = 0
	data, err := p.l.dir.read(segmentName)
	if err != nil {
		return err
	}
	var on segment
	if _, err := fmt.Sscanf(string(data), "%d-%d\n", &on.from, &on.to); err == nil && on.from == p.from && on.to > on.from && on.to <= p.now.tree.size {
		p.to = on.to
	}
	return nil
}

// finishWithin is how long a publication may still take that is told to end.
const finishWithin = 20 * time.Second

// send publishes one segment and its checkpoint. Who is told to end in between sends the
// checkpoint all the same: without it, the lines count for nothing where the folder is lost.
func (p *publication) send(ctx context.Context, so *tree) error {
	ctx, release := lingering(ctx, finishWithin)
	defer release()
	s := segment{p.from, so.size}
	if p.resume {
		if err := p.compare(ctx, s.key(p.prefix), p.body.Bytes()); err != nil {
			return err
		}
	} else {
		if err := p.keep(s); err != nil {
			return err
		}
		if err := p.create(ctx, s.key(p.prefix), p.body.Bytes()); err != nil {
			return err
		}
	}
	if err := p.certify(ctx, so); err != nil {
		return err
	}
	p.body.Reset()
	p.from, p.resume = s.to, false
	return p.plan()
}

// lingering is cancelled a while after its parent.
func lingering(parent context.Context, d time.Duration) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		select {
		case <-ctx.Done():
		case <-time.After(d):
			cancel()
		}
	})
	return ctx, func() { stop(); cancel() }
}

// certify publishes the checkpoint of a segment's end. At the end of the log it is
// the folder's own: behind a line that hands over, that is the word of the key that
// does. Another one of the same lines may have come there by an earlier request.
func (p *publication) certify(ctx context.Context, so *tree) (err error) {
	signed := p.now.note
	if so.size != p.now.tree.size {
		if signed, err = signCheckpoint(so.checkpoint(), p.l.key); err != nil {
			return err
		}
	}
	key := CheckpointKey(p.prefix, so.size)
	err = p.store.Create(ctx, key, signed)
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrExists) {
		return fmt.Errorf("create %s: %w", key, err)
	}
	there, err := p.store.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	c, by, err := p.l.keys.parse(there)
	if err == nil && c != so.checkpoint() {
		err = errors.New("it is of other lines")
	}
	if err == nil {
		err = p.l.keys.permits(by, so)
	}
	if err != nil {
		return fmt.Errorf("%w: %s in the bucket: %w", ErrBroken, key, err)
	}
	return nil
}

// keep writes down the bounds of what is about to be sent.
func (p *publication) keep(s segment) error {
	const unfinished = segmentName + ".new"
	if err := p.l.dir.write(unfinished, fmt.Appendf(nil, "%d-%d\n", s.from, s.to)); err != nil {
		return err
	}
	return p.l.dir.rename(unfinished, segmentName)
}

// create stores an object, or finds the same one under its key.
func (p *publication) create(ctx context.Context, key string, body []byte) error {
	err := p.store.Create(ctx, key, body)
	if errors.Is(err, ErrExists) {
		return p.compare(ctx, key, body)
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	return nil
}

func (p *publication) compare(ctx context.Context, key string, body []byte) error {
	there, err := p.store.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if !bytes.Equal(there, body) {
		return fmt.Errorf("%w: %s in the bucket holds %d bytes that are not those of this ledger", ErrBroken, key, len(there))
	}
	return nil
}
