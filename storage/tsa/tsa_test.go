package tsa_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rfc3161 "github.com/digitorus/timestamp"

	"github.com/bodyworn/ingestd/storage/storetest"
	"github.com/bodyworn/ingestd/storage/tsa"
)

var checkpoint = []byte("ingestd/TEST-01\n2\ncm9vdA==\n\n— ingestd/TEST-01 c2lnbmF0dXJl\n")

func at(a *storetest.StampAuthority) *tsa.Authority {
	return &tsa.Authority{URL: a.URL, CAFile: a.CAFile}
}

func roots(t *testing.T, a *storetest.StampAuthority) func(answer, data []byte) error {
	t.Helper()
	pool, err := tsa.ReadRoots(a.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	return func(answer, data []byte) error {
		_, err := tsa.Check(answer, data, pool)
		return err
	}
}

// What is taken, openssl takes too.
func TestAStampHolds(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]storetest.StampOptions{
		"ec":                 {},
		"rsa, by SHA-1 name": {Key: "rsa:2048", NamedBy: "sha1"},
		"sha512":             {Digest: "sha512", NamedBy: "sha512"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := storetest.NewStampAuthority(t, o)
			before := time.Now().Add(-time.Second)
			answer, s, err := at(a).Stamp(t.Context(), checkpoint, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			if s.Time.Before(before) || s.Time.After(time.Now().Add(time.Second)) || s.Signer != "CN=test stamps" {
				t.Errorf("%+v", s)
			}
			if err := a.Verify(answer, checkpoint); err != nil {
				t.Error(err)
			}
			again, err := tsa.Check(answer, checkpoint, nil)
			if err != nil || again.Time != s.Time {
				t.Errorf("later, without roots: %+v, %v", again, err)
			}
			if err := roots(t, a)(answer, checkpoint); err != nil {
				t.Error(err)
			}
		})
	}
}

