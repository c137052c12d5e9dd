package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
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
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/browsertest"
	"github.com/bodyworn/ingestd/ingest/console"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/policy"
	"github.com/bodyworn/ingestd/storage/stationkey"
	"github.com/bodyworn/ingestd/storage/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// storedWorld is a world with a real store, at whose desk orders are given, a hold H-1 and
// a plan P-1.
func storedWorld(t *testing.T, change func(*console.Options)) *world {
	t.Helper()
	w := newWorldOf(&world{t: t, dir: t.TempDir(), store: storetest.Embedded(t)}, change)
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := w.journal.Now()
	if err := w.journal.AddHold(t.Context(), journal.Hold{
		ID: "H-1", State: journal.HoldHeld, Case: "奈文综罚〔2026〕17号", Reason: "立案", AddedAt: now, AddedBy: "account wulan", Of: []journal.Held{{Session: ofLiu}},
	}); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(custody.Plan{
		Schema: custody.PlanSchema, ID: "P-1", Station: "TEST-01", Timezone: "Asia/Shanghai", MadeAt: now, MadeBy: "account wulan", GoodUntil: now.Add(custody.PlanGoodFor),
		Months: 6, Clock: device.StationClock{Synchronised: true}, Totals: custody.PlanTotals{Sessions: 1, Files: 3, Objects: 3, Bytes: 3 << 30, NeverViewed: 1, Kept: 1},
		Disposable: []custody.Disposable{{
			Session: ofWang, Recorder: "DSJ-0412", Officer: "012345", DockedAt: now.AddDate(0, -7, 0), KeptUntil: now.AddDate(0, -1, 0), DaysKept: 212, Files: 3, Bytes: 3 << 30,
			Objects: make([]custody.PlannedObject, 3),
		}},
		Kept: []custody.Kept{{Session: ofLiu, Reasons: []custody.Reason{{Kind: custody.OnHold, Words: "on hold"}}}},
	})
	if err == nil {
		err = w.journal.SavePlan(t.Context(), journal.Plan{ID: "P-1", State: journal.PlanOpen, MadeAt: now, MadeBy: "account wulan", Body: body})
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// openStore gives the world its vault, before there is a station.
func (w *world) openStore() {
	w.t.Helper()
	cfg := w.store.Config()
	cfg.Now = w.journal.Now
	var err error
	if w.vault, err = storage.Open(w.t.Context(), cfg); err != nil {
		w.t.Fatal(err)
	}
	w.evidence.Ring = &stationkey.Ring{}
	if err := errors.Join(
		w.evidence.Ring.Add(stationkey.Signer{Principal: "TEST-01", Key: w.evidence.Key.Public()}),
		w.journal.SelfTestPassed(w.t.Context(), w.vault.Describe()), // storage's tests show it
	); err != nil {
		w.t.Fatal(err)
	}
	const rules = "version: 1\ndefault: {months: 12, why: 第十一条}\nrules:\n  - {name: major, match: {tag: [查封扣押, 先行登记]}, months: 36, why: 第八条第一款}\n"
	if w.rules.rules, err = policy.Parse("retention.yaml", []byte(rules)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) desk() *custody.Desk {
	rules, _ := w.rules.InForce()
	return &custody.Desk{
		Station: w.station, Vault: w.vault, Journal: w.journal, Evidence: w.evidence, Location: beijing, Months: 6, Policy: rules, TwoPersons: w.two.Load(),
	}
}

// take takes a card in, whole, and gives its session.
func (w *world) take(officer, recorder string) journal.Session {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, recorder+".mp4"), []byte("footage of "+recorder), 0o600); err != nil {
		w.t.Fatal(err)
	}
	open := func(context.Context) (device.Recorder, error) { return folder.Open(dir) }
	r, err := w.station.Ingest(w.t.Context(), device.Docking{Slot: "1", Open: open}, ingest.Options{Recorder: recorder, Officer: officer})
	if err != nil || !r.Safe {
		w.t.Fatalf("%+v, %v", r, err)
	}
	s, err := w.journal.Session(w.t.Context(), r.Session.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// held tells how many of a session's objects the store has on hold.
func (w *world) held(session string) (held, of int) {
	w.t.Helper()
	all, err := w.journal.Files(w.t.Context(), session)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range all {
		if f.Object.Key == "" {
			continue
		}
		on, err := w.vault.Held(w.t.Context(), f.Object.Key, f.Object.VersionID)
		if err != nil {
			w.t.Fatal(err)
		}
		of++
		if on {
			held++
		}
	}
	return held, of
}

func (w *world) addAdmin(name string) {
	w.t.Helper()
	if err := w.journal.AddUser(w.t.Context(), journal.User{Name: name, Role: string(accounts.Admin), Hash: hashOnce(), MadeAt: w.journal.Now(), ChangedAt: w.journal.Now()}); err != nil {
		w.t.Fatal(err)
	}
}

// A hold is shown before it is set, set in the store, and released for a reason, with the
// password, and by a second person where that is wanted.
func TestHolds(t *testing.T) {
	t.Parallel()
	w := storedWorld(t, nil)
	first, second := w.take("150525", "DSJ-0500"), w.take("150525", "DSJ-0501")
	b := w.login("wulan")
	a := b.get("/admin/holds/new?officer=150525")
	if a.status != http.StatusOK || !strings.Contains(a.body, first.ID) || !strings.Contains(a.body, second.ID) || !strings.Contains(a.body, "将保全 2 个采集批次") {
		t.Fatalf("what would be held: %d\n%s", a.status, a.body)
	}
	if on, _ := w.held(first.ID); on != 0 {
		t.Error("looking has set a hold")
	}
	for name, form := range map[string]url.Values{
		"no case": {"officer": {"150525"}, "reason": {"复议"}}, "no reason": {"officer": {"150525"}, "case": {"17"}}, "nothing": {"case": {"17"}, "reason": {"复议"}},
		"no such": {"officer": {"000000"}, "case": {"17"}, "reason": {"复议"}}, "no day": {"from": {"24.11.2026"}, "case": {"17"}, "reason": {"复议"}},
	} {
		if a := b.post("/admin/holds", form); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `role="alert"`) {
			t.Errorf("%s: %d\n%s", name, a.status, a.body)
		}
	}
	a = b.post("/admin/holds", url.Values{"session": {first.ID}, "case": {"2026-0142"}, "reason": {"行政复议"}})
	if a.status != http.StatusSeeOther {
		t.Fatalf("hold: %d\n%s", a.status, a.body)
	}
	at, _, _ := strings.Cut(a.header.Get("Location"), "?")
	if on, of := w.held(first.ID); on != of || of == 0 {
		t.Errorf("%d of %d objects are held in the store", on, of)
	}
	if on, _ := w.held(second.ID); on != 0 {
		t.Error("another session is held with it")
	}
	if a := b.get(a.header.Get("Location")); !strings.Contains(a.body, "2026-0142") || !strings.Contains(a.body, "已保全，存储已确认") {
		t.Errorf("the hold: %d\n%s", a.status, a.body)
	}
	if a := b.get("/admin/sessions/" + first.ID); !strings.Contains(a.body, "案件 2026-0142") {
		t.Error("the session does not show its hold")
	}
	if lines := w.lines("hold.added"); len(lines) != 1 || lines[0].Actor != "account wulan" || lines[0].Reason != "行政复议" {
		t.Errorf("the ledger has %+v", lines)
	}

	if a := b.post(at+"/release", url.Values{"password": {password}}); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "保全继续有效") {
		t.Errorf("without a reason: %d", a.status)
	}
	if a := b.post(at+"/release", url.Values{"reason": {"结案"}, "password": {"wrong wrong wrong"}}); a.status != http.StatusForbidden {
		t.Errorf("with a wrong password: %d", a.status)
	}
	w.waitOut()
	w.two.Store(true)
	release := url.Values{"reason": {"结案"}, "password": {password}}
	for range 2 { // the same person twice is one
		if a := b.post(at+"/release", release); strings.Contains(a.header.Get("Location"), "hold_released") {
			t.Errorf("the first person: %d %s", a.status, a.header.Get("Location"))
		}
	}
	if on, of := w.held(first.ID); on != of {
		t.Error("one person alone has released it")
	}
	if a := b.get(at); !strings.Contains(a.body, "须由另一位管理员确认") || strings.Contains(a.body, `action="`+at+`/release"`) {
		t.Errorf("the first person sees\n%s", a.body)
	}
	w.addAdmin("siqin")
	if a := w.login("siqin").post(at+"/release", release); a.status != http.StatusSeeOther || !strings.Contains(a.header.Get("Location"), "hold_released") {
		t.Errorf("the second person: %d %s\n%s", a.status, a.header.Get("Location"), a.body)
	}
	if on, _ := w.held(first.ID); on != 0 {
		t.Error("it is released, and held in the store")
	}

	// Who does not wait is told that it goes on, and it does.
	w.two.Store(false)
	b.post("/admin/holds", url.Values{"session": {second.ID}, "case": {"2026-0143"}, "reason": {"行政复议"}})
	all, err := w.journal.Holds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := slices.MaxFunc(all, func(a, b journal.Hold) int { return a.AddedAt.Compare(b.AddedAt) })
	w.console.Patience(0)
	if a := b.post("/admin/holds/"+last.ID+"/release", release); a.status != http.StatusSeeOther || !strings.Contains(a.header.Get("Location"), "hold_going_on") {
		t.Errorf("without waiting: %d %s", a.status, a.header.Get("Location"))
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if on, _ := w.held(second.ID); on == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the order did not go on")
		}
	}
}

