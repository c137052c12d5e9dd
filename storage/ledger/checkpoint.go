package ledger

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Signer holds the station's key.
type Signer interface {
	// Name is the origin of the log, for example "ingestd/STATION-1"; it has no
	// space and no plus (C2SP signed-note) and no other log ever has it.
	Name() string
	PublicKey() ed25519.PublicKey
	// SignRaw gives the 64 bytes of a plain Ed25519 signature (RFC 8032).
	SignRaw(message []byte) []byte
}

// Checkpoint says what the first Size lines of the log are.
type Checkpoint struct {
	Size int64
	Root tlog.Hash // RFC 6962, section 2.1
}

// text is the body of a checkpoint as C2SP tlog-checkpoint has it.
func (c Checkpoint) text(origin string) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, c.Size, c.Root)
}

// VerifierKey is the public key in the form that other tools for signed notes
// take: ORIGIN+HASH+BASE64.
func VerifierKey(origin string, pub ed25519.PublicKey) (string, error) {
	key, err := note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		return "", fmt.Errorf("verifier key of %q: %w", origin, err)
	}
	if _, err := note.NewVerifier(key); err != nil {
		return "", fmt.Errorf("verifier key of %q: %w; a name has no space and no plus", origin, err)
	}
	return key, nil
}

// ParseCheckpoint reads a signed checkpoint and checks that it is of this origin
// and signed with this key. Further signatures, of witnesses, and extension lines
// are left alone, as C2SP tlog-checkpoint wants it.
func ParseCheckpoint(signed []byte, pub ed25519.PublicKey, origin string) (Checkpoint, error) {
	verifier, err := verifierOf(origin, pub)
	if err != nil {
		return Checkpoint{}, err
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	var unknown *note.UnverifiedNoteError
	if errors.As(err, &unknown) {
		return Checkpoint{}, fmt.Errorf("checkpoint is not signed with the key %s+%08x: %w", origin, verifier.KeyHash(), err)
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.Split(strings.TrimSuffix(n.Text, "\n"), "\n")
	if len(lines) < 3 || lines[0] != origin {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q is not one of %q", lines[0], origin)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q: size %q is no plain number", origin, lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q at %d: root %q is not 32 bytes in base64", origin, size, lines[2])
	}
	return Checkpoint{Size: size, Root: tlog.Hash(root)}, nil
}

// signCheckpoint signs and then reads what it has signed: a key that fails must
// not leave a log that no one can check.
func signCheckpoint(c Checkpoint, key Signer) ([]byte, error) {
	verifier, err := verifierOf(key.Name(), key.PublicKey())
	if err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: c.text(key.Name())}, noteSigner{key, verifier.KeyHash()})
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint of %q at %d: %w", key.Name(), c.Size, err)
	}
	if _, err := ParseCheckpoint(signed, key.PublicKey(), key.Name()); err != nil {
		return nil, fmt.Errorf("sign checkpoint of %q at %d: the signature does not hold, look at the station's key: %w", key.Name(), c.Size, err)
	}
	return signed, nil
}

func verifierOf(origin string, pub ed25519.PublicKey) (note.Verifier, error) {
	text, err := VerifierKey(origin, pub)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(text)
}

// noteSigner lets package note sign with a key that only signs bytes.
type noteSigner struct {
	Signer
	hash uint32
}

func (s noteSigner) KeyHash() uint32                     { return s.hash }
func (s noteSigner) Sign(message []byte) ([]byte, error) { return s.SignRaw(message), nil }