// Only a digest leaves the station (第十二条).
func TestARequestHoldsADigestAndANonceOnly(t *testing.T) {
	t.Parallel()
	a := storetest.NewStampAuthority(t, storetest.StampOptions{})
	var queries [][]byte
	a.Answer(func(w http.ResponseWriter, query []byte, reply func([]byte) []byte) {
		queries = append(queries, query)
		w.Write(reply(query))
	})
	for range 2 {
		if _, _, err := at(a).Stamp(t.Context(), checkpoint, time.Now); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(checkpoint)
	var nonces []string
	for _, q := range queries {
		r, err := rfc3161.ParseRequest(q)
		if err != nil {
			t.Fatal(err)
		}
		if r.HashAlgorithm != crypto.SHA256 || string(r.HashedMessage) != string(sum[:]) || !r.Certificates || r.Nonce == nil || len(r.Extensions) != 0 || len(q) > 90 {
			t.Errorf("%d bytes: %+v", len(q), r)
		}
		nonces = append(nonces, r.Nonce.String())
	}
	if len(nonces) != 2 || nonces[0] == nonces[1] {
		t.Errorf("nonces %v", nonces)
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	good := storetest.NewStampAuthority(t, storetest.StampOptions{})
	query := func(data []byte, nonce *big.Int, certificates bool) []byte {
		sum := sha256.Sum256(data)
		q, err := (&rfc3161.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Certificates: certificates, Nonce: nonce}).Marshal()
		if err != nil {
			t.Error(err)
		}
		return q
	}
	nonceOf := func(q []byte) *big.Int {
		r, err := rfc3161.ParseRequest(q)
		if err != nil {
			t.Error(err)
			return nil
		}
		return r.Nonce
	}
	type answer = func(w http.ResponseWriter, q []byte, reply func([]byte) []byte)
	for name, c := range map[string]struct {
		options storetest.StampOptions
		answer  answer
		ca      string // empty: its own
		now     func() time.Time
		want    string
	}{
		"another nonce": {answer: func(w http.ResponseWriter, _ []byte, reply func([]byte) []byte) {
			other, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
			w.Write(reply(query(checkpoint, other, true)))
		}, want: "another request"},
		"no nonce": {answer: func(w http.ResponseWriter, _ []byte, reply func([]byte) []byte) {
			w.Write(reply(query(checkpoint, nil, true)))
		}, want: "another request"},
		"another imprint": {answer: func(w http.ResponseWriter, q []byte, reply func([]byte) []byte) {
			w.Write(reply(query([]byte("other"), nonceOf(q), true)))
		}, want: "over other bytes"},
		"without its certificate": {answer: func(w http.ResponseWriter, q []byte, reply func([]byte) []byte) {
			w.Write(reply(query(checkpoint, nonceOf(q), false)))
		}, want: "whose certificate is with it"},
		"a bit of the signature": {answer: func(w http.ResponseWriter, q []byte, reply func([]byte) []byte) {
			body := reply(q)
			body[len(body)-3] ^= 1
			w.Write(body)
		}, want: "ECDSA verification failure"},
		"another authority": {ca: good.CAFile, want: "unknown authority"},
		"signed over SHA-1": {options: storetest.StampOptions{Digest: "sha1"}, want: "not of SHA-2"},
		"garbage":           {answer: func(w http.ResponseWriter, _ []byte, _ func([]byte) []byte) { w.Write([]byte("<html>")) }, want: "not DER"},
		"nothing":           {answer: func(http.ResponseWriter, []byte, func([]byte) []byte) {}, want: "it is no stamp"},
		"more behind it": {answer: func(w http.ResponseWriter, q []byte, reply func([]byte) []byte) {
			w.Write(append(reply(q), 5, 0))
		}, want: "trailing data"},
		"without end": {answer: func(w http.ResponseWriter, _ []byte, _ func([]byte) []byte) {
			for range 100 {
				w.Write(make([]byte, 8192))
			}
		}, want: "more than"},
		"a refusal": {answer: func(w http.ResponseWriter, _ []byte, _ func([]byte) []byte) {
			body, err := rfc3161.CreateErrorResponse(rfc3161.Rejection, rfc3161.TimeNotAvailable)
			if err != nil {
				t.Error(err)
			}
			w.Write(body)
		}, want: "rejected"},
		"an error of the server": {answer: func(w http.ResponseWriter, _ []byte, _ func([]byte) []byte) {
			http.Error(w, "busy", http.StatusServiceUnavailable)
		}, want: "503"},
		"sent on": {answer: func(w http.ResponseWriter, _ []byte, _ func([]byte) []byte) {
			w.Header().Set("Location", good.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, want: "not followed"},
		"a station an hour ahead":  {now: func() time.Time { return time.Now().Add(time.Hour) }, want: "one of the two is wrong"},
		"a station an hour behind": {now: func() time.Time { return time.Now().Add(-time.Hour) }, want: "one of the two is wrong"},
		"no authorities":           {ca: filepath.Join(t.TempDir(), "none.pem"), want: "timestamp.ca_file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := storetest.NewStampAuthority(t, c.options)
			a.Answer(c.answer)
			asked := at(a)
			if c.ca != "" {
				asked.CAFile = c.ca
			}
			now := time.Now
			if c.now != nil {
				now = c.now
			}
			answer, _, err := asked.Stamp(t.Context(), checkpoint, now)
			if err == nil || !strings.Contains(err.Error(), c.want) || answer != nil {
				t.Errorf("%d bytes, %v; want %q", len(answer), err, c.want)
			}
		})
	}
}

// What openssl would not even sign, or not so.
func TestSignersThatAreRefused(t *testing.T) {
	t.Parallel()
	critical := func(usages ...int) pkix.Extension {
		var ids []asn1.ObjectIdentifier
		for _, u := range usages {
			ids = append(ids, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, u})
		}
		value, err := asn1.Marshal(ids)
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: value}
	}
	stamps := []pkix.Extension{critical(8)}
	// RSA: certificates that differ in a few letters are as long as each other.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(leaf *x509.Certificate)
		named  func(leaf *x509.Certificate) // the certificate that the signature names
		want   string                       // empty: it is taken
	}{
		"as it must be":      {},
		"no usage":           {change: func(leaf *x509.Certificate) { leaf.ExtraExtensions = nil }, want: "not for time stamps alone"},
		"one usage more":     {change: func(leaf *x509.Certificate) { leaf.ExtraExtensions = []pkix.Extension{critical(8, 1)} }, want: "not for time stamps alone"},
		"another usage":      {change: func(leaf *x509.Certificate) { leaf.ExtraExtensions = []pkix.Extension{critical(3)} }, want: "not for time stamps alone"},
		"not critical":       {change: func(leaf *x509.Certificate) { leaf.ExtraExtensions[0].Critical = false }, want: "not for time stamps alone"},
		"not valid any more": {change: func(leaf *x509.Certificate) { leaf.NotAfter = time.Now().Add(-time.Minute) }, want: "outside of certificate validity"},
		"another certificate of the same key is named": {named: func(leaf *x509.Certificate) { leaf.Subject.CommonName = "others" }, want: "does not name the certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
				NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
			sign := func(change func(*x509.Certificate)) *x509.Certificate {
				leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "stamps"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
					KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: slices.Clone(stamps)}
				if change != nil {
					change(leaf)
				}
				der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, key)
				if err != nil {
					t.Fatal(err)
				}
				cert, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				return cert
			}
			caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
			if err != nil {
				t.Fatal(err)
			}
			caCert, err := x509.ParseCertificate(caDER)
			if err != nil {
				t.Fatal(err)
			}
			pool := x509.NewCertPool()
			pool.AddCert(caCert)
			leaf := sign(c.change)
			named := *leaf
			if c.named != nil {
				// The library takes the name from Raw; issuer and number are the same.
				named.Raw = sign(c.named).Raw
			}
			sum := sha256.Sum256(checkpoint)
			stamp := rfc3161.Timestamp{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Time: time.Now(), Policy: asn1.ObjectIdentifier{1, 2, 3}, AddTSACertificate: true}
			answer, err := stamp.CreateResponseWithOpts(&named, key, crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if c.named != nil {
				answer = bytes.Replace(answer, named.Raw, leaf.Raw, 1)
			}
			_, err = tsa.Check(answer, checkpoint, pool)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestAnAuthorityThatIsNotThereOrSlow(t *testing.T) {
	t.Parallel()
	a := storetest.NewStampAuthority(t, storetest.StampOptions{})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	down := &tsa.Authority{URL: "http://" + closed.Addr().String(), CAFile: a.CAFile}
	if _, _, err := down.Stamp(t.Context(), checkpoint, time.Now); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("down: %v", err)
	}
	// It is left after a while of its own; here the one who asks has no patience.
	asked := make(chan struct{})
	release := make(chan struct{})
	defer close(release)
	a.Answer(func(http.ResponseWriter, []byte, func([]byte) []byte) {
		close(asked)
		<-release
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, _, err := at(a).Stamp(ctx, checkpoint, time.Now); !errors.Is(err, context.Canceled) {
		t.Errorf("slow: %v", err)
	}
}

// A stamp is right for one text, and no bit of it can be another.
func TestNoBitOfAStampCanBeAnother(t *testing.T) {
	t.Parallel()
	a := storetest.NewStampAuthority(t, storetest.StampOptions{})
	answer, s, err := at(a).Stamp(t.Context(), checkpoint, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	check := roots(t, a)
	if err := check(answer, []byte("other")); err == nil || !strings.Contains(err.Error(), "over other bytes") {
		t.Errorf("over other bytes: %v", err)
	}
	pool, err := tsa.ReadRoots(a.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	for i := range answer {
		spoilt := append([]byte(nil), answer...)
		spoilt[i] ^= 4
		// Some bits are in no signature: of the status' wording, or of a certificate
		// that is not needed. What they can't do is to change what is said.
		if got, err := tsa.Check(spoilt, checkpoint, pool); err == nil && got.Time != s.Time {
			t.Errorf("byte %d changes the time to %s", i, got.Time)
		}
	}
}

func FuzzCheck(f *testing.F) {
	a := storetest.NewStampAuthority(f, storetest.StampOptions{})
	sum := sha256.Sum256(checkpoint)
	q, err := (&rfc3161.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Certificates: true}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.Reply(q))
	f.Add([]byte{0x30, 9, 0x30, 3, 2, 1, 0, 0x30, 2, 0x1f, 0x81}) // the parser behind would read past its end
	f.Fuzz(func(_ *testing.T, answer []byte) {
		_, _ = tsa.Check(answer, checkpoint, nil)
	})
}

func TestRootsMustBePEM(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tsa.ReadRoots(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
}
