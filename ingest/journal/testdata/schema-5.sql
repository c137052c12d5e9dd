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
	checksums_sig    BLOB,          -- only while sealing
	bucket           TEXT NOT NULL DEFAULT '',   -- id of the bucket that it lies in; empty: unknown
	permanent        INTEGER NOT NULL DEFAULT 0, -- 1: kept permanently (永久保存)
	disposed_at      TEXT NOT NULL DEFAULT ''    -- when its footage was given up for deletion (到期销毁)
) STRICT;
CREATE INDEX sessions_by_recorder ON sessions (recorder, docked_at);
-- For searches by people: see Find.
CREATE INDEX sessions_by_day ON sessions (docked_at, id);
CREATE INDEX sessions_by_officer ON sessions (officer, docked_at, id);
CREATE INDEX sessions_by_state ON sessions (state, docked_at, id);

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
CREATE INDEX files_sizes ON files (session, kind, size); -- number and bytes without the rows
CREATE INDEX files_by_origin ON files (origin) WHERE origin != '';

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

-- What sessions are marked with; a rule of the retention file can ask for it.
CREATE TABLE tags (
	session  TEXT NOT NULL REFERENCES sessions (id),
	tag      TEXT NOT NULL,
	added_at TEXT NOT NULL,
	added_by TEXT NOT NULL,
	PRIMARY KEY (session, tag)
) STRICT, WITHOUT ROWID;

-- Holds (保全). state: setting, held, asked, releasing, released. All but the last
-- keep footage.
CREATE TABLE holds (
	id             TEXT PRIMARY KEY,
	state          TEXT NOT NULL,
	case_no        TEXT NOT NULL,
	reason         TEXT NOT NULL,
	asked_for      TEXT NOT NULL, -- the query, in words; empty: sessions were named
	added_at       TEXT NOT NULL,
	added_by       TEXT NOT NULL,
	release_asked_at TEXT NOT NULL, -- by the first of two persons
	release_asked_by TEXT NOT NULL,
	released_at    TEXT NOT NULL,
	released_by    TEXT NOT NULL,
	release_reason TEXT NOT NULL
) STRICT;

-- What a hold keeps.
CREATE TABLE held (
	hold    TEXT NOT NULL REFERENCES holds (id),
	session TEXT NOT NULL REFERENCES sessions (id),
	path    BLOB NOT NULL, -- of one recording; empty: all of the session
	PRIMARY KEY (hold, session, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX held_by_session ON held (session);

-- Plans of disposal (到期销毁). state: open, applying, applied, void.
CREATE TABLE plans (
	id         TEXT PRIMARY KEY,
	state      TEXT NOT NULL,
	made_at    TEXT NOT NULL,
	made_by    TEXT NOT NULL,
	body       BLOB NOT NULL, -- JSON, to the byte that was shown
	asked_at   TEXT NOT NULL, -- by the first of two persons
	asked_by   TEXT NOT NULL,
	applied_at TEXT NOT NULL,
	applied_by TEXT NOT NULL
) STRICT;

-- Accounts of the console. They are in no bucket: after a loss they are made anew.
CREATE TABLE users (
	name       TEXT PRIMARY KEY, -- an id, never a person's name
	role       TEXT NOT NULL,
	officer    TEXT NOT NULL,    -- id of the officer whose sessions it may see; empty: none
	hash       TEXT NOT NULL,    -- of its password: argon2id, as a PHC string
	disabled   INTEGER NOT NULL, -- 1: it can't be used any more
	made_at    TEXT NOT NULL,
	changed_at TEXT NOT NULL     -- of password or use: logins from before count no more
) STRICT;
