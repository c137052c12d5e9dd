package ingest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
)

// SlotState is what a slot shows. The strings are stable.
type SlotState string

// The states of a slot. Only Safe means that the recorder may be taken.
const (
	Empty         SlotState = "empty"
	Identifying   SlotState = "identifying"
	Queued        SlotState = "queued"
	Copying       SlotState = "copying"
	Verifying     SlotState = "verifying"
	Finalizing    SlotState = "finalizing"
	Safe          SlotState = "safe"
	Failed        SlotState = "failed"
	UnknownDevice SlotState = "unknown_device"
	Conflict      SlotState = "conflict"
	RemovedEarly  SlotState = "removed_early"
)

// What a docking can end with besides the state of its session.
var (
	// ErrUnregistered: the recorder is not in the register and the station's
	// policy is to refuse such.
	ErrUnregistered = device.ErrUnregistered
	// ErrConflict: a recorder with the same serial number is docked already.
	ErrConflict = errors.New("another recorder with the same serial number is docked")
)

// Report is how a docking ended.
type Report struct {
	Session journal.Session
	Files   []*journal.File
	Totals  manifest.Totals
	// State is Safe, Failed, RemovedEarly, UnknownDevice or Conflict.
	State SlotState
	// Safe is true only when every byte of footage that was on the recorder is
	// verified in the store under lock, the manifest too, and the recorder has
	// been released. It is set in one place, at the end of Station.Ingest.
	Safe bool
	// BytesRead is what was read of files on the recorder in this docking.
	BytesRead int64
	// Resumed says that the session had been cut off before.
	Resumed bool
}

// Progress is filled while a docking is worked on; any goroutine may read it.
type Progress struct {
	state    atomic.Value // SlotState
	stalled  atomic.Bool  // nothing moves
	Files    atomic.Int64 // to be stored
	Bytes    atomic.Int64
	Done     atomic.Int64 // files that have their result
	Read     atomic.Int64 // bytes that need not be read any more
	Verified atomic.Int64 // bytes that need not be verified any more
}

// State is the phase that the docking is in.
func (p *Progress) State() SlotState {
	s, ok := p.state.Load().(SlotState)
	if !ok {
		return Identifying
	}
	return s
}

// Fraction of the work that is done: reading and verifying count the same. It
// stays below 1 until the slot is safe, since a full bar reads as "take it".
func (p *Progress) Fraction() float64 {
	if p.State() == Safe {
		return 1
	}
	total := 2 * p.Bytes.Load()
	if total == 0 {
		return 0
	}
	return min(0.99, float64(p.Read.Load()+p.Verified.Load())/float64(total))
}

// Event is one change of state, for log, board and metrics alike.
type Event struct {
	Time    time.Time
	Name    string // of the documented list, see README.md
	Level   Level
	Slot    string
	Session string
	// Recorder is a serial, Officer an id; never a person's name.
	Recorder string
	Officer  string
	Path     string // of a file on the recorder
	Bytes    int64
	Took     time.Duration
	Err      error
	Message  string
	// State is what the slot shows from now on; empty: as before. While files are read
	// back and sealed it is Copying still: no event tells of that.
	State SlotState
	// Totals are of a docking that has ended; nil: this is no end of one.
	Totals *manifest.Totals
	// Clock and Health are what the recorder told of itself; nil: it was not asked.
	Clock  *device.ClockReading
	Health *device.Health
}

// Level says who needs to care.
type Level int

// The levels of events: a change of state, something to watch, something that a
// person must act on.
const (
	Info Level = iota
	Warn
	Alarm
)

// String is the level as the log has it.
func (l Level) String() string {
	switch l {
	case Warn:
		return "warn"
	case Alarm:
		return "error"
	}
	return "info"
}
