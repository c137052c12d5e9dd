package usb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func exists(dir string) bool {
	_, err := os.Stat(dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// attribute reads one file of sysfs. Both ends of white space go: the kernel pads
// numbers and adds a line end, and makers pad their strings.
func attribute(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

func number(dir, name string, base, bits int) (uint64, error) {
	s, err := attribute(dir, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, base, bits)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return n, nil
}

// harmless writes what a terminal, a log or a page might obey, control characters
// and the marks that turn the direction of text, as escapes. So two serial
// numbers that differ in them stay different.
func harmless(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !unicode.IsGraphic(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// isPort tells the name of a device, 2-1.3, from that of a root hub, usb2, and of
// an interface, 2-1.3:1.0.
func isPort(name string) bool {
	bus, ports, ok := strings.Cut(name, "-")
	if !ok || !isNumber(bus) {
		return false
	}
	for port := range strings.SplitSeq(ports, ".") {
		if !isNumber(port) {
			return false
		}
	}
	return true
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// comparePorts orders 1-2 before 1-10.
func comparePorts(a, b string) int {
	digits := func(s string) []int {
		var numbers []int
		for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '-' || r == '.' || r == ':' }) {
			n, _ := strconv.Atoi(part) // too long a number is ordered as the largest
			numbers = append(numbers, n)
		}
		return numbers
	}
	return slices.Compare(digits(a), digits(b))
}
