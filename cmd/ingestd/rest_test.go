package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// fileKiB is how much of files is in this process's memory.
func fileKiB(t *testing.T) (n int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"RssFile:", "RssShmem:"} { // the latter where the program is on a tmpfs
		_, rest, _ := strings.Cut(string(status), kind)
		var kib int
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			t.Fatal(err)
		}
		n += kib
	}
	return n
}

// Memory is given back, and whatever runs meanwhile goes on and gives the same results.
func TestRest(t *testing.T) {
	before := fileKiB(t)
	rest()
	if after := fileKiB(t); after >= before {
		t.Errorf("%d KiB of files before, %d after", before, after)
	}
	want := sha256.Sum256(make([]byte, 1<<20))
	var working sync.WaitGroup
	end := make(chan struct{})
	for range 4 {
		working.Go(func() {
			for {
				if got := sha256.Sum256(make([]byte, 1<<20)); got != want {
					t.Errorf("%x", got)
				}
				select {
				case <-end:
					return
				default:
				}
			}
		})
	}
	for range 20 {
		rest()
	}
	close(end)
	working.Wait()
}
