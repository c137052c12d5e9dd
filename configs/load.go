package configs

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/viper"
)

// documented is ingestd.yaml. It holds the defaults: what people read and what
// the program does cannot drift apart.
//
//go:embed ingestd.yaml
var documented []byte

const (
	envPrefix     = "INGESTD_"
	sourceDefault = "default"
	sourceFlag    = "flag"
)

// Option changes how Load loads.
type Option func(*loader)

// WithOverride sets a key from a command line flag, over every other source.
// Give only flags that were set. The value is text as in the file; a relative
// path starts at the working directory.
func WithOverride(key, value string) Option {
	return func(l *loader) { l.overrides[key] = value }
}

// Load reads the settings from path, or from DefaultPath, which may be missing,
// when path is empty. Flags go over the environment, that over the file, that
// over the defaults. All is checked; the error is an *Error with every problem.
func Load(path string, options ...Option) (*Config, error) {
	l := &loader{overrides: map[string]string{}}
	for _, option := range options {
		option(l)
	}
	file := l.readFile(path)
	l.readEnvironment(os.Environ())
	l.checkOverrides()
	cfg := l.merge(parseDocument(documented), file)
	l.problems = append(l.problems, check(cfg, l.problems)...)
	if err := problemsError(cfg.file, l.problems); err != nil {
		return nil, err
	}
	return cfg, nil
}

// Default is the settings without file, environment and flags.
func Default() *Config {
	l := &loader{}
	cfg := l.merge(parseDocument(documented), parseDocument(nil))
	l.problems = append(l.problems, check(cfg, l.problems)...)
	if err := problemsError("", l.problems); err != nil {
		panic(fmt.Sprintf("configs: the built-in ingestd.yaml: %v", err))
	}
	return cfg
}

// loader collects the layers of one Load.
type loader struct {
	file      string            // absolute path of the file that was read
	env       []string          // keys that a variable sets
	overrides map[string]string // by key
	problems  []Problem
}

func (l *loader) fail(p Problem) { l.problems = append(l.problems, p) }

func (l *loader) readFile(path string) *document {
	optional := path == ""
	if optional {
		path = DefaultPath
	}
	data, file, err := readSettings(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return parseDocument(nil)
	}
	l.file = file
	if err != nil {
		reason := err
		if in := (*fs.PathError)(nil); errors.As(err, &in) {
			reason = in.Err // the message names the path already
		}
		l.fail(Problem{Source: file, Text: fmt.Sprintf("cannot be read: %v", reason), cause: err})
		return parseDocument(nil)
	}
	doc := parseDocument(data)
	for _, p := range doc.problems {
		p.Source = file
		if p.Line != 0 {
			p.Source = l.at(p.Line).source
		}
		l.fail(p)
	}
	return doc
}

// readSettings reads no more than what parseDocument refuses.
func readSettings(path string) (data []byte, file string, err error) {
	file, err = filepath.Abs(path)
	if err != nil {
		return nil, path, fmt.Errorf("find the working directory: %w", err)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, file, fmt.Errorf("read the settings: %w", err)
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, file, fmt.Errorf("read the settings: %w", err)
	}
	return data, file, nil
}

// readEnvironment notes the variables that set something and refuses the ones
// with our prefix that do not: a slip in a unit file must not go unnoticed.
func (l *loader) readEnvironment(environ []string) {
	lists, keyOf, names := []string{}, map[string]string{}, []string{}
	for s := range settings(reflect.ValueOf(new(Config)).Elem()) {
		name := envName(s.key)
		if s.field.Kind() == reflect.Slice {
			lists = append(lists, name)
			continue
		}
		keyOf[name] = s.key
		names = append(names, name)
	}
	slices.Sort(environ)
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		text := ""
		switch key, known := keyOf[name]; {
		case known:
			l.env = append(l.env, key)
			continue
		case slices.ContainsFunc(lists, func(list string) bool { return name == list || strings.HasPrefix(name, list+"_") }):
			text = listText
		case isSecret(name):
			text = secretText
		default:
			text = unknownText(name, names)
		}
		l.fail(Problem{Key: name, Source: "env " + name, Text: text})
	}
}

