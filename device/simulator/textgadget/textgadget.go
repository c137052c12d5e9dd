// Package textgadget simulates a recorder that wants a few lines of text before it
// shows its files: the vendor's commands over bulk endpoints of the 4255:0001 class,
// such as "@Ver;8;12345678;#" to log in and "@ATH;8;12345678;#" to become a disk.
// Package vendorcmd is tested with it, in the same process through gadget.Pipe, and
// through the kernel by package usbip, where it leaves the bus and a diskgadget
// comes back in its port.
//
// What the commands are is known from one public program
// (github.com/BigBadMuttuH/AmbaBodyCam), what a recorder answers is not: the answers
// are the test's to choose.
package textgadget

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// Endpoints and class of the interface.
const (
	bulkIn      = 0x81
	bulkOut     = 0x02
	packetSize  = 512
	classVendor = 0xff
)

// The commands by name.
const (
	Login    = "Ver" // with the password
	Identity = "Gdv" // alone, or with the password
	SetDate  = "Sdt" // yyyyMMdd
	SetTime  = "Stm" // HHmmss and 00
	DiskMode = "ATH" // with the password
)

// Defaults of a Config.
const (
	DefaultMaxWrong    = 3
	DefaultSwitchAfter = 500 * time.Millisecond
)

// Answer is what the recorder says to a command. In both texts {serial} is its
// number and {time:LAYOUT} its clock, with a layout of package time. Empty: nothing
// is said at all.
type Answer struct {
	OK, Refused string
}

// Config is one recorder.
type Config struct {
	// Vendor and Product are the ids; both 0 are 4255:0001.
	Vendor, Product, Release uint16
	Manufacturer             string
	ProductName              string
	USBSerial                string
	// Serial is what the recorder says it is when asked by command.
	Serial string
	// Password that the login wants.
	Password string
	// OtherPassword is what Identity and DiskMode want, if that is another one.
	OtherPassword string
	// MaxWrong is after how many wrong passwords the recorder locks itself for good;
	// 0 is DefaultMaxWrong.
	MaxWrong int
	// Now is the recorder's clock as it comes from the factory, in its own zone; nil
	// is that of this machine in UTC. What is set goes on top.
	Now func() time.Time
	// Answers replace those of the recorder, by the name of the command. A name that
	// is none of the commands becomes one that needs nothing but the login.
	Answers map[string]Answer
	// PadTo fills answers with NULs up to so many bytes, as some recorders do.
	PadTo int
	// Switch is called, once for each docking and in a goroutine of its own, when the
	// recorder is to become a disk: usbip's Port.Replace does that. Nil only pulls the
	// recorder off the bus.
	Switch func()
	// SwitchAfter is how long the recorder waits for the host to take the answer to
	// DiskMode before it switches; 0 is DefaultSwitchAfter.
	SwitchAfter time.Duration
}

// Counts is what the host has done since the Recorder was made.
type Counts struct {
	// Commands are the texts that were received, in their order.
	Commands []string
	// Logins counts those that succeeded.
	Logins int
	// WrongPasswords counts those tried, with any command, until the recorder locked
	// itself.
	WrongPasswords int
	// Locked: no password is taken any more, also when it is docked again.
	Locked bool
	// Malformed counts transfers that were no command.
	Malformed int
	// Refused counts commands that came before a login, or whose value made no sense.
	Refused int
	// Switches counts how often it became a disk.
	Switches int
}

// Recorder is a gadget.Function. It may be plugged in again.
type Recorder struct {
	config  Config
	answers map[string]Answer

	mu       sync.Mutex // guards what follows
	queue    gadget.Queue
	loggedIn bool
	leaving  bool          // on its way to the other mode
	offset   time.Duration // what was set on top of config.Now
	counts   Counts
}

// New makes a recorder that is not plugged in.
func New(c Config) *Recorder {
	if c.Vendor == 0 && c.Product == 0 {
		c.Vendor, c.Product = 0x4255, 0x0001
	}
	if c.OtherPassword == "" {
		c.OtherPassword = c.Password
	}
	if c.MaxWrong == 0 {
		c.MaxWrong = DefaultMaxWrong
	}
	if c.Now == nil {
		c.Now = func() time.Time { return time.Now().UTC() }
	}
	if c.SwitchAfter == 0 {
		c.SwitchAfter = DefaultSwitchAfter
	}
	r := &Recorder{config: c, answers: map[string]Answer{Identity: {"@Gdv;8;{serial};#", "@Gdv;ERR;#"}}}
	for _, name := range []string{Login, SetDate, SetTime, DiskMode} {
		r.answers[name] = Answer{"@" + name + ";OK;#", "@" + name + ";ERR;#"}
	}
	for name, a := range c.Answers {
		r.answers[name] = a
	}
	return r
}

