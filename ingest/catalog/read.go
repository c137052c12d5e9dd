package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// maxManifest is far above the size of a manifest, in bytes: whoever can write to the
// bucket could have put anything under its name.
const maxManifest = 1 << 30

// session is what was made of one folder.
type session struct {
	folder   *folder
	row      journal.Session // without an ID: it could not be had
	files    []*journal.File
	notes    []string // of the files, as the manifest has them
	problems []Problem
	told     []Problem
}

// believed is a version of a manifest that is the station's.
type believed struct {
	*manifest.Manifest
	ref  journal.ManifestRef
	lock time.Time // its end, as the store shows it
}

// read makes of a folder what the journal had of it. The error says that the store
// could not be asked.
func (w *building) read(ctx context.Context, s *station, f *folder) (*session, error) {
	r := &session{folder: f}
	trouble := Problem{Station: s.id, Session: f.session, Objects: f.objects}
	if len(f.manifests) == 0 {
		trouble.Kind = NoManifest
		trouble.Detail = fmt.Sprintf("footage without manifest, %d objects below %s: the session had not ended, and nothing says what it should have had", f.objects, f.prefix)
		r.problems = append(r.problems, trouble)
		return r, nil
	}
	m, rejected, err := w.believe(ctx, s, f)
	switch {
	case err != nil:
		return nil, err
	case m == nil:
		trouble.Kind, trouble.Detail = BadManifest, strings.Join(rejected, "; ")
		r.problems = append(r.problems, trouble)
		return r, nil
	case len(f.manifests) > 1:
		trouble.Kind = Passed
		trouble.Detail = fmt.Sprintf("of %d versions of %s the one with the id %s is the station's; the others were passed over", len(f.manifests), m.ref.Key, m.ref.VersionID)
		r.told = append(r.told, trouble)
	}
	if err := w.rows(ctx, s, m, r); err != nil {
		return nil, err
	}
	return r, nil
}

// believe finds the manifest that the station has written. Where the ledger has a line
// of it, only the one that this names counts; else there must be but one that the
// station has signed.
func (w *building) believe(ctx context.Context, s *station, f *folder) (found *believed, rejected []string, err error) {
	named := s.told.of(f.session).manifests
	isNamed := func(v storage.Version) bool {
		return slices.ContainsFunc(named, func(o ledger.Object) bool { return o.Version == v.VersionID })
	}
	versions := slices.Clone(f.manifests)
	slices.SortStableFunc(versions, func(a, b storage.Version) int {
		switch {
		case isNamed(a) && !isNamed(b):
			return -1
		case isNamed(b) && !isNamed(a):
			return 1
		}
		return 0
	})
	var signatures [][]byte
	for _, v := range f.signatures {
		if v.Size > maxManifest {
			continue
		}
		sig, err := fetch(ctx, w.Vault, v.Key, v.VersionID)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, nil, err
		}
		signatures = append(signatures, sig)
	}
	for _, v := range versions {
		m, why, err := w.check(ctx, s, f, v, named, signatures)
		switch {
		case err != nil:
			return nil, nil, err
		case m == nil:
			rejected = append(rejected, fmt.Sprintf("%s, version %s: %s", v.Key, v.VersionID, why))
		case len(named) > 0:
			return m, rejected, nil
		case found == nil:
			found = m
		case found.ref.SHA256 != m.ref.SHA256:
			return nil, []string{fmt.Sprintf("the station has signed two manifests, versions %s and %s of %s, and the ledger names neither", found.ref.VersionID, v.VersionID, v.Key)}, nil
		}
	}
	return found, rejected, nil
}

