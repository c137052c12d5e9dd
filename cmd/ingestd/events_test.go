package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/ingest"
)

var eventName = regexp.MustCompile(`^[a-z]+\.[a-z_]+$`)

// Every event that the code emits is in the list, and no other; operators can read what
// each means, which levels it has, and what to do about those that need somebody.
func TestEventsAreDocumented(t *testing.T) {
	t.Parallel()
	listed := map[string]string{}
	needsSomebody := map[string]bool{}
	for _, k := range ingest.EventKinds {
		if listed[k.Name] != "" {
			t.Errorf("%s is listed twice", k.Name)
		}
		var levels []string
		for _, level := range k.Levels {
			levels = append(levels, level.String())
			needsSomebody[k.Name] = needsSomebody[k.Name] || level != ingest.Info
		}
		slices.Sort(levels)
		listed[k.Name] = strings.Join(levels, " ")
	}
	emitted := emittedEvents(t)
	for e := range emitted {
		if listed[e] == "" {
			t.Errorf("the event %s is not in ingest.EventKinds", e)
		}
	}
	for e := range listed {
		if !emitted[e] {
			t.Errorf("ingest.EventKinds lists %s, which nothing emits", e)
		}
	}

	text, err := os.ReadFile("../../ingest/README.md")
	if err != nil {
		t.Fatal(err)
	}
	events, todo, _ := strings.Cut(string(text), "\n## What to do\n")
	documented := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+\\.[a-z_]+)` \\| ([a-z, ]+) \\|").FindAllStringSubmatch(events, -1) {
		for level := range strings.SplitSeq(m[2], ", ") {
			if !slices.Contains(documented[m[1]], level) {
				documented[m[1]] = append(documented[m[1]], level)
			}
		}
	}
	for e, levels := range listed {
		slices.Sort(documented[e])
		if got := strings.Join(documented[e], " "); got != levels {
			t.Errorf("%s has levels %q in ingest/README.md, %q in the code", e, got, levels)
		}
		delete(documented, e)
	}
	for e := range documented {
		t.Errorf("ingest/README.md lists %s, which nothing emits", e)
	}
	todo, _, _ = strings.Cut(todo, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+\\.[a-z_]+)` \\| .").FindAllStringSubmatch(todo, -1) {
		if !needsSomebody[m[1]] {
			t.Errorf("ingest/README.md says what to do about %s, which needs nobody", m[1])
		}
		delete(needsSomebody, m[1])
	}
	for e, needs := range needsSomebody {
		if needs {
			t.Errorf("ingest/README.md does not say what to do about %s", e)
		}
	}
}

// emittedEvents finds the names that the code gives to events: in literals of Event, and
// in texts of this form that it assigns to a field or variable called Name or name.
func emittedEvents(t *testing.T) map[string]bool {
	t.Helper()
	emitted := map[string]bool{}
	literals := 0
	files := token.NewFileSet()
	note := func(e ast.Expr) bool {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return false
		}
		name, err := strconv.Unquote(lit.Value)
		if err == nil && eventName.MatchString(name) {
			emitted[name] = true
		}
		return err == nil
	}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && path == "../../scripts" {
			return filepathSkip(err)
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		tree, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if !mayEmit(tree) {
			return nil
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if !isEvent(n.Type) {
					break
				}
				for _, element := range n.Elts {
					pair, ok := element.(*ast.KeyValueExpr)
					if !ok {
						t.Errorf("%s: an Event without the names of its fields", files.Position(n.Pos()))
						continue
					}
					if key := pair.Key.(*ast.Ident).Name; key != "Name" {
						continue
					}
					literals++
					if variable, isVariable := pair.Value.(*ast.Ident); !note(pair.Value) && (!isVariable || variable.Name != "name") {
						t.Errorf("%s: which event this is can't be told: give it as a text", files.Position(n.Pos()))
					}
				}
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					if i < len(n.Rhs) && isName(left) {
						note(n.Rhs[i])
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if literals < 40 {
		t.Errorf("only %d events were found in the code", literals)
	}
	return emitted
}

func filepathSkip(err error) error {
	if err != nil {
		return err
	}
	return filepath.SkipDir
}

// mayEmit: package ingest itself, and whoever imports it.
func mayEmit(tree *ast.File) bool {
	return tree.Name.Name == "ingest" || slices.ContainsFunc(tree.Imports, func(s *ast.ImportSpec) bool {
		return s.Path.Value == `"github.com/bodyworn/ingestd/ingest"`
	})
}

func isEvent(of ast.Expr) bool {
	switch of := of.(type) {
	case *ast.Ident:
		return of.Name == "Event"
	case *ast.SelectorExpr:
		from, ok := of.X.(*ast.Ident)
		return ok && from.Name == "ingest" && of.Sel.Name == "Event"
	}
	return false
}

func isName(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "name"
	case *ast.SelectorExpr:
		return e.Sel.Name == "Name"
	}
	return false
}
