package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emmansun/gmsm/sm3"
	"golang.org/x/sync/errgroup"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
)

// seal closes the session. What is durable after each step, and what a crash
// there leaves:
//
//  1. Every object of the session is locked until the session's date. Crash: the
//     session is open; the next docking comes here again.
//  2. The documents and the result are in the journal, to the byte. Crash:
//     Prepare goes on with step 3; no recorder is needed any more.
//  3. SHA256SUMS, SM3SUMS if asked for, all signatures and then manifest.json are in
//     the store, locked and read back. Crash: as after 2; the second try meets its own
//     objects.
//  4. The ledger has it. Crash: the second try writes it once more.
//  5. The session is ended in the journal. Crash: it is done.
//  6. The ledger is in the bucket. Crash: the next session brings it there.
func (w *session) seal(ctx context.Context) error {
	if err := w.learnFacts(ctx); err != nil {
		return err
	}
	until, rule := w.decide()
	if err := w.lockUntil(ctx, until); err != nil {
		return err
	}
	var err error
	if w.record.Bucket, err = w.journal.BucketID(ctx, w.vault.Describe()); err != nil {
		return err
	}
	w.record.RetainUntil, w.record.EndedAt = until, w.journal.Now()
	result := journal.StateSealed
	if short := totals(w.files).Shortfall(); short != "" {
		result, w.record.Reason = journal.StateFailed, short
	}
	docs, err := w.documents(ctx, result, rule)
	if err != nil {
		return err
	}
	if err := w.journal.StartSealing(ctx, w.record, docs); err != nil {
		return err
	}
	if err := w.journal.Lengthened(ctx, w.record.ID, until, rule != nil && rule.Permanent); err != nil {
		return err
	}
	done := w.pulse.waiting(forStore)
	ended, err := w.putDocuments(ctx, w.record)
	done()
	if err != nil {
		w.record.State = journal.StateSealing
		return fmt.Errorf("seal the session: %w", err)
	}
	w.record = ended
	return nil
}

// lockUntil locks every object of the session until its date: those of an earlier day,
// when it was cut off, would else be released before the rest, and those of earlier
// sessions, with which its files are identical, before this one's time has come.
func (w *session) lockUntil(ctx context.Context, until time.Time) error {
	defer w.pulse.waiting(forStore)()
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(confirmsAtOnce)
	for _, f := range w.files {
		if !f.State.Good() || f.Object.VersionID == "" || !f.Object.RetainUntil.Before(until) {
			continue
		}
		all.Go(func() error {
			if err := w.withStore(ctx, func() error { return w.vault.Extend(ctx, f.Object.Key, f.Object.VersionID, until) }); err != nil {
				return err
			}
			f.Object.RetainUntil = until
			return w.journal.SaveFile(ctx, f)
		})
	}
	return all.Wait()
}

// documents writes the manifest, SHA256SUMS and, if asked for, SM3SUMS of the session.
// The rule is the one that its lock is by; nil without a policy.
func (w *session) documents(ctx context.Context, result journal.SessionState, rule *manifest.Retention) (journal.Documents, error) {
	r := w.record
	notes, err := w.quarantineNotes(ctx)
	if err != nil {
		return journal.Documents{}, err
	}
	m := manifest.Manifest{
		Schema:   manifest.Schema,
		Software: w.cfg.Software,
		Station: manifest.Station{
			ID: w.cfg.ID, Key: w.evidence.Key.Fingerprint(), Name: w.cfg.Name, Timezone: w.cfg.Location.String(),
			Clock:           r.Condition.Station,
			ClockFellBack:   w.journal.ClockFellBack().Round(time.Millisecond).Seconds(),
			StoreClockAhead: w.vault.StoreAhead().Seconds(),
		},
		Session: manifest.Session{
			ID: r.ID, Result: string(result), Slot: r.Slot, Verification: r.Verification,
			DockedAt: w.local(r.DockedAt), SealedAt: w.local(r.EndedAt), RetainUntil: w.local(r.RetainUntil),
			Retention: rule,
		},
		Recorder: manifest.Recorder{
			Identity: r.Identity, Health: r.Health,
			Clock: r.Clock, ClockVerdict: cmp.Or(r.Condition.Verdict, device.ClockNotKnown), ClockBound: r.Condition.Bound,
			ClockDrift: r.Condition.Drift, ClockSet: r.Condition.Set, ClockNotSet: r.Condition.NotSet,
		},
		Vault:  manifest.Vault{Bucket: w.vault.Bucket(), Prefix: r.Prefix},
		Totals: totals(w.files),
		Files:  make([]manifest.File, len(w.files)),
	}
	var sm3s map[string]string
	if w.cfg.SM3 {
		if sm3s, err = w.journal.SM3s(ctx, r.ID); err != nil {
			return journal.Documents{}, err
		}
	}
	for i, f := range w.files {
		m.Files[i] = w.entry(f)
		if w.cfg.SM3 && m.Files[i].Object != nil {
			if m.Files[i].SM3 = sm3s[f.SHA256]; m.Files[i].SM3 == "" {
				notes[f.ID] = strings.Join(nonEmpty(notes[f.ID], NoSM3), "; ")
			}
		}
		m.Files[i].Note = strings.Join(nonEmpty(m.Files[i].Note, notes[f.ID]), "; ")
	}
	body, err := m.Encode()
	if err != nil {
		return journal.Documents{}, err
	}
	sum := sha256.Sum256(body)
	d := journal.Documents{Manifest: body, Checksums: m.Sums(hex.EncodeToString(sum[:]))}
	var err1, err2, err3 error
	d.ManifestSig, err1 = w.evidence.Key.Sign(manifest.Namespace, d.Manifest)
	d.ChecksumsSig, err2 = w.evidence.Key.Sign(manifest.Namespace, d.Checksums)
	if m.HasSM3() {
		d.SM3Sums = sm3Sums(&m, body)
		d.SM3SumsSig, err3 = w.evidence.Key.Sign(manifest.Namespace, d.SM3Sums)
	}
	return d, errors.Join(err1, err2, err3)
}

