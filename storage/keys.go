package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxKeyBytes is the limit of S3 for a whole key.
	maxKeyBytes = 1024
	// maxNameBytes keeps one component below the 255 bytes of common file
	// systems, with room for the suffixes that servers add to it.
	maxNameBytes = 200
)

// Namer gives every path of one session its key. It makes names safe for any
// store and any ordinary tool, and sees to it that no two paths share a key and
// that no key is a folder of another, which a store on a file system refuses.
// The manifest keeps the exact bytes of each path, so a key never has to be
// decoded.
//
// The zero value is not ready for use; see NewNamer. It is not safe for
// concurrent use.
type Namer struct {
	prefix  string
	keys    map[string]bool // every key given out
	folders map[string]bool // every proper ancestor of a key given out
}

// NewNamer names paths below prefix, which ends with a slash. The taken keys are
// those that the session used before it was interrupted.
func NewNamer(prefix string, taken []string) *Namer {
	n := &Namer{prefix: prefix, keys: map[string]bool{}, folders: map[string]bool{}}
	for _, k := range taken {
		n.take(k)
	}
	return n
}

// Key gives the key for a path in the exact bytes of the card. Asked twice for
// one path it gives two keys: the second is for a file that changed after its
// first form was stored.
func (n *Namer) Key(path string) string {
	names := strings.Split(path, "/")
	for i, name := range names {
		names[i] = safeName(name)
	}
	key := n.prefix + strings.Join(names, "/")
	if len(key) > maxKeyBytes-len("~9999") {
		key = n.prefix + "~long/" + shortened(path, names[len(names)-1])
	}
	for try, base := 2, key; ; try++ {
		clash := n.clash(key)
		if clash < 0 {
			n.take(key)
			return key
		}
		// The component that clashes is renamed, the leaf or a folder above it:
		// a file's key can become a folder when a card comes back changed.
		clash = min(clash, len(base))
		key = fmt.Sprintf("%s~%d%s", base[:clash], try, base[clash:])
	}
}

// clash gives the length of the shortest head of key that is in the way: an
// ancestor that is a key itself, or the whole key where it is taken or a folder
// of another. It is negative where the key is free.
func (n *Namer) clash(key string) int {
	for _, folder := range ancestors(key) {
		if n.keys[folder] {
			return len(folder)
		}
	}
	if n.keys[key] || n.folders[key] {
		return len(key)
	}
	return -1
}

func (n *Namer) take(key string) {
	n.keys[key] = true
	for _, folder := range ancestors(key) {
		n.folders[folder] = true
	}
}

func ancestors(key string) []string {
	var all []string
	for i, r := range key {
		if r == '/' {
			all = append(all, key[:i])
		}
	}
	return all
}

// safeName percent-encodes what a store, an XML listing, a shell tool or a
// Windows disc cannot hold, and leaves everything else, Chinese included, as it
// is. It is injective up to maxNameBytes; longer names end in a digest.
func safeName(name string) string {
	if name == "" {
		return "~empty" // no card has one, but a key must not hold "//"
	}
	var b strings.Builder
	valid := utf8.ValidString(name) // else GBK or a cut name: no byte of it is taken for a character
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRuneInString(name[i:])
		raw := name[i : i+size]
		i += size
		atEdge := i == size || i == len(name)
		if !plain(r) || (!valid && r >= utf8.RuneSelf) || (atEdge && (r == ' ' || (r == '.' && (i == len(name) || name == "..")))) {
			for _, c := range []byte(raw) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
			continue
		}
		b.WriteString(raw)
	}
	safe := b.String()
	switch {
	case safe == ".sgwtmp": // versitygw's own folder, which its listings leave out
		safe = "%2Esgwtmp"
	case strings.HasSuffix(safe, "__XLDIR__"): // MinIO's directory markers
		safe = strings.TrimSuffix(safe, "__XLDIR__") + "%5F_XLDIR__"
	}
	if len(safe) > maxNameBytes {
		return shortened(name, safe)
	}
	return safe
}

func plain(r rune) bool {
	return (unicode.IsPrint(r) && !strings.ContainsRune(`%<>:"\|?*`, r)) && r != utf8.RuneError
}

// shortened keeps the start of a readable name, its suffix, and enough of a
// digest of the exact bytes that no two long names meet.
func shortened(exact, safe string) string {
	sum := sha256.Sum256([]byte(exact))
	ext := ""
	if i := strings.LastIndexByte(safe, '.'); i > 0 && len(safe)-i <= 10 {
		ext = safe[i:]
	}
	head := safe[:min(len(safe), 100)]
	for !utf8.ValidString(head) { // don't cut a character in two
		head = head[:len(head)-1]
	}
	return head + "~" + hex.EncodeToString(sum[:16]) + ext
}
