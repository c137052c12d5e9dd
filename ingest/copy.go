package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

const (
	// buffersAtOnce is a docking's share of the station's memory: one buffer is
	// filled while the others are on their way.
	buffersAtOnce = 3
	// smallAtOnce small files of a docking are on their way at once.
	smallAtOnce = 16
	// endsAtOnce is how many large files may be completed by the store while
	// later ones are read.
	endsAtOnce = 4
	// verifiersAtOnce read back while the recorder is read on.
	verifiersAtOnce = 2
)

// copier moves the files of a session: one goroutine reads the recorder, in
// order and one file at a time; others send, complete and read back.
type copier struct {
	*session
	ctx context.Context
	// recorder hides the session's: it is the same, watched while it is read.
	recorder device.Recorder
	share    chan struct{}      // a place for each buffer of this docking
	docked   bool               // before, with files that were stored
	small    chan struct{}      // the same for those of small files
	endings  chan struct{}      // a place for each completion
	ends     *errgroup.Group    // completions, and small files as a whole
	verifies chan *journal.File // stored, waiting to be verified; never full
}

// copyFiles gives every file its result. Those that the store has lost or spoilt
// are pending again after a pass and come with the next one, of which there are
// few: see tryAgain. It fails only when the session as a whole can't go on.
func (w *session) copyFiles(ctx context.Context) error {
	for {
		if err := w.copyOnce(ctx); err != nil {
			return err
		}
		again := false
		for _, f := range w.files {
			if again = again || f.State == journal.Pending; !f.State.Ended() && f.State != journal.Pending {
				return fmt.Errorf("file %q was left in state %s: this is a fault of the program, nothing was released", f.Entry.Path, f.State)
			}
		}
		if !again {
			return nil
		}
		w.show(Copying)
	}
}

