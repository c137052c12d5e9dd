package embedded

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// One tenant, one purpose: nothing below is needed to keep footage, and each
// could be used to weaken or to hide it. Lifecycle, encryption, replication and
// the like have no method here; versitygw's front answers NotImplemented.

func notForThisStore(what string) error {
	return refuse("This store does not allow " + what + ".")
}

func (g *guard) DeleteBucket(context.Context, string) error {
	return notForThisStore("deleting a bucket")
}

// PutObjectLockConfiguration: lock is on from birth, and a default rule would
// be a promise that versitygw does not keep: it counts from the day the rule
// was made and is not stored with the object. Every object has its own lock.
func (g *guard) PutObjectLockConfiguration(context.Context, string, []byte) error {
	return notForThisStore("changing the lock rule of a bucket; every object carries its own lock")
}

// PutBucketVersioning accepts what is true anyway: some clients enable
// versioning to be sure.
func (g *guard) PutBucketVersioning(ctx context.Context, bucket string, status types.BucketVersioningStatus) error {
	now, err := g.posix.GetBucketVersioning(ctx, bucket)
	if err != nil {
		return err
	}
	if status == types.BucketVersioningStatusEnabled && now.Status != nil && *now.Status == status {
		return nil
	}
	return notForThisStore("suspending versioning")
}

func (g *guard) PutBucketPolicy(context.Context, string, []byte) error {
	return notForThisStore("bucket policies")
}

func (g *guard) DeleteBucketPolicy(context.Context, string) error {
	return notForThisStore("bucket policies")
}

func (g *guard) PutBucketAcl(context.Context, string, []byte) error {
	return notForThisStore("access control lists")
}

func (g *guard) PutObjectAcl(context.Context, *s3.PutObjectAclInput) error {
	return notForThisStore("access control lists")
}

func (g *guard) PutBucketOwnershipControls(context.Context, string, types.ObjectOwnership) error {
	return notForThisStore("ownership controls")
}

func (g *guard) DeleteBucketOwnershipControls(context.Context, string) error {
	return notForThisStore("ownership controls")
}

func (g *guard) ChangeBucketOwner(context.Context, string, string) error {
	return notForThisStore("changing the owner of a bucket")
}

func (g *guard) PutBucketCors(context.Context, string, []byte) error {
	return notForThisStore("cross-origin rules")
}

func (g *guard) DeleteBucketCors(context.Context, string) error {
	return notForThisStore("cross-origin rules")
}

func (g *guard) PutBucketWebsite(context.Context, string, []byte) error {
	return notForThisStore("website hosting")
}

func (g *guard) DeleteBucketWebsite(context.Context, string) error {
	return notForThisStore("website hosting")
}

func (g *guard) PutBucketTagging(context.Context, string, map[string]string) error {
	return notForThisStore("bucket tags")
}

func (g *guard) DeleteBucketTagging(context.Context, string) error {
	return notForThisStore("bucket tags")
}

// CopyObject would need locks set before the copy is visible, and onto itself
// it rewrites an object's metadata in place. Who wants a copy sends the bytes.
func (g *guard) CopyObject(context.Context, s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	return s3response.CopyObjectOutput{}, s3err.GetAPIError(s3err.ErrNotImplemented)
}

func (g *guard) UploadPartCopy(context.Context, *s3.UploadPartCopyInput) (s3response.CopyPartResult, error) {
	return s3response.CopyPartResult{}, s3err.GetAPIError(s3err.ErrNotImplemented)
}

func (g *guard) RestoreObject(context.Context, *s3.RestoreObjectInput) error {
	return s3err.GetAPIError(s3err.ErrNotImplemented)
}

// ListBucketsAndOwners belongs to the administration interface, which is closed.
func (g *guard) ListBucketsAndOwners(context.Context) ([]s3response.Bucket, error) {
	return nil, notForThisStore("administration over HTTP")
}
