package console_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/bodyworn/ingestd/ingest/browsertest"
	"github.com/bodyworn/ingestd/ingest/console"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// screen is a tab of a real browser.
type screen struct {
	t   *testing.T
	w   *world
	ctx context.Context
}

func (s *screen) do(steps ...chromedp.Action[chromedp.Void]) {
	s.t.Helper()
	if err := chromedp.Do(s.ctx, steps...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) open(path string) {
	s.t.Helper()
	s.do(chromedp.Navigate(s.w.server.URL+path), chromedp.WaitVisible(chromedp.CSS("main")))
}

// says gives what can be read on the page.
func (s *screen) says() string {
	s.t.Helper()
	text, err := chromedp.Run(s.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// keys types on the keyboard alone, wherever the focus is.
func (s *screen) keys(text string) {
	s.t.Helper()
	s.do(chromedp.KeyEvent(text))
}

// waitFor waits until the page, or its address, says something. A page that is just being left can't be
// asked, and is asked again.
func (s *screen) waitFor(text string) {
	s.t.Helper()
	var says string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var err error
		says, err = chromedp.Run(s.ctx, chromedp.Evaluate[string]("document.readyState == 'complete' ? location.href + '\\n' + document.body.innerText : ''"))
		if err == nil && strings.Contains(says, text) {
			return
		}
	}
	s.t.Fatalf("the page does not say %s:\n%s", text, says)
}

// cutOff lists what does not fit where it is, and whether the page is wider than the
// screen. Tables that are too wide scroll by themselves.
const cutOff = `[document.documentElement, ...document.querySelectorAll('body *')].filter(e => !(e instanceof SVGElement) && !e.closest('.tw') && !e.matches('.skip') &&
	e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display != 'inline' && e.clientWidth > 0).map(e => e.tagName + '.' + e.className + ' ' + e.scrollWidth + '>' + e.clientWidth + ' ' + e.textContent.trim().slice(0, 30))`

func (s *screen) checkLook(name string) {
	s.t.Helper()
	browsertest.Picture(s.ctx, s.t, name)
	all, err := chromedp.Run(s.ctx, chromedp.Evaluate[[]string](cutOff))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, one := range all {
		s.t.Errorf("%s: cut off: %s", name, one)
	}
	if os.Getenv("BODYWORN_AXE") == "" {
		return // which a test of its own says
	}
	for _, v := range browsertest.Violations(s.ctx, s.t) {
		s.t.Errorf("%s: axe-core: %s", name, v)
	}
}

// many is a list that looks like that of a station.
func (w *world) many() {
	w.t.Helper()
	for i, state := range []journal.SessionState{"sealed", "open", "sealing", "sealed", "failed", "sealed"} {
		w.addSession([]string{
			"20261124-084055-k3m9x2pa", "20261124-090310-q7rt41zz", "20261123-141238-b8n2c4dd", "20261123-152201-h5j6k7ll", "20261122-081500-m1n2p3qq", "20260519-102201-r4s5t6uu",
		}[i], []string{"012377", "067890", "", "012345", "030405", "012345"}[i], []string{"DSJ-0417", "DSJ-0420", "", "DSJ-0408", "DSJ-0411", "DSJ-0412"}[i], state)
	}
	if err := w.journal.AddHold(w.t.Context(), journal.Hold{
		ID: "H-1", State: journal.HoldHeld, Case: "奈文综罚〔2026〕17号", Reason: "立案", AddedAt: w.journal.Now(), AddedBy: "account wulan", Of: []journal.Held{{Session: "20260519-102201-r4s5t6uu"}},
	}); err != nil {
		w.t.Fatal(err)
	}
	if err := w.journal.AddTag(w.t.Context(), journal.Tag{Session: ofWang, Tag: "查封扣押", AddedAt: w.journal.Now(), AddedBy: "account wulan"}); err != nil {
		w.t.Fatal(err)
	}
}

// Everything can be done with the keyboard alone: log in, search, open a session, log
// out; and every page can be read by everybody.
func TestInABrowser(t *testing.T) {
	t.Parallel()
	w := storedWorld(t, func(o *console.Options) { o.Demo, o.Name = true, "文化市场综合执法局二楼采集室" })
	w.many()
	s := &screen{t, w, browsertest.Browser(t)}
	s.do(chromedp.EmulateViewport(1440, 1000))
	if os.Getenv("BODYWORN_AXE") == "" {
		defer t.Run("axe-core", func(t *testing.T) {
			t.Skip("there is no axe-core: scripts/test fetches it and sets BODYWORN_AXE")
		})
	}
	s.open("/admin/sessions")
	s.waitFor("登录")
	s.checkLook("console-login")
	s.keys("li" + kb.Tab + "wrong wrong wrong" + kb.Enter)
	s.waitFor("账号或密码不对")
	s.checkLook("console-login-wrong")
	w.waitOut()
	s.keys(password + kb.Enter) // the focus is in the password
	s.waitFor("采集批次")
	s.waitFor(ofWang)
	s.checkLook("console-sessions")

	// The skip link is first; then the menu, the language, the logout and the search.
	s.keys(kb.Tab)
	if at, err := chromedp.Run(s.ctx, chromedp.Evaluate[string]("document.activeElement.className")); err != nil || at != "skip" {
		t.Errorf("the first stop of the keyboard is %q, %v", at, err)
	}
	s.keys(kb.Enter + kb.Tab + "012345" + kb.Enter)
	s.waitFor("officer=012345")
	s.waitFor("20260519-102201-r4s5t6uu")
	if says := s.says(); strings.Contains(says, "DSJ-0420") {
		t.Errorf("the search by keyboard gives:\n%s", says)
	}
	s.do(chromedp.Focus(chromedp.CSS(`a[href="/admin/sessions/` + ofWang + `"]`)))
	s.keys(kb.Enter)
	s.waitFor("证据保管链")
	s.do(chromedp.EmulateViewport(1440, 1400))
	s.checkLook("console-session")
	s.do(chromedp.EmulateViewport(1440, 1000))
	s.open("/admin/sessions/" + ofLiu + "?lang=en")
	s.waitFor("Chain of custody")
	s.checkLook("console-session-en")
	w.addGaps()
	s.open("/admin/sessions/" + gapsSession + "?lang=zh-CN")
	s.waitFor("缺 3 个编号：2–4")
	s.do(chromedp.EmulateViewport(1440, 1700))
	s.checkLook("console-session-gaps")
	s.do(chromedp.EmulateViewport(1440, 1000))
	s.open("/admin/sessions?lang=en")
	s.checkLook("console-sessions-en")
	s.do(chromedp.EmulateViewport(800, 1000))
	s.open("/admin/sessions?lang=zh-CN")
	s.checkLook("console-sessions-800")
	s.do(chromedp.EmulateViewport(1440, 1000))
	s.open("/nothing")
	s.checkLook("console-not-found")
	s.open("/admin/sessions")
	s.do(chromedp.Focus(chromedp.CSS(".who button")))
	s.keys(kb.Enter)
	s.waitFor("登录")

	// Whom the role does not let in is told so, in words.
	s.open("/login?next=/admin/sessions")
	s.keys("it" + kb.Tab + password + kb.Enter)
	s.waitFor("你的账号不能查看这一页")
	s.checkLook("console-refused")
	if n := len(w.lines("auth.refused")); n != 1 {
		t.Errorf("%d refusals in the ledger", n)
	}
	s.open("/") // leads to the first page that he may see
	s.waitFor("/admin/recorders")
	for _, page := range []string{"recorders", "dock", "bucket", "health"} {
		s.open("/admin/" + page)
		s.checkLook("console-" + page)
	}

	unblock := w.blockLedger()
	defer unblock()
	if a := w.browser().get("/login"); a.status != http.StatusOK {
		t.Errorf("the login: %d", a.status)
	}
	s.open("/login")
	s.keys("wulan" + kb.Tab + password + kb.Enter)
	s.waitFor("操作日志写不进去")
	s.checkLook("console-no-ledger")
}
