package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3err"
	"golang.org/x/sys/unix"
)

func TestGuardNeedsNoFront(t *testing.T) {
	g, version := oneObject(t, "x")
	ctx := t.Context()
	if err := removeHere(t, g, version); err == nil {
		t.Fatal("a locked version was deleted")
	}
	for _, lock := range []string{
		`{"Mode":"GOVERNANCE","RetainUntilDate":"2999-01-01T00:00:00Z"}`,
		`{"Mode":"COMPLIANCE","RetainUntilDate":"2001-01-01T00:00:00Z"}`,
		`{"Mode":"COMPLIANCE"}`,
		`{}`,
		``,
	} {
		if err := g.PutObjectRetention(ctx, bucket, "a", version, []byte(lock)); err == nil {
			t.Errorf("the lock was changed to %q", lock)
		}
	}
	expire(t, g, "a", version)
	if err := removeHere(t, g, ""); err == nil {
		t.Error("a delete marker was made")
	}
	if err := g.PutObjectLegalHold(ctx, bucket, "a", version, true); err != nil {
		t.Fatal(err)
	}
	if err := removeHere(t, g, version); err == nil {
		t.Fatal("a held version was deleted")
	}
	if err := g.PutObjectLegalHold(ctx, bucket, "a", version, false); err != nil {
		t.Fatal(err)
	}
	if err := removeHere(t, g, version); err != nil {
		t.Error(err)
	}
	if err := removeHere(t, g, version); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
}

// What can't be read counts as locked.
func TestUnreadableLockIsALock(t *testing.T) {
	g, version := oneObject(t, "x")
	path := g.data + "/" + bucket + "/a"
	for _, damage := range []struct {
		name string
		do   func() error
	}{
		{"garbled retention", func() error { return g.attrs.StoreAttribute(nil, path, "", attrRetention, []byte("{")) }},
		{"no date", func() error { return g.attrs.StoreAttribute(nil, path, "", attrRetention, []byte("{}")) }},
		{"no retention", func() error { return g.attrs.DeleteAttribute(path, "", attrRetention) }},
		{"no lock on the bucket", func() error {
			expire(t, g, "a", version)
			return g.attrs.DeleteAttribute(g.data+"/"+bucket, "", attrLock)
		}},
	} {
		if err := damage.do(); err != nil {
			t.Fatal(err)
		}
		if err := removeHere(t, g, version); err == nil {
			t.Fatalf("%s: the version was deleted", damage.name)
		}
	}
}

// A hold set in the moment in which its version is replaced must not be
// written to the file that loses its name.
func TestHoldIsNotLostWhileTheVersionIsReplaced(t *testing.T) {
	g, version := oneObject(t, "old")
	held := make(chan error, 1)
	syncs := 0
	g.disk.syncFile = func(*os.File) error {
		if syncs++; syncs != 2 { // the first is the old version's copy
			return nil
		}
		go func() { held <- g.PutObjectLegalHold(context.WithoutCancel(t.Context()), bucket, "a", version, true) }()
		select {
		case err := <-held:
			held <- err
		case <-time.After(100 * time.Millisecond): // blocked, as it should be
		}
		return nil
	}
	putHere(t, g, "new")
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	on, err := g.GetObjectLegalHold(t.Context(), bucket, "a", version)
	if err != nil || on == nil || !*on {
		t.Errorf("the hold is %v, %v", on, err)
	}
}

// versitygw's note of all parts does not fit into the attributes of ext4.
func TestUploadMayHaveManyParts(t *testing.T) {
	g, _ := oneObject(t, "x")
	path := g.data + "/" + bucket + "/a"
	info := backend.MpUploadMetadata{UploadID: "00000000-0000-4000-8000-000000000000"}
	for n := range int64(10_000) {
		info.Parts = append(info.Parts, (n+1)<<24)
	}
	note, err := backend.MarshalMpUploadMetadata(info, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.attrs.StoreAttribute(nil, path, "", attrMultipart, note); err != nil {
		t.Fatal(err)
	}
	if kept, err := g.attribute(path, attrMultipart); err != nil || len(kept) > 200 {
		t.Errorf("the note takes %d bytes, %v", len(kept), err)
	}
	if known, err := g.isUpload(path, info.UploadID); err != nil || !known {
		t.Errorf("the upload is not recognised: %v", err)
	}
}

func TestFullDiskIsSaidAsSuch(t *testing.T) {
	full := s3err.GetAPIError(s3err.ErrNoSpaceLeftOnDevice)
	for _, cause := range []error{unix.ENOSPC, unix.EDQUOT, full} {
		if got := clientError(fmt.Errorf("set etag attr: %w", cause)); !errors.Is(got, full) || errors.Unwrap(got) != nil {
			t.Errorf("%v: the client gets %v, want 507", cause, got)
		}
	}
}

// A crash while a version is being replaced leaves a copy of it aside, which
// must not come back when the version is deleted.
func TestCopyOfTheCurrentVersionGoesWithIt(t *testing.T) {
	g, version := oneObject(t, "x")
	name := bucket
	dir := g.versionsDir(bucket, "a")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/"+version, []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	list := func() int {
		page, err := g.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &name})
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Versions)
	}
	if n := list(); n != 1 {
		t.Errorf("%d versions are listed, want 1", n)
	}
	expire(t, g, "a", version)
	if err := removeHere(t, g, version); err != nil {
		t.Fatal(err)
	}
	if n := list(); n != 0 {
		t.Errorf("%d versions are left", n)
	}
}
