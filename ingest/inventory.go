package ingest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

type counter struct{ n atomic.Int64 }

func (c *counter) add(n int)    { c.n.Add(int64(n)) }
func (c *counter) value() int64 { return c.n.Load() }

// takeInventory lists every path on the recorder, finds out whether a session of
// it was cut off, and makes the list durable before anything is copied.
func (w *session) takeInventory(ctx context.Context) error {
	entries, err := w.list(ctx)
	if err != nil {
		return err
	}
	if err := w.findOpenSession(ctx, entries); err != nil {
		return err
	}
	if !w.resumed {
		w.begin()
		if err := w.journal.SaveSession(ctx, w.record); err != nil {
			return err
		}
		w.emitFor(Event{Name: "ingest.started", State: Copying})
	}
	w.namer = storage.NewNamer(w.record.Prefix+manifest.FootageDir, keysOf(w.files))
	if err := w.reconcile(ctx, entries, true); err != nil {
		return err
	}
	w.count(w.files)
	if w.resumed {
		return nil
	}
	// What was on it is known from here on, also if it is taken away and never comes back.
	t := totals(w.files)
	return w.Record(ctx, ledger.Entry{
		Event: "session.begun", Session: w.record.ID, Recorder: w.record.Recorder, Officer: w.record.Officer,
		Detail: map[string]string{"slot": w.record.Slot, "files": strconv.Itoa(t.Files), "bytes": strconv.FormatInt(t.Bytes, 10)},
	})
}

// lookAgain lists the recorder once more. What is new or has changed since the
// last look is added to the session; at the last look it gets a bad end instead,
// for then the recorder does not come to rest.
func (w *session) lookAgain(ctx context.Context, last bool) (more bool, err error) {
	entries, err := w.list(ctx)
	if err != nil {
		return false, err
	}
	before := len(w.files)
	if err := w.reconcile(ctx, entries, false); err != nil {
		return false, err
	}
	w.count(w.files[before:])
	for _, f := range w.files[before:] {
		if f.State.Ended() {
			continue
		}
		if more = !last; last {
			if err := w.fail(ctx, f, journal.Changed, "the recorder was still being written to"); err != nil {
				return false, err
			}
		}
	}
	return more, nil
}

func (w *session) list(ctx context.Context) (entries []device.Entry, err error) {
	err = w.asking(func() error {
		return w.recorder.Inventory(ctx, func(e device.Entry) error {
			w.pulse.beat()
			entries = append(entries, e)
			return nil
		})
	})
	return entries, err
}

// count adds files to what there is to do, or is done.
func (w *session) count(files []*journal.File) {
	p := w.options.Progress
	for _, f := range files {
		if f.Entry.Kind != device.KindFile {
			continue
		}
		p.Files.Add(1)
		p.Bytes.Add(f.Entry.Size)
		if f.State.Ended() {
			p.Done.Add(1)
			p.Read.Add(f.Entry.Size)
			p.Verified.Add(f.Entry.Size)
		}
	}
}

// findOpenSession resumes the latest session of this recorder that was cut off.
// A recorder that is known by its serial number is taken at its word. One that
// is not must show every file that the session has begun to store, unchanged:
// another card in the same reader must not be taken for it.
func (w *session) findOpenSession(ctx context.Context, entries []device.Entry) error {
	if err := w.finishSealing(ctx, w.isOurs); err != nil {
		return err
	}
	open, err := w.journal.Unended(ctx, w.record.Recorder)
	if err != nil {
		return err
	}
	for _, candidate := range open {
		files, err := w.journal.Files(ctx, candidate.ID)
		if err != nil {
			return err
		}
		switch {
		case !w.isOurs(candidate):
		case w.record.Recorder != "" || shows(entries, files):
			return w.resume(ctx, candidate, files)
		case untouched(files):
			if err := w.forget(ctx, candidate); err != nil {
				return err
			}
		}
	}
	return nil
}

// isOurs tells whether a session may be one of the docked recorder; with an
// unknown serial number only the place speaks for it.
func (w *session) isOurs(other journal.Session) bool {
	return other.Recorder == w.record.Recorder &&
		(w.record.Recorder != "" || other.Identity.Place == w.record.Identity.Place)
}

// forget drops an open session that nobody could ever go on with: nothing tells
// whose it was, and nothing of it has reached the store.
func (w *session) forget(ctx context.Context, s journal.Session) error {
	empty := true
	err := w.withStore(ctx, func() error {
		for _, err := range w.vault.List(ctx, s.Prefix) {
			empty = false // a file whose answer a crash has swallowed
			return err
		}
		return nil
	})
	if err != nil || !empty {
		return err
	}
	return w.journal.DropSession(ctx, s.ID)
}

// untouched reports whether the journal knows of nothing that was sent to the store.
func untouched(files []*journal.File) bool {
	return !slices.ContainsFunc(files, func(f *journal.File) bool {
		return f.State != journal.Pending && f.State != journal.Noted && f.State != journal.Unreadable
	})
}

