package stationkey_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/stationkey"
)

const purpose = "ingestd-manifest"

var (
	message = []byte("{\"schema\": \"ingestd.manifest/1\"}\n")
	noon    = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
)

// ring trusts the key of the station for everything at all times.
func ring(t testing.TB, keys ...*stationkey.Key) *stationkey.Ring {
	t.Helper()
	var r stationkey.Ring
	for _, key := range keys {
		if err := r.Add(stationkey.Signer{Principal: station, Key: key.Public()}); err != nil {
			t.Fatal(err)
		}
	}
	return &r
}

func sign(t testing.TB, key *stationkey.Key, namespace string, message []byte) []byte {
	t.Helper()
	armored, err := key.Sign(namespace, message)
	if err != nil {
		t.Fatal(err)
	}
	return armored
}

// privateFields are where the parts of our key files stand, from the end of the
// decoded file: seed, public half, length and text of the comment, padding.
func privateFields(t testing.TB, file []byte) (decoded, seed, public []byte) {
	t.Helper()
	block, _ := pem.Decode(file)
	if block == nil {
		t.Fatal("no key file")
	}
	// The last "\0\0\0\x40" is the length of the 64 bytes of the private half.
	at := bytes.LastIndex(block.Bytes, []byte{0, 0, 0, ed25519.PrivateKeySize}) + 4
	return block.Bytes, block.Bytes[at : at+ed25519.SeedSize], block.Bytes[at+ed25519.SeedSize : at+ed25519.PrivateKeySize]
}

func seedOf(t testing.TB, file []byte) []byte {
	_, seed, _ := privateFields(t, file)
	return seed
}

// otherHalf puts another public half behind the seed, everywhere in the file.
func otherHalf(t testing.TB, file []byte) []byte {
	decoded, _, public := privateFields(t, file)
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: bytes.ReplaceAll(decoded, bytes.Clone(public), other)})
}

// bytesInside replaces text of equal length in a key file.
func bytesInside(t testing.TB, file []byte, from, to string) []byte {
	decoded, _, _ := privateFields(t, file)
	if len(from) != len(to) || !bytes.Contains(decoded, []byte(from)) {
		t.Fatalf("%q can't stand for %q", to, from)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: bytes.ReplaceAll(decoded, []byte(from), []byte(to))})
}

func TestSSHKeygenVerifiesOurSignatures(t *testing.T) {
	t.Parallel()
	key, path := create(t)
	dir := filepath.Dir(path)
	allowed, sig := filepath.Join(dir, "allowed_signers"), filepath.Join(dir, "sig")
	write(t, allowed, ring(t, key).Format(), 0o600)
	for _, message := range [][]byte{message, nil, {0}, bytes.Repeat([]byte("long "), 100_000)} {
		write(t, sig, sign(t, key, purpose, message), 0o600)
		out := mustSSHKeygen(t, message, "-Y", "verify", "-f", allowed, "-I", station, "-n", purpose, "-s", sig)
		if !strings.Contains(out, key.Fingerprint()) {
			t.Errorf("ssh-keygen says %q", out)
		}
		changed := append(bytes.Clone(message), '!')
		if out, ok := sshKeygen(t, changed, "-Y", "verify", "-f", allowed, "-I", station, "-n", purpose, "-s", sig); ok {
			t.Errorf("ssh-keygen takes a changed message: %s", out)
		}
	}
}

func TestSignaturesAreThoseOfSSHKeygen(t *testing.T) {
	t.Parallel()
	key, path := create(t)
	r := ring(t, key)
	theirs := []byte(mustSSHKeygen(t, message, "-Y", "sign", "-q", "-f", path, "-n", purpose))
	signer, err := r.Verify(purpose, message, theirs, noon)
	if err != nil || signer.Principal != station || !signer.Key.Equal(key.Public()) {
		t.Errorf("%+v, %v", signer, err)
	}
	// Ed25519 has no randomness, so equal input gives equal bytes.
	if ours := sign(t, key, purpose, message); !bytes.Equal(ours, theirs) {
		t.Errorf("ours:\n%stheirs:\n%s", ours, theirs)
	}
	sha256 := []byte(mustSSHKeygen(t, message, "-Y", "sign", "-q", "-O", "hashalg=sha256", "-f", path, "-n", purpose))
	if _, err := r.Verify(purpose, message, sha256, noon); err != nil {
		t.Errorf("with SHA-256: %v", err)
	}
}

