package board_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/board"
	"github.com/bodyworn/ingestd/ingest/browsertest"
)

func itoa(n int) string { return strconv.Itoa(n) }

// serve gives the address of a board of the dock.
func serve(t *testing.T, d *dock, o board.Options) string {
	t.Helper()
	if o.Location == nil {
		o.Location = beijing
	}
	if o.StationClock == nil {
		o.StationClock = func() device.StationClock { return device.StationClock{Synchronised: true} }
	}
	b := board.New(d, o)
	ctx, stop := context.WithCancel(context.Background())
	server := httptest.NewServer(b.Handler())
	ended := make(chan struct{})
	go func() {
		b.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

var beijing = func() *time.Location {
	loc, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		panic(err)
	}
	return loc
}()

// Nothing is cut off or covered, in no language, on no screen, for no number of slots.
func TestNothingIsCutOff(t *testing.T) {
	ctx := browsertest.Browser(t)
	screens := []struct{ w, h int64 }{{1366, 768}, {1920, 1080}, {3840, 2160}, {1080, 1920}}
	for _, lang := range []string{board.Chinese, board.English} {
		for kind, views := range map[string][]ingest.SlotView{"8": many(8), "12": many(12), "32": many(32), "words": everyWord()} {
			url := serve(t, newDock(views...), board.Options{Name: "奈曼旗文化市场综合执法局", Phone: "8012", Language: lang})
			for _, screen := range screens {
				name := fmt.Sprintf("board-%s-%s-%dx%d", lang, kind, screen.w, screen.h)
				if err := chromedp.Do(ctx, chromedp.EmulateViewport(screen.w, screen.h), chromedp.Navigate(url+"/"),
					chromedp.WaitNotVisible(chromedp.CSS("#stale")), chromedp.WaitVisible(chromedp.CSS("#s"+itoa(len(views)-1)))); err != nil {
					t.Fatal(name, err)
				}
				found, err := browsertest.CutOff(ctx)
				if err != nil {
					t.Fatal(name, err)
				}
				for _, f := range found {
					t.Errorf("%s: %s", name, f)
				}
				browsertest.Picture(ctx, t, name)
			}
		}
	}
}

// Pictures for eyes that see no colours, or not all.
func TestPicturesWithoutColour(t *testing.T) {
	ctx := browsertest.Browser(t)
	url := serve(t, newDock(busyDay()...), board.Options{Name: "奈曼旗文化市场综合执法局", Demo: true})
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1920, 1080), chromedp.Navigate(url+"/"), chromedp.WaitNotVisible(chromedp.CSS("#stale"))); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []emulation.SetEmulatedVisionDeficiencyType{"deuteranopia", "achromatopsia"} {
		if _, err := chromedp.Call(ctx, emulation.SetEmulatedVisionDeficiency, emulation.SetEmulatedVisionDeficiencyParams{Type: kind}); err != nil {
			t.Fatal(err)
		}
		browsertest.Picture(ctx, t, "board-"+string(kind))
	}
}

// axe-core finds nothing, and the cover neither.
func TestEverybodyCanReadIt(t *testing.T) {
	ctx := browsertest.Browser(t)
	for _, lang := range []string{board.Chinese, board.English} {
		for kind, views := range map[string][]ingest.SlotView{"12": busyDay(), "words": everyWord()} {
			url := serve(t, newDock(views...), board.Options{Name: "奈曼旗文化市场综合执法局", Phone: "8012", Language: lang, Demo: true})
			if err := chromedp.Do(ctx, chromedp.EmulateViewport(1920, 1080), chromedp.Navigate(url+"/"), chromedp.WaitNotVisible(chromedp.CSS("#stale"))); err != nil {
				t.Fatal(err)
			}
			for _, v := range browsertest.Violations(ctx, t) {
				t.Errorf("%s, %s: %s", lang, kind, v)
			}
		}
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("document.getElementById('stale').className = ''; document.getElementById('stale').hidden = false")); err != nil {
			t.Fatal(err)
		}
		for _, v := range browsertest.Violations(ctx, t) {
			t.Errorf("%s, covered: %s", lang, v)
		}
	}
}

// A stream that is answered by something else than events, such as the 502 of a proxy,
// is closed for good by the browser. The page covers itself and comes back alone; and a
// page without its script is covered too.
func TestThePageComesBackAfterABadGateway(t *testing.T) {
	ctx := browsertest.Browser(t)
	b := board.New(newDock(busyDay()...), board.Options{})
	running, stop := context.WithCancel(context.Background())
	defer stop()
	go b.Run(running)
	var down, noScript atomic.Bool
	pages := b.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() && r.URL.Path == "/events" || noScript.Load() && r.URL.Path == "/static/board.js" {
			http.Error(w, "bad gateway", http.StatusBadGateway)
			return
		}
		pages.ServeHTTP(w, r)
	}))
	defer server.Close()
	defer server.CloseClientConnections()
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1920, 1080), chromedp.Navigate(server.URL+"/"), chromedp.WaitNotVisible(chromedp.CSS("#stale"))); err != nil {
		t.Fatal(err)
	}
	down.Store(true)
	server.CloseClientConnections()
	if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS("#stale"))); err != nil {
		t.Fatal(err)
	}
	browsertest.Picture(ctx, t, "board-stale")
	down.Store(false)
	if err := chromedp.Do(ctx, chromedp.WaitNotVisible(chromedp.CSS("#stale"))); err != nil {
		t.Fatal(err)
	}
	noScript.Store(true)
	if err := chromedp.Do(ctx, chromedp.Navigate(server.URL+"/"), chromedp.WaitVisible(chromedp.CSS("#stale"))); err != nil {
		t.Fatal(err)
	}
}
