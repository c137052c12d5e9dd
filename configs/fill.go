package configs

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Has reports whether there is a setting of that key, a list too.
func Has(key string) bool {
	var root yaml.Node
	if err := yaml.Unmarshal(documented, &root); err != nil {
		panic(fmt.Sprintf("configs: the built-in ingestd.yaml: %v", err))
	}
	_, value := find(root.Content[0], key)
	return value != nil
}

// Fill gives the documented settings file with other values in it, and all that
// explains them. It takes settings as Effective gives them: keys of lists have their
// entries' numbers, from 0 without gaps. What the values mean is not checked: Load does.
func Fill(values []Setting) ([]byte, error) {
	lists := map[string][]filled{}
	lines := strings.Split(string(documented), "\n")
	var root yaml.Node
	if err := yaml.Unmarshal(documented, &root); err != nil {
		return nil, fmt.Errorf("the built-in ingestd.yaml: %w", err)
	}
	set := func(key, text string) error {
		name, value := find(root.Content[0], key)
		if value == nil || value.Kind == yaml.MappingNode {
			return fmt.Errorf("%s is no setting", key)
		}
		at := value.Line - 1
		lines[at] = lines[at][:name.Column-1] + name.Value + ":" + text
		return nil
	}
	for _, s := range values {
		if m := listKey.FindStringSubmatch(s.Key); m != nil {
			list, err := addTo(lists[m[1]], m[2], m[3], s.Value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.Key, err)
			}
			lists[m[1]] = list
			continue
		}
		text := " " + scalar(s.Value)
		if s.Value == "[]" {
			if _, value := find(root.Content[0], s.Key); value != nil && value.Kind == yaml.SequenceNode {
				text = " []"
			}
		}
		if err := set(s.Key, text); err != nil {
			return nil, err
		}
	}
	for key, list := range lists {
		name, _ := find(root.Content[0], key)
		if name == nil {
			return nil, fmt.Errorf("%s is no setting", key)
		}
		text := ""
		for _, e := range list {
			text += "\n" + strings.Repeat(" ", name.Column+1) + "- " + e.text()
		}
		if err := set(key, text); err != nil {
			return nil, err
		}
	}
	return []byte(strings.Join(lines, "\n")), nil
}

// listKey is the key of a value in a list: usb.slots[0].port, or hosts[0].
var listKey = regexp.MustCompile(`^([^\[]+)\[(\d+)\](?:\.([^\[]+))?$`)

// filled is an entry of a list: its fields in their order, or one value without a name.
type filled [][2]string

func (e filled) text() string {
	if len(e) == 1 && e[0][0] == "" {
		return scalar(e[0][1])
	}
	var fields []string
	for _, f := range e {
		fields = append(fields, f[0]+": "+scalar(f[1]))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func addTo(list []filled, number, field, value string) ([]filled, error) {
	last := fmt.Sprint(len(list) - 1)
	switch number {
	case last:
		list[len(list)-1] = append(list[len(list)-1], [2]string{field, value})
	case fmt.Sprint(len(list)):
		list = append(list, filled{{field, value}})
	default:
		return nil, fmt.Errorf("entry %s comes after entry %s", number, last)
	}
	return list, nil
}

// plain is what needs no quotes in YAML, in a list of the form {a: b} neither. What
// YAML takes for a number or a truth is text to us anyway.
var plain = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9_./-]*$`)

func scalar(s string) string {
	if plain.MatchString(s) {
		return s
	}
	var b strings.Builder
	enc := json.NewEncoder(&b) // a string of JSON is one of YAML
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string can be encoded
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// find gives the nodes of a key and its value, nil where there is none.
func find(section *yaml.Node, key string) (name, value *yaml.Node) {
	head, rest, nested := strings.Cut(key, ".")
	if section.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i < len(section.Content); i += 2 {
		switch name, value := section.Content[i], section.Content[i+1]; {
		case name.Value == head && nested:
			return find(value, rest)
		case name.Value == head:
			return name, value
		}
	}
	return nil, nil
}
