package board_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/board"
)

func TestWhoMayAsk(t *testing.T) {
	t.Parallel()
	url := serve(t, newDock(busyDay()...), board.Options{AllowedHosts: []string{"dock.example"}})
	for _, c := range []struct {
		method, path, host string
		header             [2]string
		status             int
		says               string
	}{
		{"GET", "/", "", [2]string{}, 200, "可以取下"},
		{"HEAD", "/", "", [2]string{}, 200, ""},
		{"HEAD", "/events", "", [2]string{}, 200, ""},
		{"GET", "/", "localhost:8790", [2]string{}, 200, ""},
		{"GET", "/", "[::1]:8790", [2]string{}, 200, ""},
		{"GET", "/", "Dock.example.:80", [2]string{}, 200, ""},
		{"GET", "/", "evil.example", [2]string{}, 421, "board.allowed_hosts"},
		{"GET", "/events", "evil.example:8790", [2]string{}, 421, "board.allowed_hosts"},
		{"GET", "/static/board.js", "127.0.0.1.evil.example", [2]string{}, 421, "board.allowed_hosts"},
		{"GET", "/", "192.168.1.5", [2]string{}, 421, "board.allowed_hosts"},
		{"POST", "/", "", [2]string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"POST", "/", "", [2]string{"Origin", "http://evil.example"}, 403, ""},
		{"POST", "/", "", [2]string{"Sec-Fetch-Site", "same-origin"}, 405, ""},
		{"DELETE", "/events", "", [2]string{}, 405, ""},
		{"GET", "/static/board.css", "", [2]string{}, 200, "--safe"},
		{"GET", "/static/board.html", "", [2]string{}, 404, ""},
		{"GET", "/static/", "", [2]string{}, 404, ""},
		{"GET", "/static/..%2fboard.html", "", [2]string{}, 404, ""},
		{"GET", "/static/%2e%2e/%2e%2e/http.go", "", [2]string{}, 404, ""},
		{"GET", "/words/active.en.json", "", [2]string{}, 404, ""},
		{"GET", "/?lang=%22%3E%3Cscript%3E", "", [2]string{}, 200, "zh-CN"},
		{"GET", "/", "", [2]string{"Cookie", "lang=en"}, 200, "Safe to take"},
		{"GET", "/", "", [2]string{"Accept-Language", "en"}, 200, "可以取下"},
	} {
		req, err := http.NewRequest(c.method, url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.host != "" {
			req.Host = c.host
		}
		if c.header[0] != "" {
			req.Header.Set(c.header[0], c.header[1])
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || !bytes.Contains(body, []byte(c.says)) || bytes.Contains(body, []byte("<script>")) {
			t.Errorf("%s %s, host %q, %v: %d (%v), want %d with %q in\n%.300s", c.method, c.path, c.host, c.header, res.StatusCode, err, c.status, c.says, body)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';",
		} {
			if got := res.Header.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s %s: %s is %q", c.method, c.path, name, got)
			}
		}
	}
}

// The page holds no style and no script of its own, and nothing from elsewhere.
func TestThePageIsAllOurs(t *testing.T) {
	t.Parallel()
	body := get(t, serve(t, newDock(everyWord()...), board.Options{Demo: true, Name: `<b>"&`}), "/")
	for _, bad := range []string{" style=", "<style", "<script>", " onclick", "javascript:", "⟦", `<b>"&`} {
		if strings.Contains(body, bad) {
			t.Errorf("the page holds %s", bad)
		}
	}
	for _, link := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		if !strings.HasPrefix(link[1], "/static/") && !strings.HasPrefix(link[1], "#i-") && link[1] != "/?lang=en" {
			t.Errorf("a link leads to %s", link[1])
		}
	}
	if !strings.Contains(body, "演示") || strings.Contains(get(t, serve(t, newDock(), board.Options{}), "/"), "演示") {
		t.Error("演示 must be on the page of a demo, and of no other")
	}
}

func get(t *testing.T, url, path string) string {
	t.Helper()
	res, err := http.Get(url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, res.Status, err)
	}
	return string(body)
}

func TestTheLanguageIsKeptForAnHourAndLeavesTheAddress(t *testing.T) {
	t.Parallel()
	url := serve(t, newDock(busyDay()...), board.Options{})
	req, err := http.NewRequest(http.MethodGet, url+"/?lang=en", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	cookies := res.Cookies()
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/" || len(cookies) != 1 || cookies[0].Value != "en" ||
		cookies[0].MaxAge != 3600 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode {
		t.Errorf("%s to %s with %v", res.Status, res.Header.Get("Location"), cookies)
	}
}

// frame is one event of the stream.
type frame struct {
	name string
	data string
}

// follow reads a stream until enough says so.
func follow(ctx context.Context, t *testing.T, url string, enough func(frame) bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events?lang=zh-CN", nil)
	if err != nil {
		t.Error(err)
		return
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%s, %s", res.Status, res.Header.Get("Content-Type"))
		return
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	var f frame
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "event: "):
			f.name = line[7:]
		case strings.HasPrefix(line, "data: "):
			f.data = line[6:]
		case line == "" && f.name != "":
			if enough(f) {
				return
			}
			f = frame{}
		}
	}
	t.Errorf("the stream ended: %v", lines.Err())
}

