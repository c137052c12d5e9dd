package device

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// maxIdentityFile bounds what is read of an identity file: real ones have a few
// hundred bytes, and a card may hold anything under that name.
const maxIdentityFile = 64 << 10

// ParseParamINI reads the identity file that many recorders keep in the root of
// their card, Param.ini with a section [ZFY] or [ZHY]: DevNo is the recorder's
// number, PolNo the officer's. The text is GBK or UTF-8. The factory default of
// zeros names nobody and is reported as unknown, never as a person. UserName is
// not read: ids are enough, and names belong on the card.
func ParseParamINI(r io.Reader) (serial, officer Fact) {
	raw, err := io.ReadAll(io.LimitReader(r, maxIdentityFile))
	if err != nil {
		return Fact{}, Fact{}
	}
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(raw) {
		if raw, err = simplifiedchinese.GBK.NewDecoder().Bytes(raw); err != nil {
			return Fact{}, Fact{}
		}
	}
	inSection := false
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, maxIdentityFile)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section := strings.ToUpper(strings.Trim(line, "[] \t"))
			inSection = section == "ZFY" || section == "ZHY"
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || !inSection {
			continue
		}
		value = strings.TrimSpace(value)
		if !saysSomething(value) {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "devno":
			serial = Fact{Value: value, Source: "Param.ini DevNo"}
		case "polno":
			officer = Fact{Value: value, Source: "Param.ini PolNo"}
		}
	}
	return serial, officer
}

// saysSomething is false for an empty value and for the unset default of zeros,
// and for values that no id has: control characters, endless ones.
func saysSomething(v string) bool {
	if strings.Trim(v, "0") == "" || len(v) > 64 {
		return false
	}
	return !strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r == 0x7f || r == utf8.RuneError })
}
