package ledger

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/mod/sumdb/note"
)

// Keys are the public keys that have signed a log, in the order in which they
// followed each other; the last one signs now. Each but the first was brought in by
// a line of the log (EventRotated), which is the last one that the key before it may
// sign for: a checkpoint of a larger size by that key is refused, whoever holds it.
//
// Where the lines end a key, they could have been written by its thief. So a log
// counts for several keys only if a checkpoint by the last of them covers the lines
// that brought it in.
type Keys []ed25519.PublicKey

// EventRotated is the event of a line with which a key hands the log over to
// another one. Both stand in its Detail, as VerifierKey gives them.
const EventRotated = "key.rotated"

const (
	detailOldKey = "old_verifier_key"
	detailNewKey = "new_verifier_key"
)

var (
	// ErrHandedOver says that a log goes on with another key than the one it was
	// opened with.
	ErrHandedOver = errors.New("the ledger was handed over to another key")
	// ErrNotHandedOver says that no line hands a log over to the key that it was
	// opened with.
	ErrNotHandedOver = errors.New("no line hands the ledger over to this key")
)

// Rotated makes of an entry the line with which the old key hands the log over to
// the next one. It is to be appended with the old key; whoever opens the log with
// the next key then goes on.
func Rotated(e Entry, origin string, old, next ed25519.PublicKey) (Entry, error) {
	keys, err := newSuccession(origin, Keys{old, next})
	if err != nil {
		return Entry{}, err
	}
	detail := map[string]string{detailOldKey: keys.names[0], detailNewKey: keys.names[1]}
	maps.Copy(detail, e.Detail)
	e.Event, e.Detail = EventRotated, detail
	return e, nil
}

// handOver is one line of EventRotated.
type handOver struct {
	size      int64 // of the log that ends with the line, the last that old may sign
	old, next string
}

// handOverOf reads a line that hands over. In canonical form every such line holds
// the bytes that are looked for first; most others do not.
func handOverOf(line []byte, size int64) (h handOver, is bool) {
	if !bytes.Contains(line, []byte(`"event":"`+EventRotated+`"`)) {
		return h, false
	}
	e, err := ParseLine(line)
	if err != nil || e.Event != EventRotated {
		return h, false
	}
	return handOver{size, e.Detail[detailOldKey], e.Detail[detailNewKey]}, true
}

// succession is Keys with the name of the log.
type succession struct {
	origin string
	keys   Keys
	names  []string // of keys, as VerifierKey gives them
}

func newSuccession(origin string, keys Keys) (*succession, error) {
	s := &succession{origin: origin, keys: keys}
	if len(keys) == 0 {
		return nil, fmt.Errorf("ledger %q: no key is given", origin)
	}
	seen := map[string]bool{}
	for _, key := range keys {
		name, err := VerifierKey(origin, key)
		if err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, fmt.Errorf("ledger %q: the key %s stands twice among its keys", origin, name)
		}
		seen[name] = true
		s.names = append(s.names, name)
	}
	return s, nil
}

// last is the place of the key that signs now.
func (s *succession) last() int { return len(s.keys) - 1 }

// parse reads a checkpoint that one of the keys has signed, and tells which; of
// several, the latest. Whether it may, permits tells.
func (s *succession) parse(signed []byte) (c Checkpoint, by int, err error) {
	var errs error
	for by = s.last(); by >= 0; by-- {
		if c, err = ParseCheckpoint(signed, s.keys[by], s.origin); err == nil {
			return c, by, nil
		}
		errs = errors.Join(errs, err)
	}
	return Checkpoint{}, by, errs
}

// nobody has signed what this program itself has computed.
const nobody = -1

// permits tells why a key may not sign for a log of these lines.
func (s *succession) permits(by int, so *tree) error {
	if by != nobody && by < len(so.handed) && so.handed[by].size < so.size {
		return fmt.Errorf("the key %s has handed over at line %d and may not sign for %d lines: it may be in other hands", s.names[by], so.handed[by].size-1, so.size)
	}
	return nil
}

// fits tells where the lines that hand over, of these sizes at most, are not those
// from each key to the next.
func (s *succession) fits(so *tree, size int64) error {
	n := 0
	for _, h := range so.handed {
		if h.size > size {
			break
		}
		if n > s.last() || h.old != s.names[n] {
			return fmt.Errorf("%w: line %d hands over from the key %s, which does not sign there", ErrBroken, h.size-1, h.old)
		}
		if n == s.last() {
			return fmt.Errorf("%w: line %d hands it over to %s", ErrHandedOver, h.size-1, h.next)
		}
		if h.next != s.names[n+1] {
			return fmt.Errorf("%w: line %d hands over to the key %s, where %s is known to follow", ErrBroken, h.size-1, h.next, s.names[n+1])
		}
		n++
	}
	if n < s.last() {
		return fmt.Errorf("%w: %s", ErrNotHandedOver, s.names[n+1])
	}
	return nil
}

// mayGrow tells why the last key may not sign for these lines, which are new from
// the given size on.
func (s *succession) mayGrow(so *tree, from int64) error {
	for n, h := range so.handed {
		if h.size <= from {
			continue
		}
		next, err := note.NewVerifier(h.next)
		if err != nil || next.Name() != s.origin || n != s.last() || h.old != s.names[n] || h.next == h.old {
			return fmt.Errorf("an entry %s does not hand over from %s to another key of %s: make it with Rotated", EventRotated, s.names[s.last()], s.origin)
		}
	}
	if err := s.permits(s.last(), so); err != nil {
		return fmt.Errorf("%w: %w", ErrHandedOver, err)
	}
	return nil
}

// LastSizes gives, for each key that Open was given as a former one, the largest
// size of the log that it may sign.
func (l *Ledger) LastSizes(ctx context.Context) ([]int64, error) {
	now, err := l.snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", string(l.dir), err)
	}
	var sizes []int64
	for _, h := range now.tree.handed {
		sizes = append(sizes, h.size)
	}
	return sizes, nil
}
