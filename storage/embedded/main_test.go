package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/bodyworn/ingestd/storage"
)

const (
	roleServe = "embedded-test-serve" // argv[1] of the store's child
	roleOwner = "embedded-test-owner" // argv[1] of a process that owns a store
	zone      = "Asia/Shanghai"
	bucket    = "vault"
	deadline  = time.Minute // for anything that must happen; generous, never waited for
)

// The test binary is its own child, as ingestd is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case roleServe:
			os.Exit(serveRole(os.Args[2]))
		case roleOwner:
			os.Exit(ownerRole(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

func serveRole(root string) int {
	loc, err := time.LoadLocation(zone)
	if err == nil {
		err = Serve(context.Background(), Config{Root: root, Location: loc, Lifeline: os.Stdin})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// ownerRole opens the store, says so and waits to be killed.
func ownerRole(root string) int {
	if _, err := Open(context.Background(), options(root)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("open")
	select {}
}

func options(root string) Options {
	return Options{Root: root, Command: []string{os.Args[0], roleServe, root}, Stderr: os.Stderr}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(within(t), options(root))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// client speaks to the store as storage does: unsigned payload, no retries that
// would hide an error.
func client(t *testing.T, s *Store) *minio.Core {
	t.Helper()
	c, err := minio.NewCore(s.Endpoint(), &minio.Options{
		Creds:        miniocreds.NewStaticV4(s.AccessKey(), s.SecretKey(), ""),
		Region:       s.Region(),
		Transport:    s.Transport(),
		BucketLookup: minio.BucketLookupPath,
		MaxRetries:   1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// openVault opens a store with one bucket.
func openVault(t *testing.T) (*Store, *minio.Core) {
	t.Helper()
	s := open(t, t.TempDir())
	c := client(t, s)
	if err := c.MakeBucket(within(t), bucket, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	return s, c
}

func put(ctx context.Context, c *minio.Core, key string, data []byte, opts minio.PutObjectOptions) (minio.UploadInfo, error) {
	opts.DisableContentSha256, opts.DisableMultipart = true, true
	return c.Client.PutObject(ctx, bucket, key, bytes.NewReader(data), int64(len(data)), opts)
}

func mustPut(t *testing.T, c *minio.Core, key string, data []byte, opts minio.PutObjectOptions) minio.UploadInfo {
	t.Helper()
	info, err := put(within(t), c, key, data, opts)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return info
}

// footage is n bytes that only this seed gives.
func footage(seed uint64, n int) []byte {
	data := make([]byte, n)
	src := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed)))
	_, _ = src.Read(data)
	return data
}

// checkWholeAndLocked proves from outside that a version is what was sent and
// can't be removed before the floor.
func checkWholeAndLocked(t *testing.T, c *minio.Core, key, version string, want []byte) {
	t.Helper()
	ctx := within(t)
	body, info, _, err := c.GetObject(ctx, bucket, key, minio.GetObjectOptions{VersionID: version})
	if err != nil {
		t.Errorf("get %s: %v", key, err)
		return
	}
	got, err := io.ReadAll(body)
	body.Close()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what was stored: %d of %d bytes, %v", key, len(got), len(want), err)
	}
	checkLocked(t, c, key, version)
	if version != "" {
		return
	}
	if err := c.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: true}); !denied(err) {
		t.Errorf("delete %s version %s: got %v, want AccessDenied", key, info.VersionID, err)
	}
}

func checkLocked(t *testing.T, c *minio.Core, key, version string) {
	t.Helper()
	info, err := c.StatObject(within(t), bucket, key, minio.StatObjectOptions{VersionID: version})
	if err != nil {
		t.Errorf("head %s: %v", key, err)
		return
	}
	mode, until := info.Metadata.Get("X-Amz-Object-Lock-Mode"), lockedUntil(t, info)
	if mode != "COMPLIANCE" || storage.BelowFloor(until, time.Now(), location(t)) {
		t.Errorf("%s is locked %q until %s, want COMPLIANCE for six months", key, mode, until)
	}
}

func lockedUntil(t *testing.T, info minio.ObjectInfo) time.Time {
	t.Helper()
	until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil {
		t.Errorf("lock date of %s: %v", info.Key, err)
	}
	return until
}

func location(t *testing.T) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func denied(err error) bool { return status(err) == http.StatusForbidden }
func absent(err error) bool { return status(err) == http.StatusNotFound }
func status(err error) int {
	var res minio.ErrorResponse
	if errors.As(err, &res) {
		return res.StatusCode
	}
	return 0
}

// eventually waits for a condition that must come true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s: %s", deadline, what)
		case <-tick.C:
		}
	}
}

func listKeys(t *testing.T, c *minio.Core) []string {
	t.Helper()
	var keys []string
	for o := range c.Client.ListObjects(within(t), bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("needs root: %s", why)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func longName(n int) string { return strings.Repeat("x", n) }
