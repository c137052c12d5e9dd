package embedded

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
)

func TestEveryVersionIsLockedToTheFloor(t *testing.T) {
	_, c := openVault(t)
	now := time.Now()
	enough := storage.RetainUntil(now, 9, location(t))
	for _, tc := range []struct {
		name  string
		mode  minio.RetentionMode
		until time.Time
		want  time.Time // zero: the floor
	}{
		{name: "none"},
		{name: "short", mode: minio.Compliance, until: now.Add(time.Hour)},
		{name: "180-days", mode: minio.Compliance, until: now.AddDate(0, 0, 180)},
		{name: "governance", mode: minio.Governance, until: enough, want: enough},
		{name: "longer", mode: minio.Compliance, until: enough, want: enough},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := footage(3, 3000)
			mustPut(t, c, "single/"+tc.name, data, minio.PutObjectOptions{Mode: tc.mode, RetainUntilDate: tc.until})
			multipart(t, c, "multi/"+tc.name, data, minio.PutObjectOptions{Mode: tc.mode, RetainUntilDate: tc.until})
			for _, key := range []string{"single/" + tc.name, "multi/" + tc.name} {
				checkWholeAndLocked(t, c, key, "", data)
				info, err := c.StatObject(within(t), bucket, key, minio.StatObjectOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if got := lockedUntil(t, info); !tc.want.IsZero() && !got.Equal(tc.want) {
					t.Errorf("%s is locked until %s, want %s", key, got, tc.want)
				}
			}
		})
	}
}

