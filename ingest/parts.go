package ingest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

// readLarge reads a file in parts, each on its way while the next is read.
func (c *copier) readLarge(f *journal.File) error {
	if n := (f.Entry.Size + c.cfg.PartSize - 1) / c.cfg.PartSize; n > storage.MaxParts {
		return asReadError(fmt.Errorf("%d bytes are more than %d parts of %d bytes: raise storage.part_size", f.Entry.Size, storage.MaxParts, c.cfg.PartSize))
	}
	r, done, err := c.openLarge(f)
	if err != nil {
		return err
	}
	sending := &partSender{copier: c, file: f, done: done}
	err = sending.readParts(r)
	// Whatever happened, no part of this file is on the way any more below.
	if sendErr := sending.wait(); errors.Is(sendErr, storage.ErrCorrupt) {
		return c.fail(c.ctx, f, journal.Corrupt, sendErr.Error())
	} else if errors.Is(sendErr, storage.ErrNotFound) {
		return c.tryAgain(c.ctx, f, lostParts, "the store has thrown its parts away: "+sendErr.Error(), false)
	} else if sendErr != nil {
		return sendErr
	}
	if err != nil {
		return err
	}
	// All parts are durable and the digests are final: from here on the file
	// needs no recorder any more, also after a crash.
	f.State, f.SHA256, f.SM3, f.Fingerprint, f.CRC64 = journal.Completing, hexSum(r.sum), r.sm3Sum(), hexSum(r.fingerprint()), r.crc
	if err := c.journal.SaveFile(c.ctx, f); err != nil {
		return err
	}
	return c.end(func() error { return c.complete(f, sending.done) })
}

// openLarge opens a file for reading in parts: behind the last durable part of
// an upload that was cut off, or from the start with a new upload.
func (c *copier) openLarge(f *journal.File) (*reading, []storage.Part, error) {
	if f.State == journal.Uploading {
		parts, err := c.durableParts(f)
		if err != nil {
			return nil, nil, err
		}
		if len(parts) > 0 {
			last := parts[len(parts)-1]
			offset := int64(len(parts)) * c.cfg.PartSize
			if last.Number == len(parts) && last.Size == c.cfg.PartSize {
				r, err := resumeReading(c.ctx, c.recorder, f.Entry, offset, last, c.cfg.SM3, &c.session.read)
				if err == nil {
					c.options.Progress.Read.Add(offset)
				}
				return r, plain(parts), asReadError(err)
			}
		}
		if err := c.dropUpload(c.ctx, f); err != nil {
			return nil, nil, err
		}
	}
	r, err := startReading(c.ctx, c.recorder, f.Entry, c.cfg.SM3, &c.session.read)
	if err != nil {
		return nil, nil, asReadError(err)
	}
	err = c.withStore(c.ctx, func() (err error) {
		f.Upload, err = c.vault.Begin(c.ctx, f.Object.Key, c.retainUntil())
		return err
	})
	if err == nil {
		f.State = journal.Uploading
		err = c.journal.SaveFile(c.ctx, f)
	}
	if err != nil {
		return nil, nil, errors.Join(err, r.file.Close())
	}
	return r, nil, nil
}

// durableParts are the parts, without a hole from the first on, that both the
// journal and the store know in the same form.
func (c *copier) durableParts(f *journal.File) ([]journal.Part, error) {
	parts, err := c.journal.Parts(c.ctx, f.ID)
	if err != nil {
		return nil, err
	}
	var kept map[int]storage.Part
	err = c.withStore(c.ctx, func() (err error) {
		kept, err = c.vault.Kept(c.ctx, f.Upload)
		return err
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	for i, p := range parts {
		k, ok := kept[p.Number]
		// A part of another size, the last one or one of a former setting, is
		// sent again rather than reckoned with.
		if p.Number != i+1 || !ok || k.ETag != p.ETag || k.Size != p.Size || p.Size != c.cfg.PartSize {
			return parts[:i], nil
		}
	}
	return parts, nil
}

func plain(parts []journal.Part) []storage.Part {
	list := make([]storage.Part, len(parts))
	for i, p := range parts {
		list[i] = p.Part
	}
	return list
}

// partSender sends the parts of one file; several are on the way at once.
type partSender struct {
	*copier
	file *journal.File
	wg   sync.WaitGroup

	mu   sync.Mutex
	done []storage.Part // guarded by mu; by number, from 1
	err  error          // guarded by mu; the first that happened
}

func (s *partSender) readParts(r *reading) (err error) {
	defer func() { err = errors.Join(err, asReadError(r.file.Close())) }()
	for number := len(s.done) + 1; r.offset < r.entry.Size; number++ {
		if s.failed() != nil {
			return nil // wait will tell
		}
		buf, err := s.buffer(s.cfg.PartSize)
		if err != nil {
			return err
		}
		n, crc, err := r.fill(s.ctx, buf)
		if err != nil {
			s.giveBack(buf)
			return asReadError(err)
		}
		s.options.Progress.Read.Add(int64(n))
		part := journal.Part{FileCRC64: r.crc}
		part.Number, part.CRC64 = number, crc
		seam := sha256.Sum256(buf[max(0, n-seamBytes):n])
		part.Seam = seam[:]
		var err1, err2, err3 error
		part.SHA256State, err1 = state(r.sum)
		part.FingerprintState, err2 = state(r.fingerprint())
		if r.sm3 != nil {
			part.SM3State, err3 = state(r.sm3)
		}
		if err := errors.Join(err1, err2, err3); err != nil {
			s.giveBack(buf)
			return err
		}
		s.wg.Go(func() {
			defer s.giveBack(buf)
			s.note(part.Number, s.sendPart(part, buf[:n]))
		})
	}
	return asReadError(r.ended())
}

func (s *partSender) sendPart(p journal.Part, data []byte) error {
	var kept storage.Part
	err := s.withStore(s.ctx, func() (err error) {
		kept, err = s.vault.PutPart(s.ctx, s.file.Upload, p.Number, data, p.CRC64)
		return err
	})
	if err != nil {
		return err
	}
	p.Part = kept
	s.mu.Lock()
	for len(s.done) < p.Number {
		s.done = append(s.done, storage.Part{})
	}
	s.done[p.Number-1] = p.Part
	s.mu.Unlock()
	return s.journal.SavePart(s.ctx, s.file.ID, p)
}

func (s *partSender) note(number int, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("part %d of %q: %w", number, s.file.Entry.Path, err)
	}
}

func (s *partSender) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *partSender) wait() error {
	s.wg.Wait()
	return s.failed()
}

func (c *copier) complete(f *journal.File, parts []storage.Part) error {
	var o storage.Object
	u := f.Upload
	u.Key = f.Object.Key
	err := c.withStore(c.ctx, func() (err error) {
		o, err = c.vault.Complete(c.ctx, u, parts, f.Entry.Size, f.CRC64)
		return err
	})
	if errors.Is(err, storage.ErrTaken) || errors.Is(err, storage.ErrNotFound) {
		return c.tryAgain(c.ctx, f, lostParts, "the store can't put its parts together: "+err.Error(), errors.Is(err, storage.ErrTaken))
	}
	return c.stored(f, o, err)
}