// A plan is made, shown, and applied by nobody who does not mean it. What package custody
// refuses is told, and nothing is deleted.
func TestDisposalPlans(t *testing.T) {
	t.Parallel()
	w := storedWorld(t, nil)
	s := w.take("150525", "DSJ-0500")
	b := w.login("wulan")
	if a := b.get("/admin/disposal"); a.status != http.StatusOK || !strings.Contains(a.body, "P-1") {
		t.Errorf("the list: %d\n%s", a.status, a.body)
	}
	if a := b.get("/admin/disposal/P-1"); a.status != http.StatusOK || !strings.Contains(a.body, ofWang) || !strings.Contains(a.body, "212") || !strings.Contains(a.body, "从未") || !strings.Contains(a.body, "未检查") {
		t.Errorf("the plan: %d\n%s", a.status, a.body)
	}
	if a := w.login("li").get("/admin/disposal/P-1"); a.status != http.StatusOK || strings.Contains(a.body, "/apply") {
		t.Errorf("an auditor: %d\n%s", a.status, a.body)
	}
	for name, c := range map[string]struct {
		form   url.Values
		status int
	}{
		"not confirmed":     {url.Values{"password": {password}}, http.StatusUnprocessableEntity},
		"another plan's id": {url.Values{"confirm": {"P-2"}, "password": {password}}, http.StatusUnprocessableEntity},
		"no password":       {url.Values{"confirm": {"P-1"}}, http.StatusForbidden},
	} {
		if a := b.post("/admin/disposal/P-1/apply", c.form); a.status != c.status {
			t.Errorf("%s: %d", name, a.status)
		}
		w.waitOut()
	}
	// What it lists is not what is stored: package custody looks, and refuses.
	a := b.post("/admin/disposal/P-1/apply", url.Values{"confirm": {"P-1"}, "password": {password}})
	if a.status != http.StatusConflict || !strings.Contains(a.body, "拒绝执行，已记入存证日志") {
		t.Errorf("a plan that is not true: %d\n%s", a.status, a.body)
	}
	if lines := w.lines("disposal.refused"); len(lines) != 1 || lines[0].Actor != "account wulan" {
		t.Errorf("the ledger has %+v", lines)
	}
	if _, of := w.held(s.ID); of == 0 { // asks the store for each of them
		t.Error("footage is gone")
	}
	if a := b.post("/admin/disposal", url.Values{}); a.status != http.StatusSeeOther || a.header.Get("Location") != "/admin/disposal?said=plan_none" {
		t.Errorf("a plan of nothing: %d %s\n%s", a.status, a.header.Get("Location"), a.body)
	}
}

