package ledger_test

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/bodyworn/ingestd/storage/ledger"
)

// A good signature alone does not make a checkpoint.
func TestSignedTextsThatAreNoCheckpoints(t *testing.T) {
	t.Parallel()
	root := strings.Repeat("A", 43) + "="
	for text, taken := range map[string]bool{
		origin + "\n7\n" + root + "\n":                    true,
		origin + "\n7\n" + root + "\nextension of C2SP\n": true,
		"ingestd/STATION-2\n7\n" + root + "\n":            false,
		origin + " \n7\n" + root + "\n":                   false,
		origin + "\n07\n" + root + "\n":                   false,
		origin + "\n+7\n" + root + "\n":                   false,
		origin + "\n-7\n" + root + "\n":                   false,
		origin + "\n\n" + root + "\n":                     false,
		origin + "\n9223372036854775808\n" + root + "\n":  false,
		origin + "\n7\n" + root[:42] + "B=\n":             false, // bits behind the end
		origin + "\n7\n" + root[:40] + "\n":               false,
		origin + "\n7\n":                                  false,
		origin + "\n":                                     false,
		"\n":                                              false,
	} {
		signed, err := note.Sign(&note.Note{Text: text}, signerOf(t))
		if err != nil {
			t.Fatal(err)
		}
		c, err := ledger.ParseCheckpoint(signed, station.PublicKey(), origin)
		if taken != (err == nil) || taken && c.Size != 7 {
			t.Errorf("%q gives %v, %v", text, c, err)
		}
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	dir := f.TempDir()
	l, err := ledger.Open(f.Context(), dir, station, func(ledger.Repair) {})
	if err != nil {
		f.Fatal(err)
	}
	signed, err := l.Checkpoint()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed, 0)
	for _, text := range []string{"", origin + "\n", origin + "\n1\n", origin + "\n01\nAAAA\n", "other\n0\nAAAA\n", origin + "\n-1\n" + strings.Repeat("A", 43) + "=\n"} {
		f.Add([]byte(text), 1)
	}
	f.Fuzz(func(t *testing.T, text []byte, sign int) {
		if sign != 0 { // behind the signature, where else nothing gets
			n := &note.Note{Text: string(text)}
			if s, err := note.Sign(n, signerOf(t)); err == nil {
				text = s
			}
		}
		c, err := ledger.ParseCheckpoint(text, station.PublicKey(), origin)
		if err != nil {
			return
		}
		if c.Size < 0 || !bytes.HasPrefix(text, []byte(origin+"\n")) {
			t.Errorf("%q gives %+v", text, c)
		}
		if body, _, _ := bytes.Cut(signed, []byte("\n\n")); sign == 0 && !bytes.HasPrefix(text, append(body, '\n', '\n')) {
			t.Errorf("%q was never signed", text)
		}
	})
}

// signerOf lets package note sign with the station's key.
func signerOf(t *testing.T) note.Signer {
	key, err := ledger.VerifierKey(origin, station.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	return testSigner{station, v.KeyHash()}
}

type testSigner struct {
	stationKey
	hash uint32
}

func (s testSigner) KeyHash() uint32               { return s.hash }
func (s testSigner) Sign(m []byte) ([]byte, error) { return s.SignRaw(m), nil }
