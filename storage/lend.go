package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
)

// loan is a caller's buffer, lent to a request as its body. net/http may go on
// reading a body after the answer has come, when that is an early refusal; the
// buffer must not be filled anew under it.
type loan struct {
	mu    sync.Mutex
	body  *bytes.Reader // guarded by mu; nil when it was taken back
	data  []byte        // what body reads
	turns int           // guarded by mu; how often it was begun anew
}

var errTakenBack = errors.New("the request has ended")

func lend(data []byte) *loan { return &loan{body: bytes.NewReader(data), data: data} }

// takeBack returns when nothing reads the buffer and nothing will.
func (l *loan) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.body, l.data = nil, nil
}

func (l *loan) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.body == nil {
		return 0, errTakenBack
	}
	return l.body.Read(p)
}

// Seek lets a request be sent again.
func (l *loan) Seek(offset int64, whence int) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.body == nil {
		return 0, errTakenBack
	}
	l.turns++
	return l.body.Seek(offset, whence)
}

// writeBytes goes to a connection at once. Between two writes a buffer can be
// taken back, and a watcher is told.
const writeBytes = 512 << 10

// writeTo sends what a request has not read yet of the buffer, without a copy. It
// does not begin, and reports false, unless that is exactly what r would give.
func (l *loan) writeTo(w io.Writer, r *io.LimitedReader, sent func(int)) (n int64, begun bool, err error) {
	l.mu.Lock()
	turn := l.turns
	begun = l.body != nil && r.N > 0 && int64(l.body.Len()) == r.N
	l.mu.Unlock()
	for begun && r.N > 0 && err == nil {
		var now int
		now, err = l.writeSome(w, turn)
		n += int64(now)
		r.N -= int64(now)
		if sent != nil {
			sent(now)
		}
	}
	return n, begun, err
}

// writeSome holds the lock while it writes: takeBack waits for that, as for a
// Read. A request that has ended closes its connection, and so ends the write.
func (l *loan) writeSome(w io.Writer, turn int) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.body == nil || l.turns != turn {
		return 0, errTakenBack
	}
	at := len(l.data) - l.body.Len()
	n, err := w.Write(l.data[at:min(at+writeBytes, len(l.data))])
	if _, seekErr := l.body.Seek(int64(n), io.SeekCurrent); seekErr != nil {
		return n, errors.Join(err, seekErr)
	}
	return n, err
}

type loanKey struct{}

// within lets the connection that a request gets find the buffer behind its body,
// which net/http and the client library wrap.
func (l *loan) within(ctx context.Context) context.Context {
	return context.WithValue(ctx, loanKey{}, l)
}
