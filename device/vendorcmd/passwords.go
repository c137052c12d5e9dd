package vendorcmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const maxPasswordsSize = 64 << 10 // bytes

// Passwords are those of the recorders at a station. Printing one shows only how
// many there are.
type Passwords struct {
	count int
	// find is a function so that no way of printing reaches what it knows.
	find func(key string) (string, bool)
}

// ReadPasswords reads the file that recorders.passwords_file names: lines
// "KEY: PASSWORD", where KEY is a recorder's serial number, its USB id such as
// 4255:0001, or the name of its profile; # begins a line of comment. The file must
// be closed to other users. No error holds a part of it.
func ReadPasswords(path string) (Passwords, error) {
	f, err := os.Open(path)
	if err != nil {
		return Passwords{}, fmt.Errorf("passwords of recorders: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of the open file: what is checked is what is read
	if err != nil {
		return Passwords{}, fmt.Errorf("passwords of recorders: %w", err)
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return Passwords{}, fmt.Errorf("passwords of recorders: %s is not a file", path)
	case mode.Perm()&0o027 != 0:
		// The group may read: the file may be root's with the daemon's group.
		return Passwords{}, fmt.Errorf("passwords of recorders: %s has mode %04o and is open to other users: chmod 0600 %[1]s", path, mode.Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPasswordsSize+1))
	if err != nil {
		return Passwords{}, fmt.Errorf("passwords of recorders: read %s: %w", path, err)
	}
	passwords, err := parsePasswords(data)
	if err != nil {
		return Passwords{}, fmt.Errorf("passwords of recorders: %s: %w", path, err)
	}
	return passwords, nil
}

func parsePasswords(data []byte) (Passwords, error) {
	if len(data) > maxPasswordsSize {
		return Passwords{}, fmt.Errorf("is larger than %d bytes; this is not a file of passwords", maxPasswordsSize)
	}
	all := map[string]string{}
	var wrong []error
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || line == "---" {
			continue
		}
		// A colon followed by a space: a USB id has one of its own.
		key, password, ok := strings.Cut(line, ": ")
		key, password = fold(key), unquote(strings.TrimSpace(password))
		_, twice := all[key]
		switch err := plainPassword(password); {
		case !ok || key == "" || password == "" || strings.ContainsAny(key, " \t"):
			wrong = append(wrong, fmt.Errorf("line %d is not KEY: PASSWORD, with a space after the colon", i+1))
		case twice:
			wrong = append(wrong, fmt.Errorf("line %d sets the password of its recorder a second time", i+1))
		case err != nil:
			wrong = append(wrong, fmt.Errorf("the password in line %d %w", i+1, err))
		default:
			all[key] = password
		}
	}
	return Passwords{count: len(all), find: func(key string) (string, bool) {
		password, ok := all[fold(key)]
		return password, ok
	}}, errors.Join(wrong...)
}

// For gives the password for the first of the keys that has one. Pass the most
// particular first: serial number, USB id, name of the profile. Empty keys, which
// are not known, have none.
func (p Passwords) For(keys ...string) (password string, ok bool) {
	for _, key := range keys {
		if key == "" || p.find == nil {
			continue
		}
		if password, ok = p.find(key); ok {
			return password, true
		}
	}
	return "", false
}

// String tells how many there are.
func (p Passwords) String() string { return fmt.Sprintf("%d passwords", p.count) }

// GoString is String, for %#v.
func (p Passwords) GoString() string { return p.String() }

func fold(key string) string { return strings.ToLower(strings.TrimSpace(key)) }

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