// envName is the variable of a key.
func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// checkOverrides refuses keys that no single value has.
func (l *loader) checkOverrides() {
	var keys []string
	for s := range settings(reflect.ValueOf(new(Config)).Elem()) {
		if s.field.Kind() != reflect.Slice {
			keys = append(keys, s.key)
		} else if _, set := l.overrides[s.key]; set {
			l.fail(Problem{Key: s.key, Source: sourceFlag, Text: listText})
			delete(l.overrides, s.key)
		}
	}
	for key := range l.overrides {
		if !slices.Contains(keys, key) {
			l.fail(Problem{Key: key, Source: sourceFlag, Text: unknownText(key, keys)})
			delete(l.overrides, key)
		}
	}
}

// merge lets viper lay the layers over each other and gives the winners their
// types. A value without a valid text keeps its default, so that one mistake is
// one problem.
func (l *loader) merge(defaults, file *document) *Config {
	cfg := &Config{file: l.file, origins: map[string]origin{}}
	v := viper.New()
	// A variable that is set to nothing sets an empty text. Ignoring it would
	// leave the file's value in use while the environment says otherwise.
	v.AllowEmptyEnv(true)

	// Every key needs a default: viper does not see a variable whose key is in
	// neither the file nor the defaults.
	documented := viper.New()
	must(documented.MergeConfigMap(defaults.tree))
	keys := slices.Collect(settings(reflect.ValueOf(cfg).Elem()))
	for _, s := range keys {
		if !documented.IsSet(s.key) {
			panic("configs: ingestd.yaml does not document " + s.key)
		}
		v.SetDefault(s.key, documented.Get(s.key))
		l.set(cfg, s, documented.Get(s.key))
	}

	must(v.MergeConfigMap(file.tree))
	for key, line := range file.lines {
		cfg.origins[key] = l.at(line)
	}
	for _, key := range l.env {
		must(v.BindEnv(key, envName(key)))
		cfg.origins[key] = origin{source: "env " + envName(key)}
	}
	for key, value := range l.overrides {
		v.Set(key, value)
		cfg.origins[key] = origin{source: sourceFlag}
	}
	for _, s := range keys {
		l.set(cfg, s, v.Get(s.key))
	}
	return cfg
}

// must is for calls of viper that fail only when this package misuses it.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("configs: %v", err))
	}
}

// set gives one field the value that won. Single values are text, as
// parseDocument promises.
func (l *loader) set(cfg *Config, s setting, value any) {
	if s.field.Kind() == reflect.Slice {
		l.setList(cfg, s, value.([]any))
		return
	}
	text, from := value.(string), cfg.origin(s.key)
	if err := setText(s.field, text); err != nil {
		l.fail(Problem{Key: s.key, Line: from.line, Source: from.source, Text: err.Error()})
		return
	}
	if s.path && text != "" {
		s.field.SetString(l.absolute(text, from))
	}
}

func (l *loader) setList(cfg *Config, list setting, entries []any) {
	list.field.Set(reflect.MakeSlice(list.field.Type(), len(entries), len(entries)))
	for i, e := range entries {
		values, isSection := e.(map[string]any)
		if !isSection {
			l.set(cfg, setting{key: entry(list.key, i), field: list.field.Index(i)}, e)
			continue
		}
		for s := range settings(list.field.Index(i)) {
			if value, set := values[s.key]; set {
				s.key = join(entry(list.key, i), s.key)
				l.set(cfg, s, value)
			}
		}
	}
}

// absolute resolves a path where the one who wrote it would look: beside the
// file, or in the working directory of the command.
func (l *loader) absolute(path string, from origin) string {
	if !filepath.IsAbs(path) && from.line != 0 {
		path = filepath.Join(filepath.Dir(l.file), path)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return path // no working directory; check refuses what is not absolute
	}
	return absolute
}

// at is the origin of a value in the file.
func (l *loader) at(line int) origin {
	return origin{source: fmt.Sprintf("%s:%d", l.file, line), line: line}
}
