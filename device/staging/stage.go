package staging

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
)

// ErrChanged says that the recorder did not stay the same while it was copied.
// Nothing of the copy was kept.
var ErrChanged = errors.New("the recorder changed while it was copied, it may still be recording")

// staging is the work on one copy. It belongs to the goroutine of Stage.
type staging struct {
	dir      *Dir
	recorder device.Recorder
	folder   *os.Root // the ….partial folder
	room     *claim
	record   record
	progress func(int)
}

// Stage copies a recorder that is open: every file is read once, encrypted,
// written, read back from the disk, decrypted and compared by SHA-256. Clock and
// health are what the caller measured at the docking, before anything was read
// (第十条). Progress, which may be nil, gets the bytes that were read from the
// recorder since its last call.
//
// When it returns nil the copy is complete and durable: files, record and names
// are synced. Paths that can't be read are in it with their reason, and Copy tells
// how many. With an error nothing is kept, but for a failure to sync the very last
// rename: then the copy is complete and Copies lists it, unless the power fails.
// ErrFull, ErrChanged, ErrDamaged (the disk gave back other bytes) and
// device.ErrRemoved can be told apart. A copy that was cut off is begun anew.
func (d *Dir) Stage(ctx context.Context, r device.Recorder, clock device.ClockReading, health device.Health, slot string, dockedAt time.Time, progress func(int)) (_ Copy, err error) {
	fail := func(err error) (Copy, error) {
		return Copy{}, fmt.Errorf("stage the recorder in %s: %w", slot, orFull(err))
	}
	// 1. The inventory, before a byte is copied. A crash leaves nothing.
	entries, err := list(ctx, r)
	if err != nil {
		return fail(err)
	}
	s := &staging{dir: d, recorder: r, progress: progress}
	if s.room, err = claimFor(d, entries); err != nil {
		return fail(err)
	}
	defer s.room.release()
	identity := r.Identity()
	s.record = record{Format: recordFormat, ID: newID(), Clock: clock, DockedAt: moment{dockedAt}, Health: health, Identity: identity, Slot: slot}

	// 2. The files, in a folder whose name says that it is not complete. A crash
	// leaves that folder, and Open deletes it.
	partial := s.record.ID + partialSuffix
	if err := d.root.Mkdir(partial, 0o700); err != nil {
		return fail(err)
	}
	sealed := false
	defer func() {
		if sealed {
			return
		}
		if removed := d.root.RemoveAll(partial); removed != nil {
			err = errors.Join(err, fmt.Errorf("remove the incomplete copy %s, which the next start will do: %w", partial, removed))
		}
	}()
	if s.folder, err = d.root.OpenRoot(partial); err != nil {
		return fail(err)
	}
	defer func() { _ = s.folder.Close() }() // everything in it was synced
	if err := s.copyAll(ctx, entries); err != nil {
		return fail(err)
	}

	// 3. The recorder again: what came or changed meanwhile would be missing.
	again, err := list(ctx, r)
	if err == nil {
		err = compare(entries, again)
	}
	if err != nil {
		return fail(err)
	}

	// 4. The record, read back too, then all names in the folder are synced. A
	// crash still leaves a ….partial folder.
	s.record.SealedAt = moment{time.Now()}
	written, err := s.writeRecord(ctx)
	if err != nil {
		return fail(err)
	}
	if err := syncRoot(s.folder); err != nil {
		return fail(err)
	}

	// 5. The name is the commit mark: from here on the copy is complete.
	if err := d.root.Rename(partial, s.record.ID); err != nil {
		return fail(err)
	}
	sealed = true
	if err := d.sync(); err != nil {
		return fail(fmt.Errorf("the copy %s is complete, but it is not sure to outlive a power failure: %w", s.record.ID, err))
	}
	return d.copyOf(written), nil
}

func list(ctx context.Context, r device.Recorder) (entries []device.Entry, err error) {
	err = r.Inventory(ctx, func(e device.Entry) error {
		entries = append(entries, e)
		return ctx.Err()
	})
	return entries, err
}

func claimFor(d *Dir, entries []device.Entry) (*claim, error) {
	var size int64
	for _, e := range entries {
		if e.Kind == device.KindFile && e.Err == nil {
			size += max(e.Size, 0)
		}
	}
	return d.claimRoom(len(entries), size)
}

// newID is a name that sorts by time and tells nothing of the recorder.
func newID() string {
	var chance [4]byte
	_, _ = rand.Read(chance[:]) // it never fails
	return time.Now().UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(chance[:])
}

func (s *staging) copyAll(ctx context.Context, entries []device.Entry) error {
	s.record.Entries = make([]entry, len(entries))
	for i, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		kept := newEntry(e)
		if e.Kind == device.KindFile && e.Err == nil {
			b, err := s.copyFile(ctx, e, fmt.Sprintf("%06d.age", i+1))
			var unreadable *readError
			switch {
			case errors.As(err, &unreadable):
				kept.Err = reason(unreadable.cause)
			case err != nil:
				return err
			default:
				kept.Blob = &b
			}
		}
		s.record.Entries[i] = kept
	}
	return nil
}

// compare fails unless two inventories show the same. The times of folders don't
// count: they follow what is in them.
func compare(before, after []device.Entry) error {
	before, after = slices.Clone(before), slices.Clone(after)
	byPath := func(a, b device.Entry) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(a.Handle, b.Handle)
	}
	slices.SortFunc(before, byPath)
	slices.SortFunc(after, byPath)
	for i, b := range before {
		if i >= len(after) || after[i].Path > b.Path {
			return fmt.Errorf("%q is not there any more: %w", b.Path, ErrChanged)
		}
		a := after[i]
		if a.Path < b.Path {
			return fmt.Errorf("%q is new: %w", a.Path, ErrChanged)
		}
		same := a.Kind == b.Kind && a.Note == b.Note && (a.Err == nil) == (b.Err == nil)
		if a.Kind == device.KindFile {
			same = same && a.Size == b.Size && a.ModTime.Equal(b.ModTime)
		}
		if !same {
			return fmt.Errorf("%q is not what it was: %w", b.Path, ErrChanged)
		}
	}
	if len(after) > len(before) {
		return fmt.Errorf("%q is new: %w", after[len(before)].Path, ErrChanged)
	}
	return nil
}

// writeRecord gives the record as it will be read later.
func (s *staging) writeRecord(ctx context.Context) (*record, error) {
	data, err := json.MarshalIndent(&s.record, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write the record: %w", err)
	}
	sum, err := s.encrypt(ctx, recordName, func(w *plainWriter) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("write the record: %w", err)
	}
	if _, err := s.readBack(ctx, recordName, int64(len(data)), sum); err != nil {
		return nil, fmt.Errorf("read the record back: %w", err)
	}
	// What was read back must also say what was meant: JSON bends what it can't
	// hold, and no path may be bent.
	again, err := parseRecord(data)
	if err != nil {
		return nil, fmt.Errorf("the record would not be accepted: %w", err)
	}
	for i := range s.record.Entries {
		if i >= len(again.Entries) || !s.record.Entries[i].sameAs(&again.Entries[i]) {
			return nil, fmt.Errorf("the record would give back %q as something else", string(s.record.Entries[i].Path))
		}
	}
	return again, nil
}
