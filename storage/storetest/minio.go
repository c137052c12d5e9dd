package storetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

const startWithin = time.Minute

// MinIO starts a real MinIO server on loopback, over http or over TLS with an
// authority of the test's own. The binary is $BODYWORN_MINIO or the one that
// scripts/test has built; without it the test is skipped and says so.
func MinIO(t testing.TB, secure bool) *Server {
	t.Helper()
	binary := os.Getenv("BODYWORN_MINIO")
	if binary == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		binary = filepath.Join(cache, "ingestd-tools", "minio")
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("MinIO is not there (%v): scripts/test builds it", err)
	}
	c := storage.Config{Endpoint: freePort(t), AccessKey: rand.Text(), SecretKey: rand.Text(), TLS: secure}
	args := []string{"server", "--quiet", "--address", c.Endpoint, "--console-address", freePort(t)}
	name := "minio"
	if secure {
		name = "minio-tls"
		dir := t.TempDir()
		c.CAFile = writeCertificates(t, dir)
		args = append(args, "--certs-dir", dir)
	}
	cmd := exec.Command(binary, append(args, t.TempDir())...)
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+c.AccessKey, "MINIO_ROOT_PASSWORD="+c.SecretKey, "MINIO_BROWSER=off")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		})
	}
	t.Cleanup(stop)
	s := newServer(t, name, c, stop)
	for deadline := time.Now().Add(startWithin); ; time.Sleep(50 * time.Millisecond) {
		_, err := s.client.ListBuckets(t.Context())
		if err == nil {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("MinIO does not answer: %v", err)
		}
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

// writeCertificates makes an authority and a certificate for 127.0.0.1 in the
// form that MinIO reads, and returns the authority's file.
func writeCertificates(t testing.TB, dir string) (caFile string) {
	t.Helper()
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	year := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		}
	}
	ca := year(1, "test authority")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	leaf := year(2, "test store")
	leaf.IPAddresses, leaf.KeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	leafDER, err2 := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	keyDER, err3 := x509.MarshalECPrivateKey(key)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(dir, "authority.pem")
	for file, block := range map[string]*pem.Block{
		caFile:                            {Type: "CERTIFICATE", Bytes: caDER},
		filepath.Join(dir, "public.crt"):  {Type: "CERTIFICATE", Bytes: leafDER},
		filepath.Join(dir, "private.key"): {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return caFile
}

func poolOf(t testing.TB, file string) *x509.CertPool {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(body)
	return pool
}