// Whatever Verify takes, ssh-keygen takes too: a court must not see less.
func TestOddArmor(t *testing.T) {
	t.Parallel()
	key, path := create(t)
	dir := filepath.Dir(path)
	allowed, sig := filepath.Join(dir, "allowed_signers"), filepath.Join(dir, "sig")
	r := ring(t, key)
	write(t, allowed, r.Format(), 0o600)
	good := string(sign(t, key, purpose, message))
	inside := strings.Split(strings.TrimSpace(good), "\n")
	body := strings.Join(inside[1:len(inside)-1], "")
	for what, c := range map[string]struct {
		text string
		ok   bool
	}{
		"as it is":               {good, true},
		"no newline at the end":  {strings.TrimSuffix(good, "\n"), true},
		"more newlines":          {good + "\n\n", true},
		"lines of DOS":           {strings.ReplaceAll(good, "\n", "\r\n"), false},
		"one long line":          {inside[0] + "\n" + body + "\n" + inside[len(inside)-1] + "\n", true},
		"text before":            {"hello\n" + good, false},
		"a newline before":       {"\n" + good, false},
		"text behind":            {good + "hello\n", false},
		"two signatures":         {good + good, false},
		"text in the first line": {strings.Replace(good, "-----\n", "-----U\n", 1), false},
		"no footer":              {strings.Join(inside[:len(inside)-1], "\n"), false},
		"no header":              {strings.Join(inside[1:], "\n"), false},
		"header only":            {inside[0] + "\n" + inside[len(inside)-1] + "\n", false},
		"another kind of PEM":    {strings.ReplaceAll(good, "SSH SIGNATURE", "SSH SOMETHING"), false},
		"no base64":              {strings.Replace(good, "U1NI", "U*NI", 1), false},
		"endless newlines":       {good + strings.Repeat("\n", 1<<20), false},
		"nothing":                {"", false},
		"huge":                   {inside[0] + "\n" + strings.Repeat("A", 1<<20) + "\n" + inside[len(inside)-1] + "\n", false},
	} {
		_, err := r.Verify(purpose, message, []byte(c.text), noon)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, stationkey.ErrSignature) {
			t.Errorf("%s: %v", what, err)
		}
		write(t, sig, []byte(c.text), 0o600)
		if out, ok := sshKeygen(t, message, "-Y", "verify", "-f", allowed, "-I", station, "-n", purpose, "-s", sig); c.ok && !ok {
			t.Errorf("%s: ssh-keygen does not take it: %s", what, out)
		}
	}
	for end := range len(good) - 1 { // without the last newline it is whole
		if _, err := r.Verify(purpose, message, []byte(good[:end]), noon); !errors.Is(err, stationkey.ErrSignature) {
			t.Errorf("cut after %d of %d bytes: %v", end, len(good), err)
		}
	}
}

func TestEveryChangeIsSeen(t *testing.T) {
	t.Parallel()
	key, _ := create(t)
	r := ring(t, key)
	armored := sign(t, key, purpose, message)
	check := func(what string, at int, message, armored []byte) {
		if _, err := r.Verify(purpose, message, armored, noon); !errors.Is(err, stationkey.ErrSignature) {
			t.Errorf("%s changed at %d: %v", what, at, err)
		}
	}
	flips := []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}
	for _, flip := range flips {
		for i := range message {
			changed := bytes.Clone(message)
			changed[i] ^= flip
			check("message", i, changed, armored)
		}
		for i := range armored {
			changed := bytes.Clone(armored)
			changed[i] ^= flip
			check("armor", i, message, changed)
		}
		blob := blobOf(t, armored)
		for i := range blob {
			changed := bytes.Clone(blob)
			changed[i] ^= flip
			check("blob", i, message, armorOf(changed))
		}
	}
	// These armors end in one and two "=", whose character before has free bits.
	for _, namespace := range []string{purpose + "s", purpose + "es"} {
		armored := sign(t, key, namespace, message)
		end := bytes.IndexByte(armored, '=')
		if end < 0 {
			t.Fatalf("no padding in\n%s", armored)
		}
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=" {
			changed := bytes.Clone(armored)
			changed[end-1] = byte(c)
			_, err := r.Verify(namespace, message, changed, noon)
			if same := bytes.Equal(changed, armored); same != (err == nil) {
				t.Errorf("last character %c: %v", c, err)
			}
		}
	}
	check("message cut", 0, message[:len(message)-1], armored)
	check("message empty", 0, nil, armored)
	check("blob longer", 0, message, armorOf(append(blobOf(t, armored), 0)))
}

