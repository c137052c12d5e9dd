// Package journal remembers, through any crash, what is durable: sessions, the
// files in them, the parts of a file that the store has confirmed, and the
// register of recorders. It stands beside the flow: a session writes here what
// has become true, never what is being tried, and reads it back after a restart
// to go on where it stopped.
//
// It is one SQLite database per station in WAL mode with synchronous=FULL: a
// write that returned survives a power cut. Any tool that reads SQLite can look
// into it.
package journal

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // pure Go: the daemon needs no C library to keep its memory
)

// FileName is the database within the state directory.
const FileName = "journal.db"

// ErrLocked says that another process of this station owns the journal.
var ErrLocked = errors.New("another ingestd works on this state directory")

// ErrNotFound says that there is no such session.
var ErrNotFound = errors.New("not found in the journal")

//go:embed schema.sql
var schema string

// Access says what a process wants of the journal.
type Access int

// The ways to open a journal.
const (
	// Own is for the one process that ingests; a second one is refused.
	Own Access = iota
	// Share is for commands that look, or that change the register, while a
	// daemon may be at work.
	Share
)

// Journal is safe for concurrent use.
type Journal struct {
	dir    string  // it lies there
	db     *sql.DB // many readers
	writer *sql.DB // one connection, used by commitLoop, and by TakeOver around it
	ready  statements
	known  *sql.Stmt // of KnownFiles
	lock   *os.File
	jobs   chan job
	asked  chan struct{} // see Answers
	done   sync.WaitGroup
	// committing is since when a commit is on its way to the disk, in nanoseconds
	// of the Unix time; 0: none is.
	committing atomic.Int64
	catalog    bool // of a bucket, for reading only

	mu       sync.Mutex
	lastSeen time.Time // guarded by mu; the latest time a commit was made at
}

type job struct {
	write  func(*sql.Tx) error
	result chan error
}

// Open opens the journal in dir and makes it if there is none.
func Open(dir string, access Access) (_ *Journal, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal in %s: %w", dir, err)
	}
	j := &Journal{dir: dir, jobs: make(chan job), asked: make(chan struct{})}
	defer func() {
		if err != nil {
			err = fmt.Errorf("journal in %s: %w", dir, errors.Join(err, j.closeFiles()))
		}
	}()
	if access == Own {
		if j.lock, err = own(dir); err != nil {
			return nil, err
		}
	}
	// Made before SQLite does, which would let others read it.
	made, err := os.OpenFile(filepath.Join(dir, FileName), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = made.Close()
	}
	if err != nil {
		return nil, err
	}
	if j.writer, err = open(dir); err != nil {
		return nil, err
	}
	j.writer.SetMaxOpenConns(1)
	if err := migrate(j.writer); err != nil {
		return nil, err
	}
	if j.ready, err = prepare(j.writer); err != nil {
		return nil, err
	}
	if j.db, err = open(dir); err != nil {
		return nil, err
	}
	if j.known, err = j.db.Prepare(knownFiles); err != nil {
		return nil, err
	}
	if err := errors.Join(j.readLastSeen(), j.readCatalog()); err != nil {
		return nil, err
	}
	if j.catalog && access == Own {
		return nil, ErrCatalog
	}
	j.done.Go(j.commitLoop)
	return j, nil
}

func own(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "ingestd.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, err
	}
	return f, nil
}

func open(dir string) (*sql.DB, error) {
	// An immediate transaction takes the write lock at its start, where waiting
	// for another process is safe.
	dsn := "file:" + (&fileURL{filepath.Join(dir, FileName)}).String() +
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)"
	return sql.Open("sqlite", dsn)
}

const schemaVersion = 6

