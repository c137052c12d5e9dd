package staging

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device"
)

// Driver is what the identity of an opened copy says of how it was reached.
const Driver = "staged"

// recorder is a sealed copy, read as if it were docked. It does not implement
// device.ClockSetter: there is no clock to set.
type recorder struct {
	dir    *Dir
	record *record
	folder *os.Root
	closed bool
}

var _ device.Recorder = (*recorder)(nil)

// Open gives the copy as a recorder for an ordinary session. Identity, clock and
// health are those of the docking, with the station's times of then; only the
// driver is "staged". While it is open the copy can't be removed. Nothing on the
// disk changes.
func (c Copy) Open(ctx context.Context) (device.Recorder, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	d := c.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	rec, err := d.readRecord(c.ID)
	if err != nil {
		return nil, fmt.Errorf("open staged copy: %w", err)
	}
	folder, err := d.root.OpenRoot(c.ID)
	if err != nil {
		return nil, fmt.Errorf("open staged copy: %w", err)
	}
	d.inUse[c.ID]++
	return &recorder{dir: d, record: rec, folder: folder}, nil
}

// Identity implements device.Recorder.
func (r *recorder) Identity() device.Identity {
	id := r.record.Identity
	id.Driver = Driver
	return id
}

// Clock implements device.Recorder with the reading at the docking.
func (r *recorder) Clock(context.Context) (device.ClockReading, error) { return r.record.Clock, nil }

// Health implements device.Recorder with the condition at the docking.
func (r *recorder) Health(context.Context) (device.Health, error) { return r.record.Health, nil }

// Inventory implements device.Recorder from the record, in the recorder's order.
func (r *recorder) Inventory(ctx context.Context, found func(device.Entry) error) error {
	// The record is in memory; without a look a copy that is gone would be listed.
	if _, err := r.folder.Lstat(recordName); err != nil {
		return fmt.Errorf("list staged copy %s: %w", r.record.ID, r.orRemoved(err))
	}
	for i := range r.record.Entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := found(r.record.Entries[i].entry(i)); err != nil {
			return err
		}
	}
	return nil
}

// Open implements device.Recorder. An offset costs no reading of what is before.
// A file that is not what was staged gives ErrDamaged, here or while it is read;
// read from 0 on it is compared with its SHA-256 before it ends.
func (r *recorder) Open(_ context.Context, e device.Entry, offset int64) (device.File, error) {
	fail := func(err error) (device.File, error) {
		return nil, fmt.Errorf("read %q of staged copy %s: %w", e.Path, r.record.ID, r.orRemoved(err))
	}
	kept := r.find(e)
	switch {
	case kept == nil:
		return fail(fmt.Errorf("it is not in the copy: %w", fs.ErrNotExist))
	case kept.Err != "":
		return fail(fmt.Errorf("it could not be read from the recorder: %s", string(kept.Err)))
	case kept.Blob == nil:
		return fail(fmt.Errorf("it is no regular file but a %s", kept.Kind))
	case offset < 0 || offset > kept.Size:
		return fail(fmt.Errorf("byte %d of %d", offset, kept.Size))
	}
	disk, err := r.openBlob(kept.Blob)
	if err != nil {
		return fail(err)
	}
	plain, size, err := age.DecryptReaderAt(disk, kept.Blob.EncryptedBytes, r.dir.key.all()...)
	if err != nil {
		err = damaged(err)
	} else if size != kept.Size {
		err = fmt.Errorf("it holds %d bytes, not %d: %w", size, kept.Size, ErrDamaged)
	}
	if err != nil {
		_ = disk.Close() // only read from
		return fail(err)
	}
	f := &file{recorder: r, kept: kept, disk: disk, plain: io.NewSectionReader(plain, offset, size-offset)}
	if offset == 0 {
		f.sum = sha256.New()
	}
	return f, nil
}

// find goes by the handle, which Inventory gave, or by the path where that is all
// that is known.
func (r *recorder) find(e device.Entry) *entry {
	if i, err := strconv.Atoi(e.Handle); err == nil && i >= 0 && i < len(r.record.Entries) {
		if kept := &r.record.Entries[i]; string(kept.Path) == e.Path {
			return kept
		}
	}
	for i := range r.record.Entries {
		if kept := &r.record.Entries[i]; string(kept.Path) == e.Path {
			return kept
		}
	}
	return nil
}

func handle(number int) string { return strconv.Itoa(number) }

// openBlob opens an encrypted file and makes sure that it is the one that was
// written for this path. Its chunks are authenticated when they are read.
func (r *recorder) openBlob(b *blob) (*os.File, error) {
	f, err := r.folder.OpenFile(b.Name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != b.EncryptedBytes) {
		err = fmt.Errorf("%s has %d bytes, %d were written: %w", b.Name, info.Size(), b.EncryptedBytes, ErrDamaged)
	}
	if err == nil {
		var head string
		if head, err = headSum(f); err == nil && head != b.HeadSHA256 {
			err = fmt.Errorf("%s is not the file that was written: %w", b.Name, ErrDamaged)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// damaged names what age refuses as damage. Errors of the disk are damage too.
func damaged(err error) error {
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// orRemoved adds device.ErrRemoved where the copy as a whole is gone, as with a
// disk that was pulled: then the session waits, and does not give its files up.
func (r *recorder) orRemoved(err error) error {
	if _, gone := r.folder.Lstat(recordName); gone != nil && !r.closed {
		return fmt.Errorf("%w: %w", device.ErrRemoved, err)
	}
	return err
}

// Close implements device.Recorder. A second Close does nothing.
func (r *recorder) Close() error {
	r.dir.mu.Lock()
	defer r.dir.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.dir.inUse[r.record.ID]--
	if err := r.folder.Close(); err != nil {
		return fmt.Errorf("close staged copy %s: %w", r.record.ID, err)
	}
	return nil
}

// file decrypts while it is read.
type file struct {
	recorder *recorder
	kept     *entry
	disk     *os.File
	plain    *io.SectionReader
	sum      hash.Hash // nil where the reading began behind 0
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.plain.Read(p)
	if f.sum != nil {
		_, _ = f.sum.Write(p[:n]) // it never fails
	}
	switch {
	case errors.Is(err, io.EOF):
		if f.sum != nil && hex.EncodeToString(f.sum.Sum(nil)) != f.kept.Blob.SHA256 {
			return n, fmt.Errorf("%q of staged copy %s has another SHA-256 than the recorder's: %w", string(f.kept.Path), f.recorder.record.ID, ErrDamaged)
		}
		return n, io.EOF
	case err != nil:
		return n, fmt.Errorf("read %q of staged copy %s: %w", string(f.kept.Path), f.recorder.record.ID, f.recorder.orRemoved(damaged(err)))
	}
	return n, nil
}

// Stat implements device.File from the record: a sealed copy does not change.
func (f *file) Stat() (int64, time.Time, error) { return f.kept.Size, f.kept.ModTime.Time, nil }

func (f *file) Close() error { return f.disk.Close() }
