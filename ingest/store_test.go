package ingest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/embedded"
)

const runAsStore = "BODYWORN_RUN_AS_STORE"

func TestMain(m *testing.M) {
	if root := os.Getenv(runAsStore); root != "" {
		err := embedded.Serve(context.Background(), embedded.Config{Root: root, Location: time.UTC, Lifeline: os.Stdin})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type server struct{ *embedded.Store }

func startStore(t *testing.T) server {
	t.Helper()
	root := t.TempDir() + "/store"
	s, err := embedded.Open(t.Context(), embedded.Options{Root: root, Stderr: t.Output(), Command: []string{"/usr/bin/env", runAsStore + "=" + root, "/proc/" + fmt.Sprint(os.Getpid()) + "/exe"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return server{s}
}

func (s server) Config() storage.Config {
	return storage.Config{Endpoint: s.Endpoint(), Region: s.Region(), Bucket: "footage", AccessKey: s.AccessKey(), SecretKey: s.SecretKey(), Transport: s.Transport()}
}

func (s server) Client() *minio.Client {
	c, err := minio.New(s.Endpoint(), &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey(), s.SecretKey(), ""), Region: s.Region(), Transport: s.Transport(), BucketLookup: minio.BucketLookupPath})
	if err != nil {
		panic(err)
	}
	return c
}

// setLastSeen makes a journal, closed, believe that it was written at a time.
func setLastSeen(file string, at time.Time) error {
	db, err := sql.Open("sqlite", file)
	if err != nil {
		return err
	}
	_, err = db.Exec("UPDATE meta SET value = ? WHERE name = 'last_seen'", at.UTC().Format(time.RFC3339))
	return errors.Join(err, db.Close())
}
