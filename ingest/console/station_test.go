package console_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/browsertest"
	"github.com/bodyworn/ingestd/ingest/console"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// What is exported says what the journal has, the ledger has the export first, and a
// spreadsheet takes nothing of it for a formula.
func TestStatistics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.addSession("20261005-080000-cccccccc", "=cmd()", "DSJ-0500", journal.StateSealed)
	if err := w.journal.AddRecorder(t.Context(), journal.Recorder{Serial: "DSJ-0412", Unit: "二中队", AddedAt: w.journal.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := w.journal.SaveSession(t.Context(), journal.Session{ID: "S-EARLY", State: journal.StateOpen, Recorder: "DSJ-0900", DockedAt: time.Date(2026, 9, 1, 0, 0, 0, 0, beijing), EarlyRemovals: new(2)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.evidence.Ledger.Append(t.Context(), ledger.Entry{Station: "TEST-01", Event: "view.file", Actor: "account wang", Time: w.journal.Now(), Session: ofWang}); err != nil {
		t.Fatal(err)
	}
	b := w.login("li")
	for by, want := range map[string]string{
		"month":    "2026-10|1|1|0|3, 2026-11|2|1|1|6",
		"officer":  "012345|1|1|0|3, 067890|1|0|1|3, =cmd()|1|1|0|3",
		"recorder": "DSJ-0412|1|1|0|3, DSJ-0420|1|0|1|3, DSJ-0500|1|1|0|3",
		"unit":     "|2|1|1|6, 二中队|1|1|0|3",
	} {
		a := b.get("/api/v1/stats?from=2026-10-01&to=2026-11-30&by=" + by)
		var s struct{ Items []map[string]any }
		if err := json.Unmarshal([]byte(a.body), &s); err != nil {
			t.Fatalf("%s: %d %v\n%s", by, a.status, err, a.body)
		}
		var got []string
		for _, i := range s.Items {
			got = append(got, fmt.Sprintf("%v|%v|%v|%v|%v", i["key"], i["sessions"], i["sealed"], i["failed"], i["files"]))
		}
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("by %s: %s, want %s", by, got, want)
		}
	}
	exports := len(w.lines("view.export"))
	if exports != 4 {
		t.Errorf("%d exports in the ledger", exports)
	}
	a := b.get("/api/v1/stats?from=2026-10-01&to=2026-11-30&by=officer&format=csv")
	if a.status != http.StatusOK || !strings.HasPrefix(a.body, "\ufeff") || !strings.Contains(a.body, "'=cmd(),1,1,0,3,2147783648,未知,1,0,0\n") || !strings.Contains(a.body, "\n012345,1,1,0,3,2147783648,未知,1,0,1\n") || !strings.Contains(a.header.Get("Content-Disposition"), "attachment") {
		t.Errorf("CSV: %d %v\n%s", a.status, a.header, a.body)
	}
	if a := b.get("/admin/stats?from=2026-10-01&to=2026-11-30"); a.status != http.StatusOK || !strings.Contains(a.body, "<rect") || !strings.Contains(a.body, `<th scope="row">2026-10</th>`) {
		t.Errorf("the page: %d\n%s", a.status, a.body)
	}
	if a := b.get("/admin/stats?by=recorder&from=2026-09-01&to=2026-11-30"); !strings.Contains(a.body, "<td class=\"r\">2</td><td class=\"r\">0</td><td class=\"r\">1</td><td class=\"r\">0</td></tr>") || !strings.Contains(a.body, "至少 2") {
		t.Errorf("early removals, of which some are not known:\n%s", a.body)
	}
	for _, wrong := range []string{"by=mood", "from=1.1.2026", "from=2026-12-01&to=2026-11-01", "format=xml"} {
		if a := b.get("/api/v1/stats?" + wrong); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", wrong, a.status)
		}
	}
	unblock := w.blockLedger()
	defer unblock()
	if a := b.get("/api/v1/stats"); a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "2026-11") {
		t.Errorf("without a ledger: %d\n%s", a.status, a.body)
	}
}

