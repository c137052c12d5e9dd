package console_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/console"
	"github.com/bodyworn/ingestd/storage/ledger"
)

const (
	ofWang = "20261124-083107-aaaaaaaa" // the session of the officer whose account wang is
	ofLiu  = "20261124-090210-bbbbbbbb"
)

// routes is who may see what. It stands here once more, so that nobody is let in by a
// slip in a table.
var routes = map[string]string{
	"GET /{$}":                                           "admin auditor itstaff officer",
	"GET /admin/recorders":                               "admin auditor itstaff",
	"POST /admin/recorders":                              "admin",
	"POST /admin/recorders/remove":                       "admin",
	"GET /admin/dock":                                    "admin itstaff",
	"GET /admin/ledger":                                  "admin auditor",
	"GET /admin/bucket":                                  "admin auditor itstaff",
	"POST /admin/bucket":                                 "admin itstaff",
	"GET /admin/stats":                                   "admin auditor",
	"GET /api/v1/stats":                                  "admin auditor",
	"GET /admin/health":                                  "admin auditor itstaff",
	"GET /admin/retention":                               "admin auditor",
	"POST /admin/retention":                              "admin",
	"POST /admin/retention/preview":                      "admin",
	"GET /admin/holds":                                   "admin auditor",
	"GET /admin/holds/new":                               "admin",
	"POST /admin/holds":                                  "admin",
	"GET /admin/holds/{hold}":                            "admin auditor",
	"POST /admin/holds/{hold}/release":                   "admin",
	"POST /admin/holds/{hold}/retry":                     "admin",
	"GET /admin/disposal":                                "admin auditor",
	"POST /admin/disposal":                               "admin",
	"GET /admin/disposal/{plan}":                         "admin auditor",
	"POST /admin/disposal/{plan}/apply":                  "admin",
	"GET /admin/sessions":                                "admin auditor officer",
	"GET /admin/sessions/{session}":                      "admin auditor officer",
	"GET /admin/sessions/{session}/files/{file}":         "admin auditor officer",
	"GET /admin/sessions/{session}/files/{file}/content": "admin auditor officer",
	"GET /api/v1/sessions":                               "admin auditor officer",
	"GET /api/v1/sessions/{session}":                     "admin auditor officer",
}

// sample fills the wildcards of a route with what the world has.
func sample(route string) (method, path string) {
	method, path, _ = strings.Cut(strings.NewReplacer("{$}", "", "{session}", ofWang, "{file}", "3", "{hold}", "H-1", "{plan}", "P-1").Replace(route), " ")
	return method, path
}

var accountOf = map[accounts.Role]string{accounts.Officer: "wang", accounts.Auditor: "li", accounts.ITStaff: "it", accounts.Admin: "wulan"}

// Every route lets in the roles that it is for and nobody else, and a refusal is in the
// ledger.
func TestWhoMaySeeWhichRoute(t *testing.T) {
	t.Parallel()
	w := storedWorld(t, nil)
	is := map[string]string{}
	for _, p := range w.console.Pages() {
		var roles []string
		for _, r := range p.Roles {
			roles = append(roles, string(r))
		}
		slices.Sort(roles)
		is[p.Route] = strings.Join(roles, " ")
	}
	if !maps.Equal(is, routes) {
		t.Errorf("the routes are %v\nwant %v", is, routes)
	}
	for _, role := range accounts.Roles() {
		b := w.login(accountOf[role])
		for _, p := range w.console.Pages() {
			method, path := sample(p.Route)
			refused := len(w.lines("auth.refused"))
			a := b.do(b.request(method, path, nil))
			may := strings.Contains(routes[p.Route], string(role))
			// A form that is empty is refused for what it lacks, not for who has sent it. One
			// that wants the password again is too, and tried by tests of its own.
			switch {
			case !may && a.status != http.StatusForbidden,
				may && method == http.MethodGet && a.status >= 400,
				may && method == http.MethodPost && (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden && !p.PasswordAgain || a.status >= 500):
				t.Errorf("%s of role %s: %d", p.Route, role, a.status)
			}
			// What repeats the line before it is not written again.
			if n := len(w.lines("auth.refused")); !may && n == 0 || may && n != refused {
				t.Errorf("%s of role %s: %d refusals in the ledger, %d before", p.Route, role, n, refused)
			}
		}
	}
	anybody := w.browser()
	for _, p := range w.console.Pages() {
		method, path := sample(p.Route)
		switch a := anybody.do(anybody.request(method, path, nil)); {
		case strings.HasPrefix(path, "/api/") || method != http.MethodGet:
			if a.status != http.StatusUnauthorized {
				t.Errorf("%s without a login: %d", p.Route, a.status)
			}
		case a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/login?next=") || strings.Contains(a.body, "DSJ"):
			t.Errorf("%s without a login: %d to %s", p.Route, a.status, a.header.Get("Location"))
		}
	}
}

