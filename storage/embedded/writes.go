package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// CreateBucket accepts only buckets with object lock, and so with versioning.
func (g *guard) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	if in.ObjectLockEnabledForBucket == nil || !*in.ObjectLockEnabledForBucket {
		return refuse("This store keeps only buckets with object lock: create the bucket with x-amz-bucket-object-lock-enabled.")
	}
	if err := g.disk.room(0); err != nil {
		return err
	}
	err := g.posix.CreateBucket(unhurried(ctx), in, acl)
	if err == nil {
		err = g.makeStaging(value(in.Bucket))
	}
	return g.commit(err)
}

// makeStaging creates the folders in which objects wait for their name. Without
// them versitygw falls back from nameless files to named ones, which a crash
// leaves behind.
func (g *guard) makeStaging(bucket string) error {
	for _, dir := range []string{g.data, g.versions} {
		if err := os.MkdirAll(filepath.Join(dir, bucket, posix.MetaTmpDir), 0o700); err != nil {
			return fmt.Errorf("make staging folder of bucket %s: %w", bucket, err)
		}
	}
	return nil
}

// PutObject stores one object.
//
//  1. The body goes to a nameless file. A crash leaves nothing.
//  2. Lock, hold and tags are set on it. versitygw would do that only after
//     step 4, and a crash in between would leave footage without a lock.
//  3. A replaced version is copied aside and synced, then the new file is
//     synced (attributes.StoreAttribute).
//  4. The file gets its name: from here on it is visible, whole and locked.
//  5. commit makes the name durable. Only then the client gets 200.
func (g *guard) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	bytes, read := length(in.ContentLength), false
	defer drainUnless(&read, in.Body)
	if err := g.mayCreate(ctx, in.Bucket, in.Key, bytes); err != nil {
		return s3response.PutObjectOutput{}, err
	}
	attrs, err := g.lockAttributes(in)
	if err != nil {
		return s3response.PutObjectOutput{}, err
	}
	in.ObjectLockMode, in.ObjectLockRetainUntilDate, in.ObjectLockLegalHoldStatus, in.Tagging = "", nil, "", nil
	out, err := g.posix.PutObjectWithPostFunc(unhurried(ctx), in, func(f *os.File) error {
		read = true
		if err := checkWhole(f, bytes); err != nil {
			return err
		}
		for name, data := range attrs {
			if err := g.attrs.StoreAttribute(f, value(in.Bucket), value(in.Key), name, data); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
		crashPoint("store.put.locked")
		return nil
	})
	crashPoint("store.put.published")
	err = g.commit(err)
	crashPoint("store.put.answer")
	return out, err
}

func length(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// drainUnless takes the rest of a refused body. A client that is still sending
// when the connection closes sees a broken pipe, not that the disk is full or
// the object exists.
func drainUnless(read *bool, body io.Reader) {
	if !*read && body != nil {
		_, _ = io.Copy(io.Discard, body)
	}
}

// mayCreate asks everything that can be asked before the body is read.
func (g *guard) mayCreate(ctx context.Context, bucket, key *string, bytes int64) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := g.checkBucket(ctx, bucket); err != nil {
		return err
	}
	return g.disk.room(bytes)
}

// lockAttributes are the attributes that an object must have before its name.
func (g *guard) lockAttributes(in s3response.PutObjectInput) (map[string][]byte, error) {
	retention, err := json.Marshal(g.lockFor(value(in.Key), in.ObjectLockRetainUntilDate))
	if err != nil {
		return nil, fmt.Errorf("encode retention: %w", err)
	}
	attrs := map[string][]byte{attrRetention: retention}
	if in.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn {
		attrs[attrHold] = []byte{1}
	}
	tags, err := backend.ParseObjectTags(value(in.Tagging))
	if err != nil {
		return nil, err
	}
	if tags != nil {
		if attrs[attrTags], err = json.Marshal(tags); err != nil {
			return nil, fmt.Errorf("encode tags: %w", err)
		}
	}
	return attrs, nil
}

// checkWhole refuses a body that ended early without an error. versitygw would
// publish what it got, or, for a part, pad it with the zeros it had reserved.
func checkWhole(f *os.File, bytes int64) error {
	written, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("ask for written size: %w", err)
	}
	if written != bytes {
		return s3err.APIError{
			Code:           "IncompleteBody",
			Description:    fmt.Sprintf("The body ended after %d of %d bytes.", written, bytes),
			HTTPStatusCode: http.StatusBadRequest,
		}
	}
	return nil
}

