package storage_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// liar stands between a client and the real embedded store and spoils requests,
// which it signs anew, or answers.
type liar struct {
	request func(*http.Request)
	answer  func(*http.Response)
	// instead answers by itself where it returns true.
	instead func(http.ResponseWriter, *http.Request) bool
}

func (l liar) front(t *testing.T, server *storetest.Server) storage.Config {
	t.Helper()
	cfg := server.Config()
	transport := cfg.Transport
	if transport == nil {
		t.Fatal("the embedded store has a transport of its own")
	}
	proxy := &httputil.ReverseProxy{
		Transport: signing{transport, cfg},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "embedded.invalid:80", "embedded.invalid:80"
			if l.request != nil {
				l.request(r.Out)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if l.answer != nil {
				l.answer(r)
			}
			return nil
		},
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.instead == nil || !l.instead(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	cfg.Endpoint, cfg.Transport = strings.TrimPrefix(front.URL, "http://"), nil
	return cfg
}

// signing signs with the store's root key what was changed on the way.
type signing struct {
	next http.RoundTripper
	cfg  storage.Config
}

func (s signing) RoundTrip(r *http.Request) (*http.Response, error) {
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded") {
			r.Header.Del(name)
		}
	}
	r.Header.Del("Authorization")
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	return s.next.RoundTrip(signer.SignV4(*r, s.cfg.AccessKey, s.cfg.SecretKey, "", "us-east-1"))
}

func isSelfTestObject(r *http.Request, method string) bool {
	return r.Method == method && strings.Contains(r.URL.Path, storage.SelfTestPrefix) && r.URL.RawQuery == ""
}

// TestSelfTestFindsLiars: servers exist that say yes to a lock and do not keep
// it. For each kind of lie the self-test must fail, and pass without it.
func TestSelfTestFindsLiars(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	deleted := false
	for name, l := range map[string]liar{
		"honest":              {},
		"drops If-None-Match": {request: func(r *http.Request) { r.Header.Del("If-None-Match") }},
		"drops checksums": {request: func(r *http.Request) {
			r.Header.Del("X-Amz-Checksum-Sha256")
			r.Header.Del("X-Amz-Sdk-Checksum-Algorithm")
		}},
		"does not show the lock": {answer: func(r *http.Response) {
			r.Header.Del("X-Amz-Object-Lock-Mode")
		}},
		"shows an earlier date": {answer: func(r *http.Response) {
			if r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date") != "" {
				r.Header.Set("X-Amz-Object-Lock-Retain-Until-Date", "2020-01-01T00:00:00Z")
			}
		}},
		"deletes under a lock": {instead: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodDelete {
				deleted = true
				w.WriteHeader(http.StatusNoContent)
				return true
			}
			if deleted && r.Method == http.MethodHead && strings.Contains(r.URL.Path, storage.SelfTestPrefix) {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			return false
		}},
		"says it deleted": {instead: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusNoContent)
			}
			return r.Method == http.MethodDelete
		}},
		"shortens a lock": {instead: func(w http.ResponseWriter, r *http.Request) bool {
			shorten := r.Method == http.MethodPut && r.URL.Query().Has("retention")
			if shorten {
				w.WriteHeader(http.StatusOK)
			}
			return shorten
		}},
		"forgets a hold": {instead: func(w http.ResponseWriter, r *http.Request) bool {
			hold := r.Method == http.MethodPut && r.URL.Query().Has("legal-hold")
			if hold {
				w.WriteHeader(http.StatusOK)
			}
			return hold
		}},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := storage.Open(t.Context(), l.front(t, server))
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.SelfTest(t.Context())
			if honest := name == "honest"; (err == nil) != honest {
				t.Errorf("the self-test gives %v", err)
			}
			t.Log(err)
		})
	}
}

func TestAStoreWhoseClockIsOff(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	off := func(by time.Duration) storage.Config {
		return liar{answer: func(r *http.Response) {
			r.Header.Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
		}}.front(t, server)
	}
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		if _, err := storage.Open(t.Context(), off(by)); err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("a store whose clock is off by %s gives %v", by, err)
		}
	}
	v, err := storage.Open(t.Context(), off(10*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if ahead := v.StoreAhead(); ahead < 9*time.Minute || ahead > 11*time.Minute {
		t.Errorf("the store's clock is said to be %s ahead", ahead)
	}
	if until, later := v.RetainUntil(), time.Now().In(storetest.Zone).Add(9*time.Minute); storage.BelowFloor(until, later, storetest.Zone) {
		t.Errorf("locks end %s, below six months of the store's time", until)
	}
}

func TestServersThatCannotBeReached(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, true)
	cfg := server.Config()
	cfg.CAFile = ""
	if _, err := storage.Open(t.Context(), cfg); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority gives %v", err)
	}
	cfg = server.Config()
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := storage.Open(ctx, cfg); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a server that is down gives %v", err)
	}
	// Something that answers and is no S3 server.
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>hello</html>") }))
	defer web.Close()
	cfg.Endpoint, cfg.TLS, cfg.CAFile = strings.TrimPrefix(web.URL, "http://"), false, ""
	if _, err := storage.Open(t.Context(), cfg); err == nil {
		t.Error("a web server was taken for a store")
	}
}