// Footage can't be changed or deleted here (第十三条): there is no route that could.
func TestNoRouteChangesFootage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, p := range w.console.Pages() {
		if method, _, _ := strings.Cut(p.Route, " "); method != http.MethodGet && method != http.MethodPost {
			t.Errorf("%s: a page is looked at, or has a form", p.Route)
		}
	}
	b := w.login("wulan")
	for _, method := range []string{http.MethodDelete, http.MethodPut, http.MethodPatch, "PROPFIND"} {
		for _, path := range []string{"/admin/sessions/" + ofWang, "/api/v1/sessions/" + ofWang, "/", "/nowhere"} {
			if a := b.do(b.request(method, path, nil)); a.status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
}

// An officer sees his own sessions, whatever he asks for.
func TestAnOfficerSeesHisOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.addSession("20261124-100000-cccccccc", "", "DSJ-0001", "sealed") // nobody knows whose
	b := w.login("wang")
	for _, query := range []string{"", "?officer=067890", "?officer=&recorder=DSJ-0420", "?state=failed", "?officer=012345"} {
		for _, path := range []string{"/admin/sessions", "/api/v1/sessions"} {
			a := b.get(path + query)
			if a.status != http.StatusOK || strings.Contains(a.body, "bbbbbbbb") || strings.Contains(a.body, "cccccccc") {
				t.Errorf("%s: %d\n%s", path+query, a.status, a.body)
			}
		}
	}
	for _, id := range []string{ofLiu, "20261124-100000-cccccccc"} {
		for _, path := range []string{"/admin/sessions/", "/api/v1/sessions/"} {
			if a := b.get(path + id); a.status != http.StatusForbidden || strings.Contains(a.body, "DSJ") {
				t.Errorf("%s: %d\n%s", path+id, a.status, a.body)
			}
		}
	}
	for _, e := range w.lines("view.page") {
		if e.Session != "" && e.Session != ofWang {
			t.Errorf("the ledger calls a session viewed that was not shown: %+v", e)
		}
	}
	if lines := w.lines("auth.refused"); len(lines) == 0 || lines[0].Actor != "account wang" || !strings.Contains(lines[0].Reason, ofLiu) {
		t.Errorf("refusals in the ledger: %+v", lines)
	}
}

