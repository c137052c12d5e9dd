package storage_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// TestCreateBelievesOnlyWhatIsShown: a store may begin to lie after its
// self-test, by an update or a proxy. Nothing counts as stored that HEAD does not
// show whole and locked.
func TestCreateBelievesOnlyWhatIsShown(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	onHead := func(change func(http.Header)) liar {
		return liar{answer: func(r *http.Response) {
			if r.Request.Method == http.MethodHead && strings.Contains(r.Request.URL.Path, "/s/") {
				change(r.Header)
			}
		}}
	}
	for name, c := range map[string]struct {
		liar liar
		want error // nil: it succeeds
	}{
		"honest":         {liar{}, nil},
		"shows no lock":  {onHead(func(h http.Header) { h.Del("X-Amz-Object-Lock-Mode") }), storage.ErrNoLock},
		"is GOVERNANCE":  {onHead(func(h http.Header) { h.Set("X-Amz-Object-Lock-Mode", "GOVERNANCE") }), storage.ErrNoLock},
		"ends early":     {onHead(shorterLock), storage.ErrNoLock},
		"other version":  {onHead(func(h http.Header) { h.Set("X-Amz-Version-Id", "another") }), storage.ErrNoLock},
		"no version":     {liar{answer: func(r *http.Response) { r.Header.Del("X-Amz-Version-Id") }}, storage.ErrNoLock},
		"other size":     {onHead(func(h http.Header) { h.Set("Content-Length", "3") }), storage.ErrCorrupt},
		"other checksum": {onHead(otherChecksum), storage.ErrCorrupt},
		"no checksum": {onHead(func(h http.Header) {
			h.Del("X-Amz-Checksum-Sha256")
			h.Del("X-Amz-Checksum-Crc64nvme")
		}), storage.ErrCorrupt},
		"is gone": {liar{instead: func(w http.ResponseWriter, r *http.Request) bool {
			gone := r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/s/")
			if gone {
				w.WriteHeader(http.StatusNotFound)
			}
			return gone
		}}, storage.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := storage.Open(t.Context(), c.liar.front(t, server))
			if err != nil {
				t.Fatal(err)
			}
			body := []byte("footage")
			if _, err := v.Create(t.Context(), "s/a", body, sha256.Sum256(body), v.RetainUntil()); !errors.Is(err, c.want) {
				t.Errorf("Create gives %v, want %v", err, c.want)
			}
			u, err1 := v.Begin(t.Context(), "s/b", v.RetainUntil())
			part, err2 := v.PutPart(t.Context(), u, 1, body, crc64nvme.Checksum(body))
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			if _, err := v.Complete(t.Context(), u, []storage.Part{part}, int64(len(body)), crc64nvme.Checksum(body)); !errors.Is(err, c.want) {
				t.Errorf("Complete gives %v, want %v", err, c.want)
			}
		})
	}
}

func shorterLock(h http.Header) {
	h.Set("X-Amz-Object-Lock-Retain-Until-Date", time.Now().AddDate(0, 6, -1).UTC().Format(time.RFC3339))
}

func otherChecksum(h http.Header) {
	for _, name := range []string{"X-Amz-Checksum-Sha256", "X-Amz-Checksum-Crc64nvme"} {
		if h.Get(name) != "" {
			h.Set(name, "AAAAAAAAAAA=")
		}
	}
}

// TestRefusalsThatAreNoRefusals: what says "not now" must not end a session.
func TestRefusalsThatAreNoRefusals(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	for code, status := range map[string]int{
		"SlowDown": 503, "InternalError": 500, "OperationAborted": 409,
		"ConditionalRequestConflict": 409, // what AWS says to one of two racers
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			v, err := storage.Open(t.Context(), liar{instead: func(w http.ResponseWriter, r *http.Request) bool {
				busy := r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/s/")
				if busy {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(status)
					_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>not now</Message></Error>", code)
				}
				return busy
			}}.front(t, server))
			if err != nil {
				t.Fatal(err)
			}
			body := []byte("footage")
			if _, err := v.Create(t.Context(), "s/a", body, sha256.Sum256(body), v.RetainUntil()); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("Create gives %v", err)
			}
		})
	}
}

// TestAnUploadThatIsGoneWasCompleted: a server that forgets a completed upload,
// as S3 may, answers NoSuchUpload to the second try.
func TestAnUploadThatIsGoneWasCompleted(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	completed := 0 // only by the requests of this test, one after the other
	forgets := liar{instead: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
			completed++
		}
		gone := completed > 1 && r.Method == http.MethodPost
		if gone {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<Error><Code>NoSuchUpload</Code></Error>")
		}
		return gone
	}}
	cfg := forgets.front(t, server)
	opened, err := storage.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{T: t, Vault: opened, cfg: cfg, server: server, raw: server.Client()}
	body := []byte("footage")
	u := v.begin("s/a")
	parts := v.upload(u, body, 1)
	first, err1 := v.Complete(t.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body))
	again, err2 := v.Complete(t.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body))
	if err := errors.Join(err1, err2); err != nil || again != first {
		t.Errorf("completed twice: %+v and %+v, %v", first, again, err)
	}
	v.holds(first, body)
	other := []byte("another")
	if _, err := v.Complete(t.Context(), u, parts, int64(len(other)), crc64nvme.Checksum(other)); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("gone, and the key holds something else: %v", err)
	}
}
