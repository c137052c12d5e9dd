package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// ListObjectVersions is not versitygw's: that one repeats the last version of a
// page on the next, walks the whole bucket for each, and lists nothing more
// once the version at the page's end has been deleted. An audit that sees less
// than there is would be worse than none.
//
// It relies on the store having no delete markers: every key has a current
// version, so that the listing of keys finds all.
func (g *guard) ListObjectVersions(ctx context.Context, in *s3.ListObjectVersionsInput) (s3response.ListVersionsResult, error) {
	var none s3response.ListVersionsResult
	if value(in.Delimiter) != "" {
		return none, s3err.GetAPIError(s3err.ErrNotImplemented)
	}
	limit := int32(1000)
	if in.MaxKeys != nil {
		limit = *in.MaxKeys
	}
	out := s3response.ListVersionsResult{
		Name: in.Bucket, Prefix: in.Prefix, Delimiter: in.Delimiter, MaxKeys: in.MaxKeys,
		KeyMarker: in.KeyMarker, VersionIdMarker: in.VersionIdMarker,
	}
	// One more than fits tells whether the page is the last.
	versions, err := g.versionsAfter(ctx, in, int(limit)+1)
	if err != nil {
		return none, err
	}
	truncated := len(versions) > int(limit) && limit > 0
	if truncated {
		last := versions[limit-1]
		out.NextKeyMarker, out.NextVersionIdMarker = last.Key, last.VersionId
	}
	out.IsTruncated, out.Versions = &truncated, versions[:min(len(versions), int(limit))]
	return out, nil
}

func (g *guard) versionsAfter(ctx context.Context, in *s3.ListObjectVersionsInput, enough int) ([]s3response.ObjectVersion, error) {
	bucket, marker := value(in.Bucket), value(in.KeyMarker)
	var found []s3response.ObjectVersion
	if version := value(in.VersionIdMarker); version != "" && strings.HasPrefix(marker, value(in.Prefix)) {
		all, err := g.keyVersions(bucket, marker)
		if err != nil {
			return nil, err
		}
		for _, v := range all { // newest first, and version ids sort by time
			if value(v.VersionId) < version {
				found = append(found, v)
			}
		}
	}
	for len(found) < enough {
		page, most := marker, int32(min(enough-len(found), 1000))
		keys, err := g.posix.ListObjects(ctx, &s3.ListObjectsInput{Bucket: in.Bucket, Prefix: in.Prefix, Delimiter: in.Delimiter, Marker: &page, MaxKeys: &most})
		if err != nil {
			return nil, err
		}
		for _, object := range keys.Contents {
			all, err := g.keyVersions(bucket, value(object.Key))
			if err != nil {
				return nil, err
			}
			found = append(found, all...)
			marker = value(object.Key)
		}
		if keys.IsTruncated == nil || !*keys.IsTruncated || len(keys.Contents) == 0 {
			break
		}
	}
	return found, nil
}

// keyVersions lists one key's versions, newest first. A version that vanishes
// meanwhile has been deleted.
func (g *guard) keyVersions(bucket, key string) ([]s3response.ObjectVersion, error) {
	var found []s3response.ObjectVersion
	current, err := g.version(filepath.Join(g.data, bucket, key), key, "")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	yes := true
	current.IsLatest = &yes
	found = append(found, current)
	dir := g.versionsDir(bucket, key)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list versions of %s/%s: %w", bucket, key, err)
	}
	for _, entry := range slices.Backward(entries) {
		// A copy of the current version is what a crash leaves that came between
		// moving it aside and naming its successor.
		if !versionIDForm.MatchString(entry.Name()) || entry.Name() == value(current.VersionId) {
			continue
		}
		old, err := g.version(filepath.Join(dir, entry.Name()), key, entry.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, old)
	}
	return found, nil
}

// version describes the file of one version; an empty id is read from it.
func (g *guard) version(file, key, id string) (s3response.ObjectVersion, error) {
	info, err := os.Stat(file)
	if err != nil {
		return s3response.ObjectVersion{}, err
	}
	etag, err := g.attribute(file, attrETag)
	if err == nil && id == "" {
		if id, err = g.attribute(file, attrVersion); id == "" {
			id = "null"
		}
	}
	if err != nil {
		return s3response.ObjectVersion{}, fmt.Errorf("read version of %s: %w", key, err)
	}
	no, bytes, modified := false, info.Size(), info.ModTime()
	return s3response.ObjectVersion{
		Key: &key, VersionId: &id, ETag: &etag, Size: &bytes, LastModified: &modified, IsLatest: &no,
		StorageClass: types.ObjectVersionStorageClassStandard,
	}, nil
}
