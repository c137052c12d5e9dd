package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/policy"
)

// session is the work on one docking. It is owned by the goroutine of
// Station.Ingest; the copying goroutines get single files of it, and each file
// has one owner at a time.
type session struct {
	*Station
	// cfg hides the station's: what it was when the docking began holds to its end.
	cfg     Config
	docking device.Docking
	options Options
	began   time.Time
	// lifetime is the caller's context: a serial number is held beyond this try.
	lifetime context.Context

	recorder device.Recorder // nil before it is opened and after it is released
	record   journal.Session // the journal's row
	files    []*journal.File
	resumed  bool
	doubted  atomic.Bool // the store may not have any more what it had
	read     counter
	pulse    pulse
	seat     *docked               // what the slot shows of it
	known    atomic.Pointer[Event] // whose the session is, for the watch over the pulse
	witness  witness
	health   device.Health // at the end, for the check before use
	unit     string        // of the recorder, as the register has it
	facts    policy.Facts  // for the policy; read by all while files are copied, changed in between
	// undecided is set once it was told that the policy can't decide.
	undecided atomic.Bool

	mu      sync.Mutex
	namer   *storage.Namer // guarded by mu while files are copied
	mishaps map[string]int // guarded by mu; how often a file had to be sent again
}

// looksAtMost bounds how often a recorder that is still being written to is
// looked at again.
const looksAtMost = 3

func (w *session) run(ctx context.Context) (err error) {
	if err := w.asking(func() (err error) { w.recorder, err = w.docking.Open(ctx); return err }); err != nil {
		return fmt.Errorf("open the recorder in %s: %w", w.docking.Slot, err)
	}
	// 1. Who it is, and its clock before anything else is done to it (第十条).
	if err := w.identify(ctx); err != nil {
		return err
	}
	release, err := w.claim(w.lifetime, w.record.Recorder, w.docking)
	if err != nil {
		return err
	}
	defer release()
	if err := w.waitForTurn(ctx); err != nil {
		return err
	}
	defer func() { <-w.turns }()

	// 2. The inventory is durable before the first byte is copied: from here on
	// every path of the recorder must get its result, whatever happens.
	if err := w.takeInventory(ctx); err != nil {
		return w.interrupted(ctx, err)
	}
	// 3. Copy and verify. Each file's state is durable as soon as it is true.
	// Then look again: what came or changed meanwhile is taken in too, or it
	// would be called safe unseen.
	for look := 1; ; look++ {
		w.show(Copying)
		if err := w.learnFacts(ctx); err != nil {
			return w.interrupted(ctx, err)
		}
		if err := w.copyFiles(ctx); err != nil {
			return w.interrupted(ctx, err)
		}
		more, err := w.lookAgain(ctx, look >= looksAtMost)
		if err == nil && !more {
			more, err = w.confirmStored(ctx)
		}
		if err != nil {
			return w.interrupted(ctx, err)
		}
		if !more {
			break
		}
	}
	// 4. What the footage tells of the clock; then the clock is set, and not before:
	// nothing that was set can be measured any more.
	w.boundClock()
	if err := w.asking(func() error { return w.setClock(ctx) }); err != nil {
		return w.interrupted(ctx, err)
	}
	w.seat.know(w.record, w.cfg.ClockWarnOver)
	if w.docking.Stays {
		if err := w.asking(func() (err error) { w.health, err = w.recorder.Health(ctx); return err }); err != nil {
			w.health = device.Health{} // unknown: a person looks
		}
	}
	// 5. Seal: the manifest is the commit mark.
	w.show(Finalizing)
	if err := w.seal(ctx); err != nil {
		return w.interrupted(ctx, err)
	}
	return nil
}

// identify fills the session's row with what is known and checks the register.
func (w *session) identify(ctx context.Context) error {
	var clock device.ClockReading
	var health device.Health
	err := w.asking(func() (err error) { clock, err = w.recorder.Clock(ctx); return err })
	if err != nil {
		return fmt.Errorf("read the recorder's clock: %w", err)
	}
	err = w.asking(func() (err error) { health, err = w.recorder.Health(ctx); return err })
	if err != nil && errors.Is(err, device.ErrRemoved) {
		return err
	}
	if err != nil { // unknown health is no reason to leave footage on a recorder
		w.emitFor(Event{Name: "device.card_error", Level: Warn, Err: err, Message: "the recorder's condition can't be read"})
	}
	id := w.recorder.Identity()
	if w.options.Recorder != "" {
		id.Serial = device.Fact{Value: w.options.Recorder, Source: "named at ingest"}
	}
	if w.options.Officer != "" {
		id.Officer = device.Fact{Value: w.options.Officer, Source: "named at ingest"}
	}
	w.record = journal.Session{Recorder: id.Serial.Value, Officer: id.Officer.Value, Slot: w.docking.Slot, Identity: id, Clock: clock, Health: health}
	registered, err := w.lookUp(ctx, id.Serial.Value)
	if err != nil {
		return err
	}
	if registered != nil {
		w.unit = registered.Unit
	}
	if registered != nil && !id.Officer.Known() && registered.Officer != "" {
		id.Officer = device.Fact{Value: registered.Officer, Source: "register"}
	}
	w.record.Officer, w.record.Identity = id.Officer.Value, id
	if err := w.judgeClock(ctx, clock); err != nil {
		return err
	}
	w.nowKnown()
	w.emitFor(Event{Name: "slot.identified", Message: "clock: " + clock.Words(), Clock: &clock, Health: &health})
	w.warnOfClock()
	return nil
}

