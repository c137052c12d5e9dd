package console_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/browsertest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

// shelf stands for the vault: it knows the objects that were put on it, and of any
// other that has a version gives bytes that tell where they stood.
type shelf struct {
	mu      sync.Mutex
	objects map[string][]byte // guarded by mu; by key and version
	asked   []int64           // guarded by mu; the offsets
	broken  error             // guarded by mu
}

func (s *shelf) put(key, version string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		s.objects = map[string][]byte{}
	}
	s.objects[key+" "+version] = body
}

func (s *shelf) offsets() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int64(nil), s.asked...)
}

func (s *shelf) FetchFrom(_ context.Context, key, version string, offset int64) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, offset)
	if s.broken != nil {
		return nil, s.broken
	}
	body, ok := s.objects[key+" "+version]
	if !ok && !strings.HasPrefix(version, "v") {
		return nil, fmt.Errorf("fetch %s: %w", key, storage.ErrNotFound)
	}
	if !ok {
		body = pattern(300_000)
	}
	return io.NopCloser(bytes.NewReader(body[offset:])), nil
}

// pattern tells at each byte where it stands.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i/251*7 + i)
	}
	return b
}

const smallFile = "/admin/sessions/" + ofWang + "/files/3"

// Pieces come as they are asked for, of the very version that was stored, and the ledger
// has one line of a viewing before its first byte.
func TestPlayback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := w.login("li")
	if a := b.get(smallFile); a.status != http.StatusOK || !strings.Contains(a.body, "<video") || !strings.Contains(a.body, smallFile+"/content") || !strings.Contains(a.body, "v2") {
		t.Fatalf("the page: %d\n%s", a.status, a.body)
	}
	if lines := w.lines("view.file"); len(lines) != 0 {
		t.Errorf("the page alone plays nothing: %+v", lines)
	}
	whole := pattern(300_000)
	for _, c := range []struct {
		ask    string
		status int
		want   []byte
	}{
		{"", 200, whole}, {"bytes=0-99", 206, whole[:100]}, {"bytes=200000-", 206, whole[200000:]}, {"bytes=-10", 206, whole[len(whole)-10:]},
		{"bytes=299999-400000", 206, whole[299999:]}, {"bytes=300000-", 416, nil}, {"bytes=5-2", 416, nil}, {"nonsense", 416, nil},
	} {
		r := b.request(http.MethodGet, smallFile+"/content", nil)
		if c.ask != "" {
			r.Header.Set("Range", c.ask)
		}
		a := b.do(r)
		if a.status != c.status || c.want != nil && a.body != string(c.want) {
			t.Errorf("%q: %d with %d bytes, want %d with %d", c.ask, a.status, len(a.body), c.status, len(c.want))
		}
		if c.want != nil && (a.header.Get("Content-Type") != "video/mp4" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.Contains(a.header.Get("Content-Security-Policy"), "sandbox") || a.header.Get("Accept-Ranges") != "bytes") {
			t.Errorf("%q: headers %v", c.ask, a.header)
		}
	}
	lines := w.lines("view.file")
	if len(lines) != 1 || lines[0].Actor != "account li" || lines[0].Session != ofWang || lines[0].Detail["how"] != "played" ||
		len(lines[0].Objects) != 1 || lines[0].Objects[0].Version != "v2" || !strings.HasSuffix(lines[0].Objects[0].Key, "DCIM/100/0002.MP4") {
		t.Errorf("the ledger has %+v", lines)
	}
	a := b.get(smallFile + "/content?save=1")
	if a.status != http.StatusOK || a.body != string(whole) || a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("Content-Disposition") != "attachment; filename=0002.MP4" {
		t.Errorf("saved: %d %v", a.status, a.header)
	}
	b.get(smallFile + "/content?save=1")
	w.login("wulan").get(smallFile + "/content")
	var how []string
	for _, e := range w.lines("view.file") {
		how = append(how, e.Actor+" "+e.Detail["how"])
	}
	if got := strings.Join(how, ", "); got != "account li played, account li saved, account wulan played" {
		t.Errorf("the ledger has %s", got)
	}
}

