package profile

import (
	"bytes"
	"io/fs"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// maxListed bounds how many names of one folder are looked at: FAT itself holds no
// more than 65536.
const maxListed = 1 << 16

// find gives the path of a file as the volume spells it, of which want may be
// another spelling: cards are written by FAT, which keeps case but does not heed
// it. Links are not followed and only a regular file counts.
func find(fsys fs.FS, want string) (path string, ok bool) {
	if fsys == nil {
		return "", false
	}
	dir := "."
	parts := strings.Split(want, "/")
	for i, part := range parts {
		name, ok := findIn(fsys, dir, part, i < len(parts)-1)
		if !ok {
			return "", false
		}
		if dir == "." {
			dir = name
		} else {
			dir += "/" + name
		}
	}
	return dir, true
}

// findIn looks for one name in one folder; exactly as written goes first.
func findIn(fsys fs.FS, dir, want string, isDir bool) (name string, ok bool) {
	f, err := fsys.Open(dir)
	if err != nil {
		return "", false
	}
	defer func() { _ = f.Close() }() // only read
	list, isList := f.(fs.ReadDirFile)
	if !isList {
		return "", false
	}
	for listed := 0; listed < maxListed; {
		entries, err := list.ReadDir(256)
		for _, e := range entries {
			fits := isDir && e.IsDir() || !isDir && e.Type().IsRegular()
			switch {
			case fits && e.Name() == want:
				return want, true
			case fits && !ok && strings.EqualFold(e.Name(), want):
				name, ok = e.Name(), true
			}
		}
		if err != nil || len(entries) == 0 {
			break
		}
		listed += len(entries)
	}
	return name, ok
}

// open opens a file of a volume by any spelling.
func open(fsys fs.FS, want string) (fs.File, bool) {
	path, ok := find(fsys, want)
	if !ok {
		return nil, false
	}
	f, err := fsys.Open(path)
	return f, err == nil
}

// decode reads text of a recorder: UTF-8 with or without a mark, or GBK.
func decode(raw []byte) (text string, ok bool) {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if utf8.Valid(raw) {
		return string(raw), true
	}
	out, err := simplifiedchinese.GBK.NewDecoder().Bytes(raw)
	return string(out), err == nil
}

// groupOf gives what a named group of the pattern holds in text; empty: the pattern
// does not fit, or the group took no part.
func groupOf(pattern *regexp.Regexp, text, group string) string {
	match, i := pattern.FindStringSubmatch(text), pattern.SubexpIndex(group)
	if match == nil || i < 0 {
		return ""
	}
	return match[i]
}

// fits is for slices.ContainsFunc: does one of the patterns fit the text?
func fits(text string) func(*regexp.Regexp) bool {
	return func(p *regexp.Regexp) bool { return p.MatchString(text) }
}
