package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/avc"
	"github.com/Eyevinn/mp4ff/mp4"
)

// clipCases are the shapes a clip can take.
var clipCases = map[string]struct {
	card       Card
	wantPadded bool
	wantIDRs   int
}{
	"natural":               {Card{ClipLength: 4 * time.Second}, false, 4},
	"not whole seconds":     {Card{ClipLength: 1480 * time.Millisecond}, false, 2},
	"one frame":             {Card{ClipLength: 40 * time.Millisecond}, false, 1},
	"small, clock in P":     {Card{ClipLength: 25 * time.Second, ClipBytes: 1_200_000}, true, 2},
	"wants less than it is": {Card{ClipLength: 2 * time.Second, ClipBytes: 1}, false, 1},
	"large, all IDR":        {Card{ClipLength: time.Second, ClipBytes: 12 << 20}, true, 25},
	"clock fast by a year":  {Card{ClipLength: time.Second, ClockOffset: 365 * 24 * time.Hour}, false, 1},
	"after 2040":            {Card{ClipLength: time.Second, Start: time.Date(2041, 3, 1, 0, 0, 0, 0, time.UTC)}, false, 1},
}

// oneClip writes a card with one clip and returns where the clip is.
func oneClip(t *testing.T, card Card) string {
	t.Helper()
	card.Clips = 1
	dir := t.TempDir()
	contents, err := card.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range contents.Files {
		if strings.HasSuffix(f.Path, ".MP4") {
			return filepath.Join(dir, f.Path)
		}
	}
	t.Fatal("no clip on the card")
	return ""
}

func TestClipStructure(t *testing.T) {
	for name, c := range clipCases {
		t.Run(name, func(t *testing.T) {
			path := oneClip(t, c.card)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if c.wantPadded && int64(len(data)) != c.card.ClipBytes {
				t.Errorf("clip has %d bytes, want %d", len(data), c.card.ClipBytes)
			}
			file, err := mp4.DecodeFile(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			var order []string
			var end uint64
			for _, box := range file.Children {
				order = append(order, box.Type())
				end += box.Size()
			}
			wantOrder := "ftyp mdat moov"
			if c.wantPadded {
				wantOrder = "ftyp mdat free moov"
			}
			if got := strings.Join(order, " "); got != wantOrder || end != uint64(len(data)) {
				t.Errorf("boxes %s end at %d of %d, want %s", got, end, len(data), wantOrder)
			}
			checkTimes(t, file.Moov, c.card.withDefaults())
			if idrs := checkSamples(t, data, file.Moov.Trak); idrs != c.wantIDRs {
				t.Errorf("%d IDR pictures, want %d", idrs, c.wantIDRs)
			}
		})
	}
}

func checkTimes(t *testing.T, moov *mp4.MoovBox, card Card) {
	t.Helper()
	local := card.clock(card.Start).Format(time.DateTime)
	want, err := time.Parse(time.DateTime, local) // local time passed off as UTC
	if err != nil {
		t.Fatal(err)
	}
	epoch := time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC)
	for box, seconds := range map[string]uint64{
		"mvhd": moov.Mvhd.CreationTime, "tkhd": moov.Trak.Tkhd.CreationTime, "mdhd": moov.Trak.Mdia.Mdhd.CreationTime,
	} {
		// In days, since 137 years in nanoseconds fit a Duration, but not by much.
		got := epoch.AddDate(0, 0, int(seconds/86400)).Add(time.Duration(seconds%86400) * time.Second)
		if !got.Equal(want) {
			t.Errorf("%s created at %v, want %v", box, got, want)
		}
	}
	mdhd := moov.Trak.Mdia.Mdhd
	for box, length := range map[string]time.Duration{
		"mvhd": time.Duration(moov.Mvhd.Duration) * time.Second / time.Duration(moov.Mvhd.Timescale),
		"mdhd": time.Duration(mdhd.Duration) * time.Second / time.Duration(mdhd.Timescale),
	} {
		if length != card.ClipLength {
			t.Errorf("%s says %v, want %v", box, length, card.ClipLength)
		}
	}
}

