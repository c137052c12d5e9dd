package ptp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/bodyworn/ingestd/device"
)

// object is one file or folder of the inventory.
type object struct {
	handle uint32
	info   ObjectInfo
	// foundIn is the folder whose list it was in; RootObjects: the root.
	foundIn uint32
	size    int64
	modTime time.Time
	err     error
}

func (o *object) isFolder() bool { return o.info.Format == FormatAssociation }

// errTooLarge is of a size that the recorder can't express.
var errTooLarge = errors.New("the file has 4 GiB or more, and the recorder does not tell how much: copy it from the card in a reader")

// examine asks for one object. The error is one that ends the inventory; what
// concerns the object alone is in its err.
func (r *Recorder) examine(ctx context.Context, o *object) error {
	data, _, err := r.ask(ctx, OpGetObjectInfo, o.handle)
	if err == nil {
		o.info, err = ParseObjectInfo(data)
	}
	if err == nil && !o.isFolder() {
		o.size, err = r.size(ctx, o)
	}
	if err == nil {
		o.modTime, err = r.modTime(ctx, o)
	}
	if err != nil {
		o.err = fmt.Errorf("object %08x: %w", o.handle, err)
	}
	return r.fatal(ctx, err)
}

// fatal gives the error again if it concerns the recorder as a whole.
func (r *Recorder) fatal(ctx context.Context, err error) error {
	if err != nil && (r.link.dead != nil || ctx.Err() != nil || errors.Is(err, device.ErrRemoved)) {
		return err
	}
	return nil
}

// size is that of ObjectInfo, which has 32 bits, only where there is no other: there
// are recorders that give a large size there modulo 4 GiB, which would be a file cut
// off without a word.
func (r *Recorder) size(ctx context.Context, o *object) (int64, error) {
	size, known, err := r.size64(ctx, o)
	switch {
	case err != nil:
		return 0, err
	case known && o.info.Size != SizeUnknown && uint32(size) != o.info.Size:
		return 0, fmt.Errorf("%w: its size is %d bytes in ObjectInfo and %d as ObjectSize", ErrMalformed, o.info.Size, size)
	case known:
		return size, nil
	case o.info.Size == SizeUnknown:
		return 0, errTooLarge
	}
	return int64(o.info.Size), nil
}

// size64 asks for the property ObjectSize of MTP. The error ends the inventory.
func (r *Recorder) size64(ctx context.Context, o *object) (size int64, known bool, err error) {
	if !r.tellsProperties() {
		return 0, false, nil
	}
	r.sizesAsked++
	data, _, err := r.ask(ctx, OpGetObjectPropValue, o.handle, uint32(ObjectPropSize))
	if err == nil {
		d := decoder{left: data}
		if size := d.u64(); !d.short && size <= math.MaxInt64 {
			return int64(size), true, nil
		}
	}
	r.sizesFailed++
	return 0, false, r.fatal(ctx, err)
}

// tellsProperties is false also for a recorder that lists the operation and has
// never answered it.
func (r *Recorder) tellsProperties() bool {
	return r.info.Has(OpGetObjectPropValue) && (r.sizesFailed < 8 || r.sizesFailed < r.sizesAsked)
}

// modTime is by the recorder's clock. Zero where nothing that is a time is told.
func (r *Recorder) modTime(ctx context.Context, o *object) (time.Time, error) {
	if t := timeOrZero(o.info.Modified, r.cfg.Zone); !t.IsZero() || o.isFolder() || !r.tellsProperties() {
		return t, nil
	}
	data, _, err := r.ask(ctx, OpGetObjectPropValue, o.handle, uint32(ObjectPropModified))
	if err != nil {
		return time.Time{}, r.fatal(ctx, err)
	}
	d := decoder{left: data}
	return timeOrZero(d.text(), r.cfg.Zone), nil
}

func timeOrZero(s string, zone *time.Location) time.Time {
	t, err := ParseTime(s, zone)
	if err != nil {
		return time.Time{}
	}
	return t.Time
}
