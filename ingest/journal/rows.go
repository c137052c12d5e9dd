package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
)

// SessionState says what is durable of a session.
type SessionState string

// The states of a session.
const (
	// StateOpen: its work is not done. It goes on when the recorder is there.
	StateOpen SessionState = "open"
	// StateSealing: every file has its result and the manifest is written here; it
	// remains to be put into the store, for which no recorder is needed.
	StateSealing SessionState = "sealing"
	// StateSealed: every file is stored and verified, the manifest too.
	StateSealed SessionState = "sealed"
	// StateFailed: ended, with a manifest, but not every file is stored.
	StateFailed SessionState = "failed"
)

// Session is one docking.
type Session struct {
	ID           string
	State        SessionState
	Recorder     string // serial; empty: unknown
	Officer      string // id; empty: unknown
	Slot         string
	Identity     device.Identity
	Clock        device.ClockReading
	Health       device.Health
	Condition    Condition
	Prefix       string // of its keys in the store, ends with a slash
	Verification string
	DockedAt     time.Time
	EndedAt      time.Time
	RetainUntil  time.Time
	Reason       string
	Manifest     ManifestRef
	Bucket       string // id of the bucket that it lies in; empty: unknown
	// EarlyRemovals is how often the recorder was taken before it was safe; nil: nobody
	// has counted. SaveSession writes it of a new session only: see RemovedEarly.
	EarlyRemovals *int

	// What SaveSession leaves as it is: see Lengthened and Disposed.

	Permanent  bool      // kept permanently (永久保存)
	DisposedAt time.Time // when its footage was given up for deletion; zero: it was not
}

// Condition is what was made of a recorder's clock and health: the judgement, and
// what was done. Its first readings stay in Session, as they were.
type Condition struct {
	// Bound is what the footage tells of a clock that could not be asked; nil:
	// nothing.
	Bound *device.ClockReading `json:"clock_bound,omitempty"`
	// Drift since the recorder's last docking; nil: not known.
	Drift *manifest.Drift `json:"clock_drift,omitempty"`
	// Set is what was done to the clock; nil: nothing.
	Set *device.ClockSetting `json:"clock_set,omitempty"`
	// NotSet says why the clock was not set.
	NotSet string `json:"clock_not_set,omitempty"`
	// Verdict is that of the first reading, or of the bound where there is none.
	Verdict device.ClockVerdict `json:"clock_verdict,omitempty"`
	// Station is the station's own clock at the reading.
	Station *device.StationClock `json:"station_clock,omitempty"`
	// PreUse is the check before use; nil: the session has not ended well.
	PreUse *device.PreUseCheckup `json:"preuse,omitempty"`
}

// ManifestRef says which object is the manifest of an ended session.
type ManifestRef struct {
	Key, VersionID, SHA256 string
}

// FileState says what is durable of a file.
type FileState string

// The states of a path. The last four are good ends, the three before them bad.
const (
	Pending    FileState = "pending"    // listed
	Uploading  FileState = "uploading"  // parts of it are in the store
	Completing FileState = "completing" // all parts are; digests are final
	Stored     FileState = "stored"     // confirmed by the store, not yet verified
	Unreadable FileState = "unreadable" // could not be read or was not there any more
	Changed    FileState = "changed"    // was not the same from first to last byte
	Corrupt    FileState = "corrupt"    // the store gave back other bytes
	Verified   FileState = "verified"
	Identical  FileState = "identical" // an earlier session stored and verified it
	Noted      FileState = "noted"     // a directory, link or special: no bytes to store
)

// Ended reports whether nothing remains to be done about a path.
func (s FileState) Ended() bool { return s.Good() || s.Bad() }

// Good reports whether no byte of the path could be lost with the recorder.
func (s FileState) Good() bool {
	return s == Verified || s == Identical || s == Noted
}

// Bad reports whether the path's bytes are only on the recorder.
func (s FileState) Bad() bool { return s == Unreadable || s == Changed || s == Corrupt }

// File is one path of a session's inventory.
type File struct {
	ID      int64
	Session string
	Entry   device.Entry // without Handle and Err
	State   FileState
	Reason  string
	SHA256  string
	// SM3 is of the bytes of SHA256; empty: not computed. It is written by SaveFile and
	// read by SM3s alone.
	SM3          string
	Fingerprint  string
	Object       storage.Object
	StoredAt     time.Time
	VerifiedAt   time.Time
	Verification string
	Origin       string
	Upload       storage.Upload // its key is Object.Key
	CRC64        uint64
}