// checkSamples follows the sample tables into the file: each sample is one NAL
// unit, and the sync samples, and only they, are IDR pictures.
func checkSamples(t *testing.T, data []byte, trak *mp4.TrakBox) (idrs int) {
	t.Helper()
	stbl := trak.Mdia.Minf.Stbl
	if duration := stbl.Stts.SampleCount[0] * stbl.Stts.SampleTimeDelta[0]; uint64(duration) != trak.Mdia.Mdhd.Duration {
		t.Errorf("samples last %d, the track %d", duration, trak.Mdia.Mdhd.Duration)
	}
	for n := uint32(1); n <= stbl.Stsz.SampleNumber; n++ {
		samples, err := trak.GetRangesForSampleInterval(n, n)
		if err != nil {
			t.Fatal(err)
		}
		at, size := samples[0].Offset, samples[0].Size
		nalus, err := avc.GetNalusFromSample(data[at : at+size])
		if err != nil || len(nalus) != 1 {
			t.Fatalf("sample %d at %d holds %d NAL units, error %v", n, at, len(nalus), err)
		}
		isIDR := avc.GetNaluType(nalus[0][0]) == avc.NALU_IDR
		if isIDR {
			idrs++
		}
		if stbl.Stss.IsSyncSample(n) != isIDR {
			t.Errorf("sample %d is IDR: %t, the sync table says otherwise", n, isIDR)
		}
	}
	return idrs
}

// needFFmpeg skips where the independent decoder is missing.
func needFFmpeg(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed, so nothing decodes the video: scripts/test installs it", tool)
		}
	}
}

// run returns a command's output and fails on any word on its error channel.
func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out
}

func TestClipDecodes(t *testing.T) {
	needFFmpeg(t)
	for name, c := range clipCases {
		t.Run(name, func(t *testing.T) {
			path := oneClip(t, c.card)
			var probe struct {
				Streams []struct {
					Profile  string `json:"profile"`
					Width    int    `json:"width"`
					Height   int    `json:"height"`
					Rate     string `json:"avg_frame_rate"`
					Frames   string `json:"nb_read_frames"`
					Duration string `json:"duration"`
				} `json:"streams"`
			}
			out := run(t, "ffprobe", "-v", "warning", "-count_frames", "-show_streams", "-of", "json", path)
			if err := json.Unmarshal(out, &probe); err != nil {
				t.Fatal(err)
			}
			length := c.card.withDefaults().ClipLength
			got := fmt.Sprint(probe.Streams)
			want := fmt.Sprintf("[{Constrained Baseline 640 360 25/1 %d %f}]", length/frameLength, length.Seconds())
			if got != want {
				t.Errorf("ffprobe finds %s, want %s", got, want)
			}
			run(t, "ffmpeg", "-v", "warning", "-xerror", "-err_detect", "explode", "-i", path, "-f", "null", "-")
		})
	}
}

// The burnt-in clock must show the recorder's time in every frame, also where
// only its digits were coded, and exactly, since nothing in the stream loses
// anything.
func TestBurntInClock(t *testing.T) {
	needFFmpeg(t)
	card := Card{ClipLength: 12 * time.Second, ClipBytes: 900_000, ClockOffset: 54 * time.Second}
	path := oneClip(t, card)
	clock := image.Rect(textColumn*16, clockRow*16, (textColumn+clockBlocks)*16, (clockRow+1)*16)
	crop := fmt.Sprintf("extractplanes=y,crop=%d:%d:%d:%d", clock.Dx(), clock.Dy(), clock.Min.X, clock.Min.Y)
	shown := run(t, "ffmpeg", "-v", "warning", "-i", path, "-vf", crop, "-f", "rawvideo", "-")
	card = card.withDefaults()
	frameBytes := clock.Dx() * clock.Dy()
	if frames := int(card.ClipLength / frameLength); len(shown) != frames*frameBytes {
		t.Fatalf("decoded %d bytes, want %d frames of %d", len(shown), frames, frameBytes)
	}
	for i := 0; len(shown) > 0; i++ {
		at := card.clock(card.Start).Add(time.Duration(i) * frameLength)
		var p picture
		p.print(clockRow, at.Format(clockLayout))
		img := p.ycbcr()
		for y := clock.Min.Y; y < clock.Max.Y; y++ {
			row := img.Y[img.YOffset(clock.Min.X, y):][:clock.Dx()]
			if !bytes.Equal(row, shown[:clock.Dx()]) {
				t.Fatalf("frame %d does not show %s", i, at.Format(clockLayout))
			}
			shown = shown[clock.Dx():]
		}
	}
}
