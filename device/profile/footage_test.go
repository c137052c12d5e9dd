package profile_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/device/simulator"
)

// A whole card as a recorder leaves it, by the profiles that are built in.
func TestASimulatedCard(t *testing.T) {
	dir := t.TempDir()
	card := simulator.Card{Clips: 3, ClipLength: time.Second, ClipBytes: 400_000, ClockOffset: -37 * time.Hour}
	contents, err := card.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	volumes := []profile.Volume{{Label: "", FS: os.DirFS(dir)}}
	p, ok := builtIn(t).ForVolumes(volumes, false)
	if !ok || p.Name != "zfy-paramini" { // though Info.dat is there as well
		t.Fatalf("%v, %v", p, ok)
	}
	serial, officer, model := p.Identify(profile.Evidence{Volumes: volumes})
	if serial.Value != "NMQ0007" || officer.Value != "052507" || model.Known() {
		t.Errorf("%+v, %+v, %+v", serial, officer, model)
	}
	s, err := p.Survey(t.Context(), os.DirFS(dir), china)
	if err != nil {
		t.Fatal(err)
	}
	if s.Files != len(contents.Files) || s.Bytes != contents.Bytes {
		t.Errorf("%d files of %d bytes, want %d of %d", s.Files, s.Bytes, len(contents.Files), contents.Bytes)
	}
	// Three clips, two pictures and a voice note; GPS beside each clip.
	if s.Footage != 6 || s.Named != 3 || s.Marked != 1 || s.GPS != 3 || s.Unreadable != 0 {
		t.Errorf("%+v", s)
	}
	start := time.Date(2026, 11, 24, 8, 14, 2, 0, china).Add(-37 * time.Hour)
	if !s.First.Equal(start) || !s.Last.Equal(start.Add(2*time.Second)) || len(s.Serials) != 1 || s.Serials[0] != "NMQ0007" {
		t.Errorf("%s to %s, %q", s.First, s.Last, s.Serials)
	}

	// GPS is right though the clock is not.
	for _, f := range contents.Files {
		if !p.IsGPS(f.Path) {
			continue
		}
		text, err := os.ReadFile(dir + "/" + f.Path)
		if err != nil {
			t.Fatal(err)
		}
		track, err := profile.ParseNMEA(strings.NewReader(string(text)))
		if err != nil || track.Fixes != 1 || !track.Ordered || track.Refused != 0 {
			t.Errorf("%s: %+v, %v", f.Path, track, err)
		}
		if behind := track.Last.Sub(f.ModifiedAt); behind < 37*time.Hour-10*time.Second || behind > 37*time.Hour+10*time.Second {
			t.Errorf("%s: the file is %s behind its last fix", f.Path, behind)
		}
	}
}