func (w *session) copyOnce(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	ends, endsCtx := errgroup.WithContext(ctx)
	docked, err := w.journal.KnowsAny(ctx, w.record.Recorder, w.record.ID)
	if err != nil {
		return err
	}
	w.buffers.enter()
	c := &copier{session: w, ctx: endsCtx, recorder: watched{w.recorder, &w.pulse}, share: make(chan struct{}, buffersAtOnce), ends: ends, docked: docked,
		small: make(chan struct{}, smallAtOnce), endings: make(chan struct{}, endsAtOnce),
		verifies: make(chan *journal.File, len(w.files))}
	all.Go(func() error {
		defer close(c.verifies)
		err := c.readAll()
		return errors.Join(ends.Wait(), err)
	})
	for range verifiersAtOnce {
		all.Go(func() error {
			for f := range c.verifies {
				if err := w.verify(ctx, f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return errors.Join(all.Wait(), w.buffers.leave())
}

func (c *copier) readAll() error {
	for _, f := range c.files {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if f.Entry.Kind != device.KindFile || f.State.Ended() {
			continue
		}
		if err := c.take(f); err != nil {
			return err
		}
	}
	c.show(Verifying)
	return nil
}

// take brings one file on its way. Its own troubles become its result; what is
// returned ends the session.
func (c *copier) take(f *journal.File) error {
	switch f.State {
	case journal.Stored:
		c.options.Progress.Read.Add(f.Entry.Size)
		c.verifies <- f
		return nil
	case journal.Completing:
		c.options.Progress.Read.Add(f.Entry.Size)
		parts, err := c.journal.Parts(c.ctx, f.ID)
		if err != nil {
			return err
		}
		return c.end(func() error { return c.complete(f, plain(parts)) })
	}
	err := c.read(f)
	switch {
	case err == nil || c.ctx.Err() != nil || errors.Is(err, device.ErrRemoved):
		return err
	case errors.Is(err, errChanged):
		return c.fail(c.ctx, f, journal.Changed, err.Error())
	case isReadError(err):
		return c.fail(c.ctx, f, journal.Unreadable, err.Error())
	}
	return err
}

// end has the store end an upload, while later files are read.
func (c *copier) end(complete func() error) error {
	select {
	case c.endings <- struct{}{}:
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	c.ends.Go(func() error {
		defer func() { <-c.endings }()
		return complete()
	})
	return nil
}

// readError marks what the recorder, not the store or the journal, has failed at.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

func isReadError(err error) bool {
	var re readError
	return errors.As(err, &re)
}

func asReadError(err error) error {
	if err == nil {
		return nil
	}
	return readError{err}
}

func (c *copier) read(f *journal.File) error {
	if f.State == journal.Pending && c.docked {
		same, err := c.isIdentical(f)
		if err != nil || same {
			return err
		}
	}
	if f.Entry.Size <= c.cfg.PartSize {
		return c.readSmall(f)
	}
	return c.readLarge(f)
}

// readSmall reads a file that fits one buffer and hands it on to be stored in
// one request, whose SHA-256 the store checks.
func (c *copier) readSmall(f *journal.File) (err error) {
	buf, err := c.buffer(f.Entry.Size)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.giveBack(buf)
		}
	}()
	r, err := startReading(c.ctx, c.recorder, f.Entry, c.cfg.SM3, &c.session.read)
	if err != nil {
		return asReadError(err)
	}
	n, _, err := r.fill(c.ctx, buf)
	if err == nil {
		err = r.ended()
	}
	if err = errors.Join(err, r.file.Close()); err != nil {
		return asReadError(err)
	}
	c.options.Progress.Read.Add(int64(n))
	c.hear(f, buf[:n])
	f.SHA256, f.SM3, f.Fingerprint, f.CRC64 = hexSum(r.sum), r.sm3Sum(), hexSum(r.fingerprint()), r.crc
	sum := [sha256.Size]byte(r.sum.Sum(nil))
	c.ends.Go(func() error {
		defer c.giveBack(buf)
		return c.storeSmall(f, buf[:n], sum)
	})
	return nil
}

func (c *copier) storeSmall(f *journal.File, body []byte, sum [sha256.Size]byte) error {
	var o storage.Object
	proveNow := c.record.Verification == ReadBack && f.Entry.Size <= smallBytes
	var doubt error
	create := func(key string) error {
		return c.withStore(c.ctx, func() (err error) {
			if proveNow {
				o, doubt, err = c.vault.CreateProven(c.ctx, key, body, sum, c.retainUntil())
			} else {
				o, err = c.vault.Create(c.ctx, key, body, sum, c.retainUntil())
			}
			return err
		})
	}
	err := create(f.Object.Key)
	if errors.Is(err, storage.ErrTaken) {
		// A crash came between the store's answer and the journal, and the file
		// has changed since: the key holds its former content.
		err = create(f.Object.Key + "~" + f.SHA256[:16])
	}
	if err == nil && errors.Is(doubt, storage.ErrCorrupt) {
		c.emitFor(Event{Name: "verify.reread", Level: Warn, Path: f.Entry.Path, Bytes: f.Entry.Size, Message: doubt.Error() + "; reading it back once more"})
	}
	if err == nil && proveNow && doubt == nil {
		// One write to the journal instead of two. A crash before it leaves the
		// file to be read again and found in the store.
		f.Object, f.StoredAt, f.Upload = o, c.journal.Now(), storage.Upload{}
		c.options.Progress.Verified.Add(f.Entry.Size)
		return c.verified(c.ctx, f)
	}
	if errors.Is(err, storage.ErrTaken) {
		return c.tryAgain(c.ctx, f, lostParts, err.Error(), true)
	}
	return c.stored(f, o, err)
}

// buffer waits for a buffer for this many bytes, first of the docking's share,
// then of the station.
func (c *copier) buffer(bytes int64) ([]byte, error) {
	defer c.pulse.waiting(forMemory)()
	pool, share := c.buffers, c.share
	if c.buffers.small != nil && bytes <= smallBytes {
		pool, share = c.buffers.small, c.small
	}
	select {
	case share <- struct{}{}:
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
	buf, err := pool.get(c.ctx)
	if err != nil {
		<-share
	}
	return buf, err
}

func (c *copier) giveBack(buf []byte) {
	if small := c.buffers.small; small != nil && len(buf) == small.size {
		small.put(buf)
		<-c.small
		return
	}
	c.buffers.put(buf)
	<-c.share
}

// stored writes down what the store has confirmed and hands the file on.
func (c *copier) stored(f *journal.File, o storage.Object, err error) error {
	if errors.Is(err, storage.ErrCorrupt) {
		return c.fail(c.ctx, f, journal.Corrupt, err.Error())
	}
	if err != nil {
		return err
	}
	f.Object, f.StoredAt, f.State, f.Upload = o, c.journal.Now(), journal.Stored, storage.Upload{}
	if err := c.journal.SaveFile(c.ctx, f); err != nil {
		return err
	}
	c.verifies <- f
	return nil
}
