package storage

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// lender sends lent buffers as they lie in memory. Left to itself net/http copies
// a body through a small buffer of its own, 32 KiB for each call of the system.
type lender struct{ next http.RoundTripper }

// lendDirectly makes a transport without encryption ready for a lender; over TLS
// every byte has to be copied anyway.
func lendDirectly(t *http.Transport) {
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &lendingConn{Conn: conn}, nil
	}
}

// RoundTrip tells the connection that a request gets which buffer it will send.
func (l *lender) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return l.next.RoundTrip(r)
	}
	body, _ := r.Context().Value(loanKey{}).(*loan)
	sent, _ := r.Context().Value(sentKey{}).(func(int))
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if conn, ok := got.Conn.(*lendingConn); ok {
			conn.next.Store(&delivery{body, sent})
		}
	}}
	return l.next.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// delivery is what a connection is to send: a buffer, or nil for an ordinary body.
type delivery struct {
	body *loan
	sent func(int) // nil: nobody watches
}

type lendingConn struct {
	net.Conn
	// next is for the request that has the connection; one has it at a time.
	next atomic.Pointer[delivery]
}

// ReadFrom is what net/http calls with a body. It gives a lent buffer to the
// system as it is; anything else, and a body of another length than is left of the
// buffer, goes the ordinary way.
func (c *lendingConn) ReadFrom(r io.Reader) (int64, error) {
	if d := c.next.Swap(nil); d != nil && d.body != nil {
		if rest, ok := r.(*io.LimitedReader); ok {
			if n, begun, err := d.body.writeTo(c.Conn, rest, d.sent); begun {
				return n, err
			}
		}
	}
	buf := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buf)
	// Only as a Writer: a ReaderFrom below would be asked to do this again.
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, buf[:])
}

const copyBytes = 128 << 10

// copyBuffers are for bytes on their way to and from a connection.
var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}
