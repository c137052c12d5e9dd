package console_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodyworn/ingestd/ingest/console"
)

func TestOnlyOurNamesAreAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *console.Options) { o.AllowedHosts = []string{"cjz.example.lan"} })
	b := w.login("li")
	cookies := b.cookies()
	for host, ours := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:8443": true, "localhost:1": true, "[::1]:8443": true, "cjz.example.lan": true, "CJZ.example.lan:8443": true, "cjz.example.lan.": true,
		"evil.example": false, "127.0.0.1.evil.example": false, "cjz.example.lan.evil.example": false, "10.0.0.1": false, "localhost.evil.example": false, "evil.example:127.0.0.1": false,
	} {
		for _, path := range []string{"/admin/sessions", "/login", "/static/console.css", "/api/v1/sessions"} {
			r := b.request(http.MethodGet, path, nil)
			r.Host = host
			r.Header.Set("Cookie", cookies) // the jar has them for one name alone
			a := b.do(r)
			if ours != (a.status == http.StatusOK) || !ours && a.status != http.StatusMisdirectedRequest {
				t.Errorf("Host %s, %s: %d", host, path, a.status)
			}
			if !ours && strings.Contains(a.body, "DSJ") {
				t.Errorf("Host %s is shown footage", host)
			}
		}
	}
	r := b.request(http.MethodGet, "/login", nil)
	r.Host = "evil.example"
	if a := b.do(r); !strings.Contains(a.body, "admin.allowed_hosts") {
		t.Errorf("the answer does not name the setting:\n%s", a.body)
	}
}

func TestOtherSitesCannotPost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := w.login("wulan")
	for name, header := range map[string]map[string]string{
		"cross-site":     {"Sec-Fetch-Site": "cross-site"},
		"same-site":      {"Sec-Fetch-Site": "same-site"},
		"foreign origin": {"Origin": "https://evil.example"},
		"null origin":    {"Origin": "null"},
	} {
		for _, path := range []string{"/login", "/logout"} {
			r := b.request(http.MethodPost, path, url.Values{"name": {"li"}, "password": {password}})
			for k, v := range header {
				r.Header.Set(k, v)
			}
			if a := b.do(r); a.status != http.StatusForbidden || a.header.Get("Set-Cookie") != "" {
				t.Errorf("%s to %s: %d", name, path, a.status)
			}
		}
	}
	if a := b.get("/admin/sessions"); a.status != http.StatusOK {
		t.Errorf("still logged in: %d", a.status)
	}
	if n := len(w.lines("auth.login")); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := w.login("li")
	for _, path := range []string{"/admin/sessions", "/admin/sessions/none", "/login", "/static/console.css", "/nothing", "/api/v1/sessions"} {
		a := b.get(path)
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin"} {
			if a.header.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, a.header.Get(name))
			}
		}
		csp := a.header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if strings.Contains(a.body, "<script>") || strings.Contains(a.body, " style=") || strings.Contains(a.body, " onclick=") {
			t.Errorf("%s holds inline script or style, which its own policy forbids", path)
		}
	}
}

func TestNoOtherFileIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, path := range []string{
		"/static/../console.go", "/static/..%2fconsole.go", "/static/%2e%2e/i18n/console.en.json", "/static/..%5cconsole.go", "/i18n/console.en.json", "/templates/layout.html",
		"/static//etc/passwd", "/static/", "/static", "/../../etc/passwd", "/static/%00",
	} {
		c, err := net.Dial("tcp", w.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode == http.StatusOK || strings.Contains(string(body), "package console") || strings.Contains(string(body), "root:") || strings.Contains(string(body), "console.css\"") && strings.Contains(string(body), "<pre>") {
			t.Errorf("%s: %d\n%s", path, res.StatusCode, body)
		}
		_ = c.Close()
	}
}

func TestLargeForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := w.browser().post("/login", url.Values{"name": {"li"}, "password": {strings.Repeat("x", console.MaxBody)}})
	if a.status != http.StatusRequestEntityTooLarge || len(w.lines("auth.login_failed")) != 0 {
		t.Errorf("a form of %d bytes: %d", console.MaxBody, a.status)
	}
}

