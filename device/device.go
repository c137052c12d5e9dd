// Package device describes what an officer docks: a recorder, who it is, what
// its clock says, how it is, and the files on it. It is the first room of the
// flow, recorder → session → vault, and knows nothing of sessions or storage.
//
// The sub-packages are drivers, one for each way a recorder can be reached;
// each gives a Recorder. A driver never writes to a recorder while footage is
// read, and what it cannot find out it reports as unknown: an empty Fact, a nil
// pointer, ClockUnknown. Never a guess, never 0.
package device

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// ErrRemoved says that the recorder is gone: the cable was pulled, the mount
// vanished. What was not read stays on the recorder; the session resumes when
// it is docked again.
var ErrRemoved = errors.New("the recorder was removed")

// ErrNeedsPerson says that trying again by itself can't help, and may do harm: a
// wrong password, an encrypted card, a file system that can't be read. It is in
// the chain of an error that tells what a person has to do.
var ErrNeedsPerson = errors.New("this needs a person")

// ErrUnregistered says that the recorder is not in the register (台账) and that the
// station's policy is to refuse such.
var ErrUnregistered = errors.New("the recorder is not in the register (台账)")

// ErrNotARecorder says that what is in the slot is no recorder: a keyboard, a
// stick that no profile speaks of. It was not opened.
var ErrNotARecorder = errors.New("this is not a recorder")

// Recorder is one docked recorder, opened for reading.
//
// A session calls the methods from one goroutine and in this order: Identity,
// Clock, Health, Inventory, then Open for one file at a time, at last Close.
// Clock comes before anything that could change the clock or the card (第十条).
type Recorder interface {
	// Identity is known once the recorder is open and does not change.
	Identity() Identity
	// Clock measures the recorder's clock against the station's. Where it can't
	// be read the reading is of kind ClockUnknown, which is not an error.
	Clock(ctx context.Context) (ClockReading, error)
	// Health is what the recorder or its file system tells of its condition.
	Health(ctx context.Context) (Health, error)
	// Inventory calls found for every path on the recorder: files, directories,
	// links, specials, unreadable ones. Nothing is skipped by name. A path that
	// can't be examined is passed on with its Err; Inventory itself fails only
	// when the recorder as a whole can't be listed. An error of found ends it.
	Inventory(ctx context.Context, found func(Entry) error) error
	// Open reads a regular file from offset on, to resume without reading the
	// earlier bytes again. An error that is ErrRemoved ends the session.
	Open(ctx context.Context, e Entry, offset int64) (File, error)
	// Close releases the recorder: unmounts it or ends the transfer session.
	// Only after it returned nil may the officer be told to take it.
	Close() error
}

// File is a file on a recorder, read once from front to back.
type File interface {
	io.ReadCloser
	// Stat tells size and time as they are now, so that a file that grew, shrank
	// or was replaced while it was read is noticed.
	Stat() (size int64, modTime time.Time, err error)
}

// Filler is a File that can read straight into the caller's memory, past the page
// cache, while the caller works on what has come: nothing is copied on the way.
type Filler interface {
	File
	// Fill reads on from where the file stands until buf is full or the file ends,
	// and passes every piece, in order and as soon as it is there, to each; the
	// pieces lie in buf one behind the other. It returns the number of bytes and
	// io.EOF if the file has ended; a short count comes with an error. An error of
	// each ends it and is returned. Nothing writes to buf after it has returned.
	//
	// It is at its best where buf begins at a multiple of 4096 bytes in memory and
	// the file stands at one; elsewhere it reads in the ordinary way.
	Fill(buf []byte, each func(piece []byte) error) (int, error)
}

// Kind says what a path on a recorder is.
type Kind string

// The kinds of path. Only files are read: a link is never followed, and a
// special is never opened, since opening a FIFO or a device node has effects.
const (
	KindFile    Kind = "file"
	KindDir     Kind = "dir"
	KindLink    Kind = "link"
	KindSpecial Kind = "special"
)

