// Command mkcard writes a recorder's card (执法记录仪存储卡) into a folder, for the
// demo, the bench and anyone who wants to try ingestd without a recorder.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"
	_ "time/tzdata" // the recorder's zone, also where the machine has none

	"github.com/dustin/go-humanize"

	"github.com/bodyworn/ingestd/device/simulator"
)

const about = `usage: mkcard -dir FOLDER [flags]

Writes a recorder's card 执法记录仪存储卡 as recorders do: clips that play, GPS
tracks, photos, a voice note, Param.ini, a Chinese name, an empty file and one
of unknown kind. The same flags with the same -start make the same bytes.

`

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
	card := simulator.Card{Start: time.Now().Add(-time.Hour).Truncate(time.Second).In(zone)}
	var clipSize, smallSize int64 = 0, 64 << 10
	dir := flag.String("dir", "", "`folder` to write to, absent or empty")
	flag.StringVar(&card.Recorder, "recorder", "", "`number` of the recorder (default NMQ0007)")
	flag.StringVar(&card.Officer, "officer", "", "`number` of the officer (default 052507)")
	flag.Uint64Var(&card.Seed, "seed", 0, "another `number` makes other pictures and another walk")
	flag.IntVar(&card.Clips, "clips", 4, "`number` of clips, one after the other")
	flag.DurationVar(&card.ClipLength, "clip-length", 10*time.Second, "how `long` each of them is")
	flag.Func("clip-size", "`size` of each, such as 100MiB (default what its pictures take)", bytes(&clipSize))
	flag.Func("start", "`time` when the first clip began, RFC 3339 (default an hour ago)", func(s string) (err error) {
		card.Start, err = time.Parse(time.RFC3339, s)
		return err
	})
	small := flag.Int("small", 0, "`number` of small files to add in the folder SMALL")
	flag.Func("small-size", "`size` of each of them (default 64KiB)", bytes(&smallSize))
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), about)
		flag.PrintDefaults()
	}
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if card.Clips == 0 { // which Card takes for its default
		card.Clips = -1
	}
	card.ClipBytes = clipSize
	made, err := card.Write(*dir)
	if err != nil {
		return err
	}
	if *small > 0 {
		if err := simulator.Many(filepath.Join(*dir, "SMALL"), *small, smallSize); err != nil {
			return err
		}
		made.Bytes += smallSize * int64(*small)
	}
	fmt.Printf("a recorder's card in %s: %d files, %s\n", *dir, len(made.Files)+max(*small, 0), humanize.IBytes(uint64(made.Bytes)))
	fmt.Printf("%d clips of %s, the first begun %s\n", max(card.Clips, 0), card.ClipLength, card.Start.Format(time.RFC3339))
	return nil
}

// bytes parses a flag that is a size.
func bytes(size *int64) func(string) error {
	return func(s string) error {
		n, err := humanize.ParseBytes(s)
		if err == nil && n > math.MaxInt64 {
			err = fmt.Errorf("%q is too large", s)
		}
		*size = int64(n)
		return err
	}
}