func blobOf(t testing.TB, armored []byte) []byte {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(armored)), "\n")
	blob, err := base64.StdEncoding.DecodeString(strings.Join(lines[1:len(lines)-1], ""))
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func armorOf(blob []byte) []byte {
	return []byte("-----BEGIN SSH SIGNATURE-----\n" + base64.StdEncoding.EncodeToString(blob) + "\n-----END SSH SIGNATURE-----\n")
}

// A reserved field is not under the signature: filled in later, it must not pass.
func TestAReservedFieldIsRefused(t *testing.T) {
	t.Parallel()
	key, _ := create(t)
	blob := blobOf(t, sign(t, key, purpose, message))
	behind := bytes.Index(blob, []byte(purpose)) + len(purpose)
	filled := append(bytes.Clone(blob[:behind]), 0, 0, 0, 2, 'h', 'i')
	filled = append(filled, blob[behind+4:]...)
	if _, err := ring(t, key).Verify(purpose, message, armorOf(filled), noon); !errors.Is(err, stationkey.ErrSignature) {
		t.Errorf("a filled reserved field: %v", err)
	}
}

func TestNamespacesAreKeptApart(t *testing.T) {
	t.Parallel()
	key, _ := create(t)
	if _, err := ring(t, key).Verify("ingestd-other", message, sign(t, key, purpose, message), noon); !errors.Is(err, stationkey.ErrSignature) {
		t.Errorf("a signature for another namespace: %v", err)
	}
	for _, bad := range []string{"", "two words", "a,b", "file*", "!file", "a\nb", `a"b`, "文件", strings.Repeat("n", 256)} {
		if _, err := key.Sign(bad, message); err == nil {
			t.Errorf("signed for namespace %.20q, which no ring can name", bad)
		}
	}
}

// The two uses of the key, see the package comment.
func TestNotesAndSSHSIGAreNeverConfused(t *testing.T) {
	t.Parallel()
	key, _ := create(t)
	note := []byte("ingestd/NMQ-01\n12\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n")
	raw := key.SignRaw(note)
	if !ed25519.Verify(key.Public(), note, raw) {
		t.Fatal("the plain signature is none")
	}
	armored := sign(t, key, purpose, note)
	blob := blobOf(t, armored)
	if bytes.Contains(blob, raw) {
		t.Error("an SSHSIG holds the plain signature of its message")
	}
	// The signature of a note, put into the envelope of an SSHSIG.
	forged := append(bytes.Clone(blob[:len(blob)-ed25519.SignatureSize]), raw...)
	if _, err := ring(t, key).Verify(purpose, note, armorOf(forged), noon); !errors.Is(err, stationkey.ErrSignature) {
		t.Errorf("a note's signature passed as an SSHSIG: %v", err)
	}
	if ed25519.Verify(key.Public(), note, blob[len(blob)-ed25519.SignatureSize:]) {
		t.Error("an SSHSIG's signature passed as a note's")
	}
	for _, inside := range []string{"SSHSIG", "SSHSIG\x00\x00\x00\x10" + purpose} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("it signed %q as a note", inside)
				}
			}()
			key.SignRaw([]byte(inside))
		}()
	}
}

func FuzzVerify(f *testing.F) {
	key, _ := create(f)
	other, _ := create(f)
	r := ring(f, key)
	good := sign(f, key, purpose, message)
	f.Add(good)
	f.Add(sign(f, other, purpose, message))
	f.Add(sign(f, key, "other", message))
	f.Add(bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")))
	f.Add(good[:len(good)/2])
	f.Add(armorOf([]byte("SSHSIG\x00\x00\x00\x01\xff\xff\xff\xff")))
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----"))
	f.Add([]byte{})
	canonical := blobOf(f, good)
	f.Fuzz(func(t *testing.T, armored []byte) {
		_, err := r.Verify(purpose, message, armored, noon)
		switch {
		case err == nil:
			// One message has one signature: what passes is the same blob.
			if !bytes.Equal(blobOf(t, armored), canonical) {
				t.Errorf("another signature passed:\n%s", armored)
			}
		case !errors.Is(err, stationkey.ErrSignature) && !errors.Is(err, stationkey.ErrUntrusted):
			t.Errorf("neither kind of error: %v", err)
		}
	})
}
