package journal

import (
	"database/sql"
	"fmt"
)

// The statements that run for every file. They are made ready once: to read their
// text each time would cost more than to run them.
const (
	beginChange = "SAVEPOINT change"
	endChange   = "RELEASE change"
	undoChange  = "ROLLBACK TO change"
	noteSeen    = "INSERT INTO meta (name, value) VALUES ('last_seen', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
	// What the inventory found of a path stays; to write it again would touch the
	// indexes.
	saveFile = `UPDATE files SET note=?, state=?, reason=?, sha256=?, fingerprint=?,
		key=?, version=?, etag=?, checksum_alg=?, checksum=?, retain_until=?, stored_at=?, verified_at=?, verification=?, origin=?,
		upload=?, upload_until=?, crc64=? WHERE id=?`
	forgetParts = "DELETE FROM parts WHERE file = ?"
	savePart    = "INSERT OR REPLACE INTO parts (file, number, size, etag, crc64, file_crc64, sha256_state, fingerprint_state, seam) VALUES (?,?,?,?,?,?,?,?,?)"
)

// statements are those of the one connection that writes, by their text. They are
// used by commitLoop alone and end with the connection.
type statements map[string]*sql.Stmt

func prepare(writer *sql.DB) (statements, error) {
	ready := statements{}
	for _, text := range []string{beginChange, endChange, undoChange, noteSeen, saveFile, forgetParts, savePart} {
		s, err := writer.Prepare(text)
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", text, err)
		}
		ready[text] = s
	}
	return ready, nil
}

// exec runs one of them in a transaction.
func (s statements) exec(tx *sql.Tx, text string, args ...any) (sql.Result, error) {
	return tx.Stmt(s[text]).Exec(args...)
}
