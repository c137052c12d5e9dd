package ingest

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/staging"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/policy"
	"github.com/bodyworn/ingestd/storage/tsa"
)

// The kinds of verification.
const (
	// ReadBack fetches every object from the store and hashes it again.
	ReadBack = "readback"
	// ChecksumOnly trusts the checksums that the store has computed while it
	// received the bytes: weaker, and shown as such everywhere.
	ChecksumOnly = "checksum"
)

// selfTestEvery is how long a passed lock self-test counts.
const selfTestEvery = 24 * time.Hour

// Config is how a station works.
type Config struct {
	ID       string // begins every key
	Name     string
	Location *time.Location
	Software string // name and version, for the manifest

	Parallel     int   // dockings that are read at the same time; the rest queue
	PartSize     int64 // bytes; also the size up to which a file is one request
	BufferMemory int64 // bytes, over all dockings
	Verification string
	// IdenticalFull hashes a file that looks like a stored one from end to end,
	// instead of its first and last MiB.
	IdenticalFull bool
	// SM3 has the SM3 of each file computed beside its SHA-256 (国密, GB/T 32905).
	SM3 bool
	// RefuseUnregistered turns recorders away that are not in the register.
	RefuseUnregistered bool
	// Patience is how long a session waits for a store that does not answer,
	// counted from the last answer, before it is put off.
	Patience time.Duration
	// StallAfter is how long a session may go without a byte read, sent or read back
	// before that is told; 0: it is never told.
	StallAfter time.Duration
	// ScrubEvery is after how long a stored session is read again; 0: never.
	ScrubEvery time.Duration
	// ScrubBandwidth is what Scrub may read in a second, in bytes.
	ScrubBandwidth int64
	// Policy decides what is kept for longer than the vault locks by itself; nil:
	// nothing is.
	Policy *policy.Policy
	// Timestamp is asked to stamp the ledger's checkpoints; nil: nobody is.
	Timestamp *tsa.Authority
	// Staging is where recorders are copied to while the store is away; nil: nowhere.
	Staging *staging.Dir
	// ClockWarnOver is how far off a recorder's clock may be.
	ClockWarnOver time.Duration
	// SetClocks lets recorders' clocks be set, where their profile allows it.
	SetClocks bool
	// StoreSpace asks for the room in the store, in bytes; nil where it can't be known.
	StoreSpace func() (free, total int64, err error)
	// StationClock asks for the state of the station's clock; nil: the kernel.
	StationClock func() device.StationClock
	PreUse       device.PreUseLimits
	// Slots are the names of the slots that are there also when nothing is docked, in
	// the order in which they are shown.
	Slots []string
	// Events is called for every change of state, from many goroutines.
	Events func(Event)
}

// Station takes in recorders. It is safe for concurrent use.
type Station struct {
	cfg      Config // what Change changes is in policy
	vault    *storage.Vault
	journal  *journal.Journal
	evidence Evidence
	buffers  *bufferPool
	turns    chan struct{} // a place for each docking that may be read
	// published has an entry where the ledger was published since KeepStamping looked.
	published chan struct{}
	slots     *slots
	working   working

	mu     sync.Mutex
	policy Config                     // guarded by mu; for sessions that begin now
	docked map[string]<-chan struct{} // guarded by mu; serial numbers that are taken, by the docking that has them

	refused atomic.Pointer[refusal] // the last that the store did not take; nil: it has taken something since
	audited atomic.Pointer[audited] // the last look at the bucket; nil: there was none
}

// NewStation makes a station of a vault, a journal and its evidence, which stay the
// caller's.
func NewStation(cfg Config, vault *storage.Vault, jrn *journal.Journal, evidence Evidence) *Station {
	return &Station{
		cfg: cfg, policy: cfg, vault: vault, journal: jrn, evidence: evidence,
		buffers:   newBufferPool(cfg.BufferMemory, cfg.PartSize),
		turns:     make(chan struct{}, max(1, cfg.Parallel)),
		published: make(chan struct{}, 1),
		docked:    map[string]<-chan struct{}{},
		slots:     newSlots(cfg.Slots),
	}
}

// Change lets the sessions that begin from now on have other settings: how files
// are verified and recognised, who is refused, what is told of clocks, standstills
// and fitness for use, when stored sessions are read again, and by which rules footage
// is kept for longer. What a station is, its store and its sizes stay as they were.
func (s *Station) Change(to Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.policy
	p.Verification, p.IdenticalFull, p.RefuseUnregistered = to.Verification, to.IdenticalFull, to.RefuseUnregistered
	p.ClockWarnOver, p.SetClocks, p.PreUse, p.StallAfter = to.ClockWarnOver, to.SetClocks, to.PreUse, to.StallAfter
	p.Policy = to.Policy
	p.ScrubEvery, p.ScrubBandwidth = to.ScrubEvery, to.ScrubBandwidth
}

