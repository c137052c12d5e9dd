package metrics

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// scrapesAtOnce and scrapeFor bound what monitoring may cost.
	scrapesAtOnce = 4
	scrapeFor     = 20 * time.Second
)

// Handler serves, to this machine alone:
//
//	/metrics   for Prometheus
//	/healthz   200 while the process answers
//	/readyz    200 if recorders can be taken in, else 503; either way JSON with reasons
//
// It may be called once, for what it adds to the metrics is there once.
func (m *Metrics) Handler(of Sources) http.Handler {
	s := &sources{Sources: of}
	m.registry.MustRegister(s)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeFor,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"schema": "ingestd.health/1"})
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	return onlyHere(mux)
}

// notReady is one reason of /readyz.
type notReady struct {
	Check  string `json:"check"`
	Reason string `json:"reason"`
}

func (s *sources) readyz(w http.ResponseWriter, _ *http.Request) {
	reasons := []notReady{}
	for _, c := range s.checks() {
		if !c.Ready {
			reasons = append(reasons, notReady{c.Name, c.Reason})
		}
	}
	code := http.StatusOK
	if len(reasons) > 0 {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, struct {
		Schema  string     `json:"schema"`
		Ready   bool       `json:"ready"`
		Reasons []notReady `json:"reasons"`
	}{"ingestd.ready/1", len(reasons) == 0, reasons})
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // whoever asked has gone
}

// onlyHere refuses requests in the name of another machine: a page in a browser here
// could else have its own name lead to us, and read (DNS rebinding).
func onlyHere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); host != "localhost" && (err != nil || !addr.IsLoopback()) {
			http.Error(w, "metrics are for this machine: ask http://127.0.0.1", http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
