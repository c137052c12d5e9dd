package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"testing"
)

// asks runs a command with a password on its standard input.
func (p *place) asks(password string, args ...string) (string, int) {
	p.t.Helper()
	cmd := p.command(args...)
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestAccountsByCommand(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	const password = "correct horse battery"
	for _, c := range []struct {
		password string
		args     []string
		code     int
	}{
		{password, []string{"add", "wulan", "--role", "admin"}, 0},
		{password, []string{"add", "wulan", "--role", "auditor"}, 1}, // there is such a one
		{password, []string{"add", "li", "--role", "root"}, 1},
		{password, []string{"add", "li"}, 1},
		{"too short", []string{"add", "li", "--role", "auditor"}, 1},
		{password, []string{"add", "wang", "--role", "officer", "--officer", "012345"}, 0},
		{"another long password", []string{"passwd", "wulan"}, 0},
		{password, []string{"passwd", "nobody"}, 5},
	} {
		if out, code := p.asks(c.password, append(append([]string{"user"}, c.args...), "--password-stdin")...); code != c.code || strings.Contains(out, c.password) {
			t.Errorf("user %v: %d, want %d\n%s", c.args, code, c.code, out)
		}
	}
	if out, code := p.asks("", "user", "add", "zhao", "--role", "admin"); code != exitUsage || !strings.Contains(out, "--password-stdin") {
		t.Errorf("without a terminal: %d\n%s", code, out)
	}
	p.must("user", "disable", "wang")
	if out, code := p.asks(password, "user", "passwd", "wang", "--password-stdin"); code != exitRefused {
		t.Errorf("a password for a disabled account: %d\n%s", code, out)
	}
	list := p.must("user", "list")
	for _, words := range []string{"wulan", "admin", "in use", "wang", "012345", "disabled"} {
		if !strings.Contains(list, words) {
			t.Errorf("the list has no %s:\n%s", words, list)
		}
	}
	if strings.Contains(list+p.must("user", "list", "-o", "json"), "argon2") {
		t.Error("the list shows hashes")
	}
	for event, n := range map[string]int{"user.added": 2, "user.password_changed": 1, "user.disabled": 1} {
		if lines := p.lines(event); len(lines) != n || !strings.HasPrefix(lines[0].Actor, "uid ") || lines[0].Detail["account"] == "" {
			t.Errorf("%s: %+v", event, lines)
		}
	}
}

// Who may not release footage may not make himself an account that may.
func TestAccountsAreMadeByAdministrators(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig+fmt.Sprintf("custody: {administrators: [%q]}\n", fmt.Sprint(os.Getuid()+1)))
	for _, args := range [][]string{{"add", "me", "--role", "admin", "--password-stdin"}, {"passwd", "me", "--password-stdin"}, {"disable", "me"}} {
		if out, code := p.asks("correct horse battery", append([]string{"user"}, args...)...); code != exitRefused {
			t.Errorf("user %v: %d\n%s", args, code, out)
		}
	}
	if lines := p.lines("user.refused"); len(lines) != 3 || lines[0].Detail["account"] != "me" {
		t.Errorf("the ledger has %+v", lines)
	}
	if list := p.must("user", "list"); strings.Contains(list, "me ") {
		t.Errorf("it was made:\n%s", list)
	}
}

// heldAddress is one that nobody else can listen on, and the listener that holds it.
func heldAddress(t *testing.T) (string, net.Listener) {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), l
}

// A real daemon serves what it has taken in, to who has an account.
func TestTheDaemonServesTheConsole(t *testing.T) {
	t.Parallel()
	address, l := heldAddress(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, testConfig+"admin: {listen: '"+address+"'}\n")
	const password = "correct horse battery"
	if out, code := p.asks(password, "user", "add", "li", "--role", "auditor", "--password-stdin"); code != 0 {
		t.Fatal(out)
	}
	d := p.startDaemon()
	d.waitFor(`"event":"console.ready"`)
	p.write("drop/card/DCIM/0001.MP4", "footage")
	d.waitFor(`"event":"ingest.finished"`)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	base := "http://" + address
	res, err := client.PostForm(base+"/login", url.Values{"name": {"li"}, "password": {password}})
	if err != nil || res.StatusCode != http.StatusOK || res.Request.URL.Path != "/admin/sessions" {
		t.Fatalf("%v %+v", err, res)
	}
	res.Body.Close()
	var shown struct {
		Items []struct {
			State     string
			FileCount int `json:"file_count"`
		}
	}
	res, err = client.Get(base + "/api/v1/sessions")
	if err == nil {
		err = json.NewDecoder(res.Body).Decode(&shown)
		res.Body.Close()
	}
	if err != nil || len(shown.Items) != 1 || shown.Items[0].State != "sealed" || shown.Items[0].FileCount != 1 {
		t.Errorf("%+v, %v", shown, err)
	}
	if code := d.stop(); code != 0 {
		t.Errorf("the daemon ended with %d\n%s", code, d.log())
	}
	if lines := p.lines("view.page"); len(lines) != 2 || lines[0].Actor != "account li" {
		t.Errorf("the ledger has %+v", lines)
	}
}

// A console that can't be served is told, and recorders are taken in all the same.
func TestIngestDoesNotNeedTheConsole(t *testing.T) {
	t.Parallel()
	address, l := heldAddress(t)
	defer l.Close()
	for name, admin := range map[string]string{
		"taken port":     "admin: {listen: '" + address + "'}\n",
		"no certificate": "admin: {listen: '127.0.0.1:1', tls: {cert_file: none.crt, key_file: none.key}}\n",
	} {
		p := newPlace(t, testConfig+admin)
		d := p.startDaemon()
		d.waitFor(`"event":"console.trouble"`)
		p.write("drop/card/DCIM/0001.MP4", "footage")
		d.waitFor(`"event":"ingest.finished"`)
		if code := d.stop(); code != 0 {
			t.Errorf("%s: the daemon ended with %d\n%s", name, code, d.log())
		}
	}
}
