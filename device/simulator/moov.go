package simulator

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
)

// Time units per second of the movie and of its one track; a frame lasts
// frameUnits of the latter.
const (
	movieTimescale = 1000 // milliseconds
	trackTimescale = 90000
	frameUnits     = trackTimescale / framesPerSecond
)

func encodeFtyp() []byte {
	var buf bytes.Buffer
	// Writing to a Buffer cannot fail.
	_ = mp4.NewFtyp("mp42", 0, []string{"mp42", "isom", "avc1"}).Encode(&buf)
	return buf.Bytes()
}

// encodeMoov builds the moov box of ISO/IEC 14496-12 §8.2.
func (c clip) encodeMoov(t track) ([]byte, error) {
	trak := mp4.CreateEmptyTrak(1, trackTimescale, "video", "und")
	if err := trak.SetAVCDescriptor("avc1", [][]byte{sps()}, [][]byte{pps()}, true); err != nil {
		return nil, fmt.Errorf("describe track: %w", err)
	}
	moov := mp4.NewMoovBox()
	moov.AddChild(mp4.CreateMvhd())
	moov.AddChild(trak)
	if err := fillTables(trak.Mdia.Minf.Stbl, t); err != nil {
		return nil, err
	}

	movieLength := uint64(c.length().Milliseconds())
	moov.Mvhd.Timescale, moov.Mvhd.Duration = movieTimescale, movieLength
	trak.Tkhd.Duration = movieLength
	trak.Mdia.Mdhd.Duration = uint64(c.frames) * frameUnits
	created, modified := macSeconds(c.startedAt), macSeconds(c.endedAt())
	moov.Mvhd.CreationTime, moov.Mvhd.ModificationTime = created, modified
	trak.Tkhd.CreationTime, trak.Tkhd.ModificationTime = created, modified
	trak.Mdia.Mdhd.CreationTime, trak.Mdia.Mdhd.ModificationTime = created, modified
	if modified > math.MaxUint32 { // from 2040 on the times need 64 bits
		moov.Mvhd.Version, trak.Tkhd.Version, trak.Mdia.Mdhd.Version = 1, 1, 1
	}

	var buf bytes.Buffer
	if err := moov.Encode(&buf); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return buf.Bytes(), nil
}

// fillTables writes the sample tables of ISO/IEC 14496-12 §8.6 and §8.7.
func fillTables(stbl *mp4.StblBox, t track) error {
	samples := uint32(len(t.sampleSizes))
	stbl.Stts.SampleCount = []uint32{samples}
	stbl.Stts.SampleTimeDelta = []uint32{frameUnits}
	stbl.Stsz.SampleNumber = samples
	stbl.Stsz.SampleSize = t.sampleSizes

	whole, rest := samples/framesPerSecond, samples%framesPerSecond
	var runs [][2]uint32 // first chunk and samples per chunk
	if whole > 0 {
		runs = append(runs, [2]uint32{1, framesPerSecond})
	}
	if rest > 0 {
		runs = append(runs, [2]uint32{whole + 1, rest})
	}
	for _, run := range runs {
		if err := stbl.Stsc.AddEntry(run[0], run[1], 1); err != nil {
			return fmt.Errorf("chunk table: %w", err)
		}
	}

	// The 64-bit chunk table replaces the 32-bit one that an empty track has,
	// and the table of sync samples is what makes seeking exact.
	children := stbl.Children[:0]
	for _, box := range stbl.Children {
		if box.Type() != "stco" {
			children = append(children, box)
		}
	}
	stbl.Children, stbl.Stco = children, nil
	stbl.AddChild(&mp4.StssBox{SampleNumber: t.syncSamples})
	stbl.AddChild(&mp4.Co64Box{ChunkOffset: t.chunkOffsets})
	return nil
}

// macSeconds is the form of times in MP4 boxes, seconds since 1904, in which
// the standard wants UTC. Cheap recorders have no zone and write their local
// wall clock there instead, so a reader who trusts it is eight hours off in
// China; so do we.
func macSeconds(t time.Time) uint64 {
	_, zoneOffset := t.Zone()
	return uint64(max(t.Unix()+int64(zoneOffset)+mp4.EpochDiffS, 0))
}
