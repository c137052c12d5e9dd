package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// statusEvery is how often a program that reads our lines is told how far long work is.
const statusEvery = 2 * time.Second

// streaming marks a command whose result can be read line by line while it works (-o
// jsonl): status, finding, then a summary or an error at the end.
const streaming = "stream"

// streams marks a command whose long work can be followed.
var streams = map[string]string{streaming: "true"}

// line is one of them.
func (a *app) line(kind string, with any) error {
	text, err := json.Marshal(with)
	if err != nil {
		return err
	}
	if string(text) == "{}" {
		text = []byte(`}`)
	} else {
		text[0] = ','
	}
	_, err = fmt.Fprintf(a.out, `{"type":%q%s`+"\n", kind, text)
	return err
}

// endLine is the last line of work that has failed or has findings.
func (a *app) endLine(err error) error {
	return a.line("error", map[string]any{"exit": codeOf(err, false), "error": err.Error()})
}

// meter tells how many bytes long work has read: a line that is written over on a
// terminal, one each half minute elsewhere, and one each two seconds for a program.
func (a *app) meter() (read func(int), stop func()) {
	var bytes atomic.Int64
	every, show, clear := logLine, func() { fmt.Fprintf(a.err, "%s read back\n", size(bytes.Load())) }, func() {}
	f, ok := a.err.(*os.File)
	switch {
	case a.output == asJSONL:
		every, show = statusEvery, func() {
			_ = a.line("status", map[string]any{"bytes": bytes.Load()}) // the summary says whether that works
		}
	case a.quiet || a.noProgress:
		return func(int) {}, func() {}
	case ok && term.IsTerminal(int(f.Fd())):
		every, show = redraw, func() { fmt.Fprintf(a.err, "\r\x1b[K回读 %s read back", size(bytes.Load())) }
		clear = func() { fmt.Fprint(a.err, "\r\x1b[K") }
	}
	done := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show()
			case <-done:
				clear()
				return
			}
		}
	})
	return func(n int) { bytes.Add(int64(n)) }, func() {
		close(done)
		showing.Wait()
	}
}
