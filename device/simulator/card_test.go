package simulator_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image/jpeg"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/bodyworn/ingestd/device/simulator"
)

var beijing = time.FixedZone("CST", 8*60*60)

func writeCard(t *testing.T, card simulator.Card) (dir string, contents simulator.Contents) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "card")
	contents, err := card.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	checkAccount(t, dir, contents)
	return dir, contents
}

// checkAccount proves that the contents list everything below dir and nothing
// else.
func checkAccount(t *testing.T, dir string, contents simulator.Contents) {
	t.Helper()
	var files, folders []string
	var total int64
	listed := map[string]simulator.File{}
	for _, f := range contents.Files {
		listed[f.Path] = f
	}
	err := filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || at == dir {
			return err
		}
		path, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			folders = append(folders, path)
			return nil
		}
		files = append(files, path)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		if f := listed[path]; info.Size() != f.Bytes || !info.ModTime().Equal(f.ModifiedAt) {
			t.Errorf("%s: %d bytes of %v, listed as %+v", path, info.Size(), info.ModTime(), f)
		}
		if info.ModTime().Unix()%2 != 0 || info.ModTime().Nanosecond() != 0 {
			t.Errorf("%s: time %v is finer than FAT keeps", path, info.ModTime())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(folders)
	if len(files) != len(listed) || !slices.Equal(folders, contents.Folders) || total != contents.Bytes {
		t.Errorf("found %d files, %d folders, %d bytes; listed %d, %d, %d", len(files), len(folders), total,
			len(contents.Files), len(contents.Folders), contents.Bytes)
	}
}

// fingerprint is path, time and digest of everything below dir.
func fingerprint(t *testing.T, dir string) map[string]string {
	t.Helper()
	prints := map[string]string{}
	err := filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || at == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var digest [32]byte
		if !entry.IsDir() {
			data, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			digest = sha256.Sum256(data)
		}
		path, err := filepath.Rel(dir, at)
		prints[path] = fmt.Sprintf("%d %s %s", info.ModTime().UnixNano(), info.Mode(), hex.EncodeToString(digest[:]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return prints
}

func TestSameCardSameBytes(t *testing.T) {
	card := simulator.Card{Seed: 7, Clips: 2, ClipLength: 2 * time.Second, ClipBytes: 3 << 20}
	first, _ := writeCard(t, card)
	second, _ := writeCard(t, card)
	if !maps.Equal(fingerprint(t, first), fingerprint(t, second)) {
		t.Error("the same card came out differently")
	}
	card.Seed = 8
	third, _ := writeCard(t, card)
	differing := 0
	was := fingerprint(t, first)
	for path, print := range fingerprint(t, third) {
		if was[path] != print {
			differing++
		}
	}
	if differing < 6 {
		t.Errorf("another seed changed only %d files", differing)
	}
}

func TestNames(t *testing.T) {
	card := simulator.Card{
		Recorder: "NMQ0042", Clips: 3, ClipLength: 2 * time.Second, Gap: 10 * time.Minute, FirstSequence: 998,
		Start: time.Date(2026, 11, 24, 23, 59, 57, 0, beijing), ClockOffset: 3 * time.Second,
	}
	_, contents := writeCard(t, card)
	var clips []simulator.File
	for _, f := range contents.Files {
		if strings.HasSuffix(f.Path, ".MP4") {
			clips = append(clips, f)
		}
	}
	want := []simulator.File{
		{Path: "DCIM/100MEDIA/20261125000000_0001A_NMQ0042_000998.MP4", ModifiedAt: time.Date(2026, 11, 25, 0, 0, 2, 0, beijing)},
		{Path: "DCIM/100MEDIA/20261125000002_0001B_NMQ0042_000999.MP4", ModifiedAt: time.Date(2026, 11, 25, 0, 0, 4, 0, beijing)},
		{Path: "DCIM/100MEDIA/20261125001004_0002A_NMQ0042_001000_IMP.MP4", ModifiedAt: time.Date(2026, 11, 25, 0, 10, 6, 0, beijing)},
	}
	if len(clips) != len(want) {
		t.Fatalf("%d clips, want %d", len(clips), len(want))
	}
	for i, f := range clips {
		if f.Path != want[i].Path || !f.ModifiedAt.Equal(want[i].ModifiedAt) {
			t.Errorf("clip %d is %s of %v, want %s of %v", i, f.Path, f.ModifiedAt, want[i].Path, want[i].ModifiedAt)
		}
	}
}

func TestManyClipsFillFolders(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a thousand clips")
	}
	_, contents := writeCard(t, simulator.Card{Clips: 1000, ClipLength: 40 * time.Millisecond})
	if !slices.Contains(contents.Folders, "DCIM/101MEDIA") {
		t.Error("the thousandth clip did not begin a new folder")
	}
}

func TestCardWithoutClips(t *testing.T) {
	_, contents := writeCard(t, simulator.Card{Clips: -1})
	for _, f := range contents.Files {
		if strings.HasSuffix(f.Path, ".MP4") || strings.HasSuffix(f.Path, ".nmea") {
			t.Errorf("unwanted %s", f.Path)
		}
	}
}

func TestRefuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "real.MP4"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		card simulator.Card
		dir  string
	}{
		"a folder with something in it": {simulator.Card{}, full},
		"a clip shorter than a frame":   {simulator.Card{ClipLength: time.Millisecond}, t.TempDir()},
		"a negative size":               {simulator.Card{ClipBytes: -1}, t.TempDir()},
		"a recorder no file can name":   {simulator.Card{Recorder: "../x"}, t.TempDir()},
		"an officer beyond GBK":         {simulator.Card{OfficerName: "👮", Clips: -1}, t.TempDir()},
	} {
		if _, err := c.card.Write(c.dir); err == nil {
			t.Errorf("wrote a card with %s", name)
		}
	}
}

