package ptp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/bodyworn/ingestd/device"
)

const (
	// headBytes is what is read first of a larger file, with GetPartialObject: a look
	// at the beginning alone then needs no cancelling, which recorders do badly.
	headBytes = 1 << 20
	// chunkBytes is read at once behind an offset.
	chunkBytes = 4 << 20
	// drainBytes is what is rather taken to its end than cancelled.
	drainBytes = 4 << 20
)

// Open implements device.Recorder. The context is for all reading of the file: when
// it ends, the transfer is cancelled and the recorder can be asked other things.
//
// A file is streamed with GetObject, which every recorder has and which is fastest.
// Of one larger than 1 MiB the first MiB is read with GetPartialObject before, where
// there is one, and compared with the stream. Behind an offset it is read with
// GetPartialObject in pieces of 4 MiB; without that operation the bytes before the
// offset are read and thrown away. Memory is bounded by one such piece.
func (r *Recorder) Open(ctx context.Context, e device.Entry, offset int64) (device.File, error) {
	if e.Kind != device.KindFile || e.Err != nil || offset < 0 {
		return nil, fmt.Errorf("open %q at byte %d: it is no file that can be read", e.Path, offset)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.listed[e.Path]
	if o == nil || o.isFolder() {
		return nil, fmt.Errorf("open %q: it is not in the inventory of this docking", e.Path)
	}
	return &file{recorder: r, ctx: ctx, path: e.Path, object: o, size: e.Size, pos: offset}, nil
}

// file is read from pos on. At most one of stream and chunk holds bytes to hand out.
type file struct {
	recorder *Recorder
	ctx      context.Context
	path     string
	object   *object
	size     int64 // as listed
	pos      int64

	stream *transaction // GetObject under way; the recorder's active file is this one
	rest   []byte       // of the stream, in the link's buffer
	chunk  []byte       // read with GetPartialObject
	head   []byte       // the chunk a stream from the beginning must repeat
	err    error        // stays
}

// Read implements io.Reader.
func (f *file) Read(p []byte) (int, error) {
	f.recorder.mu.Lock()
	defer f.recorder.mu.Unlock()
	for len(p) > 0 {
		if n := copy(p, f.rest); n > 0 {
			f.rest = f.rest[n:]
			f.pos += int64(n)
			return n, nil
		}
		if n := copy(p, f.chunk); n > 0 {
			f.chunk = f.chunk[n:]
			f.pos += int64(n)
			return n, nil
		}
		if f.err != nil {
			return 0, f.err
		}
		if err := f.more(); errors.Is(err, io.EOF) {
			f.err = io.EOF
		} else if err != nil {
			f.err = fmt.Errorf("read %q at byte %d: %w", f.path, f.pos, err)
		}
	}
	return 0, nil
}

// more gets the next bytes into rest or chunk.
func (f *file) more() (err error) {
	r := f.recorder
	if f.stream != nil {
		f.rest, err = f.advance()
		return err
	}
	if err := r.ready(); err != nil {
		return err
	}
	switch canPart := f.canPart(); {
	case canPart && f.pos == 0 && f.size > headBytes:
		if err := f.part(headBytes); err != nil {
			return err
		}
		f.head = f.chunk
	case f.head != nil && f.pos == int64(len(f.head)):
		return f.streamFrom(f.pos)
	case canPart && f.pos > 0 && f.pos < f.size:
		return f.part(min(chunkBytes, f.size-f.pos))
	case canPart && f.pos > 0:
		return io.EOF
	default:
		return f.streamFrom(f.pos)
	}
	return nil
}

func (f *file) canPart() bool {
	switch f.recorder.partial {
	case OpGetPartialObject64:
		return true
	case OpGetPartialObject:
		return f.size <= math.MaxUint32
	}
	return false
}

// part reads n bytes at pos in one transaction of its own.
func (f *file) part(n int64) error {
	r := f.recorder
	if packet := int64(r.link.packet); f.pos+n == f.size && (headerBytes+n)%packet == 0 && n > 1 {
		// Some Samsung recorders hang when the data reach the end of the file and
		// fill their last packet (libmtp pull request 9).
		n--
	}
	op, params := r.partial, []uint32{f.object.handle, uint32(f.pos), uint32(n)}
	if op == OpGetPartialObject64 {
		params = []uint32{f.object.handle, uint32(f.pos), uint32(f.pos >> 32), uint32(n)}
	}
	data, resp, err := r.ask(f.ctx, op, params...)
	if refusedWith(err, RespNotSupported) {
		r.partial = 0 // it is listed and is not there
		return nil
	}
	switch {
	case err != nil:
		return err
	case int64(len(data)) > n:
		return fmt.Errorf("%s: %w: %d bytes were asked for, %d came", opName(op), ErrMalformed, n, len(data))
	case len(resp.params) > 0 && resp.params[0] != 0 && int64(resp.params[0]) != int64(len(data)):
		return fmt.Errorf("%s: %w: it speaks of %d bytes and gave %d", opName(op), ErrMalformed, resp.params[0], len(data))
	case len(data) == 0:
		return fmt.Errorf("%s: nothing came at byte %d of %d: %w", opName(op), f.pos, f.size, io.ErrUnexpectedEOF)
	}
	f.chunk = data
	return nil
}

// streamFrom starts GetObject and goes to byte skip. What was handed out before by
// other means must be what the stream begins with.
func (f *file) streamFrom(skip int64) error {
	r := f.recorder
	t, err := r.begin(f.ctx, OpGetObject, f.object.handle)
	if err != nil {
		return err
	}
	t.expect(f.size)
	f.stream, r.active = t, f
	head := f.head
	for passed := int64(0); passed < skip; {
		piece, err := f.advance()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it ends at byte %d now: %w", passed, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		n := min(int64(len(piece)), skip-passed)
		if len(head) > 0 {
			if !bytes.Equal(head[:n], piece[:n]) {
				r.partial = 0 // it can't be relied on
				return errors.Join(errors.New("its first bytes were others when they were read alone"), f.cut())
			}
			head = head[n:]
		}
		passed += n
		f.rest = piece[n:]
	}
	f.head = nil
	return nil
}

// advance gives the next piece of the stream; io.EOF when the recorder has confirmed
// that it is whole.
func (f *file) advance() ([]byte, error) {
	piece, err := f.stream.next(f.ctx)
	if err == nil && !f.stream.ended {
		return piece, nil
	}
	f.stream, f.recorder.active = nil, nil
	if err == nil {
		err = io.EOF
	}
	return nil, err
}

// cut ends the stream, so that something else can be asked. Reading goes on later at
// pos. The little that may be left is taken, more is cancelled.
func (f *file) cut() error {
	t := f.stream
	f.stream, f.rest, f.head, f.recorder.active = nil, nil, nil, nil
	if t == nil || t.ended {
		return nil
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(f.ctx), f.recorder.cfg.Patience)
	defer stop()
	if t.left >= 0 && t.left <= drainBytes && f.ctx.Err() == nil {
		for {
			if _, err := t.next(ctx); err != nil || t.ended {
				return f.recorder.link.dead // of the file's own errors nobody wants to know any more
			}
		}
	}
	return f.recorder.link.cancel(t)
}

// Stat implements device.File by asking for the object again. It may be called at any
// time; a stream that it cuts off goes on at the same byte.
func (f *file) Stat() (int64, time.Time, error) {
	r := f.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	now := &object{handle: f.object.handle}
	err := r.examine(f.ctx, now)
	if err == nil {
		err = now.err
	}
	if err == nil && (now.isFolder() || now.info.Name != f.object.info.Name) {
		err = errors.New("another object has its handle now")
	}
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("look at %q again: %w", f.path, err)
	}
	return now.size, now.modTime, nil
}

// Close implements io.Closer. A stream that was not read to its end is cancelled.
func (f *file) Close() error {
	f.recorder.mu.Lock()
	defer f.recorder.mu.Unlock()
	if errors.Is(f.err, os.ErrClosed) {
		return nil
	}
	f.chunk, f.err = nil, fmt.Errorf("read %q: %w", f.path, os.ErrClosed)
	if err := f.cut(); err != nil {
		return fmt.Errorf("end reading %q: %w", f.path, err)
	}
	return nil
}