// ID is the station's, which begins every key.
func (s *Station) ID() string { return s.cfg.ID }

func (s *Station) settings() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy
}

// Prepare must succeed before anything is ingested: the store has passed its lock
// self-test within the last day, the bucket is the one that the station has seen there
// before, and sessions that a crash caught while they were being sealed are sealed now,
// for which no recorder is needed.
func (s *Station) Prepare(ctx context.Context) error {
	if back := s.journal.ClockFellBack(); back > time.Minute {
		s.emit(Event{Name: "clock.station_fell_back", Level: Alarm, Message: fmt.Sprintf(
			"the station's clock is %s behind the latest time it has seen: set it; until then retention counts from the later time", back.Round(time.Second))})
	}
	if clock := s.Clock(); !clock.Synchronised {
		s.emit(Event{Name: "clock.station_unsynced", Level: Warn, Message: clock.Why + "; no recorder's clock is set meanwhile"})
	}
	passed, err := s.journal.LastSelfTest(ctx, s.vault.Describe())
	if err != nil {
		return err
	}
	if age := s.journal.Now().Sub(passed); age < 0 || age > selfTestEvery {
		remarks, err := s.vault.SelfTest(ctx)
		if err != nil && !errors.Is(err, storage.ErrUnavailable) && ctx.Err() == nil {
			err = s.refusedBucket(ctx, err)
		}
		if err != nil {
			return err
		}
		if err := s.journal.SelfTestPassed(ctx, s.vault.Describe()); err != nil {
			return err
		}
		s.emit(Event{Name: "storage.selftest_passed", Message: strings.Join(append([]string{"lock, hold, create-only and checksums hold on " + s.vault.Describe()}, remarks...), "; ")})
	}
	if err := s.knowBucket(ctx); err != nil {
		return err
	}
	if err := s.publishKeys(ctx); err != nil {
		return err
	}
	return s.finishSealing(ctx, func(journal.Session) bool { return true })
}

// finishSealing seals the sessions that were cut off while being sealed.
func (s *Station) finishSealing(ctx context.Context, which func(journal.Session) bool) error {
	half, err := s.journal.HalfSealed(ctx)
	if err != nil {
		return err
	}
	for _, session := range half {
		if !which(session) {
			continue
		}
		if reopened, err := s.reopenLost(ctx, session); err != nil {
			return fmt.Errorf("seal session %s, which was cut off: %w", session.ID, err)
		} else if reopened {
			continue
		}
		ended, err := s.putDocuments(ctx, session)
		if errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrTaken) {
			// The store holds other bytes under the name of its manifest, under a lock. It
			// can't be sealed; the other recorders' footage is not to wait for a person.
			s.emit(Event{Name: "ingest.failed", Level: Alarm, Session: session.ID, Slot: session.Slot, Recorder: session.Recorder, Officer: session.Officer,
				Err: err, Message: "the session can't be sealed: its files are stored and verified, its manifest is not"})
			continue
		}
		if err != nil {
			return fmt.Errorf("seal session %s, which was cut off: %w", session.ID, err)
		}
		s.emit(Event{Name: "ingest.finished", Session: ended.ID, Slot: ended.Slot, Recorder: ended.Recorder, Officer: ended.Officer,
			Message: "sealed after an interruption: " + string(ended.State)})
	}
	return nil
}

// Options are what the caller knows better than the recorder.
type Options struct {
	Recorder string // serial; empty: as the recorder says
	Officer  string // id; empty: as the recorder or the register says
	Progress *Progress
}

