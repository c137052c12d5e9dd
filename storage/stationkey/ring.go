package stationkey

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

var (
	// ErrSignature says that a signature is malformed, or does not fit the
	// message and the namespace: what was signed is not what is there.
	ErrSignature = errors.New("the signature does not fit")
	// ErrUntrusted says that a signature fits, but that its key is not in the
	// ring, or not for that time or that namespace.
	ErrUntrusted = errors.New("the signing key is not trusted")
)

// Signer is one trusted key: one line of allowed_signers.
type Signer struct {
	// Principal is the station's id, as given to `ssh-keygen -Y verify -I`.
	Principal string
	Key       ed25519.PublicKey
	// Namespaces are what the key may sign for; empty: anything.
	Namespaces []string
	// ValidAfter and ValidBefore are the first and the last second at which
	// the key is trusted; zero: without such an end. Fractions are cut off.
	ValidAfter, ValidBefore time.Time
	// Comment stands at the end of the line, for people.
	Comment string
}

// Fingerprint is that of [Key.Fingerprint].
func (s Signer) Fingerprint() string { return fingerprint(s.Key) }

// trusts tells why the key is not trusted, nil: it is.
func (s Signer) trusts(namespace string, at time.Time) error {
	// Whole seconds, both ends included, as ssh-keygen compares.
	switch {
	case len(s.Namespaces) != 0 && !slices.Contains(s.Namespaces, namespace):
		return fmt.Errorf("it may sign for %s only, not for %q", strings.Join(s.Namespaces, ", "), namespace)
	case !s.ValidAfter.IsZero() && at.Unix() < s.ValidAfter.Unix():
		return fmt.Errorf("it was trusted from %s, not yet at %s", s.ValidAfter.Format(time.RFC3339), at.Format(time.RFC3339))
	case !s.ValidBefore.IsZero() && at.Unix() > s.ValidBefore.Unix():
		return fmt.Errorf("it was trusted until %s, no more at %s", s.ValidBefore.Format(time.RFC3339), at.Format(time.RFC3339))
	}
	return nil
}

// Ring is the list of the keys that are trusted; as a file, allowed_signers of
// ssh-keygen(1). The zero Ring trusts nobody. A ring is safe for concurrent use
// while it is only read; it must not be copied.
type Ring struct {
	signers []Signer // each key once, each as Add leaves it
}

// Add trusts one more key. Each key stands in a ring once: with two lines it
// would be open to whom it belongs and when it ends. It is refused also where
// a field can't be written on a line of allowed_signers.
func (r *Ring) Add(s Signer) error {
	if err := checkName(s.Principal); err != nil {
		return fmt.Errorf("add key to ring: principal %w", err)
	}
	if len(s.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("add key of %s to ring: the key has %d bytes, an Ed25519 key has %d", s.Principal, len(s.Key), ed25519.PublicKeySize)
	}
	for _, namespace := range s.Namespaces {
		if err := checkName(namespace); err != nil {
			return fmt.Errorf("add key of %s to ring: namespace %w", s.Principal, err)
		}
	}
	if err := checkComment(s.Comment); err != nil {
		return fmt.Errorf("add key of %s to ring: %w", s.Principal, err)
	}
	for _, end := range []*time.Time{&s.ValidAfter, &s.ValidBefore} {
		if end.IsZero() {
			continue
		}
		*end = end.UTC().Truncate(time.Second)
		if end.Unix() <= 0 || end.Year() > 9999 { // 0 means "no end" to ssh-keygen
			return fmt.Errorf("add key of %s to ring: %s can't be written in allowed_signers", s.Principal, end.Format(time.RFC3339))
		}
	}
	if !s.ValidAfter.IsZero() && !s.ValidBefore.IsZero() && !s.ValidBefore.After(s.ValidAfter) {
		return fmt.Errorf("add key of %s to ring: it would end, %s, no later than it begins, %s",
			s.Principal, s.ValidBefore.Format(time.RFC3339), s.ValidAfter.Format(time.RFC3339))
	}
	if i := r.index(s.Key); i >= 0 {
		return fmt.Errorf("add key of %s to ring: key %s is there already, for %s", s.Principal, s.Fingerprint(), r.signers[i].Principal)
	}
	s.Comment = strings.TrimSpace(s.Comment)
	r.signers = append(r.signers, s.clone())
	return nil
}

// Signers are the keys of the ring, in the order of its file.
func (r *Ring) Signers() []Signer {
	all := make([]Signer, len(r.signers))
	for i, s := range r.signers {
		all[i] = s.clone()
	}
	return all
}

func (s Signer) clone() Signer {
	s.Key, s.Namespaces = bytes.Clone(s.Key), slices.Clone(s.Namespaces)
	return s
}

func (r *Ring) index(key ed25519.PublicKey) int {
	return slices.IndexFunc(r.signers, func(s Signer) bool { return s.Key.Equal(key) })
}

// Verify checks an armored SSHSIG of a message and gives the key that made it.
// The error wraps [ErrSignature] or [ErrUntrusted]. A signature that was made for
// another namespace is ErrSignature: that is part of what was signed.
//
// The caller must compare the signer's Principal with the station that the
// message names. The time is when the signature was made; it must come from what
// the holder of the key can't set, such as the store, the ledger or a time
// stamp: whoever has stolen a key that has ended will claim an earlier time. The
// zero time is refused.
func (r *Ring) Verify(namespace string, message, armored []byte, at time.Time) (Signer, error) {
	key, err := signedBy(namespace, message, armored)
	if err != nil {
		return Signer{}, err
	}
	if at.IsZero() {
		return Signer{}, fmt.Errorf("%w: when the signature was made is not known", ErrUntrusted)
	}
	i := r.index(key)
	if i < 0 {
		return Signer{}, fmt.Errorf("%w: %s is not in the ring", ErrUntrusted, fingerprint(key))
	}
	if err := r.signers[i].trusts(namespace, at); err != nil {
		return Signer{}, fmt.Errorf("%w: %s of %s: %w", ErrUntrusted, fingerprint(key), r.signers[i].Principal, err)
	}
	return r.signers[i].clone(), nil
}
