package embedded

import (
	"bufio"
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/s3response"
)

func (g *guard) String() string { return "ingestd embedded store" }
func (g *guard) Shutdown()      { g.posix.Shutdown() }

func (g *guard) NormalizeObjectKey(bucket, object string) string {
	return g.posix.NormalizeObjectKey(bucket, object)
}

// HeadObject shows lock and hold of replaced versions too: versitygw leaves
// them out, and whoever verifies a lock by HEAD must not read that as unlocked.
func (g *guard) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	out, err := g.posix.HeadObject(ctx, in)
	if err != nil || value(in.VersionId) == "" || out.ObjectLockMode != "" {
		return out, err
	}
	lock, held := g.lockOf(ctx, value(in.Bucket), value(in.Key), value(in.VersionId))
	out.ObjectLockMode, out.ObjectLockRetainUntilDate = types.ObjectLockMode(lock.Mode), lock.RetainUntilDate
	if held {
		out.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn
	}
	return out, nil
}

// lockOf is what is known of the lock and the hold of a version; nothing where
// there is none, or where it can't be read: that must not look like a lock.
func (g *guard) lockOf(ctx context.Context, bucket, key, version string) (lock types.ObjectLockRetention, held bool) {
	if raw, err := g.posix.GetObjectRetention(ctx, bucket, key, version); err == nil {
		if json.Unmarshal(raw, &lock) != nil {
			lock = types.ObjectLockRetention{}
		}
	}
	hold, err := g.posix.GetObjectLegalHold(ctx, bucket, key, version)
	return lock, err == nil && hold != nil && *hold
}

// GetObject shows lock and hold as HEAD does and as S3 has it: who reads a version
// back sees in the same answer that it is locked. versitygw leaves them out.
func (g *guard) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	out, err := g.posix.GetObject(ctx, in)
	if err != nil || value(in.VersionId) == "" || out.ObjectLockMode != "" {
		return out, err
	}
	lock, held := g.lockOf(ctx, value(in.Bucket), value(in.Key), value(in.VersionId))
	out.ObjectLockMode, out.ObjectLockRetainUntilDate = types.ObjectLockMode(lock.Mode), lock.RetainUntilDate
	if held {
		out.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn
	}
	return out, nil
}

func (g *guard) GetObjectAcl(ctx context.Context, in *s3.GetObjectAclInput) (*s3.GetObjectAclOutput, error) {
	return g.posix.GetObjectAcl(ctx, in)
}

func (g *guard) GetObjectAttributes(ctx context.Context, in *s3.GetObjectAttributesInput) (s3response.GetObjectAttributesResponse, error) {
	return g.posix.GetObjectAttributes(ctx, in)
}

func (g *guard) GetObjectTagging(ctx context.Context, bucket, object, version string) (map[string]string, error) {
	return g.posix.GetObjectTagging(ctx, bucket, object, version)
}

func (g *guard) GetObjectLockConfiguration(ctx context.Context, bucket string) ([]byte, error) {
	return g.posix.GetObjectLockConfiguration(ctx, bucket)
}

func (g *guard) GetObjectRetention(ctx context.Context, bucket, object, version string) ([]byte, error) {
	return g.posix.GetObjectRetention(ctx, bucket, object, version)
}

func (g *guard) GetObjectLegalHold(ctx context.Context, bucket, object, version string) (*bool, error) {
	return g.posix.GetObjectLegalHold(ctx, bucket, object, version)
}

func (g *guard) SelectObjectContent(ctx context.Context, in *s3.SelectObjectContentInput) func(*bufio.Writer) {
	return g.posix.SelectObjectContent(ctx, in)
}

func (g *guard) ListObjects(ctx context.Context, in *s3.ListObjectsInput) (s3response.ListObjectsResult, error) {
	return g.posix.ListObjects(ctx, in)
}

func (g *guard) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input) (s3response.ListObjectsV2Result, error) {
	return g.posix.ListObjectsV2(ctx, in)
}

func (g *guard) ListMultipartUploads(ctx context.Context, in *s3.ListMultipartUploadsInput) (s3response.ListMultipartUploadsResult, error) {
	return g.posix.ListMultipartUploads(ctx, in)
}

func (g *guard) ListParts(ctx context.Context, in *s3.ListPartsInput) (s3response.ListPartsResult, error) {
	if err := checkUpload(in.Key, in.UploadId); err != nil {
		return s3response.ListPartsResult{}, err
	}
	return g.posix.ListParts(ctx, in)
}

func (g *guard) ListBuckets(ctx context.Context, in s3response.ListBucketsInput) (s3response.ListAllMyBucketsResult, error) {
	return g.posix.ListBuckets(ctx, in)
}

func (g *guard) HeadBucket(ctx context.Context, in *s3.HeadBucketInput) (*s3.HeadBucketOutput, error) {
	return g.posix.HeadBucket(ctx, in)
}

func (g *guard) GetBucketAcl(ctx context.Context, in *s3.GetBucketAclInput) ([]byte, error) {
	return g.posix.GetBucketAcl(ctx, in)
}

func (g *guard) GetBucketVersioning(ctx context.Context, bucket string) (s3response.GetBucketVersioningOutput, error) {
	return g.posix.GetBucketVersioning(ctx, bucket)
}

func (g *guard) GetBucketPolicy(ctx context.Context, bucket string) ([]byte, error) {
	return g.posix.GetBucketPolicy(ctx, bucket)
}

func (g *guard) GetBucketOwnershipControls(ctx context.Context, bucket string) (types.ObjectOwnership, error) {
	return g.posix.GetBucketOwnershipControls(ctx, bucket)
}

func (g *guard) GetBucketCors(ctx context.Context, bucket string) ([]byte, error) {
	return g.posix.GetBucketCors(ctx, bucket)
}

func (g *guard) GetBucketWebsite(ctx context.Context, bucket string) ([]byte, error) {
	return g.posix.GetBucketWebsite(ctx, bucket)
}

func (g *guard) GetBucketTagging(ctx context.Context, bucket string) (map[string]string, error) {
	return g.posix.GetBucketTagging(ctx, bucket)
}
