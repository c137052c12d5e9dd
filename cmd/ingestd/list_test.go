package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Lists come as a table, as JSON, as a line of JSON for each item, and for spreadsheets;
// what is no list does not, and an empty one is one.
func TestForms(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	lists := []string{"sessions list", "recorders list", "recorders profiles", "slots list", "config show", "user list", "hold list", "tag list", "stats"}
	for _, list := range lists {
		args := strings.Fields(list)
		var result struct {
			Schema string
			Items  []json.RawMessage
		}
		if err := json.Unmarshal([]byte(p.must(append(args, "-o", "json")...)), &result); err != nil || result.Schema == "" || result.Items == nil {
			t.Errorf("%s -o json: %+v, %v", list, result, err)
		}
		lines := p.must(append(args, "-o", "jsonl")...)
		if n := strings.Count(lines, "\n"); n != len(result.Items) {
			t.Errorf("%s -o jsonl: %d lines for %d items", list, n, len(result.Items))
		}
		text := p.must(append(args, "-o", "csv")...)
		rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff"))).ReadAll()
		if err != nil || !strings.HasPrefix(text, "\ufeff") || len(rows) != len(result.Items)+1 {
			t.Errorf("%s -o csv: %d rows for %d items, %v\n%q", list, len(rows), len(result.Items), err, text)
		}
		english, chinese := p.must(append(args, "--lang", "en")...), p.must(append(args, "--lang", "zh-CN")...)
		if bare := p.must(append(args, "--no-headers")...); strings.Count(bare, "\n") != len(result.Items) {
			t.Errorf("%s --no-headers:\n%s", list, bare)
		}
		if head, _, _ := strings.Cut(chinese, "\n"); !regexp.MustCompile(`\p{Han}`).MatchString(head) || regexp.MustCompile(`\p{Han}`).MatchString(strings.SplitN(english, "\n", 2)[0]) {
			t.Errorf("%s: the headings are\n%s\n%s", list, head, english)
		}
	}
	for _, args := range []string{"sessions list -o xml", "doctor -o csv", "version -o jsonl", "sessions list --lang fr", "sessions list --state lost", "sessions list --limit -1", "sessions list --cursor x", "sessions list --from 24.11.2026", "stats --by mood", "man"} {
		if _, errs, code := p.run(strings.Fields(args)...); code != exitUsage {
			t.Errorf("%s: exit %d\n%s", args, code, errs)
		}
	}
}

// Every heading is known in Chinese, and none that is not used.
func TestHeadingsAreKnownInChinese(t *testing.T) {
	t.Parallel()
	used := map[string]bool{"MONTH": true, "OFFICER": true, "RECORDER": true, "UNIT": true} // of stats, by what it counts
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := ""
			switch f := call.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			if name != "printTable" && name != "printList" {
				return true
			}
			for _, arg := range call.Args {
				if list, ok := arg.(*ast.CompositeLit); ok {
					for _, e := range list.Elts {
						if word, ok := e.(*ast.BasicLit); ok {
							used[strings.Trim(word.Value, `"`)] = true
						}
					}
				}
			}
			return true
		})
	}
	for h := range used {
		if chineseHeadings[h] == "" {
			t.Errorf("the heading %s is not known in Chinese", h)
		}
	}
	for h := range chineseHeadings {
		if !used[h] {
			t.Errorf("no table has the heading %s", h)
		}
	}
	if len(used) < 40 {
		t.Errorf("only %d headings were found", len(used))
	}
	for _, c := range []struct {
		locales []string
		want    string
	}{{[]string{"", "", "zh_CN.UTF-8"}, langChinese}, {[]string{"C", "", "zh_CN.UTF-8"}, langEnglish}, {[]string{"", "", ""}, langEnglish}, {[]string{"", "zh_TW", "en_GB"}, langChinese}} {
		if got := languageOf(c.locales...); got != c.want {
			t.Errorf("%q is %s", c.locales, got)
		}
	}
}

