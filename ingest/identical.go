package ingest

import (
	"errors"
	"slices"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// isIdentical recognises a file that an earlier session has stored and verified,
// and makes sure that the store still holds it under lock. A recorder that is
// not known by its serial number gets every byte compared: two cards may hold
// files that agree in name, size, time and both ends.
func (c *copier) isIdentical(f *journal.File) (bool, error) {
	candidates, err := c.journal.KnownFiles(c.ctx, c.record.Recorder, f.Entry.Path, f.Entry.Size, f.Entry.ModTime)
	if err != nil || len(candidates) == 0 {
		return false, err
	}
	same, read, note, err := c.compare(f.Entry, candidates)
	if err != nil {
		return false, err
	}
	for _, known := range candidates {
		if !same(known) {
			continue
		}
		there, err := c.stillStored(c.ctx, known)
		if err != nil {
			return false, err
		}
		if there == nil {
			continue
		}
		if known.Fingerprint == "" { // the whole file was compared, and next time need not be
			if err := c.journal.LearnFingerprint(c.ctx, known.ID, read.ends); err != nil {
				return false, err
			}
		}
		f.State, f.SHA256, f.SM3, f.Fingerprint, f.Object = journal.Identical, known.SHA256, read.sm3, read.ends, *there
		f.StoredAt, f.VerifiedAt, f.Verification = known.StoredAt, known.VerifiedAt, known.Verification
		f.Origin, f.Entry.Note = known.Session, note
		p := c.options.Progress
		p.Read.Add(f.Entry.Size)
		p.Verified.Add(f.Entry.Size)
		p.Done.Add(1)
		return true, c.journal.SaveFile(c.ctx, f)
	}
	return false, nil
}

// digests are those of a file that was read to be compared; empty: not reckoned.
type digests struct {
	sha256, sm3 string // of all of it
	ends        string // its fingerprint
}

// compare reads of a file what its identity is judged by, once for all candidates; and
// its SM3, where that is asked for and all of it is read. One that has no fingerprint,
// because the journal was made anew from the bucket, is compared as a whole.
func (c *copier) compare(e device.Entry, candidates []*journal.File) (same func(*journal.File) bool, read digests, note string, err error) {
	whole := slices.ContainsFunc(candidates, func(known *journal.File) bool { return known.Fingerprint == "" })
	if whole || c.cfg.IdenticalFull || c.record.Recorder == "" {
		read, err := c.sumsOfAll(e)
		return func(known *journal.File) bool { return known.SHA256 == read.sha256 }, read,
			"the SHA-256 of the whole file is that of the stored one", err
	}
	ends, err := fingerprintOf(c.ctx, c.recorder, e, &c.session.read)
	return func(known *journal.File) bool { return known.Fingerprint == ends }, digests{ends: ends},
		"size, time and the SHA-256 of the first and last MiB are those of the stored file", asReadError(err)
}

func (c *copier) sumsOfAll(e device.Entry) (digests, error) {
	r, err := startReading(c.ctx, c.recorder, e, c.cfg.SM3, &c.session.read)
	if err != nil {
		return digests{}, asReadError(err)
	}
	buf, err := c.buffer(e.Size)
	if err != nil {
		return digests{}, errors.Join(err, r.file.Close())
	}
	defer c.giveBack(buf)
	for err == nil && r.offset < e.Size {
		_, _, err = r.fill(c.ctx, buf)
	}
	if err == nil {
		err = r.ended()
	}
	if err = errors.Join(err, r.file.Close()); err != nil {
		return digests{}, asReadError(err)
	}
	return digests{hexSum(r.sum), r.sm3Sum(), hexSum(r.fingerprint())}, nil
}