// What the ledger can't have is not played, nor what is not an officer's own, nor what
// is not there.
func TestWhatIsNotPlayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	li, wang := w.login("li"), w.login("wang")
	unblock := w.blockLedger()
	if a := li.get(smallFile + "/content"); a.status != http.StatusServiceUnavailable || len(w.shelf.offsets()) != 0 {
		t.Errorf("without a ledger: %d, the store was asked at %v", a.status, w.shelf.offsets())
	}
	unblock()
	if a := wang.get(smallFile + "/content"); a.status != http.StatusOK {
		t.Errorf("an officer's own: %d", a.status)
	}
	for _, path := range []string{"/admin/sessions/" + ofLiu + "/files/4", "/admin/sessions/" + ofLiu + "/files/4/content"} {
		if a := wang.get(path); a.status != http.StatusForbidden {
			t.Errorf("another officer's %s: %d", path, a.status)
		}
	}
	folder := &journal.File{Session: ofWang, Entry: device.Entry{Path: "DCIM", Kind: device.KindDir}, State: journal.Noted}
	if err := w.journal.AddFiles(t.Context(), []*journal.File{folder}); err != nil {
		t.Fatal(err)
	}
	// A file of another session is none of this one's, and no way around the above.
	for _, path := range []string{fmt.Sprintf("/admin/sessions/%s/files/%d", ofWang, folder.ID), "/admin/sessions/" + ofWang + "/files/4/content", "/admin/sessions/" + ofWang + "/files/x", "/admin/sessions/" + ofWang + "/files/99"} {
		if a := wang.get(path); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := li.get("/admin/sessions/" + ofLiu + "/files/6"); a.status != http.StatusOK || strings.Contains(a.body, "<video") || !strings.Contains(a.body, "没有入库") {
		t.Errorf("a file that was not stored: %d\n%s", a.status, a.body)
	}
	if a := li.get("/admin/sessions/" + ofLiu + "/files/6/content"); a.status != http.StatusGone {
		t.Errorf("its bytes: %d", a.status)
	}
	// A store that gives less than was stored ends the answer: it does not look whole.
	w.shelf.put("TEST-01/"+ofWang+"/footage/DCIM/100/0002.MP4", "v2", pattern(1000))
	res, err := li.client.Do(li.request(http.MethodGet, smallFile+"/content?save=1", nil))
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	if err == nil {
		t.Error("a file that is cut short looks whole")
	}
}

// A real clip plays in a real browser, and jumping ahead asks for the bytes there.
func TestPlaybackInABrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	dir := filepath.Join(t.TempDir(), "card")
	contents, err := simulator.Card{Clips: 1, ClipLength: time.Minute}.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range contents.Files {
		if !strings.HasSuffix(f.Path, ".MP4") {
			continue
		}
		body, err := os.ReadFile(filepath.Join(dir, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		w.shelf.put("clip", "v7", body)
		sum := fmt.Sprintf("%x", sha256.Sum256(body))
		if err := w.journal.AddFiles(t.Context(), []*journal.File{{
			Session: ofWang, Entry: device.Entry{Path: f.Path, Kind: device.KindFile, Size: int64(len(body)), ModTime: f.ModifiedAt}, State: journal.Verified,
			Verification: ingest.ReadBack, SHA256: sum, Object: storage.Object{Key: "clip", VersionID: "v7"},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	s := &screen{t, w, browsertest.Browser(t)}
	s.do(chromedp.EmulateViewport(1440, 1100))
	s.open("/login?next=/admin/sessions/" + ofWang)
	s.keys("wang" + kb.Tab + password + kb.Enter)
	s.waitFor("证据保管链")
	s.do(chromedp.Click(chromedp.CSS(`a[href$="/files/7"]`)))
	s.waitFor("所属采集批次")
	watch := func(what string) float64 {
		t.Helper()
		at, err := chromedp.Run(s.ctx, chromedp.Evaluate[float64](what, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return at
	}
	if length := watch(`new Promise((done, no) => { const v = document.querySelector('video'); v.onerror = () => no(v.error.message); v.readyState ? done(v.duration) : v.onloadedmetadata = () => done(v.duration) })`); length < 59 || length > 61 {
		t.Errorf("it is %g s long", length)
	}
	if at := watch(`new Promise(done => { const v = document.querySelector('video'); v.muted = true; v.ontimeupdate = () => v.currentTime > 0.2 && done(v.currentTime); v.play() })`); at < 0.2 {
		t.Errorf("it plays at %g s", at)
	}
	before := len(w.shelf.offsets())
	if at := watch(`new Promise(done => { const v = document.querySelector('video'); v.ontimeupdate = null; v.pause(); v.onseeked = () => done(v.currentTime); v.currentTime = 50 })`); at < 49.9 || at > 50.1 {
		t.Errorf("after the jump it is at %g s", at)
	}
	if later := w.shelf.offsets()[before:]; len(later) == 0 || slices.Max(later) < 10<<20 {
		t.Errorf("the store was asked for bytes at %v for the jump", later)
	}
	s.checkLook("console-playback")
	if lines := w.lines("view.file"); len(lines) != 1 || lines[0].Actor != "account wang" {
		t.Errorf("the ledger has %+v", lines)
	}
	s.do(chromedp.EmulateViewport(800, 900))
	s.open("/admin/sessions/" + ofWang + "/files/3?lang=en")
	s.checkLook("console-playback-en")
}