func TestNamesAndPatterns(t *testing.T) {
	p := must(t, head("x")+`match: {markers: [x]}
footage:
  folders: [DCIM, Movie/Own]
  files: ['\.mp4$']
  marked: '/RO/|_IMP\.'
  name: '/(?P<date>\d{8})/(?P<officer>\d{6})_(?P<time>\d{6})\.mp4$'
  time_layout: "20060102 150405"
sidecars: {gps: '\.gps$'}
clock: {zone: UTC}
`)
	for path, want := range map[string]bool{
		"DCIM/a.MP4": true, "dcim/x/a.mp4": true, "movie/OWN/a.mp4": true, "DCIM2/a.mp4": false, "DCIM": false, "a.mp4": false,
		"DCIM/a.mp4.txt": false, "DCIM/a.mp4/b.txt": false, "": false, "DCIM/" + strings.Repeat("x", 5000) + ".mp4": false,
	} {
		if p.IsFootage(path) != want {
			t.Errorf("%.40q is footage: %v", path, !want)
		}
	}
	if !p.IsMarked("DCIM/RO/a.mp4") || !p.IsMarked("DCIM/a_imp.mp4") || p.IsMarked("DCIM/a.mp4") || !p.IsGPS("A.GPS") || p.IsGPS("gps") {
		t.Error("marked or GPS")
	}
	n, ok := p.ReadName("DCIM/20261124/052507_081402.mp4", china)
	if !ok || n.Officer.Value != "052507" || n.Serial.Known() || !n.At.Equal(time.Date(2026, 11, 24, 8, 14, 2, 0, time.UTC)) {
		t.Errorf("%+v, %v", n, ok)
	}
	// A time that is none is unknown, an officer of zeros too.
	if n, ok := p.ReadName("DCIM/20261324/052507_081402.mp4", china); !ok || !n.At.IsZero() {
		t.Errorf("%+v, %v", n, ok)
	}
	if n, ok := p.ReadName("DCIM/20261324/000000_081402.mp4", china); ok {
		t.Errorf("%+v", n)
	}
	if p.Numbers() || n.Numbered {
		t.Error("a profile that tells of no number knew one")
	}
	counted := must(t, head("x")+"match: {markers: [x]}\nfootage: {files: ['mp4$'], name: '_(?P<number>\\d+)\\.mp4$'}\n")
	for name, want := range map[string]int{"a_000126.mp4": 126, "a_0.mp4": 0, "a_999999999.mp4": 999999999, "a_20261124081402.mp4": -1, "a_0000000001.mp4": -1, "a.mp4": -1} {
		if n, ok := counted.ReadName(name, china); !counted.Numbers() || ok != (want >= 0) || n.Numbered != ok || ok && n.Number != want {
			t.Errorf("%s: %+v, %v", name, n, ok)
		}
	}
	bare := must(t, head("x")+"match: {markers: [x]}\n")
	if _, ok := bare.ReadName("DCIM/20261124/052507_081402.mp4", china); ok || bare.IsFootage("a.mp4") || bare.IsMarked("a") || bare.IsGPS("a") {
		t.Error("a profile that says nothing knew something")
	}
}

