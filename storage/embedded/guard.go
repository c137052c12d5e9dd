package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/storage"
)

// The attributes in which versitygw keeps what the guard must know. They are
// part of its format on disk.
const (
	attrVersion   = "version-id"
	attrRetention = "object-retention"
	attrHold      = "object-legal-hold"
	attrTags      = "X-Amz-Tagging"
	attrMultipart = "mp-metadata"
	attrKey       = "objname"
	attrETag      = "etag"
	attrLock      = "bucket-lock"
)

// guard is the backend that versitygw's HTTP front talks to. It names every
// method of backend.Backend and embeds nothing: a method that a later versitygw
// adds stops the build until someone has decided whether it may pass.
//
//	reads.go    passed through
//	versions.go the listing of versions
//	writes.go   new objects: locked to the floor, durable, whole
//	locks.go    holds, retention, deletion, tags
//	refused.go  never
type guard struct {
	posix    *posix.Posix
	disk     *disk
	attrs    attributes
	data     string // absolute path of root/data
	versions string // absolute path of root/versions
	zone     *time.Location
}

var _ backend.Backend = (*guard)(nil)

// unhurried keeps the request's values but not its end: the server's context is
// cancelled the moment it begins to shut down, and what is in flight then must
// be finished, not given up at the last step.
func unhurried(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// commit ends every mutation: what was written is durable, or the client gets
// an error. An error of the write itself needs no sync; it promises nothing.
func (g *guard) commit(err error) error {
	if err != nil {
		return clientError(err)
	}
	return g.disk.commit()
}

// clientError takes a full disk out of the wrapping in which versitygw would
// answer 500: 507 tells the client to stop retrying and tell a person.
func clientError(err error) error {
	full := s3err.GetAPIError(s3err.ErrNoSpaceLeftOnDevice)
	if errors.Is(err, full) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return full
	}
	var failed s3err.APIError // a failed disk, from inside a versitygw call
	if errors.As(err, &failed) {
		return failed
	}
	return err
}

func refuse(why string) error {
	return s3err.APIError{Code: "AccessDenied", Description: why, HTTPStatusCode: http.StatusForbidden}
}

// checkKey admits only keys that name one file and always the same: "a//b" or
// "selftest/../footage/x" would reach the file of another key, past the lock
// rules of that key, and .sgwtmp is where uploads in progress lie. A key with
// a trailing slash would become a folder, which can't be locked.
func checkKey(key *string) error {
	k := value(key)
	first, _, _ := strings.Cut(k, "/")
	if k == "" || path.Clean("/"+k) != "/"+k || first == posix.MetaTmpDir || strings.ContainsRune(k, 0) {
		return s3err.APIError{
			Code:           "InvalidArgument",
			Description:    fmt.Sprintf("The key %q is not a plain path: no empty, \".\" or \"..\" parts, no slash at either end, nothing below %s.", k, posix.MetaTmpDir),
			HTTPStatusCode: http.StatusBadRequest,
		}
	}
	return nil
}

// versitygw joins ids from the request to paths. Its own check of a version id
// looks at the length only, an upload id is not checked at all, and aborting
// upload "../../x" removes a folder of footage.
var (
	uploadIDForm  = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	versionIDForm = regexp.MustCompile(`^([0-7][0-9A-HJKMNP-TV-Z]{25}|null)$`)
)

func checkUpload(key, uploadID *string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if !uploadIDForm.MatchString(value(uploadID)) {
		return s3err.GetNoSuchUploadErr(value(uploadID))
	}
	return nil
}

func checkVersion(key *string, versionID string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if versionID != "" && !versionIDForm.MatchString(versionID) {
		return s3err.GetInvalidArgumentErr(s3err.InvalidArgVersionId, versionID)
	}
	return nil
}

// checkBucket refuses to write where locks would not be enforced.
func (g *guard) checkBucket(ctx context.Context, bucket *string) error {
	raw, err := g.posix.GetObjectLockConfiguration(unhurried(ctx), value(bucket))
	if err != nil {
		return err
	}
	var config auth.BucketLockConfig
	if err := json.Unmarshal(raw, &config); err != nil || !config.Enabled {
		return refuse(fmt.Sprintf("The bucket %s has no object lock.", value(bucket)))
	}
	return nil
}

// lockFor is the lock that a version created now gets: at least what was asked
// for, never less than the floor. Below the self-test prefix a shorter date
// stands, but the mode does not: a test of COMPLIANCE must test COMPLIANCE.
func (g *guard) lockFor(key string, asked *time.Time) types.ObjectLockRetention {
	now := time.Now()
	short := asked == nil || asked.IsZero() || storage.BelowFloor(*asked, now, g.zone)
	if short && strings.HasPrefix(key, storage.SelfTestPrefix) && asked != nil && asked.After(now) {
		short = false
	}
	until := asked
	if short {
		floor := storage.RetainUntil(now, storage.FloorMonths, g.zone).UTC()
		until = &floor
	}
	return types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeCompliance, RetainUntilDate: until}
}

// publishing excludes, for one key, every change of which version is current or
// of what a version carries. It takes the very lock file that versitygw holds
// while it replaces an object: a hold set in that moment would otherwise be
// written to the file that is about to lose its name, and be gone.
func (g *guard) publishing(bucket, key string) (unlock func(), err error) {
	dir := filepath.Join(g.data, ".vgwlocks", fmt.Sprintf("%x", sha256.Sum256([]byte(bucket))))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make lock folder: %w", err)
	}
	name := filepath.Join(dir, fmt.Sprintf("%02x", sha256.Sum256([]byte(key))[0]))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of %s/%s: %w", bucket, key, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s/%s: %w", bucket, key, err)
	}
	return func() { f.Close() }, nil
}

// uploadDir is where versitygw collects the parts of an upload.
func (g *guard) uploadDir(bucket, key, uploadID string) string {
	return filepath.Join(g.data, bucket, posix.MetaTmpMultipartDir,
		fmt.Sprintf("%x", sha256.Sum256([]byte(key))), uploadID)
}

// versionsDir is where versitygw keeps the replaced versions of a key.
func (g *guard) versionsDir(bucket, key string) string {
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(key)))
	return filepath.Join(g.versions, bucket, sum[:2], sum[2:4], sum[4:6], sum)
}

// olderVersions reports whether replaced versions of the key are kept.
func (g *guard) olderVersions(bucket, key string) (bool, error) {
	entries, err := os.ReadDir(g.versionsDir(bucket, key))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

// attribute reads one attribute of a path, "" if it is not set.
func (g *guard) attribute(path, name string) (string, error) {
	raw, err := g.attrs.RetrieveAttribute(nil, path, "", name)
	if errors.Is(err, meta.ErrNoSuchKey) {
		return "", nil
	}
	return string(raw), err
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
