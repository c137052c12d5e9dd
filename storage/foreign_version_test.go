package storage_test

import (
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// A station that has moved asks its new store for versions that only the former one
// could have given. They are not there, which is no reason to stop.
func TestVersionsOfAnotherStoreAreNotFound(t *testing.T) {
	t.Parallel()
	for _, server := range []*storetest.Server{storetest.Embedded(t), storetest.MinIO(t, false)} {
		vault, _ := server.Vault(t)
		body := []byte("footage")
		o, err := vault.Create(t.Context(), "k/a", body, sha256.Sum256(body), vault.RetainUntil())
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []string{"01JDK8Z8W9Q8V6M9N5X2R4T7AB", "5f0c4c53-3e4d-4b53-9d5f-1c1f2a3b4c5d", "null", "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"} {
			for _, key := range []string{o.Key, "k/none"} {
				if _, err := vault.Stat(t.Context(), key, version); !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("%s: look up %s, version %s: %v", server.Name, key, version, err)
				}
				if body, err := vault.Fetch(t.Context(), key, version); !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("%s: fetch %s, version %s: %v", server.Name, key, version, err)
					if err == nil {
						body.Close()
					}
				}
			}
		}
		if got, err := vault.Stat(t.Context(), o.Key, o.VersionID); err != nil || got.Size != int64(len(body)) {
			t.Errorf("%s: its own version: %v", server.Name, err)
		}
	}
}
