package embedded

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"
)

func TestOnlyTheOwnerOfTheFolderGetsIn(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, root)
	for name, want := range map[string]os.FileMode{
		".": os.ModeDir | 0o700, socketName: os.ModeSocket | 0o600, credentialsName: 0o600, lockName: 0o600,
		dataName: os.ModeDir | 0o700, versionsName: os.ModeDir | 0o700,
	} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %s, want %s", name, info.Mode(), want)
		}
	}
	for _, file := range []string{"cmdline", "environ"} {
		raw, err := os.ReadFile(filepath.Join("/proc", itoa(s.child.cmd.Process.Pid), file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), s.SecretKey()) {
			t.Errorf("the secret key is in %s of the child", file)
		}
	}
	wrong := client(t, &Store{root: s.root, transport: s.transport, keys: credentials{Access: s.AccessKey(), Secret: "wrong"}})
	if _, err := wrong.ListBuckets(within(t)); !denied(err) {
		t.Errorf("wrong secret: got %v, want 403", err)
	}
}

func TestSocketPathMayBeLong(t *testing.T) {
	root := filepath.Join(t.TempDir(), longName(120), longName(120))
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	c := client(t, open(t, root))
	if _, err := c.ListBuckets(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestSecondOpenAttaches(t *testing.T) {
	root := t.TempDir()
	owner, guest := open(t, root), open(t, root)
	if !owner.Started() || guest.Started() {
		t.Fatalf("started: first %v, second %v; want the first only", owner.Started(), guest.Started())
	}
	if owner.SecretKey() != guest.SecretKey() {
		t.Error("the two have different keys")
	}
	if err := guest.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client(t, owner).ListBuckets(within(t)); err != nil {
		t.Errorf("closing a guest stopped the store: %v", err)
	}
}

func TestOpensAtOnceGiveOneChild(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	stores := make([]*Store, 6)
	for i := range stores {
		wg.Go(func() {
			s, err := Open(within(t), options(root))
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
		})
	}
	wg.Wait()
	started := 0
	for _, s := range stores {
		if s == nil {
			t.FailNow()
		}
		t.Cleanup(func() { _ = s.Close() })
		if s.Started() {
			started++
		}
		if _, err := client(t, s).ListBuckets(within(t)); err != nil {
			t.Error(err)
		}
	}
	if started != 1 {
		t.Errorf("%d children were started, want 1", started)
	}
}

func TestSecondServeFails(t *testing.T) {
	root := t.TempDir()
	open(t, root)
	err := Serve(t.Context(), Config{Root: root, Location: location(t)}) // ends before it changes this process
	if !errors.Is(err, ErrServed) {
		t.Fatalf("got %v, want ErrServed", err)
	}
}

func TestChildSurvivesSignalsToTheGroup(t *testing.T) {
	s, c := openVault(t)
	for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if err := s.child.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, c, "a", footage(1, 1000), minio.PutObjectOptions{})
	if group, err := unix.Getpgid(s.child.cmd.Process.Pid); err != nil || group == unix.Getpgrp() {
		t.Errorf("the child is in our process group: %v", err)
	}
}

func TestChildEndsWithItsParent(t *testing.T) {
	root := t.TempDir()
	owner := exec.Command(os.Args[0], roleOwner, root)
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("owner said %q: %v", line, err)
	}
	guest := open(t, root)
	if guest.Started() {
		t.Fatal("guest started a store of its own")
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	eventually(t, "store without parent to end", func() bool {
		held, err := guest.root.lockHeld()
		return err == nil && !held
	})
	next := open(t, root)
	if !next.Started() {
		t.Error("the store was not started afresh")
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	kill(t, s)
	if _, err := os.Stat(filepath.Join(root, socketName)); err != nil {
		t.Fatalf("a killed server should leave its socket: %v", err)
	}
	if s.Err() == nil {
		t.Error("Err is nil though the child was killed")
	}
	if next := open(t, root); next.SecretKey() != s.SecretKey() {
		t.Error("the keys changed")
	}
}

func TestCloseFinishesRequestsInFlight(t *testing.T) {
	s, c := openVault(t)
	data := footage(2, 1<<20)
	body, feed := io.Pipe()
	stored := make(chan error, 1)
	go func() {
		_, err := c.Client.PutObject(t.Context(), bucket, "slow", body, int64(len(data)), minio.PutObjectOptions{DisableContentSha256: true})
		stored <- err
	}()
	if _, err := feed.Write(data[:len(data)/2]); err != nil { // returns when the request has taken it
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	if _, err := feed.Write(data[len(data)/2:]); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if err := <-stored; err != nil {
		t.Errorf("the upload was cut: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	checkWholeAndLocked(t, client(t, open(t, s.root.path)), "slow", "", data)
}

func TestStartFailureSaysWhy(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, credentialsName), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(within(t), options(root))
	if err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("got %v, want the child's words about damaged keys", err)
	}
	if _, err := Open(within(t), Options{Root: t.TempDir(), Command: []string{"/nonexistent"}}); err == nil {
		t.Fatal("a missing program was not reported")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, options(t.TempDir())); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
}

func TestNoAttributesNoStore(t *testing.T) {
	needRoot(t, "mounts a ramfs, which keeps no user extended attributes")
	root := t.TempDir()
	mount(t, root, "ramfs", "")
	_, err := Open(within(t), options(root))
	if err == nil || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), "ext4") {
		t.Fatalf("got %v, want an error that names the folder and what to use", err)
	}
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 0 {
		t.Errorf("something was written: %v %v", entries, err)
	}
}

func mount(t *testing.T, dir, kind, opts string) {
	t.Helper()
	if err := unix.Mount(kind, dir, kind, 0, opts); err != nil {
		t.Skipf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// kill ends the child as a power cut would, and waits until it is gone.
func kill(t *testing.T, s *Store) {
	t.Helper()
	if err := s.child.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-within(t).Done():
		t.Fatal("the killed child does not end")
	}
}
