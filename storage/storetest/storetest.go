// Package storetest starts real S3 servers for tests: the embedded store, in a
// process of its own, and MinIO. A stand-in would prove nothing: some answer 200
// to a lock and delete all the same. Nothing of the product imports it.
package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/embedded"
)

// Zone is the station's time zone in tests.
var Zone = time.FixedZone("CST", 8*3600)

// runAsStore makes the test binary be the process of the embedded store. Its
// name does not begin with INGESTD_: such variables are settings.
const runAsStore = "BODYWORN_RUN_AS_STORE"

// Main is the TestMain of a package whose tests use Embedded.
func Main(m *testing.M) {
	if root := os.Getenv(runAsStore); root != "" {
		if err := embedded.Serve(context.Background(), embedded.Config{Root: root, Location: Zone, Lifeline: os.Stdin}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Server is a running S3 server whose root credentials a test holds.
type Server struct {
	Name   string
	config storage.Config
	client *minio.Client
	stop   func()
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

// Stop ends the server before the test does.
func (s *Server) Stop() { s.stop() }

func newServer(t testing.TB, name string, c storage.Config, stop func()) *Server {
	t.Helper()
	c.Region, c.Location = "us-east-1", Zone
	s := &Server{Name: name, config: c, stop: stop}
	transport := http.RoundTripper(c.Transport)
	if c.Transport == nil {
		tr, err := minio.DefaultTransport(c.TLS)
		if err != nil {
			t.Fatal(err)
		}
		if c.TLS {
			tr.TLSClientConfig.RootCAs = poolOf(t, c.CAFile)
		}
		transport = tr
	}
	var err error
	s.client, err = minio.New(c.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Secure: c.TLS, Region: c.Region,
		Transport: transport, BucketLookup: minio.BucketLookupPath, TrailingHeaders: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Embedded starts the embedded store in a process of its own. The package's
// TestMain must be Main.
func Embedded(t testing.TB) *Server {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "store")
	s, err := embedded.Open(t.Context(), embedded.Options{
		Root: root, Stderr: t.Output(),
		Command: []string{"env", runAsStore + "=" + root, exe},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return newServer(t, "embedded", storage.Config{
		Endpoint: s.Endpoint(), AccessKey: s.AccessKey(), SecretKey: s.SecretKey(), Transport: s.Transport(),
	}, stop)
}
