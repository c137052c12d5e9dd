package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// Problem is the kind of a finding. The strings are stable.
type Problem string

// What verification can find.
const (
	Missing  Problem = "missing"  // the store does not have it
	Mismatch Problem = "mismatch" // the store has other bytes
	Unlocked Problem = "unlocked" // its lock ends before the manifest says
	Extra    Problem = "extra"    // nobody put it there
	Hidden   Problem = "hidden"   // a delete marker makes it look gone
	Unsigned Problem = "unsigned" // it is not signed by a key of this station
	// Quarantined is an object that was found corrupt when it was stored. It is no
	// finding: it is known, told, and its file was stored again or called corrupt.
	Quarantined Problem = "quarantined"
)

// Finding is one thing that is not as it must be.
type Finding struct {
	Session string  `json:"session"`
	Problem Problem `json:"problem"`
	Key     string  `json:"key"`
	Version string  `json:"version_id"`
	Detail  string  `json:"detail"`
}

// Verification is the result of looking at stored sessions again.
type Verification struct {
	Sessions int   `json:"sessions"`
	Objects  int   `json:"objects"`
	Bytes    int64 `json:"bytes"`
	Open     int   `json:"sessions_not_ended"`
	// Elsewhere is how many sessions lie in another bucket, which the station had before.
	Elsewhere int `json:"sessions_elsewhere"`
	// Disposed is how many sessions were deleted by a plan (到期销毁); their documents
	// are still there.
	Disposed int       `json:"sessions_disposed"`
	Findings []Finding `json:"findings"`
	// Quarantined are the corrupt objects that are known of and wait for their lock
	// to end.
	Quarantined []Finding `json:"quarantined"`
	// ReadTwice is how many objects were right only when they were read once more:
	// something between here and the store damages bytes.
	ReadTwice int `json:"read_twice"`
	// Sample says what was drawn, where not everything was read.
	Sample *Sample `json:"sample,omitempty"`
}

// Verifier re-reads what is stored and compares it with the manifests.
type Verifier struct {
	Vault   *storage.Vault
	Journal *journal.Journal
	Station string
	// Ring holds the keys that may have signed for the station.
	Ring *stationkey.Ring
	// Progress is called with the bytes that were read; it may be nil.
	Progress func(int)

	// readBack reads one version; nil: the vault does.
	readBack func(ctx context.Context, key, version string, progress func(int)) (sum string, size int64, err error)

	result  Verification
	bucket  string          // id of the bucket that is looked at; empty: unknown
	checked map[string]bool // objects that were read, by key and version
	done    map[string]bool // prefixes of the sessions that were verified as a whole
	atWork  map[string]bool // prefixes of sessions that have not ended, or began meanwhile
}

// Sessions verifies the named sessions: every object that their manifests list,
// the manifests themselves, and that nothing else lies beside them.
func (v *Verifier) Sessions(ctx context.Context, ids []string) (Verification, error) {
	if err := v.begin(ctx); err != nil {
		return v.result, err
	}
	for _, id := range ids {
		s, err := v.Journal.Session(ctx, id)
		if err != nil {
			return v.result, err
		}
		if err := v.session(ctx, s); err != nil {
			return v.result, err
		}
		if err := v.unexpected(ctx, s.Prefix); err != nil {
			return v.result, err
		}
	}
	return v.result, nil
}

// All verifies every session of the journal and the station's whole part of the
// bucket.
func (v *Verifier) All(ctx context.Context) (Verification, error) {
	if err := v.begin(ctx); err != nil {
		return v.result, err
	}
	all, err := v.Journal.Sessions(ctx)
	if err != nil {
		return v.result, err
	}
	for _, s := range all {
		if err := v.session(ctx, s); err != nil {
			return v.result, err
		}
	}
	return v.result, v.unexpected(ctx, v.Station+"/")
}

func (v *Verifier) begin(ctx context.Context) (err error) {
	v.result = Verification{Findings: []Finding{}, Quarantined: []Finding{}}
	v.checked, v.done, v.atWork = map[string]bool{}, map[string]bool{}, map[string]bool{}
	v.bucket, err = v.Journal.BucketID(ctx, v.Vault.Describe())
	return err
}

