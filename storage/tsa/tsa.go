// Package tsa has a time-stamping authority (可信时间戳, RFC 3161) say that bytes were
// there at a time, and checks what such a one has said.
//
// It stands behind the ledger: a stamp over a checkpoint shows that everything up to it
// is older than the stamp, whoever holds the station's key by now. Nothing but the
// SHA-256 of the bytes and a random number leaves the station (第十二条). An answer is
// handed on only when it is checked, and is kept as it came, a TimeStampResp in DER, so
// that `openssl ts -verify -in STAMP -data BYTES -CAfile CA` checks it without us.
package tsa

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"time"

	rfc3161 "github.com/digitorus/timestamp"
)

const (
	// answerWithin bounds one request, from the name of the host to the last byte.
	answerWithin = 10 * time.Second
	// maxAnswer is far above what an authority sends with all its certificates.
	maxAnswer = 256 << 10
	// clocksApart is how far the authority's time may be from the station's. Beyond it
	// one of the two is wrong, and nothing says which.
	clocksApart = 5 * time.Minute
	nonceBits   = 128
)

// Authority is one that can be asked.
type Authority struct {
	URL string // https; http only on this machine
	// CAFile holds the roots, in PEM, below which the authority's certificate must be.
	// They are trusted for https too, beside the system's. It is read for each stamp:
	// a file that is gone makes no station stand still.
	CAFile string
}

// Stamp asks for a stamp over data and gives the answer as it came, once it holds: see
// Check; besides, it must be for this very request, and of a time near now, which is
// the station's.
func (a *Authority) Stamp(ctx context.Context, data []byte, now func() time.Time) ([]byte, Stamp, error) {
	answer, s, err := a.stamp(ctx, data, now)
	if err != nil {
		return nil, Stamp{}, fmt.Errorf("time stamp of %s: %w", a.URL, err)
	}
	return answer, s, nil
}

func (a *Authority) stamp(ctx context.Context, data []byte, now func() time.Time) ([]byte, Stamp, error) {
	roots, err := ReadRoots(a.CAFile)
	if err != nil {
		return nil, Stamp{}, err
	}
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), nonceBits))
	if err != nil {
		return nil, Stamp{}, err
	}
	sum := sha256.Sum256(data)
	request, err := (&rfc3161.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Certificates: true, Nonce: nonce}).Marshal()
	if err != nil {
		return nil, Stamp{}, err
	}
	asked := now()
	answer, err := a.ask(ctx, request)
	if err != nil {
		return nil, Stamp{}, err
	}
	s, err := Check(answer, data, roots)
	switch {
	case err != nil:
		return nil, Stamp{}, err
	case s.nonce == nil || s.nonce.Cmp(nonce) != 0:
		return nil, Stamp{}, errors.New("the answer is to another request: its nonce is not the one that was sent")
	case s.Time.Before(asked.Add(-clocksApart)) || s.Time.After(now().Add(clocksApart)):
		return nil, Stamp{}, fmt.Errorf("it says %s, the station's clock %s: they are more than %s apart, and one of the two is wrong",
			s.Time.Format(time.RFC3339), now().UTC().Format(time.RFC3339), clocksApart)
	}
	return answer, s, nil
}

func (a *Authority) ask(ctx context.Context, request []byte) (_ []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/timestamp-query") // RFC 3161, 3.4
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = fmt.Errorf("it answers with more than %d bytes, which is no time stamp", maxAnswer)
	}
	return answer, err
}

func (a *Authority) client() (*http.Client, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's authorities: %w", err)
	}
	if err := addRoots(roots, a.CAFile); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &http.Client{
		Transport: transport,
		// Elsewhere may be without https.
		CheckRedirect: func(to *http.Request, _ []*http.Request) error {
			return fmt.Errorf("it sends on to %s, which is not followed: set timestamp.url to the right address", to.URL.Host)
		},
	}, nil
}

// ReadRoots reads the authorities in a PEM file.
func ReadRoots(path string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	return pool, addRoots(pool, path)
}

func addRoots(pool *x509.CertPool, path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the authorities of timestamp.ca_file: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("the authorities of timestamp.ca_file: %s holds no certificate in PEM", path)
	}
	return nil
}
