package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// trust chooses the keys that a station's signatures are checked by: those that the
// caller gave, or else those that lie in the bucket, each as long as it was the
// station's by the hand-overs there.
func (w *building) trust(ctx context.Context, s *station) error {
	if w.Ring != nil && slices.ContainsFunc(w.Ring.Signers(), func(k stationkey.Signer) bool { return k.Principal == s.id }) {
		s.ring, s.keys = w.Ring, KeysGiven
		return nil
	}
	s.ring, s.keys = &stationkey.Ring{}, KeysBucket
	given, succeeds, handOvers, err := w.keysOf(ctx, s)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if succeeds[key] {
			continue // it is trusted from its hand-over on
		}
		if err := s.ring.Add(given[key]); err != nil {
			w.tell(Problem{Kind: BucketKeys, Station: s.id, Detail: fmt.Sprintf("a key can't be used: %v", err)})
		}
	}
	for progress := true; progress; { // each behind the one that brought in its old key
		progress = false
		for name, h := range handOvers {
			if s.ring.Accept(h) == nil {
				delete(handOvers, name)
				progress = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(handOvers)) {
		w.tell(Problem{Kind: BucketKeys, Station: s.id, Detail: fmt.Sprintf("%s hands over from no key that is trusted: %v", name, s.ring.Accept(handOvers[name]))})
	}
	w.tell(Problem{Kind: BucketKeys, Station: s.id, Detail: "its signatures are checked by keys from the bucket itself, which were not checked against anything kept elsewhere: compare their fingerprints with the ones on paper"})
	return nil
}

// keysOf reads what a station has published of its keys: the keys by their text, which of
// them a hand-over has brought in, and the hand-overs by name.
func (w *building) keysOf(ctx context.Context, s *station) (given map[string]stationkey.Signer, succeeds map[string]bool, handOvers map[string]stationkey.SignedHandOver, err error) {
	given, succeeds, handOvers = map[string]stationkey.Signer{}, map[string]bool{}, map[string]stationkey.SignedHandOver{}
	for _, name := range slices.Sorted(maps.Keys(s.published.versions)) {
		if !strings.HasPrefix(name, ingest.KeysPrefix(s.id)) {
			continue
		}
		body, err := s.published.Get(ctx, name)
		if err != nil {
			return nil, nil, nil, err
		}
		switch {
		case strings.HasSuffix(name, ".pub"):
			line := strings.TrimSpace(string(body))
			one, parseErr := stationkey.ParseRing([]byte(s.id + " " + line))
			if parseErr != nil || len(one.Signers()) != 1 {
				w.tell(Problem{Kind: BucketKeys, Station: s.id, Detail: fmt.Sprintf("%s is no key that could be used: %v", name, parseErr)})
				continue
			}
			given[keyOnly(line)] = one.Signers()[0]
		case strings.HasSuffix(name, ".handover.json"):
			h, parseErr := stationkey.DecodeHandOver(body)
			if parseErr != nil {
				w.tell(Problem{Kind: BucketKeys, Station: s.id, Detail: fmt.Sprintf("%s can't be used: %v", name, parseErr)})
				continue
			}
			handOvers[name], succeeds[keyOnly(h.HandOver.NewKey)] = h, true
		}
	}
	return given, succeeds, handOvers, nil
}

// keyOnly is a public key as OpenSSH writes it, without its comment.
func keyOnly(line string) string {
	fields := strings.Fields(line)
	return strings.Join(fields[:min(2, len(fields))], " ")
}
