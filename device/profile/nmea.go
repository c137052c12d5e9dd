package profile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

const (
	maxSentence = 256      // bytes of a line; NMEA 0183 allows 82
	maxTrack    = 64 << 20 // bytes; a day of two sentences each second has 14 MB
)

// Track is what a file of NMEA 0183 sentences tells of time. GPS time is true
// however wrong the recorder's clock is, so a recording's end by that clock can be
// held against the last fix.
type Track struct {
	Fixes int // RMC sentences with a valid fix
	// First and Last fix in the order of the file, UTC. Zero: there is none.
	First, Last time.Time
	// Ordered is false when time went backwards between two fixes. Then the track
	// contradicts itself and bounds nothing.
	Ordered bool
	// Refused counts RMC sentences that could not be used: no fix yet, a wrong
	// checksum, a time that is none, a year before any recorder of this kind.
	Refused int
	// Cut says that the file was longer than what is read.
	Cut bool
}

// ParseNMEA reads a track. It uses the RMC sentences of every constellation
// ($GPRMC, $GNRMC, $BDRMC…), the only common ones with a date, and skips the rest.
// The error is that of the reader; what was read until then is in the track.
func ParseNMEA(r io.Reader) (Track, error) {
	t := Track{Ordered: true}
	limited := &io.LimitedReader{R: r, N: maxTrack}
	lines := bufio.NewReaderSize(limited, maxSentence)
	tooLong := false
	for {
		line, err := lines.ReadSlice('\n')
		if !tooLong && !errors.Is(err, bufio.ErrBufferFull) {
			t.sentence(line)
		}
		tooLong = errors.Is(err, bufio.ErrBufferFull)
		switch {
		case err == nil || tooLong:
		case errors.Is(err, io.EOF):
			t.Cut = limited.N == 0
			return t, nil
		default:
			return t, fmt.Errorf("read GPS track: %w", err)
		}
	}
}

// sentence takes one line, which may have a time stamp or other things before the
// sentence.
func (t *Track) sentence(line []byte) {
	line = bytes.TrimRight(line, "\r\n\x00 ")
	at := bytes.LastIndexByte(line, '$')
	if at < 0 || len(line)-at < 7 || string(line[at+3:at+6]) != "RMC" || line[at+6] != ',' {
		return
	}
	when, ok := rmc(line[at+1:])
	switch {
	case !ok:
		t.Refused++
		return
	case t.Fixes == 0:
		t.First = when
	case when.Before(t.Last):
		t.Ordered = false
	}
	t.Fixes++
	t.Last = when
}

// rmc reads xxRMC,hhmmss.ss,A,…,ddmmyy,… with a checksum that is right if there is
// one: recorders are known to leave it out.
func rmc(sentence []byte) (at time.Time, ok bool) {
	body, sum, checked := bytes.Cut(sentence, []byte("*"))
	if checked {
		var have byte
		for _, c := range body {
			have ^= c
		}
		want, err := strconv.ParseUint(string(sum), 16, 8)
		if err != nil || byte(want) != have {
			return time.Time{}, false
		}
	}
	fields := bytes.Split(body, []byte(","))
	const timeField, statusField, dateField = 1, 2, 9
	if len(fields) <= dateField || string(fields[statusField]) != "A" { // V: the time may be the receiver's own guess
		return time.Time{}, false
	}
	clock, fraction, _ := bytes.Cut(fields[timeField], []byte("."))
	if len(clock) != 6 || len(fields[dateField]) != 6 || len(fraction) > 9 {
		return time.Time{}, false
	}
	at, err := time.Parse("020106150405", string(fields[dateField])+string(clock))
	if err != nil {
		return time.Time{}, false
	}
	if len(fraction) > 0 {
		n, err := strconv.ParseUint(string(fraction), 10, 32)
		if err != nil {
			return time.Time{}, false
		}
		for range 9 - len(fraction) {
			n *= 10
		}
		at = at.Add(time.Duration(n))
	}
	// A receiver that has lost count of the weeks is 19.6 years behind (1024 weeks).
	const before = 2010
	return at, at.Year() >= before && at.Year() < 2069
}