// check looks at one version; why says why it is not the session's manifest.
func (w *building) check(ctx context.Context, s *station, f *folder, v storage.Version, named []ledger.Object, signatures [][]byte) (m *believed, why string, err error) {
	if v.Size > maxManifest {
		return nil, fmt.Sprintf("it has %d bytes: that is no manifest", v.Size), nil
	}
	body, err := fetch(ctx, w.Vault, v.Key, v.VersionID)
	var o storage.Object
	if err == nil {
		o, err = w.Vault.Stat(ctx, v.Key, v.VersionID)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil, "the store lists it and does not have it", nil
	}
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(body)
	ref := journal.ManifestRef{Key: v.Key, VersionID: v.VersionID, SHA256: hex.EncodeToString(sum[:])}
	if len(named) > 0 && !slices.ContainsFunc(named, func(o ledger.Object) bool { return o.Key == ref.Key && o.SHA256 == ref.SHA256 }) {
		return nil, fmt.Sprintf("its SHA-256 is %s, the ledger has %s", ref.SHA256, named[0].SHA256), nil
	}
	why = "it is not signed"
	for _, sig := range signatures {
		signer, err := s.ring.Verify(manifest.Namespace, body, sig, o.StoredAt)
		switch {
		case err != nil:
			why = err.Error()
		case signer.Principal != s.id:
			why = "it was signed by station " + signer.Principal
		default:
			why = ""
		}
		if why == "" {
			break
		}
	}
	if why != "" {
		return nil, why, nil
	}
	read, err := manifest.Decode(body)
	if err != nil {
		return nil, err.Error(), nil //nolint:nilerr // the session is told to be lost, the others go on
	}
	if read.Station.ID != s.id || read.Session.ID != f.session || read.Vault.Prefix != f.prefix {
		return nil, fmt.Sprintf("it is the manifest of station %s, session %s, which lies below %s", read.Station.ID, read.Session.ID, read.Vault.Prefix), nil
	}
	return &believed{read, ref, o.RetainUntil}, "", nil
}

// rows makes the rows of the journal.
func (w *building) rows(ctx context.Context, s *station, m *believed, r *session) error {
	t := s.told.of(m.Session.ID)
	row := journal.Session{
		ID: m.Session.ID, State: journal.SessionState(m.Session.Result),
		Recorder: m.Recorder.Identity.Serial.Value, Officer: m.Recorder.Identity.Officer.Value,
		Slot: m.Session.Slot, Identity: m.Recorder.Identity, Clock: m.Recorder.Clock, Health: m.Recorder.Health,
		Condition: journal.Condition{
			Bound: m.Recorder.ClockBound, Drift: m.Recorder.ClockDrift, Set: m.Recorder.ClockSet, NotSet: m.Recorder.ClockNotSet,
			Verdict: m.Recorder.ClockVerdict, Station: m.Station.Clock, PreUse: t.preUse,
		},
		Prefix: m.Vault.Prefix, Verification: m.Session.Verification,
		DockedAt: m.Session.DockedAt, EndedAt: m.Session.SealedAt, RetainUntil: m.Session.RetainUntil,
		Reason: m.Totals.Shortfall(), Manifest: m.ref, Bucket: w.bucket,
		Permanent:  t.permanent || m.Session.Retention != nil && m.Session.Retention.Permanent,
		DisposedAt: t.disposed,
	}
	if len(t.manifests) > 0 { // the officer of a resumed session is that of its first docking
		row.Officer, row.Reason = t.officer, t.reason
	}
	for _, e := range m.Files {
		f, err := file(row.ID, e, t)
		if err != nil {
			r.problems = append(r.problems, Problem{Kind: BadManifest, Station: s.id, Session: row.ID, Objects: r.folder.objects, Detail: err.Error()})
			return nil //nolint:nilerr // it is the result for this session, and is told
		}
		r.files, r.notes = append(r.files, f), append(r.notes, e.Note)
	}
	if err := w.corrupt(ctx, r, t); err != nil {
		return err
	}
	until, err := w.lockedUntil(ctx, m, row, t)
	if err != nil {
		return err
	}
	if until.After(row.RetainUntil) {
		row.RetainUntil = until
		for _, f := range r.files {
			if f.Object.VersionID != "" && f.State.Good() && until.After(f.Object.RetainUntil) {
				f.Object.RetainUntil = until
			}
		}
	}
	r.row = row
	return nil
}

