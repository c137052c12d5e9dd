package storage_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// TestKilledServersKeepWhatTheyAcknowledged: kill -9 between an acknowledged
// object, an acknowledged part, and the rest of the upload.
func TestKilledServersKeepWhatTheyAcknowledged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"embedded", "minio"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servers[name](t)
			opened, cfg := server.Vault(t)
			v := &vault{T: t, Vault: opened, cfg: cfg, server: server, raw: server.Client()}
			small, large := []byte("footage"), random(partSize+17)
			before := v.create("s/a", small)
			u := v.begin("s/b")
			parts := v.upload(u, large[:partSize], 1)

			server.Kill()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err1 := storage.Open(ctx, cfg)
			_, err2 := v.Stat(ctx, before.Key, "")
			_, err3 := v.Create(ctx, "s/c", small, sha256.Sum256(small), v.RetainUntil())
			_, err4 := v.PutPart(ctx, u, 2, large[partSize:], crc64nvme.Checksum(large[partSize:]))
			_, err5 := v.SelfTest(ctx)
			for i, err := range []error{err1, err2, err3, err4, err5} {
				if !errors.Is(err, storage.ErrUnavailable) {
					t.Errorf("%d: a server that is down gives %v", i+1, err)
				}
			}

			server.Start(t)
			v.holds(before, small)
			kept, err := v.Kept(t.Context(), u)
			if err != nil || len(kept) != 1 || kept[1].ETag != parts[0].ETag {
				t.Fatalf("kept is %+v, %v; sent was %+v", kept, err, parts)
			}
			after, err := v.Complete(t.Context(), u, append(parts, v.upload(u, large, 2)...), int64(len(large)), crc64nvme.Checksum(large))
			if err != nil {
				t.Fatal(err)
			}
			v.holds(after, large)
			v.holds(v.create("s/c", small), small)
		})
	}
}

// TestLostAnswers: the store did what was asked and the answer never came. What
// is asked again must find its own object and make no second version.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	var losing atomic.Bool // set by the test, read by the proxy
	isWrite := func(r *http.Request) bool { return r.Method == http.MethodPut || r.Method == http.MethodPost }
	cut := liar{answer: func(r *http.Response) {
		if losing.Load() && isWrite(r.Request) {
			panic(http.ErrAbortHandler) // closes the connection instead
		}
	}}
	cfg := cut.front(t, server)
	opened, err := storage.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	small, large := []byte("footage"), random(partSize+17)
	v := &vault{T: t, Vault: opened, cfg: cfg, server: server, raw: server.Client()}
	u := v.begin("s/b")
	parts := v.upload(u, large, 1)
	until := v.RetainUntil()

	losing.Store(true)
	_, err = v.Create(t.Context(), "s/a", small, sha256.Sum256(small), until)
	if err != nil && !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a lost answer to a PUT gives %v", err)
	}
	_, err = v.Complete(t.Context(), u, parts, int64(len(large)), crc64nvme.Checksum(large))
	if err != nil && !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a lost answer to a completion gives %v", err)
	}
	if err := v.Abort(t.Context(), u); err != nil { // what a caller may do then; it must harm nothing
		t.Errorf("thrown away after completion: %v", err)
	}

	losing.Store(false)
	v.holds(v.create("s/a", small), small)
	o, err := v.Complete(t.Context(), u, parts, int64(len(large)), crc64nvme.Checksum(large))
	if err != nil {
		t.Fatal(err)
	}
	v.holds(o, large)
}

// TestBodiesThatEndEarly: half an object is an error, never a shorter object.
func TestBodiesThatEndEarly(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	body := random(1 << 20)
	half := liar{answer: func(r *http.Response) {
		if r.Request.Method == http.MethodGet && strings.HasSuffix(r.Request.URL.Path, "/s/a") {
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(r.Body, int64(len(body)/2)), r.Body}
		}
	}}
	cfg := half.front(t, server)
	opened, err := storage.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{T: t, Vault: opened, cfg: cfg, server: server, raw: server.Client()}
	o := v.create("s/a", body)
	if _, size, err := v.ReadBack(t.Context(), o.Key, o.VersionID, nil); !errors.Is(err, storage.ErrUnavailable) || size != int64(len(body)/2) {
		t.Errorf("half an object gives %d bytes and %v", size, err)
	}
}
