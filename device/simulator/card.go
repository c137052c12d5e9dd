package simulator

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// MarkedSuffix ends the name of a segment marked as important (重点标记). That
// recorders can mark is documented, this spelling is not: a profile must say
// it.
const MarkedSuffix = "_IMP"

// fatGrain is how finely FAT keeps a modification time.
const fatGrain = 2 * time.Second

// Card describes a recorder's card. The zero value is the card of the demo:
// every field left zero takes the value said at it.
type Card struct {
	// Seed varies all that is random: scenes, noise, the walk, binary files.
	Seed uint64

	// Recorder is the recorder's number, NMQ0007. It stands in file names, so
	// it must be fit for one.
	Recorder string
	// Officer is the officer's number (警号/执法证号), 052507. Recorders that
	// nobody set up have 000000.
	Officer string
	// OfficerName and Unit must exist in GBK; 演示员甲 of
	// 奈曼旗文化市场综合执法大队.
	OfficerName, Unit string

	// Start is when the first clip began by true time, to the second; its
	// location is the zone the recorder is set to. 2026-11-24 08:14:02 +08:00.
	Start time.Time
	// ClockOffset is recorder minus true time, + = fast. Names, file times,
	// box times and the burnt-in clock all have it; GPS sidecars do not.
	ClockOffset time.Duration

	// Clips is the number of segments, 4; negative for none. They follow each
	// other without a gap, and the last one is marked.
	Clips int
	// ClipLength is the length of each, 10 s, cut to whole frames of 40 ms.
	ClipLength time.Duration
	// ClipBytes is the size of each, met exactly if it leaves room for one
	// frame (360 kB) and the sample tables. Zero takes the natural size,
	// 360 kB per second.
	ClipBytes int64
	// Gap is a pause before the last clip, which then begins a new recording.
	Gap time.Duration
	// FirstSequence numbers the first clip, 123. Leave numbers out between two
	// cards and the recorder has overwritten footage (循环覆盖).
	FirstSequence int
}

// File is one file of a card.
type File struct {
	Path       string // below the card, with slashes
	Bytes      int64
	ModifiedAt time.Time
}

// Contents is what a card holds, everything in it, sorted by path.
type Contents struct {
	Files   []File
	Folders []string
	Bytes   int64 // of all files
}

// Write makes the card below dir, which must be absent or empty. What it has
// written when it fails stays there.
func (c Card) Write(dir string) (Contents, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return Contents{}, err
	}
	if err := makeEmpty(dir); err != nil {
		return Contents{}, err
	}
	w := &cardWriter{dir: dir, folders: map[string]bool{}}
	for i := range max(c.Clips, 0) {
		if err := c.writeSegment(w, i); err != nil {
			return Contents{}, err
		}
	}
	if err := c.writeIdentity(w); err != nil {
		return Contents{}, err
	}
	if err := c.writeRest(w); err != nil {
		return Contents{}, err
	}
	return w.finish(c.clock(c.Start))
}

func (c Card) withDefaults() Card {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Recorder, "NMQ0007")
	set(&c.Officer, "052507")
	set(&c.OfficerName, "演示员甲")
	set(&c.Unit, "奈曼旗文化市场综合执法大队")
	if c.Start.IsZero() {
		c.Start = time.Date(2026, 11, 24, 8, 14, 2, 0, time.FixedZone("CST", 8*60*60))
	}
	c.Start = c.Start.Truncate(time.Second)
	if c.Clips == 0 {
		c.Clips = 4
	}
	if c.ClipLength == 0 {
		c.ClipLength = 10 * time.Second
	}
	c.ClipLength = c.ClipLength.Truncate(frameLength)
	if c.FirstSequence == 0 {
		c.FirstSequence = 123
	}
	return c
}

func (c Card) check() error {
	switch {
	case c.ClipLength <= 0:
		return errors.New("card: a clip must last at least one frame, 40 ms")
	case c.ClipBytes < 0 || c.Gap < 0 || c.FirstSequence < 0:
		return errors.New("card: sizes, gaps and sequence numbers cannot be negative")
	case strings.ContainsAny(c.Recorder, "/\x00"):
		return fmt.Errorf("card: recorder number %q cannot stand in a file name", c.Recorder)
	}
	return nil
}

// clock is what the recorder's clock shows at an instant of true time.
func (c Card) clock(at time.Time) time.Time { return at.Add(c.ClockOffset) }

// random is the source for one purpose. Every purpose has its own, so that
// more bytes for one leave the others as they were.
func (c Card) random(purpose string) *rand.ChaCha8 {
	return rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%d %s", c.Seed, purpose)))
}

