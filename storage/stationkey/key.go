// Package stationkey is the Ed25519 key of a station, and the list of the keys
// that are trusted. The key signs what closes a session (the manifest) and what
// the ledger says of itself (its checkpoints); the ring says later whether a
// signature is one of that station, at that time, for that purpose. Everything
// is in the forms of OpenSSH, so that a court needs only ssh-keygen:
//
//	ssh-keygen -Y verify -f allowed_signers -I NMQ-01 -n ingestd-manifest \
//	        -s manifest.json.sig < manifest.json
//
// The package promises that a private key is never written over a file, never
// read from a file that others can read, and never shown by a format verb; that
// [Ring.Verify] believes nothing that ssh-keygen refuses; and that a new key
// comes into a ring only with the word of the old one ([Ring.Accept]) or by
// a person ([Ring.Add]).
//
// # One key, two uses
//
// [Key.Sign] makes an SSHSIG, [Key.SignRaw] a plain Ed25519 signature for the
// signed notes of the ledger (C2SP signed-note). Neither can be passed off as
// the other, because the bytes that are signed always differ:
//
//   - Below an SSHSIG lies "SSHSIG", then the length of the namespace as four
//     bytes (PROTOCOL.sshsig, section 3). Namespaces are short, so the seventh
//     byte is always NUL.
//   - Below a note lies its text. Its first line is the name of the log, and it
//     has no control character but newline, so it never holds a NUL.
//     [Key.SignRaw] refuses what begins with "SSHSIG", so that this does not
//     depend on a caller.
//
// SSHSIG keeps its own uses apart by the namespace, which is signed too.
//
// # Why the envelope is written here
//
// The format is fifty lines for one kind of key. A general library takes text
// around the armor and more kinds of keys than a station has; here all that is
// not exactly the format is refused.
package stationkey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// maxNameBytes bounds principals and namespaces. It keeps the length of
// a namespace in its lowest byte; see the package comment.
const maxNameBytes = 255

// Key is the station's private key; see [Create] and [Load]. It is safe for
// concurrent use.
type Key struct {
	// private is a function for the sake of fmt: in an unexported field of
	// another struct fmt does not call Format and follows pointers, but of
	// a function it shows an address.
	private func() ed25519.PrivateKey
	comment string
}

func newKey(private ed25519.PrivateKey, comment string) *Key {
	return &Key{private: func() ed25519.PrivateKey { return private }, comment: comment}
}

// Public is the public half.
func (k *Key) Public() ed25519.PublicKey {
	return bytes.Clone(k.private()[ed25519.SeedSize:])
}

// Fingerprint names the key for people, "SHA256:…" as `ssh-keygen -lf` shows it.
func (k *Key) Fingerprint() string { return fingerprint(k.Public()) }

// AuthorizedKey is the public half as OpenSSH writes it, on one line without
// a newline: "ssh-ed25519 AAAA… comment".
func (k *Key) AuthorizedKey() string {
	return strings.TrimSuffix(authorizedKey(k.Public())+" "+k.comment, " ")
}

// Sign signs a message for one purpose and gives an armored SSHSIG (OpenSSH's
// PROTOCOL.sshsig, hash sha512), which `ssh-keygen -Y verify` and [Ring.Verify]
// take. The namespace is the purpose, for example "ingestd-manifest"; it must be
// one that a ring can name.
func (k *Key) Sign(namespace string, message []byte) ([]byte, error) {
	if err := checkName(namespace); err != nil {
		return nil, fmt.Errorf("sign with station key %s: namespace %w", k.Fingerprint(), err)
	}
	return armor(envelope{
		key: k.Public(), namespace: namespace, hash: hashSHA512,
		signature: ed25519.Sign(k.private(), signedData(namespace, hashSHA512, message)),
	}), nil
}

// SignRaw gives the plain Ed25519 signature (RFC 8032, 64 bytes) of a message as
// it is. It is for the text of signed notes only. A message that begins with
// "SSHSIG" could be the inside of an SSHSIG: signing it would forge one, so that
// is a panic; no note begins so, because its first line names the log.
func (k *Key) SignRaw(message []byte) []byte {
	if bytes.HasPrefix(message, []byte(preamble)) {
		panic("stationkey: refused to sign as a note what may be the inside of an SSHSIG")
	}
	return ed25519.Sign(k.private(), message)
}

// Format shows the fingerprint under every verb, so that no log and no dump ever
// shows the private half.
func (k Key) Format(to fmt.State, _ rune) {
	name := "none"
	if k.private != nil {
		name = k.Fingerprint()
	}
	_, _ = io.WriteString(to, "station key "+name) // fmt.State has no one to tell
}

func fingerprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(marshalPublic(key))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// publicWire is the public key as RFC 8709, section 4 has it.
type publicWire struct {
	Algorithm string
	Key       []byte
}

func marshalPublic(key ed25519.PublicKey) []byte {
	return ssh.Marshal(publicWire{Algorithm: ssh.KeyAlgoED25519, Key: key})
}

func parsePublic(wire []byte) (ed25519.PublicKey, error) {
	// The kind comes first: a key of another kind has other fields behind it,
	// and its owner should read that, not that it is malformed.
	var kind struct {
		Algorithm string
		Rest      []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(wire, &kind); err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if kind.Algorithm != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("public key: it is of kind %q, a station's is %s", kind.Algorithm, ssh.KeyAlgoED25519)
	}
	var public publicWire
	if err := ssh.Unmarshal(wire, &public); err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if len(public.Key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("public key: it has %d bytes, an Ed25519 key has %d", len(public.Key), ed25519.PublicKeySize)
	}
	return public.Key, nil
}

// authorizedKey is "ssh-ed25519 AAAA…" without a comment.
func authorizedKey(key ed25519.PublicKey) string {
	return ssh.KeyAlgoED25519 + " " + base64.StdEncoding.EncodeToString(marshalPublic(key))
}

// parseAuthorizedKey reads what authorizedKey writes, and nothing else.
func parseAuthorizedKey(text string) (ed25519.PublicKey, error) {
	encoded, ok := strings.CutPrefix(text, ssh.KeyAlgoED25519+" ")
	if !ok {
		return nil, fmt.Errorf("public key: it does not begin with %q", ssh.KeyAlgoED25519)
	}
	if strings.ContainsAny(encoded, "\r\n") { // which the decoder would pass over
		return nil, errors.New("public key: it is broken into lines")
	}
	wire, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return parsePublic(wire)
}

// checkName lets pass what allowed_signers takes literally, as a principal and
// in a list of namespaces: patterns would trust more than they show.
func checkName(name string) error {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`,"'*?!#\`, r) }
	if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("%.40q: it must be 1 to %d printable ASCII characters without space and , \" ' * ? ! # \\", name, maxNameBytes)
	}
	return nil
}

// checkComment keeps a comment on its line: behind a newline it would be read
// as a key of its own.
func checkComment(comment string) error {
	if !utf8.ValidString(comment) || strings.ContainsFunc(comment, unicode.IsControl) {
		return fmt.Errorf("comment %.40q: it has control characters or is not UTF-8", comment)
	}
	return nil
}
