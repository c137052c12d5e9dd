package console

import (
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
)

// maxBody bounds a form, in bytes; no page takes files in.
const maxBody = 64 << 10

// contentPolicy lets a page load nothing but what this server has in files of its own: what
// gets into a page as text can do nothing.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guarded is what holds for every request, before anything looks at it.
func (c *Console) guarded(next http.Handler) http.Handler {
	csrf := http.NewCrossOriginProtection()
	csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.fail(w, r, Problem{Status: http.StatusForbidden, Code: "cross_site"})
	}))
	inner := csrf.Handler(c.sessions.LoadAndSave(next))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		// Not no-referrer: browsers would send "Origin: null" with our own forms.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
		h.Set("Cache-Control", "no-store")
		if c.secure() {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		defer func() {
			// net/http would end the connection and say so only to a log that strangers can
			// fill.
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				c.fail(w, r, fmt.Errorf("%s %s: %v\n%s", r.Method, r.URL.Path, v, debug.Stack()))
			}
		}()
		if !c.isOurHost(r.Host) {
			// A name that somebody else has pointed at us.
			c.fail(w, r, Problem{Status: http.StatusMisdirectedRequest, Code: "wrong_host"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		inner.ServeHTTP(w, r)
	})
}

func (c *Console) isOurHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if slices.Contains(c.AllowedHosts, host) {
		return true
	}
	listen, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return false
	}
	if isLoopback(listen) {
		return isLoopback(host)
	}
	ip := net.ParseIP(listen)
	return ip != nil && !ip.IsUnspecified() && ip.Equal(net.ParseIP(host))
}

// address is where a request comes from. A proxy appends what it has seen itself to
// what it was told: the last one counts.
func (c *Console) address(r *http.Request) string {
	if all := r.Header.Values("X-Forwarded-For"); c.BehindProxy && len(all) > 0 {
		hops := strings.Split(all[len(all)-1], ",")
		if ip := net.ParseIP(strings.TrimSpace(hops[len(hops)-1])); ip != nil {
			return ip.String()
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	return host
}
