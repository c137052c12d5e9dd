package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

// account is somebody logged in to the console of a daemon.
type account struct {
	t      *testing.T
	url    string
	client *http.Client
}

func (p *place) login(address, name, password string) *account {
	p.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	a := &account{p.t, "http://" + address, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if status, body := a.post("/login", url.Values{"name": {name}, "password": {password}}); status != http.StatusSeeOther {
		p.t.Fatalf("login: %d\n%s", status, body)
	}
	return a
}

func (a *account) answer(r *http.Response, err error) (int, string) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func (a *account) get(path string) (int, string) { return a.answer(a.client.Get(a.url + path)) }

func (a *account) post(path string, form url.Values) (int, string) {
	return a.answer(a.client.PostForm(a.url+path, form))
}

// What an administrator saves in the console the daemon takes over at once, whole or not at
// all, and nothing of what somebody does on the machine is lost by it.
func TestTheConsoleChangesRetention(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	p := newPlace(t, testConfig+fmt.Sprintf("admin: {listen: %q}\nretention: {policy: retention.yaml}\n", address))
	const rules = "version: 1\ndefault: {months: 12, why: 第十一条}\nrules: []\n"
	p.write("retention.yaml", rules)
	if err := os.Chmod(p.path("retention.yaml"), 0o640); err != nil {
		t.Fatal(err)
	}
	p.write("password", "correct horse battery\n")
	add := p.command("user", "add", "wulan", "--role", "admin", "--password-stdin")
	add.Stdin = strings.NewReader("correct horse battery\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d := p.startDaemon()
	d.waitFor(`"event":"console.ready"`)
	d.sealed("card", map[string]string{"a.mp4": "footage"})
	a := p.login(address, "wulan", "correct horse battery")
	read := func() string {
		t.Helper()
		text, err := os.ReadFile(p.path("retention.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	save := func(months string) (int, string) {
		t.Helper()
		_, page := a.get("/admin/retention")
		m := regexp.MustCompile(`name="digest" value="([0-9a-f]{64})"`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("the page has no digest:\n%s", page)
		}
		return a.post("/admin/retention", url.Values{"digest": {m[1]}, "default_months": {months}, "default_why": {"第十一条"}, "password": {"correct horse battery"}})
	}
	if status, body := save("5"); status != http.StatusUnprocessableEntity || read() != rules {
		t.Errorf("below six months: %d\n%s", status, body)
	}
	if status, body := save("24"); status != http.StatusSeeOther || !strings.Contains(read(), "months: 24") {
		t.Fatalf("24 months: %d\n%s\n%s", status, body, read())
	}
	if info, err := os.Stat(p.path("retention.yaml")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its rights: %v, %v", info.Mode(), err)
	}
	d.waitFor(`"event":"config.reloaded"`)
	d.waitFor(`"event":"retention.extended"`) // what was stored is locked for longer
	if out := p.must("ledger", "tail"); !strings.Contains(out, "retention.edited") || !strings.Contains(out, "account wulan") {
		t.Errorf("the ledger has\n%s", out)
	}
	// What is stored is played, to the byte.
	session := "/admin/sessions/" + p.ids()[0]
	_, page := a.get(session)
	if m := regexp.MustCompile(`href="(` + session + `/files/[0-9]+)"`).FindStringSubmatch(page); m == nil {
		t.Errorf("no file on the page:\n%s", page)
	} else if status, body := a.get(m[1] + "/content"); status != http.StatusOK || body != "footage" {
		t.Errorf("its content: %d, %q", status, body)
	}
	// Somebody has changed the file on the machine, and not loaded it yet.
	byHand := strings.Replace(read(), "months: 24", "months: 36", 1)
	p.write("retention.yaml", byHand)
	if status, body := save("48"); status != http.StatusConflict || read() != byHand {
		t.Errorf("over another's change: %d\n%s\n%s", status, body, read())
	}
	p.write("retention.yaml", strings.Replace(byHand, "months: 36", "months: 24", 1))
	// The other settings can't be loaded: the file is as it was.
	before := read()
	p.write("ingestd.yaml", "station: {id: 7}\nnonsense: true\n")
	if status, body := save("48"); status != http.StatusConflict || read() != before {
		t.Errorf("with settings that can't be loaded: %d\n%s\n%s", status, body, read())
	}
	d.stop()
}
