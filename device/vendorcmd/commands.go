// Package vendorcmd talks to recorders that want a few lines of text before they
// show their files: log in, say who you are, take this time, become a disk. What
// is sent and what must come back stands in the recorder's profile; this package
// only carries it out, over one claimed interface (usb.Pipe).
//
// It stands between package usb, which sees the recorder, and package
// massstorage, which reads the disk that it turns into. Package dock calls it.
//
// Its promises: a password that was not taken is not sent a second time in a
// docking, with no command; it is in no error and no log; an answer that is missing, odd or endless ends in
// an error within the time that the profile allows; what an answer does not say
// is unknown.
package vendorcmd

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device/usb"
)

// Bounds of an exchange.
const (
	DefaultTimeout = 3 * time.Second // as in the public program for the 4255:0001 class
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = time.Minute
	maxSend        = 512 // bytes of a template
)

// Commands is what a profile says under commands. An exchange that is nil does
// not exist for this make of recorder. The tag key is its name in the profile.
type Commands struct {
	// Interface that takes the commands.
	Interface Interface `key:"interface"`
	// End is the text that ends every answer. Empty: each bulk transfer is one.
	End string `key:"end"`

	Login     *Exchange `key:"login"`
	Identity  *Exchange `key:"identity"`   // groups serial, officer, model
	ReadClock *Exchange `key:"read_clock"` // group time
	SetDate   *Exchange `key:"set_date"`   // sent before SetTime where the two are apart
	SetTime   *Exchange `key:"set_time"`
	Battery   *Exchange `key:"battery"` // group battery, percent
	DiskMode  *Exchange `key:"disk_mode"`
}

// Exchange is one command and its answer.
type Exchange struct {
	// Send is the template of the command: {password}, {password_length} and
	// {time:LAYOUT} with a layout of package time are filled in; {{ and }} are
	// braces.
	Send string `key:"send"`
	// Expect is what a good answer matches; its named groups are what is read from
	// it. Nil in DiskMode only: no answer is needed there.
	Expect *regexp.Regexp `key:"expect"`
	// Refused is what the answer to a wrong password, or to a command that is not
	// allowed, matches. May be nil.
	Refused *regexp.Regexp `key:"refused"`
	// TimeLayout of the group time, in ReadClock only.
	TimeLayout string `key:"time_layout"`
	// Timeout for sending and for the whole answer; 0: DefaultTimeout.
	Timeout time.Duration `key:"timeout"`
}

func (e *Exchange) timeout() time.Duration {
	if e.Timeout == 0 {
		return DefaultTimeout
	}
	return e.Timeout
}

// Interface picks the interface of a recorder that takes commands. The zero value
// is any interface of the vendor's class ff.
type Interface struct {
	byNumber        bool
	number          int
	class, subclass uint8
	anySubclass     bool
}

// UnmarshalText reads "0" (the interface of this number), "class ff" or
// "class ff/01" (class and subclass, hexadecimal).
func (i *Interface) UnmarshalText(text []byte) error {
	wrong := fmt.Errorf("write the interface's number, such as 0, or its class, such as class ff or class ff/01")
	class, isClass := strings.CutPrefix(string(text), "class ")
	if !isClass {
		n, err := strconv.ParseUint(string(text), 10, 7)
		if err != nil {
			return wrong
		}
		*i = Interface{byNumber: true, number: int(n)}
		return nil
	}
	class, subclass, both := strings.Cut(class, "/")
	c, err := strconv.ParseUint(class, 16, 8)
	if err != nil {
		return wrong
	}
	*i = Interface{class: uint8(c), anySubclass: !both}
	if both {
		s, err := strconv.ParseUint(subclass, 16, 8)
		if err != nil {
			return wrong
		}
		i.subclass = uint8(s)
	}
	if !takesText(i.class) {
		return fmt.Errorf("class %02x is spoken to by the kernel or another driver, never with text commands", c)
	}
	return nil
}

// In gives the number of the interface in d, if there is exactly one. An interface
// that the kernel or package ptp speaks to, mass storage above all, is never the
// one: a recorder that is a disk already needs no commands.
func (i Interface) In(d usb.Device) (number int, ok bool) {
	for _, have := range d.Interfaces {
		if !takesText(have.Class) || !i.fits(have) {
			continue
		}
		if ok && number != have.Number {
			return 0, false // which of them is not known
		}
		number, ok = have.Number, true
	}
	return number, ok
}

