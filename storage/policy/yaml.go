package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// reader takes a file apart and goes on after a fault, to find them all.
type reader struct {
	problems []Problem
}

func (r *reader) fail(key string, line int, format string, args ...any) {
	r.problems = append(r.problems, Problem{Key: key, Line: line, Text: fmt.Sprintf(format, args...)})
}

// document gives the root of the one YAML document in a file, nil if there is none.
func (r *reader) document(data []byte) *yaml.Node {
	if len(data) > maxFileSize {
		r.fail("", 0, "the file is larger than %d bytes; this is no retention file", maxFileSize)
		return nil
	}
	if !utf8.Valid(data) {
		r.fail("", 0, "the file is not UTF-8; save it as UTF-8")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := decoder.Decode(&first); errors.Is(err, io.EOF) {
		r.fail("", 0, "the file is empty; a policy has at least version and default")
		return nil
	} else if err != nil {
		r.syntax(err)
		return nil
	}
	if err := decoder.Decode(&second); err == nil {
		r.fail("", second.Line, "a second YAML document begins here; put all rules into one")
	} else if !errors.Is(err, io.EOF) {
		r.syntax(err)
	}
	return first.Content[0]
}

var syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func (r *reader) syntax(err error) {
	text, line := err.Error(), 0
	if found := syntaxLine.FindStringSubmatch(text); found != nil {
		line, _ = strconv.Atoi(found[1]) // without a number it stays 0: unknown
		text = text[len(found[0]):]
	}
	// The parser often names the end of what it still understood.
	r.fail("", line, "not YAML, here or just below: %s", text)
}

// field reads what belongs to one key.
type field func(n *yaml.Node, key string)

// group reads a mapping and gives the line of every key that it has; nil when it is
// no mapping.
func (r *reader) group(n *yaml.Node, key string, fields map[string]field) map[string]int {
	if !r.plain(n, key) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.fail(key, n.Line, "must be a group of settings, not %s", shape(n))
		return nil
	}
	set := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		child := join(key, shown(name))
		read, known := fields[name.Value]
		known = known && name.Kind == yaml.ScalarNode
		first, twice := set[shown(name)]
		switch {
		case twice:
			r.fail(child, name.Line, "set twice, first at line %d; keep one", first)
			continue
		case !known:
			r.fail(child, name.Line, "%s", unknownText(index.ReplaceAllString(child, "")))
		case isNull(value) && child == "rules": // all its entries are commented out
		case isNull(value):
			r.fail(child, name.Line, "has no value; write one or remove the line")
		default:
			read(value, child)
		}
		set[shown(name)] = name.Line
	}
	return set
}

// require reports the keys that a group must have and has not.
func (r *reader) require(set map[string]int, key string, line int, texts map[string]string) {
	for name, text := range texts {
		if set[name] == 0 {
			r.fail(join(key, name), line, "%s", text)
		}
	}
}

// list gives the entries of a list; nil when it is none or has too many.
func (r *reader) list(n *yaml.Node, key string, most int) []*yaml.Node {
	switch {
	case !r.plain(n, key):
		return nil
	case n.Kind != yaml.SequenceNode:
		r.fail(key, n.Line, "must be a list, such as [a, b], not %s", shape(n))
		return nil
	case len(n.Content) > most:
		r.fail(key, n.Line, "must have at most %d entries, not %d", most, len(n.Content))
		return nil
	}
	return n.Content
}

// text gives a single value as it was written, so that officer 0412 does not
// become a number.
func (r *reader) text(n *yaml.Node, key string) (string, bool) {
	switch v := n.Value; {
	case !r.plain(n, key):
	case n.Kind != yaml.ScalarNode:
		r.fail(key, n.Line, "must be a single value, not %s", shape(n))
	case isNull(n) || v == "":
		r.fail(key, n.Line, "has no value; write one or remove it")
	case v != strings.TrimSpace(v):
		r.fail(key, n.Line, "must not begin or end with a space: %s", quoted(v))
	case strings.ContainsFunc(v, hidden):
		r.fail(key, n.Line, "must not hold control characters, line breaks or invisible letters: %s", quoted(v))
	case utf8.RuneCountInString(v) > maxText:
		r.fail(key, n.Line, "must not be longer than %d characters", maxText)
	default:
		return v, true
	}
	return "", false
}

// hidden tells letters that no one sees: a tag with one would never match, and a
// terminal may obey it. Mongolian needs some that others call format characters.
func hidden(c rune) bool {
	return unicode.IsControl(c) || unicode.In(c, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || c == '\u200b' || c == '\ufeff'
}

// plain refuses the parts of YAML that make a file mean something else than it
// seems to.
func (r *reader) plain(n *yaml.Node, key string) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		r.fail(key, n.Line, "anchors (&), aliases (*) and tags (!) are not supported; write the value out")
		return false
	}
	return true
}

// index is the number of an entry in a key: rules[1].name is known as rules.name.
var index = regexp.MustCompile(`\[\d+\]`)

func join(group, name string) string {
	if group == "" {
		return name
	}
	return group + "." + name
}

// shown is the name of a key as it appears in messages.
func shown(name *yaml.Node) string {
	switch {
	case name.Kind != yaml.ScalarNode:
		return "(" + shape(name) + ")"
	case ruleName.MatchString(name.Value):
		return name.Value
	}
	return quoted(name.Value)
}

// shape names what stands in the file, in words for people.
func shape(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of settings"
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

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Style&yaml.TaggedStyle == 0
}

// quoted shows a value of the file in a message, where control characters and
// length must do no harm.
func quoted(text string) string {
	if letters := []rune(text); len(letters) > 64 {
		text = string(letters[:64]) + "…"
	}
	return strconv.Quote(text)
}
