package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// s3Place is a place whose footage goes to a real external server.
func s3Place(t *testing.T, c storage.Config) *place {
	t.Helper()
	p := newPlace(t, fmt.Sprintf(`
station: {id: TEST-01}
state_dir: state
storage:
  kind: s3
  bucket: %s
  part_size: 5MiB
  buffer_memory: 32MiB
  s3: {endpoint: "%s", tls: %v, ca_file: "%s", credentials_file: keys}
`, c.Bucket, c.Endpoint, c.TLS, c.CAFile))
	p.write("keys", fmt.Sprintf("access_key: %s\nsecret_key: %s\n", c.AccessKey, c.SecretKey))
	p.write("card/a.mp4", strings.Repeat("footage ", 2<<20)) // 16 MiB, in parts
	p.write("card/b.mp4", "footage")
	return p
}

func TestExternalServerByConfigurationOnly(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			t.Parallel()
			p := s3Place(t, storetest.MinIO(t, secure).Config())
			if r := p.ingest(0, "card", "--recorder", "R1"); !r.Safe || r.Stored != 2 {
				t.Errorf("%s, %d stored", r.State, r.Stored)
			}
			if r := p.ingest(0, "card", "--recorder", "R1"); !r.Safe || r.Identical != 2 {
				t.Errorf("again: %s, %d identical", r.State, r.Identical)
			}
			if found := p.verify(0, "--all"); len(found) != 0 {
				t.Errorf("found %v", found)
			}
		})
	}
}

func TestServersThatAreRefused(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	unlocked := server.Config()
	if err := server.Client().MakeBucket(t.Context(), unlocked.Bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	wrong := server.Config()
	wrong.SecretKey = "wrong"
	down := server.Config()
	down.Endpoint = "127.0.0.1:1"
	for name, c := range map[string]struct {
		config storage.Config
		says   string
	}{
		"bucket without lock": {unlocked, "mc mb --with-lock"},
		"wrong credentials":   {wrong, "refused the credentials"},
		"down":                {down, "not available"},
	} {
		p := s3Place(t, c.config)
		for _, args := range [][]string{{"ingest", "card"}, {"run", "--check-only"}, {"verify", "--all"}} {
			out, errs, code := p.run(args...)
			if code != exitFailed || !strings.Contains(errs, c.says) || strings.Contains(out, "可以取下") {
				t.Errorf("%s: %v: exit %d, want %d, with %q in\n%s%s", name, args, code, exitFailed, c.says, out, errs)
			}
		}
	}
	open := s3Place(t, server.Config())
	if err := os.Chmod(open.path("keys"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := open.run("ingest", "card"); code != exitConfig || !strings.Contains(errs, "keys") {
		t.Errorf("a credentials file that all may read: exit %d\n%s", code, errs)
	}
}

// Large in size and in number, by the program as users build it: the race
// detector's own memory would hide the program's. The store is a process apart.
func TestLargeCardsInLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("5 GiB and 8,000 files take a minute")
	}
	server := storetest.MinIO(t, false)
	program := filepath.Join(t.TempDir(), "ingestd")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, c := range map[string]struct {
		make   func(dir string) error
		files  int
		bytes  int64
		memory int64 // MiB
	}{
		"5 GiB sparse file": {func(dir string) error { return simulator.Sparse(dir+"/big.mp4", 5<<30) }, 1, 5 << 30, 45},
		"8,000 files":       {func(dir string) error { return simulator.Many(dir+"/many", 8_000, 1000) }, 8_000, 8_000_000, 105},
	} {
		t.Run(name, func(t *testing.T) {
			p := s3Place(t, server.Config())
			p.write("large/.keep", "")
			if err := os.Remove(p.path("large/.keep")); err != nil {
				t.Fatal(err)
			}
			if err := c.make(p.path("large")); err != nil {
				t.Fatal(err)
			}
			cmd := p.command("ingest", "large", "--recorder", "R1", "-q")
			cmd.Path = program
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			peak := peakMemory(cmd.Process.Pid)
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, said.String())
			}
			rss := <-peak
			t.Logf("%d MiB at most", rss)
			if rss == 0 || rss > c.memory {
				t.Errorf("it took %d MiB of memory, more than %d", rss, c.memory)
			}
			again := p.command("ingest", "large", "--recorder", "R1", "-o", "json")
			again.Path = program
			out, err := again.Output()
			var r reportJSON
			if err := errors.Join(err, json.Unmarshal(out, &r)); err != nil {
				t.Fatal(err)
			}
			if r.Identical != c.files || r.Bytes != c.bytes {
				t.Errorf("%d of %d files are known, %d of %d bytes", r.Identical, c.files, r.Bytes, c.bytes)
			}
		})
	}
}

// peakMemory gives, when a process has ended, the most memory in MiB that it had, less
// the pages of its own file, which the kernel can drop at any time: how many of them are
// there depends on how large the program is, not on what it does. What wait4(2) tells
// begins with the memory of the process that started it, which is this test with its race
// detector.
func peakMemory(pid int) <-chan int64 {
	peak := make(chan int64, 1)
	go func() {
		var most int64
		for {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			kib := func(name string) (n int64) {
				_, line, found := strings.Cut(string(status), name)
				if found {
					_, err = fmt.Sscan(line, &n)
				}
				if !found || err != nil {
					return -1
				}
				return n
			}
			whole, file := kib("VmHWM:"), kib("RssFile:")
			if err != nil || whole < 0 || file < 0 { // it has ended
				peak <- most >> 10
				return
			}
			most = max(most, whole-file)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return peak
}
