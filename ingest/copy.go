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
	ctx      context.Context
	share    chan struct{}      // a place for each buffer of this docking
	ends     *errgroup.Group    // completions, and small files as a whole
	verifies chan *journal.File // stored, waiting to be verified; never full
}

// copyFiles gives every file its result. It fails only when the session as a
// whole can't go on.
func (w *session) copyFiles(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	ends, endsCtx := errgroup.WithContext(ctx)
	ends.SetLimit(endsAtOnce)
	c := &copier{session: w, ctx: endsCtx, share: make(chan struct{}, buffersAtOnce), ends: ends,
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
	if err := all.Wait(); err != nil {
		return err
	}
	for _, f := range w.files {
		if !f.State.Ended() {
			return fmt.Errorf("file %q was left in state %s: this is a fault of the program, nothing was released", f.Entry.Path, f.State)
		}
	}
	return nil
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
		c.ends.Go(func() error { return c.complete(f, plain(parts)) })
		return nil
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
	if f.State == journal.Pending {
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
	buf, err := c.buffer()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.giveBack(buf)
		}
	}()
	r, err := startReading(c.ctx, c.recorder, f.Entry, &c.session.read)
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
	f.SHA256, f.Fingerprint, f.CRC64 = hexSum(r.sum), hexSum(r.fingerprint), r.crc
	sum := [sha256.Size]byte(r.sum.Sum(nil))
	c.ends.Go(func() error {
		defer c.giveBack(buf)
		return c.storeSmall(f, buf[:n], sum)
	})
	return nil
}

func (c *copier) storeSmall(f *journal.File, body []byte, sum [sha256.Size]byte) error {
	var o storage.Object
	err := c.withStore(c.ctx, func() (err error) {
		o, err = c.vault.Create(c.ctx, f.Object.Key, body, sum, c.vault.RetainUntil())
		return err
	})
	if errors.Is(err, storage.ErrTaken) {
		// A crash came between the store's answer and the journal, and the file
		// has changed since: the key holds its former content.
		err = c.withStore(c.ctx, func() (err error) {
			o, err = c.vault.Create(c.ctx, f.Object.Key+"~"+f.SHA256[:16], body, sum, c.vault.RetainUntil())
			return err
		})
	}
	return c.stored(f, o, err)
}

// buffer waits for a buffer, first of the docking's share, then of the station.
func (c *copier) buffer() ([]byte, error) {
	select {
	case c.share <- struct{}{}:
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
	buf, err := c.buffers.get(c.ctx)
	if err != nil {
		<-c.share
	}
	return buf, err
}

func (c *copier) giveBack(buf []byte) {
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

// verify gives a stored file its end: read back and hashed again, or by the
// checksum that the store has confirmed.
func (w *session) verify(ctx context.Context, f *journal.File) error {
	if w.record.Verification == ReadBack {
		var sum string
		var size int64
		err := w.withStore(ctx, func() (err error) {
			var counted int64
			sum, size, err = w.vault.ReadBack(ctx, f.Object.Key, f.Object.VersionID, func(n int) {
				counted += int64(n)
				w.options.Progress.Verified.Add(int64(n))
			})
			if err != nil {
				w.options.Progress.Verified.Add(-counted)
			}
			return err
		})
		switch {
		case errors.Is(err, storage.ErrNotFound):
			return w.fail(ctx, f, journal.Corrupt, "the store confirmed it and does not have it: "+err.Error())
		case err != nil:
			return err
		case sum != f.SHA256 || size != f.Entry.Size:
			return w.fail(ctx, f, journal.Corrupt, fmt.Sprintf("the store gave back %d bytes with SHA-256 %s; sent were %d bytes with %s", size, sum, f.Entry.Size, f.SHA256))
		}
	} else {
		w.options.Progress.Verified.Add(f.Entry.Size)
	}
	f.State, f.VerifiedAt, f.Verification = journal.Verified, w.journal.Now(), w.record.Verification
	if err := w.journal.SaveFile(ctx, f); err != nil {
		return err
	}
	w.options.Progress.Done.Add(1)
	w.emitFor(Event{Name: "ingest.file_done", Path: f.Entry.Path, Bytes: f.Entry.Size, Message: string(f.State)})
	return nil
}
