//go:build faults

package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/storetest"
)

// group is the faults of one kind.
type group struct {
	name string
	run  func(k *kind, s *storetest.Server)
}

var groups = []group{
	{"commit", killedAtCommits},
	{"moment", killedAtMoments},
	{"store-step", storeKilledAtSteps},
	{"store-moment", storeKilledAtMoments},
	{"card", cardFaults},
	{"line", lineFaults},
	{"station", stationFaults},
}

// TestFaults runs all kinds of fault: once in the short form, or with new seeds
// until the minutes are over.
func TestFaults(t *testing.T) {
	s := readSettings(t)
	server := storetest.MinIO(t, false)
	s.minio = server.Config()
	s.makeTemplates(t, server)
	began := time.Now()
	totals := map[string]counts{}
	rounds := 0
	for ; rounds == 0 || time.Since(began) < s.minutes; rounds++ {
		seed := s.seed + uint64(rounds)
		fmt.Fprintf(os.Stdout, "round %d, seed %d\n", rounds+1, seed)
		for name, c := range round(t, s, server, seed) {
			sum := totals[name]
			sum.add(c)
			totals[name] = sum
		}
		if t.Failed() && s.minutes == 0 {
			break
		}
	}
	if rounds > 1 {
		fmt.Fprintf(os.Stdout, "all %d rounds\n", rounds)
	}
	var all counts
	for _, g := range groups {
		c := totals[g.name]
		if rounds > 1 {
			fmt.Fprintf(os.Stdout, "  %-18s %s\n", g.name, c)
		}
		all.add(c)
	}
	fmt.Fprintf(os.Stdout, "  %-18s %s\n  %s, seed %d\n", "together", all, time.Since(began).Round(time.Second), s.seed)
	if all.cases == 0 {
		t.Error("no case was run")
	}
}

// round runs every kind with one seed, several cases at a time.
func round(t *testing.T, s *settings, server *storetest.Server, seed uint64) map[string]counts {
	done := map[string]counts{}
	var mu sync.Mutex // guards done
	t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
		for _, g := range groups {
			t.Run(g.name, func(t *testing.T) {
				t.Parallel()
				k := &kind{t: t, s: s, name: g.name, seed: seed, long: s.minutes > 0}
				// The cases are parallel tests: this is called after the last of them.
				t.Cleanup(func() {
					if k.counts.cases > 0 || len(k.notes) > 0 {
						k.print()
					}
					mu.Lock()
					defer mu.Unlock()
					done[g.name] = k.counts
				})
				g.run(k, server)
			})
		}
	})
	return done
}

func readSettings(t *testing.T) *settings {
	t.Helper()
	s := &settings{program: os.Getenv("BODYWORN_FAULTS_PROGRAM"), seed: uint64(rand.Uint32())}
	if s.program == "" {
		t.Fatal("these tests are started by scripts/faults, which builds the program for them")
	}
	var err error
	if text := os.Getenv("BODYWORN_FAULTS_SEED"); text != "" {
		if s.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("--seed: %v", err)
		}
	}
	if text := os.Getenv("BODYWORN_FAULTS_MINUTES"); text != "" {
		minutes, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("--minutes: %v", err)
		}
		s.minutes = time.Duration(minutes * float64(time.Minute))
	}
	if text := os.Getenv("BODYWORN_FAULTS_ONLY"); text != "" {
		if s.only, err = regexp.Compile(text); err != nil {
			t.Fatalf("--only: %v", err)
		}
	}
	if name := os.Getenv("BODYWORN_FAULTS_LOG"); name != "" {
		if s.log, err = os.Create(name); err != nil {
			t.Fatalf("--keep-log: %v", err)
		}
		t.Cleanup(func() {
			if err := s.log.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return s
}
