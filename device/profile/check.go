package profile

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/bodyworn/ingestd/device/vendorcmd"
)

// checker holds what was read against itself: values that make no sense together.
type checker struct {
	*Profile
	doc *document
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// check adds the problems that no single value has.
func (d *document) check(p *Profile, wantName string) {
	c := checker{p, d}
	c.names(wantName)
	c.match()
	c.identity()
	c.footage()
	c.clock()
	c.commands()
}

// fail reports a problem with a key, unless one is known already.
func (c checker) fail(key, text string) {
	if c.doc.failed(key) {
		return
	}
	line := 0
	for k := key; k != "" && line == 0; k = group(k) {
		line = c.doc.lines[k]
	}
	c.doc.fail(key, line, "%s", text)
}

func (c checker) names(wantName string) {
	switch {
	case !nameForm.MatchString(c.Name):
		c.fail("name", "must be up to 40 lower-case letters, digits and hyphens")
	case c.Name != wantName:
		c.fail("name", "must be that of the file: "+wantName)
	}
	for key, text := range map[string]string{"title.en": c.Title.En, "title.zh": c.Title.Zh, "tested_with": c.TestedWith} {
		if strings.TrimSpace(text) == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			c.fail(key, "must be text in one line; where nothing was tried, tested_with is none")
		}
	}
	if c.Clear == "" {
		c.Clear = "never"
	}
	for _, way := range []*Way{&c.Battery, &c.Clock.Read, &c.Clock.Set} {
		if *way == "" {
			*way = ByNone
		}
	}
}

func (c checker) match() {
	m := c.Match
	onBus := len(m.USB) > 0 || m.Manufacturer != nil || m.Product != nil
	onVolume := len(m.Labels) > 0 || len(m.Markers) > 0
	switch {
	case m.Any && (onBus || onVolume):
		c.fail("match.any", "stands alone: it takes what no other profile fits")
	case !m.Any && !onBus && !onVolume:
		c.fail("match", "fits nothing: give usb, manufacturer, product, labels, markers or any")
	case c.Access == PTP && onVolume:
		c.fail("match", "labels and markers are for access disk: a PTP recorder shows no volumes")
	}
	for i, id := range m.USB {
		if slices.Contains(m.USB[:i], id) {
			c.fail("match.usb", "has "+id.String()+" twice")
		}
	}
	c.notEmpty("match.manufacturer", m.Manufacturer)
	c.notEmpty("match.product", m.Product)
	for _, label := range m.Labels {
		c.notEmpty("match.labels", label)
	}
	for _, marker := range m.Markers {
		c.path("match.markers", marker)
	}
	if slices.Contains(m.Over, c.Name) {
		c.fail("match.over", "names this profile itself")
	}
}

// notEmpty refuses a pattern that also fits where there is nothing.
func (c checker) notEmpty(key string, pattern *regexp.Regexp) {
	if pattern != nil && pattern.MatchString("") {
		c.fail(key, "also fits an empty text: write what must be there")
	}
}

