//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// world is what a scenario works with.
type world struct {
	m     *machine
	store *store
	long  bool     // the whole of what the short run samples
	notes []string // numbers that the running scenario has measured
}

// note adds to the line that is printed of a scenario.
func (w *world) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// scenario is one test in the machine.
type scenario struct {
	name  string
	test  func(*testing.T, *world)
	udevd bool // also run where udevd runs
}

var scenarios = []scenario{
	{"FAT32", testFAT32, true},
	{"Layouts", testLayouts, true},
	{"LargeFile", testLargeFile, false},
	{"Yank", testYank, true},
	{"Crash", testCrash, false},
	{"Swap", testSwap, true},
	{"Strangers", testStrangers, false}, // udevd opens what is plugged in
	{"Dirty", testDirty, false},
	{"Pending", testPending, false},
	{"Damaged", testDamaged, false},
	{"Unreadable", testUnreadable, false},
	{"PTP", testPTP, true},
	{"Locked", testLocked, true},
	{"WrongPassword", testWrongPassword, false},
	{"Commands", testCommands, false},
	{"Disposal", testDisposal, false},
	{"Idle", testIdle, false},
	{"Leaks", testLeaks, false},
}

// TestStation boots the machine once and runs the scenarios in it, one after the
// other. Each leaves it as it was: nothing plugged in, no daemon.
func TestStation(t *testing.T) {
	began := time.Now()
	w := &world{store: newStore(t), m: boot(t), long: os.Getenv("BODYWORN_E2E_LONG") != ""}
	w.m.must(t, "forward", wire.Forward{Listen: "127.0.0.1:9000", To: "10.0.2.2:" + w.store.port}, nil)
	say("the machine is up, Linux %s  %.1f s", w.m.run(t, "uname", "-r"), time.Since(began).Seconds())
	udevd := os.Getenv("BODYWORN_E2E_UDEVD") != ""
	if udevd {
		w.m.run(t, "pidof", "systemd-udevd")
	}
	ran := 0
	for _, s := range scenarios {
		if udevd && !s.udevd {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			ran++
			began := time.Now()
			w.notes = nil
			before := len(w.m.serial())
			t.Cleanup(func() { // runs after those of the scenario
				kernel := w.m.serial()[before:]
				if trouble := kernelTrouble.FindString(kernel); trouble != "" {
					t.Errorf("the kernel is in trouble: %s", trouble)
				}
				verdict := "ok  "
				if t.Failed() {
					verdict = "FAIL"
					t.Logf("the kernel's log:\n%s", kernel)
				} else if t.Skipped() {
					verdict = "skip"
				}
				say("%s  %-24s %6.1f s  %s", verdict, s.name, time.Since(began).Seconds(), strings.Join(w.notes, "; "))
			})
			// Images are large; they go with their scenario.
			kept, err := filepath.Glob(filepath.Join(w.m.dir, "image*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, image := range kept {
				if err := os.Remove(image); err != nil {
					t.Fatal(err)
				}
			}
			s.test(t, w)
		})
	}
	if ran == 0 {
		t.Error("no scenario was run: none has such a name, or not in this machine")
	}
}

// kernelTrouble is what a kernel says when the machine itself can't be trusted.
var kernelTrouble = regexp.MustCompile(`(?m)^.*(BUG:|Oops|Kernel panic|blocked for more than|Call Trace|Out of memory).*$`)

func say(format string, args ...any) { fmt.Fprintf(os.Stdout, "  "+format+"\n", args...) }
