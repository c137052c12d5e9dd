package board_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/board"
)

func itoa(n int) string { return strconv.Itoa(n) }

// chromium gives the browser of this machine, or skips the test.
func chromium(t *testing.T) string {
	t.Helper()
	path := os.Getenv("BODYWORN_CHROMIUM")
	if path == "" {
		path = "/usr/bin/chromium"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("there is no Chromium; install it (apt-get install chromium fonts-noto-cjk) or set BODYWORN_CHROMIUM")
	}
	return path
}

// browser starts one that is closed with the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	allocator, free := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(chromium(t)), chromedp.NoFirstRun, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("headless", true), chromedp.Flag("disable-quic", true), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en-US"),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-default-apps", true), chromedp.Flag("disable-extensions", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"))
	tab, end := chromedp.NewContext(allocator)
	if err := chromedp.Do(tab); err != nil { // without a time limit, which would end the browser
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(tab, 3*time.Minute)
	t.Cleanup(func() {
		stop()
		if err := chromedp.Cancel(tab); err != nil && !errors.Is(err, context.Canceled) {
			t.Log(err)
		}
		end()
		free()
	})
	return ctx
}

// keep writes a picture to where BODYWORN_SHOTS says.
func keep(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("BODYWORN_SHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

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

// overflows finds every element whose content does not fit it or its tile.
const overflows = `(() => {
  const found = [];
  const words = e => (e.closest('.slot')?.id || '') + ' ' + e.tagName + '.' + e.className + ' "' + e.textContent.trim().slice(0, 30) + '"';
  for (const e of document.querySelectorAll('header, header *, main, main *, footer, footer *')) {
    if (e instanceof SVGElement || e.closest('.sr')) continue;
    const style = getComputedStyle(e), r = e.getBoundingClientRect();
    if (r.width === 0 || style.visibility === 'hidden') continue;
    if (style.display !== 'inline' && e.scrollWidth > e.clientWidth + 1) found.push('too wide: ' + words(e) + ' ' + e.scrollWidth + '>' + e.clientWidth);
    if (e.matches('.slot,.in,.bot,header,footer,main,.badges') && e.scrollHeight > e.clientHeight + 2) found.push('too high: ' + words(e) + ' ' + e.scrollHeight + '>' + e.clientHeight);
    const box = (e.closest('.in') || document.body).getBoundingClientRect();
    if (e !== document.body && (r.right > box.right + 1 || r.bottom > box.bottom + 1 || r.left < box.left - 1 || r.top < box.top - 1) && !e.matches('.slot')) found.push('outside: ' + words(e));
    if (r.right > innerWidth + 1 || r.bottom > innerHeight + 1) found.push('off the screen: ' + words(e));
  }
  for (const tile of document.querySelectorAll('.slot')) {
    const parts = ['.top', '.mid strong', '.line', '.badges'].map(s => tile.querySelector(s)).filter(e => e.getBoundingClientRect().height > 0);
    for (let i = 1; i < parts.length; i++)
      // Lines of Chinese leave a fifth of their height free above and below.
      if (parts[i - 1].getBoundingClientRect().bottom > parts[i].getBoundingClientRect().top + 0.2 * parseFloat(getComputedStyle(tile.querySelector('strong')).fontSize)) found.push('over each other: ' + words(parts[i - 1]) + ' and ' + words(parts[i]));
  }
  const order = [...document.querySelectorAll('header > *, footer > *')].filter(e => e.getBoundingClientRect().width > 0);
  for (const a of order) for (const b of order) {
    if (a === b || a.parentElement !== b.parentElement) continue;
    const x = a.getBoundingClientRect(), y = b.getBoundingClientRect();
    if (x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 1 && y.top < x.bottom - 1) found.push('over each other: ' + words(a) + ' and ' + words(b));
  }
  return found;
})()`

// Nothing is cut off or covered, in no language, on no screen, for no number of slots.
func TestNothingIsCutOff(t *testing.T) {
	ctx := browser(t)
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
				found, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](overflows))
				if err != nil {
					t.Fatal(name, err)
				}
				for _, f := range found {
					t.Errorf("%s: %s", name, f)
				}
				keep(t, ctx, name)
			}
		}
	}
}

// Pictures for eyes that see no colours, or not all.
func TestPicturesWithoutColour(t *testing.T) {
	ctx := browser(t)
	url := serve(t, newDock(busyDay()...), board.Options{Name: "奈曼旗文化市场综合执法局", Demo: true})
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1920, 1080), chromedp.Navigate(url+"/"), chromedp.WaitNotVisible(chromedp.CSS("#stale"))); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []emulation.SetEmulatedVisionDeficiencyType{"deuteranopia", "achromatopsia"} {
		if _, err := chromedp.Call(ctx, emulation.SetEmulatedVisionDeficiency, emulation.SetEmulatedVisionDeficiencyParams{Type: kind}); err != nil {
			t.Fatal(err)
		}
		keep(t, ctx, "board-"+string(kind))
	}
}
