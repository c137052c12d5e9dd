package journal_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// made is a closed journal with one session, as it comes from a bucket.
func made(t *testing.T) (dir string, at time.Time) {
	t.Helper()
	dir, at = t.TempDir(), time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	j, err := journal.Open(dir, journal.Own)
	if err == nil {
		err = j.Restore(t.Context(), journal.Restored{
			Session: journal.Session{ID: "s1", State: journal.StateSealed, Recorder: "R1", RetainUntil: at, Permanent: true, DisposedAt: at},
			Files:   []*journal.File{{Session: "s1", Entry: device.Entry{Path: "a\xff.mp4", Kind: device.KindFile, Size: 1, ModTime: at}, State: journal.Verified, SHA256: "aa"}},
			Scrubs:  []journal.Scrub{{Session: "s1", At: at, Objects: 4}},
			Tags:    []journal.Tag{{Session: "s1", Tag: "案件", AddedAt: at, AddedBy: "uid 0"}},
		})
	}
	if err == nil {
		err = errors.Join(j.SawBucket(t.Context(), "store", "id"), j.Saw(t.Context(), at), j.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, at
}

// What another journal has is taken over whole, also by one that was made by the first
// release and has its columns in another order.
func TestAJournalTakesOverAnother(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", "testdata/schema-1.sql"} {
		dir := t.TempDir()
		if first != "" {
			text, err := os.ReadFile(first)
			if err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", filepath.Join(dir, journal.FileName))
			if err == nil {
				_, err = db.Exec(string(text) + "; DELETE FROM parts; DELETE FROM files; DELETE FROM sessions; DELETE FROM recorders; PRAGMA user_version = 1")
			}
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		}
		from, at := made(t)
		j, err := journal.Open(dir, journal.Own)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.TakeOver(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		check := func() {
			t.Helper()
			s, err1 := j.Session(t.Context(), "s1")
			files, err2 := j.Files(t.Context(), "s1")
			tags, err3 := j.Tags(t.Context(), "s1")
			scrub, err4 := j.LastScrub(t.Context(), "s1")
			id, err5 := j.BucketID(t.Context(), "store")
			if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
				t.Fatal(err)
			}
			if !s.Permanent || !s.DisposedAt.Equal(at) || len(files) != 1 || files[0].Entry.Path != "a\xff.mp4" || files[0].SHA256 != "aa" ||
				len(tags) != 1 || scrub == nil || scrub.Objects != 4 || id != "id" || j.Now().Before(at) {
				t.Errorf("%+v, %+v, %+v, %+v, bucket %s, it is %s", s, files, tags, scrub, id, j.Now())
			}
		}
		check()
		// It is its own now, and nothing comes over it.
		if err := j.TakeOver(t.Context(), from); !errors.Is(err, journal.ErrNotEmpty) {
			t.Errorf("taken over twice: %v", err)
		}
		if err := errors.Join(j.SaveSession(t.Context(), journal.Session{ID: "s2"}), j.Close()); err != nil {
			t.Fatal(err)
		}
		if j, err = journal.Open(dir, journal.Own); err != nil {
			t.Fatal(err)
		}
		check()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The first fingerprint that is learned stays.
func TestAFingerprintIsLearnedOnce(t *testing.T) {
	t.Parallel()
	dir, at := made(t)
	j, err := journal.Open(dir, journal.Own)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, f := range []string{"first", "second"} {
		if err := j.LearnFingerprint(t.Context(), 1, f); err != nil {
			t.Fatal(err)
		}
	}
	known, err := j.KnownFiles(t.Context(), "R1", "a\xff.mp4", 1, at)
	if err != nil || len(known) != 1 || known[0].Fingerprint != "first" {
		t.Errorf("%+v, %v", known, err)
	}
}

// What can't be taken over whole is not taken over at all.
func TestATakeOverIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	from, _ := made(t)
	db, err := sql.Open("sqlite", filepath.Join(from, journal.FileName))
	if err == nil {
		_, err = db.Exec("INSERT INTO tags (session, tag, added_at, added_by) VALUES ('nobody', 'x', '', '')")
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.TempDir(), journal.Own)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.TakeOver(t.Context(), from); err == nil {
		t.Error("a tag of no session was taken over")
	}
	sessions, err1 := j.Sessions(t.Context())
	tags, err2 := j.Tags(t.Context(), "")
	if err := errors.Join(err1, err2, j.MustBeEmpty(t.Context())); err != nil || len(sessions)+len(tags) != 0 {
		t.Errorf("%d sessions and %d tags are there: %v", len(sessions), len(tags), err)
	}
}
