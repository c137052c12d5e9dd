// Package wire is what the tests of scripts/e2e and the agent in their machine say
// to each other over a serial line: one JSON object a line. Requests go to the
// agent; each gets one Reply, in any order. What the agent tells unasked is an
// Event.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"math/rand/v2"
	"time"
)

// Request asks the agent for something. Args is one of the types below.
type Request struct {
	ID   int64           `json:"id"` // from 1
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// Message is all that the agent sends: a reply where ID is set, else an event.
type Message struct {
	ID    int64           `json:"id,omitempty"`
	Err   string          `json:"err,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
	Event *Event          `json:"event,omitempty"`
}

// Event is something that happened in the machine.
type Event struct {
	Kind string `json:"kind"`           // ready, output, exit, block, open
	Name string `json:"name,omitempty"` // of the process, or the device node
	Text string `json:"text,omitempty"` // a line of output, or how it exited
	// At is the time by the machine's clock.
	At time.Time `json:"at"`
}

// The kinds of Event.
const (
	Ready  = "ready"  // the agent takes requests; Text is the kernel's release
	Output = "output" // one line that a process wrote
	Exit   = "exit"   // a process has ended
	Block  = "block"  // a node of a block device was made; Name is its path
	Open   = "open"   // someone opened a node below /dev/bus/usb or of a disk
)

// Exec runs a program to its end. Answered by Ran.
type Exec struct {
	Args   []string      `json:"args"`
	Within time.Duration `json:"within"`
}

// Ran is how it ended. Code is -1 where a signal ended it.
type Ran struct {
	Out  []byte `json:"out"` // standard output and error
	Code int    `json:"code"`
}

// File is a file to be written, with the folders above it, or one that was read.
type File struct {
	Path string `json:"path"`
	Data []byte `json:"data,omitempty"`
	Mode uint32 `json:"mode,omitempty"`
	// Packed says that Data is compressed with gzip: images are mostly zeros.
	Packed bool `json:"packed,omitempty"`
}

// Fill writes pseudo-random content in the machine, so that it need not go over
// the serial line. See Content.
type Fill struct {
	Path string `json:"path"`
	Seed uint64 `json:"seed"`
	Size int64  `json:"size"`
}

// Start starts a process whose output comes as events.
type Start struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"`
}

// Signal sends a signal to a started process. Answered at once; its Exit follows.
type Signal struct {
	Name   string `json:"name"`
	Signal int    `json:"signal"`
}

// Forward has the machine listen and hand each connection on.
type Forward struct {
	Listen string `json:"listen"`
	To     string `json:"to"`
}

// Name names a started process, a simulated recorder, or a mount.
type Name struct {
	Name string `json:"name"`
}

// Counters are what the kernel tells of a process, over all its threads.
type Counters struct {
	Threads     int           `json:"threads"`
	Descriptors int           `json:"descriptors"`  // open files
	Mounts      int           `json:"mounts"`       // as the process sees them
	ResidentKiB int64         `json:"resident_kib"` // of its own, without the program
	Switches    int64         `json:"switches"`     // voluntary: each is one wake
	CPU         time.Duration `json:"cpu"`
	Up          time.Duration `json:"up"` // of the machine, to divide by
}

// Drive has the driver for disks open a recorder, without a session: it lists
// what is there and reads one range of one file. Answered by Driven.
type Drive struct {
	Serial string `json:"serial"` // iSerial of the device
	Path   string `json:"path"`   // empty: nothing is read
	Offset int64  `json:"offset"`
	Length int    `json:"length"`
}

// Driven is what the driver gave.
type Driven struct {
	Sizes map[string]int64 `json:"sizes"` // of every file, by path
	Data  []byte           `json:"data"`
}

// Attach plugs a simulated recorder into the machine, by USB/IP.
type Attach struct {
	Name   string `json:"name"` // to detach it by
	Kind   string `json:"kind"` // ptp, locked or disk
	Port   int    `json:"port"` // of vhci_hcd, from 0
	Serial string `json:"serial"`
	// Offset is the recorder's clock minus the machine's.
	Offset time.Duration `json:"offset,omitempty"`
	// Image is the path of the disk's content in the machine.
	Image string `json:"image,omitempty"`
	// Password unlocks a locked recorder.
	Password string `json:"password,omitempty"`
	// Files are on a recorder of kind ptp.
	Files []Fill `json:"files,omitempty"`
}

// Told is what a simulated recorder has noted of what was done to it.
type Told struct {
	// Offset is its clock now, minus the machine's; of kind locked only.
	Offset time.Duration `json:"offset"`
	// Set are the times that its clock was set to, as they were sent.
	Set []string `json:"set"`
	// Commands are the texts that a locked recorder was sent.
	Commands []string `json:"commands"`
	// WrongPasswords are those among them that were refused.
	WrongPasswords int `json:"wrong_passwords"`
	// Switches is how often it became a disk.
	Switches int `json:"switches"`
	// Writes are the commands that would have changed a disk.
	Writes int `json:"writes"`
	// Read are the bytes of sectors that were read of the disk.
	Read int64 `json:"read"`
}

// Step sets the machine's clock ahead, or back where By is negative.
type Step struct {
	By time.Duration `json:"by"`
}

// Delete tries to delete by plain S3, with the store's own key, all versions of a running
// embedded store whose keys have a prefix. Answered by a list of Attempt.
type Delete struct {
	Root   string `json:"root"` // of the store
	Bucket string `json:"bucket"`
	Prefix string `json:"prefix"`
}

// Attempt is what the store answered to the deletion of one version.
type Attempt struct {
	Key  string `json:"key"`
	Code string `json:"code"` // of S3's error; empty: it is deleted
}

// Content is size bytes that follow from the seed, the same on both sides. No two
// blocks of it are alike, so that a part in the wrong place is noticed.
func Content(seed uint64, size int64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return io.LimitReader(rand.NewChaCha8(key), size)
}
