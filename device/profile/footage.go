package profile

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
)

const maxPath = 4096 // bytes of a path that names are read from

// IsFootage reports whether the path is a recording by its folder and name. Without
// patterns in the profile nothing is: unknown, which is why this must not choose
// what is copied.
func (p *Profile) IsFootage(name string) bool {
	if len(name) > maxPath || !slices.ContainsFunc(p.Footage.Files, fits(path.Base(name))) {
		return false
	}
	return len(p.Footage.Folders) == 0 || slices.ContainsFunc(p.Footage.Folders, func(folder string) bool {
		return len(name) > len(folder) && name[len(folder)] == '/' && strings.EqualFold(name[:len(folder)], folder)
	})
}

// IsMarked reports whether the recording was marked as important (重点标记). False
// is no proof that it was not.
func (p *Profile) IsMarked(name string) bool {
	return len(name) <= maxPath && p.Footage.Marked != nil && p.Footage.Marked.MatchString(name)
}

// IsGPS reports whether the path is a track of NMEA sentences.
func (p *Profile) IsGPS(name string) bool {
	return len(name) <= maxPath && p.Sidecars.GPS != nil && p.Sidecars.GPS.MatchString(path.Base(name))
}

// Name is what the name of a recording tells. The clock in it is the recorder's,
// right or wrong.
type Name struct {
	Serial, Officer device.Fact
	At              time.Time // zero: unknown
	// Number is the running number, where Numbered.
	Number   int
	Numbered bool
}

// maxDigits bounds a running number: more are a time, or something else.
const maxDigits = 9

// Numbers reports whether the profile tells which digits of a name count recordings.
func (p *Profile) Numbers() bool {
	return p.Footage.Name != nil && p.Footage.Name.SubexpIndex("number") >= 0
}

// ReadName reads the name of a recording; station is the zone of a profile that
// says station. Not ok: the name does not have the form, or tells nothing.
func (p *Profile) ReadName(name string, station *time.Location) (n Name, ok bool) {
	pattern := p.Footage.Name
	if pattern == nil || len(name) > maxPath || !pattern.MatchString(name) {
		return Name{}, false
	}
	n.Serial = device.Told("file name", groupOf(pattern, name, "serial"))
	n.Officer = device.Told("file name", groupOf(pattern, name, "officer"))
	if text := groupOf(pattern, name, "time"); text != "" {
		if date := groupOf(pattern, name, "date"); date != "" {
			text = date + " " + text
		}
		if at, err := time.ParseInLocation(p.Footage.TimeLayout, text, p.Clock.Zone.Or(station)); err == nil {
			n.At = at
		}
	}
	if digits := groupOf(pattern, name, "number"); digits != "" && len(digits) <= maxDigits {
		number, err := strconv.ParseUint(digits, 10, 32)
		n.Number, n.Numbered = int(number), err == nil
	}
	return n, n.Serial.Known() || n.Officer.Known() || !n.At.IsZero() || n.Numbered
}

// Survey is what a profile makes of the files of a volume.
type Survey struct {
	Files      int   // all of them
	Bytes      int64 // of all files
	Footage    int   // recordings
	Marked     int   // of the recordings
	GPS        int   // tracks
	Named      int   // recordings whose name has the profile's form
	Unreadable int   // paths that could not be examined, each with all that is below it
	// First and Last are the earliest and latest time in the names, by the recorder's
	// clock. Zero: none was found.
	First, Last time.Time
	// Serials and Officers that stand in names, each once, at most 100.
	Serials, Officers []string
}

// Survey looks through a volume without opening a file in it. It fails only when
// the volume can't be listed at all, or when ctx ends.
func (p *Profile) Survey(ctx context.Context, fsys fs.FS, station *time.Location) (Survey, error) {
	var s Survey
	err := fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && name == ".":
			return fmt.Errorf("list the volume: %w", err)
		case err != nil:
			s.Unreadable++
			return nil //nolint:nilerr // counted: one bad folder does not end the survey
		case !e.Type().IsRegular():
			return nil
		}
		if info, err := e.Info(); err == nil {
			s.Files++
			s.Bytes += info.Size()
			s.add(p, name, station)
		} else {
			s.Unreadable++
		}
		return nil
	})
	return s, err
}

func (s *Survey) add(p *Profile, name string, station *time.Location) {
	if p.IsGPS(name) {
		s.GPS++
	}
	if !p.IsFootage(name) {
		return
	}
	s.Footage++
	if p.IsMarked(name) {
		s.Marked++
	}
	n, ok := p.ReadName(name, station)
	if !ok {
		return
	}
	s.Named++
	if !n.At.IsZero() && (s.First.IsZero() || n.At.Before(s.First)) {
		s.First = n.At
	}
	if n.At.After(s.Last) {
		s.Last = n.At
	}
	s.Serials, s.Officers = once(s.Serials, n.Serial), once(s.Officers, n.Officer)
}

func once(values []string, f device.Fact) []string {
	if !f.Known() || len(values) >= 100 || slices.Contains(values, f.Value) {
		return values
	}
	return append(values, f.Value)
}
