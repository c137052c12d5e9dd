// Package profile knows the makes of recorders. A Profile is a description in
// YAML: how a recorder is recognised on the bus or by its card, how it is reached,
// where it says who it is, what its files are called, whether its clock can be
// read or set. All that differs between makes is there and not in code.
//
// It stands beside the flow and gives it its words: package usb shows a device,
// Set.ForUSB and Set.ForVolumes find its profile, vendorcmd, massstorage and ptp
// open it as the profile says, Profile.Identify names it.
//
// Its promises: a profile describes and never chooses, everything on a card is
// copied whatever the profile says of it; what two sources contradict each other
// about, and what two profiles fit equally well, is unknown.
package profile

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device/vendorcmd"
)

// Profile is one make of recorder. The tag key names a field in the file; oneof
// lists the values that it may have, the first of which is the default unless the
// field is a must.
type Profile struct {
	Name string `key:"name" must:"yes"` // that of its file without .yaml
	// Title is shown to people.
	Title Title `key:"title" must:"yes"`
	// TestedWith says with which recorders this was tried; none, where with none.
	TestedWith string   `key:"tested_with" must:"yes"`
	Match      Match    `key:"match" must:"yes"`
	Access     Access   `key:"access" must:"yes" oneof:"disk ptp"`
	Identity   Identity `key:"identity"`
	Footage    Footage  `key:"footage"`
	Sidecars   Sidecars `key:"sidecars"`
	Clock      Clock    `key:"clock"`
	Battery    Way      `key:"battery" oneof:"none ptp command"`
	// Commands are the texts that the recorder takes before it shows its files. nil:
	// it takes none.
	Commands *vendorcmd.Commands `key:"commands"`
	// Clear says when the recorder may be emptied: never, which is the only value.
	Clear string `key:"clear" oneof:"never"`

	// File is where it was read from, for people.
	File string
}

// Title is a name in the languages that officers and administrators read.
type Title struct {
	En string `key:"en" must:"yes"`
	Zh string `key:"zh" must:"yes"`
}

// Access is how the files of a recorder are reached.
type Access string

// The ways of access.
const (
	Disk Access = "disk" // mass storage, mounted read-only
	PTP  Access = "ptp"  // picture transfer protocol, and MTP
)

// Way is how something is read from a recorder or set on it.
type Way string

// The ways.
const (
	ByNone    Way = "none" // not at all: it is unknown, or not set
	ByPTP     Way = "ptp"
	ByCommand Way = "command" // one of the profile's commands
	ByFile    Way = "file"    // a file that the recorder reads when it starts
)

// Match says how the make is recognised. USB, Manufacturer and Product are for what
// is plugged in by itself; Labels and Markers are for volumes, wherever they are.
// Within each of these two groups all that is given must fit.
type Match struct {
	USB          []USBID          `key:"usb"`                     // one of them
	Manufacturer *regexp.Regexp   `key:"manufacturer" fold:"yes"` // the string that the device tells
	Product      *regexp.Regexp   `key:"product" fold:"yes"`      // likewise
	Labels       []*regexp.Regexp `key:"labels" fold:"yes"`       // one of them fits the volume's label
	Markers      []string         `key:"markers"`                 // all of them are on the volume
	Any          bool             `key:"any"`                     // whatever is left that has this access
	Over         []string         `key:"over"`                    // profiles that stand back where both fit
}

// USBID is a USB vendor number, with or without a product number.
type USBID struct {
	Vendor, Product uint16
	AnyProduct      bool
}

// UnmarshalText reads 4255:0001, or 4255 for every product of the vendor.
func (id *USBID) UnmarshalText(text []byte) error {
	vendor, product, both := strings.Cut(string(text), ":")
	v, err := hex4(vendor)
	if err == nil && both {
		id.Product, err = hex4(product)
	}
	if err != nil {
		return errors.New("write four hexadecimal digits, or twice four with a colon: 4255 or 4255:0001")
	}
	id.Vendor, id.AnyProduct = v, !both
	return nil
}