// NoSM3 is said of a file whose SM3 should be in the manifest and can't be.
const NoSM3 = "SM3 unknown: the file was not read as a whole since digest.sm3 is set"

// sm3Sums is SM3SUMS of a manifest with this body.
func sm3Sums(m *manifest.Manifest, body []byte) []byte {
	sum := sm3.Sum(body)
	return m.SM3Sums(hex.EncodeToString(sum[:]))
}

func (w *session) entry(f *journal.File) manifest.File {
	e := manifest.File{
		Kind: f.Entry.Kind, Size: f.Entry.Size, Result: string(f.State),
		Reason: f.Reason, Note: f.Entry.Note, IdenticalTo: f.Origin,
	}
	e.SetPath(f.Entry.Path)
	if !f.Entry.ModTime.IsZero() {
		t := w.local(f.Entry.ModTime)
		e.ModTime = &t
	}
	if f.State == journal.Corrupt {
		e.SHA256 = f.SHA256
	}
	if f.Entry.Kind == device.KindFile && f.State.Good() {
		e.SHA256 = f.SHA256
		e.Object = &manifest.Object{
			Key: f.Object.Key, VersionID: f.Object.VersionID, Checksum: f.Object.Checksum,
			RetainUntil: w.local(f.Object.RetainUntil), StoredAt: w.local(f.StoredAt),
			VerifiedAt: w.local(f.VerifiedAt), Verification: f.Verification,
		}
	}
	return e
}

func (s *Station) local(t time.Time) time.Time { return t.In(s.cfg.Location) }

// putDocuments brings the documents of a session from the journal into the
// store and ends the session as its manifest says.
func (s *Station) putDocuments(ctx context.Context, r journal.Session) (journal.Session, error) {
	docs, err := s.journal.Documents(ctx, r.ID)
	if err != nil {
		return r, err
	}
	result, totals, err := manifest.ResultOf(docs.Manifest)
	if err != nil {
		return r, err
	}
	var o storage.Object
	for _, d := range []struct {
		name string
		body []byte
	}{
		{manifest.SumsFileName, docs.Checksums},
		{manifest.SumsFileName + manifest.SigSuffix, docs.ChecksumsSig},
		{manifest.SM3FileName, docs.SM3Sums},
		{manifest.SM3FileName + manifest.SigSuffix, docs.SM3SumsSig},
		{manifest.FileName + manifest.SigSuffix, docs.ManifestSig},
		{manifest.FileName, docs.Manifest},
	} {
		if d.body == nil {
			continue // SM3 was not asked for
		}
		if o, err = s.putDocument(ctx, r.Prefix+d.name, d.body, s.documentsUntil(r)); err != nil {
			return r, err
		}
	}
	sum := sha256.Sum256(docs.Manifest)
	r.State = journal.SessionState(result)
	r.Manifest = journal.ManifestRef{Key: o.Key, VersionID: o.VersionID, SHA256: hex.EncodeToString(sum[:])}
	if err := s.recordSealed(ctx, r, totals); err != nil {
		return r, err
	}
	if err := s.journal.FinishSealing(ctx, r); err != nil {
		return r, err
	}
	s.publish(ctx)
	return r, nil
}

// putDocument stores a document and reads it back, whatever the verification of
// the footage: it is small, and all the rest hangs on it.
func (s *Station) putDocument(ctx context.Context, key string, body []byte, until time.Time) (o storage.Object, err error) {
	sum := sha256.Sum256(body)
	err = s.withStore(ctx, func() error {
		if o, err = s.vault.Create(ctx, key, body, sum, until); err != nil {
			return err
		}
		got, _, err := s.vault.ReadBack(ctx, key, o.VersionID, nil)
		if err == nil && got != hex.EncodeToString(sum[:]) {
			err = fmt.Errorf("read back %s: SHA-256 is %s, %x was sent: %w", key, got, sum, storage.ErrCorrupt)
		}
		return err
	})
	return o, err
}
