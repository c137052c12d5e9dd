package profile

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/device/usb"
)

// Volume is one file system of a recorder, mounted read-only.
type Volume struct {
	Label string // empty: none, or not known
	FS    fs.FS
}

// ForUSB gives the profile of what is plugged in, from what sysfs shows of it. A
// profile with a USB id and strings goes before one with an id, that before one
// with strings alone; the one for any PTP recorder comes last. Not ok: none fits,
// or several fit equally well (CandidatesUSB has them). A plain disk has no
// profile yet: its volumes may, see ForVolumes.
func (s Set) ForUSB(d usb.Device) (*Profile, bool) { return only(s.CandidatesUSB(d)) }

// CandidatesUSB gives the profiles that fit best, more than one where that can't be
// decided.
func (s Set) CandidatesUSB(d usb.Device) []*Profile {
	best := s.best(func(p *Profile) int { return p.Match.onBus(d) })
	if len(best) > 0 || !d.Has(usb.ClassImage, 1) {
		return best
	}
	return s.best(func(p *Profile) int { return truth(p.Match.Any && p.Access == PTP) })
}

// onBus tells how particularly the device is meant, 0: not at all.
func (m Match) onBus(d usb.Device) int {
	const withString, oneProduct, oneVendor = 1, 4, 8
	rank := 0
	for _, id := range m.USB {
		switch {
		case id.Vendor != d.Vendor || !id.AnyProduct && id.Product != d.Product:
		case id.AnyProduct:
			rank = max(rank, oneVendor)
		default:
			rank = max(rank, oneVendor+oneProduct)
		}
	}
	if len(m.USB) > 0 && rank == 0 {
		return 0
	}
	byID := rank > 0
	for _, s := range []struct {
		pattern *regexp.Regexp
		text    string
	}{{m.Manufacturer, d.Manufacturer}, {m.Product, d.ProductName}} {
		switch {
		case s.pattern == nil:
		case !s.pattern.MatchString(s.text):
			return 0
		case byID:
			rank += withString + oneVendor + oneProduct // before every id without a string
		default:
			rank += withString
		}
	}
	return rank
}

// ForVolumes gives the profile of a card or an opened recorder by the labels and
// marker files of its volumes; the more of them fit, the better. fallback, which is
// for a station that takes recorders nobody has described, allows the profile for
// any disk where none fits or several fit equally well.
func (s Set) ForVolumes(volumes []Volume, fallback bool) (*Profile, bool) {
	if p, ok := only(s.CandidatesVolumes(volumes)); ok || !fallback {
		return p, ok
	}
	return only(s.best(func(p *Profile) int { return truth(p.Match.Any && p.Access == Disk) }))
}

// CandidatesVolumes gives the profiles that fit best, more than one where that
// can't be decided, and never the one for any disk.
func (s Set) CandidatesVolumes(volumes []Volume) []*Profile {
	return s.best(func(p *Profile) int {
		rank := 0
		for _, v := range volumes {
			rank = max(rank, p.Match.onVolume(v))
		}
		return rank
	})
}

// onVolume tells how many signs of the make the volume has, 0: not all of them.
func (m Match) onVolume(v Volume) int {
	rank := 0
	if len(m.Labels) > 0 {
		if !slices.ContainsFunc(m.Labels, func(p *regexp.Regexp) bool { return p.MatchString(v.Label) }) {
			return 0
		}
		rank++
	}
	for _, marker := range m.Markers {
		if _, ok := find(v.FS, marker); !ok {
			return 0
		}
		rank++
	}
	return rank
}

// best gives the profiles of the highest rank above 0, without those that stand
// back behind another one that fits.
func (s Set) best(rank func(*Profile) int) []*Profile {
	ranks := map[*Profile]int{}
	for _, p := range s {
		if n := rank(p); n > 0 {
			ranks[p] = n
		}
	}
	for _, p := range s {
		if _, fits := ranks[p]; !fits {
			continue
		}
		for _, name := range p.Match.Over {
			if other, ok := s.Named(name); ok {
				delete(ranks, other)
			}
		}
	}
	highest := 0
	for _, n := range ranks {
		highest = max(highest, n)
	}
	var best []*Profile
	for _, p := range s {
		if n := ranks[p]; n > 0 && n == highest {
			best = append(best, p)
		}
	}
	return best
}

func only(found []*Profile) (*Profile, bool) {
	if len(found) != 1 {
		return nil, false
	}
	return found[0], true
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func pattern(p *regexp.Regexp) string {
	if p == nil {
		return ""
	}
	return p.String()
}

// Signs are what a recorder is recognised by, each in a few words.
func (m Match) Signs() []string {
	signs := []string{}
	for _, id := range m.USB {
		signs = append(signs, "usb "+id.String())
	}
	for _, s := range []struct {
		name    string
		pattern *regexp.Regexp
	}{{"manufacturer", m.Manufacturer}, {"product", m.Product}} {
		if s.pattern != nil {
			signs = append(signs, s.name+" "+written(s.pattern))
		}
	}
	for _, label := range m.Labels {
		signs = append(signs, "label "+written(label))
	}
	for _, marker := range m.Markers {
		signs = append(signs, "file "+marker)
	}
	if m.Any {
		signs = append(signs, "any other")
	}
	return signs
}

// written is a pattern as it stands in its profile.
func written(p *regexp.Regexp) string {
	if text, ok := strings.CutPrefix(p.String(), "(?i:"); ok {
		return strings.TrimSuffix(text, ")")
	}
	return p.String()
}
