package stationkey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// The words of OpenSSH's PROTOCOL.sshsig.
const (
	preamble      = "SSHSIG"
	sshsigVersion = 1
	armorHeader   = "-----BEGIN SSH SIGNATURE-----"
	armorFooter   = "-----END SSH SIGNATURE-----"
	hashSHA512    = "sha512"
	hashSHA256    = "sha256" // `ssh-keygen -O hashalg=sha256`; we never write it
)

// armorColumns is how ssh-keygen breaks its lines; 76 is the most that
// PROTOCOL.sshsig allows.
const armorColumns = 70

// maxArmorBytes is far above any signature of an Ed25519 key.
const maxArmorBytes = 16 << 10

// envelope is what an SSHSIG says.
type envelope struct {
	key       ed25519.PublicKey
	namespace string
	hash      string // hashSHA512, hashSHA256
	signature []byte // 64 bytes
}

// blobWire is the blob behind the preamble (PROTOCOL.sshsig, section 2).
type blobWire struct {
	Version                   uint32
	PublicKey                 []byte
	Namespace, Reserved, Hash string
	Signature                 []byte
}

type signatureWire struct {
	Algorithm string
	Signature []byte
}

// signedData is what lies below the signature (PROTOCOL.sshsig, section 3). The
// hash is one of the two that this file names.
func signedData(namespace, hash string, message []byte) []byte {
	var digest []byte
	if hash == hashSHA256 {
		sum := sha256.Sum256(message)
		digest = sum[:]
	} else {
		sum := sha512.Sum512(message)
		digest = sum[:]
	}
	return append([]byte(preamble), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Digest                    []byte
	}{namespace, "", hash, digest})...)
}

func armor(e envelope) []byte {
	blob := append([]byte(preamble), ssh.Marshal(blobWire{
		Version: sshsigVersion, PublicKey: marshalPublic(e.key), Namespace: e.namespace, Hash: e.hash,
		Signature: ssh.Marshal(signatureWire{Algorithm: ssh.KeyAlgoED25519, Signature: e.signature}),
	})...)
	text := base64.StdEncoding.EncodeToString(blob)
	var out bytes.Buffer
	out.WriteString(armorHeader + "\n")
	for len(text) > 0 {
		end := min(armorColumns, len(text))
		out.WriteString(text[:end] + "\n")
		text = text[end:]
	}
	out.WriteString(armorFooter + "\n")
	return out.Bytes()
}

// dearmor takes the armor and nothing around it. Only where the lines break is
// free. Lines that end with a carriage return are refused, as ssh-keygen does.
func dearmor(text []byte) (envelope, error) {
	var none envelope
	if len(text) > maxArmorBytes {
		return none, fmt.Errorf("%d bytes are too many for a signature", len(text))
	}
	if bytes.ContainsRune(text, '\r') {
		return none, errors.New("a program has changed the ends of its lines (CR LF): take the bytes as they were stored")
	}
	body, ok := bytes.CutPrefix(text, []byte(armorHeader+"\n"))
	if !ok {
		return none, fmt.Errorf("it does not begin with the line %q", armorHeader)
	}
	body, rest, ok := bytes.Cut(body, []byte("\n"+armorFooter))
	if !ok {
		return none, fmt.Errorf("it is cut: there is no line %q", armorFooter)
	}
	if len(bytes.TrimRight(rest, "\n")) != 0 {
		return none, errors.New("there is more behind its end")
	}
	// Strict: the bits that fill up the last character must be zero, or one
	// signature would have several armors. Ends of lines are passed over.
	blob, err := base64.StdEncoding.Strict().AppendDecode(nil, body)
	if err != nil {
		return none, fmt.Errorf("its base64: %w", err)
	}
	return parseBlob(blob)
}

func parseBlob(blob []byte) (envelope, error) {
	var none envelope
	fields, ok := bytes.CutPrefix(blob, []byte(preamble))
	if !ok {
		return none, fmt.Errorf("its inside does not begin with %q", preamble)
	}
	var wire blobWire
	if err := ssh.Unmarshal(fields, &wire); err != nil { // refuses what is left over, too
		return none, fmt.Errorf("its inside: %w", err)
	}
	var signature signatureWire
	if err := ssh.Unmarshal(wire.Signature, &signature); err != nil {
		return none, fmt.Errorf("its signature: %w", err)
	}
	key, err := parsePublic(wire.PublicKey)
	switch {
	case err != nil:
		return none, err
	case wire.Version != sshsigVersion:
		return none, fmt.Errorf("it has version %d, this program knows %d", wire.Version, sshsigVersion)
	case wire.Namespace == "":
		return none, errors.New("its namespace is empty")
	case wire.Reserved != "":
		// The format lets one pass over it. It is not signed, so anyone could
		// put something there that looks signed.
		return none, errors.New("its reserved field is not empty")
	case wire.Hash != hashSHA512 && wire.Hash != hashSHA256:
		return none, fmt.Errorf("its hash is %q, the format knows %s and %s", wire.Hash, hashSHA512, hashSHA256)
	case signature.Algorithm != ssh.KeyAlgoED25519:
		return none, fmt.Errorf("its signature is of kind %q, its key of kind %s", signature.Algorithm, ssh.KeyAlgoED25519)
	case len(signature.Signature) != ed25519.SignatureSize:
		return none, fmt.Errorf("its signature has %d bytes, one of Ed25519 has %d", len(signature.Signature), ed25519.SignatureSize)
	}
	return envelope{key: key, namespace: wire.Namespace, hash: wire.Hash, signature: signature.Signature}, nil
}

// signedBy gives the key that signed the message in that namespace, trusted or
// not. The error wraps [ErrSignature].
func signedBy(namespace string, message, armored []byte) (ed25519.PublicKey, error) {
	e, err := dearmor(armored)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if e.namespace != namespace {
		return nil, fmt.Errorf("%w: it was made for namespace %.40q, not for %q", ErrSignature, e.namespace, namespace)
	}
	if !ed25519.Verify(e.key, signedData(e.namespace, e.hash, message), e.signature) {
		return nil, fmt.Errorf("%w: it names key %s", ErrSignature, fingerprint(e.key))
	}
	return e.key, nil
}
