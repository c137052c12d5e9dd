package ingest

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
)

const (
	// confirmsAtOnce are asked for at once, a small request each.
	confirmsAtOnce = 8
	// confirmsAtMost bounds how often a store that goes away while it is asked is asked
	// from the start.
	confirmsAtMost = 10
)

// confirmStored asks the store once more for all that this session has verified, if
// the session was cut off or the store was away meanwhile: what has come back may be
// another disk, an older copy, or an empty bucket of the same name. What is not
// there any more is pending again, and lost is true. When the store goes away while it
// is asked, what it said before does not count. An outage that the client bridges
// within one request, of a second or so, is not seen.
func (w *session) confirmStored(ctx context.Context) (lost bool, err error) {
	var gone []*journal.File
	for pass := 0; len(gone) == 0 && w.doubted.Swap(false); pass++ {
		if pass == confirmsAtMost {
			return false, fmt.Errorf("the store went away each of %d times that it was asked whether it still has what was verified: %w", pass, storage.ErrUnavailable)
		}
		w.show(Verifying)
		if gone, err = lostOf(ctx, w.files, w.stillStored); err != nil {
			return false, err
		}
	}
	for _, f := range gone {
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

// lostOf gives those of the files with a good end that the store does not have any
// more as they were.
func lostOf(ctx context.Context, files []*journal.File, ask func(context.Context, *journal.File) (*storage.Object, error)) (gone []*journal.File, err error) {
	lost := make([]bool, len(files))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(confirmsAtOnce)
	for i, f := range files {
		if f.Object.VersionID == "" || !f.State.Good() {
			continue
		}
		all.Go(func() error {
			there, err := ask(ctx, f)
			lost[i] = there == nil
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	for i, f := range files {
		if lost[i] {
			gone = append(gone, f)
		}
	}
	return gone, nil
}

// reopenLost makes a session that was cut off while it was sealed an open one again,
// if the store has lost what it had verified and nothing of its documents was stored:
// its manifest would say what is not true. The recorder, docked again, goes on with it.
func (s *Station) reopenLost(ctx context.Context, r journal.Session) (reopened bool, err error) {
	files, err := s.journal.Files(ctx, r.ID)
	if err != nil {
		return false, err
	}
	gone, err := lostOf(ctx, files, s.stillStored)
	if err != nil || len(gone) == 0 {
		return false, err
	}
	for _, name := range []string{manifest.SumsFileName, manifest.FileName} {
		err := s.withStore(ctx, func() error {
			_, err := s.vault.Stat(ctx, r.Prefix+name, "")
			return err
		})
		if !errors.Is(err, storage.ErrNotFound) {
			return false, err // it is there and can't be another any more
		}
	}
	r.Reason = fmt.Sprintf("the store does not have %d files any more that were verified: dock the recorder again", len(gone))
	if err := s.journal.Reopen(ctx, r); err != nil {
		return false, err
	}
	s.emit(Event{Name: "ingest.failed", Level: Alarm, Session: r.ID, Slot: r.Slot, Recorder: r.Recorder, Officer: r.Officer, Path: gone[0].Entry.Path, Message: r.Reason})
	return true, nil
}

// stillStored is that of the station, with the session's pulse.
func (w *session) stillStored(ctx context.Context, known *journal.File) (*storage.Object, error) {
	defer w.pulse.beat()
	return w.askStore(ctx, known, w.withStore)
}

func (s *Station) stillStored(ctx context.Context, known *journal.File) (*storage.Object, error) {
	return s.askStore(ctx, known, s.withStore)
}

// askStore gives nil where the object is gone, other or released.
func (s *Station) askStore(ctx context.Context, known *journal.File, withStore func(context.Context, func() error) error) (*storage.Object, error) {
	var there storage.Object
	err := withStore(ctx, func() (err error) {
		there, err = s.vault.Stat(ctx, known.Object.Key, known.Object.VersionID)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if there.Size != known.Entry.Size || there.Checksum != known.Object.Checksum || !there.RetainUntil.After(s.journal.Now()) {
		return nil, nil
	}
	return &there, nil
}
