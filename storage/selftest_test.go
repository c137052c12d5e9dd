package storage_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// TestSelfTestFindsAServerWithoutLocks has MinIO's requests spoiled on the way.
// TestSelfTestFindsLiars does so with the embedded store; only here can a lock be
// lost, because the embedded store adds one to whatever comes without.
func TestSelfTestFindsAServerWithoutLocks(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	for name, c := range map[string]struct {
		spoil func(*http.Request)
		hide  func(*http.Response)
		lie   bool // says yes to every DELETE and shows nothing afterwards
		want  string
	}{
		"strips the lock": {want: "COMPLIANCE lock", spoil: func(r *http.Request) {
			r.Header.Del("X-Amz-Object-Lock-Mode")
			r.Header.Del("X-Amz-Object-Lock-Retain-Until-Date")
		}},
		"makes it GOVERNANCE": {want: "COMPLIANCE lock", spoil: func(r *http.Request) {
			if r.Header.Get("X-Amz-Object-Lock-Mode") != "" {
				r.Header.Set("X-Amz-Object-Lock-Mode", "GOVERNANCE")
			}
		}},
		"strips If-None-Match": {want: "overwrote", spoil: func(r *http.Request) { r.Header.Del("If-None-Match") }},
		"strips the checksum":  {want: "checksum", spoil: func(r *http.Request) { r.Header.Del("X-Amz-Checksum-Sha256") }},
		"hides the lock": {want: "COMPLIANCE lock", hide: func(r *http.Response) {
			if r.Request.Method == http.MethodHead {
				r.Header.Del("X-Amz-Object-Lock-Mode")
				r.Header.Del("X-Amz-Object-Lock-Retain-Until-Date")
			}
		}},
		"claims to delete": {want: "deleted an object", lie: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := server.Config()
			cfg.Endpoint = spoiled(t, cfg, c.spoil, c.hide, c.lie)
			v, err := storage.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.SelfTest(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the self-test gives %v, want an error about %q", err, c.want)
			}
		})
	}
}

// spoiled fronts a server on TCP, changes requests before it signs them anew, and
// changes answers.
func spoiled(t *testing.T, cfg storage.Config, spoil func(*http.Request), hide func(*http.Response), lie bool) (endpoint string) {
	t.Helper()
	var deleted atomic.Bool
	proxy := &httputil.ReverseProxy{
		Transport: resign(func(r *http.Request) (*http.Response, error) {
			if spoil != nil {
				spoil(r)
			}
			r.Header.Del("Authorization")
			r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			return http.DefaultTransport.RoundTrip(signer.SignV4(*r, cfg.AccessKey, cfg.SecretKey, "", cfg.Region))
		}),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", cfg.Endpoint, cfg.Endpoint
		},
		ModifyResponse: func(r *http.Response) error {
			if hide != nil {
				hide(r)
			}
			return nil
		},
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case lie && r.Method == http.MethodDelete:
			deleted.Store(true)
			w.WriteHeader(http.StatusNoContent)
		case lie && r.Method == http.MethodHead && deleted.Load():
			w.WriteHeader(http.StatusNotFound)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	return strings.TrimPrefix(front.URL, "http://")
}

type resign func(*http.Request) (*http.Response, error)

func (f resign) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