func TestIdentityFiles(t *testing.T) {
	dir, _ := writeCard(t, simulator.Card{
		Recorder: "NMQ0042", Officer: "052511", OfficerName: "包·其木格", Unit: "奈曼旗文旅局", Clips: -1,
	})
	for path, want := range map[string]string{
		"Param.ini":              "[ZFY]\r\nDevNo=NMQ0042\r\nPolNo=052511\r\nUserName=包·其木格\r\nCorpName=奈曼旗文旅局\r\n",
		"DCIM/100MEDIA/Info.dat": "NMQ0042;V1.0.3;052511;包·其木格;奈曼旗文旅局\r\n",
	} {
		data, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		text, err := simplifiedchinese.GBK.NewDecoder().Bytes(data)
		if err != nil || string(text) != want {
			t.Errorf("%s decodes to %q, error %v, want %q", path, text, err, want)
		}
		if bytes.Equal(data, text) {
			t.Errorf("%s is UTF-8, not GBK", path)
		}
	}
}

func TestPhotoDecodes(t *testing.T) {
	dir, _ := writeCard(t, simulator.Card{Clips: -1})
	f, err := os.Open(filepath.Join(dir, "DCIM/图片/现场照片_001.JPG"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	photo, err := jpeg.Decode(f)
	if err != nil || photo.Bounds().Dx() != 640 || photo.Bounds().Dy() != 360 {
		t.Errorf("decoded %v, error %v", photo, err)
	}
}

var sentenceForm = regexp.MustCompile(`^\$((GPRMC|GPGGA),([0-9.]+),.*)\*([0-9A-F]{2})$`)

func TestNMEA(t *testing.T) {
	start := time.Date(2026, 11, 24, 0, 30, 0, 0, beijing) // still the 23rd in UTC
	dir, contents := writeCard(t, simulator.Card{Start: start, Clips: 1, ClipLength: 5 * time.Second, ClockOffset: time.Hour})
	i := slices.IndexFunc(contents.Files, func(f simulator.File) bool { return strings.HasSuffix(f.Path, ".nmea") })
	data, err := os.ReadFile(filepath.Join(dir, contents.Files[i].Path))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\r\n"), "\r\n")
	if len(lines) != 2*5 {
		t.Fatalf("%d sentences in five seconds, want 10", len(lines))
	}
	for i, line := range lines {
		match := sentenceForm.FindStringSubmatch(line)
		if match == nil {
			t.Fatalf("not a sentence: %q", line)
		}
		var sum byte
		for _, b := range []byte(match[1]) {
			sum ^= b
		}
		if want := fmt.Sprintf("%02X", sum); match[4] != want {
			t.Errorf("%s: checksum should be %s", line, want)
		}
		at := start.Add(time.Duration(i/2) * time.Second).UTC()
		if match[3] != at.Format("150405.00") {
			t.Errorf("%s: should be at %v", line, at)
		}
		fields := strings.Split(match[1], ",")
		position := fields[2:6]
		if match[2] == "GPRMC" {
			position = fields[3:7]
			if fields[9] != at.Format("020106") {
				t.Errorf("%s: should be on %v", line, at)
			}
		}
		checkNear(t, position, 42.85, 120.66)
	}
}

// checkNear reads dddmm.mmmm and wants the place within two kilometres or so.
func checkNear(t *testing.T, position []string, latitude, longitude float64) {
	t.Helper()
	degrees := func(text string, digits int) float64 {
		whole, err := strconv.ParseFloat(text[:digits], 64)
		if err != nil {
			t.Fatal(err)
		}
		minutes, err := strconv.ParseFloat(text[digits:], 64)
		if err != nil || minutes >= 60 {
			t.Fatalf("%s: %v minutes, error %v", text, minutes, err)
		}
		return whole + minutes/60
	}
	north, east := degrees(position[0], 2)-latitude, degrees(position[2], 3)-longitude
	if max(north, -north, east, -east) > 0.02 || position[1] != "N" || position[3] != "E" {
		t.Errorf("%v is not near %v N %v E", position, latitude, longitude)
	}
}

// A clip of 300 MB must cost no more memory than one of 20 MB, be it of video
// or of padding.
func TestMemoryStaysFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("writes two clips of 300 MB")
	}
	for name, length := range map[string]time.Duration{"video": 3 * time.Minute, "padding": time.Second} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, contents := writeCard(t, simulator.Card{Clips: 1, ClipLength: length, ClipBytes: 300_000_000})
			runtime.ReadMemStats(&after)
			if contents.Bytes < 300_000_000 {
				t.Errorf("the card has only %d bytes", contents.Bytes)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
				t.Errorf("allocated %d MiB in all, want less than 16", used>>20)
			}
		})
	}
}

func BenchmarkClip(b *testing.B) {
	for name, length := range map[string]time.Duration{"video": time.Minute, "padding": time.Second} {
		b.Run(name, func(b *testing.B) {
			const size = 200 << 20
			b.SetBytes(size)
			for b.Loop() {
				dir := filepath.Join(b.TempDir(), "card")
				if _, err := (simulator.Card{Clips: 1, ClipLength: length, ClipBytes: size}).Write(dir); err != nil {
					b.Fatal(err)
				}
				if err := os.RemoveAll(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestVoiceNote(t *testing.T) {
	dir, contents := writeCard(t, simulator.Card{Clips: -1})
	i := slices.IndexFunc(contents.Files, func(f simulator.File) bool { return strings.HasSuffix(f.Path, ".WAV") })
	f, err := os.Open(filepath.Join(dir, contents.Files[i].Path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var header [44]byte
	if _, err := io.ReadFull(f, header[:]); err != nil {
		t.Fatal(err)
	}
	want := "RIFF\x24\x7d\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x00\x7d\x00\x00"
	if string(header[:]) != want {
		t.Errorf("header is %q, want %q", header, want)
	}
}
