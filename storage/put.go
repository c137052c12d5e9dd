package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// MaxParts is the limit of S3 for one upload.
const MaxParts = 10000

// Create stores body under key in one request and locks it until the given
// date. The server checks the very SHA-256 that goes into the manifest. The key
// must be free: where it holds the same bytes already, because an earlier answer
// was lost, that version is confirmed and returned; other content is ErrTaken.
func (v *Vault) Create(ctx context.Context, key string, body []byte, sum [sha256.Size]byte, until time.Time) (Object, error) {
	want := checksumSHA256(sum)
	version, err := v.create(ctx, key, body, want, until)
	if err != nil {
		return v.createdBefore(ctx, key, int64(len(body)), want, until, err)
	}
	return v.confirm(ctx, key, version, int64(len(body)), want, until)
}

// create gives the version that the server says it has made.
func (v *Vault) create(ctx context.Context, key string, body []byte, want Checksum, until time.Time) (version string, err error) {
	if err := v.refuseShort(key, until); err != nil {
		return "", err
	}
	opts := v.lockedOptions(until)
	opts.UserMetadata = map[string]string{"x-amz-checksum-sha256": want.Value}
	opts.SetMatchETagExcept("*") // If-None-Match: *, never overwrite
	lent := lend(body)
	defer lent.takeBack()
	info, err := v.core.PutObject(lent.within(ctx), v.cfg.Bucket, key, counted(ctx, lent), int64(len(body)), "", "", opts)
	if err != nil {
		return "", fmt.Errorf("store %s (%d bytes): %w", key, len(body), classify(err))
	}
	return info.VersionID, nil
}

// createdBefore takes over what a create found at its key; any other error of it
// stays what it is.
func (v *Vault) createdBefore(ctx context.Context, key string, size int64, want Checksum, until time.Time, err error) (Object, error) {
	if !isTaken(err) {
		return Object{}, err
	}
	return v.adopt(ctx, key, size, want, until)
}

// lockedOptions carries the lock in the request that creates the object: there
// is no moment in which footage is stored and not locked, and no bucket default
// is relied on.
func (v *Vault) lockedOptions(until time.Time) minio.PutObjectOptions {
	return minio.PutObjectOptions{
		Mode:            minio.Compliance,
		RetainUntilDate: until,
		// The checksum header protects the body and is itself signed; signing
		// the body too would hash it a second time.
		DisableContentSha256: true,
	}
}

