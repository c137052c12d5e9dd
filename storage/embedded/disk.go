package embedded

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"

	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/s3err"
	"golang.org/x/sys/unix"
)

// reserveBytes stay free of footage, so that a hold can be placed and a lock
// extended on a full disk.
const reserveBytes = 64 << 20

// reserveFiles is the same for the number of files.
const reserveFiles = 1024

// disk makes writes durable. One syncfs serves all requests that wait for it:
// whoever comes while one runs waits for the next, because the running one may
// have passed over his pages already.
type disk struct {
	syncAll  func() error               // syncfs of the root
	syncFile func(*os.File) error       // fdatasync
	usage    func(*unix.Statfs_t) error // fstatfs of the root

	mu      sync.Mutex
	idle    *sync.Cond // on mu: signalled when running turns false
	running bool       // a sync is under way; guarded by mu
	next    *round     // the sync that newcomers wait for, nil if none; guarded by mu

	// failed is the first sync error, and final. After a failed write-back the
	// kernel marks the pages clean and may report success the next time, though
	// the data is lost ("fsync-gate"). Only a restart, which reads from the
	// disk again, makes a later success mean anything. Guarded by mu.
	failed error
}

type round struct {
	done chan struct{}
	err  error // set before done is closed
}

func newDisk(root *os.File) *disk {
	d := &disk{
		syncAll:  func() error { return unix.Syncfs(int(root.Fd())) },
		syncFile: func(f *os.File) error { return unix.Fdatasync(int(f.Fd())) },
		usage:    func(st *unix.Statfs_t) error { return unix.Fstatfs(int(root.Fd()), st) },
	}
	d.idle = sync.NewCond(&d.mu)
	return d
}

// commit returns nil once a sync that started after the call has succeeded.
func (d *disk) commit() error {
	d.mu.Lock()
	if d.failed != nil {
		defer d.mu.Unlock()
		return errDiskFailed(d.failed)
	}
	r := d.next
	if r != nil { // someone leads the next round: ours too
		d.mu.Unlock()
		<-r.done
		return r.err
	}
	r = &round{done: make(chan struct{})}
	d.next = r
	for d.running {
		d.idle.Wait()
	}
	// From here on newcomers are too late for this round.
	d.next, d.running = nil, true
	failed := d.failed
	d.mu.Unlock()

	err := failed
	if err == nil {
		err = d.syncAll()
	}

	if err != nil {
		r.err = d.fail(err)
	}
	d.mu.Lock()
	d.running = false
	close(r.done)
	d.idle.Signal() // only the leader of the next round waits here
	d.mu.Unlock()
	return r.err
}

// syncData makes one file's data durable before the file gets its name.
func (d *disk) syncData(f *os.File) error {
	if err := d.accepting(); err != nil {
		return err
	}
	err := d.syncFile(f)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return s3err.GetAPIError(s3err.ErrNoSpaceLeftOnDevice)
	}
	return d.fail(err)
}

// fail stops all writes; the first cause is kept.
func (d *disk) fail(cause error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = cause
		fmt.Fprintf(os.Stderr, "store: sync failed, no further writes are accepted: %v\n", cause)
	}
	return errDiskFailed(d.failed)
}

// accepting refuses a write before it costs anything.
func (d *disk) accepting() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return errDiskFailed(d.failed)
	}
	return nil
}

// room refuses a write of n bytes that the disk can't take. Writers may pass it
// together and still fill the disk; the write itself then fails, and the next
// sees it here.
func (d *disk) room(n int64) error {
	if err := d.accepting(); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := d.usage(&st); err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	free := int64(st.Bavail) * st.Bsize
	if free < reserveBytes+n || st.Files > 0 && st.Ffree < reserveFiles {
		return s3err.GetAPIError(s3err.ErrNoSpaceLeftOnDevice)
	}
	return nil
}

func errDiskFailed(cause error) error {
	return s3err.APIError{
		Code:           "ServiceUnavailable",
		Description:    fmt.Sprintf("The store could not write to its disk (%v) and accepts no more writes. Check the disk, then restart ingestd.", cause),
		HTTPStatusCode: http.StatusServiceUnavailable,
	}
}

// attributes is versitygw's metadata store with two changes.
//
// versitygw writes the version id as one of the last things before it gives a
// file its name, a new object as well as the copy of one that is being
// replaced. So this is where the file's data is made durable: a name must never
// reach the disk before what it names, and the old version must not lose its
// name before its copy is safe. Attributes set afterwards are journaled before
// the name.
//
// On a finished upload versitygw notes the offset of every part, for reading
// single parts, which nobody does. ext4 keeps 4 KiB of attributes, so the note
// would make an upload of some 700 parts fail at its very end. Only the upload
// id is kept, by which published recognises the object.
type attributes struct {
	meta.XattrMeta
	disk *disk
}

func (a attributes) StoreAttribute(f *os.File, bucket, object, name string, value []byte) error {
	switch {
	case f != nil && name == attrVersion:
		if err := a.disk.syncData(f); err != nil {
			return err
		}
		crashPoint("store.object.durable") // of a put, of a complete, and of a copy aside
	case name == attrMultipart:
		info, err := backend.UnmarshalMpUploadMetadata(value, false)
		if err != nil {
			return fmt.Errorf("read upload of %s/%s: %w", bucket, object, err)
		}
		info.Parts = nil
		if value, err = backend.MarshalMpUploadMetadata(info, false); err != nil {
			return fmt.Errorf("note upload of %s/%s: %w", bucket, object, err)
		}
	}
	return a.XattrMeta.StoreAttribute(f, bucket, object, name, value)
}
