package storage

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

// The checksums that the server checks for us and shows on request.
const (
	SHA256    = "SHA256"    // of a whole object that went up in one request
	CRC64NVME = "CRC64NVME" // of a whole object that went up in parts (FULL_OBJECT)
)

// Checksum is what the server itself computed over an object, base64 as S3
// writes it.
type Checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
}

// Object is one version of one object, as the server confirmed it.
type Object struct {
	Key         string
	VersionID   string
	ETag        string
	Size        int64
	Checksum    Checksum
	RetainUntil time.Time
	// StoredAt is when the version was made, by the store's clock; zero: not asked.
	StoredAt time.Time
	// Held: the store shows a legal hold. False is no proof of the contrary, which
	// only Vault.Held gives.
	Held bool
}

func checksumSHA256(sum [sha256.Size]byte) Checksum {
	return Checksum{SHA256, base64.StdEncoding.EncodeToString(sum[:])}
}

func checksumCRC64(crc uint64) Checksum {
	return Checksum{CRC64NVME, base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc))}
}

// Stat asks the server for one version; an empty version is the current one.
// An object without a COMPLIANCE lock is reported with a zero RetainUntil.
func (v *Vault) Stat(ctx context.Context, key, version string) (Object, error) {
	info, err := v.client.StatObject(ctx, v.cfg.Bucket, key, minio.StatObjectOptions{VersionID: version, Checksum: true})
	if err != nil {
		return Object{}, fmt.Errorf("look up %s: %w", key, classifyOf(version, err))
	}
	return shown(key, info)
}

// classifyOf is classify for a request for one version. A store refuses a version id
// of a form that is not its own, as that of the store that a station had before, with
// 400: it never gave it, and so does not have it.
func classifyOf(version string, err error) error {
	kind := classify(err)
	known := errors.Is(kind, ErrDenied) || errors.Is(kind, ErrUnavailable)
	if version != "" && !known && answer(err).StatusCode == http.StatusBadRequest {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return kind
}

// shown reads what the server says of a version, with HEAD or GET.
func shown(key string, info minio.ObjectInfo) (Object, error) {
	o := Object{Key: key, VersionID: info.VersionID, ETag: info.ETag, Size: info.Size, StoredAt: info.LastModified}
	o.Held = info.Metadata.Get("X-Amz-Object-Lock-Legal-Hold") == string(minio.LegalHoldEnabled)
	switch {
	case info.ChecksumSHA256 != "":
		o.Checksum = Checksum{SHA256, info.ChecksumSHA256}
	case info.ChecksumCRC64NVME != "":
		o.Checksum = Checksum{CRC64NVME, info.ChecksumCRC64NVME}
	}
	if info.Metadata.Get("X-Amz-Object-Lock-Mode") == string(minio.Compliance) {
		until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil {
			return Object{}, fmt.Errorf("look up %s: the lock date can't be read: %w", key, err)
		}
		o.RetainUntil = until
	}
	return o, nil
}

// confirm re-reads what the server says of a version that it has just
// acknowledged: an answer to a PUT is a promise, HEAD shows what was kept.
func (v *Vault) confirm(ctx context.Context, key, version string, size int64, sum Checksum, until time.Time) (Object, error) {
	o, err := v.Stat(ctx, key, version)
	if err != nil {
		return Object{}, err
	}
	if err := o.mustBe(version, size, sum, until); err != nil {
		return Object{}, err
	}
	return o, nil
}

// mustBe compares what the server shows with what it was sent.
func (o Object) mustBe(version string, size int64, sum Checksum, until time.Time) error {
	key := o.Key
	switch {
	case version == "" || o.VersionID != version:
		return fmt.Errorf("confirm %s: the store gave version %q and shows %q: %w", key, version, o.VersionID, ErrNoLock)
	case o.Size != size:
		return fmt.Errorf("confirm %s: %d bytes were sent and %d are kept: %w", key, size, o.Size, ErrCorrupt)
	case o.Checksum != sum:
		return fmt.Errorf("confirm %s: checksum %s was sent and the store shows %s: %w", key, sum, o.Checksum, ErrCorrupt)
	case o.RetainUntil.Before(until.Truncate(time.Second)):
		return fmt.Errorf("confirm %s: a COMPLIANCE lock until %s was asked and the store shows %s: %w",
			key, until.Format(time.RFC3339), lockWords(o.RetainUntil), ErrNoLock)
	}
	return nil
}

func (c Checksum) String() string {
	if c.Algorithm == "" {
		return "none"
	}
	return c.Algorithm + " " + c.Value
}

func lockWords(until time.Time) string {
	if until.IsZero() {
		return "none"
	}
	return until.Format(time.RFC3339)
}

// ReadBack fetches one version whole and gives its SHA-256 and size: the proof
// that what is stored can be had back. Progress, which may be nil, is called
// with the number of bytes of each piece.
func (v *Vault) ReadBack(ctx context.Context, key, version string, progress func(int)) (sum string, size int64, err error) {
	body, err := v.Fetch(ctx, key, version)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = body.Close() }() // only read from
	hash := sha256.New()
	pooled := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(pooled)
	buf := pooled[:]
	for {
		n, err := body.Read(buf)
		hash.Write(buf[:n])
		size += int64(n)
		if progress != nil {
			progress(n)
		}
		if err == io.EOF {
			return hex.EncodeToString(hash.Sum(nil)), size, nil
		}
		if err != nil {
			return "", size, fmt.Errorf("read back %s at byte %d: %w", key, size, classify(err))
		}
	}
}

