package storage

import (
	"bytes"
	"errors"
	"sync"
)

// loan is a caller's buffer, lent to a request as its body. net/http may go on
// reading a body after the answer has come, when that is an early refusal; the
// buffer must not be filled anew under it.
type loan struct {
	mu   sync.Mutex
	body *bytes.Reader // guarded by mu; nil when it was taken back
}

var errTakenBack = errors.New("the request has ended")

func lend(data []byte) *loan { return &loan{body: bytes.NewReader(data)} }

// takeBack returns when nothing reads the buffer and nothing will.
func (l *loan) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.body = nil
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
	return l.body.Seek(offset, whence)
}