// lookUp finds a recorder in the register; nil with no error is one that is not
// there and is taken in all the same.
func (w *session) lookUp(ctx context.Context, serial string) (*journal.Recorder, error) {
	all, err := w.journal.Recorders(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Serial == serial {
			return &r, nil
		}
	}
	switch {
	case w.cfg.RefuseUnregistered && serial == "":
		return nil, fmt.Errorf("the recorder tells no serial number: %w: name it with --recorder, or set recorders.unregistered", ErrUnregistered)
	case w.cfg.RefuseUnregistered:
		return nil, fmt.Errorf("recorder %s: %w: add it with `ingestd recorders add` and dock it again", serial, ErrUnregistered)
	case len(all) > 0:
		w.emitFor(Event{Name: "device.unknown", Level: Warn, Message: "the recorder is not in the register; it is taken in all the same"})
	}
	return nil, nil
}

func (w *session) waitForTurn(ctx context.Context) error {
	select {
	case w.turns <- struct{}{}:
		return nil
	default:
	}
	w.show(Queued)
	w.emitFor(Event{Name: "ingest.queued", State: Queued})
	defer w.pulse.waiting(forTurn)()
	select {
	case w.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin gives the session its identity in journal and store.
func (w *session) begin() {
	now := w.journal.Now()
	w.record.ID = newSessionID(now, w.cfg.Location)
	w.record.State = journal.StateOpen
	w.record.DockedAt = now
	w.record.EarlyRemovals = new(int)
	w.record.Verification = w.cfg.Verification
	w.record.Prefix = fmt.Sprintf("%s/%s/%s/", w.cfg.ID, now.In(w.cfg.Location).Format(time.DateOnly), w.record.ID)
	w.nowKnown()
}

// resume goes on with a session that was cut off. What is new about the recorder
// is kept, its first clock reading too: later ones come after it was handled.
func (w *session) resume(ctx context.Context, open journal.Session, files []*journal.File) error {
	now := w.record
	w.record, w.files, w.resumed = open, files, true
	w.doubted.Store(true)
	w.record.Slot, w.record.Identity, w.record.Health, w.record.Reason = now.Slot, now.Identity, now.Health, ""
	if w.record.Officer == "" {
		w.record.Officer = now.Officer
	}
	w.nowKnown()
	w.emitFor(Event{Name: "ingest.resumed", State: Copying})
	return w.journal.SaveSession(ctx, w.record)
}

// interrupted notes why the session can't go on; it stays open.
func (w *session) interrupted(ctx context.Context, cause error) error {
	if w.record.ID == "" || w.record.State != journal.StateOpen {
		return cause
	}
	w.record.Reason = cause.Error()
	return errors.Join(cause, w.journal.SaveSession(context.WithoutCancel(ctx), w.record))
}

func (w *session) release() error {
	if w.recorder == nil {
		return nil
	}
	err := w.asking(w.recorder.Close)
	w.recorder = nil
	return err
}

func (w *session) report() Report {
	return Report{
		Session: w.record, Files: w.files, Totals: totals(w.files),
		BytesRead: w.read.value(), Resumed: w.resumed,
	}
}

// tell is the end of the docking in one event.
func (w *session) tell(r Report, err error) {
	e := Event{Name: "ingest.finished", Bytes: r.Totals.Bytes, Took: time.Since(w.began), Err: err, State: r.State, Totals: &r.Totals,
		Message: fmt.Sprintf("%s: %d files, %d stored, %d identical, %d not stored", r.State, r.Totals.Files, r.Totals.Stored, r.Totals.Identical, r.Totals.NotStored)}
	switch r.State {
	case Safe:
	case RemovedEarly:
		e.Name, e.Level = "slot.removed_early", Alarm
		e.Message = "put the recorder back: " + e.Message
	case UnknownDevice:
		e.Name, e.Level = "device.unknown", Alarm
		if errors.Is(err, device.ErrNotARecorder) {
			e.Level = Warn
		}
	case Conflict:
		e.Name, e.Level = "device.conflict", Alarm
	default:
		e.Name, e.Level = "ingest.failed", Alarm
		if errors.Is(err, context.Canceled) {
			e.Level = Warn
		}
	}
	w.emitFor(e)
}

func (w *session) show(state SlotState) {
	w.options.Progress.state.Store(state)
	w.seat.moved(state)
}

// emitFor adds to an event whose it is.
func (w *session) emitFor(e Event) {
	e.Slot, e.Session, e.Recorder, e.Officer = w.docking.Slot, w.record.ID, w.record.Recorder, w.record.Officer
	w.emit(e)
}

// nowKnown hands on whose the session is. Until then its events have the slot only.
func (w *session) nowKnown() {
	w.seat.know(w.record, w.cfg.ClockWarnOver)
	w.known.Store(&Event{Session: w.record.ID, Recorder: w.record.Recorder, Officer: w.record.Officer})
}

func totals(files []*journal.File) (t manifest.Totals) {
	for _, f := range files {
		if f.State.Bad() && f.Entry.Kind != device.KindFile {
			t.NotStored++ // an unreadable directory may hide any number of files
		}
		if f.Entry.Kind != device.KindFile {
			continue
		}
		t.Files++
		t.Bytes += f.Entry.Size
		switch f.State {
		case journal.Verified:
			t.Stored++
		case journal.Identical:
			t.Identical++
		default:
			t.NotStored++
		}
	}
	return t
}
