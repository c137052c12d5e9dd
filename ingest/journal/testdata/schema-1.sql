-- The schema of version 1 as it was released, to show that such a journal is brought
-- up to date. It is not to be changed.

-- Times are RFC 3339 in UTC; sizes are bytes; an empty text is "unknown".

CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT;

-- One docking is one session. state: open, sealing, sealed, failed.
CREATE TABLE sessions (
	id               TEXT PRIMARY KEY,
	state            TEXT NOT NULL,
	recorder         TEXT NOT NULL, -- serial
	officer          TEXT NOT NULL, -- id, never a name
	slot             TEXT NOT NULL,
	identity         TEXT NOT NULL, -- JSON
	clock            TEXT NOT NULL, -- JSON
	health           TEXT NOT NULL, -- JSON
	prefix           TEXT NOT NULL, -- of the keys in the store
	verification     TEXT NOT NULL, -- readback, checksum
	docked_at        TEXT NOT NULL,
	ended_at         TEXT NOT NULL,
	retain_until     TEXT NOT NULL,
	reason           TEXT NOT NULL, -- why it failed or was interrupted
	manifest_key     TEXT NOT NULL,
	manifest_version TEXT NOT NULL,
	manifest_sha256  TEXT NOT NULL,
	manifest         BLOB,          -- only while sealing
	checksums        BLOB           -- only while sealing
) STRICT;
CREATE INDEX sessions_by_recorder ON sessions (recorder, docked_at);

-- Every path of a recorder's inventory. state: see FileState.
CREATE TABLE files (
	id           INTEGER PRIMARY KEY,
	session      TEXT NOT NULL REFERENCES sessions (id),
	path         BLOB NOT NULL, -- the exact bytes
	kind         TEXT NOT NULL, -- file, dir, link, special
	size         INTEGER NOT NULL,
	mod_time     TEXT NOT NULL, -- by the recorder's clock
	note         TEXT NOT NULL,
	state        TEXT NOT NULL,
	reason       TEXT NOT NULL,
	sha256       TEXT NOT NULL, -- of the whole file
	fingerprint  TEXT NOT NULL, -- SHA-256 of its first and last MiB
	key          TEXT NOT NULL,
	version      TEXT NOT NULL,
	etag         TEXT NOT NULL,
	checksum_alg TEXT NOT NULL,
	checksum     TEXT NOT NULL,
	retain_until TEXT NOT NULL,
	stored_at    TEXT NOT NULL,
	verified_at  TEXT NOT NULL,
	verification TEXT NOT NULL,
	origin       TEXT NOT NULL, -- the session that stored an identical file
	upload       TEXT NOT NULL, -- id of an upload in parts
	upload_until TEXT NOT NULL,
	crc64        INTEGER NOT NULL
) STRICT;
CREATE INDEX files_by_session ON files (session, id);
CREATE INDEX files_by_path ON files (path, size);

-- Parts that the store has confirmed, with what is needed to go on after them.
CREATE TABLE parts (
	file              INTEGER NOT NULL REFERENCES files (id),
	number            INTEGER NOT NULL,
	size              INTEGER NOT NULL,
	etag              TEXT NOT NULL,
	crc64             INTEGER NOT NULL, -- of the part
	file_crc64        INTEGER NOT NULL, -- of the file up to its end
	sha256_state      BLOB NOT NULL,    -- of the file up to its end
	fingerprint_state BLOB NOT NULL,
	seam              BLOB NOT NULL,    -- SHA-256 of its last bytes
	PRIMARY KEY (file, number)
) STRICT, WITHOUT ROWID;

-- The register of recorders (台账).
CREATE TABLE recorders (
	serial   TEXT PRIMARY KEY,
	officer  TEXT NOT NULL,
	note     TEXT NOT NULL,
	added_at TEXT NOT NULL
) STRICT;

-- Stores whose lock self-test has passed, and when.
CREATE TABLE self_tests (
	store     TEXT PRIMARY KEY,
	passed_at TEXT NOT NULL
) STRICT;
