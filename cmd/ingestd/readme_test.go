package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/storage/ledger"
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
	for _, dir := range []string{".", "../../ingest", "../../ingest/console"} {
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

// Every event that the code writes to the ledger is in the table of its format, and no
// other.
func TestLedgerEventsAreDocumented(t *testing.T) {
	t.Parallel()
	written, documented := map[string]bool{}, map[string]bool{}
	given := regexp.MustCompile(`\bEvent(?:: |\s+= )([^,\n}]+)`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(code), "ledger.Entry{") {
			return err
		}
		for _, m := range given.FindAllStringSubmatch(string(code), -1) {
			name, isText := strings.CutPrefix(m[1], `"`)
			switch {
			case m[1] == `"session." + string(r.State)`:
				written["session.sealed"], written["session.failed"] = true, true
			case isText && strings.HasSuffix(name, `"`):
				written[strings.TrimSuffix(name, `"`)] = true
			default:
				t.Errorf("%s: which event %s is can't be told: give it as a text", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	written[ledger.EventRotated] = true
	for _, table := range []string{tableOf(t, "../../storage/ledger/README.md", "\n## The events\n"), tableOf(t, "../../ingest/custody/README.md", "")} {
		for _, row := range regexp.MustCompile("(?m)^\\| (`[a-z]+\\.[^|]+) \\|").FindAllStringSubmatch(table, -1) {
			for _, m := range regexp.MustCompile("`([a-z]+\\.[a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
				documented[m[1]] = true
			}
		}
	}
	for e := range written {
		if !documented[e] {
			t.Errorf("the event %s is neither in storage/ledger/README.md nor in ingest/custody/README.md", e)
		}
	}
	for e := range documented {
		if !written[e] {
			t.Errorf("the READMEs list %s, which nothing writes", e)
		}
	}
	if len(written) < 15 {
		t.Errorf("only %d events were found in the code", len(written))
	}
}

// tableOf gives what stands in a file behind a heading, up to the next one.
func tableOf(t *testing.T, file, heading string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), heading)
	if !found {
		t.Fatalf("%s has no %q", file, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}
