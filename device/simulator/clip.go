package simulator

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"time"
)

const (
	frameLength    = time.Second / framesPerSecond
	clockRow       = 1 // of macroblocks, like the next three
	captionRow     = macroblocksHigh - 3
	textColumn     = 1
	clockBlocks    = (len(clockLayout)*glyphAdvance*2 + 15) / 16
	clockLayout    = time.DateTime
	boxHeader      = 8
	largeBoxHeader = 16
	freeBoxMax     = 1 << 30
)

// What things take at most, in bytes: a sample of each kind, the tables' entries
// for one, and the moov beside its tables.
const (
	idrMax        = macroblocks*macroblockMax + 64
	clockPatchMax = clockBlocks*macroblockMax + 64
	skippedMax    = 16
	entriesMax    = 16
	moovMax       = 2048
)

// clip is one segment (分段文件): a file of continuous video.
type clip struct {
	startedAt time.Time // by the recorder's clock, in its zone
	frames    int
	bytes     int64 // wanted size; 0 takes what the video needs
	caption   string
	scene     *rand.Rand
	noise     *rand.ChaCha8
}

func (c clip) length() time.Duration { return time.Duration(c.frames) * frameLength }
func (c clip) endedAt() time.Time    { return c.startedAt.Add(c.length()) }

// track is what the sample tables of the moov box are made from. Samples lie
// back to back, one second of them to a chunk.
type track struct {
	sampleSizes  []uint32
	syncSamples  []uint32 // numbered from 1
	chunkOffsets []uint64
}

// write makes the file at path and returns its size. The order is that of a
// recorder which learns the size as it goes (ISO/IEC 14496-12 §8.1, §8.2):
// ftyp, mdat with its size filled in afterwards, and the moov last. A file cut
// short by an empty battery therefore has no moov and does not play.
//
// What is missing of the wanted size is filled with free boxes of random bytes
// before the moov. Memory does not grow with size.
func (c clip) write(path string) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, fmt.Errorf("create clip: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close clip %s: %w", path, closeErr)
		}
	}()

	head := encodeFtyp()
	mdatAt := int64(len(head))
	head = append(head, make([]byte, largeBoxHeader)...)
	if _, err := f.Write(head); err != nil {
		return 0, fmt.Errorf("write head of clip %s: %w", path, err)
	}
	var t track
	end, err := c.writeFrames(f, int64(len(head)), &t)
	if err != nil {
		return 0, fmt.Errorf("write video of clip %s: %w", path, err)
	}
	mdat := largeBox("mdat", end-mdatAt)
	if _, err := f.WriteAt(mdat, mdatAt); err != nil {
		return 0, fmt.Errorf("write mdat size of clip %s: %w", path, err)
	}

	moov, err := c.encodeMoov(t)
	if err != nil {
		return 0, fmt.Errorf("build moov of clip %s: %w", path, err)
	}
	if padding := c.bytes - end - int64(len(moov)); padding >= boxHeader {
		if err := writeFree(f, padding, c.noise); err != nil {
			return 0, fmt.Errorf("write %d bytes of padding of clip %s: %w", padding, path, err)
		}
		end += padding
	}
	if _, err := f.Write(moov); err != nil {
		return 0, fmt.Errorf("write moov of clip %s: %w", path, err)
	}
	return end + int64(len(moov)), nil
}

// largeBox is the header of a box of the given whole size in its 64-bit form,
// ISO/IEC 14496-12 §4.2.
func largeBox(name string, size int64) []byte {
	header := binary.BigEndian.AppendUint32(nil, 1)
	header = append(header, name...)
	return binary.BigEndian.AppendUint64(header, uint64(size))
}

// writeFree fills size bytes, at least a header's, with free boxes of random
// bytes. There are several where size is large, because parsers know the 64-bit
// form for mdat at best.
func writeFree(w io.Writer, size int64, random io.Reader) error {
	for size > 0 {
		box := min(size, freeBoxMax)
		if rest := size - box; rest > 0 && rest < boxHeader {
			box -= boxHeader // so that the last box has room for its header
		}
		header := append(binary.BigEndian.AppendUint32(nil, uint32(box)), "free"...)
		if _, err := w.Write(header); err != nil {
			return err
		}
		if _, err := io.CopyN(w, random, box-boxHeader); err != nil {
			return err
		}
		size -= box
	}
	return nil
}

// idrFrames is how many frames are coded in full. One per second is natural; a
// wanted size takes as many as surely fit into it, at least the first.
func (c clip) idrFrames() int {
	seconds := (c.frames + framesPerSecond - 1) / framesPerSecond
	if c.bytes == 0 {
		return seconds
	}
	rest := c.bytes - moovMax - boxHeader - int64(c.frames*(skippedMax+entriesMax)+(seconds+1)*clockPatchMax)
	return int(min(max(rest/idrMax, 1), int64(c.frames)))
}

// writeFrames writes the samples from offset on and notes them in t.
func (c clip) writeFrames(w io.Writer, offset int64, t *track) (end int64, err error) {
	var (
		e       encoder
		still   = scene(c.scene)
		shown   picture // what a decoder shows
		idrs    = c.idrFrames()
		second  = int64(math.MinInt64)
		changed []int
	)
	still.print(captionRow, c.caption)
	for i := range c.frames {
		at := c.startedAt.Add(time.Duration(i) * frameLength)
		// IDR frames are spread evenly; the first frame always is one.
		isIDR := i == 0 || i*idrs/c.frames != (i-1)*idrs/c.frames
		if isIDR {
			shown.expose(still, c.noise)
			shown.print(captionRow, c.caption)
		}
		changed = changed[:0]
		if isIDR || at.Unix() != second {
			second = at.Unix()
			changed = shown.print(clockRow, at.Format(clockLayout))
		}
		var sample []byte
		if isIDR {
			sample = e.idr(&shown)
			t.syncSamples = append(t.syncSamples, uint32(i+1))
		} else {
			sample = e.predicted(&shown, changed)
		}
		if _, err := w.Write(sample); err != nil {
			return 0, fmt.Errorf("frame %d at byte %d: %w", i, offset, err)
		}
		if i%framesPerSecond == 0 {
			t.chunkOffsets = append(t.chunkOffsets, uint64(offset))
		}
		t.sampleSizes = append(t.sampleSizes, uint32(len(sample)))
		offset += int64(len(sample))
	}
	return offset, nil
}