// The register is changed as from the command line: the ledger has it first.
func TestTheRegister(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *console.Options) {
		o.HasProfile = func(name string) (bool, error) { return name == "infodat", nil }
	})
	b := w.login("wulan")
	for name, c := range map[string]struct {
		form url.Values
		says string
	}{
		"no serial":  {url.Values{"officer": {"150525"}}, "不能空着"},
		"all zeros":  {url.Values{"serial": {"0000000"}}, "不能空着"},
		"no profile": {url.Values{"serial": {"DSJ-0412"}, "profile": {"none"}}, "没有这个机型配置"},
	} {
		if a := b.post("/admin/recorders", c.form); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: %d\n%s", name, a.status, a.body)
		}
	}
	if a := b.post("/admin/recorders", url.Values{"serial": {"DSJ-0412"}, "officer": {"150525"}, "profile": {"infodat"}, "note": {"<b>备用</b>"}}); a.status != http.StatusSeeOther {
		t.Fatalf("add: %d\n%s", a.status, a.body)
	}
	if a := b.get("/admin/recorders"); !strings.Contains(a.body, "150525") || !strings.Contains(a.body, ofWang) || strings.Contains(a.body, "<b>备用") {
		t.Errorf("the list:\n%s", a.body)
	}
	// Who may not see footage is led to none.
	if a := w.login("it").get("/admin/recorders"); a.status != http.StatusOK || strings.Contains(a.body, ofWang) || strings.Contains(a.body, "remove") {
		t.Errorf("for IT staff: %d\n%s", a.status, a.body)
	}
	if lines := w.lines("recorder.registered"); len(lines) != 1 || lines[0].Actor != "account wulan" || lines[0].Recorder != "DSJ-0412" || lines[0].Detail["officer"] != "150525" {
		t.Errorf("the ledger has %+v", lines)
	}
	if a := b.post("/admin/recorders/remove", url.Values{"serial": {"DSJ-0412"}}); a.status != http.StatusSeeOther || len(w.lines("recorder.removed")) != 1 {
		t.Errorf("remove: %d", a.status)
	}
	if a := b.post("/admin/recorders/remove", url.Values{"serial": {"DSJ-0412"}}); a.status != http.StatusNotFound {
		t.Errorf("remove it once more: %d", a.status)
	}
}

// The ledger is paged from its end, and searched.
func TestTheLedgerIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var entries []ledger.Entry
	for i := range 300 {
		entries = append(entries, ledger.Entry{Station: "TEST-01", Event: fmt.Sprintf("test.number_%d", i%3), Actor: "station", Time: w.journal.Now(), Session: map[bool]string{true: ofWang}[i == 7]})
	}
	if _, err := w.evidence.Ledger.Append(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	b := w.login("li")
	a := b.get("/admin/ledger")
	if n := strings.Count(a.body, "<code>test.number_"); a.status != http.StatusOK || n != 48 || !strings.Contains(a.body, "view.page") || !strings.Contains(a.body, "TEST-01") { // and the login and this view
		t.Errorf("the latest: %d, %d lines\n%s", a.status, n, a.body)
	}
	seen, next := 0, "/admin/ledger?event=test.number_1"
	for range 4 {
		a := b.get(next)
		seen += strings.Count(a.body, "<code>test.number_1</code>")
		_, link, ok := strings.Cut(a.body, `<a href="/admin/ledger?before=`)
		if !ok {
			break
		}
		link, _, _ = strings.Cut(link, `"`)
		next = "/admin/ledger?before=" + strings.ReplaceAll(link, "&amp;", "&")
	}
	if seen != 100 {
		t.Errorf("paged through %d lines of 100", seen)
	}
	if a := b.get("/admin/ledger?session=" + ofWang + "&event=test"); strings.Count(a.body, "<code>test.number_") != 1 {
		t.Errorf("of a session:\n%s", a.body)
	}
	for _, wrong := range []string{"before=x", "before=-1", "day=yesterday"} {
		if a := b.get("/admin/ledger?" + wrong); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", wrong, a.status)
		}
	}
}

// The bucket is looked at when somebody wants that, and what was found is shown; health
// tells what is ready.
func TestTheStationIsLookedAt(t *testing.T) {
	t.Parallel()
	w := storedWorld(t, nil)
	b := w.login("it")
	if a := b.get("/admin/bucket"); !strings.Contains(a.body, "还没有检查过") {
		t.Errorf("before:\n%s", a.body)
	}
	if a := b.post("/admin/bucket", url.Values{}); a.status != http.StatusSeeOther {
		t.Errorf("look: %d\n%s", a.status, a.body)
	}
	if a := b.get("/admin/bucket"); strings.Contains(a.body, "还没有检查过") || !strings.Contains(a.body, "检查时间") {
		t.Errorf("after:\n%s", a.body)
	}
	if a := b.get("/admin/health"); a.status != http.StatusOK || !strings.Contains(a.body, "可以采集：全部检查通过") || !strings.Contains(a.body, "还没有核验过") {
		t.Errorf("health: %d\n%s", a.status, a.body)
	}
	w.store.Kill()
	if a := b.get("/admin/health"); a.status != http.StatusOK || !strings.Contains(a.body, "有检查没有通过") {
		t.Errorf("health without a store: %d\n%s", a.status, a.body)
	}
}

