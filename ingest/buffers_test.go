package ingest

import (
	"context"
	"errors"
	"testing"
	"unsafe"
)

// The pool gives out no more buffers than fit its memory, each suited to be read
// into past the page cache, and the last that came back first.
func TestBuffersAreBoundedAlignedAndUsedAgain(t *testing.T) {
	p := newBufferPool(3<<20+5, 1<<20)
	p.enter()
	var all [][]byte
	for range 3 {
		b, err := p.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != 1<<20 || uintptr(unsafe.Pointer(&b[0]))%pageBytes != 0 {
			t.Errorf("%d bytes at %p", len(b), &b[0])
		}
		b[0], b[len(b)-1] = 1, 1
		all = append(all, b)
	}
	ended, end := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	end(gone)
	if _, err := p.get(ended); !errors.Is(err, gone) {
		t.Errorf("a fourth: %v", err)
	}
	p.put(all[0])
	p.put(all[2][:10])
	p.put(all[1])
	for _, want := range [][]byte{all[1], all[2], all[0]} {
		b, err := p.get(t.Context())
		if err != nil || len(b) != 1<<20 || &b[0] != &want[0] {
			t.Errorf("another buffer, or %d bytes of it, %v", len(b), err)
		}
	}
	for _, b := range all {
		p.put(b)
	}
	if err := p.leave(); err != nil {
		t.Error(err)
	}
}

// Memory goes back to the system with the last session and not before, small
// buffers too; after that the pool begins anew.
func TestBuffersGoBackWithTheLastSession(t *testing.T) {
	p := newBufferPool(4<<20, 1<<20)
	for range 2 {
		p.enter()
		p.enter()
		for _, pool := range []*bufferPool{p, p.small} {
			b, err := pool.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)-1] = 1
			pool.put(b)
		}
		if err := p.leave(); err != nil || len(p.free) != 1 || len(p.small.free) != 1 {
			t.Errorf("one session is left: %d and %d buffers, %v", len(p.free), len(p.small.free), err)
		}
		if err := p.leave(); err != nil || len(p.free) != 0 || len(p.small.free) != 0 {
			t.Errorf("no session is left: %d and %d buffers, %v", len(p.free), len(p.small.free), err)
		}
	}
	if tiny := newBufferPool(1, 1<<10); tiny.small != nil || cap(tiny.places) != 2 {
		t.Errorf("a session could not go on: %+v", tiny)
	}
}
