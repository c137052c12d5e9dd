package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Whatever is shown the ledger has before; what it can't have is not shown, and works
// again when it can.
func TestNothingIsShownThatTheLedgerCannotHave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := w.login("li")
	if a := b.get("/admin/sessions?officer=012345"); a.status != http.StatusOK || !strings.Contains(a.body, "20261124-083107-aaaaaaaa") || strings.Contains(a.body, "bbbbbbbb") {
		t.Fatalf("the list: %d\n%s", a.status, a.body)
	}
	if a := b.get("/admin/sessions/20261124-083107-aaaaaaaa"); a.status != http.StatusOK || !strings.Contains(a.body, strings.Repeat("ab", 32)) || !strings.Contains(a.body, "快 3分12秒") {
		t.Fatalf("the session: %d\n%s", a.status, a.body)
	}
	views := w.lines("view.page")
	if len(views) != 2 || views[0].Actor != "account li" || views[0].Detail["query"] != "officer=012345" || views[1].Session != "20261124-083107-aaaaaaaa" {
		t.Errorf("the ledger has %+v", views)
	}
	unblock := w.blockLedger()
	for _, path := range []string{"/admin/sessions", "/admin/sessions/20261124-083107-aaaaaaaa"} {
		a := b.get(path)
		if a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "aaaaaaaa") || !strings.Contains(a.body, "采集不受影响") {
			t.Errorf("%s with a ledger that can't be written: %d\n%s", path, a.status, a.body)
		}
	}
	if a := w.browser().post("/login", url.Values{"name": {"wulan"}, "password": {password}}); a.status != http.StatusServiceUnavailable || a.header.Get("Set-Cookie") != "" {
		t.Errorf("a login that can't be written down: %d", a.status)
	}
	unblock()
	if a := b.get("/admin/sessions"); a.status != http.StatusOK {
		t.Errorf("afterwards: %d", a.status)
	}
}
