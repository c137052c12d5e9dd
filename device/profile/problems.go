package profile

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Error is what is wrong with the profiles, all of it, for people.
type Error struct {
	Problems []Problem // at least one, by file and line
}

// Problem is one thing that is wrong.
type Problem struct {
	File string
	Line int    // from 1; 0 when it is not at a place in the file
	Key  string // such as clock.read; empty when it is the file itself
	Text string // what is wrong and what to do
}

// String is the problem in one line: where, then what.
func (p Problem) String() string {
	where := p.File
	if p.Line != 0 {
		where = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	if p.Key == "" {
		return where + ": " + p.Text
	}
	return where + ": " + p.Key + ": " + p.Text
}

func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return "profile of recorders: " + e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "profiles of recorders: %d problems", len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

func problemsError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return &Error{Problems: problems}
}

// Keys are all keys that a profile may hold, groups before what is in them:
// match, match.usb.
func Keys() []string { return keysOf(reflect.TypeFor[Profile](), "") }

func keysOf(t reflect.Type, prefix string) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		key := join(prefix, f.Tag.Get("key"))
		keys = append(keys, key)
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			keys = append(keys, keysOf(inner, key)...) // none in a pattern or a zone
		}
	}
	return keys
}

func fieldsOf(t reflect.Type) []reflect.StructField {
	var fields []reflect.StructField
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("key") != "" {
			fields = append(fields, f)
		}
	}
	return fields
}

func fieldNamed(t reflect.Type, name *yaml.Node) (reflect.StructField, bool) {
	for _, f := range fieldsOf(t) {
		if name.Kind == yaml.ScalarNode && f.Tag.Get("key") == name.Value {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// unknownText says that a key does not exist, and which one may be meant: one with
// a letter or two wrong, or one of this name in another group.
func unknownText(key string) string {
	last := func(k string) string { return k[strings.LastIndex(k, ".")+1:] }
	best, least := "", max(2, len(last(key))/4)+1
	for _, known := range Keys() {
		if len(key) > 64 {
			break
		}
		if d := distance(last(key), last(known)); d < least && (d == 0 || group(key) == group(known)) {
			best, least = known, d
		}
	}
	if best == "" {
		return "no such key"
	}
	return "no such key; did you mean " + best + "?"
}

func group(key string) string { return key[:max(0, strings.LastIndex(key, "."))] }

// distance counts the letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func join(group, name string) string {
	if group == "" {
		return name
	}
	return group + "." + name
}

var plainName = regexp.MustCompile(`^[\p{L}\p{N}_-]{1,64}$`)

// printable is the name of a key as it appears in messages.
func printable(name *yaml.Node) string {
	switch {
	case name.Kind != yaml.ScalarNode:
		return "(" + shape(name) + ")"
	case plainName.MatchString(name.Value):
		return name.Value
	}
	return quoted(name.Value)
}

// shape names what stands in the file, in words for people.
func shape(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of keys"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if strings.TrimSpace(n.Value) == "" {
		return "an empty value"
	}
	return "the single value " + quoted(n.Value)
}

// quoted makes a text from a file fit for a message.
func quoted(text string) string {
	if shown := []rune(text); len(shown) > 60 {
		text = string(shown[:60]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