// Whoever has a token from before the login has nothing, and after the logout too.
func TestTokensAreNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const name = "ingestd-session"
	get := func(token string) int {
		r := w.browser().request(http.MethodGet, "/admin/sessions", nil)
		r.AddCookie(&http.Cookie{Name: name, Value: token})
		return w.browser().do(r).status
	}
	login := func(with string) string {
		b := w.browser()
		r := b.request(http.MethodPost, "/login", url.Values{"name": {"li"}, "password": {password}})
		if with != "" {
			r.AddCookie(&http.Cookie{Name: name, Value: with})
		}
		a := b.do(r)
		c, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
		if err != nil || c.Name != name || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.MaxAge != 0 || len(c.Value) < 40 {
			t.Fatalf("login: %d %v %+v", a.status, err, c)
		}
		return c.Value
	}
	planted := "planted-by-somebody-else-planted-by-somebody-else"
	first := login(planted)
	second := login(first)
	if first == planted || second == first {
		t.Error("the token stays the same")
	}
	for token, status := range map[string]int{planted: http.StatusSeeOther, first: http.StatusSeeOther, second: http.StatusOK} {
		if got := get(token); got != status {
			t.Errorf("a token is answered with %d, want %d", got, status)
		}
	}
	r := w.browser().request(http.MethodPost, "/logout", url.Values{})
	r.AddCookie(&http.Cookie{Name: name, Value: second})
	w.browser().do(r)
	if get(second) != http.StatusSeeOther {
		t.Error("a token is good after the logout")
	}
}

func TestALoginEndsWithItsAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	li, wulan := w.login("li"), w.login("wulan")
	if err := w.book.SetPassword(t.Context(), "li", "another long password", "uid 0"); err != nil {
		t.Fatal(err)
	}
	if err := w.book.Disable(t.Context(), "wulan", "uid 0"); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*browser{"a changed password": li, "a disabled account": wulan} {
		if a := b.get("/admin/sessions"); a.status != http.StatusSeeOther {
			t.Errorf("%s: %d", name, a.status)
		}
	}
}

// inTime has a console in a bubble of time that passes only where nobody works.
func inTime(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	hashOnce() // not in the bubble: others use it too
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dir: t.TempDir()}
		w.open(nil)
		test(t, w)
	})
}

func TestALoginEndsByItself(t *testing.T) {
	t.Parallel()
	inTime(t, func(t *testing.T, w *world) {
		serve := func(method, path, token string, form url.Values) *http.Response {
			r := httptest.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if token != "" {
				r.AddCookie(&http.Cookie{Name: "ingestd-session", Value: token})
			}
			rec := httptest.NewRecorder()
			w.console.Handler().ServeHTTP(rec, r)
			return rec.Result()
		}
		login := func() string {
			c, err := http.ParseSetCookie(serve(http.MethodPost, "/login", "", url.Values{"name": {"li"}, "password": {password}}).Header.Get("Set-Cookie"))
			if err != nil {
				t.Fatal(err)
			}
			return c.Value
		}
		in := func(token string) bool {
			return serve(http.MethodGet, "/admin/sessions", token, nil).StatusCode == http.StatusOK
		}
		idle := login()
		for range 3 {
			time.Sleep(console.IdleTimeout - time.Second)
			if !in(idle) {
				t.Fatal("ended while it was in use")
			}
		}
		time.Sleep(console.IdleTimeout + time.Second)
		if in(idle) {
			t.Error("still logged in after 15 minutes without a request")
		}
		busy, began := login(), time.Now()
		for time.Since(began) < console.Lifetime-10*time.Minute {
			time.Sleep(10 * time.Minute)
			if !in(busy) {
				t.Fatalf("ended after %v", time.Since(began))
			}
		}
		time.Sleep(10*time.Minute + time.Second)
		if in(busy) {
			t.Errorf("still logged in after %v", time.Since(began))
		}
	})
}

