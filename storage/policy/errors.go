package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is what is wrong with a retention file, all of it, for people. Every error
// of Parse is one.
type Error struct {
	File     string    // as Parse was told
	Problems []Problem // at least one, by line
}

// Problem is one thing that is wrong.
type Problem struct {
	Key  string // such as rules[0].months, counted from 0; empty when it is the file itself
	Line int    // from 1; 0 when no line can be named
	Text string // what is wrong and what to do
}

// String is the problem in one line: where, then what.
func (p Problem) String() string {
	where := p.Key
	switch {
	case p.Line != 0 && where != "":
		where += fmt.Sprintf(" at line %d", p.Line)
	case p.Line != 0:
		where = fmt.Sprintf("line %d", p.Line)
	}
	if where == "" {
		return p.Text
	}
	return where + ": " + p.Text
}

func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.File + ": " + e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d problems", e.File, len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

func newError(file string, problems []Problem) *Error {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key))
	})
	return &Error{File: file, Problems: problems}
}

// unknownText says that a key does not exist, and which one may be meant: a slip
// of the finger, or the right name in the wrong group.
func unknownText(key string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	best, least := "", min(max(2, len(key)/4), len(last)-1)+1
	for _, known := range knownKeys {
		if steps := distance(key, known); steps < least {
			best, least = known, steps
		}
	}
	if best == "" {
		if i := slices.IndexFunc(knownKeys, func(known string) bool { return strings.HasSuffix(known, "."+last) }); i >= 0 {
			best = knownKeys[i]
		}
	}
	if best == "" {
		return "no such setting"
	}
	return "no such setting; did you mean " + best + "?"
}

// distance is how many letters must be put in, left out or replaced to make one
// name of the other (Levenshtein).
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	above := make([]int, len(to)+1)
	for j := range above {
		above[j] = j
	}
	for i, letter := range from {
		row := make([]int, len(to)+1)
		row[0] = i + 1
		for j := range to {
			replaced := above[j]
			if letter != to[j] {
				replaced++
			}
			row[j+1] = min(replaced, above[j+1]+1, row[j]+1)
		}
		above = row
	}
	return above[len(to)]
}
