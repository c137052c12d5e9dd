package storetest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

// Later reaches the store of cfg by a front on loopback whose answers tell a time that
// lies ahead of the store's own. All else passes as it is: the store itself knows
// nothing of it and keeps its locks. Open refuses a store whose clock is off, so such a
// vault comes from storage.Look. See is called with each request, with several at once;
// nil: nobody looks.
func Later(t testing.TB, cfg storage.Config, ahead time.Duration, see func(*http.Request)) storage.Config {
	t.Helper()
	if cfg.TLS {
		t.Fatal("a front has no certificate")
	}
	behind, transport := cfg.Endpoint, http.DefaultTransport
	if cfg.Transport != nil {
		transport = cfg.Transport
	}
	front := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			if see != nil {
				see(r.In)
			}
			r.Out.URL.Scheme, r.Out.URL.Host = "http", behind
			r.Out.Host = r.In.Host // which is signed
		},
		ModifyResponse: func(r *http.Response) error {
			date, err := http.ParseTime(r.Header.Get("Date"))
			if err != nil {
				return errors.Join(errors.New("no date to shift"), err)
			}
			r.Header.Set("Date", date.Add(ahead).UTC().Format(http.TimeFormat))
			return nil
		},
	})
	t.Cleanup(front.Close)
	cfg.Endpoint, cfg.Transport = strings.TrimPrefix(front.URL, "http://"), nil
	return cfg
}
