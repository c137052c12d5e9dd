// Package browsertest is a browser for tests of pages that people look at: it opens
// them, takes pictures, and finds what is cut off or can't be read.
package browsertest

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Browser starts Chromium, which is closed with the test. Where there is none the test
// is skipped.
func Browser(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes long")
	}
	path := os.Getenv("BODYWORN_CHROMIUM")
	if path == "" {
		path = "/usr/bin/chromium"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("there is no Chromium: install it (apt-get install chromium fonts-noto-cjk), or set BODYWORN_CHROMIUM")
	}
	allocator, free := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.NoFirstRun, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("headless", true), chromedp.Flag("disable-quic", true), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en-US"),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-default-apps", true), chromedp.Flag("disable-extensions", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"))
	tab, end := chromedp.NewContext(allocator)
	if err := chromedp.Do(tab); err != nil { // without a time limit, which would end the browser
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(tab, 8*time.Minute)
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

// Picture keeps what the browser shows in the folder that BODYWORN_SHOTS names, or one
// that goes with the test.
func Picture(ctx context.Context, t *testing.T, name string) {
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

//go:embed cutoff.js
var cutOff string

// CutOff lists every element of a board whose content does not fit it, its tile or the
// screen, and what lies over each other.
func CutOff(ctx context.Context) ([]string, error) {
	return chromedp.Run(ctx, chromedp.Evaluate[[]string](cutOff))
}

// Violations lists what axe-core finds against WCAG 2.2 AA on the page. BODYWORN_AXE
// names its axe.min.js, without which the test is skipped.
func Violations(ctx context.Context, t *testing.T) []string {
	t.Helper()
	axe, err := os.ReadFile(os.Getenv("BODYWORN_AXE"))
	if err != nil {
		t.Skip("there is no axe-core: scripts/test fetches it and sets BODYWORN_AXE")
	}
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[int](string(axe)+";1")); err != nil {
		t.Fatal(err)
	}
	const run = `axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']}).then(r => JSON.stringify({
		passes: r.passes.length, violations: r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.target + ' ' + n.failureSummary).join(' | '))}))`
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](run, chromedp.EvalAwaitPromise))
	var found struct {
		Passes     int
		Violations []string
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &found)
	}
	if err == nil && found.Passes == 0 {
		err = fmt.Errorf("axe-core looked at nothing: %s", text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return found.Violations
}