// Entry is one path of a recorder's inventory.
type Entry struct {
	// Path is relative to the recorder's root, with slashes, in the exact bytes
	// of the card: not necessarily valid UTF-8.
	Path string
	Kind Kind
	// Size in bytes as the directory tells it; meaningful for files only.
	Size int64
	// ModTime as found, by the recorder's clock. Zero: unknown.
	ModTime time.Time
	// Note says more of a link or special: where it points, what it is.
	Note string
	// Handle is the driver's own reference to the file, such as a PTP object
	// handle. Empty where the path is enough.
	Handle string
	// Err says why the path could not be examined.
	Err error
}

// Fact is something told of a recorder together with who told it. The zero
// value is the honest answer "unknown".
type Fact struct {
	Source string `json:"source"`
	Value  string `json:"value"`
}

// Known reports whether there is a value at all.
func (f Fact) Known() bool { return f.Value != "" }

// MarshalJSON writes an unknown fact as null: not as an empty value that a
// reader could take for one.
func (f Fact) MarshalJSON() ([]byte, error) {
	if !f.Known() {
		return []byte("null"), nil
	}
	type plain Fact
	return json.Marshal(plain(f))
}

// Identity says which recorder this is and whose, as far as it is known. Ids
// only: names of people are left on the card.
type Identity struct {
	// Driver is how it was reached: folder, mass-storage, ptp.
	Driver string `json:"driver"`
	// Model as the maker calls it.
	Model Fact `json:"model"`
	// Officer is the id, 警号 or 执法证号, never a name.
	Officer Fact `json:"officer"`
	// Place is where it was found: a slot's port path, a mount point.
	Place string `json:"place"`
	// Profile names the description of the make that was used; empty with folders.
	Profile string `json:"profile,omitempty"`
	// Serial is the recorder's own number (DevNo, USB serial).
	Serial Fact `json:"serial"`
}

// ClockSetter is a Recorder whose clock the station may set (第十条). A session
// calls SetClock after the last file is stored and before Close: what is set can't
// be measured any more.
type ClockSetter interface {
	// SetClock sets the clock to the station's time and reads it again where that
	// can be done. ErrNoClock: this recorder's clock is not for the station to set.
	SetClock(ctx context.Context) (ClockSetting, error)
}

// ErrNoClock says that the recorder has no clock that the station could set, or
// that its profile does not allow it.
var ErrNoClock = errors.New("the recorder's clock can't be set from here")

// ClockSetting is what was done to a recorder's clock.
type ClockSetting struct {
	// After is the clock read again. Of kind ClockUnknown where it can't be, such
	// as a file that the recorder reads when it starts.
	After ClockReading `json:"after"`
	// Method says how, in words for a report.
	Method string `json:"method"`
	// SetAt is the station's clock when it was set.
	SetAt time.Time `json:"set_at"`
}

// Health is the recorder's condition. Nil is unknown.
type Health struct {
	BatteryPercent *int   `json:"battery_percent,omitempty"`
	CapacityBytes  *int64 `json:"capacity_bytes,omitempty"`
	FreeBytes      *int64 `json:"free_bytes,omitempty"`
	// Volumes are the file systems on it, in the order of its disks.
	Volumes []Volume `json:"volumes,omitempty"`
}

// Volume is one file system of a recorder, or a disk without any that can be read.
type Volume struct {
	CapacityBytes *int64 `json:"capacity_bytes,omitempty"`
	// FileSystem is vfat, exfat, ext4, or what else was found: ntfs, luks. Empty:
	// nothing that is known.
	FileSystem string `json:"file_system,omitempty"`
	FreeBytes  *int64 `json:"free_bytes,omitempty"`
	Label      Fact   `json:"label"`
	// Name is what the kernel calls it: sda1, or the storage id of a PTP recorder.
	Name string `json:"name"`
	// Trouble says what is wrong: not unmounted cleanly, can't be read. Empty: nothing
	// that was seen.
	Trouble string `json:"trouble,omitempty"`
}

// Docking is a recorder that was seen, before it is opened.
type Docking struct {
	// Slot is the configured name of the place, or the place itself.
	Slot string
	// Open opens the recorder read-only.
	Open func(ctx context.Context) (Recorder, error)
	// Removed is closed when the recorder is gone from its slot.
	Removed <-chan struct{}
	// Stays says that the recorder is a thing in a slot until Removed is closed,
	// also after its session: its serial number is taken as long. A folder is not.
	Stays bool
}
