package profile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const maxFiles = 1000 // in a folder of profiles

// Load reads the profiles that are built in, from the root of embedded, and those
// of the station, from dir, where one takes the place of a built-in one of the
// same name. Files that do not end in .yaml or .yml are left alone, hidden ones
// too. dir may be empty, but not missing. The error is an *Error with all that is
// wrong with any of them.
func Load(embedded fs.FS, dir string) (Set, error) {
	l := loader{byName: map[string]*Profile{}, docs: map[*Profile]*document{}}
	l.folder(embedded, "built in: ", false)
	if dir != "" {
		if _, err := os.Stat(dir); err != nil {
			l.fail(dir, "the folder of profiles can't be read: "+err.Error())
		} else {
			l.folder(os.DirFS(dir), dir+string(filepath.Separator), true)
		}
	}
	var set Set
	for _, p := range l.byName {
		set = append(set, p)
	}
	slices.SortFunc(set, func(a, b *Profile) int { return strings.Compare(a.Name, b.Name) })
	if len(l.problems) == 0 { // else half of the set is missing, and complaints would mislead
		l.together(set)
	}
	if err := problemsError(l.problems); err != nil {
		return nil, err
	}
	return set, nil
}

type loader struct {
	byName   map[string]*Profile
	docs     map[*Profile]*document
	problems []Problem
}

func (l *loader) fail(file, text string) {
	l.problems = append(l.problems, Problem{File: file, Text: text})
}

// folder reads the profiles of one folder. Those of the station replace what is
// there.
func (l *loader) folder(fsys fs.FS, where string, replaces bool) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		l.fail(where, "can't be listed: "+err.Error())
		return
	}
	here := map[string]string{}
	for _, e := range entries {
		name := e.Name()
		suffix := path.Ext(name)
		if strings.HasPrefix(name, ".") || suffix != ".yaml" && suffix != ".yml" {
			continue
		}
		if len(here) == maxFiles {
			l.fail(where, fmt.Sprintf("holds more than %d profiles", maxFiles))
			return
		}
		data, err := readFile(fsys, name)
		if err != nil {
			l.fail(where+name, "can't be read: "+err.Error())
			continue
		}
		p, doc := parse(where+name, data)
		doc.check(p, strings.TrimSuffix(name, suffix))
		l.problems = append(l.problems, doc.problems...)
		if len(doc.problems) > 0 {
			continue
		}
		if other, twice := here[p.Name]; twice || !replaces && l.byName[p.Name] != nil {
			l.fail(where+name, fmt.Sprintf("there is a profile of the name %s already, in %s", p.Name, other))
			continue
		}
		here[p.Name] = name
		l.byName[p.Name], l.docs[p] = p, doc
	}
}

func readFile(fsys fs.FS, name string) (data []byte, err error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("this is not a file")
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, maxFileSize+1))
}

// together checks what no profile can be wrong about alone.
func (l *loader) together(set Set) {
	fail := func(p *Profile, key, text string) { checker{p, l.docs[p]}.fail(key, text) }
	for i, p := range set {
		for _, name := range p.Match.Over {
			other, ok := set.Named(name)
			if !ok {
				fail(p, "match.over", "there is no profile "+quoted(name))
			} else if slices.Contains(other.Match.Over, p.Name) {
				fail(p, "match.over", "and "+name+" says the same the other way round")
			}
		}
		for _, other := range set[:i] {
			if text := clash(p, other); text != "" {
				fail(p, "match", text)
			}
		}
	}
	for _, p := range set {
		l.problems = append(l.problems, l.docs[p].problems...)
	}
}

// clash says what two profiles would both fit equally well, as far as that can be
// told without a recorder. Empty: nothing.
func clash(p, other *Profile) string {
	a, b := p.Match, other.Match
	if slices.Contains(a.Over, other.Name) || slices.Contains(b.Over, p.Name) {
		return ""
	}
	if a.Any && b.Any && p.Access == other.Access {
		return "any with access " + string(p.Access) + " is that of profile " + other.Name + " too, in " + other.File
	}
	for _, id := range a.USB {
		if slices.Contains(b.USB, id) && pattern(a.Manufacturer) == pattern(b.Manufacturer) && pattern(a.Product) == pattern(b.Product) {
			return "fits USB id " + id.String() + " just as profile " + other.Name + " does, in " + other.File +
				": tell them apart by manufacturer or product, or say with over which one counts"
		}
	}
	return ""
}
