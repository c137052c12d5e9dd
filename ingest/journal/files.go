package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const fileColumns = `session, path, kind, size, mod_time, note, state, reason, sha256, fingerprint,
	key, version, etag, checksum_alg, checksum, retain_until, stored_at, verified_at, verification, origin, upload, upload_until, crc64`

// found is how many of the values are of the inventory and never change.
const found = 5

func (f *File) values() []any {
	return []any{
		f.Session, []byte(f.Entry.Path), f.Entry.Kind, f.Entry.Size, formatTime(f.Entry.ModTime), f.Entry.Note, f.State, f.Reason, f.SHA256, f.Fingerprint,
		f.Object.Key, f.Object.VersionID, f.Object.ETag, f.Object.Checksum.Algorithm, f.Object.Checksum.Value, formatTime(f.Object.RetainUntil),
		formatTime(f.StoredAt), formatTime(f.VerifiedAt), f.Verification, f.Origin, f.Upload.ID, formatTime(f.Upload.RetainUntil), int64(f.CRC64),
	}
}

// AddFiles writes the inventory of a session in one transaction and gives each
// file its ID.
func (j *Journal) AddFiles(ctx context.Context, files []*File) error {
	return j.write(ctx, func(tx *sql.Tx) error { return addFiles(tx, files) })
}

func addFiles(tx *sql.Tx, files []*File) error {
	insert, err := tx.Prepare("INSERT INTO files (" + fileColumns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")
	if err != nil {
		return err
	}
	defer func() { _ = insert.Close() }() // ends with the transaction
	for _, f := range files {
		res, err := insert.Exec(f.values()...)
		if err != nil {
			return fmt.Errorf("file %q: %w", f.Entry.Path, err)
		}
		if f.ID, err = res.LastInsertId(); err != nil {
			return err
		}
	}
	return nil
}

// SaveFile writes what has become true of a file, but not what the inventory found
// of it: see Relist. When nothing of it is on the way any more, its parts are
// forgotten.
func (j *Journal) SaveFile(ctx context.Context, f *File) error { return j.saveFile(ctx, f, false) }

// Relist is SaveFile for a path that has come back in another form: its kind, size
// and time are written too.
func (j *Journal) Relist(ctx context.Context, f *File) error { return j.saveFile(ctx, f, true) }

func (j *Journal) saveFile(ctx context.Context, f *File, relist bool) error {
	saved := *f
	return j.write(ctx, func(tx *sql.Tx) error {
		if relist {
			if _, err := tx.Exec("UPDATE files SET kind=?, size=?, mod_time=? WHERE id=?",
				saved.Entry.Kind, saved.Entry.Size, formatTime(saved.Entry.ModTime), saved.ID); err != nil {
				return fmt.Errorf("file %q: %w", saved.Entry.Path, err)
			}
		}
		_, err := j.ready.exec(tx, saveFile, append(saved.values()[found:], saved.ID)...)
		if err != nil {
			return fmt.Errorf("file %q: %w", saved.Entry.Path, err)
		}
		if err := saveSM3(tx, &saved); err != nil {
			return err
		}
		if saved.State != Uploading && saved.State != Completing {
			_, err = j.ready.exec(tx, forgetParts, saved.ID)
		}
		return err
	})
}

// SavePart writes that a part is durable in the store.
func (j *Journal) SavePart(ctx context.Context, file int64, p Part) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := j.ready.exec(tx, savePart, file, p.Number, p.Size, p.ETag, int64(p.CRC64), int64(p.FileCRC64), packStates(p), p.FingerprintState, p.Seam)
		return err
	})
}

// Parts gives the durable parts of a file in order.
func (j *Journal) Parts(ctx context.Context, file int64) (_ []Part, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT number, size, etag, crc64, file_crc64, sha256_state, fingerprint_state, seam FROM parts WHERE file = ? ORDER BY number", file)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var parts []Part
	for rows.Next() {
		var p Part
		var crc, fileCRC int64
		var states []byte
		if err := rows.Scan(&p.Number, &p.Size, &p.ETag, &crc, &fileCRC, &states, &p.FingerprintState, &p.Seam); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if err := p.unpackStates(states); err != nil {
			return nil, fmt.Errorf("journal: file %d: %w", file, err)
		}
		p.CRC64, p.FileCRC64 = uint64(crc), uint64(fileCRC)
		parts = append(parts, p)
	}
	return parts, rows.Err()
}

