package stationkey

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// signersHead tells a person who finds the file what it is for.
const signersHead = "# Keys that are trusted, for: ssh-keygen -Y verify -f THIS_FILE -I STATION -n NAMESPACE -s SIGNATURE < FILE\n"

// signersTime is the form of times in allowed_signers, always with a Z behind.
// OpenSSH knows the Z since 9.1; an older one refuses the line.
const signersTime = "20060102150405"

// The options of allowed_signers that a ring knows.
const (
	optionNamespaces  = "namespaces"
	optionValidAfter  = "valid-after"
	optionValidBefore = "valid-before"
)

// Format gives the ring as an allowed_signers file. The same ring always gives
// the same bytes.
func (r *Ring) Format() []byte {
	var out bytes.Buffer
	out.WriteString(signersHead)
	for _, s := range r.signers {
		var options []string
		if len(s.Namespaces) != 0 {
			options = append(options, option(optionNamespaces, strings.Join(s.Namespaces, ",")))
		}
		if !s.ValidAfter.IsZero() {
			options = append(options, option(optionValidAfter, s.ValidAfter.Format(signersTime)+"Z"))
		}
		if !s.ValidBefore.IsZero() {
			options = append(options, option(optionValidBefore, s.ValidBefore.Format(signersTime)+"Z"))
		}
		fields := []string{s.Principal}
		if len(options) != 0 {
			fields = append(fields, strings.Join(options, ","))
		}
		fields = append(fields, authorizedKey(s.Key))
		if s.Comment != "" {
			fields = append(fields, s.Comment)
		}
		out.WriteString(strings.Join(fields, " ") + "\n")
	}
	return out.Bytes()
}

func option(name, value string) string { return name + `="` + value + `"` }

// ParseRing reads an allowed_signers file. It refuses what ssh-keygen would read
// otherwise than this program, or otherwise on another machine: principals that
// are patterns or lists, certificate authorities, keys of another kind, times
// without Z, which count in the time zone of whoever checks. Comment lines are
// not kept.
func ParseRing(text []byte) (*Ring, error) {
	r := &Ring{}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.Trim(line, " \t\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseSigner(line)
		if err == nil {
			err = r.Add(s)
		}
		if err != nil {
			return nil, fmt.Errorf("read allowed_signers, line %d: %w", i+1, err)
		}
	}
	return r, nil
}

func parseSigner(line string) (Signer, error) {
	var s Signer
	var err error
	s.Principal, line = field(line)
	if err := checkName(s.Principal); err != nil {
		return s, fmt.Errorf("principal %w; write one line for each station", err)
	}
	kind, rest := field(line)
	if kind != ssh.KeyAlgoED25519 {
		if rest, err = s.parseOptions(line); err != nil {
			return s, err
		}
		if kind, rest = field(rest); kind != ssh.KeyAlgoED25519 {
			return s, fmt.Errorf("the key is of kind %.40q, a station's is %s", kind, ssh.KeyAlgoED25519)
		}
	}
	encoded, comment := field(rest)
	s.Comment = comment
	s.Key, err = parseAuthorizedKey(kind + " " + encoded)
	return s, err
}

// field cuts the first field off a line that begins with one.
func field(line string) (first, rest string) {
	end := strings.IndexAny(line, " \t")
	if end < 0 {
		return line, ""
	}
	return line[:end], strings.TrimLeft(line[end:], " \t")
}

// parseOptions reads name="value",… up to the space behind it and gives the rest
// of the line. Values of these options hold no quotes, so a backslash needs no
// meaning: checkName and the times refuse it.
func (s *Signer) parseOptions(line string) (rest string, err error) {
	seen := map[string]bool{}
	for {
		at := strings.IndexAny(line, `= ,"`+"\t")
		if at < 0 || line[at] != '=' {
			word, _ := field(line)
			return "", fmt.Errorf("%.40q is neither a key of kind %s nor an option with a value", word, ssh.KeyAlgoED25519)
		}
		name := strings.ToLower(line[:at]) // they are case-insensitive
		value, quoted := strings.CutPrefix(line[at+1:], `"`)
		value, after, closed := strings.Cut(value, `"`)
		if !quoted || !closed {
			return "", fmt.Errorf("option %.40q: its value must stand in quotes", name)
		}
		if seen[name] {
			return "", fmt.Errorf("option %.40q stands there twice", name)
		}
		seen[name] = true
		if err := s.setOption(name, value); err != nil {
			return "", fmt.Errorf("option %.40q: %w", name, err)
		}
		if next, more := strings.CutPrefix(after, ","); more {
			line = next
			continue
		}
		if after == "" || !strings.ContainsRune(" \t", rune(after[0])) {
			return "", fmt.Errorf("option %.40q: neither a comma nor a space is behind it", name)
		}
		return strings.TrimLeft(after, " \t"), nil
	}
}

func (s *Signer) setOption(name, value string) (err error) {
	switch name {
	case optionNamespaces:
		s.Namespaces = strings.Split(value, ",") // an empty one is refused by Add
	case optionValidAfter:
		s.ValidAfter, err = parseTime(value)
	case optionValidBefore:
		s.ValidBefore, err = parseTime(value)
	default:
		err = errors.New("a ring does not know it")
	}
	return err
}

// parseTime reads YYYYMMDDZ, YYYYMMDDHHMMZ and YYYYMMDDHHMMSSZ.
func parseTime(value string) (time.Time, error) {
	digits, utc := strings.CutSuffix(value, "Z")
	if !utc {
		return time.Time{}, fmt.Errorf("%.40q has no Z at its end and would mean another time in another time zone: write it in UTC, with Z", value)
	}
	for _, layout := range []string{signersTime, "200601021504", "20060102"} {
		if len(digits) == len(layout) {
			return time.ParseInLocation(layout, digits, time.UTC)
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is not of the form YYYYMMDD[HHMM[SS]]Z", value)
}
