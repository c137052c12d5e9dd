package simulator

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image/jpeg"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// The walk begins in Naiman Banner (奈曼旗), somewhere within about a
// kilometre of this point.
const (
	startLatitude  = 42.85
	startLongitude = 120.66
	metresPerDeg   = 111_320.0
	knotsPerMetre  = 3600.0 / 1852
)

// nmea is the GPS track (轨迹) of clip i: a fix per second of an officer on
// foot, RMC and GGA sentences of NMEA 0183. Its times are UTC and true however
// wrong the recorder's clock is, which is what makes them worth reading.
func (c Card) nmea(i int) []byte {
	startedAt, _, _ := c.segment(i)
	r := rand.New(c.random(fmt.Sprintf("walk %d", i)))
	latitude := startLatitude + (r.Float64()-0.5)/50
	longitude := startLongitude + (r.Float64()-0.5)/50
	course := r.Float64() * 360

	var out bytes.Buffer
	for at := startedAt.UTC(); at.Before(startedAt.Add(c.ClipLength)); at = at.Add(time.Second) {
		metres := 0.8 + 0.6*r.Float64()
		course = math.Mod(course+20*(r.Float64()-0.5)+360, 360)
		radians := course * math.Pi / 180
		latitude += metres * math.Cos(radians) / metresPerDeg
		longitude += metres * math.Sin(radians) / metresPerDeg / math.Cos(latitude*math.Pi/180)

		position := fmt.Sprintf("%s,N,%s,E", degreesMinutes(latitude, 2), degreesMinutes(longitude, 3))
		writeSentence(&out, fmt.Sprintf("GPRMC,%s,A,%s,%.2f,%.1f,%s,,,A",
			at.Format("150405.00"), position, metres*knotsPerMetre, course, at.Format("020106")))
		writeSentence(&out, fmt.Sprintf("GPGGA,%s,%s,1,%02d,%.1f,%.1f,M,0.0,M,,",
			at.Format("150405.00"), position, 7+r.IntN(5), 0.8+r.Float64()/2, 360+4*r.Float64()))
	}
	return out.Bytes()
}

// degreesMinutes is NMEA's dddmm.mmmm. It counts in ten-thousandths of a
// minute, for rounding must not give 60 minutes.
func degreesMinutes(degrees float64, digits int) string {
	units := int64(math.Round(degrees * 60 * 1e4))
	minutes := units % 600_000
	return fmt.Sprintf("%0*d%02d.%04d", digits, units/600_000, minutes/1e4, minutes%1e4)
}

// writeSentence frames a sentence: $, the XOR of all between $ and *, CR LF.
func writeSentence(out *bytes.Buffer, sentence string) {
	var sum byte
	for i := range len(sentence) {
		sum ^= sentence[i]
	}
	fmt.Fprintf(out, "$%s*%02X\r\n", sentence, sum)
}

// writeIdentity writes the files that say whose recorder it is, with the keys
// and fields seen on media (research/domain.md §2.3). Their text is GBK, as in
// the recorders' own commands.
func (c Card) writeIdentity(w *cardWriter) error {
	startedAt := c.clock(c.Start)
	for _, file := range []struct{ path, text string }{
		{"Param.ini", fmt.Sprintf("[ZFY]\r\nDevNo=%s\r\nPolNo=%s\r\nUserName=%s\r\nCorpName=%s\r\n",
			c.Recorder, c.Officer, c.OfficerName, c.Unit)},
		{"DCIM/100MEDIA/Info.dat", fmt.Sprintf("%s;V1.0.3;%s;%s;%s\r\n",
			c.Recorder, c.Officer, c.OfficerName, c.Unit)},
	} {
		text, err := simplifiedchinese.GBK.NewEncoder().String(file.text)
		if err != nil {
			return fmt.Errorf("write %s in GBK: %w", file.path, err)
		}
		if err := w.file(file.path, []byte(text), startedAt); err != nil {
			return err
		}
	}
	return nil
}