// Files gives the inventory of a session in the order in which it was taken.
func (j *Journal) Files(ctx context.Context, session string) ([]*File, error) {
	return j.files(ctx, "WHERE session = ? ORDER BY id", session)
}

// File gives one path of a session's inventory, or ErrNotFound.
func (j *Journal) File(ctx context.Context, session string, id int64) (*File, error) {
	all, err := j.files(ctx, "WHERE id = ? AND session = ?", id, session)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("file %d of session %s: %w", id, session, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// maxKnown bounds how many earlier forms of a file are looked at.
const maxKnown = 16

// KnowsAny says whether earlier sessions than this one have stored and verified
// anything of the recorder: whether KnownFiles is worth asking at all.
func (j *Journal) KnowsAny(ctx context.Context, recorder, session string) (known bool, err error) {
	err = j.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sessions s JOIN files f ON f.session = s.id
		WHERE s.recorder = ? AND s.id != ? AND f.state = ?)`, recorder, session, Verified).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	return known, nil
}

// KnownFiles finds the files, the latest first, that earlier sessions stored and
// verified from the same recorder under the same path, with the same size and
// time. An empty recorder is an unknown one. What has been found corrupt since is
// not among them: as long as the recorder has the file, it is a chance to mend it.
func (j *Journal) KnownFiles(ctx context.Context, recorder, path string, size int64, modTime time.Time) ([]*File, error) {
	return scanFiles(j.known.QueryContext(ctx, []byte(path), size, formatTime(modTime), Verified, recorder, maxKnown))
}

const knownFiles = "SELECT id, " + fileColumns + ` FROM files WHERE path = ? AND size = ? AND mod_time = ? AND kind = 'file' AND state = ?
		AND session IN (SELECT id FROM sessions WHERE recorder = ?)
		AND NOT EXISTS (SELECT 1 FROM quarantined q WHERE q.key = files.key AND q.version = files.version) ORDER BY id DESC LIMIT ?`

func (j *Journal) files(ctx context.Context, where string, args ...any) ([]*File, error) {
	return scanFiles(j.db.QueryContext(ctx, "SELECT id, "+fileColumns+" FROM files "+where, args...))
}

func scanFiles(rows *sql.Rows, queryErr error) (_ []*File, err error) {
	if queryErr != nil {
		return nil, fmt.Errorf("journal: %w", queryErr)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []*File
	for rows.Next() {
		f := &File{}
		var path []byte
		var modTime, until, stored, verified, uploadUntil string
		var crc int64
		if err := rows.Scan(&f.ID, &f.Session, &path, &f.Entry.Kind, &f.Entry.Size, &modTime, &f.Entry.Note, &f.State, &f.Reason, &f.SHA256, &f.Fingerprint,
			&f.Object.Key, &f.Object.VersionID, &f.Object.ETag, &f.Object.Checksum.Algorithm, &f.Object.Checksum.Value, &until,
			&stored, &verified, &f.Verification, &f.Origin, &f.Upload.ID, &uploadUntil, &crc); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		f.Entry.Path, f.CRC64, f.Upload.Key = string(path), uint64(crc), f.Object.Key
		f.Object.Size = f.Entry.Size
		if err := errors.Join(setTime(&f.Entry.ModTime, modTime), setTime(&f.Object.RetainUntil, until), setTime(&f.StoredAt, stored),
			setTime(&f.VerifiedAt, verified), setTime(&f.Upload.RetainUntil, uploadUntil)); err != nil {
			return nil, fmt.Errorf("journal: file %q: %w", f.Entry.Path, err)
		}
		all = append(all, f)
	}
	return all, rows.Err()
}