// file makes the row of one path. Its fingerprint is not known any more.
func file(session string, e manifest.File, t *told) (*journal.File, error) {
	path := e.Path
	if e.PathBase64 != "" {
		raw, err := base64.StdEncoding.DecodeString(e.PathBase64)
		if err != nil {
			return nil, fmt.Errorf("the path of %q: %w", e.Path, err)
		}
		path = string(raw)
	}
	f := &journal.File{
		Session: session, State: journal.FileState(e.Result), Reason: e.Reason, SHA256: e.SHA256, SM3: e.SM3, Origin: e.IdenticalTo,
		Entry: device.Entry{Path: path, Kind: e.Kind, Size: e.Size, Note: noteAlone(e.Note, t)},
	}
	if !f.State.Ended() {
		return nil, fmt.Errorf("%q has the result %q, which this program does not know", e.Path, e.Result)
	}
	if e.ModTime != nil {
		f.Entry.ModTime = *e.ModTime
	}
	if o := e.Object; o != nil {
		f.Object = storage.Object{Key: o.Key, VersionID: o.VersionID, Size: e.Size, Checksum: o.Checksum, RetainUntil: o.RetainUntil}
		f.StoredAt, f.VerifiedAt, f.Verification = o.StoredAt, o.VerifiedAt, o.Verification
	}
	return f, nil
}

// noteAlone is a file's note without what the manifest adds of SM3, and of objects in
// quarantine: the journal has these by themselves.
func noteAlone(note string, t *told) string {
	if rest, ok := strings.CutSuffix(note, ingest.NoSM3); ok {
		note = strings.TrimSuffix(rest, "; ")
	}
	for cut := true; cut; {
		cut = false
		for _, q := range t.quarantined {
			if rest, ok := strings.CutSuffix(note, ingest.QuarantineNote(q)); ok {
				note, cut = strings.TrimSuffix(rest, "; "), true
			}
		}
	}
	return note
}

// quarantinedAs is the index of the file that an object was to be; -1: none of them.
func (r *session) quarantinedAs(q journal.Quarantined) int {
	return slices.IndexFunc(r.notes, func(note string) bool { return strings.Contains(note, ingest.QuarantineNote(q)) })
}

// corrupt gives files that ended as corrupt the object that says so.
func (w *building) corrupt(ctx context.Context, r *session, t *told) error {
	for _, f := range r.files {
		for _, q := range t.quarantined {
			if f.State != journal.Corrupt || !strings.Contains(f.Reason, ingest.InQuarantine(q)) {
				continue
			}
			o, err := w.Vault.Stat(ctx, q.Key, q.Version)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			f.Object = storage.Object{Key: q.Key, VersionID: q.Version, Size: f.Entry.Size, RetainUntil: o.RetainUntil}
		}
	}
	return nil
}

// lockedUntil is until when all of a session is locked: as its manifest and the ledger
// say, or longer where the store shows it of every object. The documents alone may be
// locked for longer: they are stored later.
func (w *building) lockedUntil(ctx context.Context, m *believed, row journal.Session, t *told) (time.Time, error) {
	known := row.RetainUntil
	if t.until.After(known) {
		known = t.until
	}
	least := m.lock
	if row.DisposedAt.IsZero() && least.Sub(known) >= time.Second {
		for _, f := range m.Files {
			if f.Object == nil {
				continue
			}
			o, err := w.Vault.Stat(ctx, f.Object.Key, f.Object.VersionID)
			if errors.Is(err, storage.ErrNotFound) {
				return known, nil // verification tells it
			}
			if err != nil {
				return known, err
			}
			if o.RetainUntil.Before(least) {
				least = o.RetainUntil
			}
			if least.Sub(known) < time.Second {
				return known, nil
			}
		}
		return least, nil
	}
	return known, nil
}
