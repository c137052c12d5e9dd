//go:build crashpoints

package embedded

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Fault tests build the program with the tag crashpoints. BODYWORN_CRASH in the
// environment names a place in the store's writes and which time there ends its
// process with SIGKILL: store.put.published:3:kill is the third object that has
// got its name and is not synced yet.
var crashes struct {
	mu   sync.Mutex
	seen map[string]int // guarded by mu; how often each place was passed
}

func crashPoint(here string) {
	place, rest, _ := strings.Cut(os.Getenv("BODYWORN_CRASH"), ":")
	if place != here {
		return
	}
	count, _, _ := strings.Cut(rest, ":")
	at, err := strconv.Atoi(count)
	if err != nil {
		panic("BODYWORN_CRASH is not PLACE:COUNT:kill: " + err.Error())
	}
	crashes.mu.Lock()
	defer crashes.mu.Unlock()
	if crashes.seen == nil {
		crashes.seen = map[string]int{}
	}
	if crashes.seen[here]++; crashes.seen[here] != at {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // a process may always signal itself
	select {}                                      // the signal is on its way
}