// Sessions are found by all that is asked for, page by page, and what a card says is no
// formula.
func TestSessionsAreFiltered(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	for _, r := range []string{"R1", "R2", "R3"} {
		p.write("card-"+r+"/a.mp4", "footage "+r)
		p.ingest(0, "card-"+r, "--recorder", r, "--officer", map[string]string{"R1": "=1+1", "R2": "150525", "R3": "150525"}[r])
	}
	held := p.ids()[0] // the latest, of R3
	p.must("hold", "add", held, "--case", "1", "--reason", "复议")
	for args, want := range map[string]int{
		"": 3, "--officer 150525": 2, "--recorder R1": 1, "--officer 150525 --recorder R2": 1, "--state sealed": 3, "--state failed": 0, "--held": 1, "--from 2020-01-01": 3, "--to 2020-01-01": 0,
	} {
		if n := strings.Count(p.must(append([]string{"sessions", "list", "-o", "jsonl"}, strings.Fields(args)...)...), "\n"); n != want {
			t.Errorf("%s: %d sessions, want %d", args, n, want)
		}
	}
	var seen []string
	for cursor := ""; ; {
		var page struct {
			Items []struct{ ID string }
			Next  string
		}
		if err := json.Unmarshal([]byte(p.must("sessions", "list", "--limit", "2", "--cursor", cursor, "-o", "json")), &page); err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Items {
			seen = append(seen, s.ID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if strings.Join(seen, " ") != strings.Join(p.ids(), " ") {
		t.Errorf("paged through %v, there are %v", seen, p.ids())
	}
	if out := p.must("sessions", "list", "--recorder", "R1", "-o", "csv"); !strings.Contains(out, ",'=1+1,") {
		t.Errorf("CSV:\n%s", out)
	}
}

// There is a manual page for every command that people see, and it names its flags.
func TestManualPages(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.must("man", "--dir", p.path("man"))
	page, err := os.ReadFile(p.path("man/ingestd-sessions-list.1"))
	if err != nil || !strings.Contains(string(page), "--cursor") || !strings.HasPrefix(string(page), ".nh") {
		t.Errorf("%v\n%s", err, page)
	}
	pages, _ := filepath.Glob(p.path("man/*.1"))
	if len(pages) < 40 {
		t.Errorf("only %d pages", len(pages))
	}
}

// Who reads line by line is told of each finding, and at last how it has ended.
func TestVerifyLineByLine(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", strings.Repeat("footage", 1000))
	id := p.ingest(0, "card", "--recorder", "R1").Session.ID
	type line struct {
		Type, Schema, Problem, Error string
		Exit, Objects                int
	}
	read := func(want int) (lines []line) {
		t.Helper()
		out, errs, code := p.run("verify", "--all", "-o", "jsonl")
		if code != want {
			t.Errorf("exit %d, want %d\n%s", code, want, errs)
		}
		for text := range strings.Lines(out) {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			if l.Type != "status" {
				lines = append(lines, l)
			}
		}
		return lines
	}
	if lines := read(0); len(lines) != 1 || lines[0].Type != "summary" || lines[0].Schema != "ingestd.verify/1" || lines[0].Objects < 5 {
		t.Errorf("%+v", lines)
	}
	clip, err := filepath.Glob(p.path("store/data/footage/TEST-01/*/" + id + "/footage/a.mp4"))
	if err != nil || len(clip) != 1 {
		t.Fatal(clip, err)
	}
	body, err := os.ReadFile(clip[0])
	if err != nil {
		t.Fatal(err)
	}
	body[5] ^= 1
	f, err := os.OpenFile(clip[0], os.O_WRONLY, 0) // in its place, with its attributes
	if err == nil {
		_, err = f.WriteAt(body[5:6], 5)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := read(exitFindings)
	if len(lines) < 2 || lines[0].Type != "finding" || lines[0].Problem == "" || lines[len(lines)-1].Type != "error" || lines[len(lines)-1].Exit != exitFindings {
		t.Errorf("%+v", lines)
	}
	if _, _, code := p.run("verify", "--folder", "x", "-o", "jsonl"); code != exitUsage {
		t.Errorf("--folder: exit %d", code)
	}
}