// multipart uploads data as one part.
func multipart(t *testing.T, c *minio.Core, key string, data []byte, opts minio.PutObjectOptions) string {
	t.Helper()
	ctx := within(t)
	id, err := c.NewMultipartUpload(ctx, bucket, key, opts)
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.PutObjectPart(ctx, bucket, key, id, 1, bytes.NewReader(data), int64(len(data)), minio.PutObjectPartOptions{DisableContentSha256: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CompleteMultipartUpload(ctx, bucket, key, id, []minio.CompletePart{{PartNumber: 1, ETag: part.ETag}}, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	return id
}

// An upload may be older than the floor allows for the object it becomes.
func TestCompleteRaisesAnOldLock(t *testing.T) {
	s, c := openVault(t)
	data, ctx := footage(4, 100), within(t)
	id, err := c.NewMultipartUpload(ctx, bucket, "old", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{data: s.root.join(dataName)}
	dir := g.uploadDir(bucket, "old", id)
	if err := g.attrs.XattrMeta.StoreAttribute(nil, dir, "", attrRetention, []byte(`{"Mode":"GOVERNANCE","RetainUntilDate":"2001-01-01T00:00:00Z"}`)); err != nil {
		t.Fatal(err)
	}
	part, err := c.PutObjectPart(ctx, bucket, "old", id, 1, bytes.NewReader(data), int64(len(data)), minio.PutObjectPartOptions{DisableContentSha256: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CompleteMultipartUpload(ctx, bucket, "old", id, []minio.CompletePart{{PartNumber: 1, ETag: part.ETag}}, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	checkWholeAndLocked(t, c, "old", "", data)
}

func TestHoldOutlivesRetention(t *testing.T) {
	_, c := openVault(t)
	opts := minio.PutObjectOptions{Mode: minio.Compliance, RetainUntilDate: time.Now().Add(2 * time.Second)}
	free := mustPut(t, c, storage.SelfTestPrefix+"free", []byte("x"), opts)
	opts.LegalHold = minio.LegalHoldEnabled
	held := mustPut(t, c, storage.SelfTestPrefix+"held", []byte("x"), opts)
	later := mustPut(t, c, storage.SelfTestPrefix+"later", []byte("x"), minio.PutObjectOptions{Mode: opts.Mode, RetainUntilDate: opts.RetainUntilDate})
	if err := setHold(t, c, later, minio.LegalHoldEnabled); err != nil {
		t.Fatal(err)
	}

	if err := remove(t, c, free); !denied(err) {
		t.Errorf("delete before expiry: got %v, want AccessDenied", err)
	}
	eventually(t, "a two-second lock to expire", func() bool { return remove(t, c, free) == nil })
	for _, info := range []minio.UploadInfo{held, later} {
		if err := remove(t, c, info); !denied(err) {
			t.Errorf("delete %s, held, after expiry: got %v, want AccessDenied", info.Key, err)
		}
		for _, code := range removeMany(t, c, info) {
			if code != "AccessDenied" {
				t.Errorf("multi-delete %s, held, after expiry: got %q, want AccessDenied", info.Key, code)
			}
		}
		if err := setHold(t, c, info, minio.LegalHoldDisabled); err != nil {
			t.Fatal(err)
		}
		if err := remove(t, c, info); err != nil {
			t.Errorf("delete %s after the hold was lifted: %v", info.Key, err)
		}
		if _, err := c.StatObject(within(t), bucket, info.Key, minio.StatObjectOptions{}); !absent(err) {
			t.Errorf("%s is still there: %v", info.Key, err)
		}
	}
}

func setHold(t *testing.T, c *minio.Core, info minio.UploadInfo, hold minio.LegalHoldStatus) error {
	t.Helper()
	return c.PutObjectLegalHold(within(t), bucket, info.Key, minio.PutObjectLegalHoldOptions{VersionID: info.VersionID, Status: &hold})
}

func remove(t *testing.T, c *minio.Core, info minio.UploadInfo) error {
	t.Helper()
	return c.RemoveObject(within(t), bucket, info.Key, minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: true})
}

// removeMany returns an error code for each version that stayed.
func removeMany(t *testing.T, c *minio.Core, infos ...minio.UploadInfo) []string {
	t.Helper()
	objects := make(chan minio.ObjectInfo, len(infos))
	for _, info := range infos {
		objects <- minio.ObjectInfo{Key: info.Key, VersionID: info.VersionID}
	}
	close(objects)
	var codes []string
	for res := range c.RemoveObjectsWithResult(within(t), bucket, objects, minio.RemoveObjectsOptions{GovernanceBypass: true}) {
		if res.Err != nil {
			codes = append(codes, minio.ToErrorResponse(res.Err).Code)
		}
	}
	return codes
}

// One key's lock must not decide about another's.
func TestMultiDeleteAnswersForEachVersion(t *testing.T) {
	_, c := openVault(t)
	opts := minio.PutObjectOptions{Mode: minio.Compliance, RetainUntilDate: time.Now().Add(time.Second)}
	expiring := mustPut(t, c, storage.SelfTestPrefix+"expiring", []byte("x"), opts)
	locked := mustPut(t, c, "locked", []byte("x"), minio.PutObjectOptions{})
	unversioned := minio.UploadInfo{Key: "locked"}
	eventually(t, "the expired version to go", func() bool {
		codes := removeMany(t, c, locked, expiring, unversioned)
		return len(codes) == 2 && codes[0] == "AccessDenied" && codes[1] == "AccessDenied"
	})
	checkWholeAndLocked(t, c, "locked", "", []byte("x"))
}

func TestRetentionOnlyGrows(t *testing.T) {
	_, c := openVault(t)
	info := mustPut(t, c, "a", []byte("x"), minio.PutObjectOptions{})
	before, err := c.StatObject(within(t), bucket, "a", minio.StatObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	until := lockedUntil(t, before)
	set := func(mode minio.RetentionMode, until time.Time) error {
		return c.PutObjectRetention(within(t), bucket, "a", minio.PutObjectRetentionOptions{
			VersionID: info.VersionID, Mode: &mode, RetainUntilDate: &until, GovernanceBypass: true,
		})
	}
	for name, err := range map[string]error{
		"shorter":               set(minio.Compliance, until.Add(-time.Second)),
		"governance":            set(minio.Governance, until),
		"longer but governance": set(minio.Governance, until.AddDate(1, 0, 0)),
	} {
		if !denied(err) {
			t.Errorf("%s: got %v, want AccessDenied", name, err)
		}
	}
	longer := until.AddDate(0, 6, 0)
	if err := set(minio.Compliance, longer); err != nil {
		t.Fatal(err)
	}
	after, err := c.StatObject(within(t), bucket, "a", minio.StatObjectOptions{VersionID: info.VersionID})
	if err != nil || !lockedUntil(t, after).Equal(longer) {
		t.Errorf("locked until %v (%v), want %s", lockedUntil(t, after), err, longer)
	}
}

func TestReplacedVersionStaysLockedAndReadable(t *testing.T) {
	_, c := openVault(t)
	old, recent := footage(5, 70_000), footage(6, 50_000)
	first := mustPut(t, c, "dir/a", old, minio.PutObjectOptions{LegalHold: minio.LegalHoldEnabled})
	second := mustPut(t, c, "dir/a", recent, minio.PutObjectOptions{})
	checkWholeAndLocked(t, c, "dir/a", first.VersionID, old)
	checkWholeAndLocked(t, c, "dir/a", second.VersionID, recent)
	checkWholeAndLocked(t, c, "dir/a", "", recent)
	head, err := c.StatObject(within(t), bucket, "dir/a", minio.StatObjectOptions{VersionID: first.VersionID})
	if err != nil || head.Metadata.Get("X-Amz-Object-Lock-Legal-Hold") != "ON" {
		t.Errorf("the hold of the replaced version is not shown: %v %v", head.Metadata, err)
	}
	for _, info := range []minio.UploadInfo{first, second} {
		if err := remove(t, c, info); !denied(err) {
			t.Errorf("delete version %s: got %v, want AccessDenied", info.VersionID, err)
		}
	}
	once := minio.PutObjectOptions{}
	once.SetMatchETagExcept("*")
	if _, err := put(within(t), c, "dir/a", footage(6, 20<<20), once); status(err) != http.StatusPreconditionFailed {
		t.Errorf("put with If-None-Match: got %v, want 412", err)
	}
}

// versitygw deletes a current version by copying the one before it back; a
// crash in between would hide it.
func TestCurrentVersionGoesLast(t *testing.T) {
	_, c := openVault(t)
	opts := minio.PutObjectOptions{Mode: minio.Compliance, RetainUntilDate: time.Now().Add(time.Second)}
	key := storage.SelfTestPrefix + "v"
	first := mustPut(t, c, key, []byte("1"), opts)
	second := mustPut(t, c, key, []byte("2"), opts)
	eventually(t, "a one-second lock to expire", func() bool {
		err := remove(t, c, second)
		if err == nil {
			t.Fatal("the current version was deleted before the older one")
		}
		return strings.Contains(err.Error(), "Older versions")
	})
	for _, info := range []minio.UploadInfo{first, second} {
		if err := remove(t, c, info); err != nil {
			t.Errorf("delete %s: %v", info.VersionID, err)
		}
	}
	if keys := listKeys(t, c); len(keys) != 0 {
		t.Errorf("left: %v", keys)
	}
}

func TestNoDeleteMarkers(t *testing.T) {
	_, c := openVault(t)
	mustPut(t, c, "a", []byte("x"), minio.PutObjectOptions{})
	if err := c.RemoveObject(within(t), bucket, "a", minio.RemoveObjectOptions{}); !denied(err) {
		t.Errorf("got %v, want AccessDenied", err)
	}
	checkWholeAndLocked(t, c, "a", "", []byte("x"))
}