// Health tells of the last verification, and of what a person should look after: to who
// may see no footage without the words about it.
func TestHealthTellsWhatToLookAfter(t *testing.T) {
	t.Parallel()
	var attention ingest.Attention
	w := storedWorld(t, func(o *console.Options) { o.Attention = attention.All })
	for _, e := range []ingest.Event{
		{Name: "clock.set", Message: "a clock was set"},
		{Name: "storage.unavailable", Level: ingest.Alarm, Err: errors.New("no route to <store>")},
		{Name: "device.card_error", Level: ingest.Alarm, Slot: "7", Session: ofWang, Path: "DCIM/0001.MP4", Err: errors.New("open DCIM/0001.MP4: input/output error")},
	} {
		attention.Observe(e)
	}
	for findings, says := range map[string]string{"2": "2 处不符", "0": "没有发现问题"} {
		if _, err := w.evidence.Ledger.Append(t.Context(), ledger.Entry{
			Station: "TEST-01", Event: "verify.done", Actor: "uid 0", Time: w.journal.Now(), Detail: map[string]string{"scope": "all sessions", "findings": findings},
		}); err != nil {
			t.Fatal(err)
		}
		if a := w.login("it").get("/admin/health"); !strings.Contains(a.body, says) {
			t.Errorf("after %s findings:\n%s", findings, a.body)
		}
	}
	for who, footage := range map[string]bool{"it": false, "li": true} {
		a := w.login(who).get("/admin/health")
		if a.status != http.StatusOK || strings.Contains(a.body, "clock.set") || !strings.Contains(a.body, "no route to &lt;store&gt;") || !strings.Contains(a.body, "<code>device.card_error</code></td><td>7</td>") {
			t.Errorf("%s: %d\n%s", who, a.status, a.body)
		}
		if strings.Contains(a.body, "0001.MP4") != footage || strings.Contains(a.body, "/admin/sessions/"+ofWang) != footage {
			t.Errorf("%s reads of footage: %v, want %v\n%s", who, !footage, footage, a.body)
		}
	}
}

func TestTheStationInABrowser(t *testing.T) {
	t.Parallel()
	var attention ingest.Attention
	w := storedWorld(t, func(o *console.Options) {
		o.Ports, o.Attention = map[string]string{"1": "USB 2-1.3", "2": "USB 2-1.4"}, attention.All
	})
	attention.Observe(ingest.Event{Name: "ledger.unpublished", Level: ingest.Warn, Err: errors.New("the store does not answer")})
	attention.Observe(ingest.Event{Name: "slot.removed_early", Level: ingest.Alarm, Slot: "2", Session: ofWang, Message: "put the recorder back: removed_early: 3 files, 1 stored"})
	w.dockIn("1", "DSJ-0600", func(r device.Recorder) device.Recorder { return telling{r, -27 * time.Hour, 86} })
	w.dockIn("2", "DSJ-0601", func(r device.Recorder) device.Recorder { return telling{r, time.Second, 15} })
	w.many()
	w.addSession("20261005-080000-cccccccc", "012345", "DSJ-0500", journal.StateSealed)
	for _, r := range []journal.Recorder{{Serial: "DSJ-0412", Officer: "012345", Unit: "二中队"}, {Serial: "DSJ-0420", Officer: "067890", Unit: "一中队", Profile: "infodat", Note: "备用机"}} {
		r.AddedAt = w.journal.Now()
		if err := w.journal.AddRecorder(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	s := &screen{t, w, browsertest.Browser(t)}
	s.do(chromedp.EmulateViewport(1440, 1000))
	s.open("/login?next=/admin/stats")
	s.keys("wulan" + kb.Tab + password + kb.Enter)
	s.waitFor("采集的数据量")
	for _, page := range []string{"stats?by=officer", "recorders?edit=DSJ-0420", "ledger", "health", "dock"} {
		s.open("/admin/" + page)
		name, _, _ := strings.Cut(page, "?")
		s.checkLook("console-admin-" + name)
	}
	if _, err := w.station.Audit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.open("/admin/bucket")
	s.waitFor("检查时间")
	s.checkLook("console-admin-bucket")
	s.do(chromedp.EmulateViewport(800, 1000))
	for _, page := range []string{"stats", "recorders", "ledger", "health", "bucket"} {
		s.open("/admin/" + page + "?lang=en")
		s.checkLook("console-800-" + page)
	}
}
