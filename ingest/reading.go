package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/emmansun/gmsm/sm3"
	"github.com/minio/crc64nvme"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
)

const (
	// edge is how much of each end of a file goes into its fingerprint.
	edge = 1 << 20
	// seamBytes is how much before the point of resumption is compared.
	seamBytes = 64 << 10
	// pieceBytes is digested at once, while it is in the CPU's cache.
	pieceBytes = 256 << 10
	// pageBytes is what reading past the page cache is counted in.
	pageBytes = 4096
)

// errChanged says that a file did not stay the same while it was read.
var errChanged = errors.New("the file changed while it was read")

// reading is the one pass over a file: every piece goes to the digest of the
// whole file, to its CRC, and to the caller's buffer. It has one owner.
type reading struct {
	file   device.File
	entry  device.Entry
	offset int64
	sum    hash.Hash // SHA-256 of the file
	sm3    hash.Hash // of the file; nil: not asked for, or not known from its start
	edges  hash.Hash // SHA-256 of its first and last MiB; nil as long as that is sum
	crc    uint64    // CRC-64/NVME of the file
	read   *counter
}

func startReading(ctx context.Context, r device.Recorder, e device.Entry, withSM3 bool, read *counter) (*reading, error) {
	f, err := r.Open(ctx, e, 0)
	if err != nil {
		return nil, err
	}
	rd := &reading{file: f, entry: e, sum: sha256.New(), read: read}
	if withSM3 {
		rd.sm3 = sm3.New()
	}
	return rd, nil
}

// resumeReading goes on behind a durable part, after comparing the bytes at the
// seam with those that were sent. Its SM3 stays unknown where the parts before have
// none.
func resumeReading(ctx context.Context, r device.Recorder, e device.Entry, offset int64, last journal.Part, withSM3 bool, read *counter) (*reading, error) {
	rd := &reading{entry: e, sum: sha256.New(), edges: sha256.New(), crc: last.FileCRC64, read: read}
	if err := errors.Join(restore(rd.sum, last.SHA256State), restore(rd.edges, last.FingerprintState)); err != nil {
		return nil, fmt.Errorf("resume %q: %w", e.Path, err)
	}
	// A state that another version wrote leaves SM3 unknown: no footage is given up for it.
	if sum := sm3.New(); withSM3 && last.SM3State != nil && restore(sum, last.SM3State) == nil {
		rd.sm3 = sum
	}
	seam := min(seamBytes, last.Size)
	var err error
	if rd.file, err = r.Open(ctx, e, offset-seam); err != nil {
		return nil, err
	}
	there, err := takeMemory(int(seam))
	if err != nil {
		return nil, errors.Join(err, rd.file.Close())
	}
	n, err := readFull(rd.file, there)
	read.add(n)
	if sum := sha256.Sum256(there); err == nil && !bytes.Equal(sum[:], last.Seam) {
		err = fmt.Errorf("%w: the bytes before byte %d are not those that were stored", errChanged, offset)
	}
	if err = errors.Join(err, freeMemory(there)); err != nil {
		return nil, errors.Join(err, rd.file.Close())
	}
	if rd.offset = offset; rd.offset < edge || e.Size <= 2*edge {
		rd.edges = nil
	}
	return rd, nil
}