// CreateMultipartUpload raises the lock as PutObject does; the finished object
// inherits it.
func (g *guard) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	if err := g.mayCreate(ctx, in.Bucket, in.Key, 0); err != nil {
		return s3response.InitiateMultipartUploadResult{}, err
	}
	lock := g.lockFor(value(in.Key), in.ObjectLockRetainUntilDate)
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockMode(lock.Mode), lock.RetainUntilDate
	out, err := g.posix.CreateMultipartUpload(unhurried(ctx), in)
	crashPoint("store.begin.published")
	return out, g.commit(err)
}

// UploadPart syncs the part before it gets its name: a resumed upload believes
// the size and checksum that ListParts shows.
func (g *guard) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	bytes, read := length(in.ContentLength), false
	defer drainUnless(&read, in.Body)
	if err := checkUpload(in.Key, in.UploadId); err != nil {
		return nil, err
	}
	if err := g.disk.room(bytes); err != nil {
		return nil, err
	}
	out, err := g.posix.UploadPartWithPostFunc(unhurried(ctx), in, func(f *os.File) error {
		read = true
		if err := checkWhole(f, bytes); err != nil {
			return err
		}
		err := g.disk.syncData(f)
		crashPoint("store.part.durable")
		return err
	})
	crashPoint("store.part.published")
	if err := g.commit(err); err != nil {
		return nil, err
	}
	crashPoint("store.part.answer")
	return out, nil
}

// CompleteMultipartUpload puts the parts together.
//
//  1. The lock is raised again: uploads may be old, and the floor counts from
//     the day on which the object exists.
//  2. versitygw moves the parts to <id>.<etag>.inprogress, copies them into a
//     nameless file, syncs it (attributes.StoreAttribute) and names it. A crash
//     before the name leaves the parts; the next start moves them back.
//  3. versitygw answers "done" also when it finds that folder in use, or no
//     such upload but any object of that name. published tells the truth.
//  4. commit.
func (g *guard) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	var none s3response.CompleteMultipartUploadResult
	if err := checkUpload(in.Key, in.UploadId); err != nil {
		return none, "", err
	}
	if err := g.mayCreate(ctx, in.Bucket, in.Key, 0); err != nil {
		return none, "", err
	}
	if err := g.raiseUploadLock(value(in.Bucket), value(in.Key), value(in.UploadId)); err != nil {
		return none, "", clientError(err)
	}
	crashPoint("store.complete.lock_raised")
	out, version, err := g.posix.CompleteMultipartUpload(unhurried(ctx), in)
	crashPoint("store.complete.published")
	if err == nil && version == "" {
		version, err = g.published(value(in.Bucket), value(in.Key), value(in.UploadId))
	}
	if err := g.commit(err); err != nil {
		return none, "", err
	}
	crashPoint("store.complete.answer")
	return out, version, nil
}

func (g *guard) raiseUploadLock(bucket, key, uploadID string) error {
	dir := g.uploadDir(bucket, key, uploadID)
	raw, err := g.attribute(dir, attrRetention)
	if errors.Is(err, os.ErrNotExist) {
		return nil // finished, in progress or never begun: published will say
	}
	if err != nil {
		return fmt.Errorf("read lock of upload %s: %w", uploadID, err)
	}
	var lock types.ObjectLockRetention
	if raw != "" {
		if err := json.Unmarshal([]byte(raw), &lock); err != nil {
			return fmt.Errorf("read lock of upload %s: %w", uploadID, err)
		}
	}
	fresh, err := json.Marshal(g.lockFor(key, lock.RetainUntilDate))
	if err != nil {
		return fmt.Errorf("encode retention: %w", err)
	}
	return g.attrs.StoreAttribute(nil, dir, "", attrRetention, fresh)
}

// published returns the version that the upload became.
func (g *guard) published(bucket, key, uploadID string) (string, error) {
	file := filepath.Join(g.data, bucket, key)
	done, err := g.isUpload(file, uploadID)
	if err != nil {
		return "", err
	}
	if done {
		return g.attribute(file, attrVersion)
	}
	entries, err := os.ReadDir(filepath.Dir(g.uploadDir(bucket, key, uploadID)))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("look for upload %s: %w", uploadID, err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), uploadID+".") {
			return "", s3err.APIError{
				Code:           "SlowDown",
				Description:    "Another request is completing this upload. Ask again.",
				HTTPStatusCode: http.StatusServiceUnavailable,
			}
		}
	}
	return "", s3err.GetNoSuchUploadErr(uploadID)
}

// AbortMultipartUpload removes parts. They are not footage: nothing has been
// acknowledged as stored.
func (g *guard) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput) error {
	if err := checkUpload(in.Key, in.UploadId); err != nil {
		return err
	}
	if err := g.disk.accepting(); err != nil {
		return err
	}
	return g.commit(g.posix.AbortMultipartUpload(unhurried(ctx), in))
}