// Ingest works on one docking until it has ended or can't go on. The report is
// filled as far as things went. An error means that the session is not ended:
// it is ErrRemoved, ErrConflict, ErrUnregistered, a store that is away, a journal
// that can't be written; the same recorder docked again resumes it. Files that
// could not be stored are no error: the session ends as failed, with the list.
func (s *Station) Ingest(ctx context.Context, d device.Docking, o Options) (Report, error) {
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	w := &session{Station: s, cfg: s.settings(), docking: d, options: o, began: time.Now(), lifetime: ctx}
	w.seat = s.slots.dock(ctx, d, o.Progress)
	defer w.watchPulse()()
	defer s.working.begin(w)()
	ctx, cancel := context.WithCancelCause(storage.WithSent(ctx, func(int) { w.pulse.beat() }))
	defer cancel(nil)
	if d.Removed != nil {
		go func() {
			select {
			case <-d.Removed:
				cancel(device.ErrRemoved)
			case <-ctx.Done():
			}
		}()
	}
	w.show(Identifying)
	s.emit(Event{Name: "slot.inserted", Slot: d.Slot, State: Identifying})
	err := w.run(ctx)
	// A pulled cable shows as many errors; the first cause is the one to tell.
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, device.ErrRemoved) && !errors.Is(err, device.ErrRemoved) {
		err = fmt.Errorf("%w: %w", device.ErrRemoved, err)
	}
	// The recorder is released in any case; only what comes after a nil error
	// here may be called safe.
	released := w.release()
	if err == nil {
		err = released
	}
	if err == nil && d.Stays && w.record.State == journal.StateSealed {
		err = w.checkBeforeUse(context.WithoutCancel(ctx))
	}
	report := w.report()
	switch {
	case err == nil && report.Session.State == journal.StateSealed:
		report.State, report.Safe = Safe, true
	case errors.Is(err, device.ErrRemoved):
		report.State = RemovedEarly
		if report.Session.ID != "" {
			err = errors.Join(err, s.journal.RemovedEarly(context.WithoutCancel(ctx), report.Session.ID))
		}
	case errors.Is(err, ErrConflict):
		report.State = Conflict
	case errors.Is(err, ErrUnregistered), errors.Is(err, device.ErrNotARecorder):
		report.State = UnknownDevice
	default:
		report.State = Failed
	}
	if refused := errors.Is(err, ErrConflict) || errors.Is(err, ErrUnregistered); refused && d.Slot != StagingSlot {
		err = errors.Join(err, s.Record(context.WithoutCancel(ctx), ledger.Entry{
			Event: "recorder.refused", Recorder: w.record.Recorder, Officer: w.record.Officer, Reason: ReasonOf(err),
			Detail: map[string]string{"slot": d.Slot},
		}))
	}
	w.tell(report, err)
	w.show(report.State)
	w.seat.end(report, err, w.health)
	return report, err
}

// claim reserves a serial number for one docking at a time. Two recorders that
// show the same one can't be told apart, and so neither file nor officer could be
// trusted to be the right one's. A recorder that stays in its slot keeps its number
// until it is taken out: the other one would else be called a second docking of it.
func (s *Station) claim(ctx context.Context, serial string, d device.Docking) (release func(), err error) {
	if serial == "" {
		return func() {}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	holder, taken := s.docked[serial]
	if taken && (holder == nil || holder != d.Removed) {
		return nil, fmt.Errorf("serial %s: %w", serial, ErrConflict)
	}
	s.docked[serial] = d.Removed
	free := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.docked, serial)
	}
	if !d.Stays {
		return free, nil
	}
	if !taken { // else an earlier try of this docking waits already
		go func() {
			select {
			case <-d.Removed:
			case <-ctx.Done():
			}
			free()
		}()
	}
	return func() {}, nil
}

func (s *Station) emit(e Event) {
	e.Time = time.Now()
	s.noteStore(e)
	if s.cfg.Events == nil {
		return
	}
	s.cfg.Events(e)
}

// newSessionID sorts by time and is unique without it: the clock may be wrong.
func newSessionID(now time.Time, loc *time.Location) string {
	return now.In(loc).Format("20060102-150405-") + strings.ToLower(crand.Text()[:8])
}

const (
	firstRetry = 5 * time.Second
	longRetry  = 5 * time.Minute
)

// Attend works on one docking until its session has ended, the recorder is gone
// or ctx ends. What another try can mend, a store that is away, a journal that
// can't be written, is tried again while the recorder stays; it keeps its
// footage meanwhile. With a recorder that stays in a slot it waits until that is
// taken out, and then tells whether it is fit for use.
func (s *Station) Attend(ctx context.Context, d device.Docking) {
	staged := false
	for pause := firstRetry; ; pause = min(2*pause, longRetry) {
		report, err := s.Ingest(ctx, d, Options{})
		if err == nil || ctx.Err() != nil || isFinal(err) {
			s.awaitUndocking(ctx, d, report)
			return
		}
		if staged = staged || s.stage(ctx, d, err); staged {
			s.slots.staged(d)
		}
		select {
		// Up to a half less: recorders that failed as one must not come back as one.
		case <-time.After(pause - rand.N(pause/2)):
		case <-d.Removed:
			return
		case <-ctx.Done():
			return
		}
	}
}

// isFinal: trying again while the recorder stays would meet the same, or do harm.
func isFinal(err error) bool {
	for _, end := range []error{device.ErrRemoved, device.ErrNeedsPerson, device.ErrNotARecorder, ErrConflict, ErrUnregistered} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

func (s *Station) awaitUndocking(ctx context.Context, d device.Docking, r Report) {
	if !d.Stays {
		return
	}
	if r.Session.Condition.PreUse != nil { // the ledger has it since the session was published
		s.publish(ctx)
	}
	select {
	case <-d.Removed:
		s.tellPreUse(r)
	case <-ctx.Done():
	}
}
