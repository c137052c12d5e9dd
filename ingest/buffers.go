package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// bufferPool bounds what the station holds of footage in memory, over all
// recorders. A session can always go on with a single buffer, filling it and
// sending it away in turn, so that waiting for one never locks up.
//
// The memory is taken from the system when it is needed, and given back when the
// last session has left.
type bufferPool struct {
	size   int
	small  *bufferPool   // for small files; nil where all buffers are small
	places chan struct{} // one for each buffer that may exist

	mu    sync.Mutex
	free  [][]byte // guarded by mu; the last that came back goes out first, it is the warmest
	users int      // guarded by mu; sessions that copy
}

const (
	// smallBytes is the size up to which a file is small: what it costs is requests,
	// not bytes, and it is with many at once that those go on at a disk's speed.
	smallBytes = 256 << 10
	// smallPlaces bounds the small buffers of the station, to 16 MiB.
	smallPlaces = 64
)

func newBufferPool(memory, size int64) *bufferPool {
	p := &bufferPool{size: int(size), places: make(chan struct{}, max(2, int(memory/size)))}
	if size > smallBytes {
		p.small = &bufferPool{size: smallBytes, places: make(chan struct{}, smallPlaces)}
	}
	return p
}

// enter and leave say that a session begins and ends to copy.
func (p *bufferPool) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
}

func (p *bufferPool) leave() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users--; p.users > 0 {
		return nil
	}
	if p.small == nil {
		return p.giveBackAll()
	}
	p.small.mu.Lock()
	defer p.small.mu.Unlock()
	return errors.Join(p.giveBackAll(), p.small.giveBackAll())
}

// giveBackAll is called with mu held.
func (p *bufferPool) giveBackAll() error {
	idle := p.free
	p.free = nil
	for _, b := range idle {
		if err := freeMemory(b); err != nil {
			return fmt.Errorf("give %d bytes of buffer back to the system: %w", len(b), err)
		}
	}
	return nil
}

func (p *bufferPool) get(ctx context.Context) ([]byte, error) {
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b, nil
	}
	b, err := takeMemory(p.size)
	if err != nil {
		<-p.places
		return nil, fmt.Errorf("get a buffer of %d bytes from the system: %w", p.size, err)
	}
	return b, nil
}

func (p *bufferPool) put(b []byte) {
	p.mu.Lock()
	p.free = append(p.free, b[:p.size])
	p.mu.Unlock()
	<-p.places
}
