package profile

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds of a file. Our own profiles have up to 4 kB.
const (
	maxFileSize = 64 << 10 // bytes
	maxPattern  = 512      // characters of a regular expression
	maxText     = 512      // bytes of every other value
	maxEntries  = 64       // of a list
)

// document reads one file straight into a Profile. It never fails as a whole: what
// can be read is read, so that all problems are found in one go.
type document struct {
	file     string
	lines    map[string]int // line of every key that was set: clock.read, match.usb[0]
	problems []Problem
}

func parse(file string, data []byte) (*Profile, *document) {
	d := &document{file: file, lines: map[string]int{}}
	p := &Profile{File: file}
	if len(data) > maxFileSize {
		d.fail("", 0, "is larger than %d bytes; this is not a profile", maxFileSize)
		return p, d
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root, second yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		d.fail("", 0, "is empty")
		return p, d
	} else if err != nil {
		d.syntax(err)
		return p, d
	}
	if err := decoder.Decode(&second); err == nil {
		d.fail("", second.Line, "a second YAML document begins here; write one profile in each file")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
	}
	d.section(root.Content[0], reflect.ValueOf(p).Elem(), "")
	return p, d
}

var lineInError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func (d *document) syntax(err error) {
	text, line := err.Error(), 0
	if match := lineInError.FindStringSubmatch(text); match != nil {
		line, _ = strconv.Atoi(match[1]) // no number leaves 0: the line is unknown
		text = text[len(match[0]):]
	}
	// The parser often names the end of what it still understood.
	d.fail("", line, "not YAML, here or just below: %s", text)
}

func (d *document) fail(key string, line int, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: d.file, Key: key, Line: line, Text: fmt.Sprintf(format, args...)})
}

// failed reports whether there is a problem with the key already, or around it.
func (d *document) failed(key string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool {
		return p.Key == key || p.Key != "" && strings.HasPrefix(key, p.Key+".") || strings.HasPrefix(p.Key, key+"[")
	})
}

// section reads a mapping into the fields of v.
func (d *document) section(n *yaml.Node, v reflect.Value, key string) {
	if !d.plain(n, key) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(key, n.Line, "must be a group of keys, not %s", shape(n))
		return
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
		d.lines[child] = name.Line
		if field, ok := fieldNamed(v.Type(), name); ok {
			d.value(value, v.FieldByIndex(field.Index), field.Tag, child)
		} else {
			d.fail(child, name.Line, "%s", unknownText(child))
		}
	}
	for _, f := range fieldsOf(v.Type()) {
		if child := join(key, f.Tag.Get("key")); f.Tag.Get("must") != "" && first[child] == 0 {
			d.fail(child, n.Line, "is missing")
		}
	}
}

// plain refuses what can make one value stand for another that is elsewhere.
func (d *document) plain(n *yaml.Node, key string) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		d.fail(key, n.Line, "anchors (&), aliases (*) and tags (!) are not supported; write the value out")
		return false
	}
	return true
}

// value reads what belongs to one key.
func (d *document) value(n *yaml.Node, v reflect.Value, tag reflect.StructTag, key string) {
	if !d.plain(n, key) {
		return
	}
	_, isText := v.Addr().Interface().(encoding.TextUnmarshaler)
	_, isPattern := v.Interface().(*regexp.Regexp)
	switch {
	case isText || isPattern:
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.section(n, v.Elem(), key)
		return
	case v.Kind() == reflect.Struct:
		d.section(n, v, key)
		return
	case v.Kind() == reflect.Slice:
		d.list(n, v, tag, key)
		return
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(key, n.Line, "must be a single value, not %s", shape(n))
	case n.Tag == "!!null":
		d.fail(key, n.Line, "has no value; remove the line to leave it out")
	case len(n.Value) > maxText:
		d.fail(key, n.Line, "is longer than %d bytes", maxText)
	default:
		if err := scalar(n.Value, v, tag); err != nil {
			d.fail(key, n.Line, "%v", err)
		}
	}
}

func (d *document) list(n *yaml.Node, v reflect.Value, tag reflect.StructTag, key string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(key, n.Line, "must be a list, not %s", shape(n))
		return
	}
	if len(n.Content) > maxEntries {
		d.fail(key, n.Line, "must have at most %d entries, not %d", maxEntries, len(n.Content))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, e := range n.Content {
		child := fmt.Sprintf("%s[%d]", key, i)
		d.lines[child] = e.Line
		d.value(e, v.Index(i), tag, child)
	}
}

// scalar turns text into the value of a field.
func scalar(text string, v reflect.Value, tag reflect.StructTag) error {
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return t.UnmarshalText([]byte(text))
	}
	if choices := strings.Fields(tag.Get("oneof")); len(choices) > 0 && !slices.Contains(choices, text) {
		return fmt.Errorf("must be %s, not %s", strings.Join(choices, ", "), quoted(text))
	}
	switch v.Interface().(type) {
	case *regexp.Regexp:
		pattern, err := compile(text, tag.Get("fold") != "")
		if err == nil {
			v.Set(reflect.ValueOf(pattern))
		}
		return err
	case time.Duration:
		t, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("must be a time such as 3s or 500ms, not %s", quoted(text))
		}
		v.SetInt(int64(t))
		return nil
	case bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("must be true or false, not %s", quoted(text))
		}
		v.SetBool(text == "true")
		return nil
	}
	if v.Kind() != reflect.String {
		panic("a field of a profile has a type that is not read: " + v.Type().String())
	}
	v.SetString(text)
	return nil
}

// compile makes a pattern. Names on cards are compared without regard to case, as
// FAT does; answers of a recorder are not.
func compile(text string, fold bool) (*regexp.Regexp, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("is longer than %d characters", maxPattern)
	}
	if text == "" {
		return nil, errors.New("is empty: it would fit everything")
	}
	if _, err := regexp.Compile(text); err != nil { // as it was written, for the message
		return nil, fmt.Errorf("is no regular expression: %w", err)
	}
	if fold {
		text = "(?i:" + text + ")"
	}
	return regexp.Compile(text)
}