// pipes is a listener within the program, so that its time can be in a bubble.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// Whoever sends or reads slowly, or nothing, is let go.
func TestSlowClientsAreLetGo(t *testing.T) {
	t.Parallel()
	inTime(t, func(t *testing.T, w *world) {
		ctx, stop := context.WithCancel(t.Context())
		l := &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
		served := make(chan error)
		go func() { served <- w.console.ServeOn(ctx, l) }()
		for name, sent := range map[string]string{
			"nothing":            "",
			"half a header":      "GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ",
			"half a form":        "POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nname=li",
			"reads no answer":    "GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
			"a header too large": "GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + strings.Repeat("x", 4<<10),
		} {
			ours, theirs := net.Pipe()
			l.conns <- theirs
			if sent != "" {
				if _, err := io.WriteString(ours, sent); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			began := time.Now()
			if name == "reads no answer" {
				time.Sleep(2 * time.Minute)
			}
			if _, err := io.Copy(io.Discard, ours); err != nil && !strings.Contains(err.Error(), "closed") {
				t.Errorf("%s: %v", name, err)
			}
			if held := time.Since(began); held > 2*time.Minute {
				t.Errorf("%s: held for %v", name, held)
			}
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// certificate is one of the console's own, for as long as is told.
func certificate(t *testing.T, good time.Duration) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(good), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestOverTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *console.Options) { o.Certificate = certificate(t, time.Hour) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- w.console.ServeOn(ctx, l) }()
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.PostForm("https://"+l.Addr().String()+"/login", url.Values{"name": {"li"}, "password": {password}})
	if err != nil {
		t.Fatal(err)
	}
	cookie := res.Header.Get("Set-Cookie")
	for _, part := range []string{"__Host-ingestd-session=", "Path=/", "HttpOnly", "Secure", "SameSite=Strict"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie has no %s: %s", part, cookie)
		}
	}
	if strings.Contains(cookie, "Domain") || res.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("cookie %s, header %v", cookie, res.Header)
	}
	client.CloseIdleConnections()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// Passwords do not cross a network that others can read (第十二条).
func TestWithoutTLSOnlyHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for listen, may := range map[string]bool{"127.0.0.1:8443": true, "[::1]:8443": true, "localhost:8443": true, "0.0.0.0:8443": false, ":8443": false, "10.0.0.5:8443": false, "[::]:8443": false} {
		o := w.console.Options
		o.Listen = listen
		if _, err := console.New(o); (err == nil) != may {
			t.Errorf("listen on %s: %v", listen, err)
		}
	}
}

// Behind a proxy the address is the one that the proxy has seen; without one, nobody
// can choose his.
func TestWhereARequestComesFrom(t *testing.T) {
	t.Parallel()
	for behind, want := range map[bool]string{true: "10.0.0.7", false: "127.0.0.1"} {
		w := newWorld(t, func(o *console.Options) { o.BehindProxy = behind })
		b := w.browser()
		r := b.request(http.MethodPost, "/login", url.Values{"name": {"li"}, "password": {"wrong wrong wrong"}})
		r.Header.Set("X-Forwarded-For", "6.6.6.6, 10.0.0.7")
		b.do(r)
		if lines := w.lines("auth.login_failed"); len(lines) != 1 || lines[0].Detail["address"] != want {
			t.Errorf("behind a proxy %v: %+v", behind, lines)
		}
	}
}

// A certificate that is renewed on the disk is used, and one that can't be is told of
// while the one before stays.
func TestTheCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	first, second := certificate(t, time.Hour), certificate(t, 48*time.Hour)
	var mu sync.Mutex
	next, broken := first, error(nil)
	w := newWorld(t, func(o *console.Options) {
		o.Certificate = first
		o.Renewed = func() (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			return next, broken
		}
	})
	w.console.RenewEvery(10 * time.Millisecond)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.console.ServeOn(ctx, l) }()
	waitFor := func(want *tls.Certificate, events int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			got := conn.ConnectionState().PeerCertificates[0].Raw
			conn.Close()
			w.mu.Lock()
			told := 0
			for _, e := range w.events {
				if e.Name == "console.certificate" {
					told++
				}
			}
			w.mu.Unlock()
			if bytes.Equal(got, want.Certificate[0]) && told == events {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("another certificate, or %d events, want %d", told, events)
			}
		}
	}
	waitFor(first, 0)
	mu.Lock()
	next, broken = nil, errors.New("the key is of another certificate")
	mu.Unlock()
	waitFor(first, 1)
	mu.Lock()
	next, broken = second, nil
	mu.Unlock()
	waitFor(second, 2)
	if ends, err := w.console.CertificateEnds(); err != nil || time.Until(ends) < 40*time.Hour {
		t.Errorf("the certificate that is in use ends %s, %v", ends, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The ledger has the end of a login too, and where it can't, nobody stays in.
func TestLogout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := w.login("li")
	if a := b.post("/logout", url.Values{}); a.status != http.StatusSeeOther {
		t.Errorf("logout: %d", a.status)
	}
	if lines := w.lines("auth.logout"); len(lines) != 1 || lines[0].Actor != "account li" || lines[0].Detail["address"] == "" {
		t.Errorf("the ledger has %+v", lines)
	}
	b = w.login("li")
	unblock := w.blockLedger()
	defer unblock()
	b.post("/logout", url.Values{})
	if a := b.get("/admin/sessions"); a.status != http.StatusSeeOther {
		t.Errorf("he is still in: %d", a.status)
	}
}
