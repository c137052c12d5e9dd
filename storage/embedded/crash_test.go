package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

const partBytes = 5 << 20 // S3's minimum

// attempt is one object that a writer tried to store.
type attempt struct {
	key      string
	seed     uint64
	bytes    int
	uploadID string // multipart only
	parts    []minio.CompletePart
	stored   bool // acknowledged
}

func (a attempt) data() []byte { return footage(a.seed, a.bytes) }

// A server killed at any moment leaves every acknowledged object whole and
// locked, and every other one absent or whole and locked.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	root := t.TempDir()
	s := open(t, root)
	c := client(t, s)
	if err := c.MakeBucket(within(t), bucket, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	var attempts []attempt
	for round := range rounds {
		// The kill comes at a random moment after a random number of answers.
		attempts = append(attempts, writeUntilKilled(t, s, c, round, rng.Uint64(), 5+rng.IntN(60))...)
		s = open(t, root)
		c = client(t, s)
		checkAttempts(t, c, attempts)
	}
	retryCompletes(t, c, attempts)
	checkNoDebris(t, root)
}

func writeUntilKilled(t *testing.T, s *Store, c *minio.Core, round int, seed uint64, answers int) []attempt {
	t.Helper()
	ctx, stop := context.WithCancel(within(t))
	defer stop()
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		attempts []attempt
		answered = make(chan struct{}, 1024)
	)
	for worker := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(worker)))
			for i := 0; ctx.Err() == nil; i++ {
				a := attempt{key: fmt.Sprintf("r%d/w%d/%d", round, worker, i), seed: rng.Uint64(), bytes: 1 + rng.IntN(300_000)}
				if worker < 2 {
					a.bytes += partBytes
					a.stored = storeInParts(ctx, c, &a)
				} else {
					_, err := put(ctx, c, a.key, a.data(), minio.PutObjectOptions{})
					a.stored = err == nil
				}
				mu.Lock()
				attempts = append(attempts, a)
				mu.Unlock()
				if !a.stored {
					return // the server is gone
				}
				answered <- struct{}{}
			}
		})
	}
	for range answers {
		<-answered
	}
	go func() { // keeps writers from blocking until they notice
		for range answered {
		}
	}()
	kill(t, s)
	stop()
	wg.Wait()
	close(answered)
	return attempts
}

func storeInParts(ctx context.Context, c *minio.Core, a *attempt) bool {
	data := a.data()
	id, err := c.NewMultipartUpload(ctx, bucket, a.key, minio.PutObjectOptions{})
	if err != nil {
		return false
	}
	a.uploadID = id
	for n := 1; len(data) > 0; n++ {
		chunk := data[:min(partBytes, len(data))]
		data = data[len(chunk):]
		part, err := c.PutObjectPart(ctx, bucket, a.key, id, n, bytes.NewReader(chunk), int64(len(chunk)), minio.PutObjectPartOptions{DisableContentSha256: true})
		if err != nil {
			a.parts = nil
			return false
		}
		a.parts = append(a.parts, minio.CompletePart{PartNumber: n, ETag: part.ETag})
	}
	_, err = c.CompleteMultipartUpload(ctx, bucket, a.key, id, a.parts, minio.PutObjectOptions{})
	return err == nil
}

func checkAttempts(t *testing.T, c *minio.Core, attempts []attempt) {
	t.Helper()
	var known []string
	for _, a := range attempts {
		_, err := c.StatObject(within(t), bucket, a.key, minio.StatObjectOptions{})
		if absent(err) && !a.stored {
			continue
		}
		if err != nil {
			t.Errorf("%s, acknowledged %v, after the crash: %v", a.key, a.stored, err)
			continue
		}
		known = append(known, a.key)
		checkWholeAndLocked(t, c, a.key, "", a.data())
	}
	for _, key := range listKeys(t, c) {
		if !slices.Contains(known, key) {
			t.Errorf("%s was never written", key)
		}
	}
}