// writeRest writes what lies on a card beside the video. None of it may be
// skipped at ingest: an unknown suffix, an empty or a hidden file is footage
// until someone has looked.
func (c Card) writeRest(w *cardWriter) error {
	startedAt := c.clock(c.Start)
	photo, err := c.photo()
	if err != nil {
		return fmt.Errorf("make photo: %w", err)
	}
	firmware := make([]byte, 64<<10)
	_, _ = io.ReadFull(c.random("firmware"), firmware) // never fails
	day := startedAt.Format("2006-01-02")
	for _, file := range []struct {
		path string
		data []byte
	}{
		{"DCIM/图片/现场照片_001.JPG", photo},
		{fmt.Sprintf("DCIM/AUDIO/%s_%s_NOTE.WAV", startedAt.Format("20060102150405"), c.Recorder), voiceNote()},
		{"LOG/" + day + ".txt", c.log()},
		{"LOG/crash.log", nil},
		{"SYSTEM/firmware.xyz", firmware},
		{fmt.Sprintf(".thumb/%06d.jpg", c.FirstSequence), photo},
	} {
		if err := w.file(file.path, file.data, startedAt); err != nil {
			return err
		}
	}
	return w.folder("EVENT")
}

// photo is a still of its own scene with the clock burnt in.
func (c Card) photo() ([]byte, error) {
	var p picture
	p.expose(scene(rand.New(c.random("photo"))), c.random("photo noise"))
	p.print(clockRow, c.clock(c.Start).Format(clockLayout))
	p.print(captionRow, c.Recorder+" "+c.Officer)
	var out bytes.Buffer
	if err := jpeg.Encode(&out, p.ycbcr(), &jpeg.Options{Quality: 60}); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// voiceNote is a spoken explanation (语音说明) as far as a file can tell: two
// seconds of a 440 Hz tone, 16-bit PCM at 8 kHz, one channel.
func voiceNote() []byte {
	const rate, samples, sampleBytes = 8000, 16000, 2
	out := []byte("RIFF")
	out = binary.LittleEndian.AppendUint32(out, 36+samples*sampleBytes)
	out = append(out, "WAVEfmt "...)
	out = binary.LittleEndian.AppendUint32(out, 16)
	out = binary.LittleEndian.AppendUint16(out, 1) // PCM
	out = binary.LittleEndian.AppendUint16(out, 1) // channels
	out = binary.LittleEndian.AppendUint32(out, rate)
	out = binary.LittleEndian.AppendUint32(out, rate*sampleBytes)
	out = binary.LittleEndian.AppendUint16(out, sampleBytes)
	out = binary.LittleEndian.AppendUint16(out, 8*sampleBytes)
	out = append(out, "data"...)
	out = binary.LittleEndian.AppendUint32(out, samples*sampleBytes)
	for i := range samples {
		level := math.Round(8000 * math.Sin(2*math.Pi*440*float64(i)/rate))
		out = binary.LittleEndian.AppendUint16(out, uint16(int16(level)))
	}
	return out
}

// log is the recorder's own diary of its day.
func (c Card) log() []byte {
	var out strings.Builder
	line := func(at time.Time, event string) {
		fmt.Fprintf(&out, "%s %s\r\n", c.clock(at).Format(clockLayout), event)
	}
	line(c.Start.Add(-40*time.Second), "POWER ON BAT=96% "+c.Recorder)
	endedAt := c.Start
	for i := range max(c.Clips, 0) {
		startedAt, _, _ := c.segment(i)
		endedAt = startedAt.Add(c.ClipLength)
		name := c.segmentStem(i) + ".MP4"
		line(startedAt, "REC "+name[strings.LastIndexByte(name, '/')+1:])
		if i == c.Clips-1 {
			line(startedAt, "KEY MARK")
		}
	}
	line(endedAt, "REC STOP")
	line(endedAt.Add(time.Minute), "POWER OFF BAT=71%")
	return []byte(out.String())
}
