package vendorcmd_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/device/vendorcmd"
)

func write(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passwords")
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadPasswords(t *testing.T) {
	p, err := vendorcmd.ReadPasswords(write(t, "\ufeff# of the station\r\n---\nNMQ0007: 111#111 \n4255:0001: \"22:2222\"\n\nambarella-text: 333333\r\n", 0o640))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		keys []string
		want string
	}{
		{[]string{"NMQ0007", "4255:0001", "ambarella-text"}, "111#111"},
		{[]string{"nmq0007"}, "111#111"},
		{[]string{"", "4255:0001", "ambarella-text"}, "22:2222"},
		{[]string{"NMQ0008", "4255:0002", "ambarella-text"}, "333333"},
		{[]string{"NMQ0008"}, ""},
		{nil, ""},
	} {
		if got, ok := p.For(c.keys...); got != c.want || ok != (c.want != "") {
			t.Errorf("%q: %q, %v", c.keys, got, ok)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %v", p, p, p, struct{ p vendorcmd.Passwords }{p}); strings.Contains(text, "222222") || strings.Contains(text, "111") {
		t.Errorf("printed %s", text)
	}
	if _, ok := (vendorcmd.Passwords{}).For("x"); ok {
		t.Error("no passwords have one")
	}
}

func TestPasswordFilesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		says    string
	}{
		"open to all":      {"a: s3cretPW\n", 0o644, "chmod 0600"},
		"group may write":  {"a: s3cretPW\n", 0o660, "chmod 0600"},
		"no key":           {": s3cretPW\n", 0o600, "line 1"},
		"no space":         {"a:s3cretPW\n", 0o600, "line 1"},
		"no password":      {"a: \n", 0o600, "line 1"},
		"twice":            {"a: s3cretPW\nA: s3cretPW\n", 0o600, "line 2"},
		"space in it":      {"a: s3cret PW\n", 0o600, "line 1"},
		"braces in it":     {"a: s3cret{PW}\n", 0o600, "line 1"},
		"control in it":    {"a: s3cret\x01PW\n", 0o600, "line 1"},
		"key with a space": {"a b: s3cretPW\n", 0o600, "line 1"},
		"too large":        {strings.Repeat("# s3cretPW\n", 10_000), 0o600, "larger"},
	} {
		_, err := vendorcmd.ReadPasswords(write(t, c.content, c.mode))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkSecret(t, err.Error())
	}
	if _, err := vendorcmd.ReadPasswords(t.TempDir()); err == nil {
		t.Error("a folder was read")
	}
	if _, err := vendorcmd.ReadPasswords("/nonexistent/passwords"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	_, err := vendorcmd.ReadPasswords(write(t, "bad\nworse\n", 0o600))
	if err == nil || !strings.Contains(err.Error(), "line 1") || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("not all at once: %v", err)
	}
}

// FuzzPasswords reads files that anyone may have mistyped.
func FuzzPasswords(f *testing.F) {
	f.Add("NMQ0007: 123456\n4255:0001: x\n")
	f.Add("a: b: c\n: \n#\n")
	f.Fuzz(func(t *testing.T, content string) {
		path := write(t, content, 0o600)
		p, err := vendorcmd.ReadPasswords(path)
		if got, ok := p.For("a"); err == nil && ok && strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' || r == '{' }) {
			t.Errorf("password %q", got)
		}
	})
}
