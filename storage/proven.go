package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/minio/minio-go/v7"
)

// errNotRead says that an object was taken over from an earlier try.
var errNotRead = errors.New("it was there already and was not read back")

// CreateProven is Create and ReadBack of a small object in two requests instead of
// three: the answer that brings the bytes back shows all that HEAD would, and as
// it was kept. Without a doubt every byte came back as it was sent, from this very
// version, under its checksum and lock. With one the object is confirmed all the
// same, as by Create, and still to be read back; it is ErrCorrupt where other
// bytes came.
func (v *Vault) CreateProven(ctx context.Context, key string, body []byte, sum [sha256.Size]byte, until time.Time) (o Object, doubt, err error) {
	want, size := checksumSHA256(sum), int64(len(body))
	version, err := v.create(ctx, key, body, want, until)
	if err != nil {
		o, err = v.createdBefore(ctx, key, size, want, until, err)
		return o, errNotRead, err
	}
	o, back, doubt := v.fetchWhole(ctx, key, version)
	if sent := hex.EncodeToString(sum[:]); doubt == nil && back != sent {
		doubt = fmt.Errorf("the store gave back %d bytes with SHA-256 %s; sent were %d bytes with %s: %w", o.Size, back, size, sent, ErrCorrupt)
	}
	if doubt == nil {
		doubt = o.mustBe(version, size, want, until)
	}
	if doubt == nil {
		return o, nil, nil
	}
	if ctx.Err() != nil {
		return Object{}, doubt, context.Cause(ctx)
	}
	// Whatever was wrong: the ordinary way finds it too, and tells it apart.
	o, err = v.confirm(ctx, key, version, size, want, until)
	return o, doubt, err
}

// fetchWhole gives what the server shows of a version with its bytes, and the
// SHA-256 of these.
func (v *Vault) fetchWhole(ctx context.Context, key, version string) (o Object, sum string, err error) {
	opts := minio.GetObjectOptions{VersionID: version}
	// Not by opts.Checksum: the library would hash it all once more.
	opts.Set("x-amz-checksum-mode", "ENABLED")
	body, info, _, err := v.core.GetObject(ctx, v.cfg.Bucket, key, opts)
	if err != nil {
		return Object{}, "", fmt.Errorf("fetch %s: %w", key, classify(err))
	}
	hash := sha256.New()
	buf := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(hash, struct{ io.Reader }{body}, buf[:])
	if err = errors.Join(err, body.Close()); err != nil {
		return Object{}, "", fmt.Errorf("read back %s at byte %d: %w", key, n, classify(err))
	}
	if o, err = shown(key, info); err != nil {
		return Object{}, "", err
	}
	o.Size = n
	return o, hex.EncodeToString(hash.Sum(nil)), nil
}
