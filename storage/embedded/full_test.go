package embedded

import (
	"os"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
)

func TestFullDisk(t *testing.T) {
	needRoot(t, "mounts a small tmpfs")
	root := t.TempDir()
	mount(t, root, "tmpfs", "size=100m")
	c := client(t, open(t, root))
	ctx := within(t)
	if err := c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Skipf("tmpfs without user attributes: %v", err)
	}
	kept := mustPut(t, c, "kept", footage(10, 1<<20), minio.PutObjectOptions{})

	// Too large for what the reserve leaves: refused before it is read.
	big := footage(11, 40<<20)
	if _, err := put(ctx, c, "big", big, minio.PutObjectOptions{}); status(err) != 507 {
		t.Errorf("got %v, want 507", err)
	}
	// The disk fills while objects are on their way: many pass the check together.
	filler := root + "/filler"
	if err := os.WriteFile(filler, make([]byte, 33<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := put(ctx, c, "late", footage(12, 4<<20), minio.PutObjectOptions{}); status(err) != 507 {
		t.Errorf("got %v, want 507", err)
	}
	hold := minio.LegalHoldEnabled
	if err := c.PutObjectLegalHold(ctx, bucket, "kept", minio.PutObjectLegalHoldOptions{VersionID: kept.VersionID, Status: &hold}); err != nil {
		t.Errorf("a hold must be possible on a full disk: %v", err)
	}
	if keys := listKeys(t, c); len(keys) != 1 {
		t.Errorf("keys are %v, want only what was acknowledged", keys)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	checkWholeAndLocked(t, c, "kept", "", footage(10, 1<<20))
	data := footage(12, 4<<20)
	mustPut(t, c, "late", data, minio.PutObjectOptions{})
	checkWholeAndLocked(t, c, "late", "", data)
}

// The check can be passed by more writers than there is room for.
func TestDiskFillsUnderTheWriter(t *testing.T) {
	needRoot(t, "mounts a small tmpfs")
	root := t.TempDir()
	mount(t, root, "tmpfs", "size=100m")
	c := client(t, open(t, root))
	ctx := within(t)
	if err := c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Skipf("tmpfs without user attributes: %v", err)
	}
	const n = 8 // 8 × 30 MiB on 100 MiB
	var wg sync.WaitGroup
	codes := make([]int, n)
	for i := range n {
		wg.Go(func() {
			_, err := put(ctx, c, "f"+itoa(i), footage(uint64(i), 30<<20), minio.PutObjectOptions{})
			if codes[i] = status(err); err == nil {
				codes[i] = 200
			}
			if codes[i] == 0 {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	stored := 0
	for i, code := range codes {
		switch code {
		case 200:
			stored++
			checkWholeAndLocked(t, c, "f"+itoa(i), "", footage(uint64(i), 30<<20))
		case 507:
		default:
			t.Errorf("f%d: status %d, want 200 or 507", i, code)
		}
	}
	if keys := listKeys(t, c); len(keys) != stored {
		t.Errorf("keys are %v, %d were acknowledged", keys, stored)
	}
}
