package ingest

import "context"

// bufferPool bounds what the station holds of footage in memory, over all
// recorders. A session can always go on with a single buffer, filling it and
// sending it away in turn, so that waiting for one never locks up.
type bufferPool struct {
	size   int
	places chan struct{} // one for each buffer that may exist
	free   chan []byte
}

func newBufferPool(memory, size int64) *bufferPool {
	n := max(2, int(memory/size))
	return &bufferPool{size: int(size), places: make(chan struct{}, n), free: make(chan []byte, n)}
}

func (p *bufferPool) get(ctx context.Context) ([]byte, error) {
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case b := <-p.free:
		return b, nil
	default:
		return make([]byte, p.size), nil
	}
}

func (p *bufferPool) put(b []byte) {
	p.free <- b[:p.size]
	<-p.places
}