// Whatever is shown the ledger has before; what it can't have is not shown, and works
// again when it can.
func TestNothingIsShownThatTheLedgerCannotHave(t *testing.T) {
	t.Parallel()
	w := storedWorld(t, nil)
	b := w.login("li")
	if a := b.get("/admin/sessions?officer=012345&lang=zh-CN"); a.status != http.StatusOK || !strings.Contains(a.body, ofWang) || strings.Contains(a.body, ofLiu) {
		t.Fatalf("the list: %d\n%s", a.status, a.body)
	}
	if a := b.get("/admin/sessions/" + ofWang); a.status != http.StatusOK || !strings.Contains(a.body, strings.Repeat("ab", 32)) || !strings.Contains(a.body, "快 3分12秒") {
		t.Fatalf("the session: %d\n%s", a.status, a.body)
	}
	views := w.lines("view.page")
	if len(views) != 2 || views[0].Actor != "account li" || views[0].Detail["query"] != "officer=012345" || views[1].Session != ofWang || views[1].Officer != "012345" {
		t.Errorf("the ledger has %+v", views)
	}
	// The one who looks is in the chain of custody that he sees.
	if a := b.get("/admin/sessions/" + ofWang); !strings.Contains(a.body, "account li") || !strings.Contains(a.body, "view.page") {
		t.Errorf("the chain of custody has no view:\n%s", a.body)
	}
	unblock := w.blockLedger()
	for _, p := range w.console.Pages() {
		if p.Unseen || !slices.Contains(p.Roles, accounts.Auditor) || p.PasswordAgain {
			continue
		}
		method, path := sample(p.Route)
		a := b.do(b.request(method, path, nil))
		if a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "aaaaaaaa") || !strings.Contains(a.body, "采集不受影响") {
			t.Errorf("%s with a ledger that can't be written: %d\n%s", path, a.status, a.body)
		}
	}
	if a := w.browser().post("/login", url.Values{"name": {"wulan"}, "password": {password}}); a.status != http.StatusServiceUnavailable || a.header.Get("Set-Cookie") != "" {
		t.Errorf("a login that can't be written down: %d", a.status)
	}
	told := 0
	for _, e := range w.events {
		if e.Name == "console.trouble" && e.Err != nil {
			told++
		}
	}
	if told == 0 {
		t.Error("nobody is told that the ledger can't be written")
	}
	unblock()
	if a := b.get("/admin/sessions"); a.status != http.StatusOK {
		t.Errorf("afterwards: %d", a.status)
	}
}

// A page whose act can't be undone wants the password once more, and slowly where it is
// wrong; nothing of it happens before.
func TestThePasswordAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	done := 0
	w.console.Add(console.Page{
		Route: "POST /admin/sessions/{session}/act", Name: "session", Roles: []accounts.Role{accounts.Admin}, PasswordAgain: true,
		Serve: func(v *console.Visit) error {
			done++
			return v.Record(ledger.Entry{Event: "test.done"})
		},
	})
	w.server.Config.Handler = w.console.Handler()
	b := w.login("wulan")
	path := "/admin/sessions/" + ofWang + "/act"
	for _, given := range []string{"", "wrong wrong wrong"} {
		if a := b.post(path, url.Values{"password": {given}}); a.status != http.StatusForbidden && a.status != http.StatusTooManyRequests || done != 0 {
			t.Errorf("with password %q: %d, done %d times", given, a.status, done)
		}
	}
	if a := b.post(path+"?password="+url.QueryEscape(password), url.Values{}); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || done != 0 {
		t.Errorf("right after a wrong one: %d", a.status)
	}
	if n := len(w.lines("auth.login_failed")); n != 1 || w.lines("auth.login_failed")[0].Detail["for"] != "confirm" {
		t.Errorf("%d failures in the ledger", n)
	}
	w.waitOut()
	if a := b.post(path, url.Values{"password": {password}}); a.status != http.StatusOK || done != 1 {
		t.Errorf("with the password: %d, done %d times\n%s", a.status, done, a.body)
	}
	if lines := w.lines("test.done"); len(lines) != 1 || lines[0].Actor != "account wulan" || lines[0].Session != ofWang {
		t.Errorf("the ledger has %+v", lines)
	}
	if views := w.lines("view.page"); len(views) != 1 || views[0].Detail["method"] != http.MethodPost {
		t.Errorf("views: %+v", views)
	}
}