// retryCompletes does what a client does whose Complete was cut off. Success
// must mean that the object is there.
func retryCompletes(t *testing.T, c *minio.Core, attempts []attempt) {
	t.Helper()
	for _, a := range attempts {
		if a.stored || a.parts == nil {
			continue
		}
		if _, err := c.CompleteMultipartUpload(within(t), bucket, a.key, a.uploadID, a.parts, minio.PutObjectOptions{}); err != nil {
			t.Errorf("complete %s again: %v", a.key, err)
			continue
		}
		checkWholeAndLocked(t, c, a.key, "", a.data())
	}
}

// checkNoDebris looks for staged files without an owner.
func checkNoDebris(t *testing.T, root string) {
	t.Helper()
	for _, dir := range []string{dataName, versionsName} {
		entries, err := os.ReadDir(filepath.Join(root, dir, bucket, ".sgwtmp"))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if entry.Name() != "multipart" {
				t.Errorf("%s is left in %s", entry.Name(), dir)
			}
		}
	}
}

// A Complete that was cut off leaves a folder that makes versitygw answer
// success for ever, without an object.
func TestCutCompleteIsNotTakenForDone(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	c := client(t, s)
	ctx := within(t)
	if err := c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	data := footage(8, 1000)
	id, err := c.NewMultipartUpload(ctx, bucket, "cut", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.PutObjectPart(ctx, bucket, "cut", id, 1, bytes.NewReader(data), int64(len(data)), minio.PutObjectPartOptions{DisableContentSha256: true})
	if err != nil {
		t.Fatal(err)
	}
	parts := []minio.CompletePart{{PartNumber: 1, ETag: part.ETag}}
	dir := (&guard{data: s.root.join(dataName)}).uploadDir(bucket, "cut", id)
	stuck := dir + "." + claim(t, part.ETag) + ".inprogress"
	if err := os.Rename(dir, stuck); err != nil {
		t.Fatal(err)
	}
	complete := func() error {
		_, err := c.CompleteMultipartUpload(ctx, bucket, "cut", id, parts, minio.PutObjectOptions{})
		return err
	}
	if err := complete(); status(err) != 503 {
		t.Errorf("while another is at it: got %v, want 503", err)
	}
	kill(t, s)
	s = open(t, root)
	c = client(t, s)
	if err := complete(); err != nil {
		t.Fatalf("after the restart: %v", err)
	}
	checkWholeAndLocked(t, c, "cut", "", data)
	if err := complete(); err != nil { // the answer may have been lost
		t.Errorf("again: %v", err)
	}
	// Any object of that name is not this upload.
	const never = "00000000-0000-4000-8000-000000000000"
	if _, err := c.CompleteMultipartUpload(ctx, bucket, "cut", never, parts, minio.PutObjectOptions{}); !absent(err) {
		t.Errorf("an upload that never was: got %v, want 404", err)
	}
}

// claim is the name versitygw gives the folder of a one-part upload.
func claim(t *testing.T, etag string) string {
	t.Helper()
	token, err := multipartETag(etag)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(token, `"`)
}

// A bucket that was being made when the server died must not poison its name.
func TestHalfMadeBucketIsForgotten(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	kill(t, s)
	if err := os.Mkdir(filepath.Join(root, dataName, bucket), 0o700); err != nil {
		t.Fatal(err)
	}
	c := client(t, open(t, root))
	if err := c.MakeBucket(within(t), bucket, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
}

// A body that ends early must not become an object.
func TestCutBodyIsNothing(t *testing.T) {
	_, c := openVault(t)
	body, feed := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := c.Client.PutObject(ctx, bucket, "cut", body, 1<<20, minio.PutObjectOptions{DisableContentSha256: true})
		failed <- err
	}()
	if _, err := feed.Write(footage(9, 500_000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	feed.CloseWithError(context.Canceled)
	if err := <-failed; err == nil {
		t.Error("half a body was acknowledged")
	}
	mustPut(t, c, "next", []byte("x"), minio.PutObjectOptions{})
	if keys := listKeys(t, c); !slices.Equal(keys, []string{"next"}) {
		t.Errorf("keys are %v", keys)
	}
}
