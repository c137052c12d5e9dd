package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/ingest/browsertest"
)

// boardPlace is a station with two slots and a board at an address of its own.
func boardPlace(t *testing.T) (p *place, url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(testConfig, `board: {listen: ""}`, fmt.Sprintf("board: {listen: %q, phone: '8012'}", address), 1)
	config = strings.Replace(config, "- {path: drop, kind: folder}", "- {path: drop, kind: folder, slot: '1'}\n  - {path: drop2, kind: folder, slot: '2'}", 1)
	config = strings.Replace(config, "{id: TEST-01}", "{id: TEST-01, name: 奈曼旗文化市场综合执法局}", 1)
	p = newPlace(t, config)
	if err := os.Mkdir(p.path("drop2"), 0o700); err != nil {
		t.Fatal(err)
	}
	return p, "http://" + address + "/"
}

// show waits until a selector is on the page.
func show(ctx context.Context, t *testing.T, selector string) {
	t.Helper()
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(selector))); err != nil {
		page, _ := chromedp.Run(context.WithoutCancel(ctx), chromedp.Evaluate[string]("document.body.innerText")) // for the message only
		t.Fatalf("%s does not come: %v\n%s", selector, err, page)
	}
}

func wordsOn(ctx context.Context, t *testing.T, selector string) string {
	t.Helper()
	words, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		t.Fatal(err)
	}
	return words
}

// An officer's evening, as the screen at the dock shows it: a recorder is docked, taken
// too early, put back, safe, and taken. Then the daemon hangs, goes on, and is started
// anew.
func TestTheBoardThroughADocking(t *testing.T) {
	ctx := browsertest.Browser(t)
	p, url := boardPlace(t)
	d := p.startDaemon()
	d.waitFor(`"event":"board.ready"`)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1920, 1080), chromedp.Navigate(url), chromedp.WaitNotVisible(chromedp.CSS("#stale"))); err != nil {
		t.Fatal(err)
	}
	show(ctx, t, `#s0[data-state="empty"] + #s1[data-state="empty"]`)

	card := simulator.Card{Start: time.Now().Add(-time.Hour).Truncate(time.Second), Clips: 1, ClipLength: time.Second, Recorder: "NMQ0007"}
	if _, err := card.Write(p.path("card")); err != nil {
		t.Fatal(err)
	}
	if err := simulator.Sparse(p.path("card/big.mp4"), 600<<20); err != nil {
		t.Fatal(err)
	}
	dock := func() {
		t.Helper()
		if err := os.Rename(p.path("card"), p.path("drop/card")); err != nil {
			t.Fatal(err)
		}
	}
	take := func() {
		t.Helper()
		if err := os.Rename(p.path("drop/card"), p.path("card")); err != nil {
			t.Fatal(err)
		}
	}
	dock()
	show(ctx, t, `#s0[data-state="copying"] .bar[aria-valuenow]:not([aria-valuenow="0"]):not([aria-valuenow="1"])`)
	if words := wordsOn(ctx, t, "#s0"); !strings.Contains(words, "请勿拔出") || !strings.Contains(words, "NMQ0007") || strings.Contains(words, "big.mp4") {
		t.Errorf("while it is copied:\n%s", words)
	}
	browsertest.Picture(ctx, t, "daemon-copying")
	take()
	show(ctx, t, `#s0[data-state="removed_early"]`)
	if words := wordsOn(ctx, t, "#s0"); !strings.Contains(words, "请插回") || !strings.Contains(words, "NMQ0007") {
		t.Errorf("taken too early:\n%s", words)
	}
	browsertest.Picture(ctx, t, "daemon-removed-early")
	if out := p.must("sessions", "list"); strings.Contains(out, " sealed ") {
		t.Errorf("it was cut off, and is sealed:\n%s", out)
	}
	dock()
	show(ctx, t, `#s0[data-state="safe"]`)
	if out := p.must("sessions", "list"); strings.Count(out, " sealed ") != 1 {
		t.Errorf("the board says safe; the journal says\n%s", out)
	}
	if words := wordsOn(ctx, t, "#s0"); !strings.Contains(words, "可以取下") || strings.Contains(words, "100%") {
		t.Errorf("safe:\n%s", words)
	}
	browsertest.Picture(ctx, t, "daemon-safe")
	take()
	show(ctx, t, `#s0[data-state="empty"]`)
	if words := wordsOn(ctx, t, "#s0"); !strings.Contains(words, "刚取走：已存妥") {
		t.Errorf("taken:\n%s", words)
	}
	if found, err := browsertest.CutOff(ctx); err != nil || len(found) > 0 {
		t.Errorf("cut off: %q, %v", found, err)
	}

	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	show(ctx, t, "#stale")
	browsertest.Picture(ctx, t, "daemon-hangs")
	if err := d.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.WaitNotVisible(chromedp.CSS("#stale"))); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.documentElement.id = 'before'")); err != nil {
		t.Fatal(err)
	}
	if code := d.stop(); code != 0 {
		t.Errorf("it ended with %d:\n%s", code, d.log())
	}
	show(ctx, t, "#stale")
	p.startDaemon()
	show(ctx, t, `html:not(#before) #s1[data-state="empty"]`)
	if err := chromedp.Do(ctx, chromedp.WaitNotVisible(chromedp.CSS("#stale"))); err != nil {
		t.Fatal(err)
	}
}

// A port that is taken costs the board, not the footage.
func TestAStationWithoutItsBoardGoesOn(t *testing.T) {
	t.Parallel()
	p, url := boardPlace(t)
	l, err := net.Listen("tcp", strings.Trim(strings.TrimPrefix(url, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	d := p.startDaemon()
	d.waitFor(`"level":"error","event":"board.failed"`)
	p.write("drop/card/a.mp4", "footage")
	d.waitFor("safe: 1 files, 1 stored")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	d.waitFor(`"event":"board.ready"`)
	if n := strings.Count(d.log(), `"event":"board.failed"`); n != 1 {
		t.Errorf("it was told %d times", n)
	}
	if code := d.stop(); code != 0 {
		t.Errorf("it ended with %d:\n%s", code, d.log())
	}
}
