package staging_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/staging"
)

func TestAReserveThatWouldBeTouchedIsRefusedAtOnce(t *testing.T) {
	b, r := newBench(t), newFake("first")
	b.Reserve = 1 << 60
	opened := 0
	r.opened = func(device.Entry) error { opened++; return nil }
	if _, err := b.stage(t.Context(), r); !errors.Is(err, staging.ErrFull) {
		t.Errorf("it gives %v", err)
	}
	if opened > 0 {
		t.Error("the recorder was read all the same")
	}
	b.checkEmpty(t)
}

// A file larger than this process may write stands for a disk that fills up.
func TestADiskThatFillsUpLeavesNothing(t *testing.T) {
	b, card := newBench(t), smallCard(t)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := b.child(t, "limit:300000", card).Output(); err != nil || string(out) != "begin\nfull\n" {
		t.Errorf("it says %q, %v", out, err)
	}
	b.checkEmpty(t)
	b.open(t)
	if copies, err := b.Copies(t.Context()); err != nil || len(copies) != 0 {
		t.Errorf("%d copies, %v", len(copies), err)
	}
}

// smallDisk is a bench on a disk of its own, of so many MiB.
func smallDisk(t *testing.T, mib string) *bench {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("staging-test", disk, "tmpfs", 0, "size="+mib+"m"); err != nil {
		t.Skipf("a small disk can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	b := &bench{path: filepath.Join(disk, "staging"), keyFile: filepath.Join(t.TempDir(), "key")}
	var err error
	if b.key, err = staging.NewKeyFile(b.keyFile); err != nil {
		t.Fatal(err)
	}
	b.open(t)
	return b
}

// Another program fills the disk while a copy runs: it ends when the reserve is
// touched, or when there is nothing left.
func TestAnotherProgramFillsTheDisk(t *testing.T) {
	for name, c := range map[string]struct{ leave, size int }{
		"the reserve is touched": {22 << 20, 20 << 20},
		"nothing is left":        {1 << 20, 3 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			b := smallDisk(t, "64")
			b.Reserve = 8 << 20
			hog := filepath.Join(filepath.Dir(b.path), "hog")
			r := newFake("first", strings.Repeat("x", c.size))
			r.opened = func(e device.Entry) error {
				if e.Path == "b" {
					return os.WriteFile(hog, make([]byte, 64<<20-c.leave), 0o600)
				}
				return nil
			}
			if _, err := b.stage(t.Context(), r); !errors.Is(err, staging.ErrFull) {
				t.Errorf("it gives %v", err)
			}
			b.checkEmpty(t)
			if err := os.Remove(hog); err != nil {
				t.Fatal(err)
			}
			r.opened = nil
			made, err := b.stage(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			checkSame(t, made, r)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Two slots at once must not each be promised the same room.
func TestTheRoomOfARunningCopyIsNotPromisedAgain(t *testing.T) {
	b := smallDisk(t, "16")
	content := strings.Repeat("x", 10<<20)
	first, second := newFake(content), newFake(content)
	first.opened = func(device.Entry) error { return device.ErrRemoved }
	if _, err := b.stage(t.Context(), first); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("the recorder that was pulled gives %v", err)
	}
	// What ended gives its room back.
	first.opened = func(device.Entry) error {
		if _, err := b.stage(t.Context(), second); !errors.Is(err, staging.ErrFull) {
			t.Errorf("the second gives %v", err)
		}
		return nil
	}
	made, err := b.stage(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	first.opened = nil
	checkSame(t, made, first)
	if err := made.Remove(t.Context(), sealedSession(first)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.stage(t.Context(), second); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
