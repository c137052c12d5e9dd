package ingest

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

// confirmsAtOnce are asked for at once, a small request each.
const confirmsAtOnce = 8

// confirmStored asks the store once more for all that this session has verified, if
// the session was cut off or the store was away meanwhile: what has come back may be
// another disk, an older copy, or an empty bucket of the same name. What is not
// there any more is pending again, and lost is true.
func (w *session) confirmStored(ctx context.Context) (lost bool, err error) {
	if !w.doubted.Swap(false) {
		return false, nil
	}
	w.show(Verifying)
	here := make([]bool, len(w.files))
	all, asking := errgroup.WithContext(ctx)
	all.SetLimit(confirmsAtOnce)
	for i, f := range w.files {
		if here[i] = f.Object.VersionID == "" || !f.State.Good(); here[i] {
			continue
		}
		all.Go(func() error {
			there, err := w.stillStored(asking, f)
			here[i] = there != nil
			w.pulse.beat()
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return false, err
	}
	for i, f := range w.files {
		if here[i] {
			continue
		}
		lost = true
		if f.Origin != "" { // what was said of it is not true of what will be stored now
			f.Origin, f.Entry.Note = "", ""
		}
		w.options.Progress.Done.Add(-1)
		w.options.Progress.Verified.Add(-f.Entry.Size)
		if err := w.tryAgain(ctx, f, wrongObject, "it was stored and verified, and the store does not have it any more as it was", true); err != nil {
			return false, err
		}
	}
	return lost, nil
}

// stillStored asks the store; nil where the object is gone, other or released.
func (w *session) stillStored(ctx context.Context, known *journal.File) (*storage.Object, error) {
	var there storage.Object
	err := w.withStore(ctx, func() (err error) {
		there, err = w.vault.Stat(ctx, known.Object.Key, known.Object.VersionID)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if there.Size != known.Entry.Size || there.Checksum != known.Object.Checksum || !there.RetainUntil.After(w.journal.Now()) {
		return nil, nil
	}
	return &there, nil
}
