package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A promise in a README names the tests that show it; they must be where it says,
// and both languages must name the same.
func TestReadmesNameTestsThatExist(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\[(Test\w+)\]\(([^)]+)\)`)
	named := map[string]string{}
	for _, readme := range []string{"README.md", "README.zh-CN.md"} {
		text, err := os.ReadFile(filepath.Join("../..", readme))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			all = append(all, m[0])
			code, err := os.ReadFile(filepath.Join("../..", m[2]))
			if err != nil || !strings.Contains(string(code), "func "+m[1]+"(") {
				t.Errorf("%s: %s is not in %s (%v)", readme, m[1], m[2], err)
			}
		}
		named[readme] = strings.Join(all, "\n")
	}
	if named["README.md"] == "" || named["README.md"] != named["README.zh-CN.md"] {
		t.Errorf("the READMEs name different tests:\n%s\n\n%s", named["README.md"], named["README.zh-CN.md"])
	}
}

// Every event that the code emits is in the list that operators read, and no
// other.
func TestEventsAreDocumented(t *testing.T) {
	t.Parallel()
	emitted, documented := map[string]bool{}, map[string]bool{}
	name := regexp.MustCompile(`(?:Name: |name := |e\.Name(?:, e\.Level)? = |name = )"([a-z]+\.[a-z_]+)"`)
	for _, dir := range []string{".", "../../ingest"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range name.FindAllStringSubmatch(string(code), -1) {
				emitted[m[1]] = true
			}
		}
	}
	text, err := os.ReadFile("../../ingest/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+\\.[a-z_]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = true
	}
	for e := range emitted {
		if !documented[e] {
			t.Errorf("the event %s is not in ingest/README.md", e)
		}
	}
	for e := range documented {
		if !emitted[e] {
			t.Errorf("ingest/README.md lists %s, which nothing emits", e)
		}
	}
	if len(emitted) < 20 {
		t.Errorf("only %d events were found in the code", len(emitted))
	}
}
