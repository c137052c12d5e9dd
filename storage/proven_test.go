package storage_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// counting counts the requests for objects by their method.
type counting struct {
	mu sync.Mutex
	by map[string]int
}

func (c *counting) note(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]int{}
	}
	if strings.Count(r.URL.Path, "/") > 1 {
		c.by[r.Method]++
	}
}

// What GET brings is as good as HEAD and read-back in turn: the same object, the
// same lock, every byte.
func TestASmallObjectIsProvenInTwoRequests(t *testing.T) {
	for name, server := range map[string]func(testing.TB) *storetest.Server{
		"embedded": storetest.Embedded,
		"minio":    func(t testing.TB) *storetest.Server { return storetest.MinIO(t, false) },
	} {
		t.Run(name, func(t *testing.T) {
			var seen counting
			cfg := liar{request: seen.note}.front(t, server(t))
			v, err := storage.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			clear(seen.by)
			body := []byte("footage")
			until := v.RetainUntil()
			o, doubt, err := v.CreateProven(t.Context(), "S/a.mp4", body, sha256.Sum256(body), until)
			if err != nil || doubt != nil {
				t.Fatalf("%v; doubt: %v", err, doubt)
			}
			if want := map[string]int{"PUT": 1, "GET": 1}; !maps.Equal(seen.by, want) {
				t.Errorf("requests: %v", seen.by)
			}
			head, err := v.Stat(t.Context(), "S/a.mp4", o.VersionID)
			if err != nil || head != o {
				t.Errorf("HEAD shows %+v, %v; GET showed %+v", head, err, o)
			}
			// The same again, as after a lost answer: found, and not called proven.
			again, doubt, err := v.CreateProven(t.Context(), "S/a.mp4", body, sha256.Sum256(body), until)
			if err != nil || doubt == nil || again.VersionID != o.VersionID {
				t.Errorf("again: %+v, doubt %v, %v", again, doubt, err)
			}
			other := []byte("other footage")
			if _, _, err := v.CreateProven(t.Context(), "S/a.mp4", other, sha256.Sum256(other), until); !errors.Is(err, storage.ErrTaken) {
				t.Errorf("other content at the key: %v", err)
			}
		})
	}
}

// Nothing that GET leaves open, or shows wrong, is called proven.
func TestWhatGetDoesNotShowIsDoubted(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(*http.Response)
		corrupt bool
	}{
		"other bytes": {func(r *http.Response) { r.Body = io.NopCloser(strings.NewReader("f00tage")) }, true},
		"fewer bytes": {func(r *http.Response) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("foot")), 4
			r.Header.Set("Content-Length", "4")
		}, true},
		"no lock":       {func(r *http.Response) { r.Header.Del("X-Amz-Object-Lock-Mode") }, false},
		"no checksum":   {func(r *http.Response) { r.Header.Del("X-Amz-Checksum-Sha256") }, true},
		"other version": {func(r *http.Response) { r.Header.Set("X-Amz-Version-Id", "another") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := liar{answer: func(r *http.Response) {
				if r.Request.Method == http.MethodGet && strings.HasSuffix(r.Request.URL.Path, "a.mp4") {
					c.spoil(r)
				}
			}}.front(t, storetest.Embedded(t))
			v, err := storage.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			body := []byte("footage")
			o, doubt, err := v.CreateProven(t.Context(), "S/a.mp4", body, sha256.Sum256(body), v.RetainUntil())
			if err != nil || o.Size != 7 || o.RetainUntil.IsZero() {
				t.Errorf("HEAD confirms it: %+v, %v", o, err)
			}
			if doubt == nil || errors.Is(doubt, storage.ErrCorrupt) != c.corrupt {
				t.Errorf("the doubt is %v", doubt)
			}
		})
	}
}

// A server may refuse a body before it has read it. The buffer is the caller's
// again when the call returns, whatever was still on its way.
func TestABufferIsTheCallersAgainAfterAnEarlyRefusal(t *testing.T) {
	cfg := liar{instead: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !r.URL.Query().Has("partNumber") {
			return false
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>`)
		return true
	}}.front(t, storetest.Embedded(t))
	v, err := storage.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	u, err := v.Begin(t.Context(), "S/b.mp4", v.RetainUntil())
	if err != nil {
		t.Fatal(err)
	}
	buf := bytes.Repeat([]byte("x"), 16<<20)
	for i := range 5 {
		if _, err := v.PutPart(t.Context(), u, 1, buf, 0); err == nil {
			t.Fatal("the refusal was not told")
		}
		for at := range buf { // the race detector sees who still reads
			buf[at] = byte(i)
		}
	}
}

// Every byte of a body arrives as it lies in memory, many bodies at once and over
// connections that are used again.
func TestLentBuffersArriveWhole(t *testing.T) {
	v, _ := storetest.Embedded(t).Vault(t)
	var all sync.WaitGroup
	for n, size := range []int{1, 4096, 32 << 10, 64 << 10, 600000, 1 << 20, 3<<20 + 1, 8 << 20} {
		all.Go(func() {
			for round := range 3 {
				body := bytes.Repeat([]byte{byte(n), byte(round), 7}, size/3+1)[:size]
				sent := 0
				ctx := storage.WithSent(t.Context(), func(n int) { sent += n })
				key := "S/" + strings.Repeat("k", n+1) + strings.Repeat("r", round)
				// The store refuses other bytes than those of the sum.
				if _, err := v.Create(ctx, key, body, sha256.Sum256(body), v.RetainUntil()); err != nil {
					t.Error(err)
				}
				if sent != size {
					t.Errorf("%d bytes were told sent, of %d", sent, size)
				}
			}
		})
	}
	all.Wait()
}