// path refuses what can't be a path on a volume.
func (c checker) path(key, path string) {
	if !fs.ValidPath(path) || path == "." || strings.Contains(path, `\`) {
		c.fail(key, quoted(path)+" is no path on a volume: write it with /, without one at its begin or end, and without ..")
	}
}

// groups refuses named groups that nothing reads, and a pattern without any.
func (c checker) groups(key string, pattern *regexp.Regexp, known ...string) []string {
	var found []string
	for _, name := range pattern.SubexpNames()[1:] {
		switch {
		case name == "":
		case !slices.Contains(known, name):
			c.fail(key, "nothing reads the group "+quoted(name)+"; there are "+strings.Join(known, ", "))
		case slices.Contains(found, name):
			c.fail(key, "has the group "+name+" twice")
		default:
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		c.fail(key, "needs a named group, such as (?P<"+known[0]+">…)")
	}
	return found
}

func (c checker) identity() {
	id := c.Identity
	var labelGroups []string
	if id.LabelPattern != nil {
		labelGroups = c.groups("identity.label_pattern", id.LabelPattern, "serial", "officer")
		if !slices.Contains(id.Serial, FromLabel) && !slices.Contains(id.Officer, FromLabel) {
			c.fail("identity.label_pattern", "is read by nobody: put label among the sources of serial or officer")
		}
	}
	for fact, sources := range map[string][]Source{"serial": id.Serial, "officer": id.Officer, "model": id.Model} {
		key := "identity." + fact
		for i, source := range sources {
			if slices.Contains(sources[:i], source) {
				c.fail(key, "has "+string(source)+" twice")
			}
			switch source {
			case FromParamINI, FromInfoDat, FromLabel:
				if c.Access == PTP {
					c.fail(key, string(source)+" is read from a volume and needs access disk")
				}
			case FromPTP:
				if c.Access == Disk {
					c.fail(key, "ptp needs access ptp")
				}
			case FromCommand:
				if !c.tells(fact) {
					c.fail(key, "command needs commands.identity with the group "+fact+" in its expect")
				}
			case FromUSB:
			}
			if source == FromLabel && !slices.Contains(labelGroups, fact) {
				c.fail(key, "label needs label_pattern with the group "+fact)
			}
		}
	}
}

// tells reports whether the answer to the identity command holds the fact.
func (c checker) tells(fact string) bool {
	e := c.has(func(k *vendorcmd.Commands) *vendorcmd.Exchange { return k.Identity })
	return e != nil && e.Expect != nil && slices.Contains(e.Expect.SubexpNames(), fact)
}

// has gives one of the commands, nil where there is none.
func (c checker) has(pick func(*vendorcmd.Commands) *vendorcmd.Exchange) *vendorcmd.Exchange {
	if c.Commands == nil {
		return nil
	}
	return pick(c.Commands)
}

func (c checker) footage() {
	f := c.Footage
	for _, folder := range f.Folders {
		c.path("footage.folders", folder)
	}
	for _, files := range f.Files {
		c.notEmpty("footage.files", files)
	}
	c.notEmpty("footage.marked", f.Marked)
	c.notEmpty("sidecars.gps", c.Sidecars.GPS)
	timed := false
	if f.Name != nil {
		c.notEmpty("footage.name", f.Name)
		found := c.groups("footage.name", f.Name, "officer", "serial", "date", "time", "number")
		timed = slices.Contains(found, "time")
		if slices.Contains(found, "date") && !timed {
			c.fail("footage.name", "the group date needs the group time beside it")
		}
	}
	switch err := vendorcmd.CheckLayout(f.TimeLayout); {
	case timed && err != nil:
		c.fail("footage.time_layout", err.Error())
	case !timed && f.TimeLayout != "":
		c.fail("footage.time_layout", "is for the group time in footage.name, which is not there")
	}
}

func (c checker) clock() {
	k := c.Clock
	ways := []struct {
		key     string
		way     Way
		command *vendorcmd.Exchange
		needs   string
	}{
		{"clock.read", k.Read, c.has(func(k *vendorcmd.Commands) *vendorcmd.Exchange { return k.ReadClock }), "commands.read_clock"},
		{"clock.set", k.Set, c.has(func(k *vendorcmd.Commands) *vendorcmd.Exchange { return k.SetTime }), "commands.set_time"},
		{"battery", c.Battery, c.has(func(k *vendorcmd.Commands) *vendorcmd.Exchange { return k.Battery }), "commands.battery"},
	}
	for _, w := range ways {
		switch {
		case w.way == ByPTP && c.Access == Disk:
			c.fail(w.key, "ptp needs access ptp")
		case w.way == ByCommand && w.command == nil:
			c.fail(w.key, "command needs "+w.needs)
		case w.way == ByFile && c.Access == PTP:
			c.fail(w.key, "file needs access disk")
		}
	}
	switch {
	case k.Set == ByFile && k.File == nil:
		c.fail("clock.set", "file needs clock.file with path and format")
	case k.Set != ByFile && k.File != nil:
		c.fail("clock.file", "is used with set: file only")
	case k.File != nil:
		c.path("clock.file.path", k.File.Path)
		if strings.Contains(k.File.Path, "/") {
			c.fail("clock.file.path", "must lie in the root of the volume")
		}
		if c.IsFootage(k.File.Path) || c.IsGPS(k.File.Path) {
			c.fail("clock.file.path", "is a recording or a track by footage or sidecars: nothing is written there")
		}
		if err := vendorcmd.CheckLayout(k.File.Format); err != nil {
			c.fail("clock.file.format", err.Error())
		}
	}
}

func (c checker) commands() {
	if c.Commands == nil {
		return
	}
	c.Commands.Check(func(key, text string) { c.fail(strings.TrimSuffix("commands."+key, "."), text) })
	if c.Access == PTP && c.Commands.DiskMode != nil {
		c.fail("commands.disk_mode", "needs access disk")
	}
}
