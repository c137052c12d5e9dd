package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

// verify gives a stored file its end: read back and hashed again, or by the
// checksum that the store has confirmed.
func (w *session) verify(ctx context.Context, f *journal.File) error {
	if w.record.Verification == ReadBack {
		wrong, err := w.readBack(ctx, f)
		if err == nil && wrong != "" {
			// A bit that flipped on the way is not a corrupt object.
			w.emitFor(Event{Name: "verify.reread", Level: Warn, Path: f.Entry.Path, Bytes: f.Entry.Size, Message: wrong + "; reading it back once more"})
			wrong, err = w.readBack(ctx, f)
		}
		if err != nil {
			return err
		}
		if wrong != "" {
			return w.quarantine(ctx, f, wrong)
		}
	} else {
		w.options.Progress.Verified.Add(f.Entry.Size)
	}
	return w.verified(ctx, f)
}

// verified gives a file its good end.
func (w *session) verified(ctx context.Context, f *journal.File) error {
	f.State, f.VerifiedAt, f.Verification = journal.Verified, w.journal.Now(), w.record.Verification
	if err := w.journal.SaveFile(ctx, f); err != nil {
		return err
	}
	w.options.Progress.Done.Add(1)
	w.emitFor(Event{Name: "ingest.file_done", Path: f.Entry.Path, Bytes: f.Entry.Size, Message: string(f.State)})
	return nil
}

// readBack fetches a stored file and says what is wrong with what came back, empty
// for nothing. Only a right one counts as progress.
func (w *session) readBack(ctx context.Context, f *journal.File) (wrong string, err error) {
	var sum string
	var size, counted int64
	p := w.options.Progress
	err = w.withStore(ctx, func() (err error) {
		p.Verified.Add(-counted)
		counted = 0
		sum, size, err = w.vault.ReadBack(ctx, f.Object.Key, f.Object.VersionID, func(n int) {
			w.pulse.beat()
			counted += int64(n)
			p.Verified.Add(int64(n))
		})
		return err
	})
	switch {
	case err == nil && sum == f.SHA256 && size == f.Entry.Size:
		return "", nil
	case errors.Is(err, storage.ErrNotFound):
		wrong, err = "the store confirmed it and does not have it: "+err.Error(), nil
	case err == nil:
		wrong = fmt.Sprintf("the store gave back %d bytes with SHA-256 %s; sent were %d bytes with %s", size, sum, f.Entry.Size, f.SHA256)
	}
	p.Verified.Add(-counted)
	return wrong, err
}

// Why a file has to be sent again, and how often that is done in one docking.
// Beyond it the file ends as corrupt: a store that does it again will go on so.
type mishap struct {
	what string
	most int
}

var (
	lostParts   = mishap{"completion", 2}
	wrongObject = mishap{"object", 1}
)

// quarantine writes down that the object of a file is corrupt, which is told with
// what becomes of the file, and has the file read and stored again under another key. The object stays where it
// is: nobody can remove it before its lock ends, and it is evidence of the fault.
func (w *session) quarantine(ctx context.Context, f *journal.File, wrong string) error {
	q := journal.Quarantined{
		Key: f.Object.Key, Version: f.Object.VersionID, Session: w.record.ID, File: f.ID, Reason: wrong, At: w.journal.Now(),
	}
	if err := w.Station.quarantine(ctx, q); err != nil {
		return err
	}
	return w.tryAgain(ctx, f, wrongObject, wrong+"; "+InQuarantine(q), true)
}

// tryAgain makes a file that the store has lost or spoilt pending again, so that
// it is read from the recorder once more; with newKey under another key. After too
// many times it ends as corrupt.
func (w *session) tryAgain(ctx context.Context, f *journal.File, m mishap, why string, newKey bool) error {
	if !w.mayTryAgain(f, m) {
		return w.fail(ctx, f, journal.Corrupt, fmt.Sprintf("%s; it was sent again %d times, dock again to send it anew", why, m.most))
	}
	// What is left of the parts would only take room; a crash here leaves them to
	// the same steps.
	if err := w.dropUpload(ctx, f); err != nil {
		return err
	}
	fresh := &journal.File{ID: f.ID, Session: f.Session, Entry: f.Entry, State: journal.Pending}
	fresh.Object.Key = f.Object.Key
	if newKey {
		fresh.Object.Key = w.anotherKey(f.Entry.Path)
	}
	// From here on a crash, too, lets it be read from its start. Its parts go with
	// this write.
	if err := w.journal.SaveFile(ctx, fresh); err != nil {
		return err
	}
	*f = *fresh
	w.options.Progress.Read.Add(-f.Entry.Size)
	if m == wrongObject {
		w.emitFor(Event{Name: "verify.mismatch", Level: Alarm, Path: f.Entry.Path, Bytes: f.Entry.Size, Message: why})
	}
	w.emitFor(Event{Name: "ingest.sent_again", Level: Warn, Path: f.Entry.Path, Bytes: f.Entry.Size,
		Message: fmt.Sprintf("%s; it is read from the recorder again and stored as %s", why, fresh.Object.Key)})
	return nil
}

// mayTryAgain counts the mishaps of a file in this docking.
func (w *session) mayTryAgain(f *journal.File, m mishap) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mishaps == nil {
		w.mishaps = map[string]int{}
	}
	which := fmt.Sprint(f.ID, " ", m.what)
	w.mishaps[which]++
	return w.mishaps[which] <= m.most
}

func (w *session) anotherKey(path string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.namer.Key(path)
}

// quarantineNotes gives, by file, what a manifest has to say of objects that were
// to be it and are not.
func (w *session) quarantineNotes(ctx context.Context) (map[int64]string, error) {
	all, err := w.journal.QuarantinedOf(ctx, w.record.ID)
	if err != nil {
		return nil, err
	}
	notes := map[int64]string{}
	for _, q := range all {
		notes[q.File] = strings.Join(append(nonEmpty(notes[q.File]), QuarantineNote(q)), "; ")
	}
	return notes, nil
}

// QuarantineNote is what a manifest has to say at a file of an object that was to be it.
func QuarantineNote(q journal.Quarantined) string {
	return fmt.Sprintf("the object %s, version %s, is not this file: %s", q.Key, q.Version, q.Reason)
}

// InQuarantine is what the reason of a corrupt file says of its object.
func InQuarantine(q journal.Quarantined) string {
	return fmt.Sprintf("the object %s, version %s, is in quarantine", q.Key, q.Version)
}

func nonEmpty(texts ...string) (all []string) {
	for _, t := range texts {
		if t != "" {
			all = append(all, t)
		}
	}
	return all
}