// segment is the place of clip i in time and in its recording (一次记录).
func (c Card) segment(i int) (startedAt time.Time, recording, part int) {
	startedAt = c.Start.Add(time.Duration(i) * c.ClipLength)
	if c.Gap > 0 && i > 0 && i == c.Clips-1 {
		return startedAt.Add(c.Gap), 2, 0
	}
	return startedAt, 1, i
}

// segmentStem is the path of a segment without its suffix: time by the
// recorder's clock, recording and part, recorder, running number.
func (c Card) segmentStem(i int) string {
	startedAt, recording, part := c.segment(i)
	name := fmt.Sprintf("%s_%04d%s_%s_%06d", c.clock(startedAt).Format("20060102150405"),
		recording, letters(part), c.Recorder, c.FirstSequence+i)
	if i == c.Clips-1 {
		name += MarkedSuffix
	}
	// A DCF folder is full at some point and the next one is begun.
	return fmt.Sprintf("DCIM/%dMEDIA/%s", 100+i/999, name)
}

// letters counts A to Z, then AA, AB and on.
func letters(n int) string {
	if n < 26 {
		return string(rune('A' + n))
	}
	return letters(n/26-1) + letters(n%26)
}

// writeSegment writes clip i and its GPS track.
func (c Card) writeSegment(w *cardWriter, i int) error {
	startedAt, _, _ := c.segment(i)
	stem := c.segmentStem(i)
	v := clip{
		startedAt: c.clock(startedAt),
		frames:    int(c.ClipLength / frameLength),
		bytes:     c.ClipBytes,
		caption:   c.Recorder + " " + c.Officer,
		scene:     rand.New(c.random(fmt.Sprintf("scene %d", i))),
		noise:     c.random(fmt.Sprintf("noise %d", i)),
	}
	path, err := w.place(stem + ".MP4")
	if err != nil {
		return err
	}
	size, err := v.write(path)
	if err != nil {
		return err
	}
	if err := w.written(stem+".MP4", size, v.endedAt()); err != nil {
		return err
	}
	return w.file(stem+".nmea", c.nmea(i), v.endedAt())
}

// cardWriter writes files below dir and keeps account of them.
type cardWriter struct {
	dir      string
	folders  map[string]bool
	contents Contents
}

// place makes the folders above path and returns where it lies.
func (w *cardWriter) place(path string) (string, error) {
	if parent := filepath.Dir(path); parent != "." && !w.folders[parent] {
		if err := w.folder(parent); err != nil {
			return "", err
		}
	}
	return filepath.Join(w.dir, path), nil
}

func (w *cardWriter) folder(path string) error {
	if err := os.MkdirAll(filepath.Join(w.dir, path), 0o755); err != nil {
		return fmt.Errorf("make folder of card: %w", err)
	}
	for ; path != "."; path = filepath.Dir(path) {
		w.folders[path] = true
	}
	return nil
}

func (w *cardWriter) file(path string, data []byte, modifiedAt time.Time) error {
	at, err := w.place(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(at, data, 0o644); err != nil {
		return fmt.Errorf("write card: %w", err)
	}
	return w.written(path, int64(len(data)), modifiedAt)
}

// written enters a finished file into the account and sets its time.
func (w *cardWriter) written(path string, size int64, modifiedAt time.Time) error {
	modifiedAt = modifiedAt.Truncate(fatGrain)
	if err := os.Chtimes(filepath.Join(w.dir, path), modifiedAt, modifiedAt); err != nil {
		return fmt.Errorf("set time on card: %w", err)
	}
	w.contents.Files = append(w.contents.Files, File{Path: path, Bytes: size, ModifiedAt: modifiedAt})
	w.contents.Bytes += size
	return nil
}

// finish sets the folders' times, which every file in them has changed.
func (w *cardWriter) finish(modifiedAt time.Time) (Contents, error) {
	modifiedAt = modifiedAt.Truncate(fatGrain)
	for path := range w.folders {
		w.contents.Folders = append(w.contents.Folders, path)
		if err := os.Chtimes(filepath.Join(w.dir, path), modifiedAt, modifiedAt); err != nil {
			return Contents{}, fmt.Errorf("set time of folder on card: %w", err)
		}
	}
	slices.Sort(w.contents.Folders)
	slices.SortFunc(w.contents.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return w.contents, nil
}

// makeEmpty makes dir where it is absent and refuses one with anything in it:
// a card's bytes would not be those of its seed, and a mistyped path would mix
// made-up footage with real.
func makeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return fmt.Errorf("make card: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("make card: %s is not empty, choose another folder", dir)
	}
	return nil
}
