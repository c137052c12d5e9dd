package staging

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

const (
	// pieceBytes is read from the recorder at once.
	pieceBytes = 256 << 10
	// bufferBytes is written to the disk at once.
	bufferBytes = 1 << 20
	// headBytes are enough for the header of age with one X25519 recipient and the
	// nonce behind it, 184 bytes; the smallest file has 200.
	headBytes = 200
)

// readError says that the recorder did not give a file. The copy goes on without
// it, and says so; all other errors end the copy.
type readError struct{ cause error }

func (e *readError) Error() string { return e.cause.Error() }
func (e *readError) Unwrap() error { return e.cause }

// copyFile reads a file of the recorder once, and reads its encrypted form back.
// When it returns nil the bytes are durable and verified; their name is durable
// when the folder is synced.
func (s *staging) copyFile(ctx context.Context, e device.Entry, name string) (blob, error) {
	f, err := s.recorder.Open(ctx, e, 0)
	if err != nil {
		return blob{}, s.asReadError(ctx, e, err)
	}
	closed := false
	defer func() {
		if !closed {
			_ = f.Close() // another error is on its way
		}
	}()
	sum, err := s.encrypt(ctx, name, func(w *plainWriter) error { return s.pour(ctx, w, f, e) })
	if err == nil {
		err = s.unchanged(ctx, f, e)
	}
	if err == nil {
		closed = true
		if err = f.Close(); err != nil {
			err = s.asReadError(ctx, e, err)
		}
	}
	var unreadable *readError
	if errors.As(err, &unreadable) {
		// A part of a file would pass for the whole of it.
		if removed := s.folder.Remove(name); removed != nil && !errors.Is(removed, os.ErrNotExist) {
			return blob{}, removed
		}
	}
	if err != nil {
		return blob{}, err
	}
	b, err := s.readBack(ctx, name, e.Size, sum)
	if err != nil {
		return blob{}, fmt.Errorf("read %q back from the staging disk: %w", e.Path, err)
	}
	return b, nil
}

// pour reads a file from front to back, and fails unless it ends where its
// directory says.
func (s *staging) pour(ctx context.Context, w io.Writer, f device.File, e device.Entry) error {
	buf := make([]byte, pieceBytes)
	var offset int64
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := f.Read(buf)
		if offset += int64(n); offset > e.Size {
			return fmt.Errorf("%q goes on behind byte %d, where its directory ended it: %w", e.Path, e.Size, ErrChanged)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if s.progress != nil && n > 0 {
			s.progress(n)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s.asReadError(ctx, e, fmt.Errorf("read at byte %d of %d: %w", offset, e.Size, err))
		}
	}
	if offset < e.Size {
		return fmt.Errorf("%q ends at byte %d, its directory says %d: %w", e.Path, offset, e.Size, ErrChanged)
	}
	return nil
}

func (s *staging) unchanged(ctx context.Context, f device.File, e device.Entry) error {
	size, modTime, err := f.Stat()
	if err != nil {
		return s.asReadError(ctx, e, fmt.Errorf("look at it again: %w", err))
	}
	if size != e.Size || !modTime.Equal(e.ModTime) {
		return fmt.Errorf("%q had %d bytes of %s and has %d bytes of %s: %w", e.Path, e.Size, e.ModTime, size, modTime, ErrChanged)
	}
	return nil
}

// asReadError tells what concerns one file from what ends the copy.
func (s *staging) asReadError(ctx context.Context, e device.Entry, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, device.ErrRemoved) {
		return fmt.Errorf("read %q: %w", e.Path, err)
	}
	return &readError{cause: err}
}

// plainWriter takes plain bytes; they are digested, encrypted and counted.
type plainWriter struct {
	sum hash.Hash
	to  io.Writer
}

func (w *plainWriter) Write(p []byte) (int, error) {
	_, _ = w.sum.Write(p) // it never fails
	return w.to.Write(p)
}

// diskWriter keeps the reserve of the disk while it writes.
type diskWriter struct {
	file *os.File
	room *claim
}

func (w diskWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err == nil {
		err = w.room.wrote(n)
	}
	return n, err
}

// encrypt writes a new file with what fill gives, syncs it, and returns the
// SHA-256 of the plain bytes.
func (s *staging) encrypt(ctx context.Context, name string, fill func(*plainWriter) error) (sum string, err error) {
	f, err := s.folder.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffered := bufio.NewWriterSize(diskWriter{f, s.room}, bufferBytes)
	sealed, err := s.dir.key.encrypt(buffered)
	if err != nil {
		return "", err
	}
	w := &plainWriter{sum: sha256.New(), to: sealed}
	if err := fill(w); err != nil {
		return "", err
	}
	if err := sealed.Close(); err != nil {
		return "", err
	}
	if err := buffered.Flush(); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	return hex.EncodeToString(w.sum.Sum(nil)), nil
}

// readBack decrypts a file that was just written and compares it with what was
// meant. It asks the kernel to forget the written pages first, so that the bytes
// come from the disk; a kernel that does not do so gives them from its memory.
func (s *staging) readBack(ctx context.Context, name string, size int64, sum string) (blob, error) {
	f, err := s.folder.Open(name)
	if err != nil {
		return blob{}, err
	}
	defer func() { _ = f.Close() }() // only read from
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	info, err := f.Stat()
	if err != nil {
		return blob{}, err
	}
	plain, err := age.Decrypt(bufio.NewReaderSize(f, bufferBytes), s.dir.key.all()...)
	if err != nil {
		return blob{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	got := sha256.New()
	n, err := io.CopyBuffer(got, untilDone{ctx, plain}, make([]byte, pieceBytes))
	switch {
	case ctx.Err() != nil:
		return blob{}, context.Cause(ctx)
	case err != nil:
		return blob{}, fmt.Errorf("at byte %d of %d: %w: %w", n, size, ErrDamaged, err)
	case n != size || hex.EncodeToString(got.Sum(nil)) != sum:
		return blob{}, fmt.Errorf("%d bytes were written, %d bytes with another SHA-256 came back: %w", size, n, ErrDamaged)
	}
	head, err := headSum(f)
	if err != nil {
		return blob{}, err
	}
	return blob{Name: name, SHA256: sum, EncryptedBytes: info.Size(), HeadSHA256: head}, nil
}

// headSum is the SHA-256 of the first bytes of an encrypted file.
func headSum(f io.ReaderAt) (string, error) {
	head := make([]byte, headBytes)
	if n, err := f.ReadAt(head, 0); n < headBytes {
		return "", fmt.Errorf("read its first %d bytes: %w", headBytes, err)
	}
	sum := sha256.Sum256(head)
	return hex.EncodeToString(sum[:]), nil
}

// untilDone ends a long reading with its context.
type untilDone struct {
	ctx  context.Context
	from io.Reader
}

func (r untilDone) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.from.Read(p)
}
