package storage_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bodyworn/ingestd/storage"
)

func TestKeysAreReadableWhereTheyCanBe(t *testing.T) {
	for path, want := range map[string]string{
		"DCIM/100MEDIA/0001.MP4":     "DCIM/100MEDIA/0001.MP4",
		"DCIM/图片/现场照片 001.JPG":       "DCIM/图片/现场照片 001.JPG",
		"a\nb":                       "a%0Ab",
		`q"uo\te`:                    "q%22uo%5Cte",
		"-rf":                        "-rf",
		"..":                         "%2E%2E",
		".":                          "%2E",
		".hidden":                    ".hidden",
		"trail.":                     "trail%2E",
		"trail ":                     "trail%20",
		" lead":                      "%20lead",
		"100%":                       "100%25",
		"\xd6\xb4\xb7\xa8.mp4":       "%D6%B4%B7%A8.mp4",
		"a/.sgwtmp/b":                "a/%2Esgwtmp/b",
		"a__XLDIR__":                 "a%5F_XLDIR__",
		"tab\there":                  "tab%09here",
		"line\u2028separator":        "line%E2%80%A8separator",
		"replacement\ufffdin a name": "replacement%EF%BF%BDin a name",
	} {
		if got := storage.NewNamer("s/", nil).Key(path); got != "s/"+want {
			t.Errorf("Key(%q) = %q, want %q", path, got, "s/"+want)
		}
	}
}

func TestKeysNeverMeetAndNeverNest(t *testing.T) {
	long := strings.Repeat("x", 255)
	deep := strings.TrimSuffix(strings.Repeat("深层目录/", 200), "/")
	paths := []string{
		"a", "a", "A", "a/b", "b/c", "b", "%2E%2E", "..", "x%0Ay", "x\ny",
		long, long[:254] + "y", deep + "/1.mp4", deep + "/2.mp4", "~long", "~long/x", "\xff", "%FF",
	}
	n := storage.NewNamer("st/day/session/footage/", nil)
	seen := map[string]string{}
	for _, p := range paths {
		k := n.Key(p)
		if other, twice := seen[k]; twice {
			t.Errorf("%q and %q share the key %q", p, other, k)
		}
		if len(k) > 1024 || !utf8.ValidString(k) {
			t.Errorf("key of %q: %d bytes, valid UTF-8 %v", p, len(k), utf8.ValidString(k))
		}
		for _, name := range strings.Split(k, "/") {
			if len(name) > 255 || name == "" || name == "." || name == ".." {
				t.Errorf("key of %q has the component %q", p, name)
			}
		}
		seen[k] = p
	}
	for k := range seen {
		for other := range seen {
			if strings.HasPrefix(other, k+"/") {
				t.Errorf("%q is a folder of %q", k, other)
			}
		}
	}
}

func TestKeysStayClearOfThoseOfAnInterruptedSession(t *testing.T) {
	n := storage.NewNamer("s/", []string{"s/a", "s/d/e"})
	if got := n.Key("a/b"); got == "s/a/b" {
		t.Error("the key lies below one that is taken")
	}
	if got := n.Key("d"); got == "s/d" {
		t.Error("the key is a folder of one that is taken")
	}
	if got := n.Key("d/e"); got == "s/d/e" {
		t.Error("the key is taken")
	}
}

func FuzzKey(f *testing.F) {
	f.Add("DCIM/a.mp4", "DCIM/b.mp4")
	f.Add("..//.", "\xff/\x00")
	f.Add(strings.Repeat("图", 300), strings.Repeat("图", 301))
	f.Fuzz(func(t *testing.T, a, b string) {
		n := storage.NewNamer("p/", nil)
		ka, kb := n.Key(a), n.Key(b)
		if ka == kb || strings.HasPrefix(ka, kb+"/") || strings.HasPrefix(kb, ka+"/") {
			t.Errorf("%q → %q, %q → %q", a, ka, b, kb)
		}
		for _, k := range []string{ka, kb} {
			if len(k) > 1024 || !utf8.ValidString(k) {
				t.Errorf("key %q", k)
			}
		}
	})
}
