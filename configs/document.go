package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileSize bounds what is parsed; our own file has 5 kB.
const maxFileSize = 1 << 20

// document is a settings file taken apart. Its shape has been checked against
// Config; its values are still the text that was written, so that station id
// 0412 stays 0412 and does not become a number.
type document struct {
	tree  map[string]any // sections are map[string]any, lists []any of sections, values string
	lines map[string]int // line of every key that was set: station.id, sources[0].path

	problems []Problem // what was left out of tree, and why
}

// parseDocument never fails as a whole: what can be read is read, so that all
// problems are found in one go.
func parseDocument(data []byte) *document {
	doc := &document{tree: map[string]any{}, lines: map[string]int{}}
	if len(data) > maxFileSize {
		doc.fail("", 0, "the file is larger than %d bytes; this is not a settings file", maxFileSize)
		return doc
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root, second yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return doc // empty, or only comments
	} else if err != nil {
		doc.syntax(err)
		return doc
	}
	if err := decoder.Decode(&second); err == nil {
		doc.fail("", second.Line, "a second YAML document begins here; only one is read")
	} else if !errors.Is(err, io.EOF) {
		doc.syntax(err)
	}
	if v, ok := doc.value(root.Content[0], reflect.TypeFor[Config](), ""); ok {
		doc.tree = v.(map[string]any)
	}
	return doc
}

var lineInError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func (d *document) syntax(err error) {
	text := err.Error()
	match := lineInError.FindStringSubmatch(text)
	line := 0
	if match != nil {
		line, _ = strconv.Atoi(match[1]) // no number leaves 0: the line is unknown
		text = text[len(match[0]):]
	}
	if line == 0 {
		d.fail("", 0, "not YAML: %s", text)
		return
	}
	// The parser often names the end of what it still understood.
	d.fail("", line, "not YAML, here or just below: %s", text)
}

func (d *document) fail(key string, line int, format string, args ...any) {
	d.problems = append(d.problems, Problem{Key: key, Line: line, Text: fmt.Sprintf(format, args...)})
}

// section reads a mapping whose keys are the fields of t; ok is false when it
// is no mapping. A bad key is left out, the others count.
func (d *document) section(n *yaml.Node, t reflect.Type, key string) (v any, ok bool) {
	tree := map[string]any{}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return tree, true // all its settings are commented out
	}
	if n.Kind != yaml.MappingNode {
		d.fail(key, n.Line, "must be a group of settings, not %s", shape(n))
		return nil, false
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		child := join(key, printable(name))
		if line, twice := first[child]; twice {
			d.fail(child, name.Line, "set twice, first at line %d", line)
			continue
		}
		first[child] = name.Line
		field, known := fieldNamed(t, name)
		if !known {
			d.unknown(value, name, child)
			continue
		}
		if v, ok := d.value(value, field.Type, child); ok {
			tree[name.Value] = v
			d.lines[child] = name.Line
		}
	}
	return tree, true
}

func fieldNamed(t reflect.Type, name *yaml.Node) (reflect.StructField, bool) {
	for _, f := range fieldsOf(t) {
		if name.Kind == yaml.ScalarNode && f.Tag.Get("key") == name.Value {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// value reads what belongs to one key; ok is false when it was refused.
func (d *document) value(n *yaml.Node, t reflect.Type, key string) (v any, ok bool) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		d.fail(key, n.Line, "anchors (&), aliases (*) and tags (!) are not supported; write the value out")
		return nil, false
	}
	switch t.Kind() {
	case reflect.Struct:
		return d.section(n, t, key)
	case reflect.Slice:
		return d.list(n, t.Elem(), key)
	}
	if n.Kind != yaml.ScalarNode {
		d.fail(key, n.Line, "must be a single value, not %s", shape(n))
		return nil, false
	}
	if n.Tag == "!!null" {
		d.fail(key, n.Line, `has no value; remove the line to get the default, or write "" for an empty text`)
		return nil, false
	}
	return n.Value, true
}

func (d *document) list(n *yaml.Node, t reflect.Type, key string) (v any, ok bool) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return []any{}, true // all its entries are commented out
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(key, n.Line, "must be a list, not %s", shape(n))
		return nil, false
	}
	if len(n.Content) > maxSources {
		d.fail(key, n.Line, tooManyText, maxSources, len(n.Content))
		return nil, false
	}
	entries, ok := []any{}, true
	for i, e := range n.Content {
		v, entryOK := d.value(e, t, entry(key, i))
		d.lines[entry(key, i)] = e.Line
		entries = append(entries, v)
		ok = ok && entryOK
	}
	return entries, ok
}

// unknown reports a key that does not exist, and secrets however deep they lie
// below it: they are the mistake that must not stay unnoticed.
func (d *document) unknown(value, name *yaml.Node, key string) {
	if isSecret(name.Value) {
		d.fail(key, name.Line, secretText)
		return
	}
	known := knownKeys()
	if slices.Contains(known, name.Value) && strings.Contains(name.Value, ".") {
		d.fail(key, name.Line, "write the groups one below the other: %s: and so on", strings.Split(name.Value, ".")[0])
		return
	}
	d.fail(key, name.Line, "%s", unknownText(withoutNumbers(key), known))
	d.secretsBelow(value, key)
}

func (d *document) secretsBelow(n *yaml.Node, key string) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := n.Content[i]
			child := join(key, printable(name))
			if isSecret(name.Value) {
				d.fail(child, name.Line, secretText)
			} else {
				d.secretsBelow(n.Content[i+1], child)
			}
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			d.secretsBelow(e, entry(key, i))
		}
	}
}

var (
	plainName = regexp.MustCompile(`^[\p{L}\p{N}_-]{1,64}$`)
	number    = regexp.MustCompile(`\[\d+\]`)
)

// printable is the name of a key as it appears in messages.
func printable(name *yaml.Node) string {
	if name.Kind == yaml.ScalarNode && plainName.MatchString(name.Value) {
		return name.Value
	}
	if name.Kind != yaml.ScalarNode {
		return "(" + shape(name) + ")"
	}
	return quoted(name.Value)
}

// withoutNumbers turns sources[1].path into sources.path.
func withoutNumbers(key string) string { return number.ReplaceAllString(key, "") }

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