// refuseShort is the last guard before the wire: whatever the caller computed.
func (v *Vault) refuseShort(key string, until time.Time) error {
	if now := v.Now(); BelowFloor(until, now, v.cfg.Location) {
		return fmt.Errorf("store %s: a lock until %s is below six calendar months from %s (第十一条)",
			key, until.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	return nil
}

func isTaken(err error) bool {
	return answer(err).StatusCode == http.StatusPreconditionFailed
}

// adopt takes over an object that is there already, if it is the same.
func (v *Vault) adopt(ctx context.Context, key string, size int64, sum Checksum, until time.Time) (Object, error) {
	o, err := v.Stat(ctx, key, "")
	if err != nil {
		return Object{}, err
	}
	if o.Size != size || o.Checksum != sum {
		return Object{}, fmt.Errorf("store %s: it holds %d bytes, %s: %w", key, o.Size, o.Checksum, ErrTaken)
	}
	if o.RetainUntil.Before(until.Truncate(time.Second)) {
		if err := v.Extend(ctx, key, o.VersionID, until); err != nil {
			return Object{}, err
		}
		o.RetainUntil = until
	}
	return o, nil
}

// Upload is an object that goes up in parts. Its lock is fixed when it begins
// and holds from the moment it is completed; parts alone are not locked, and the
// recorder is not released before completion.
type Upload struct {
	Key         string
	ID          string
	RetainUntil time.Time
}

// Part is one part that the server has checked and keeps.
type Part struct {
	Number int // from 1
	Size   int64
	ETag   string
	CRC64  uint64 // CRC-64/NVME
}

// Begin starts an upload in parts to a key that must be free when it ends.
func (v *Vault) Begin(ctx context.Context, key string, until time.Time) (Upload, error) {
	if err := v.refuseShort(key, until); err != nil {
		return Upload{}, err
	}
	opts := v.lockedOptions(until)
	opts.UserMetadata = map[string]string{
		"x-amz-checksum-algorithm": CRC64NVME,
		"x-amz-checksum-type":      "FULL_OBJECT",
	}
	id, err := v.core.NewMultipartUpload(ctx, v.cfg.Bucket, key, opts)
	if err != nil {
		return Upload{}, fmt.Errorf("begin %s: %w", key, classify(err))
	}
	return Upload{Key: key, ID: id, RetainUntil: until}, nil
}

// PutPart stores one part; the server refuses it if its CRC-64/NVME differs. A
// part number that is sent again replaces the former.
func (v *Vault) PutPart(ctx context.Context, u Upload, number int, data []byte, crc uint64) (Part, error) {
	lent := lend(data)
	defer lent.takeBack()
	part, err := v.core.PutObjectPart(lent.within(ctx), v.cfg.Bucket, u.Key, u.ID, number, counted(ctx, lent), int64(len(data)),
		minio.PutObjectPartOptions{
			CustomHeader:         http.Header{"X-Amz-Checksum-Crc64nvme": {checksumCRC64(crc).Value}},
			DisableContentSha256: true,
		})
	if err != nil {
		return Part{}, fmt.Errorf("store part %d of %s (%d bytes): %w", number, u.Key, len(data), classify(err))
	}
	if got := part.ChecksumCRC64NVME; got != "" && got != checksumCRC64(crc).Value {
		return Part{}, fmt.Errorf("store part %d of %s: the store computed another checksum: %w", number, u.Key, ErrCorrupt)
	}
	return Part{Number: number, Size: int64(len(data)), ETag: part.ETag, CRC64: crc}, nil
}

// Kept lists the parts of an upload that the server holds, for resuming. It is
// ErrNotFound where the upload is gone, completed or thrown away.
func (v *Vault) Kept(ctx context.Context, u Upload) (map[int]Part, error) {
	kept := map[int]Part{}
	for marker := 0; ; {
		page, err := v.core.ListObjectParts(ctx, v.cfg.Bucket, u.Key, u.ID, marker, 1000)
		if err != nil {
			return nil, fmt.Errorf("list the parts of %s: %w", u.Key, classify(err))
		}
		for _, p := range page.ObjectParts {
			// Listings quote the ETag, uploads don't.
			kept[p.PartNumber] = Part{Number: p.PartNumber, Size: p.Size, ETag: strings.Trim(p.ETag, `"`)}
		}
		if !page.IsTruncated || page.NextPartNumberMarker <= marker {
			return kept, nil
		}
		marker = page.NextPartNumberMarker
	}
}

// Complete puts the parts, which must be all and in order, together. The server
// checks the CRC-64/NVME of the whole object. An upload that was completed
// before, its answer lost, gives the object that it made. ErrNotFound: the store has
// no such upload and no such object; ErrTaken: the key holds another one. Either way,
// and it may be both, the bytes have to be sent again.
func (v *Vault) Complete(ctx context.Context, u Upload, parts []Part, size int64, crc uint64) (Object, error) {
	want := checksumCRC64(crc)
	list := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		list[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.ETag, ChecksumCRC64NVME: checksumCRC64(p.CRC64).Value}
	}
	opts := minio.PutObjectOptions{UserMetadata: map[string]string{
		"x-amz-checksum-crc64nvme": want.Value,
		"x-amz-checksum-type":      "FULL_OBJECT",
	}}
	opts.SetMatchETagExcept("*")
	info, err := v.core.CompleteMultipartUpload(ctx, v.cfg.Bucket, u.Key, u.ID, list, opts)
	if err == nil {
		return v.confirm(ctx, u.Key, info.VersionID, size, want, u.RetainUntil)
	}
	if err = classify(err); isPartsLost(err) {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if isTaken(err) || errors.Is(err, ErrNotFound) {
		o, adoptErr := v.adopt(ctx, u.Key, size, want, u.RetainUntil)
		if adoptErr == nil {
			if !errors.Is(err, ErrNotFound) {
				adoptErr = v.Abort(ctx, u)
			}
			return o, adoptErr
		}
		switch {
		case errors.Is(adoptErr, ErrNotFound): // nothing there, as err says
		case !isTaken(err) && errors.Is(adoptErr, ErrTaken):
			err = fmt.Errorf("%w; %w", err, adoptErr)
		default: // what the key holds is not known, or is what counts
			return Object{}, adoptErr
		}
	}
	return Object{}, fmt.Errorf("complete %s (%d parts, %d bytes): %w", u.Key, len(parts), size, err)
}

// isPartsLost tells an answer to Complete that means that the store does not have the
// parts as it confirmed them: MinIO says InvalidPart after a Complete that was cut
// off, versitygw other things. A server that is away, or refuses for another reason,
// has a kind of its own by now.
func isPartsLost(err error) bool {
	known := errors.Is(err, ErrDenied) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFull)
	return !known && answer(err).StatusCode == http.StatusBadRequest
}

// Abort throws the parts of an upload away. One that is gone is no error.
func (v *Vault) Abort(ctx context.Context, u Upload) error {
	err := classify(v.core.AbortMultipartUpload(ctx, v.cfg.Bucket, u.Key, u.ID))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("throw away the parts of %s: %w", u.Key, err)
	}
	return nil
}

type sentKey struct{}

// WithSent lets sent be called with the size of every piece of a body that goes
// out under ctx, also of one that goes out again. A piece that left this process
// has not arrived by that.
func WithSent(ctx context.Context, sent func(bytes int)) context.Context {
	return context.WithValue(ctx, sentKey{}, sent)
}

// countedLoan tells of each piece that is read from it.
type countedLoan struct {
	*loan
	sent func(int)
}

func counted(ctx context.Context, l *loan) io.Reader {
	if sent, ok := ctx.Value(sentKey{}).(func(int)); ok {
		return countedLoan{l, sent}
	}
	return l
}

func (c countedLoan) Read(p []byte) (int, error) {
	n, err := c.loan.Read(p)
	c.sent(n)
	return n, err
}
