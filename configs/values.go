package configs

import (
	"fmt"
	"iter"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a station without zone files still counts its own days

	"github.com/dustin/go-humanize"
)

// ByteSize is a number of bytes, written 16MiB or 16MB in the settings.
type ByteSize int64

// Binary units.
const (
	KiB ByteSize = 1 << 10
	MiB ByteSize = 1 << 20
	GiB ByteSize = 1 << 30
)

// String gives the size in the largest binary unit that divides it: no digit is
// lost, and the settings accept it again.
func (b ByteSize) String() string {
	switch {
	case b != 0 && b%GiB == 0:
		return fmt.Sprintf("%dGiB", b/GiB)
	case b != 0 && b%MiB == 0:
		return fmt.Sprintf("%dMiB", b/MiB)
	case b != 0 && b%KiB == 0:
		return fmt.Sprintf("%dKiB", b/KiB)
	}
	return fmt.Sprintf("%dB", int64(b))
}

func parseByteSize(text string) (ByteSize, error) {
	size, err := humanize.ParseBytes(text)
	if err != nil || size > math.MaxInt64 {
		return 0, fmt.Errorf("must be a size such as 16MiB, not %s", quoted(text))
	}
	return ByteSize(size), nil
}

// choice is a setting that knows all its values.
type choice interface{ choices() []string }

// setText gives a field the value that text spells. Every layer is text, so a
// value means the same in the file, in a variable and in a flag. The error is
// for people and is complete without the key.
func setText(field reflect.Value, text string) error {
	switch target := field.Addr().Interface().(type) {
	case *ByteSize:
		size, err := parseByteSize(text)
		if err != nil {
			return err
		}
		*target = size
		return nil
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("must be a time with its unit such as 3s, not %s", quoted(text))
		}
		*target = d
		return nil
	case **time.Location:
		loc, err := time.LoadLocation(text)
		// Local and the empty name would make retention depend on how the
		// machine happens to be set up.
		if err != nil || text == "" || text == "Local" {
			return fmt.Errorf("must be an IANA time zone such as Asia/Shanghai, not %s", quoted(text))
		}
		*target = loc
		return nil
	case choice:
		if err := checkChoice(target, text); err != nil {
			return err
		}
		field.SetString(text)
		return nil
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("must be a whole number, not %s", quoted(text))
		}
		field.SetInt(int64(n))
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("must be true or false, not %s", quoted(text))
		}
		field.SetBool(text == "true")
	default:
		panic("configs: no text form for " + field.Type().String())
	}
	return nil
}

func checkChoice(c choice, text string) error {
	all := c.choices()
	if slices.Contains(all, text) {
		return nil
	}
	last := len(all) - 1
	return fmt.Errorf("must be %s or %s, not %s", strings.Join(all[:last], ", "), all[last], quoted(text))
}

// quoted shows a value or name from outside: in quotes, and not without end.
func quoted(text string) string {
	if runes := []rune(text); len(runes) > 64 {
		text = string(runes[:64]) + "…"
	}
	return strconv.Quote(text)
}

// setting is one field of a Config with the key it has in the file.
type setting struct {
	key   string
	field reflect.Value
	path  bool // is made absolute
}

// settings goes through all single values below a section, in the order of the
// struct, the entries of lists included: sources[0].path. A list also appears
// itself, before its entries.
func settings(section reflect.Value) iter.Seq[setting] {
	return func(yield func(setting) bool) { walk(section, "", yield) }
}

func walk(section reflect.Value, prefix string, yield func(setting) bool) bool {
	for _, f := range fieldsOf(section.Type()) {
		key, field := join(prefix, f.Tag.Get("key")), section.FieldByIndex(f.Index)
		if field.Kind() == reflect.Struct {
			if !walk(field, key, yield) {
				return false
			}
			continue
		}
		if !yield(setting{key, field, f.Tag.Get("path") != ""}) {
			return false
		}
		if field.Kind() == reflect.Slice {
			for i := range field.Len() {
				if field.Index(i).Kind() == reflect.String {
					if !yield(setting{entry(key, i), field.Index(i), false}) {
						return false
					}
				} else if !walk(field.Index(i), entry(key, i), yield) {
					return false
				}
			}
		}
	}
	return true
}

// fieldsOf are the fields of a section that are settings or sections.
func fieldsOf(section reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(section), func(f reflect.StructField) bool {
		return f.Tag.Get("key") == ""
	})
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

func entry(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
