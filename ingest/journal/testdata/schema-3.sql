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
	condition        TEXT NOT NULL DEFAULT '{}', -- JSON: what was made of clock and health
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
	checksums        BLOB,          -- only while sealing
	manifest_sig     BLOB,          -- only while sealing
	checksums_sig    BLOB           -- only while sealing
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
	added_at TEXT NOT NULL,
	profile  TEXT NOT NULL DEFAULT '', -- its make; empty: as it matches
	unit     TEXT NOT NULL DEFAULT ''  -- the unit (部门) that it belongs to
) STRICT;

-- Passwords that a recorder has refused, as digests, so that none is tried on it
-- twice: some lock themselves up after a few.
CREATE TABLE refused_passwords (
	digest     TEXT PRIMARY KEY, -- SHA-256 of recorder and password
	refused_at TEXT NOT NULL
) STRICT;

-- Stores whose lock self-test has passed, and when.
CREATE TABLE self_tests (
	store     TEXT PRIMARY KEY,
	passed_at TEXT NOT NULL
) STRICT;

-- Objects whose bytes are not those that were sent. They stay under their lock; the
-- file was sent again under another key, or is told to be corrupt.
CREATE TABLE quarantined (
	key     TEXT NOT NULL,
	version TEXT NOT NULL,
	session TEXT NOT NULL REFERENCES sessions (id),
	file    INTEGER NOT NULL, -- id in files; 0: none of the session's own
	reason  TEXT NOT NULL,
	at      TEXT NOT NULL,
	PRIMARY KEY (key, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX quarantined_by_session ON quarantined (session);

-- Proofs that a stored session was read again, and with what result.
CREATE TABLE scrubs (
	session     TEXT NOT NULL REFERENCES sessions (id),
	scrubbed_at TEXT NOT NULL, -- when it had been read to its end
	objects     INTEGER NOT NULL,
	bytes       INTEGER NOT NULL,
	findings    INTEGER NOT NULL, -- 0: all is as it must be
	PRIMARY KEY (session, scrubbed_at)
) STRICT, WITHOUT ROWID;