func TestErrorsForProgramsAreProblemDetails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, c := range []struct {
		who    *browser
		path   string
		status int
		code   string
	}{
		{w.browser(), "/api/v1/sessions", 401, "login_required"},
		{w.login("it"), "/api/v1/sessions", 403, "forbidden"},
		{w.login("li"), "/api/v1/sessions/none", 404, "not_found"},
		{w.login("li"), "/api/v1/nothing", 404, "not_found"},
		{w.login("li"), "/api/v1/sessions?day=24.11.2026", 422, "bad_request"},
	} {
		a := c.who.get(c.path)
		var p struct {
			Status              int
			Code, Title, Detail string
		}
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.header.Get("Content-Type") != "application/problem+json" ||
			a.status != c.status || p.Status != c.status || p.Code != c.code || p.Title == "" || p.Detail == "" {
			t.Errorf("%s: %d %s %v\n%s", c.path, a.status, a.header.Get("Content-Type"), err, a.body)
		}
	}
}

func TestSearchingAndPaging(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var want []string
	for i := range 120 {
		id := fmt.Sprintf("20261125-08%02d%02d-%08d", i/60, i%60, i)
		w.addSession(id, "067890", "DSJ-0500", "sealed")
		want = append(want, id)
	}
	slices.Reverse(want)
	b := w.login("li")
	var seen []string
	next := ""
	for range 5 {
		var page struct {
			Items []struct{ ID string }
			Next  string
		}
		a := b.get("/api/v1/sessions?day=2026-11-25&after=" + url.QueryEscape(next))
		if err := json.Unmarshal([]byte(a.body), &page); err != nil {
			t.Fatalf("%v\n%s", err, a.body)
		}
		for _, i := range page.Items {
			seen = append(seen, i.ID)
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if !slices.Equal(seen, want) {
		t.Errorf("paged through %v\nwant %v", seen, want)
	}
	for query, n := range map[string]int{
		"day=2026-11-24": 2, "day=2026-11-23": 0, "recorder=DSJ-0412": 1, "state=failed": 1, "officer=067890&state=failed": 1, "officer=067890&recorder=DSJ-0412": 0, "state=open": 0,
	} {
		a := b.get("/admin/sessions?" + query)
		if found := strings.Count(a.body, `<td><a href="/admin/sessions/`); a.status != http.StatusOK || found != n {
			t.Errorf("%s: %d, %d rows, want %d", query, a.status, found, n)
		}
	}
	for _, wrong := range []string{"day=24.11.2026", "day=2026-13-01", "state=lost", "after=x"} {
		if a := b.get("/admin/sessions?" + wrong); a.status != http.StatusUnprocessableEntity || strings.Contains(a.body, "<tbody>") {
			t.Errorf("%s: %d", wrong, a.status)
		}
	}
}

// What only the server has checked is never called verified.
func TestTheWeakerVerificationIsSaidToBeWeaker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.weaker = true
	w.addSession("20261125-110000-eeeeeeee", "012345", "DSJ-0900", "sealed")
	b := w.login("li")
	for path, times := range map[string]int{"/admin/sessions?recorder=DSJ-0900": 1, "/admin/sessions/20261125-110000-eeeeeeee": 6} {
		a := b.get(path + map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "lang=zh-CN")
		_, table, _ := strings.Cut(a.body, `<section`)
		table = strings.ReplaceAll(table, `<option value="sealed">已入库并校验</option>`, "")
		if strings.Contains(table, "已入库并校验") || strings.Count(table, "仅服务器校验") != times {
			t.Errorf("%s says it %d times:\n%s", path, strings.Count(table, "仅服务器校验"), table)
		}
	}
}

// What a card holds is shown as text, whatever it is.
func TestNothingOfACardIsMarkup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	hostile := `"><script>alert(1)</script>` + "\u202egpj.exe\x1b[31m"
	w.addSession("20261124-110000-dddddddd", hostile, hostile, "failed")
	b := w.login("li")
	for _, path := range []string{"/admin/sessions", "/admin/sessions/20261124-110000-dddddddd", "/admin/sessions?officer=" + url.QueryEscape(hostile), "/login?next=" + url.QueryEscape("javascript:alert(1)")} {
		if a := b.get(path); strings.Contains(a.body, "<script>alert") || strings.ContainsAny(a.body, "\u202e\x1b") || strings.Contains(a.body, "javascript:") {
			t.Errorf("%s: %d\n%s", path, a.status, a.body)
		}
	}
}
