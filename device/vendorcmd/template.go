package vendorcmd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

type partKind int

const (
	partLiteral partKind = iota
	partPassword
	partPasswordLength
	partTime // text is its layout
)

type part struct {
	kind partKind
	text string
}

// template is a command taken apart. Taking it apart before anything is filled in
// is what keeps a password from being read as a part of the command.
type template []part

func (t template) has(kind partKind) bool {
	for _, p := range t {
		if p.kind == kind {
			return true
		}
	}
	return false
}

// fill makes the bytes to send.
func (t template) fill(password string, at time.Time) []byte {
	var out []byte
	for _, p := range t {
		switch p.kind {
		case partLiteral:
			out = append(out, p.text...)
		case partPassword:
			out = append(out, password...)
		case partPasswordLength:
			out = strconv.AppendInt(out, int64(len(password)), 10)
		case partTime:
			out = at.AppendFormat(out, p.text)
		}
	}
	return out
}

func parseTemplate(text string) (template, error) {
	switch {
	case text == "":
		return nil, errors.New("is empty: nothing would be sent")
	case len(text) > maxSend:
		return nil, fmt.Errorf("has %d bytes; at most %d", len(text), maxSend)
	case strings.ContainsFunc(text, func(r rune) bool { return r > '~' }):
		return nil, errors.New("must be ASCII")
	}
	var t template
	var literal strings.Builder
	end := func() {
		if literal.Len() > 0 {
			t = append(t, part{partLiteral, literal.String()})
			literal.Reset()
		}
	}
	for text != "" {
		switch {
		case strings.HasPrefix(text, "{{"), strings.HasPrefix(text, "}}"):
			literal.WriteByte(text[0])
			text = text[2:]
		case text[0] == '}':
			return nil, errors.New("has a } without its {; write }} for the character")
		case text[0] == '{':
			name, rest, closed := strings.Cut(text[1:], "}")
			if !closed {
				return nil, errors.New("has a { without its }; write {{ for the character")
			}
			end()
			p, err := placeholder(name)
			if err != nil {
				return nil, err
			}
			t, text = append(t, p), rest
		default:
			literal.WriteByte(text[0])
			text = text[1:]
		}
	}
	end()
	return t, nil
}

func placeholder(name string) (part, error) {
	switch name {
	case "password":
		return part{kind: partPassword}, nil
	case "password_length":
		return part{kind: partPasswordLength}, nil
	}
	layout, isTime := strings.CutPrefix(name, "time:")
	if !isTime {
		return part{}, fmt.Errorf("{%s} is not known; there are {password}, {password_length} and {time:LAYOUT}", name)
	}
	// A layout of another language comes out as it went in.
	sample := time.Date(2031, 12, 29, 23, 58, 47, 0, time.UTC)
	if sample.Format(layout) == layout {
		return part{}, fmt.Errorf("{time:%s} holds no part of a time: write how 2 January 2006, 15:04:05 would look, such as {time:150405}", layout)
	}
	return part{partTime, layout}, nil
}

const maxPassword = 64 // bytes

// checkPassword refuses a password that would be more than a password in a
// command: one with a character that the commands use to set their parts apart.
// Its errors never hold the password.
func checkPassword(password string, templates []template) error {
	if err := plainPassword(password); err != nil {
		return err
	}
	for _, t := range templates {
		for _, p := range t {
			if p.kind != partLiteral {
				continue
			}
			for _, c := range []byte(p.text) {
				if !isWord(c) && strings.IndexByte(password, c) >= 0 {
					return errors.New("holds a character that the recorder's commands are built with")
				}
			}
		}
	}
	return nil
}

// plainPassword is what every password must be: it can be typed, and it is no
// template.
func plainPassword(password string) error {
	switch {
	case len(password) > maxPassword:
		return fmt.Errorf("is longer than %d bytes", maxPassword)
	case strings.ContainsFunc(password, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("holds a space, a control character or one outside ASCII")
	case strings.ContainsAny(password, "{}"):
		return errors.New("holds { or }, which have a meaning in commands")
	}
	return nil
}

func isWord(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
