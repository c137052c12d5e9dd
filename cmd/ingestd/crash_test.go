package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device/simulator"
)

// TestKilledAtRandomMoments kills everything, the station and its store, again
// and again in the middle of the work. Afterwards every file is stored whole and
// once, and nothing was called safe too early.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	const rounds = 6 // scripts/faults has many more
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	p := newPlace(t, testConfig)
	want := map[string]string{}
	addFile := func(i, size int) {
		body := make([]byte, size)
		for at := 0; at+8 <= size; at += 8 {
			copy(body[at:], fmt.Sprintf("%02d%06d", i%100, at%999_983))
		}
		name := fmt.Sprintf("DCIM/%02d.mp4", i)
		p.write("card/"+name, string(body))
		sum := sha256.Sum256(body)
		want[name] = hex.EncodeToString(sum[:])
	}
	for i := range 30 {
		if i%10 == 0 {
			addFile(i, 13<<20+i) // three parts
		} else {
			addFile(i, 1000+i)
		}
	}
	p.must("run", "--check-only") // the self-test, so that rounds begin with work

	// A run without a kill tells how long the work takes on this machine.
	other := newPlace(t, testConfig)
	other.must("run", "--check-only")
	began := time.Now()
	other.ingest(0, p.path("card"), "--recorder", "R1")
	whole := time.Since(began)

	killed, resumed := 0, 0
	var last reportJSON
	for round := 0; ; round++ {
		cmd := p.command("ingest", "card", "--recorder", "R1", "-o", "json")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		disarm := func() {}
		if round < rounds {
			after, storeToo := time.Duration(random.Int64N(int64(whole))), random.IntN(2) == 0
			done := make(chan struct{})
			timer := time.AfterFunc(after, func() {
				defer close(done)
				if storeToo {
					killStore(t, p) // the store first, as a machine may do it
				}
				_ = cmd.Process.Kill()
			})
			disarm = func() { // or it would hit what runs next
				if !timer.Stop() {
					<-done
				}
			}
		}
		err := cmd.Wait()
		disarm()
		if cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			killed++
			if bytes.Contains(out.Bytes(), []byte(`"safe_to_undock": true`)) && !json.Valid(out.Bytes()) {
				t.Errorf("round %d: killed in the middle of saying safe", round)
			}
			continue
		}
		if jsonErr := json.Unmarshal(out.Bytes(), &last); jsonErr != nil {
			t.Logf("round %d: %v\n%s", round, err, errs.String())
			continue
		}
		if last.Resumed {
			resumed++
		}
		if round >= rounds {
			if err != nil || !last.Safe {
				t.Fatalf("undisturbed, it ends with %v, %s\n%s", err, last.State, errs.String())
			}
			break
		}
		if last.Safe { // done before it was killed: more work for the next
			addFile(100+round, 13<<20+round)
		}
	}
	t.Logf("%d kills, %d sessions resumed", killed, resumed)
	if killed == 0 {
		t.Error("no round was killed: the test has shown nothing")
	}
	if found := p.verify(0, "--all"); len(found) != 0 {
		t.Errorf("verify found %v", found)
	}
	// From outside: the store's files are plain files.
	times := map[string]int{}
	root := p.path("store/data/footage")
	if err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		_, name, ok := strings.Cut(path, "/footage/DCIM/")
		if !ok || strings.Contains(path, ".sgwtmp") {
			return nil
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		times["DCIM/"+name]++
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != want["DCIM/"+name] {
			t.Errorf("%s: other bytes", path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if times[name] != 1 {
			t.Errorf("%s is stored %d times", name, times[name])
		}
	}
}

// killStore kills the store process of a place, which the lock file names.
func killStore(t *testing.T, p *place) {
	var pid int
	body, err := os.ReadFile(p.path("store/lock"))
	if err != nil {
		return // not started yet
	}
	if _, err := fmt.Sscan(string(body), &pid); err != nil || pid < 2 {
		return
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.Contains(args, []byte(p.path("store"))) {
		return // an old number
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Logf("kill the store: %v", err)
	}
}

func TestInterruptedByHand(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.must("run", "--check-only")
	p.write("card/a.mp4", "footage")
	if err := simulator.Sparse(p.path("card/big.mp4"), 512<<20); err != nil {
		t.Fatal(err)
	}
	cmd := p.command("ingest", "card", "--recorder", "R1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(p.must("sessions", "list"), " open ") {
			break
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its code is what counts
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || strings.Contains(out.String(), "可以取下") || !strings.Contains(out.String(), "goes on") {
		t.Errorf("exit %d\n%s%s", code, out.String(), errs.String())
	}
	if r := p.ingest(0, "card", "--recorder", "R1"); !r.Resumed || !r.Safe {
		t.Errorf("run again: resumed %v, %s", r.Resumed, r.State)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a small file system can only be mounted by root")
	}
	for _, full := range []string{"store", "state"} {
		t.Run(full, func(t *testing.T) {
			p := newPlace(t, testConfig)
			if err := os.Mkdir(p.path(full), 0o700); err != nil {
				t.Fatal(err)
			}
			mount(t, p.path(full), "size=90m")
			p.must("run", "--check-only")
			fill := ""
			if full == "store" {
				p.write("card/a.mp4", strings.Repeat("footage ", 8<<20)) // 64 MiB
				p.write("card/b.mp4", strings.Repeat("footage ", 6<<20))
			} else {
				p.write("card/a.mp4", "footage")
				fill = p.path("state/fill")
				body := make([]byte, 1<<20)
				f, err := os.Create(fill)
				if err != nil {
					t.Fatal(err)
				}
				for err == nil {
					_, err = f.Write(body)
				}
				if err := f.Close(); err != nil {
					t.Log(err)
				}
			}
			cmd := p.command("ingest", "card", "--recorder", "R1", "-o", "json")
			out, err := cmd.Output()
			if err == nil || bytes.Contains(out, []byte(`"safe_to_undock": true`)) {
				t.Fatalf("a full disk ended with %v:\n%s", err, out)
			}
			if full == "store" && !bytes.Contains(out, []byte("the store is full")) {
				t.Errorf("it does not say that the store is full:\n%s", out)
			}
			if fill != "" {
				if err := os.Remove(fill); err != nil {
					t.Fatal(err)
				}
			} else if err := syscall.Mount("tmpfs", p.path(full), "tmpfs", syscall.MS_REMOUNT, "size=600m"); err != nil {
				t.Fatal(err)
			}
			if r := p.ingest(0, "card", "--recorder", "R1"); !r.Safe {
				t.Errorf("with room again: %s", r.State)
			}
			if found := p.verify(0, "--all"); len(found) != 0 {
				t.Errorf("verify found %v", found)
			}
		})
	}
}

func TestStoreWithoutExtendedAttributes(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("ramfs, which has no extended attributes, can only be mounted by root")
	}
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	if err := os.Mkdir(p.path("store"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("ramfs", p.path("store"), "ramfs", 0, ""); err != nil {
		t.Skipf("this kernel or container does not let root mount ramfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(p.path("store"), syscall.MNT_DETACH) })
	out, errs, code := p.run("ingest", "card")
	if code != exitFailed || !strings.Contains(errs, "extended attributes") || strings.Contains(out, "可以取下") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

func mount(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("this kernel or container does not let root mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}
