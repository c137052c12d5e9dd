package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/bodyworn/ingestd/storage/ledger"
)

var errInjected = errors.New("injected")

// bucket is an honest store: a key is given once, and listing sees all that is
// there. It fails on demand, before or after it has done what it was asked to.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	late    map[string][]byte // requests that arrive when arrive is called
	calls   int
	failAt  int // the call that fails, counted from 1; 0: none
	how     string
}

// The ways in which a call fails. For Get and List they are the same.
const (
	failedNotStored = "failed and not stored"
	failedStored    = "failed but stored"
	failedLate      = "failed and stored later"
)

func newBucket() *bucket {
	return &bucket{objects: map[string][]byte{}, late: map[string][]byte{}}
}

func (b *bucket) Create(_ context.Context, key string, body []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	fails := b.calls == b.failAt
	if fails && b.how == failedNotStored {
		return errInjected
	}
	if fails && b.how == failedLate {
		b.late[key] = bytes.Clone(body)
		return errInjected
	}
	if _, taken := b.objects[key]; taken {
		return fmt.Errorf("create %s: %w", key, ledger.ErrExists)
	}
	b.objects[key] = bytes.Clone(body)
	if fails {
		return errInjected
	}
	return nil
}

func (b *bucket) arrive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, body := range b.late {
		if _, taken := b.objects[key]; !taken {
			b.objects[key] = body
		}
	}
	clear(b.late)
}

func (b *bucket) Get(_ context.Context, key string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	body, there := b.objects[key]
	if b.calls == b.failAt {
		return nil, errInjected
	}
	if !there {
		return nil, errors.New("no such key: " + key)
	}
	return bytes.Clone(body), nil
}

func (b *bucket) List(_ context.Context, prefix string) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if b.calls == b.failAt {
		return nil, errInjected
	}
	var keys []string
	for key := range b.objects { // in no order, as the contract allows
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func (b *bucket) clone() *bucket {
	b.mu.Lock()
	defer b.mu.Unlock()
	other := newBucket()
	other.objects = maps.Clone(b.objects)
	return other
}

// meddled is a bucket with somebody who acts after a number of listings.
type meddled struct {
	*bucket
	listings int
	act      func()
}

func (m *meddled) List(ctx context.Context, prefix string) ([]string, error) {
	keys, err := m.bucket.List(ctx, prefix)
	if m.listings--; m.listings == 0 {
		m.act()
	}
	return keys, err
}