type tick struct {
	Boot     string
	Seq      int
	Progress [][3]any
	Counts   map[string]int
	Clock    string
}

// Two hundred look on: each gets everything once, and then every tick without a gap, of
// less than 10 kB for 32 slots that are all at work.
func TestManyViewers(t *testing.T) {
	const viewers, slots, ticks = 200, 32, 4
	var busy []ingest.SlotView
	for i := range slots {
		busy = append(busy, copying(recorder(itoa(i+1), "150525", "DSJ-0412", ingest.Copying, 192*time.Second, 61), 1e10, 0.01, time.Hour))
	}
	d := newDock(busy...)
	url := serve(t, d, board.Options{})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	working := make(chan struct{})
	go func() {
		defer close(working)
		for n := 1; ctx.Err() == nil; n++ {
			time.Sleep(100 * time.Millisecond) // work goes on between the ticks
			d.mu.Lock()
			for i := range d.views {
				left := time.Duration(100-n%90) * time.Minute
				d.views[i].Fraction, d.views[i].Left = float64(n%90)/100, &left
			}
			d.mu.Unlock()
		}
	}()
	var all sync.WaitGroup
	for range viewers {
		all.Go(func() {
			seen, whole, changed, boot, seq := 0, 0, 0, "", 0
			follow(ctx, t, url, func(f frame) bool {
				switch f.name {
				case "all":
					if whole++; strings.Count(f.data, "data-state") != slots {
						t.Errorf("it has %d slots", strings.Count(f.data, "data-state"))
					}
				case "slot":
					t.Error("a slot was drawn again for its progress alone")
				case "tick":
					var got tick
					if err := json.Unmarshal([]byte(f.data), &got); err != nil {
						t.Error(err)
					}
					if seen > 0 && (got.Seq != seq+1 || got.Boot != boot) {
						t.Errorf("tick %d after %d", got.Seq, seq)
					}
					if size := len(f.name) + len(f.data) + len("event: \ndata: \n\n"); size > 10_000 {
						t.Errorf("a tick has %d bytes", size)
					}
					seen, seq, boot, changed = seen+1, got.Seq, got.Boot, changed+len(got.Progress)
				}
				return seen == ticks
			})
			if whole != 1 || changed < slots {
				t.Errorf("%d times everything, %d changes", whole, changed)
			}
		})
	}
	all.Wait()
	stop()
	<-working
}

// narrow is a listener whose connections hold little, and tell when they are closed.
type narrow struct {
	net.Listener
	closed chan string // the viewer's address
}

type narrowConn struct {
	net.Conn
	once   sync.Once
	closed chan string
}

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &narrowConn{Conn: c, closed: l.closed}, c.(*net.TCPConn).SetWriteBuffer(4096)
}

func (c *narrowConn) Close() error {
	c.once.Do(func() { c.closed <- c.RemoteAddr().String() })
	return c.Conn.Close()
}