func TestSurveyOfATroubledCard(t *testing.T) {
	p := must(t, head("x")+"match: {markers: [x]}\nfootage: {files: ['mp4$']}\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Survey(ctx, fstest.MapFS{"a.mp4": {}}, china); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := p.Survey(t.Context(), os.DirFS("/nonexistent"), china); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func FuzzReadName(f *testing.F) {
	set := builtIn(f)
	p, _ := set.Named("zfy-paramini")
	f.Add("DCIM/100MEDIA/20261124081402_0001A_NMQ0007_000126.MP4")
	f.Add("20261399999999_0001A_000000_1_IMP.\xff")
	f.Fuzz(func(t *testing.T, name string) {
		n, ok := p.ReadName(name, china)
		if ok != (n.Serial.Known() || n.Officer.Known() || !n.At.IsZero() || n.Numbered) {
			t.Errorf("%+v, %v", n, ok)
		}
		if n.Serial.Known() && (strings.Trim(n.Serial.Value, "0") == "" || !strings.Contains(name, n.Serial.Value)) {
			t.Errorf("serial %q of %q", n.Serial.Value, name)
		}
		if !n.Numbered && n.Number != 0 || n.Numbered && !strings.Contains(name, strconv.Itoa(n.Number)) {
			t.Errorf("number %d of %q", n.Number, name)
		}
		_ = p.IsFootage(name) && p.IsMarked(name) && p.IsGPS(name)
	})
}

func TestNMEA(t *testing.T) {
	const good = "$GPRMC,081402.50,A,4251.0000,N,12039.0000,E,0.5,12.0,241126,,,A*"
	at := time.Date(2026, 11, 24, 8, 14, 2, 5e8, time.UTC)
	for name, c := range map[string]struct {
		text            string
		fixes, refused  int
		first, last     time.Time
		contradictsSelf bool
	}{
		"one":                    {text: good + sum(good) + "\r\n", fixes: 1, first: at, last: at},
		"no line end":            {text: good + sum(good), fixes: 1, first: at, last: at},
		"lower-case checksum":    {text: good + strings.ToLower(sum(good)) + "\n", fixes: 1, first: at, last: at},
		"no checksum":            {text: strings.TrimSuffix(good, "*") + "\n", fixes: 1, first: at, last: at},
		"wrong checksum":         {text: good + "00\n", refused: 1},
		"time stamp before it":   {text: "[2026-11-24 16:14:02]" + good + sum(good) + "\n", fixes: 1, first: at, last: at},
		"BeiDou":                 {text: "$BDRMC,081402,A,,,,,,,241126,,\n", fixes: 1, first: at.Truncate(time.Second), last: at.Truncate(time.Second)},
		"no fix":                 {text: "$GPRMC,081402,V,,,,,,,241126,,\n", refused: 1},
		"no time yet":            {text: "$GPRMC,,A,,,,,,,,,\n", refused: 1},
		"13th month":             {text: "$GPRMC,081402,A,,,,,,,241326,,\n", refused: 1},
		"25 o'clock":             {text: "$GPRMC,251402,A,,,,,,,241126,,\n", refused: 1},
		"signs in the fraction":  {text: "$GPRMC,081402.-5,A,,,,,,,241126,,\n", refused: 1},
		"lost weeks":             {text: "$GPRMC,081402,A,,,,,,,100407,,\n", refused: 1},
		"another century":        {text: "$GPRMC,081402,A,,,,,,,241199,,\n", refused: 1},
		"other sentences":        {text: "$GPGGA,081402.00,,,,,,,,,,,,\n$GPRMC\n$\n\nhello\nRMC,1,A\n"},
		"a line without end":     {text: strings.Repeat("$GPRMC,081402,A,,,,,,,241126,,", 1000) + "\n" + good + sum(good) + "\n", fixes: 1, first: at, last: at},
		"time going backwards":   {text: "$GPRMC,081402,A,,,,,,,241126,,\n$GPRMC,081401,A,,,,,,,241126,,\n", fixes: 2, first: at.Truncate(time.Second), last: at.Truncate(time.Second).Add(-time.Second), contradictsSelf: true},
		"the same second twice":  {text: "$GPRMC,081402,A,,,,,,,241126,,\n$GNRMC,081402,A,,,,,,,241126,,\n", fixes: 2, first: at.Truncate(time.Second), last: at.Truncate(time.Second)},
		"over midnight":          {text: "$GPRMC,235959,A,,,,,,,241126,,\n$GPRMC,000000,A,,,,,,,251126,,\n", fixes: 2, first: time.Date(2026, 11, 24, 23, 59, 59, 0, time.UTC), last: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)},
		"nothing":                {},
		"NULs of a cut-off card": {text: "$GPRMC,081402,A,,,,,,,241126,,\n" + strings.Repeat("\x00", 5000), fixes: 1, first: at.Truncate(time.Second), last: at.Truncate(time.Second)},
	} {
		track, err := profile.ParseNMEA(strings.NewReader(c.text))
		if err != nil || track.Fixes != c.fixes || track.Refused != c.refused || !track.First.Equal(c.first) || !track.Last.Equal(c.last) || track.Ordered == c.contradictsSelf {
			t.Errorf("%s: %+v, %v", name, track, err)
		}
	}
	broken := io.MultiReader(strings.NewReader(good+sum(good)+"\n"), iotest.ErrReader(errors.New("EIO")))
	if track, err := profile.ParseNMEA(broken); err == nil || track.Fixes != 1 {
		t.Errorf("a card that fails: %+v, %v", track, err)
	}
}

// sum is the checksum of a sentence from $ to *.
func sum(sentence string) string {
	var x byte
	for _, c := range []byte(strings.Trim(sentence, "$*")) {
		x ^= c
	}
	const digits = "0123456789ABCDEF"
	return string([]byte{digits[x>>4], digits[x&15]})
}

func FuzzNMEA(f *testing.F) {
	f.Add([]byte("$GPRMC,081402.50,A,4251.0000,N,12039.0000,E,0.5,12.0,241126,,,A\r\n"))
	f.Add([]byte("$GNRMC,000000,A,,,,,,,010170,,*zz\n$$$RMC,"))
	f.Add([]byte("\x00$GPRMC,,,,,,,,,,,,,,*"))
	f.Fuzz(func(t *testing.T, data []byte) {
		track, err := profile.ParseNMEA(strings.NewReader(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		if (track.Fixes == 0) != track.First.IsZero() || (track.Fixes == 0) != track.Last.IsZero() {
			t.Errorf("%+v", track)
		}
		if track.Fixes > 0 && (track.First.Year() < 2010 || track.Last.Year() < 2010) {
			t.Errorf("%+v", track)
		}
	})
}
