package tsa

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // see isNamed
	"crypto/sha256"
	_ "crypto/sha512" // see isNamed
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/digitorus/pkcs7"
	rfc3161 "github.com/digitorus/timestamp"
	"golang.org/x/crypto/cryptobyte"
	asn1tag "golang.org/x/crypto/cryptobyte/asn1"
)

// maxDepth is over twice what a stamp with its certificates is nested.
const maxDepth = 40

// Stamp is what an authority has said.
type Stamp struct {
	Time time.Time // in UTC
	// Signer is the subject of the certificate that signed.
	Signer string

	nonce *big.Int
}

// parsing is held while the parser of signatures is at work: it counts in a variable of
// its package.
var parsing sync.Mutex

var (
	oidTSTInfo       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}  // RFC 3161, 2.4.2
	oidSigningCert   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12} // RFC 2634, 5.4
	oidSigningCertV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47} // RFC 5035
	oidExtKeyUsage   = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// Check checks that a TimeStampResp (RFC 3161, 2.4.2) grants a stamp over exactly data:
// its status, its imprint, its one signature, that the signer is for time stamps and
// nothing else, and that its certificate was, at the time of the stamp, below one of
// roots. With nil roots who signed is not checked: anybody can have.
func Check(answer, data []byte, roots *x509.CertPool) (Stamp, error) {
	if err := isDER(cryptobyte.String(answer), maxDepth); err != nil {
		return Stamp{}, fmt.Errorf("it is no stamp: %w", err)
	}
	parsing.Lock()
	defer parsing.Unlock()
	ts, err := rfc3161.ParseResponse(answer)
	if err != nil {
		return Stamp{}, fmt.Errorf("it is no stamp: %w", err)
	}
	sum := sha256.Sum256(data)
	if ts.HashAlgorithm != crypto.SHA256 || !bytes.Equal(ts.HashedMessage, sum[:]) {
		return Stamp{}, fmt.Errorf("it is over other bytes: it has %s %x, these have SHA-256 %x", ts.HashAlgorithm, ts.HashedMessage, sum)
	}
	signer, err := checkSigner(ts, roots)
	if err != nil {
		return Stamp{}, err
	}
	return Stamp{Time: ts.Time.UTC(), Signer: signer.Subject.String(), nonce: ts.Nonce}, nil
}

// isDER: the values are whole, of plain lengths and not nested without end. The parser
// of signatures behind it takes looser forms too, and can read past the end of these.
func isDER(der cryptobyte.String, depth int) error {
	for !der.Empty() {
		var inner cryptobyte.String
		var tag asn1tag.Tag
		if depth == 0 || !der.ReadAnyASN1(&inner, &tag) {
			return errors.New("it is not DER")
		}
		if tag&asn1tag.Tag(0x20) == 0 { // not constructed
			continue
		}
		if err := isDER(inner, depth-1); err != nil {
			return err
		}
	}
	return nil
}

func checkSigner(ts *rfc3161.Timestamp, roots *x509.CertPool) (*x509.Certificate, error) {
	token, err := pkcs7.Parse(ts.RawToken)
	if err != nil {
		return nil, fmt.Errorf("it is no stamp: %w", err)
	}
	signer := token.GetOnlySigner()
	if signer == nil {
		return nil, errors.New("it has not one signature whose certificate is with it")
	}
	digest := token.Signers[0].DigestAlgorithm.Algorithm
	if !digest.Equal(pkcs7.OIDDigestAlgorithmSHA256) && !digest.Equal(pkcs7.OIDDigestAlgorithmSHA384) && !digest.Equal(pkcs7.OIDDigestAlgorithmSHA512) {
		return nil, fmt.Errorf("it is signed over a digest that is not of SHA-2: %s", digest)
	}
	// Else a signature over something of another kind could pass for a stamp.
	var kind asn1.ObjectIdentifier
	if err := token.UnmarshalSignedAttribute(pkcs7.OIDAttributeContentType, &kind); err != nil || !kind.Equal(oidTSTInfo) {
		return nil, errors.Join(fmt.Errorf("what is signed is not the content of a time stamp but %q", kind), err)
	}
	if err := isNamed(token, signer); err != nil {
		return nil, err
	}
	if err := isForStamps(signer); err != nil {
		return nil, err
	}
	intermediates := x509.NewCertPool()
	for _, c := range token.Certificates {
		intermediates.AddCert(c)
	}
	if err := token.VerifyWithOpts(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: ts.Time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	}); err != nil {
		return nil, fmt.Errorf("its signature by %q does not hold: %w", signer.Subject, err)
	}
	return signer, nil
}

// isForStamps: the one extended key usage is timeStamping, and critical (RFC 3161, 2.3).
func isForStamps(c *x509.Certificate) error {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtKeyUsage) && e.Critical && len(c.UnknownExtKeyUsage) == 0 &&
			len(c.ExtKeyUsage) == 1 && c.ExtKeyUsage[0] == x509.ExtKeyUsageTimeStamping {
			return nil
		}
	}
	return fmt.Errorf("the certificate of %q is not for time stamps alone (extended key usage, critical)", c.Subject)
}

// isNamed: what is signed names the signer's certificate by its digest, so that no
// other one for the same key can be put in its place (RFC 3161, 2.4.2; RFC 5816).
func isNamed(token *pkcs7.PKCS7, signer *x509.Certificate) error {
	var v2 struct {
		Certs []struct {
			Hash   pkix.AlgorithmIdentifier `asn1:"optional"` // absent: SHA-256
			Sum    []byte
			Issuer asn1.RawValue `asn1:"optional"`
		}
		Policies asn1.RawValue `asn1:"optional"`
	}
	var v1 struct {
		Certs []struct {
			Sum    []byte        // SHA-1
			Issuer asn1.RawValue `asn1:"optional"`
		}
		Policies asn1.RawValue `asn1:"optional"`
	}
	hash, named := crypto.SHA256, []byte(nil)
	if err := token.UnmarshalSignedAttribute(oidSigningCertV2, &v2); err == nil && len(v2.Certs) > 0 {
		switch alg := v2.Certs[0].Hash.Algorithm; {
		case len(alg) == 0, alg.Equal(pkcs7.OIDDigestAlgorithmSHA256):
		case alg.Equal(pkcs7.OIDDigestAlgorithmSHA384):
			hash = crypto.SHA384
		case alg.Equal(pkcs7.OIDDigestAlgorithmSHA512):
			hash = crypto.SHA512
		default:
			return fmt.Errorf("it names its certificate by a digest that is not known: %s", alg)
		}
		named = v2.Certs[0].Sum
	} else if err := token.UnmarshalSignedAttribute(oidSigningCert, &v1); err == nil && len(v1.Certs) > 0 {
		hash, named = crypto.SHA1, v1.Certs[0].Sum
	}
	h := hash.New()
	h.Write(signer.Raw)
	if !bytes.Equal(h.Sum(nil), named) {
		return fmt.Errorf("what is signed does not name the certificate of %q, which is with it", signer.Subject)
	}
	return nil
}
