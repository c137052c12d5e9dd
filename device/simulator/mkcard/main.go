// Command mkcard writes a realistic recorder card into a directory, for the
// demo, the bench and anyone who wants to try ingestd without a recorder.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
	_ "time/tzdata" // the recorder's zone, also where the machine has none

	"github.com/dustin/go-humanize"

	"github.com/bodyworn/ingestd/device/simulator"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mkcard:", err)
		os.Exit(1)
	}
}

func run() error {
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		return err
	}
	card := simulator.Card{}
	dir := flag.String("dir", "", "`folder` to write to; absent or empty")
	flag.StringVar(&card.Recorder, "recorder", "", "number of the recorder (default NMQ0007)")
	flag.StringVar(&card.Officer, "officer", "", "number of the officer (default 052507)")
	flag.Uint64Var(&card.Seed, "seed", 0, "varies what is random")
	flag.IntVar(&card.Clips, "clips", 0, "number of video segments (default 4)")
	flag.DurationVar(&card.ClipLength, "clip-length", 0, "length of each (default 10s)")
	clipSize := flag.String("clip-size", "", "size of each, such as 100MiB (default: what the pictures take)")
	start := flag.String("start", "", "when the first segment began, RFC 3339 (default an hour ago)")
	small := flag.Int("small", 0, "small files to add, below SMALL")
	smallSize := flag.String("small-size", "64KiB", "size of each of them")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *clipSize != "" {
		n, err := humanize.ParseBytes(*clipSize)
		if err != nil {
			return fmt.Errorf("-clip-size: %w", err)
		}
		card.ClipBytes = int64(n)
	}
	card.Start = time.Now().Add(-time.Hour).Truncate(time.Second).In(zone)
	if *start != "" {
		if card.Start, err = time.Parse(time.RFC3339, *start); err != nil {
			return fmt.Errorf("-start: %w", err)
		}
	}
	made, err := card.Write(*dir)
	if err != nil {
		return err
	}
	if *small > 0 {
		n, err := humanize.ParseBytes(*smallSize)
		if err != nil {
			return fmt.Errorf("-small-size: %w", err)
		}
		if err := simulator.Many(filepath.Join(*dir, "SMALL"), *small, int64(n)); err != nil {
			return err
		}
		made.Bytes += int64(n) * int64(*small)
	}
	fmt.Printf("a recorder's card in %s: %d files, %s\n", *dir, len(made.Files)+*small, humanize.IBytes(uint64(made.Bytes)))
	return nil
}