func hex4(text string) (uint16, error) {
	if len(text) != 4 {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(text, 16, 16)
	return uint16(n), err
}

// String is what UnmarshalText reads.
func (id USBID) String() string {
	if id.AnyProduct {
		return fmt.Sprintf("%04x", id.Vendor)
	}
	return fmt.Sprintf("%04x:%04x", id.Vendor, id.Product)
}

// Source is a place where a recorder says who it is.
type Source string

// The sources. Which of them can tell what is in Identity.
const (
	FromParamINI Source = "param_ini" // Param.ini in a volume's root: serial, officer
	FromInfoDat  Source = "info_dat"  // DCIM/100MEDIA/Info.dat: serial, officer
	FromLabel    Source = "label"     // a volume's label through label_pattern: serial, officer
	FromUSB      Source = "usb"       // strings of the USB device: serial, model
	FromPTP      Source = "ptp"       // its PTP answers: serial, model
	FromCommand  Source = "command"   // the answer to commands.identity: all three
)

// Identity lists the sources of each fact, the most trusted first. The first that
// says something counts.
type Identity struct {
	Serial  []Source `key:"serial" oneof:"param_ini info_dat label usb ptp command"`
	Officer []Source `key:"officer" oneof:"param_ini info_dat label command"`
	Model   []Source `key:"model" oneof:"usb ptp command"`
	// LabelPattern has the groups serial and officer, or one of them.
	LabelPattern *regexp.Regexp `key:"label_pattern" fold:"yes"`
}

// Footage tells which files are recordings (音像记录), for counts and times.
// Nothing is left on the recorder for not being named here.
type Footage struct {
	// Folders below which all recordings lie, case-insensitive; none: anywhere.
	Folders []string `key:"folders"`
	// Files fit the name of a recording.
	Files []*regexp.Regexp `key:"files" fold:"yes"`
	// Marked fits the path of one that was marked as important (重点标记). What it
	// does not fit is not unimportant.
	Marked *regexp.Regexp `key:"marked" fold:"yes"`
	// Name fits the path of a recording; its groups are officer, serial, date, time, number.
	Name *regexp.Regexp `key:"name" fold:"yes"`
	// TimeLayout of group time, or of "date time" with a space where there are both.
	TimeLayout string `key:"time_layout"`
}

// Sidecars are files that recorders write beside a recording.
type Sidecars struct {
	// GPS fits the name of a track of NMEA sentences (轨迹), which ParseNMEA reads.
	GPS *regexp.Regexp `key:"gps" fold:"yes"`
}

// Clock says what can be done with the recorder's clock (第十条).
type Clock struct {
	Read Way  `key:"read" oneof:"none ptp command"`
	Set  Way  `key:"set" oneof:"none ptp command file"`
	Zone Zone `key:"zone"` // that its clock is kept in
	// File is what Set: file writes.
	File *ClockFile `key:"file"`
}

// Zone is a time zone; the zero value is the station's.
type Zone struct{ location *time.Location }

// UnmarshalText reads station or a name of the IANA database.
func (z *Zone) UnmarshalText(text []byte) error {
	name := string(text)
	if name == "station" {
		z.location = nil
		return nil
	}
	if name == "" || strings.EqualFold(name, "local") {
		return errors.New("write station, or a name such as Asia/Shanghai or UTC")
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return fmt.Errorf("no such time zone: write station, or a name such as Asia/Shanghai or UTC (%w)", err)
	}
	z.location = location
	return nil
}

// Or gives the zone's location, or station where that is what the zone says.
func (z Zone) Or(station *time.Location) *time.Location {
	if z.location != nil {
		return z.location
	}
	return station
}

func (z Zone) String() string {
	if z.location != nil {
		return z.location.String()
	}
	return "station"
}

// ClockFile is a file from which the recorder takes its time when it starts, and
// which it then deletes. What stands in it is old by then: write it last. It is the
// only thing that is ever written to a card; package massstorage does it.
type ClockFile struct {
	Path string `key:"path" must:"yes"` // its name, in the root of the volume
	// Format is a layout of package time.
	Format string `key:"format" must:"yes"`
}

// Set is all profiles of a station, each with a name of its own, in the order of
// their names.
type Set []*Profile

// Named gives the profile of that name.
func (s Set) Named(name string) (*Profile, bool) {
	i := slices.IndexFunc(s, func(p *Profile) bool { return p.Name == name })
	if i < 0 {
		return nil, false
	}
	return s[i], true
}
