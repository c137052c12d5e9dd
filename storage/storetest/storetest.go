// Package storetest starts real S3 servers for tests: the embedded store and
// MinIO, each in a process of its own that only this machine can reach. A
// stand-in would prove nothing: some answer 200 to a lock and delete all the
// same. Nothing of the product imports it.
package storetest

import (
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/bodyworn/ingestd/storage"
)

// Zone is the station's time zone in tests.
var Zone = time.FixedZone("CST", 8*3600)

const startWithin = time.Minute // generous, never waited for

// Server is a running S3 server whose root credentials a test holds. Its data
// last as long as the test, whatever happens to the process. Config and Client
// stay good over Kill and Start.
type Server struct {
	Name   string // "embedded", "minio" or "minio-tls"
	config storage.Config
	client *minio.Client
	kill   func()
	start  func(testing.TB)
	// dropBucket is nil where there is no such way.
	dropBucket func(bucket string) error
	// relock is nil where there is no such way.
	relock func(bucket, key string, until time.Time) error
}

// Config reaches the server with a bucket that does not exist yet.
func (s *Server) Config() storage.Config {
	c := s.config
	c.Bucket = "vault-" + strings.ToLower(rand.Text()[:12])
	return c
}

// Vault opens a vault in a bucket of its own.
func (s *Server) Vault(t testing.TB) (*storage.Vault, storage.Config) {
	t.Helper()
	c := s.Config()
	v, err := storage.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v, c
}

// Client is a plain S3 client with the root credentials: what an attacker who
// has stolen them, or an auditor, can do.
func (s *Server) Client() *minio.Client { return s.client }

// Kill ends the server's process as kill -9 does.
func (s *Server) Kill() { s.kill() }

// DropBucket throws a bucket away with all that is locked in it, as only somebody at
// MinIO's disks can; no client is able to.
func (s *Server) DropBucket(bucket string) error { return s.dropBucket(bucket) }

// Relock sets the end of the lock of a key's current version, past or future, as only
// somebody at the disk of the embedded store can; no client is able to. It stands in
// for the six months that a test can't wait.
func (s *Server) Relock(bucket, key string, until time.Time) error {
	return s.relock(bucket, key, until)
}

// Start starts a killed server again: same data, address and credentials.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.start(t)
}

// connect makes the client from the config.
func (s *Server) connect(t testing.TB) {
	t.Helper()
	s.config.Region, s.config.Location = "us-east-1", Zone
	c := s.config
	transport := c.Transport
	if transport == nil {
		transport = dial(t, c)
	}
	var err error
	s.client, err = minio.New(c.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Secure: c.TLS, Region: c.Region,
		Transport: transport, BucketLookup: minio.BucketLookupPath, TrailingHeaders: true,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func dial(t testing.TB, c storage.Config) *http.Transport {
	t.Helper()
	transport, err := minio.DefaultTransport(c.TLS)
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem)
	}
	return transport
}