// upgrades lead from a version to the next one. They only add.
var upgrades = map[int]string{
	1: `ALTER TABLE sessions ADD COLUMN condition TEXT NOT NULL DEFAULT '{}';
		ALTER TABLE recorders ADD COLUMN profile TEXT NOT NULL DEFAULT '';
		CREATE TABLE refused_passwords (digest TEXT PRIMARY KEY, refused_at TEXT NOT NULL) STRICT;
		CREATE TABLE quarantined (key TEXT NOT NULL, version TEXT NOT NULL, session TEXT NOT NULL REFERENCES sessions (id),
			file INTEGER NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (key, version)) STRICT, WITHOUT ROWID;
		CREATE INDEX quarantined_by_session ON quarantined (session);
		CREATE TABLE scrubs (session TEXT NOT NULL REFERENCES sessions (id), scrubbed_at TEXT NOT NULL, objects INTEGER NOT NULL,
			bytes INTEGER NOT NULL, findings INTEGER NOT NULL, PRIMARY KEY (session, scrubbed_at)) STRICT, WITHOUT ROWID;`,
	2: `ALTER TABLE sessions ADD COLUMN manifest_sig BLOB;
		ALTER TABLE sessions ADD COLUMN checksums_sig BLOB;
		ALTER TABLE recorders ADD COLUMN unit TEXT NOT NULL DEFAULT '';`,
	3: `ALTER TABLE sessions ADD COLUMN bucket TEXT NOT NULL DEFAULT '';
		ALTER TABLE sessions ADD COLUMN permanent INTEGER NOT NULL DEFAULT 0;
		ALTER TABLE sessions ADD COLUMN disposed_at TEXT NOT NULL DEFAULT '';
		CREATE INDEX files_by_origin ON files (origin) WHERE origin != '';
		CREATE TABLE tags (session TEXT NOT NULL REFERENCES sessions (id), tag TEXT NOT NULL, added_at TEXT NOT NULL, added_by TEXT NOT NULL,
			PRIMARY KEY (session, tag)) STRICT, WITHOUT ROWID;
		CREATE TABLE holds (id TEXT PRIMARY KEY, state TEXT NOT NULL, case_no TEXT NOT NULL, reason TEXT NOT NULL, asked_for TEXT NOT NULL,
			added_at TEXT NOT NULL, added_by TEXT NOT NULL, release_asked_at TEXT NOT NULL, release_asked_by TEXT NOT NULL,
			released_at TEXT NOT NULL, released_by TEXT NOT NULL, release_reason TEXT NOT NULL) STRICT;
		CREATE TABLE held (hold TEXT NOT NULL REFERENCES holds (id), session TEXT NOT NULL REFERENCES sessions (id), path BLOB NOT NULL,
			PRIMARY KEY (hold, session, path)) STRICT, WITHOUT ROWID;
		CREATE INDEX held_by_session ON held (session);
		CREATE TABLE plans (id TEXT PRIMARY KEY, state TEXT NOT NULL, made_at TEXT NOT NULL, made_by TEXT NOT NULL, body BLOB NOT NULL,
			asked_at TEXT NOT NULL, asked_by TEXT NOT NULL, applied_at TEXT NOT NULL, applied_by TEXT NOT NULL) STRICT;`,
	4: `CREATE TABLE users (name TEXT PRIMARY KEY, role TEXT NOT NULL, officer TEXT NOT NULL, hash TEXT NOT NULL, disabled INTEGER NOT NULL,
			made_at TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT;
		CREATE INDEX sessions_by_day ON sessions (docked_at, id);
		CREATE INDEX sessions_by_officer ON sessions (officer, docked_at, id);
		CREATE INDEX sessions_by_state ON sessions (state, docked_at, id);
		CREATE INDEX files_sizes ON files (session, kind, size);`,
	5: `ALTER TABLE sessions ADD COLUMN early_removals INTEGER;`,
}