// Counts returns what was counted so far.
func (r *Recorder) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts
	c.Commands = slices.Clone(c.Commands)
	return c
}

// Now is what the recorder's clock shows.
func (r *Recorder) Now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now()
}

func (r *Recorder) now() time.Time { return r.config.Now().Add(r.offset) }

// Descriptors implements gadget.Function.
func (r *Recorder) Descriptors() gadget.Descriptors {
	return gadget.Descriptors{
		Vendor: r.config.Vendor, Product: r.config.Product, Release: r.config.Release,
		Manufacturer: r.config.Manufacturer, ProductName: r.config.ProductName, Serial: r.config.USBSerial,
		Interfaces: []gadget.Interface{{
			Class: classVendor,
			Endpoints: []gadget.Endpoint{
				{Address: bulkIn, PacketSize: packetSize},
				{Address: bulkOut, PacketSize: packetSize},
			},
		}},
	}
}

// Plugged implements gadget.Plugger: nobody is logged in.
func (r *Recorder) Plugged(q gadget.Queue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue, r.loggedIn, r.leaving = q, false, false
}

// Control implements gadget.Function. There are no requests of its own.
func (r *Recorder) Control(gadget.Setup, []byte) ([]byte, error) { return nil, gadget.ErrStall }

// Out implements gadget.Function: each transfer is one command.
func (r *Recorder) Out(_ gadget.Queue, _ uint8, data []byte) error {
	if len(data) == 0 {
		return nil // the end of a command that filled its packet
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text := string(bytes.TrimRight(data, "\x00\r\n"))
	r.counts.Commands = append(r.counts.Commands, text)
	name, fields, ok := parse(text)
	answer, known := r.answers[name]
	if !ok || !known {
		r.counts.Malformed++
		return nil // who does not understand says nothing
	}
	if !r.leaving && r.obey(name, fields) {
		r.say(answer.OK, name == DiskMode)
	} else {
		r.say(answer.Refused, false)
	}
	return nil
}

// parse splits "@Ver;8;12345678;#" into its name and the fields between; a command
// without fields needs no end.
func parse(text string) (name string, fields []string, ok bool) {
	body, begun := strings.CutPrefix(text, "@")
	body, ended := strings.CutSuffix(body, "#")
	name, rest, more := strings.Cut(body, ";")
	if !begun || name == "" || strings.ContainsAny(body, "@#") || (more && !ended) {
		return "", nil, false
	}
	if rest == "" {
		return name, nil, true
	}
	rest, closed := strings.CutSuffix(rest, ";")
	if !closed {
		return "", nil, false
	}
	return name, strings.Split(rest, ";"), true
}

// obey does what a command says. Called, like all below, with mu held.
func (r *Recorder) obey(name string, fields []string) bool {
	if name == Login {
		r.loggedIn = r.password(fields, r.config.Password)
		if r.loggedIn {
			r.counts.Logins++
		}
		return r.loggedIn
	}
	if !r.loggedIn {
		r.counts.Refused++
		return false
	}
	switch name {
	case Identity:
		return len(fields) == 0 || r.password(fields, r.config.OtherPassword)
	case DiskMode:
		return r.password(fields, r.config.OtherPassword)
	case SetDate, SetTime:
		if !r.set(name, fields) {
			r.counts.Refused++
			return false
		}
	}
	return true
}

// password compares. Its length stands before it.
func (r *Recorder) password(fields []string, want string) bool {
	if r.counts.Locked {
		return false
	}
	if len(fields) == 2 && fields[1] == want && want != "" && fields[0] == decimal(len(want)) {
		return true
	}
	r.counts.WrongPasswords++
	r.counts.Locked = r.counts.WrongPasswords >= r.config.MaxWrong
	return false
}

// set sets the date, and leaves the time, or the other way round.
func (r *Recorder) set(name string, fields []string) bool {
	if len(fields) != 2 {
		return false
	}
	now := r.now()
	year, month, day := now.Date()
	hour, minute, second := now.Clock()
	nanosecond := now.Nanosecond()
	switch name {
	case SetDate:
		t, err := time.Parse("20060102", fields[1])
		if err != nil || fields[0] != "8" {
			return false
		}
		year, month, day = t.Date()
	default:
		t, err := time.Parse("15040500", fields[1])
		if err != nil || fields[0] != "6" {
			return false
		}
		hour, minute, second = t.Clock()
		nanosecond = 0
	}
	to := time.Date(year, month, day, hour, minute, second, nanosecond, now.Location())
	r.offset += to.Sub(now)
	return true
}
