//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// tryToDelete is what somebody does who has the only key of an embedded store, as its
// folder holds it, and a program of his own.
func tryToDelete(d wire.Delete) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	client, err := dialStore(d.Root)
	if err != nil {
		return nil, err
	}
	attempts := []wire.Attempt{}
	for o := range client.ListObjectsIter(ctx, d.Bucket, minio.ListObjectsOptions{Prefix: d.Prefix, Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			return nil, fmt.Errorf("list %s: %w", d.Prefix, o.Err)
		}
		err := client.RemoveObject(ctx, d.Bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true})
		attempts = append(attempts, wire.Attempt{Key: o.Key, Code: minio.ToErrorResponse(err).Code})
	}
	return attempts, nil
}

// dialStore gives a client of an embedded store that some ingestd runs.
func dialStore(root string) (*minio.Client, error) {
	path := filepath.Join(root, "credentials.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var keys struct {
		Access string `json:"access_key"`
		Secret string `json:"secret_key"`
	}
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return minio.New("embedded.invalid:80", &minio.Options{ // the name resolves nowhere: all goes to the socket
		Creds: credentials.NewStaticV4(keys.Access, keys.Secret, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath,
		// A store that ends waits for connections that are kept.
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(root, "s3.sock"))
		}},
	})
}
