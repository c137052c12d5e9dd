package embedded

import (
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3response"
	"golang.org/x/sys/unix"
)

func multipartETag(etag string) (string, error) {
	one := int32(1)
	return backend.ComputeMultipartETagFromPartETags([]types.CompletedPart{{ETag: &etag, PartNumber: &one}})
}

// A sync that had started before a write finished may have passed it over.
func TestCommitWaitsForASyncThatStartedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(nil)
		var started, running atomic.Int32
		d.syncAll = func() error {
			started.Add(1)
			if running.Add(1) != 1 {
				t.Error("two syncs run at once")
			}
			time.Sleep(time.Second)
			running.Add(-1)
			return nil
		}
		var wg sync.WaitGroup
		commit := func(wantSync int32) {
			wg.Go(func() {
				before := started.Load()
				if err := d.commit(); err != nil {
					t.Error(err)
				}
				if before >= wantSync {
					t.Errorf("came after sync %d had started, want before", before)
				}
				if got := started.Load(); got < wantSync {
					t.Errorf("returned after %d syncs, want %d", got, wantSync)
				}
			})
		}
		commit(1)
		synctest.Wait()
		for range 50 { // all too late for the first, one sync serves them all
			commit(2)
		}
		wg.Wait()
		if got := started.Load(); got != 2 {
			t.Errorf("%d syncs, want 2", got)
		}
	})
}

func TestFailedSyncIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(nil)
		var syncs atomic.Int32
		d.syncAll = func() error {
			time.Sleep(time.Second)
			if syncs.Add(1) == 1 {
				return unix.EIO
			}
			return nil // what a kernel says after it has dropped the pages
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if err := d.commit(); err == nil {
					t.Error("a write was acknowledged after a failed sync")
				}
			})
		}
		wg.Wait()
		if err := d.accepting(); err == nil || !strings.Contains(err.Error(), "restart") {
			t.Errorf("got %v, want a refusal that says what to do", err)
		}
	})
}

// guardHere runs a guard in the test process, so that its disk can be replaced.
func guardHere(t *testing.T) *guard {
	t.Helper()
	root, err := openRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.close() })
	if err := root.makeFolders(); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root.path) // newGuard changes it too; this restores it
	g, err := newGuard(root, location(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Shutdown)
	return g
}

// oneObject puts an object into a vault of the test process. Here the guard
// answers alone, without the HTTP front, which asks some of the same questions.
func oneObject(t *testing.T, body string) (g *guard, version string) {
	t.Helper()
	g = guardHere(t)
	name, enabled := bucket, true
	if err := g.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: &enabled, CreateBucketConfiguration: &types.CreateBucketConfiguration{}}, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	return g, putHere(t, g, body)
}

func putHere(t *testing.T, g *guard, body string) (version string) {
	t.Helper()
	name, key, size := bucket, "a", int64(len(body))
	out, err := g.PutObject(t.Context(), s3response.PutObjectInput{Bucket: &name, Key: &key, Body: strings.NewReader(body), ContentLength: &size})
	if err != nil {
		t.Fatal(err)
	}
	return out.VersionID
}

func removeHere(t *testing.T, g *guard, version string) error {
	t.Helper()
	name, key := bucket, "a"
	_, err := g.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &name, Key: &key, VersionId: &version})
	return err
}