func restore(h hash.Hash, state []byte) error {
	return h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

func state(h hash.Hash) ([]byte, error) {
	return h.(encoding.BinaryMarshaler).MarshalBinary()
}

// fill reads until buf is full or the file has ended where its directory says. A
// short read is not an end, and an end before or behind that is a change.
func (r *reading) fill(ctx context.Context, buf []byte) (n int, crc uint64, err error) {
	want := int(min(int64(len(buf)), r.entry.Size-r.offset))
	if want == 0 {
		return 0, 0, nil
	}
	n, err = readPieces(r.file, buf[:min(len(buf), (want+pageBytes-1)/pageBytes*pageBytes)], want, func(piece []byte) error {
		for len(piece) > 0 {
			now := piece[:min(pieceBytes, len(piece))]
			r.digest(now)
			crc = crc64nvme.Update(crc, now)
			piece = piece[len(now):]
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return n, crc, context.Cause(ctx)
	case err != nil && !errors.Is(err, io.EOF):
		return n, crc, fmt.Errorf("read %q at byte %d of %d: %w", r.entry.Path, r.offset, r.entry.Size, err)
	case n < want:
		return n, crc, fmt.Errorf("%w: it ends at byte %d, its directory says %d", errChanged, r.offset, r.entry.Size)
	case n > want:
		return want, crc, r.goesOn()
	}
	return n, crc, nil
}

func (r *reading) goesOn() error {
	return fmt.Errorf("%w: it goes on behind byte %d, where its directory ended it", errChanged, r.entry.Size)
}

// readPieces reads until want bytes of buf are there, an error comes, or the file
// ends, and passes those on piece by piece. A driver that fills memory by itself
// gets all of buf, whose length suits a disk's sectors: more than want may come.
func readPieces(f device.File, buf []byte, want int, each func(piece []byte) error) (n int, err error) {
	if filler, ok := f.(device.Filler); ok {
		passed := 0
		return filler.Fill(buf, func(piece []byte) error {
			piece = piece[:min(len(piece), want-passed)]
			passed += len(piece)
			return each(piece)
		})
	}
	for n < want {
		piece, err := f.Read(buf[n:min(n+pieceBytes, want)])
		if eachErr := each(buf[n : n+piece]); eachErr != nil {
			return n + piece, eachErr
		}
		if n += piece; err != nil {
			return n, err
		}
	}
	return n, nil
}

// readFull fills buf, or says why it could not.
func readFull(f device.File, buf []byte) (n int, err error) {
	n, err = readPieces(f, buf, len(buf), func([]byte) error { return nil })
	switch {
	case n == len(buf):
		return n, nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *reading) digest(piece []byte) {
	r.read.add(len(piece))
	r.crc = crc64nvme.Update(r.crc, piece)
	if r.sm3 != nil {
		r.sm3.Write(piece)
	}
	// Until the first MiB is full both digests are one, and in a short file, which is
	// all edges, to its end.
	if head := edge - r.offset; head > 0 && int64(len(piece)) >= head && r.entry.Size > 2*edge {
		r.sum.Write(piece[:head])
		r.offset += head
		piece = piece[head:]
		r.edges = cloned(r.sum)
	}
	r.sum.Write(piece)
	start, end := r.offset, r.offset+int64(len(piece))
	if tail := max(start, r.entry.Size-edge); r.edges != nil && tail < end {
		r.edges.Write(piece[tail-start:])
	}
	r.offset = end
}

func cloned(h hash.Hash) hash.Hash {
	c, err := h.(hash.Cloner).Clone()
	if err != nil {
		panic(err) // crypto/sha256 knows no reason for one
	}
	return c
}

// fingerprint is the digest of both edges, as far as they were read.
func (r *reading) fingerprint() hash.Hash {
	if r.edges == nil {
		return r.sum
	}
	return r.edges
}

// ended makes sure that the file is still what the inventory saw.
func (r *reading) ended() error {
	var one [1]byte
	n, err := r.file.Read(one[:])
	if n > 0 {
		return r.goesOn()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %q at its end: %w", r.entry.Path, err)
	}
	size, modTime, err := r.file.Stat()
	if err != nil {
		return fmt.Errorf("look at %q again: %w", r.entry.Path, err)
	}
	if size != r.entry.Size || !modTime.Equal(r.entry.ModTime) {
		return fmt.Errorf("%w: %d bytes of %s at first, %d bytes of %s at last", errChanged,
			r.entry.Size, r.entry.ModTime.Format("2006-01-02 15:04:05.999"), size, modTime.Format("2006-01-02 15:04:05.999"))
	}
	return nil
}

// sm3Sum is empty where it is not known.
func (r *reading) sm3Sum() string {
	if r.sm3 == nil {
		return ""
	}
	return hexSum(r.sm3)
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// fingerprintOf reads only the first and last MiB of a file.
func fingerprintOf(ctx context.Context, r device.Recorder, e device.Entry, read *counter) (_ string, err error) {
	sum := sha256.New()
	if e.Size == 0 {
		return hexSum(sum), nil
	}
	buf, err := takeMemory(int(min(edge, e.Size)))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, freeMemory(buf)) }()
	pieces := [][2]int64{{0, min(edge, e.Size)}}
	if tail := max(edge, e.Size-edge); tail < e.Size {
		pieces = append(pieces, [2]int64{tail, e.Size})
	}
	for _, piece := range pieces {
		f, err := r.Open(ctx, e, piece[0])
		if err != nil {
			return "", err
		}
		there := buf[:piece[1]-piece[0]]
		n, err := readFull(f, there)
		read.add(n)
		sum.Write(there[:n])
		if err = errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("read %q: %w", e.Path, err)
		}
	}
	return hexSum(sum), nil
}
