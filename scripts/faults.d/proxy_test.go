//go:build faults

package faults

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// line is a bad line to a real server: a proxy whose rules may refuse a request,
// or change its body, or its answer. The address stays while it is away.
type line struct {
	target string
	proxy  *httputil.ReverseProxy

	mu     sync.Mutex
	addr   string       // guarded by mu
	server *http.Server // guarded by mu; nil while away
	rules  rules        // guarded by mu
	met    int          // guarded by mu; how often a rule did something
}

// rules spoil what passes; each may be nil. They are called from many goroutines,
// one at a time.
type rules struct {
	// refuse gives a status and an error code of S3, or 0.
	refuse func(*http.Request) (status int, code string)
	// request may change the request on its way to the server.
	request func(*http.Request)
	// answer may change the answer; an error cuts the connection.
	answer func(*http.Response) error
	// delay is waited for before each request, bandwidth is bytes a second.
	delay     time.Duration
	bandwidth int
}

var errCut = errors.New("the line was cut")

// newLine opens a line to a server at host:port.
func (p *place) newLine(target string) *line {
	p.t.Helper()
	l := &line{target: target}
	l.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL = &url.URL{Scheme: "http", Host: target, Path: r.In.URL.Path, RawPath: r.In.URL.RawPath, RawQuery: r.In.URL.RawQuery}
			r.Out.Host = r.In.Host // it is signed
			l.with(func(ru rules) {
				if ru.request != nil {
					ru.request(r.Out)
				}
			})
		},
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32},
		ModifyResponse: func(r *http.Response) (err error) {
			l.with(func(ru rules) {
				if ru.answer != nil {
					err = ru.answer(r)
				}
				if ru.bandwidth > 0 {
					r.Body = &narrow{r.Body, ru.bandwidth}
				}
			})
			return err
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) },
		ErrorLog:     quiet,
	}
	if err := l.up("127.0.0.1:0"); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(l.down)
	return l
}

func (l *line) with(call func(rules)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	call(l.rules)
}

// set changes the rules; the zero value mends the line.
func (l *line) set(r rules) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rules = r
}

// up serves an address, again after down.
func (l *line) up(addr string) error {
	var listener net.Listener
	var err error
	for range 100 { // the address may still be in use by a dying connection
		if listener, err = net.Listen("tcp", addr); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("listen at %s: %w", addr, err)
	}
	server := &http.Server{Handler: l, ReadHeaderTimeout: time.Minute, ErrorLog: quiet}
	l.mu.Lock()
	l.addr, l.server = listener.Addr().String(), server
	l.mu.Unlock()
	go func() { _ = server.Serve(listener) }() // ends with down
	return nil
}

// down refuses connections and cuts those that are there.
func (l *line) down() {
	l.mu.Lock()
	server := l.server
	l.server = nil
	l.mu.Unlock()
	if server != nil {
		_ = server.Close() // it has to go, whatever it says
	}
}

func (l *line) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var status int
	var code string
	var ru rules
	l.with(func(now rules) {
		if ru = now; ru.refuse != nil {
			status, code = ru.refuse(r)
		}
	})
	time.Sleep(ru.delay)
	if status != 0 {
		_, _ = io.Copy(io.Discard, r.Body) // a client that is still sending would see a reset instead
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>by the fault test</Message></Error>`, code)
		}
		return
	}
	if ru.bandwidth > 0 {
		r.Body = &narrow{r.Body, ru.bandwidth}
	}
	l.proxy.ServeHTTP(w, r)
}

// reset ends a connection as a cable does that is pulled out.
func reset(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, no polite end
	}
	_ = conn.Close()
}

// flipping changes one byte of a stream.
type flipping struct {
	io.ReadCloser
	at int64
}

func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if f.at >= 0 && f.at < int64(n) {
		p[f.at] ^= 1
	}
	f.at -= int64(n)
	return n, err
}

// cutting ends a stream with an error.
type cutting struct {
	io.ReadCloser
	left int64
}

func (c *cutting) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errCut
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// narrow lets bytes a second pass.
type narrow struct {
	io.ReadCloser
	bandwidth int
}

func (n *narrow) Read(p []byte) (int, error) {
	got, err := n.ReadCloser.Read(p[:min(len(p), 64<<10)])
	time.Sleep(time.Duration(got) * time.Second / time.Duration(n.bandwidth))
	return got, err
}

// footagePut is a request that brings footage: a small file, or a part.
func footagePut(r *http.Request) bool {
	return r.Method == http.MethodPut && isFootage(r.URL.Path)
}

func complete(r *http.Request) bool {
	return r.Method == http.MethodPost && isFootage(r.URL.Path) && strings.Contains(r.URL.RawQuery, "uploadId=")
}
