package ledger_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/ledger"
)

// The test binary is its own child: it appends COUNT batches (0: for ever) of
// three entries and prints "FIRST SESSION" after each that is acknowledged.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LEDGER_CHILD_DIR"); dir != "" {
		if err := child(dir, os.Getenv("LEDGER_CHILD_NAME"), os.Getenv("LEDGER_CHILD_COUNT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const childBatch = 3

func child(dir, name, count string) error {
	batches, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	l, err := ledger.Open(context.Background(), dir, station, func(r ledger.Repair) { fmt.Println("repair", r.Kind) })
	if err != nil {
		return err
	}
	for n := 0; batches == 0 || n < batches; n++ {
		session := fmt.Sprintf("%s-%d", name, n)
		first, err := l.Append(context.Background(), ofSession(session)...)
		if err != nil {
			return err
		}
		fmt.Println(first, session)
	}
	return nil
}

// ofSession gives a batch of the same time, so that no order is wrong.
func ofSession(session string) []ledger.Entry {
	var batch []ledger.Entry
	for range childBatch {
		e := entry(0)
		e.Session = session
		batch = append(batch, e)
	}
	return batch
}

func childCommand(ctx context.Context, dir, name string, batches int) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "LEDGER_CHILD_DIR="+dir, "LEDGER_CHILD_NAME="+name, "LEDGER_CHILD_COUNT="+strconv.Itoa(batches))
	cmd.Stderr = os.Stderr
	return cmd
}

// acks are batches that were acknowledged, by the index of their first line.
type acks map[int64]string

func (a acks) add(t *testing.T, first, session string) {
	t.Helper()
	index, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		t.Errorf("a child says %q", first)
		return
	}
	if was, twice := a[index]; twice {
		t.Errorf("index %d was given to %s and to %s", index, was, session)
	}
	a[index] = session
}

// check proves that every batch that was acknowledged is there as a whole.
func (a acks) check(t *testing.T, dir string) {
	t.Helper()
	all := readAll(t, open(t, dir), 0)
	for first, session := range a {
		for i := first; i < first+childBatch; i++ {
			if i >= int64(len(all)) || all[i].Entry.Session != session {
				t.Fatalf("line %d of %d is not of %s, which was acknowledged", i, len(all), session)
			}
		}
	}
	checkSound(t, dir, int64(len(all)))
	if len(all)%childBatch != 0 {
		t.Errorf("%d lines: a batch of %d is not whole", len(all), childBatch)
	}
}

func TestGoroutinesAndProcessesAppendAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const goroutines, processes, batches = 4, 3, 12
	given := acks{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	l := open(t, dir)
	for g := range goroutines {
		wg.Go(func() {
			for n := range batches {
				session := fmt.Sprintf("goroutine%d-%d", g, n)
				first, err := l.Append(t.Context(), ofSession(session)...)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				given.add(t, fmt.Sprint(first), session)
				mu.Unlock()
				report, err := ledger.Verify(t.Context(), dir, ledger.Keys{station.PublicKey()}, origin)
				if err != nil || !report.Sound() { // appends go on, and do not matter
					t.Error(report, err)
				}
			}
		})
	}
	for p := range processes {
		wg.Go(func() {
			out, err := childCommand(t.Context(), dir, fmt.Sprint("process", p), batches).Output()
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for line := range strings.Lines(string(out)) {
				first, session, _ := strings.Cut(strings.TrimSpace(line), " ")
				given.add(t, first, session)
			}
		})
	}
	wg.Wait()
	if want := (goroutines + processes) * batches; len(given) != want {
		t.Errorf("%d batches acknowledged, want %d", len(given), want)
	}
	given.check(t, dir)
	checkSound(t, dir, (goroutines+processes)*batches*childBatch)
}

func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	const kills = 32
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	given := acks{}
	repairs := map[string]int{}
	for k := range kills {
		cmd := childCommand(t.Context(), dir, fmt.Sprint("child", k), 0)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// It dies some acknowledgements after its start and a part of one later.
		after, delay := random.IntN(6), time.Duration(random.IntN(6000))*time.Microsecond
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			first, session, _ := strings.Cut(lines.Text(), " ")
			if first == "repair" {
				repairs[session]++
				continue
			}
			given.add(t, first, session)
			if n++; n == after+1 {
				time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	// What the last one left is for this process to put right.
	if _, err := ledger.Open(t.Context(), dir, station, func(r ledger.Repair) { repairs[r.Kind]++ }); err != nil {
		t.Fatal(err)
	}
	given.check(t, dir)
	t.Logf("%d batches acknowledged; repairs: %v", len(given), repairs)
}