// Fetch opens one version for reading; an empty version is the current one. The
// caller closes it.
func (v *Vault) Fetch(ctx context.Context, key, version string) (io.ReadCloser, error) {
	return v.FetchFrom(ctx, key, version, 0)
}

// FetchFrom is Fetch from an offset in bytes on, which must be within the object.
func (v *Vault) FetchFrom(ctx context.Context, key, version string, offset int64) (io.ReadCloser, error) {
	o := minio.GetObjectOptions{VersionID: version}
	if offset > 0 {
		if err := o.SetRange(offset, 0); err != nil {
			return nil, fmt.Errorf("fetch %s from byte %d: %w", key, offset, err)
		}
	}
	body, _, _, err := v.core.GetObject(ctx, v.cfg.Bucket, key, o)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", key, classifyOf(version, err))
	}
	return body, nil
}

// Extend lengthens the lock of one version; it can't be shortened again. The
// floor was kept when the version was made, so any later date is lawful: one
// that was reckoned before midnight must not fail after it.
func (v *Vault) Extend(ctx context.Context, key, version string, until time.Time) error {
	until = ceilSecond(until)
	o, err := v.Stat(ctx, key, version)
	if err != nil {
		return err
	}
	switch {
	case o.RetainUntil.IsZero() && BelowFloor(until, v.Now(), v.cfg.Location):
		return fmt.Errorf("lock %s until %s: below six calendar months (第十一条)", key, until.Format(time.RFC3339))
	case until.Before(o.RetainUntil):
		return fmt.Errorf("lock %s until %s: that is shorter than its lock until %s", key, until.Format(time.RFC3339), lockWords(o.RetainUntil))
	case until.Equal(o.RetainUntil):
		return nil
	}
	mode := minio.Compliance
	err = v.client.PutObjectRetention(ctx, v.cfg.Bucket, key, minio.PutObjectRetentionOptions{
		Mode: &mode, RetainUntilDate: &until, VersionID: version,
	})
	if err != nil {
		return fmt.Errorf("lock %s until %s: %w", key, until.Format(time.RFC3339), classify(err))
	}
	if o, err = v.Stat(ctx, key, version); err != nil {
		return err
	}
	if o.RetainUntil.Before(until) {
		return fmt.Errorf("lock %s until %s: the store shows %s: %w", key, until.Format(time.RFC3339), lockWords(o.RetainUntil), ErrNoLock)
	}
	return nil
}

// Version is one row of a listing: a version of an object or a delete marker,
// which makes footage look gone while it is not.
type Version struct {
	Key          string
	VersionID    string
	Size         int64
	DeleteMarker bool
}

// List gives every version of every object below prefix.
func (v *Vault) List(ctx context.Context, prefix string) iter.Seq2[Version, error] {
	return func(yield func(Version, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range v.client.ListObjectsIter(ctx, v.cfg.Bucket, minio.ListObjectsOptions{
			Prefix: prefix, Recursive: true, WithVersions: true,
		}) {
			if o.Err != nil {
				yield(Version{}, fmt.Errorf("list %s: %w", prefix, classify(o.Err)))
				return
			}
			if !yield(Version{o.Key, o.VersionID, o.Size, o.IsDeleteMarker}, nil) {
				return
			}
		}
	}
}
