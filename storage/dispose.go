package storage

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"regexp"
	"time"

	"github.com/minio/minio-go/v7"
)

var (
	// ErrNotExpired says that a rule forbids the deletion, or what it needs is not known. No
	// request to delete went out.
	ErrNotExpired = errors.New("it may not be deleted yet")
	// ErrHeld says that a legal hold is on it. It is a kind of ErrNotExpired.
	ErrHeld = fmt.Errorf("a legal hold is on it (保全): %w", ErrNotExpired)
)

// Disposable is one version of footage that a plan of disposal (到期销毁) names.
type Disposable struct {
	Key       string
	VersionID string
	Size      int64  // bytes
	SHA256    string // hex, of the whole file; empty: not known
}

// disposableKey is the form of a key of footage, STATION/DATE/SESSION/footage/PATH.
// Nothing else can be disposed of: not the bucket's marker, the ledger and the keys
// of a station, nor the manifest, sums and signatures of a session, which say what was
// there when it is gone. A station's id has no dot.
var disposableKey = regexp.MustCompile(`^[A-Za-z0-9_-]+/\d{4}-\d{2}-\d{2}/[^/]+/footage/(?s:.+)$`)

// Dispose deletes one version of footage for good. It is the only way in which
// footage leaves the vault. Whatever the plan says, it asks the store afresh, and
// refuses with ErrNotExpired unless all of this is so:
//
//   - the version is there, with the size and, where the store shows one, the SHA-256
//     of the plan;
//   - the store's clock and the station's are within 15 minutes, and by either
//   - its COMPLIANCE lock has ended, and
//   - FloorMonths calendar months have passed since the store made it (第十一条),
//     whatever the lock says;
//   - the store says that no legal hold is on it.
//
// ErrNotFound: it is gone already, and a plan that is resumed can go on. That is only
// as good as the bucket: see to it with CheckMarker that it is the one that is meant.
// After any other error but ErrNotExpired it is not known whether it is gone; asked
// again, Dispose tells.
//
// It names the version, so no delete marker is made, and asks for no bypass. Where a
// key has several versions the embedded store wants the current one deleted last.
func (v *Vault) Dispose(ctx context.Context, d Disposable) error {
	if err := v.dispose(ctx, d); err != nil {
		return fmt.Errorf("dispose of %s (version %q): %w", d.Key, d.VersionID, err)
	}
	return nil
}

func (v *Vault) dispose(ctx context.Context, d Disposable) error {
	switch {
	case d.VersionID == "":
		return fmt.Errorf("no version is named; without one S3 only hides footage behind a delete marker: %w", ErrNotExpired)
	case !disposableKey.MatchString(d.Key) || path.Clean(d.Key) != d.Key:
		return fmt.Errorf("its key is not that of footage, STATION/DATE/SESSION/footage/…, and nothing else is ever disposed of: %w", ErrNotExpired)
	}
	if err := v.mayDispose(ctx, d); err != nil {
		return err
	}
	deleteErr := v.client.RemoveObject(ctx, v.cfg.Bucket, d.Key, minio.RemoveObjectOptions{VersionID: d.VersionID})
	// What counts is not the answer, which may be lost, but whether it is there.
	_, err := v.Stat(ctx, d.Key, d.VersionID)
	switch {
	case errors.Is(err, ErrNotFound):
		if err = v.bucketAnswers(ctx); err == nil {
			return nil
		}
		return errors.Join(fmt.Errorf("whether it was deleted is not known: %w", err), classify(deleteErr))
	case deleteErr != nil:
		return fmt.Errorf("delete it: %w", classify(deleteErr))
	case err != nil:
		return fmt.Errorf("the store said that it deleted it; whether that is so is not known: %w", err)
	}
	return errors.New("the store said that it deleted it, and still shows it: look at it with another client (aws s3api head-object --version-id)")
}

// mayDispose is the last guard before the wire. Holds are asked last: one may come
// while the rest is being looked at.
func (v *Vault) mayDispose(ctx context.Context, d Disposable) error {
	var storeTime time.Time
	o, err := v.Stat(withDate(ctx, &storeTime), d.Key, d.VersionID)
	if errors.Is(err, ErrNotFound) {
		if absent := v.bucketAnswers(ctx); absent != nil {
			return absent
		}
	}
	if err != nil {
		return err
	}
	if err := o.isPlanned(d); err != nil {
		return err
	}
	if err := v.hasExpired(o, storeTime); err != nil {
		return err
	}
	held, err := v.Held(ctx, d.Key, d.VersionID)
	if errors.Is(err, ErrNotFound) {
		// HEAD has just shown it. Were that passed on, it would count as gone.
		return fmt.Errorf("whether a hold is on it is not known: %s: %w", err.Error(), ErrNotExpired)
	}
	if err != nil {
		return fmt.Errorf("whether a hold is on it is not known: %w: %w", err, ErrNotExpired)
	}
	if held || o.Held {
		return ErrHeld
	}
	return nil
}

// isPlanned compares what the store shows with what the plan has.
func (o Object) isPlanned(d Disposable) error {
	if o.VersionID != d.VersionID {
		return fmt.Errorf("the store shows version %q in its place: %w", o.VersionID, ErrNotExpired)
	}
	if o.Size != d.Size {
		return fmt.Errorf("it has %d bytes and the plan says %d, so it is not what the plan was made for: %w", o.Size, d.Size, ErrNotExpired)
	}
	if d.SHA256 == "" {
		return nil
	}
	sum, err := hex.DecodeString(d.SHA256)
	if err != nil {
		return fmt.Errorf("the SHA-256 of the plan can't be read: %w: %w", err, ErrNotExpired)
	}
	// What went up in parts has another checksum.
	if o.Checksum.Algorithm == SHA256 && o.Checksum.Value != base64.StdEncoding.EncodeToString(sum) {
		return fmt.Errorf("the store shows %s and the plan says %s, so it is not what the plan was made for: %w", o.Checksum, d.SHA256, ErrNotExpired)
	}
	return nil
}

// hasExpired goes by the clock that is behind, see AgreedTime.
func (v *Vault) hasExpired(o Object, storeTime time.Time) error {
	now, err := v.agreed(storeTime)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrNotExpired)
	}
	floor := RetainUntil(o.StoredAt, FloorMonths, v.cfg.Location)
	switch {
	case o.RetainUntil.IsZero():
		return fmt.Errorf("the store shows no COMPLIANCE lock whose end could have passed; the key needs s3:GetObjectRetention to see one: %w", ErrNotExpired)
	case now.Before(o.RetainUntil):
		return fmt.Errorf("it is locked until %s: %w", o.RetainUntil.Format(time.RFC3339), ErrNotExpired)
	case o.StoredAt.IsZero():
		return fmt.Errorf("the store does not show when it was stored (Last-Modified): %w", ErrNotExpired)
	case now.Before(floor):
		return fmt.Errorf("it was stored at %s, and six calendar months from then (第十一条) end at %s: %w",
			o.StoredAt.Format(time.RFC3339), floor.Format(time.RFC3339), ErrNotExpired)
	}
	return nil
}

// bucketAnswers tells a version that is gone from a bucket that is: HEAD answers 404
// to both.
func (v *Vault) bucketAnswers(ctx context.Context) error {
	exists, err := v.client.BucketExists(ctx, v.cfg.Bucket)
	if err != nil {
		return fmt.Errorf("look for bucket %s: %w", v.cfg.Bucket, classify(err))
	}
	if !exists {
		return fmt.Errorf("there is no bucket %s at %s: %w", v.cfg.Bucket, v.cfg.name(), ErrUnavailable)
	}
	return nil
}
