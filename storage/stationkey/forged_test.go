package stationkey_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"errors"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/bodyworn/ingestd/storage/stationkey"
)

// forgery is an SSHSIG in which each part can be wrong, though the signature is
// that of a trusted key over what the parts say.
type forgery struct {
	version                   uint32
	keyKind, signatureKind    string
	namespace, reserved, hash string
	keyBytes, signatureBytes  int
	keyRest, signatureRest    string
}

func (f forgery) armored(private ed25519.PrivateKey, message []byte) []byte {
	digest := sha512.Sum512(message)
	signature := ed25519.Sign(private, append([]byte("SSHSIG"), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Digest                    []byte
	}{f.namespace, f.reserved, f.hash, digest[:]})...))
	type part struct {
		Kind  string
		Bytes []byte
	}
	resized := func(b []byte, size int) []byte { return append(bytes.Clone(b), 0)[:size] }
	public := ssh.Marshal(part{f.keyKind, resized(private[ed25519.SeedSize:], f.keyBytes)})
	return armorOf(append([]byte("SSHSIG"), ssh.Marshal(struct {
		Version                   uint32
		Public                    []byte
		Namespace, Reserved, Hash string
		Signature                 []byte
	}{
		f.version, append(public, f.keyRest...), f.namespace, f.reserved, f.hash,
		append(ssh.Marshal(part{f.signatureKind, resized(signature, f.signatureBytes)}), f.signatureRest...),
	})...))
}

// Even the holder of a trusted key can't make what is not of the format: one
// program would read it so, another otherwise.
func TestForgedEnvelopesAreRefused(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var r stationkey.Ring
	if err := r.Add(stationkey.Signer{Principal: station, Key: public}); err != nil {
		t.Fatal(err)
	}
	sound := forgery{
		version: 1, keyKind: "ssh-ed25519", signatureKind: "ssh-ed25519", namespace: purpose, hash: "sha512",
		keyBytes: ed25519.PublicKeySize, signatureBytes: ed25519.SignatureSize,
	}
	if _, err := r.Verify(purpose, message, sound.armored(private, message), noon); err != nil {
		t.Fatalf("nothing is wrong with it: %v", err)
	}
	for what, spoil := range map[string]func(*forgery){
		"version 0":                      func(f *forgery) { f.version = 0 },
		"version 2":                      func(f *forgery) { f.version = 2 },
		"another kind of key":            func(f *forgery) { f.keyKind = "ssh-ed448" },
		"another kind of signature":      func(f *forgery) { f.signatureKind = "ssh-ed448" },
		"a signed reserved field":        func(f *forgery) { f.reserved = "x" },
		"an unknown hash":                func(f *forgery) { f.hash = "md5" },
		"no hash":                        func(f *forgery) { f.hash = "" },
		"a short key":                    func(f *forgery) { f.keyBytes-- },
		"a long key":                     func(f *forgery) { f.keyBytes++ },
		"no key":                         func(f *forgery) { f.keyBytes = 0 },
		"a short signature":              func(f *forgery) { f.signatureBytes-- },
		"a long signature":               func(f *forgery) { f.signatureBytes++ },
		"something behind its key":       func(f *forgery) { f.keyRest = "x" },
		"something behind its signature": func(f *forgery) { f.signatureRest = "x" },
	} {
		f := sound
		spoil(&f)
		if _, err := r.Verify(purpose, message, f.armored(private, message), noon); !errors.Is(err, stationkey.ErrSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f := sound
	f.namespace = "" // not even where that is asked for
	if _, err := r.Verify("", message, f.armored(private, message), noon); !errors.Is(err, stationkey.ErrSignature) {
		t.Errorf("no namespace: %v", err)
	}
}