// Part is a durable part of a file with the states of the digests at its end.
type Part struct {
	storage.Part
	FileCRC64        uint64
	SHA256State      []byte
	SM3State         []byte // nil: SM3 was not asked for
	FingerprintState []byte
	Seam             []byte
}

// Recorder is an entry of the register.
type Recorder struct {
	Serial  string
	Officer string // id; empty: not assigned
	Note    string
	AddedAt time.Time
	Profile string // its make; empty: as it matches
	Unit    string // 部门; empty: not told
}

const sessionColumns = `id, state, recorder, officer, slot, identity, clock, health, condition, prefix, verification,
	docked_at, ended_at, retain_until, reason, manifest_key, manifest_version, manifest_sha256, bucket, early_removals`

// SaveSession writes a session, a new one or one that changed.
func (j *Journal) SaveSession(ctx context.Context, s Session) error {
	return j.write(ctx, func(tx *sql.Tx) error { return saveSession(tx, s) })
}

func saveSession(tx *sql.Tx, s Session) error {
	identity, err1 := json.Marshal(s.Identity)
	clock, err2 := json.Marshal(s.Clock)
	health, err3 := json.Marshal(s.Health)
	condition, err4 := json.Marshal(s.Condition)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO sessions (`+sessionColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
		ON CONFLICT (id) DO UPDATE SET state=excluded.state, officer=excluded.officer, slot=excluded.slot, identity=excluded.identity,
		clock=excluded.clock, health=excluded.health, condition=excluded.condition, ended_at=excluded.ended_at, retain_until=excluded.retain_until, reason=excluded.reason,
		manifest_key=excluded.manifest_key, manifest_version=excluded.manifest_version, manifest_sha256=excluded.manifest_sha256,
		bucket=excluded.bucket`,
		s.ID, s.State, s.Recorder, s.Officer, s.Slot, string(identity), string(clock), string(health), string(condition), s.Prefix, s.Verification,
		formatTime(s.DockedAt), formatTime(s.EndedAt), formatTime(s.RetainUntil), s.Reason,
		s.Manifest.Key, s.Manifest.VersionID, s.Manifest.SHA256, s.Bucket, s.EarlyRemovals)
	if err != nil {
		return fmt.Errorf("session %s: %w", s.ID, err)
	}
	return nil
}

// RemovedEarly counts that the recorder of a session was taken before it was safe. Of a
// session that nobody has counted from its beginning the number stays unknown.
func (j *Journal) RemovedEarly(ctx context.Context, session string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE sessions SET early_removals = early_removals + 1 WHERE id = ?", session)
		return err
	})
}

// Documents are what a session that is being sealed puts into the store, to the
// byte: a second try after a crash must meet the same object.
type Documents struct {
	Manifest     []byte
	Checksums    []byte
	ManifestSig  []byte // SSHSIG, armored
	ChecksumsSig []byte
	SM3Sums      []byte // nil: there is none
	SM3SumsSig   []byte
}

// StartSealing makes the documents durable together with the session.
func (j *Journal) StartSealing(ctx context.Context, s Session, d Documents) error {
	s.State = StateSealing
	return j.write(ctx, func(tx *sql.Tx) error {
		if err := saveSession(tx, s); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE sessions SET manifest = ?, checksums = ?, manifest_sig = ?, checksums_sig = ? WHERE id = ?",
			d.Manifest, d.Checksums, d.ManifestSig, d.ChecksumsSig, s.ID)
		return errors.Join(err, saveSM3Sums(tx, s.ID, d))
	})
}

// Reopen makes a session that was being sealed an open one again, for the reason that
// it has. Its documents are dropped.
func (j *Journal) Reopen(ctx context.Context, s Session) error {
	s.State, s.EndedAt, s.RetainUntil = StateOpen, time.Time{}, time.Time{}
	return j.endSealing(ctx, s)
}

// FinishSealing ends a session and lets go of the documents, now in the store.
func (j *Journal) FinishSealing(ctx context.Context, s Session) error { return j.endSealing(ctx, s) }

func (j *Journal) endSealing(ctx context.Context, s Session) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		if err := saveSession(tx, s); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE sessions SET manifest = NULL, checksums = NULL, manifest_sig = NULL, checksums_sig = NULL WHERE id = ?", s.ID)
		return errors.Join(err, dropSM3Sums(tx, s.ID))
	})
}

