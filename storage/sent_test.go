package storage_test

import (
	"crypto/sha256"
	"sync/atomic"
	"testing"

	"github.com/minio/crc64nvme"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// Every byte of a body that goes out is told, of objects and of parts.
func TestSentBytesAreTold(t *testing.T) {
	t.Parallel()
	v, err := storage.Open(t.Context(), storetest.Embedded(t).Config())
	if err != nil {
		t.Fatal(err)
	}
	body := random(partSize)
	var sent atomic.Int64
	ctx := storage.WithSent(t.Context(), func(n int) { sent.Add(int64(n)) })
	if _, err := v.Create(ctx, "s/a", body, sha256.Sum256(body), v.RetainUntil()); err != nil {
		t.Fatal(err)
	}
	if n := sent.Swap(0); n != partSize {
		t.Errorf("%d of %d bytes of an object were told", n, partSize)
	}
	u, err := v.Begin(ctx, "s/b", v.RetainUntil())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.PutPart(ctx, u, 1, body, crc64nvme.Checksum(body)); err != nil {
		t.Fatal(err)
	}
	if n := sent.Load(); n != partSize {
		t.Errorf("%d of %d bytes of a part were told", n, partSize)
	}
}
