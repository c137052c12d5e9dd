package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/bodyworn/ingestd/ingest"
)

const (
	redraw  = 200 * time.Millisecond
	logLine = 30 * time.Second
)

// phases are the words for a slot's states, in both languages.
var phases = map[ingest.SlotState]string{
	ingest.Identifying: "识别 identifying", ingest.Queued: "排队 queued", ingest.Copying: "采集 copying",
	ingest.Verifying: "校验 verifying", ingest.Finalizing: "封存 sealing",
}

// watchProgress shows how far a docking is, a bar on a terminal and a line every
// half minute elsewhere, until stop is called.
func (a *app) watchProgress(p *ingest.Progress) (stop func()) {
	if a.quiet || a.noProgress {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	f, ok := a.err.(*os.File)
	show := logLines
	if ok && term.IsTerminal(int(f.Fd())) {
		show = bar
	}
	go func() {
		defer close(ended)
		show(a.err, p, done)
	}()
	return func() {
		close(done)
		<-ended
	}
}

func status(p *ingest.Progress) string {
	return fmt.Sprintf("%s  %d/%d files  %s", phases[p.State()], p.Done.Load(), p.Files.Load(), humanize.IBytes(uint64(p.Bytes.Load())))
}

func bar(w io.Writer, p *ingest.Progress, done <-chan struct{}) {
	const whole = 1000
	bars := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(redraw))
	b := bars.New(whole, mpb.BarStyle(), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return status(p) + " " })),
		mpb.AppendDecorators(decor.Percentage()))
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-done:
			b.Abort(true)
			bars.Wait()
			return
		case <-tick.C:
			b.SetCurrent(min(whole*99/100, int64(whole*p.Fraction())))
		}
	}
}

func logLines(w io.Writer, p *ingest.Progress, done <-chan struct{}) {
	tick := time.NewTicker(logLine)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			fmt.Fprintf(w, "%s  %s  %2.0f %%\n", time.Now().Format(time.RFC3339), status(p), 100*p.Fraction())
		}
	}
}
