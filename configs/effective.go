package configs

import (
	"fmt"
	"reflect"
	"strings"
)

// Setting is one value in use and where it comes from.
type Setting struct {
	Key    string // such as storage.s3.endpoint or sources[0].path
	Value  string // as the file would spell it; a path is absolute
	Source string // default, FILE:LINE, env NAME or flag
}

// Effective lists every setting in the order of ingestd.yaml. A list that has
// entries stands as its entries, an empty one as []. Secrets are never part of
// a Config and so not of this list.
func (c *Config) Effective() []Setting {
	var all []Setting
	for s := range settings(reflect.ValueOf(c).Elem()) {
		value := fmt.Sprint(s.field.Interface())
		if s.field.Kind() == reflect.Slice {
			if s.field.Len() > 0 {
				continue
			}
			value = "[]"
		}
		all = append(all, Setting{Key: s.key, Value: value, Source: c.origin(s.key).source})
	}
	return all
}

// origin is where a value comes from.
type origin struct {
	source string // as in Setting
	line   int    // in the file, else 0
}

// origin of a key. What an entry of a list leaves out has the line of the
// entry.
func (c *Config) origin(key string) origin {
	if from, set := c.origins[key]; set {
		return from
	}
	if i := strings.LastIndex(key, "]"); i >= 0 && i+1 < len(key) {
		return c.origin(key[:i+1])
	}
	return origin{source: sourceDefault}
}
