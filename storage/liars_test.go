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

// liar stands between a client and a real store and spoils requests, which it
// signs anew, or answers.
type liar struct {
	request func(*http.Request)
	answer  func(*http.Response)
	// instead answers by itself where it returns true.
	instead func(http.ResponseWriter, *http.Request) bool
}

func (l liar) front(t *testing.T, server *storetest.Server) storage.Config {
	t.Helper()
	cfg := server.Config()
	behind, transport := cfg.Endpoint, http.DefaultTransport
	if cfg.Transport != nil {
		transport = cfg.Transport
	}
	proxy := &httputil.ReverseProxy{
		Transport: signing{transport, cfg},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", behind, behind
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
	// A real one refuses our signature at that, which looks like wrong keys.
	refuses := liar{instead: func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
		return true
	}}
	if _, err := storage.Open(t.Context(), refuses.front(t, server)); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "clock") {
		t.Errorf("a store that refuses our clock gives %v", err)
	}
	// It is five minutes to midnight at the station and past it in the store.
	ahead := off(10 * time.Minute)
	now := time.Now().UTC()
	ahead.Location = time.FixedZone("five to midnight", int((24*time.Hour - 5*time.Minute - now.Sub(now.Truncate(24*time.Hour))).Seconds()))
	v, err := storage.Open(t.Context(), ahead)
	if err != nil {
		t.Fatal(err)
	}
	if by := v.StoreAhead(); by < 9*time.Minute || by > 11*time.Minute {
		t.Errorf("the store's clock is said to be %s ahead", by)
	}
	if got, want := v.RetainUntil(), storage.RetainUntil(now.Add(10*time.Minute), 6, ahead.Location); !got.Equal(want) {
		t.Errorf("locks end %s, six months of the store's time are over at %s", got, want)
	}
	// Whichever clock is slow, the lock counts from the other.
	for _, by := range []time.Duration{-10 * time.Minute, 0} {
		cfg := off(by)
		for _, station := range []time.Duration{-40 * 24 * time.Hour, 40 * 24 * time.Hour} {
			cfg.Now = func() time.Time { return time.Now().Add(station) }
			v, err := storage.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if storage.BelowFloor(v.RetainUntil(), time.Now().Add(max(by, station)), storetest.Zone) {
				t.Errorf("store off by %s, station by %s: locks end %s", by, station, v.RetainUntil())
			}
		}
	}
}

func TestServersThatCannotBeReached(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, true)
	cfg := server.Config()
	cfg.CAFile = ""
	if _, err := storage.Open(t.Context(), cfg); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "storage.s3.ca_file") {
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

// TestABucketThatDropsVersions: S3 does not let versioning be suspended where
// there is a lock. A server that does must not get footage.
func TestABucketThatDropsVersions(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	suspended := liar{instead: func(w http.ResponseWriter, r *http.Request) bool {
		asked := r.Method == http.MethodGet && r.URL.Query().Has("versioning")
		if asked {
			_, _ = io.WriteString(w, "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>")
		}
		return asked
	}}
	if _, err := storage.Open(t.Context(), suspended.front(t, server)); !errors.Is(err, storage.ErrNoLock) || !strings.Contains(err.Error(), "Suspended") {
		t.Errorf("suspended versioning gives %v", err)
	}
}

// TestABucketIsWaitedFor: servers show a bucket that another station is making
// before they show its lock.
func TestABucketIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	asked := 0 // by Open alone, one after the other
	late := liar{instead: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !r.URL.Query().Has("object-lock") {
			return false
		}
		asked++
		if asked < 4 {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>")
		}
		return asked < 4
	}}
	if _, err := storage.Open(t.Context(), late.front(t, server)); err != nil {
		t.Error(err)
	}
}