func (i Interface) fits(have usb.Interface) bool {
	switch {
	case i.byNumber:
		return have.Number == i.number
	case i.class == 0:
		return have.Class == usb.ClassVendor
	}
	return have.Class == i.class && (i.anySubclass || have.SubClass == i.subclass)
}

func takesText(class uint8) bool {
	const audio, hid = 0x01, 0x03
	return !slices.Contains([]uint8{audio, hid, usb.ClassImage, usb.ClassMassStorage, usb.ClassHub}, class)
}

// named is one exchange with the key that it has in a profile.
type named struct {
	key string
	*Exchange
}

func (c *Commands) all() []named {
	all := []named{
		{"login", c.Login}, {"identity", c.Identity}, {"read_clock", c.ReadClock}, {"set_date", c.SetDate},
		{"set_time", c.SetTime}, {"battery", c.Battery}, {"disk_mode", c.DiskMode},
	}
	return slices.DeleteFunc(all, func(n named) bool { return n.Exchange == nil })
}

// Check calls fail for everything that makes no sense, with the key below
// commands, such as login.send.
func (c *Commands) Check(fail func(key, text string)) {
	if len(c.all()) == 0 {
		fail("", "has no command at all")
	}
	if c.SetDate != nil && c.SetTime == nil {
		fail("set_date", "needs set_time beside it: the date alone makes no clock")
	}
	if len(c.End) > 16 {
		fail("end", "must have at most 16 bytes")
	}
	for _, e := range c.all() {
		e.check(func(key, text string) { fail(e.key+"."+key, text) })
	}
}

func (e named) check(fail func(key, text string)) {
	setsClock := e.key == "set_date" || e.key == "set_time"
	t, err := parseTemplate(e.Send)
	switch {
	case err != nil:
		fail("send", err.Error())
	case t.has(partTime) && !setsClock:
		fail("send", "{time:…} is for set_date and set_time only")
	case !t.has(partTime) && setsClock:
		fail("send", "must hold {time:LAYOUT}, such as {time:20060102}")
	}
	if e.Timeout != 0 && (e.Timeout < minTimeout || e.Timeout > maxTimeout) {
		fail("timeout", fmt.Sprintf("must lie between %s and %s", minTimeout, maxTimeout))
	}
	switch {
	case e.Expect != nil:
		if e.Expect.MatchString("") {
			fail("expect", "also matches an empty answer: write what a good one must hold")
		}
		e.checkGroups(fail)
	case e.key != "disk_mode":
		fail("expect", "is missing: without it no answer can be told from another")
	}
	if e.Refused != nil && e.Refused.MatchString("") {
		fail("refused", "also matches an empty answer: write what a refusal holds")
	}
	switch {
	case e.key == "read_clock":
		if err := CheckLayout(e.TimeLayout); err != nil {
			fail("time_layout", err.Error())
		}
	case e.TimeLayout != "":
		fail("time_layout", "is for read_clock only")
	}
}

// checkGroups holds the named groups of expect against those that are read.
func (e named) checkGroups(fail func(key, text string)) {
	known := map[string][]string{"identity": {"serial", "officer", "model"}, "read_clock": {"time"}, "battery": {"battery"}}[e.key]
	found := 0
	for _, group := range e.Expect.SubexpNames()[1:] {
		switch {
		case group == "":
		case slices.Contains(known, group):
			found++
		default:
			fail("expect", fmt.Sprintf("nothing reads the group %q here", group))
		}
	}
	if len(known) > 0 && found == 0 {
		fail("expect", "needs a named group, such as (?P<"+known[0]+">…)")
	}
}

// CheckLayout says whether layout is one of package time that tells an instant to
// the minute at least.
func CheckLayout(layout string) error {
	// No two of its numbers are alike, so that none can stand in for another.
	sample := time.Date(2031, 12, 29, 23, 58, 47, 0, time.UTC)
	back, err := time.Parse(layout, sample.Format(layout))
	if layout == "" || len(layout) > 64 || err != nil || !back.Truncate(time.Minute).Equal(sample.Truncate(time.Minute)) {
		return fmt.Errorf("%q does not tell year, month, day, hour and minute: write how 2 January 2006, 15:04:05 would look, such as 20060102150405", layout)
	}
	return nil
}
