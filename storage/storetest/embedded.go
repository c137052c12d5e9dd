package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/embedded"
)

// runAsStore makes the test binary be the process of the embedded store. Its
// name does not begin with INGESTD_: such variables are settings.
const runAsStore = "BODYWORN_RUN_AS_STORE"

// attrRetention is the attribute in which versitygw keeps the lock of a version.
const attrRetention = "user.object-retention"

// Main is the TestMain of a package whose tests use Embedded.
func Main(m *testing.M) {
	root := os.Getenv(runAsStore)
	if root == "" {
		os.Exit(m.Run())
	}
	if err := serve(root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(root string) error {
	if err := os.WriteFile(pidFile(root), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	return embedded.Serve(context.Background(), embedded.Config{Root: root, Location: Zone, Lifeline: os.Stdin})
}

func pidFile(root string) string { return root + ".pid" }

// Embedded starts the embedded store in a process of its own. The package's
// TestMain must be Main.
func Embedded(t testing.TB) *Server {
	t.Helper()
	root := filepath.Join(t.TempDir(), "store")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var store *embedded.Store // of the running process
	start := func(t testing.TB) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), startWithin)
		defer cancel()
		s, err := embedded.Open(ctx, embedded.Options{
			Root: root, Stderr: t.Output(),
			Command: []string{"env", runAsStore + "=" + root, exe},
		})
		if err != nil {
			t.Fatal(err)
		}
		store = s
		t.Cleanup(func() { // not sooner: the first store's transport serves all
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	start(t)
	s := &Server{Name: "embedded", start: start, config: storage.Config{
		Endpoint: store.Endpoint(), AccessKey: store.AccessKey(), SecretKey: store.SecretKey(), Transport: store.Transport(),
	}}
	s.kill = func() {
		text, err := os.ReadFile(pidFile(root))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(string(text))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill() // it may be gone already
		}
		<-store.Done()
	}
	s.relock = func(bucket, key string, until time.Time) error {
		lock, err := json.Marshal(types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeCompliance, RetainUntilDate: &until})
		if err != nil {
			return err
		}
		file := filepath.Join(root, "data", bucket, key)
		// Only what is there: a lock elsewhere would show nothing.
		if err := unix.Setxattr(file, attrRetention, lock, unix.XATTR_REPLACE); err != nil {
			return fmt.Errorf("set %s of %s: %w", attrRetention, file, err)
		}
		return nil
	}
	s.connect(t)
	return s
}
