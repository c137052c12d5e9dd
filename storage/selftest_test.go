package storage_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

const (
	lockMode  = "X-Amz-Object-Lock-Mode"
	lockUntil = "X-Amz-Object-Lock-Retain-Until-Date"
)

// lie is one way to break the promise, and what the self-test must say of it.
type lie struct {
	liar
	want string // empty: it must pass
}

func (l lie) mustBeFound(t *testing.T, server *storetest.Server) {
	t.Parallel()
	v, err := storage.Open(t.Context(), l.front(t, server))
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.SelfTest(t.Context())
	if l.want == "" && err != nil || l.want != "" && (err == nil || !strings.Contains(err.Error(), l.want)) {
		t.Errorf("the self-test gives %v, want %q", err, l.want)
	}
}

// TestSelfTestFindsLiars: servers exist that say yes to a lock and do not keep
// it. For each kind of lie the self-test must fail, and pass without it.
func TestSelfTestFindsLiars(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	for name, l := range map[string]lie{
		"honest": {},
		"drops If-None-Match": {liar{request: func(r *http.Request) { r.Header.Del("If-None-Match") }},
			"the store overwrote an object"},
		"drops checksums": {liar{request: dropChecksum},
			"the store shows CRC64NVME"},
		"checks no checksum of a damaged object": {liar{request: func(r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "-checksum") {
				dropChecksum(r)
			}
		}}, "took bytes with a wrong SHA-256"},
		"does not show the lock": {liar{answer: func(r *http.Response) { r.Header.Del(lockMode) }},
			"the store shows none"},
		"shows an earlier date": {liar{answer: func(r *http.Response) {
			if r.Header.Get(lockUntil) != "" {
				r.Header.Set(lockUntil, "2020-01-01T00:00:00Z")
			}
		}}, "the store shows 2020"},
		"says it deleted": {liar{instead: instead(http.StatusNoContent, func(r *http.Request) bool {
			return r.Method == http.MethodDelete
		})}, "deleted an object under a COMPLIANCE lock"},
		"refuses to delete and hides the object": {hiding(http.StatusForbidden),
			"deleted an object under a COMPLIANCE lock"},
		"says it deleted and hides the object": {hiding(http.StatusNoContent),
			"deleted an object under a COMPLIANCE lock"},
		"says it shortened a lock": {liar{instead: instead(http.StatusOK, func(r *http.Request) bool {
			return r.Method == http.MethodPut && r.URL.Query().Has("retention")
		})}, "shortened a COMPLIANCE lock"},
		"forgets a hold": {liar{instead: instead(http.StatusOK, func(r *http.Request) bool {
			return r.Method == http.MethodPut && r.URL.Query().Has("legal-hold")
		})}, "under a legal hold whose retention has expired"},
	} {
		t.Run(name, func(t *testing.T) { l.mustBeFound(t, server) })
	}
}

// TestSelfTestFindsAServerWithoutLocks: in front of MinIO, because the embedded
// store adds a lock to whatever comes without one.
func TestSelfTestFindsAServerWithoutLocks(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	stripped := func(r *http.Request) {
		r.Header.Del(lockMode)
		r.Header.Del(lockUntil)
	}
	governance := func(r *http.Request) {
		if r.Header.Get(lockMode) != "" {
			r.Header.Set(lockMode, "GOVERNANCE")
		}
	}
	for name, l := range map[string]lie{
		"honest":              {},
		"strips the lock":     {liar{request: stripped}, "the store shows none"},
		"makes it GOVERNANCE": {liar{request: governance}, "the store shows none"},
		// As gofakes3 does: the lock is shown and means nothing.
		"strips the lock and shows one": {pretending(stripped), "deleted an object under a COMPLIANCE lock"},
		// Only a deletion with bypass finds this.
		"keeps GOVERNANCE and shows COMPLIANCE": {pretending(governance), "deleted an object under a COMPLIANCE lock"},
		"strips If-None-Match":                  {liar{request: func(r *http.Request) { r.Header.Del("If-None-Match") }}, "the store overwrote an object"},
		"strips the checksum":                   {liar{request: dropChecksum}, "the stored bytes differ"},
	} {
		t.Run(name, func(t *testing.T) { l.mustBeFound(t, server) })
	}
}

func dropChecksum(r *http.Request) {
	r.Header.Del("X-Amz-Checksum-Sha256")
	r.Header.Del("X-Amz-Sdk-Checksum-Algorithm")
}

// instead answers some requests with a status and does nothing.
func instead(status int, lies func(*http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if lies(r) {
			w.WriteHeader(status)
		}
		return lies(r)
	}
}

// hiding answers a deletion and shows nothing afterwards.
func hiding(status int) liar {
	var deleted atomic.Bool
	return liar{instead: func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodDelete:
			deleted.Store(true)
			w.WriteHeader(status)
			return true
		case r.Method == http.MethodHead && deleted.Load():
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	}}
}

// pretending spoils the lock and shows the one that was asked for.
func pretending(spoil func(*http.Request)) liar {
	var asked atomic.Value // string: the date of the last lock
	asked.Store("")
	return liar{
		request: func(r *http.Request) {
			if until := r.Header.Get(lockUntil); until != "" {
				asked.Store(until)
			}
			spoil(r)
		},
		answer: func(r *http.Response) {
			if r.Request.Method == http.MethodHead && asked.Load() != "" {
				r.Header.Set(lockMode, "COMPLIANCE")
				r.Header.Set(lockUntil, asked.Load().(string))
			}
		},
	}
}
