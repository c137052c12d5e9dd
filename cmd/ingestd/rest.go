package main

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// restAfter is how long after the start, and after each session, memory is given back.
const restAfter = 5 * time.Second

// rest gives back the memory that work has needed: a station may be idle for a day. Of
// the program's file only instructions go, which nobody has written to; the kernel maps
// those that are needed again, mostly from its cache. Other pages may have been relocated.
func rest() {
	debug.FreeOSMemory()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return // there is no /proc: the memory stays, and nothing else changes
	}
	here := reflect.ValueOf(rest).Pointer()
	defer func() { _ = maps.Close() }() // only read
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to, offset uintptr
		var may, device string
		var inode uint64 // 0: it is not of a file, and would be lost
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s %x %s %d", &from, &to, &may, &offset, &device, &inode); err == nil && from <= here && here < to && may == "r-xp" && inode != 0 {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED) // or it stays
		}
	}
}