// migrate brings a database, new or of an earlier release, up to this version: in
// one transaction, so that a crash leaves the one or the other.
func migrate(db *sql.DB) error {
	var version int
	// Looked at without the write lock: a command that only reads waits for nobody.
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version == schemaVersion {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	if err := bringUp(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func bringUp(tx *sql.Tx) error {
	var version int
	if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version == schemaVersion {
		return nil
	}
	if version > schemaVersion {
		return fmt.Errorf("the database has version %d and this program knows %d: use the ingestd that wrote it", version, schemaVersion)
	}
	changes := schema
	if version > 0 {
		changes = ""
		for ; version < schemaVersion; version++ {
			changes += upgrades[version]
		}
	}
	_, err := tx.Exec(changes + fmt.Sprintf("\nPRAGMA user_version = %d;", schemaVersion))
	return err
}

// Close waits for the last commit and closes the database.
func (j *Journal) Close() error {
	close(j.jobs)
	j.done.Wait()
	return j.closeFiles()
}

func (j *Journal) closeFiles() error {
	var errs []error
	for _, db := range []*sql.DB{j.db, j.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if j.lock != nil {
		errs = append(errs, j.lock.Close())
	}
	return errors.Join(errs...)
}

// Now is the station's best knowledge of the time: the system clock, but never
// earlier than what this journal has seen. A clock that fell back, by a dead
// battery or a hand, can so not shorten a retention that is counted from it.
func (j *Journal) Now() time.Time {
	now := systemTime()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lastSeen.After(now) {
		return j.lastSeen
	}
	return now
}

// ClockFellBack is how far the system clock is behind the latest time that the
// journal has seen; zero where it is not.
func (j *Journal) ClockFellBack() time.Duration { return max(0, j.Now().Sub(systemTime())) }

func (j *Journal) readLastSeen() error {
	var text string
	err := j.db.QueryRow("SELECT value FROM meta WHERE name = 'last_seen'").Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	j.lastSeen, err = parseTime(text)
	return err
}

func (j *Journal) readCatalog() error {
	return j.db.QueryRow("SELECT EXISTS (SELECT 1 FROM meta WHERE name = ?)", catalogName).Scan(&j.catalog)
}

// write runs one change in a transaction and returns when it is on disk. Changes
// that wait at the same time share a transaction, and so one sync of the disk: a
// card with 20,000 small files would else wait for 40,000 of them.
func (j *Journal) write(ctx context.Context, change func(*sql.Tx) error) error {
	if j.catalog {
		return fmt.Errorf("journal: %w", ErrCatalog)
	}
	jb := job{change, make(chan error, 1)}
	select {
	case j.jobs <- jb:
	case <-ctx.Done():
		return ctx.Err()
	}
	// Once handed over, the change will be made; a cancelled caller waits for
	// the answer, or it would not know what is durable.
	if err := <-jb.result; err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Committing is how long the disk has been at the commit that is on its way now;
// zero: there is none.
func (j *Journal) Committing() time.Duration {
	since := j.committing.Load()
	if since == 0 {
		return 0
	}
	return max(1, time.Since(time.Unix(0, since)))
}

// Answers returns nil once the goroutine that makes all commits is between two of them,
// and the cause of ctx's end if it is not by then. It writes nothing: a time that was
// noted only because somebody asked would be one more that retention counts from.
func (j *Journal) Answers(ctx context.Context) error {
	select {
	case j.asked <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (j *Journal) commitLoop() {
	for {
		var first job
		select {
		case <-j.asked:
			continue
		case jb, ok := <-j.jobs:
			if !ok {
				return
			}
			first = jb
		}
		batch := []job{first}
		for more := true; more && len(batch) < 256; {
			select {
			case jb, ok := <-j.jobs:
				if !ok {
					more = false
					break
				}
				batch = append(batch, jb)
			default:
				more = false
			}
		}
		j.commit(batch)
	}
}

// commit makes a batch durable. One change that fails is undone alone: the batch is
// made again then, each change in a savepoint of its own, which costs statements that
// a batch without trouble does not need.
func (j *Journal) commit(batch []job) {
	j.committing.Store(time.Now().UnixNano())
	defer j.committing.Store(0)
	errs := make([]error, len(batch))
	failed := false
	err := j.commitAll(func(tx *sql.Tx) error {
		for _, jb := range batch {
			if err := jb.write(tx); err != nil {
				failed = true
				return err
			}
		}
		return nil
	})
	if failed && len(batch) > 1 {
		err = j.commitAll(func(tx *sql.Tx) error {
			for i, jb := range batch {
				if errs[i] = j.inSavepoint(tx, jb.write); errors.Is(errs[i], errBroken) {
					return errs[i]
				}
			}
			return nil
		})
	}
	for i, jb := range batch {
		if err != nil {
			errs[i] = err // nothing of the batch is durable
		}
		jb.result <- errs[i]
	}
}

// commitAll runs changes in one transaction, which is on disk when it returns nil.
func (j *Journal) commitAll(changes func(*sql.Tx) error) error {
	tx, err := j.writer.Begin()
	if err != nil {
		return err
	}
	seen := j.Now()
	if err := changes(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if _, err := j.ready.exec(tx, noteSeen, formatTime(seen)); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := makeDurable(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	j.mu.Lock()
	j.lastSeen = seen
	j.mu.Unlock()
	return nil
}

var errBroken = errors.New("transaction is broken")

func (j *Journal) inSavepoint(tx *sql.Tx, change func(*sql.Tx) error) error {
	if _, err := j.ready.exec(tx, beginChange); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	err := change(tx)
	if err != nil {
		if _, undo := j.ready.exec(tx, undoChange); undo != nil {
			return fmt.Errorf("%w: %w: %w", errBroken, err, undo)
		}
	}
	if _, release := j.ready.exec(tx, endChange); release != nil {
		return fmt.Errorf("%w: %w", errBroken, release)
	}
	return err
}