// Documents gives what StartSealing kept.
func (j *Journal) Documents(ctx context.Context, session string) (Documents, error) {
	var d Documents
	err := j.db.QueryRowContext(ctx, `SELECT manifest, checksums, manifest_sig, checksums_sig,
		(SELECT value FROM meta WHERE name = ? || id), (SELECT value FROM meta WHERE name = ? || id) FROM sessions WHERE id = ?`, sm3Sums, sm3SumsOf, session).
		Scan(&d.Manifest, &d.Checksums, &d.ManifestSig, &d.ChecksumsSig, &d.SM3Sums, &d.SM3SumsSig)
	if err != nil {
		return d, fmt.Errorf("journal: documents of session %s: %w", session, err)
	}
	return d, nil
}

// Session gives one session, or ErrNotFound.
func (j *Journal) Session(ctx context.Context, id string) (Session, error) {
	all, err := j.sessions(ctx, "WHERE id = ?", id)
	if err == nil && len(all) == 0 {
		return Session{}, fmt.Errorf("session %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Session{}, err
	}
	return all[0], nil
}

// Sessions gives all sessions, the latest first.
func (j *Journal) Sessions(ctx context.Context) ([]Session, error) {
	return j.sessions(ctx, "ORDER BY docked_at DESC, id DESC")
}

// Unended gives the sessions of one recorder, empty for an unknown one, whose
// work is not done, the latest first.
func (j *Journal) Unended(ctx context.Context, recorder string) ([]Session, error) {
	return j.sessions(ctx, "WHERE recorder = ? AND state = ? ORDER BY docked_at DESC, id DESC", recorder, StateOpen)
}

// Last gives the latest session of a recorder that has ended, or nil. It tells
// what was known of the recorder's clock then.
func (j *Journal) Last(ctx context.Context, recorder string) (*Session, error) {
	if recorder == "" {
		return nil, nil
	}
	all, err := j.sessions(ctx, "WHERE recorder = ? AND state IN (?, ?) ORDER BY docked_at DESC, id DESC LIMIT 1", recorder, StateSealed, StateFailed)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// DropSession forgets an open session with nothing in the store.
func (j *Journal) DropSession(ctx context.Context, id string) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err1 := tx.Exec("DELETE FROM files WHERE session = ?", id)
		_, err2 := tx.Exec("DELETE FROM sessions WHERE id = ? AND state = ?", id, StateOpen)
		return errors.Join(err1, err2)
	})
}

// HalfSealed gives the sessions whose documents have yet to reach the store.
func (j *Journal) HalfSealed(ctx context.Context) ([]Session, error) {
	return j.sessions(ctx, "WHERE state = ? ORDER BY docked_at, id", StateSealing)
}

func (j *Journal) sessions(ctx context.Context, where string, args ...any) (_ []Session, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT "+sessionColumns+", permanent, disposed_at FROM sessions "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []Session
	for rows.Next() {
		var s Session
		var identity, clock, health, condition, docked, ended, until, disposed string
		if err := rows.Scan(&s.ID, &s.State, &s.Recorder, &s.Officer, &s.Slot, &identity, &clock, &health, &condition, &s.Prefix, &s.Verification,
			&docked, &ended, &until, &s.Reason, &s.Manifest.Key, &s.Manifest.VersionID, &s.Manifest.SHA256,
			&s.Bucket, &s.EarlyRemovals, &s.Permanent, &disposed); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if err := errors.Join(
			json.Unmarshal([]byte(identity), &s.Identity), json.Unmarshal([]byte(clock), &s.Clock), json.Unmarshal([]byte(health), &s.Health),
			json.Unmarshal([]byte(condition), &s.Condition),
			setTime(&s.DockedAt, docked), setTime(&s.EndedAt, ended), setTime(&s.RetainUntil, until),
			setTime(&s.DisposedAt, disposed),
		); err != nil {
			return nil, fmt.Errorf("journal: session %s: %w", s.ID, err)
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000000Z07:00")
}

func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339Nano, s)
}

func setTime(t *time.Time, s string) (err error) {
	*t, err = parseTime(s)
	return err
}

type fileURL struct{ path string }

func (f *fileURL) String() string { return (&url.URL{Path: f.path}).EscapedPath() }