// A viewer that reads nothing holds nobody up and is let go.
func TestASlowViewerIsLetGo(t *testing.T) {
	t.Parallel()
	d := newDock(many(32)...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan string, 100)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- board.New(d, board.Options{}).Serve(ctx, narrow{l, closed}) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	go func() { // much to send
		for n := 0; ctx.Err() == nil; n++ {
			d.set(func([]ingest.SlotView) []ingest.SlotView { return many(20 + n%12) })
			time.Sleep(20 * time.Millisecond)
		}
	}()
	let := false
	follow(ctx, t, "http://"+l.Addr().String(), func(frame) bool {
		select {
		case who := <-closed:
			let = true
			if who != conn.LocalAddr().String() {
				t.Errorf("%s was let go, not %s", who, conn.LocalAddr())
			}
		default:
		}
		return let
	})
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// Every state has its class, and only the safe one has the look of safe.
func TestOnlySafeLooksSafe(t *testing.T) {
	t.Parallel()
	want := map[ingest.SlotState]string{
		ingest.Empty: "empty", ingest.Identifying: "busy", ingest.Queued: "busy", ingest.Copying: "busy", ingest.Verifying: "busy", ingest.Finalizing: "busy",
		ingest.Safe: "safe", ingest.Failed: "attn", ingest.UnknownDevice: "attn", ingest.Conflict: "attn", ingest.RemovedEarly: "back", "of_a_later_version": "attn",
	}
	source, err := os.ReadFile("../report.go")
	if err != nil {
		t.Fatal(err)
	}
	states := regexp.MustCompile(`SlotState += "(\w+)"`).FindAllSubmatch(source, -1)
	if len(states) != len(want)-1 {
		t.Fatalf("there are %d states, the table has %d", len(states), len(want)-1)
	}
	troubles := []ingest.Trouble{ingest.TroubleNone, ingest.TroubleStalled, ingest.TroubleStore, ingest.TroubleStaged, ingest.TroubleUnreadable,
		ingest.TroubleNotStored, ingest.TroublePerson, ingest.TroubleUnregistered, ingest.TroubleNoRecorder, ingest.TroubleOther}
	for _, s := range states {
		if _, ok := want[ingest.SlotState(s[1])]; !ok {
			t.Errorf("%s is not in the table", s[1])
		}
	}
	for state, class := range want {
		for _, trouble := range troubles {
			v := copying(recorder("1", "150525", "DSJ-0412", state, 0, 61), 1e9, 1, 0)
			v.Trouble = trouble
			body := get(t, serve(t, newDock(v), board.Options{}), "/")
			tile := regexp.MustCompile(`(?s)<article.*</article>`).FindString(body)
			if !strings.Contains(tile, `class="slot `+class+`"`) {
				t.Errorf("%s, %q: %.100s", state, trouble, tile)
			}
			if safe := strings.Contains(tile, "可以取下") || strings.Contains(tile, "i-check") || strings.Contains(tile, "已存妥"); safe != (state == ingest.Safe) {
				t.Errorf("%s, %q: looks safe: %v", state, trouble, safe)
			}
			if strings.Contains(tile, ">100%<") || strings.Contains(tile, `valuenow="100"`) {
				t.Errorf("%s: shows 100 %%", state)
			}
			if strings.Contains(tile, "⟦") {
				t.Errorf("%s, %q: words are missing: %s", state, trouble, tile)
			}
		}
	}
}

// Both languages have the same words, and none of them is empty.
func TestLanguagesHaveTheSameWords(t *testing.T) {
	t.Parallel()
	keys := map[string][]string{}
	for _, lang := range []string{board.Chinese, board.English} {
		text, err := os.ReadFile("words/active." + lang + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var words map[string]string
		if err := json.Unmarshal(text, &words); err != nil {
			t.Fatal(err)
		}
		blanks := map[string][]string{}
		for key, word := range words {
			keys[lang] = append(keys[lang], key)
			if strings.TrimSpace(word) == "" {
				t.Errorf("%s: %s is empty", lang, key)
			}
			blanks[key] = regexp.MustCompile(`\{\{\.\w+\}\}`).FindAllString(word, -1)
			slices.Sort(blanks[key])
			keys[lang] = append(keys[lang], fmt.Sprint(key, blanks[key]))
		}
		slices.Sort(keys[lang])
	}
	if !reflect.DeepEqual(keys[board.Chinese], keys[board.English]) {
		t.Errorf("they differ:\n%s\n%s", keys[board.Chinese], keys[board.English])
	}
}

// What has changed comes at once, without waiting for a tick, and the room is told with
// what is not known of it.
func TestChangesComeAtOnce(t *testing.T) {
	t.Parallel()
	d := newDock(busyDay()...)
	d.room = ingest.Room{FreeBytes: d.room.FreeBytes}
	url := serve(t, d, board.Options{})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	first, seq := true, 0
	follow(ctx, t, url, func(f frame) bool {
		if f.name == "tick" && first {
			first = false
			d.set(func(views []ingest.SlotView) []ingest.SlotView {
				views[1].State, views[1].Fraction, views[1].Left = ingest.Safe, 1, nil
				return views
			})
		}
		if f.name == "tick" {
			seq++
		}
		if f.name == "slot" {
			if seq > 2 {
				t.Errorf("it came after %d ticks", seq)
			}
			if !strings.Contains(f.data, "可以取下") || !strings.Contains(f.data, `"i":1`) {
				t.Errorf("it is %s", f.data)
			}
			return true
		}
		return false
	})
	if body := get(t, url, "/"); !strings.Contains(body, "3.2 TB") || !strings.Contains(body, "可用天数未知") {
		t.Error("it does not tell the room, or what is not known of it")
	}
}

// brokenDock fails when its slots are asked for.
type brokenDock struct{ *dock }

func (brokenDock) Slots() []ingest.SlotView { panic("broken") }

// A fault of the board ends the board alone, and is told.
func TestAFaultEndsTheBoardAlone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := board.New(brokenDock{newDock()}, board.Options{}).Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("it ended with %v", err)
	}
}
