package journal

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
)

// SM3 digests (国密, GB/T 32905) are kept in meta, by the SHA-256 of the same bytes: few
// stations ask for them. What has a SHA-256 has one SM3, whichever session, recorder or
// path it came from, so no entry can grow stale.
const (
	sm3Of     = "sm3:"         // behind it the SHA-256, in hex
	sm3Sums   = "sm3sums:"     // behind it a session that is being sealed
	sm3SumsOf = "sm3sums.sig:" // its signature
)

func saveSM3(tx *sql.Tx, f *File) error {
	if f.SM3 == "" || f.SHA256 == "" {
		return nil
	}
	if _, err := tx.Exec("INSERT INTO meta (name, value) VALUES (?,?) ON CONFLICT (name) DO NOTHING", sm3Of+f.SHA256, f.SM3); err != nil {
		return fmt.Errorf("SM3 of file %q: %w", f.Entry.Path, err)
	}
	return nil
}

// SM3s gives the SM3 of the files of a session by their SHA-256, both in hex. A file
// that is not there was never read as a whole with SM3 asked for.
func (j *Journal) SM3s(ctx context.Context, session string) (_ map[string]string, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT f.sha256, m.value FROM files f JOIN meta m ON m.name = ? || f.sha256 WHERE f.session = ?", sm3Of, session)
	if err != nil {
		return nil, fmt.Errorf("journal: SM3 of session %s: %w", session, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	known := map[string]string{}
	for rows.Next() {
		var sha256, sm3 string
		if err := rows.Scan(&sha256, &sm3); err != nil {
			return nil, fmt.Errorf("journal: SM3 of session %s: %w", session, err)
		}
		known[sha256] = sm3
	}
	return known, rows.Err()
}

func saveSM3Sums(tx *sql.Tx, session string, d Documents) error {
	if d.SM3Sums == nil {
		return nil
	}
	_, err := tx.Exec("INSERT OR REPLACE INTO meta (name, value) VALUES (?,?), (?,?)", sm3Sums+session, string(d.SM3Sums), sm3SumsOf+session, string(d.SM3SumsSig))
	return err
}

func dropSM3Sums(tx *sql.Tx, session string) error {
	_, err := tx.Exec("DELETE FROM meta WHERE name IN (?,?)", sm3Sums+session, sm3SumsOf+session)
	return err
}

// bothStates begins the state of the digests of a part in its column where that of SM3
// is with it: then come its length, itself, and the state of SHA-256, which alone
// begins with "sha".
const bothStates = "+sm3"

func packStates(p Part) []byte {
	if p.SM3State == nil {
		return p.SHA256State
	}
	out := binary.BigEndian.AppendUint16([]byte(bothStates), uint16(len(p.SM3State)))
	return append(append(out, p.SM3State...), p.SHA256State...)
}

func (p *Part) unpackStates(column []byte) error {
	rest, both := bytes.CutPrefix(column, []byte(bothStates))
	if !both {
		p.SHA256State = column
		return nil
	}
	if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
		return fmt.Errorf("the digests of part %d are cut off", p.Number)
	}
	end := 2 + int(binary.BigEndian.Uint16(rest))
	p.SM3State, p.SHA256State = rest[2:end], rest[end:]
	return nil
}