func (v *Verifier) session(ctx context.Context, s journal.Session) error {
	if s.State != journal.StateSealed && s.State != journal.StateFailed {
		v.result.Open++
		v.atWork[s.Prefix] = true
		return v.journalled(ctx, s)
	}
	if v.isElsewhere(s) {
		return nil
	}
	v.result.Sessions++
	v.done[s.Prefix] = true
	m, err := v.manifest(ctx, s)
	if err != nil {
		return err
	}
	if m == nil && s.DisposedAt.IsZero() { // found out; the journal still knows what must be there
		return v.journalled(ctx, s)
	}
	if !s.DisposedAt.IsZero() { // what is left of its footage is not expected any more
		v.result.Disposed++
		return nil
	}
	for _, f := range m.Files {
		if f.Object == nil {
			continue
		}
		if err := v.object(ctx, s.ID, f.Object.Key, f.Object.VersionID, f.SHA256, f.Size, f.Object.RetainUntil); err != nil {
			return err
		}
	}
	return nil
}

// isElsewhere counts a session that lies in another bucket.
func (v *Verifier) isElsewhere(s journal.Session) bool {
	elsewhere := s.Bucket != "" && s.Bucket != v.bucket
	if elsewhere {
		v.result.Elsewhere++
	}
	return elsewhere
}

// journalled checks what the journal says is verified, where there is no
// manifest to go by.
func (v *Verifier) journalled(ctx context.Context, s journal.Session) error {
	files, err := v.Journal.Files(ctx, s.ID)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.State != journal.Verified && f.State != journal.Identical {
			continue
		}
		if err := v.object(ctx, s.ID, f.Object.Key, f.Object.VersionID, f.SHA256, f.Entry.Size, f.Object.RetainUntil); err != nil {
			return err
		}
	}
	return nil
}

// manifest fetches and checks the documents of a session; nil with a finding
// where they can't be trusted.
func (v *Verifier) manifest(ctx context.Context, s journal.Session) (*manifest.Manifest, error) {
	ref := s.Manifest
	body, err := v.fetch(ctx, s.ID, ref.Key, ref.VersionID)
	if err != nil || body == nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	if got := hex.EncodeToString(sum[:]); got != ref.SHA256 {
		v.find(s.ID, Mismatch, ref.Key, ref.VersionID, "SHA-256 is "+got+", the journal has "+ref.SHA256)
		return nil, nil
	}
	m, err := manifest.Decode(body)
	if err != nil {
		v.find(s.ID, Mismatch, ref.Key, ref.VersionID, err.Error())
		return nil, nil
	}
	if err := v.locked(ctx, s.ID, ref.Key, ref.VersionID, m.Session.RetainUntil); err != nil {
		return nil, err
	}
	if err := v.signed(ctx, s.ID, ref.Key, ref.VersionID, body, m.Session.RetainUntil); err != nil {
		return nil, err
	}
	if err := v.sums(ctx, s, manifest.SumsFileName, m.Sums(ref.SHA256), m.Session.RetainUntil); err != nil || !m.HasSM3() {
		return m, err
	}
	return m, v.sums(ctx, s, manifest.SM3FileName, sm3Sums(m, body), m.Session.RetainUntil)
}

// sums checks a list of digests beside a manifest by what that lists.
func (v *Verifier) sums(ctx context.Context, s journal.Session, name string, want []byte, until time.Time) error {
	key := s.Prefix + name
	text, err := v.fetch(ctx, s.ID, key, "")
	if err != nil || text == nil {
		return err
	}
	if !bytes.Equal(text, want) {
		v.find(s.ID, Mismatch, key, "", "it does not list what the manifest lists")
	}
	if err := v.signed(ctx, s.ID, key, "", text, until); err != nil {
		return err
	}
	return v.locked(ctx, s.ID, key, "", until)
}

// Documents verifies what closes a session, not its footage, and gives its manifest;
// nil with findings where it can't be trusted.
func (v *Verifier) Documents(ctx context.Context, s journal.Session) (*manifest.Manifest, []Finding, error) {
	if err := v.begin(ctx); err != nil {
		return nil, nil, err
	}
	m, err := v.manifest(ctx, s)
	return m, v.result.Findings, err
}

// signed checks the signature beside a document, as of when the store took that.
func (v *Verifier) signed(ctx context.Context, session, key, version string, body []byte, until time.Time) error {
	sig := key + manifest.SigSuffix
	armored, err := v.fetch(ctx, session, sig, "")
	if err != nil || armored == nil {
		return err
	}
	o, err := v.Vault.Stat(ctx, key, version)
	if errors.Is(err, storage.ErrNotFound) {
		return nil // that is told
	}
	if err != nil {
		return err
	}
	signer, err := v.Ring.Verify(manifest.Namespace, body, armored, o.StoredAt)
	if err == nil && signer.Principal != v.Station {
		err = fmt.Errorf("the key is of station %s", signer.Principal)
	}
	if err != nil {
		v.find(session, Unsigned, sig, "", err.Error())
	}
	return v.locked(ctx, session, sig, "", until)
}

