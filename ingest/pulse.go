package ingest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/storage"
)

// wait is what a session can wait for, in words for a message.
type wait int

// In the order in which they are told. Waiting for memory says nothing by itself:
// whoever holds it waits for something else.
const (
	forRecorder wait = iota
	forStore
	forTurn
	forMemory
	waits
)

var waitWords = [waits]string{
	forRecorder: "the recorder has not answered",
	forStore:    "the store has not answered",
	forTurn:     "it waits for its turn: ingest.parallel recorders are being read",
	forMemory:   "it waits for memory, which other recorders have (storage.buffer_memory)",
}

// pulse tells whether a session moves, and what it waits for where it does not.
// It is safe for concurrent use; the zero value is ready.
type pulse struct {
	beats atomic.Int64 // grows with every piece that was read, sent or read back
	now   [waits]atomic.Int64
}

func (p *pulse) beat() { p.beats.Add(1) }

// waiting notes that something is waited for until done is called.
func (p *pulse) waiting(what wait) (done func()) {
	p.now[what].Add(1)
	return func() {
		p.now[what].Add(-1)
		p.beat()
	}
}

// watchPulse tells of a session that does not move, once, and again when it does.
// It ends with stop, which waits for it.
func (w *session) watchPulse() (stop func()) {
	limit := w.cfg.StallAfter
	if limit <= 0 {
		return func() {}
	}
	end, ended := make(chan struct{}), sync.WaitGroup{}
	ended.Go(func() {
		tick := time.NewTicker(max(limit/8, time.Millisecond))
		defer tick.Stop()
		beats, moved, stalled := w.pulse.beats.Load(), time.Now(), false
		for {
			select {
			case <-tick.C:
			case <-end:
				return
			}
			still := time.Since(moved)
			switch now := w.pulse.beats.Load(); {
			case now != beats:
				if stalled {
					w.emitKnown(Event{Name: "ingest.moving", Took: still, Message: "it goes on"})
				}
				beats, moved, stalled = now, time.Now(), false
				w.options.Progress.stalled.Store(false)
			case !stalled && still >= limit:
				stalled = true
				level, why := w.standstill(limit)
				w.options.Progress.stalled.Store(level != Info)
				w.emitKnown(Event{Name: "ingest.stalled", Level: level, Took: still, Message: "no byte was read, sent or read back: " + why})
			}
		}
	})
	return func() {
		close(end)
		ended.Wait()
	}
}

// standstill says why nothing moves, as far as that is known. To be in the queue
// is no reason to worry.
func (w *session) standstill(limit time.Duration) (Level, string) {
	var why []string
	for what := range forMemory {
		if w.pulse.now[what].Load() > 0 {
			why = append(why, waitWords[what])
		}
	}
	if w.journal.Committing() >= limit/2 {
		why = append(why, "the journal, on the disk of state_dir, has not answered")
	}
	if len(why) == 0 && w.pulse.now[forMemory].Load() > 0 {
		why = append(why, waitWords[forMemory])
	}
	if len(why) == 0 {
		return Warn, "the reason is not known"
	}
	if len(why) == 1 && w.pulse.now[forTurn].Load() > 0 {
		return Info, why[0]
	}
	return Warn, strings.Join(why, "; ")
}

// emitKnown is emitFor for the watch, which must not look into the session's row.
func (w *session) emitKnown(e Event) {
	e.Slot = w.docking.Slot
	if known := w.known.Load(); known != nil {
		e.Session, e.Recorder, e.Officer = known.Session, known.Recorder, known.Officer
	}
	w.emit(e)
}

// asking does something for which the recorder must answer.
func (w *session) asking(ask func() error) error {
	defer w.pulse.waiting(forRecorder)()
	return ask()
}

// withStore is the station's, seen by the session's pulse.
func (w *session) withStore(ctx context.Context, request func() error) error {
	defer w.pulse.waiting(forStore)()
	return w.Station.withStore(ctx, func() error {
		err := request()
		if errors.Is(err, storage.ErrUnavailable) {
			w.doubted.Store(true)
		}
		return err
	})
}

// watched is a recorder whose files tell when they are waited for.
type watched struct {
	device.Recorder
	pulse *pulse
}

func (r watched) Open(ctx context.Context, e device.Entry, offset int64) (device.File, error) {
	defer r.pulse.waiting(forRecorder)()
	f, err := r.Recorder.Open(ctx, e, offset)
	if err != nil {
		return nil, err
	}
	if filler, ok := f.(device.Filler); ok {
		return watchedFiller{watchedFile{f, r.pulse}, filler}, nil
	}
	return watchedFile{f, r.pulse}, nil
}

type watchedFile struct {
	device.File
	pulse *pulse
}

func (f watchedFile) Read(p []byte) (int, error) {
	defer f.pulse.waiting(forRecorder)()
	return f.File.Read(p)
}

func (f watchedFile) Stat() (int64, time.Time, error) {
	defer f.pulse.waiting(forRecorder)()
	return f.File.Stat()
}

func (f watchedFile) Close() error {
	defer f.pulse.waiting(forRecorder)()
	return f.File.Close()
}

// watchedFiller is a watchedFile that keeps what the driver's own can do.
type watchedFiller struct {
	watchedFile
	filler device.Filler
}

func (f watchedFiller) Fill(buf []byte, each func(piece []byte) error) (int, error) {
	defer f.pulse.waiting(forRecorder)()
	return f.filler.Fill(buf, func(piece []byte) error {
		f.pulse.beat()
		return each(piece)
	})
}