// Every mutation ends with a sync, and with an error if the sync fails.
func TestEveryMutationIsSynced(t *testing.T) {
	g := guardHere(t)
	ctx := t.Context()
	syncs, broken := 0, error(nil)
	g.disk.syncAll = func() error { syncs++; return broken }
	name, body := bucket, "footage"
	var version, upload, etag string
	one, size := int32(1), int64(len(body))
	enabled := true
	key := func(s string) *string { return &s }

	for _, m := range []struct {
		name string
		do   func() error
	}{
		{"CreateBucket", func() error {
			return g.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: &enabled, CreateBucketConfiguration: &types.CreateBucketConfiguration{}}, []byte("{}"))
		}},
		{"PutObject", func() error {
			out, err := g.PutObject(ctx, s3response.PutObjectInput{Bucket: &name, Key: key("a"), Body: strings.NewReader(body), ContentLength: &size})
			version = out.VersionID
			return err
		}},
		{"CreateMultipartUpload", func() error {
			out, err := g.CreateMultipartUpload(ctx, s3response.CreateMultipartUploadInput{Bucket: &name, Key: key("b")})
			upload = out.UploadId
			return err
		}},
		{"UploadPart", func() error {
			out, err := g.UploadPart(ctx, &s3.UploadPartInput{Bucket: &name, Key: key("b"), UploadId: &upload, PartNumber: &one, Body: strings.NewReader(body), ContentLength: &size})
			if err == nil {
				etag = *out.ETag
			}
			return err
		}},
		{"CompleteMultipartUpload", func() error {
			_, _, err := g.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &name, Key: key("b"), UploadId: &upload, MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: &etag, PartNumber: &one}}}})
			return err
		}},
		{"AbortMultipartUpload", func() error {
			out, err := g.posix.CreateMultipartUpload(ctx, s3response.CreateMultipartUploadInput{Bucket: &name, Key: key("c")})
			if err != nil {
				return err
			}
			return g.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &name, Key: key("c"), UploadId: &out.UploadId})
		}},
		{"PutObjectTagging", func() error { return g.PutObjectTagging(ctx, name, "a", version, map[string]string{"k": "v"}) }},
		{"DeleteObjectTagging", func() error { return g.DeleteObjectTagging(ctx, name, "a", version) }},
		{"PutObjectRetention", func() error {
			return g.PutObjectRetention(ctx, name, "a", version, []byte(`{"Mode":"COMPLIANCE","RetainUntilDate":"2999-01-01T00:00:00Z"}`))
		}},
		{"PutObjectLegalHold", func() error { return g.PutObjectLegalHold(ctx, name, "a", version, true) }},
		{"DeleteObject", func() error {
			out, err := g.posix.PutObject(ctx, s3response.PutObjectInput{Bucket: &name, Key: key("e"), Body: strings.NewReader(body), ContentLength: &size})
			if err != nil {
				return err
			}
			_, err = g.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &name, Key: key("e"), VersionId: expire(t, g, "e", out.VersionID)})
			return err
		}},
		{"DeleteObjects", func() error {
			out, err := g.posix.PutObject(ctx, s3response.PutObjectInput{Bucket: &name, Key: key("d"), Body: strings.NewReader(body), ContentLength: &size})
			if err != nil {
				return err
			}
			res, err := g.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &name, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: key("d"), VersionId: expire(t, g, "d", out.VersionID)}}}})
			if err == nil && len(res.Error) != 0 {
				return errors.New(*res.Error[0].Message)
			}
			return err
		}},
	} {
		before := syncs
		if err := m.do(); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if syncs == before {
			t.Errorf("%s was acknowledged without a sync", m.name)
		}
		// The same again on a disk that fails: never acknowledged.
		broken = unix.EIO
		if err := m.do(); err == nil {
			t.Errorf("%s was acknowledged though the sync failed", m.name)
		}
		broken, g.disk.failed = nil, nil
	}
}

// expire puts a lock into the past and lifts the hold, as time and an
// administrator do.
func expire(t *testing.T, g *guard, key, version string) *string {
	t.Helper()
	path := g.data + "/" + bucket + "/" + key
	if _, err := os.Stat(path); err == nil {
		for name, data := range map[string]string{attrRetention: `{"Mode":"COMPLIANCE","RetainUntilDate":"2001-01-01T00:00:00Z"}`, attrHold: "\x00"} {
			if err := g.attrs.StoreAttribute(nil, path, "", name, []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &version
}

// The data is synced before the name exists, the old version's copy too.
func TestDataIsSyncedBeforeTheName(t *testing.T) {
	g, _ := oneObject(t, "one")
	path := g.data + "/" + bucket + "/a"
	var seen []string // what the name showed at each sync
	g.disk.syncFile = func(f *os.File) error {
		now, err := os.ReadFile(path)
		if err != nil {
			now = nil
		}
		staged, err := os.ReadFile("/proc/self/fd/" + itoa(int(f.Fd())))
		if err != nil {
			return err
		}
		seen = append(seen, string(now)+"<"+string(staged))
		return nil
	}
	putHere(t, g, "two")
	if got, want := strings.Join(seen, " "), "one<one one<two"; got != want {
		t.Errorf("synced %q, want %q", got, want)
	}
	g.disk.syncFile = func(*os.File) error { return unix.EIO }
	name, key, size := bucket, "a", int64(5)
	if _, err := g.PutObject(t.Context(), s3response.PutObjectInput{Bucket: &name, Key: &key, Body: strings.NewReader("three"), ContentLength: &size}); err == nil {
		t.Error("acknowledged without a sync")
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != "two" {
		t.Errorf("the name shows %q, %v; want the old version", now, err)
	}
}
