package configs

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// ErrBelowFloor is in the chain of the error when retention.months is below the
// six months of 第十一条.
var ErrBelowFloor = errors.New("retention below the statutory floor")

// Error is what is wrong with the settings, all of it, for people. Every error
// of this package is one.
type Error struct {
	File     string    // the file that was read; empty when there was none
	Problems []Problem // at least one; those with a line first, by line
}

// Problem is one thing that is wrong.
type Problem struct {
	Key    string // such as station.id, or the name of a variable; empty when it is the file itself
	Line   int    // in the file, from 1; 0 when it is not there
	Source string // default, FILE:LINE, env NAME or flag, as in Setting
	Text   string // what is wrong and what to do

	cause error // what errors.Is shall find; may be nil
}

// String is the problem in one line: where, then what.
func (p Problem) String() string {
	switch {
	case p.Key == "" && p.Line == 0:
		return p.Text
	case p.Key == "":
		return fmt.Sprintf("line %d: %s", p.Line, p.Text)
	case p.Line != 0:
		return fmt.Sprintf("%s at line %d: %s", p.Key, p.Line, p.Text)
	case p.Source == "env "+p.Key:
		return fmt.Sprintf("%s in the environment: %s", p.Key, p.Text)
	case p.Source == sourceDefault:
		return fmt.Sprintf("%s: %s", p.Key, p.Text)
	}
	return fmt.Sprintf("%s from %s: %s", p.Key, p.Source, p.Text)
}

func (e *Error) Error() string {
	where := "settings"
	if e.File != "" {
		where = e.File
	}
	if len(e.Problems) == 1 {
		return where + ": " + e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d problems", where, len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Unwrap gives the causes, for errors.Is.
func (e *Error) Unwrap() []error {
	var causes []error
	for _, p := range e.Problems {
		if p.cause != nil {
			causes = append(causes, p.cause)
		}
	}
	return causes
}

// problemsError is nil when there are no problems.
func problemsError(file string, problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line) // the file's before the others
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return &Error{File: file, Problems: problems}
}

// Texts for names that have no place here. They never repeat the value.
const (
	secretText = "no secrets in this file or the environment: put access_key and secret_key in the file" +
		" that storage.s3.credentials_file names, or in the systemd credential s3"
	listText = "a list can be set only in the file"
)

// isSecret tells a name under which people keep secrets.
func isSecret(name string) bool {
	name = strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
	return slices.ContainsFunc([]string{"secret", "accesskey", "privatekey", "password", "passwd", "token"},
		func(word string) bool { return strings.Contains(name, word) })
}

// unknownText says that a name does not exist, and which one may be meant.
func unknownText(name string, known []string) string {
	if best := nearest(name, known); best != "" {
		return "no such setting; did you mean " + best + "?"
	}
	return "no such setting"
}

// nearest is the known name that was most likely meant, empty when none is
// close: a slip of the finger, or the right name in the wrong section.
func nearest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	best, bestDistance := "", min(max(2, len(name)/4), len(name)-1)+1
	for _, k := range known {
		if d := distance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best != "" {
		return best
	}
	last := name[strings.LastIndex(name, ".")+1:]
	var moved []string
	for _, k := range known {
		if strings.HasSuffix(k, "."+last) {
			moved = append(moved, k)
		}
	}
	if len(moved) == 1 {
		return moved[0]
	}
	return ""
}

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

// knownKeys are all keys that the file may hold, sections and lists included.
// The entries of a list have no number: sources.path.
func knownKeys() []string { return keysOf(reflect.TypeFor[Config](), "") }

func keysOf(section reflect.Type, prefix string) []string {
	var keys []string
	for _, f := range fieldsOf(section) {
		key := join(prefix, f.Tag.Get("key"))
		keys = append(keys, key)
		switch {
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, keysOf(f.Type, key)...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			keys = append(keys, keysOf(f.Type.Elem(), key)...)
		}
	}
	return keys
}
