package staging_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/device/staging"
)

// The test program runs itself as the process that is killed, that finds the
// folder taken, or that may not write large files.
const (
	childDoes = "BODYWORN_STAGING_CHILD" // kill-at:N, stage, limit:BYTES
	childDir  = "BODYWORN_STAGING_DIR"
	childKey  = "BODYWORN_STAGING_KEY"
	childCard = "BODYWORN_STAGING_CARD"
)

func TestMain(m *testing.M) {
	if task := os.Getenv(childDoes); task != "" {
		os.Exit(child(task))
	}
	os.Exit(m.Run())
}

func child(task string) int {
	what, number, _ := strings.Cut(task, ":")
	n, _ := strconv.ParseUint(number, 10, 64) // none is 0
	if what == "limit" {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return say(err)
		}
	}
	key, err := staging.ReadKeyFile(os.Getenv(childKey))
	if err != nil {
		return say(err)
	}
	d, err := staging.Open(os.Getenv(childDir), key)
	if errors.Is(err, staging.ErrLocked) {
		_, _ = io.WriteString(os.Stdout, "locked\n")
		return 0
	}
	if err != nil {
		return say(err)
	}
	d.Reserve = 1 << 20
	card, err := folder.Open(os.Getenv(childCard))
	if err != nil {
		return say(err)
	}
	r := &mortal{Recorder: card}
	if what == "kill-at" {
		r.deadAt = int(n)
	}
	_, _ = io.WriteString(os.Stdout, "begin\n")
	_, err = d.Stage(context.Background(), r, clock(), health(), "slot-3", dockedAt, nil)
	switch {
	case errors.Is(err, staging.ErrFull):
		_, _ = io.WriteString(os.Stdout, "full\n")
		return 0
	case err != nil:
		return say(err)
	}
	_, _ = io.WriteString(os.Stdout, "staged\n")
	return 0
}

func say(err error) int {
	_, _ = fmt.Fprintln(os.Stderr, err)
	return 1
}

// mortal is a recorder during whose deadAt-th call the process is killed.
type mortal struct {
	device.Recorder
	calls, deadAt, looks int
}

func (m *mortal) call() {
	if m.calls++; m.calls == m.deadAt {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}

func (m *mortal) Inventory(ctx context.Context, found func(device.Entry) error) error {
	m.call()
	err := m.Recorder.Inventory(ctx, found)
	if m.looks++; m.looks == 2 {
		_, _ = io.WriteString(os.Stdout, "looked again\n")
	}
	return err
}

func (m *mortal) Open(ctx context.Context, e device.Entry, offset int64) (device.File, error) {
	m.call()
	f, err := m.Recorder.Open(ctx, e, offset)
	return &mortalFile{f, m}, err
}

type mortalFile struct {
	device.File
	m *mortal
}

func (f *mortalFile) Read(p []byte) (int, error) { f.m.call(); return f.File.Read(p) }
func (f *mortalFile) Close() error               { f.m.call(); return f.File.Close() }
func (f *mortalFile) Stat() (int64, time.Time, error) {
	f.m.call()
	return f.File.Stat()
}

func (b *bench) child(t *testing.T, task, card string) *exec.Cmd {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(stop)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childDoes+"="+task, childDir+"="+b.path, childKey+"="+b.keyFile, childCard+"="+card)
	cmd.Stderr = os.Stderr
	return cmd
}

// smallCard has a file of more than one piece, so that it is read in several calls.
func smallCard(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{"a": "first", "b": strings.Repeat("0123456789abcdef", 40_000), "c": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A process killed in any call to the recorder leaves rubbish that the next start
// removes; never something that is listed.
func TestKilledInEveryCallToTheRecorder(t *testing.T) {
	b, card := newBench(t), smallCard(t)
	for n := 1; ; n++ {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		out, err := b.child(t, fmt.Sprintf("kill-at:%d", n), card).Output()
		b.open(t)
		if err == nil && bytes.Contains(out, []byte("staged")) {
			if n < 10 {
				t.Errorf("only %d calls were made", n)
			}
			checkSame(t, b.only(t), openFolder(t, card))
			return
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("call %d: %v, %s", n, err, out)
		}
		b.checkEmpty(t)
		if copies, err := b.Copies(t.Context()); err != nil || len(copies) != 0 {
			t.Fatalf("call %d: %d copies, %v", n, len(copies), err)
		}
	}
}

// Killed at any moment there is no copy, or a whole one. Every second time the kill
// is aimed at the last steps, behind the last look at the recorder.
func TestKilledAtAnyMoment(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	b, card := newBench(t), smallCard(t)
	took := map[string]time.Duration{}
	whole := 0
	for round := range rounds {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		from := []string{"begin", "looked again"}[round%2]
		after := time.Hour // the first rounds measure how long it takes
		if took[from] > 0 {
			after = time.Duration(rng.Int64N(int64(took[from])*5/4 + 1))
		}
		staged, lasted := runAndKill(t, b.child(t, "stage", card), from, after)
		if staged {
			took[from] = lasted
		}
		b.open(t)
		copies, err := b.Copies(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if staged && len(copies) == 0 {
			t.Error("a copy that was reported is gone")
		}
		for _, c := range copies {
			whole++
			checkSame(t, c, openFolder(t, card))
			if err := os.RemoveAll(filepath.Join(b.path, c.ID)); err != nil {
				t.Fatal(err)
			}
		}
		b.checkEmpty(t)
	}
	if whole < 2 || whole == rounds {
		t.Errorf("of %d rounds %d gave a whole copy: nothing was tried", rounds, whole)
	}
	t.Logf("%d rounds, %d whole copies", rounds, whole)
}

// runAndKill kills a child that long after it said a line, and tells whether it
// got to its end, and how long after that line.
func runAndKill(t *testing.T, cmd *exec.Cmd, from string, after time.Duration) (staged bool, lasted time.Duration) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var began time.Time
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		switch lines.Text() {
		case from:
			began = time.Now()
			timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may have ended
			defer timer.Stop()
		case "staged":
			staged, lasted = true, time.Since(began)
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
		t.Fatalf("it was not killed but ended with %v", err)
	}
	return staged, lasted
}

func TestOneProcessAtATime(t *testing.T) {
	b, card := newBench(t), smallCard(t)
	if d, err := staging.Open(b.path, b.key); !errors.Is(err, staging.ErrLocked) {
		t.Errorf("in one process: %v, %v", d, err)
	}
	if out, err := b.child(t, "stage", card).Output(); err != nil || string(out) != "locked\n" {
		t.Errorf("in another: %q, %v", out, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := b.child(t, "stage", card).Output(); err != nil || string(out) != "begin\nlooked again\nstaged\n" {
		t.Errorf("when it is free: %q, %v", out, err)
	}
	b.open(t)
	checkSame(t, b.only(t), openFolder(t, card))
}
