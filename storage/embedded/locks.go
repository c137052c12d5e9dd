package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"

	"github.com/bodyworn/ingestd/storage"
)

// errNotLocked is versitygw's answer for a version without the attribute.
var errNotLocked = s3err.GetAPIError(s3err.ErrNoSuchObjectLockConfiguration)

func missing(err error) bool {
	return errors.Is(err, s3err.GetAPIError(s3err.ErrNoSuchKey)) ||
		errors.Is(err, s3err.GetAPIError(s3err.ErrNoSuchVersion))
}

// DeleteObject removes one version whose lock has expired and that nobody holds.
func (g *guard) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	if err := g.disk.accepting(); err != nil {
		return nil, err
	}
	out, err := g.deleteVersion(ctx, in)
	if err := g.commit(err); err != nil {
		return nil, err
	}
	return out, nil
}

// DeleteObjects answers for each version by itself.
func (g *guard) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	var result s3response.DeleteResult
	if err := g.disk.accepting(); err != nil {
		return result, err
	}
	for _, o := range in.Delete.Objects {
		_, err := g.deleteVersion(ctx, &s3.DeleteObjectInput{Bucket: in.Bucket, Key: o.Key, VersionId: o.VersionId})
		if err != nil {
			result.Error = append(result.Error, s3err.ObjectDeleteError(o.Key, o.VersionId, clientError(err)))
			continue
		}
		result.Deleted = append(result.Deleted, types.DeletedObject{Key: o.Key, VersionId: o.VersionId})
	}
	if err := g.commit(nil); err != nil {
		return s3response.DeleteResult{}, err
	}
	return result, nil
}

// deleteVersion asks by itself, whatever the HTTP front has asked before: that
// one lets a hold go once the retention has expired.
func (g *guard) deleteVersion(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	bucket, key, version := value(in.Bucket), value(in.Key), value(in.VersionId)
	if version == "" {
		return nil, refuse("This store makes no delete markers: they would make footage look gone. Name the version to delete.")
	}
	if err := checkVersion(in.Key, version); err != nil {
		return nil, err
	}
	unlock, err := g.publishing(bucket, key)
	if err != nil {
		return nil, err
	}
	defer unlock()

	locked, err := g.locked(ctx, bucket, key, version)
	if missing(err) {
		return &s3.DeleteObjectOutput{VersionId: in.VersionId}, nil // S3: deleting nothing succeeds
	}
	if err != nil {
		return nil, err
	}
	if locked {
		return nil, s3err.GetAPIError(s3err.ErrObjectLocked)
	}
	// To delete the current version, versitygw removes it first and then copies
	// the one before it back. A crash in between hides all older versions.
	current, err := g.attribute(filepath.Join(g.data, bucket, key), attrVersion)
	if err != nil {
		return nil, fmt.Errorf("read current version of %s/%s: %w", bucket, key, err)
	}
	if current == version || current == "" {
		// A crash while this version was being replaced leaves a copy of it aside.
		err := os.Remove(filepath.Join(g.versionsDir(bucket, key), version))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove copy of %s/%s: %w", bucket, key, err)
		}
		older, err := g.olderVersions(bucket, key)
		if err != nil {
			return nil, fmt.Errorf("list versions of %s/%s: %w", bucket, key, err)
		}
		if older {
			return nil, refuse("Older versions of this object exist. Delete them first, the current one last.")
		}
	}
	return g.posix.DeleteObject(unhurried(ctx), in)
}

// locked reports whether a version must stay. It fails closed: a hold that
// can't be read is an error, a retention that is absent or unreadable counts as
// locked, for every version of this store was born with one.
func (g *guard) locked(ctx context.Context, bucket, key, version string) (bool, error) {
	held, err := g.posix.GetObjectLegalHold(unhurried(ctx), bucket, key, version)
	if err != nil && !errors.Is(err, errNotLocked) {
		return false, err
	}
	if held != nil && *held {
		return true, nil
	}
	until, err := g.retainedUntil(ctx, bucket, key, version)
	if err != nil {
		return false, err
	}
	return until.IsZero() || time.Now().Before(until), nil
}

// retainedUntil is the date of a version's lock, zero if it has none that can
// be read.
func (g *guard) retainedUntil(ctx context.Context, bucket, key, version string) (time.Time, error) {
	raw, err := g.posix.GetObjectRetention(unhurried(ctx), bucket, key, version)
	if errors.Is(err, errNotLocked) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	var lock types.ObjectLockRetention
	if err := json.Unmarshal(raw, &lock); err != nil {
		return time.Time{}, fmt.Errorf("the lock of %s can't be read: %w", key, err)
	}
	if lock.RetainUntilDate == nil {
		return time.Time{}, nil
	}
	return *lock.RetainUntilDate, nil
}

// PutObjectRetention only ever moves the date away, in COMPLIANCE mode. The
// bypass header, which versitygw's front evaluates, changes nothing here.
func (g *guard) PutObjectRetention(ctx context.Context, bucket, key, version string, retention []byte) error {
	var asked types.ObjectLockRetention
	if err := json.Unmarshal(retention, &asked); err != nil || asked.RetainUntilDate == nil {
		return s3err.GetAPIError(s3err.ErrMalformedXML)
	}
	if asked.Mode != types.ObjectLockRetentionModeCompliance {
		return refuse("This store keeps COMPLIANCE locks only.")
	}
	return g.change(bucket, key, version, func() error {
		until, err := g.retainedUntil(ctx, bucket, key, version)
		if err != nil {
			return err
		}
		tooShort := asked.RetainUntilDate.Before(until)
		if until.IsZero() && !strings.HasPrefix(key, storage.SelfTestPrefix) {
			tooShort = storage.BelowFloor(*asked.RetainUntilDate, time.Now(), g.zone)
		}
		if tooShort {
			return s3err.GetAPIError(s3err.ErrObjectLocked)
		}
		exact, err := json.Marshal(asked)
		if err != nil {
			return fmt.Errorf("encode retention: %w", err)
		}
		return g.posix.PutObjectRetention(unhurried(ctx), bucket, key, version, exact)
	})
}

// PutObjectLegalHold sets or lifts a hold. Who may lift one is for ingestd to
// decide and to log; the store's part is that a set one can't be overlooked.
func (g *guard) PutObjectLegalHold(ctx context.Context, bucket, key, version string, on bool) error {
	return g.change(bucket, key, version, func() error {
		return g.posix.PutObjectLegalHold(unhurried(ctx), bucket, key, version, on)
	})
}

func (g *guard) PutObjectTagging(ctx context.Context, bucket, key, version string, tags map[string]string) error {
	return g.change(bucket, key, version, func() error {
		return g.posix.PutObjectTagging(unhurried(ctx), bucket, key, version, tags)
	})
}

func (g *guard) DeleteObjectTagging(ctx context.Context, bucket, key, version string) error {
	return g.change(bucket, key, version, func() error {
		return g.posix.DeleteObjectTagging(unhurried(ctx), bucket, key, version)
	})
}

// change alters attributes of one version, durably. It works on a full disk:
// reserveBytes are kept for it.
func (g *guard) change(bucket, key, version string, apply func() error) error {
	if err := g.disk.accepting(); err != nil {
		return err
	}
	if err := checkVersion(&key, version); err != nil {
		return err
	}
	unlock, err := g.publishing(bucket, key)
	if err != nil {
		return err
	}
	err = apply()
	unlock()
	return g.commit(err)
}
