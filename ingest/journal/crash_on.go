//go:build crashpoints

package journal

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Fault tests build the program with the tag crashpoints and say in the
// environment what is to happen to it:
//
//	BODYWORN_CRASH=journal.before:7:kill   SIGKILL before the seventh commit
//	BODYWORN_CRASH=journal.after:7:term    SIGTERM after it, before it is told
//	BODYWORN_CLOCK_OFFSET=-24h             the station's clock is a day behind
//
// "Before" leaves a store that knows more than the journal, "after" a journal
// that knows more than the program.
var commits atomic.Int64

func makeDurable(tx *sql.Tx) error {
	n := commits.Add(1)
	crash("journal.before", n)
	if err := tx.Commit(); err != nil {
		return err
	}
	crash("journal.after", n)
	return nil
}

// crash ends the process if it is here and at this count that it is to end. With
// SIGTERM it goes on, as a process does that is told to stop.
func crash(here string, count int64) {
	place, rest, _ := strings.Cut(os.Getenv("BODYWORN_CRASH"), ":")
	if place != here {
		return
	}
	var at int64
	var how string
	if _, err := fmt.Sscanf(strings.Replace(rest, ":", " ", 1), "%d %s", &at, &how); err != nil {
		panic("BODYWORN_CRASH is not PLACE:COUNT:kill or PLACE:COUNT:term: " + err.Error())
	}
	if at != count {
		return
	}
	if how == "term" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM) // a process may always signal itself
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

var clockOffset = func() time.Duration {
	text := os.Getenv("BODYWORN_CLOCK_OFFSET")
	if text == "" {
		return 0
	}
	offset, err := time.ParseDuration(text)
	if err != nil {
		panic("BODYWORN_CLOCK_OFFSET: " + err.Error())
	}
	return offset
}()

func systemTime() time.Time { return time.Now().Add(clockOffset) }