func (v *Verifier) fetch(ctx context.Context, session, key, version string) ([]byte, error) {
	body, err := v.Vault.Fetch(ctx, key, version)
	if errors.Is(err, storage.ErrNotFound) {
		v.find(session, Missing, key, version, "the store does not have it")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("fetch %s: %w", key, err)
	}
	v.count(len(data))
	v.result.Objects++
	v.checked[key+"\x00"+version] = true
	return data, nil
}

func (v *Verifier) object(ctx context.Context, session, key, version, sum string, size int64, until time.Time) error {
	id := key + "\x00" + version
	if v.checked[id] {
		return nil
	}
	v.checked[id] = true
	if err := v.locked(ctx, session, key, version, until); err != nil {
		return err
	}
	read := v.Vault.ReadBack
	if v.readBack != nil {
		read = v.readBack
	}
	got, n, err := read(ctx, key, version, v.count)
	if err == nil && (got != sum || n != size) { // a bit may have flipped on the way
		if got, n, err = read(ctx, key, version, v.count); err == nil && got == sum && n == size {
			v.result.ReadTwice++
		}
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil // locked has told
	case err != nil:
		return err
	case got != sum || n != size:
		v.find(session, Mismatch, key, version, fmt.Sprintf("%d bytes with SHA-256 %s; the manifest has %d bytes with %s", n, got, size, sum))
	}
	v.result.Objects++
	return nil
}

func (v *Verifier) locked(ctx context.Context, session, key, version string, until time.Time) error {
	o, err := v.Vault.Stat(ctx, key, version)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		v.find(session, Missing, key, version, "the store does not have it")
	case err != nil:
		return err
	case o.RetainUntil.IsZero():
		v.find(session, Unlocked, key, version, "it has no COMPLIANCE lock")
	case o.RetainUntil.Before(until):
		v.find(session, Unlocked, key, version, fmt.Sprintf("locked until %s, the manifest says %s", o.RetainUntil.Format(time.RFC3339), until.Format(time.RFC3339)))
	default:
		v.checked[key+"\x00"+o.VersionID] = true
	}
	return nil
}

// unexpected lists a part of the bucket for what no manifest knows.
func (v *Verifier) unexpected(ctx context.Context, prefix string) error {
	for o, err := range v.Vault.List(ctx, prefix) {
		if err != nil {
			return err
		}
		if v.checked[o.Key+"\x00"+o.VersionID] {
			continue
		}
		if !o.DeleteMarker && (strings.HasPrefix(o.Key, LedgerPrefix(v.Station)+"/") || strings.HasPrefix(o.Key, KeysPrefix(v.Station))) {
			continue // checked by the ledger's own verification, and by every signature
		}
		session, prefix := "", ""
		if parts := strings.SplitN(o.Key, "/", 4); len(parts) == 4 {
			session, prefix = parts[2], strings.Join(parts[:3], "/")+"/"
		}
		if !o.DeleteMarker && session != "" {
			busy, err := v.isAtWork(ctx, session, prefix)
			if err != nil {
				return err
			}
			if busy {
				continue
			}
		}
		if !o.DeleteMarker {
			known, err := v.Journal.IsQuarantined(ctx, o.Key, o.VersionID)
			if err != nil {
				return err
			}
			if known != nil {
				v.result.Quarantined = append(v.result.Quarantined, Finding{known.Session, Quarantined, o.Key, o.VersionID,
					known.At.Format(time.RFC3339) + ": " + known.Reason})
				continue
			}
		}
		if o.DeleteMarker {
			v.find(session, Hidden, o.Key, o.VersionID, "a delete marker makes the object look gone; its versions are still there")
			continue
		}
		v.find(session, Extra, o.Key, o.VersionID, "no manifest of this station lists it")
	}
	return nil
}

// isAtWork: what lies in the folder of a session that has not ended, or that the
// daemon has begun since the journal was read, may be on its way into it.
func (v *Verifier) isAtWork(ctx context.Context, session, prefix string) (bool, error) {
	if v.done[prefix] || v.atWork[prefix] {
		return v.atWork[prefix], nil
	}
	s, err := v.Journal.Session(ctx, session)
	if errors.Is(err, journal.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	v.atWork[prefix] = s.Prefix == prefix
	return v.atWork[prefix], nil
}

func (v *Verifier) find(session string, p Problem, key, version, detail string) {
	v.result.Findings = append(v.result.Findings, Finding{session, p, key, version, detail})
}

func (v *Verifier) count(n int) {
	v.result.Bytes += int64(n)
	if v.Progress != nil {
		v.Progress(n)
	}
}