// rulesFile is a retention file that only says what was saved last.
type rulesFile struct {
	mu     sync.Mutex
	rules  *policy.Policy // guarded by mu
	text   string         // guarded by mu
	broken error          // guarded by mu; what the next Save answers
}

func (f *rulesFile) InForce() (*policy.Policy, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rules, "/var/lib/ingestd/retention.yaml"
}

func (f *rulesFile) Save(_ context.Context, text []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return f.broken
	}
	rules, err := policy.Parse("retention.yaml", text)
	if err == nil {
		f.rules, f.text = rules, string(text)
	}
	return err
}

func (f *rulesFile) saved() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text
}

// No form makes footage be kept for less than six months, whatever the browser lets
// through, and whatever is refused leaves things as they were.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := storedWorld(t, nil)
	w.take("150525", "DSJ-0500")
	b := w.login("wulan")
	rules, _ := w.rules.InForce()
	form := func(change func(url.Values)) url.Values {
		f := url.Values{
			"digest": {rules.Digest()}, "default_months": {"12"}, "default_why": {"第十一条"}, "password": {password},
			"name": {"major", ""}, "months": {"36", ""}, "tags": {"查封扣押，先行登记", ""}, "units": {"", ""}, "recorders": {"", ""}, "officers": {"", ""},
			"from": {"", ""}, "until": {"", ""}, "why": {"第八条第一款", ""},
		}
		if change != nil {
			change(f)
		}
		return f
	}
	if a := b.get("/admin/retention"); a.status != http.StatusOK || !strings.Contains(a.body, "不少于 6 个月") || !strings.Contains(a.body, "先行登记，查封扣押") || !strings.Contains(a.body, `min="6"`) {
		t.Fatalf("the page: %d\n%s", a.status, a.body)
	}
	for name, c := range map[string]struct {
		change func(url.Values)
		says   string
	}{
		"default below the floor": {func(f url.Values) { f.Set("default_months", "5") }, "5 个月少于第十一条要求的 6 个月"},
		"a rule below the floor":  {func(f url.Values) { f["months"][0] = "1" }, "1 个月少于第十一条要求的 6 个月"},
		"no number":               {func(f url.Values) { f.Set("default_months", "many") }, "default.months"},
		"negative":                {func(f url.Values) { f.Set("default_months", "-12") }, "少于第十一条"},
		"no reason":               {func(f url.Values) { f.Set("default_why", "") }, "default.why"},
		"YAML in a field":         {func(f url.Values) { f["name"][0] = "x}\nversion: 2" }, "rules[0].name"},
		"stale":                   {func(f url.Values) { f.Set("digest", "0000") }, "已被别人改过"},
	} {
		for _, path := range []string{"/admin/retention/preview", "/admin/retention"} {
			a := b.post(path, form(c.change))
			if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "未保存。原设置继续有效。") || !strings.Contains(a.body, c.says) {
				t.Errorf("%s to %s: %d\n%s", name, path, a.status, a.body)
			}
		}
	}
	if now, _ := w.rules.InForce(); now.Digest() != rules.Digest() || w.rules.saved() != "" {
		t.Error("what was refused is in force")
	}
	if lines := w.lines("retention.edit_refused"); len(lines) == 0 || lines[0].Actor != "account wulan" {
		t.Errorf("the ledger has %+v", lines)
	}
	a := b.post("/admin/retention/preview", form(func(f url.Values) { f.Set("default_months", "24") }))
	if a.status != http.StatusOK || !strings.Contains(a.body, "3 个已入库的批次会锁定得更久") { // that one, and those of wang and liu
		t.Errorf("the preview: %d\n%s", a.status, a.body)
	}
	if w.rules.saved() != "" {
		t.Error("a preview has saved")
	}
	if a := b.post("/admin/retention", form(func(f url.Values) { f.Del("password") })); a.status != http.StatusForbidden || w.rules.saved() != "" {
		t.Errorf("without the password: %d", a.status)
	}
	w.waitOut()
	a = b.post("/admin/retention", form(func(f url.Values) {
		f.Set("default_months", "24")
		f["name"][1], f["months"][1], f["tags"][1], f["why"][1], f["from"][1] = "evidence", "永久", "证据, 行政复议", "随案卷", "2026-01-01"
	}))
	if a.status != http.StatusSeeOther {
		t.Fatalf("saved: %d\n%s", a.status, a.body)
	}
	now, _ := w.rules.InForce()
	for _, want := range []string{`"months":24`, `"permanent":true`, `"from":"2026-01-01"`, `["行政复议","证据"]`, `["先行登记","查封扣押"]`} {
		if !strings.Contains(string(now.Canonical()), want) {
			t.Errorf("in force is %s, without %s", now.Canonical(), want)
		}
	}
	lines := w.lines("retention.edited")
	if len(lines) != 1 || lines[0].Detail["rules_sha256"] != now.Digest() || lines[0].Detail["from_sha256"] != rules.Digest() {
		t.Errorf("the ledger has %+v", lines)
	}
	// A value that the form would take for two is not lost by it.
	odd, err := policy.Parse("retention.yaml", []byte("version: 1\ndefault: {months: 24, why: x}\nrules:\n  - {name: odd, match: {tag: ['a,b']}, months: 36, why: x}\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.rules.rules = odd
	if a := b.get("/admin/retention"); !strings.Contains(a.body, "带逗号的值") || strings.Contains(a.body, `class="p"`) {
		t.Errorf("with a comma in a tag:\n%s", a.body)
	}
	if a := b.post("/admin/retention", form(func(f url.Values) { f.Set("digest", odd.Digest()) })); a.status != http.StatusConflict {
		t.Errorf("saved over it: %d", a.status)
	}
	w.rules.rules = now
	w.rules.broken = errors.New("read-only file system")
	rules = now
	if a := b.post("/admin/retention", form(nil)); a.status != http.StatusConflict || !strings.Contains(a.body, "read-only file system") || !strings.Contains(a.body, "原设置继续有效") {
		t.Errorf("a file that can't be written: %d\n%s", a.status, a.body)
	}
}

// An administrator at the keyboard: the floor holds with the browser's own checks off;
// holds and plans can be read by everybody.
func TestCustodyInABrowser(t *testing.T) {
	t.Parallel()
	w := storedWorld(t, nil)
	s := w.take("150525", "DSJ-0500")
	v := &screen{t, w, browsertest.Browser(t)}
	v.do(chromedp.EmulateViewport(1440, 1100))
	v.open("/login?next=/admin/retention")
	v.keys("wulan" + kb.Tab + password + kb.Enter)
	v.waitFor("不少于 6 个月")
	v.checkLook("console-retention")
	if _, err := chromedp.Run(v.ctx, chromedp.Evaluate[string](`(() => {
		const months = document.querySelector('[name=default_months]'); months.removeAttribute('min'); months.value = '3';
		document.querySelector('[name=password]').value = '`+password+`';
		document.querySelector('form[action="/admin/retention"]').noValidate = true; return 'off' })()`)); err != nil {
		t.Fatal(err)
	}
	v.do(chromedp.Click(chromedp.CSS("button.p")))
	v.waitFor("3 个月少于第十一条要求的 6 个月")
	v.waitFor("原设置继续有效")
	v.checkLook("console-retention-refused")
	if w.rules.saved() != "" {
		t.Error("it was saved")
	}
	v.do(chromedp.SetValue(chromedp.CSS("[name=default_months]"), "24"), chromedp.Click(chromedp.CSS("button[formaction]")))
	v.waitFor("会锁定得更久")
	v.checkLook("console-retention-preview")

	v.open("/admin/holds/new?session=" + s.ID)
	v.do(chromedp.SendKeys(chromedp.CSS("#case"), "2026-0142"), chromedp.SendKeys(chromedp.CSS("#reason"), "行政复议"))
	v.checkLook("console-hold-new")
	v.keys(kb.Enter)
	v.waitFor("已保全，存储已确认")
	v.checkLook("console-hold")
	v.open("/admin/holds?lang=en")
	v.checkLook("console-holds-en")
	v.open("/admin/disposal?lang=zh-CN")
	v.checkLook("console-disposal")
	v.open("/admin/disposal/P-1")
	v.checkLook("console-plan")
	v.do(chromedp.EmulateViewport(800, 1000))
	for _, path := range []string{"retention", "holds", "disposal", "disposal/P-1"} {
		v.open("/admin/" + path)
		v.checkLook("console-800-" + strings.ReplaceAll(path, "/", "-"))
	}
}
