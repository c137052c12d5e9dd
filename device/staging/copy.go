package staging

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/device"
)

// ErrInUse says that a copy can't be removed while it is open as a recorder.
var ErrInUse = errors.New("the staged copy is still open")

// ErrNotHeld says that a copy was not removed because the session that was named
// does not hold all of its files.
var ErrNotHeld = errors.New("the session does not hold all of the staged copy")

// Copy is one sealed copy of a recorder. It is staged (已暂存), not stored.
type Copy struct {
	// ID is the name of its folder: the station's time of copying, and chance.
	ID string
	// Slot and DockedAt are those of the docking, SealedAt is when the copy was
	// complete; all times are the station's.
	Slot               string
	DockedAt, SealedAt time.Time
	// Identity, Clock and Health are as they were at the docking. Identity.Driver
	// is the one that reached the recorder.
	Identity device.Identity
	Clock    device.ClockReading
	Health   device.Health
	// Files and Bytes count what was copied and read back. Unreadable counts paths
	// whose content is not in the copy; Open and Inventory tell which and why.
	Files, Unreadable int
	Bytes             int64

	dir *Dir
}

func (d *Dir) copyOf(rec *record) Copy {
	c := Copy{
		ID: rec.ID, Slot: rec.Slot, DockedAt: rec.DockedAt.Time, SealedAt: rec.SealedAt.Time,
		Identity: rec.Identity, Clock: rec.Clock, Health: rec.Health, dir: d,
	}
	for _, e := range rec.Entries {
		if e.Blob != nil {
			c.Files++
			c.Bytes += e.Size
		}
		if e.Err != "" {
			c.Unreadable++
		}
	}
	return c
}

// SessionRef names the session that brought a copy into the vault, and what that
// session proves to hold there.
type SessionRef struct {
	// ID is that of the session, ManifestKey and ManifestSHA256 those of the sealed
	// manifest in the vault.
	ID, ManifestKey, ManifestSHA256 string
	// Verified are the files that were read back from the vault, or are held there
	// by an earlier session as identical.
	Verified []StoredFile
}

// StoredFile is one file in the vault: its exact path on the recorder, and the
// SHA-256 in hexadecimal.
type StoredFile struct{ Path, SHA256 string }

// Remove deletes the copy, which the vault holds as the session says: the session
// of the copy itself, or one of its recorder, docked again. The caller proves that
// the session is sealed; Remove compares what it holds, path by path
// and digest by digest, with the record on the disk, and refuses with ErrNotHeld
// if a single file is missing. ErrInUse: it is open. A copy whose record is
// damaged is never removed.
//
// When it returns nil the copy is gone, durably. With another error it is either
// untouched or will be gone at the next Open, which Copies tells. The removal is
// for the caller to log.
func (c Copy) Remove(ctx context.Context, sealed SessionRef) error {
	fail := func(err error) error { return fmt.Errorf("remove staged copy %s: %w", c.ID, err) }
	if sealed.ID == "" || sealed.ManifestKey == "" || !isSHA256(sealed.ManifestSHA256) {
		return fail(fmt.Errorf("no sealed session with a manifest was named: %w", ErrNotHeld))
	}
	// 1. The name is taken away first: a crash from here on leaves rubbish that
	// Open deletes, and never a copy with some of its files.
	gone, err := c.takeAway(ctx, sealed)
	if err == nil {
		err = c.dir.sync()
	}
	// 2. The bytes.
	if err == nil {
		err = c.dir.root.RemoveAll(gone)
	}
	if err == nil {
		err = c.dir.sync()
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

func (c Copy) takeAway(ctx context.Context, sealed SessionRef) (gone string, err error) {
	d := c.dir
	d.mu.Lock()
	defer d.mu.Unlock() // nobody may open it meanwhile
	if d.inUse[c.ID] > 0 {
		return "", ErrInUse
	}
	rec, err := d.readRecord(c.ID)
	if err != nil {
		return "", err
	}
	if err := rec.heldBy(sealed); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	gone = c.ID + removedSuffix
	return gone, d.root.Rename(c.ID, gone)
}

func (r *record) heldBy(sealed SessionRef) error {
	held := map[StoredFile]bool{}
	for _, f := range sealed.Verified {
		held[f] = true
	}
	for _, e := range r.Entries {
		if e.Blob != nil && !held[StoredFile{Path: string(e.Path), SHA256: e.Blob.SHA256}] {
			return fmt.Errorf("session %s: %q with SHA-256 %s: %w", sealed.ID, string(e.Path), e.Blob.SHA256, ErrNotHeld)
		}
	}
	return nil
}
