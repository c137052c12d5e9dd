package fetched

import (
	"encoding/hex"
	"errors"
	"strings"

	"github.com/bodyworn/ingestd/ingest/manifest"
)

// sums reads SHA256SUMS as GNU coreutils does: digests by name. What is listed twice or
// is no such line is told; of two lines the first counts.
func (c *checker) sums(s *session) (map[string]string, bool) {
	text, ok := s.docs[manifest.SumsFileName]
	if !ok {
		return nil, false
	}
	at := s.path(manifest.SumsFileName)
	if len(text) == 0 {
		c.finding(s, Damaged, at, "it is empty")
		return nil, false
	}
	lines := strings.Split(string(text), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	} else {
		c.finding(s, Damaged, at, "its last line is cut: no newline is at its end")
	}
	sums := map[string]string{}
	for i, line := range lines {
		name, sum, err := parseSum(line)
		if err != nil {
			c.finding(s, Damaged, at, "line %d: %v", i+1, err)
			continue
		}
		if first, twice := sums[name]; twice {
			c.finding(s, Duplicate, at, "line %d lists %s once more, with SHA-256 %s; first it was %s", i+1, name, sum, first)
			continue
		}
		sums[name] = sum
	}
	return sums, true
}

func parseSum(line string) (name, sum string, err error) {
	line, escaped := strings.CutPrefix(line, `\`)
	if len(line) < 67 || (line[64:66] != "  " && line[64:66] != " *") {
		return "", "", errors.New("it is no line of sha256sum")
	}
	sum, name = line[:64], line[66:]
	if raw, err := hex.DecodeString(sum); err != nil || hex.EncodeToString(raw) != sum {
		return "", "", errors.New("it does not begin with a SHA-256 in hex")
	}
	if escaped {
		name = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r").Replace(name)
	}
	return name, sum, nil
}