// shows reports whether all that was begun to store is still there, unchanged.
func shows(entries []device.Entry, files []*journal.File) bool {
	there := map[string]device.Entry{}
	for _, e := range entries {
		there[e.Path] = e
	}
	begun := 0
	for _, f := range files {
		if f.Entry.Kind != device.KindFile || f.State == journal.Pending || f.State.Bad() {
			continue
		}
		begun++
		if e, ok := there[f.Entry.Path]; !ok || !sameEntry(e, f.Entry) {
			return false
		}
	}
	return begun > 0
}

func sameEntry(a, b device.Entry) bool {
	if a.Kind != device.KindFile {
		return a.Kind == b.Kind // a directory's time changes with what is in it
	}
	return a.Kind == b.Kind && a.Size == b.Size && a.ModTime.Equal(b.ModTime)
}

// reconcile brings the session's files and what is on the recorder together.
// With retry, files that had a bad end in an earlier docking get another chance.
func (w *session) reconcile(ctx context.Context, entries []device.Entry, retry bool) error {
	known := map[string]*journal.File{}
	for _, f := range w.files {
		known[f.Entry.Path] = f // of several forms of one path the latest counts
	}
	var added []*journal.File
	for _, e := range entries {
		f := known[e.Path]
		delete(known, e.Path)
		switch {
		case f == nil:
			added = append(added, w.newFile(e))
		case f.State.Bad():
			if retry {
				if err := w.restart(ctx, f, e); err != nil {
					return err
				}
			}
		case e.Err != nil && e.Kind == device.KindDir:
			added = append(added, w.newFile(e)) // what is in it can't be seen any more
		case sameEntry(e, f.Entry):
			f.Entry.Handle = e.Handle
		case f.State.Good() || f.State == journal.Stored:
			// Changed after it was stored: both forms are kept.
			added = append(added, w.newFile(e))
		default: // never stored in full: begin again
			if err := w.restart(ctx, f, e); err != nil {
				return err
			}
		}
	}
	for _, f := range known {
		// What is left is not on the recorder any more. What the store has in
		// full needs no recorder.
		if f.State == journal.Pending || f.State == journal.Uploading {
			if err := w.fail(ctx, f, journal.Unreadable, "it was not on the recorder any more when that came back"); err != nil {
				return err
			}
		}
	}
	if len(added) == 0 {
		return nil
	}
	w.files = append(w.files, added...)
	return w.journal.AddFiles(ctx, added)
}

func (w *session) newFile(e device.Entry) *journal.File {
	f := &journal.File{Session: w.record.ID, Entry: e, State: journal.Pending}
	switch {
	case e.Err != nil:
		f.State, f.Reason = journal.Unreadable, e.Err.Error()
		w.emitFor(Event{Name: "device.card_error", Level: Alarm, Path: e.Path, Err: e.Err})
	case e.Kind == device.KindFile:
		f.Object.Key = w.namer.Key(e.Path)
	default:
		f.State = journal.Noted
	}
	return f
}

// restart makes a file that has no good end pending again, in its present form.
// One whose object turned out corrupt needs a new key: the old one is locked.
func (w *session) restart(ctx context.Context, f *journal.File, e device.Entry) error {
	if err := w.dropUpload(ctx, f); err != nil {
		return err
	}
	fresh := w.newFile(e)
	fresh.ID = f.ID
	if fresh.State == journal.Pending && f.State != journal.Corrupt && f.Object.Key != "" {
		fresh.Object.Key = f.Object.Key
	}
	*f = *fresh
	return w.journal.Relist(ctx, f)
}

func (w *session) dropUpload(ctx context.Context, f *journal.File) error {
	if f.Upload.ID == "" {
		return nil
	}
	u := f.Upload
	f.Upload = storage.Upload{}
	return w.withStore(ctx, func() error { return w.vault.Abort(ctx, u) })
}

// fail gives a file a bad end. The others go on.
func (w *session) fail(ctx context.Context, f *journal.File, state journal.FileState, reason string) error {
	if err := w.dropUpload(ctx, f); err != nil {
		return err
	}
	f.State, f.Reason = state, reason
	name := "device.card_error"
	if state == journal.Corrupt {
		name = "verify.mismatch"
	}
	w.emitFor(Event{Name: name, Level: Alarm, Path: f.Entry.Path, Bytes: f.Entry.Size, Message: fmt.Sprintf("%s: %s", state, reason)})
	w.options.Progress.Done.Add(1)
	return w.journal.SaveFile(ctx, f)
}

func keysOf(files []*journal.File) []string {
	var keys []string
	for _, f := range files {
		if f.Object.Key != "" && f.Origin == "" {
			keys = append(keys, f.Object.Key)
		}
	}
	return keys
}
