package journal_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BODYWORN_JOURNAL_WRITER"); dir != "" {
		writeForEver(dir)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir, journal.Own)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func aSession(id, recorder string) journal.Session {
	return journal.Session{
		ID: id, State: journal.StateOpen, Recorder: recorder, Slot: "3", Prefix: "S/" + id + "/", Verification: "readback",
		Identity: device.Identity{Serial: device.Fact{Value: recorder, Source: "test"}, Driver: "folder"},
		Clock:    device.ClockReading{Kind: device.ClockUnknown, Method: "none"},
		DockedAt: time.Date(2026, 11, 24, 10, 0, 0, 123456789, time.UTC),
	}
}

func aFile(session, path string) *journal.File {
	return &journal.File{
		Session: session, State: journal.Pending,
		Entry:  device.Entry{Path: path, Kind: device.KindFile, Size: 7, ModTime: time.Date(2026, 11, 24, 9, 0, 0, 2, time.UTC)},
		Object: storage.Object{Key: "S/" + session + "/" + path, Size: 7},
	}
}

func TestWhatIsWrittenComesBack(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	s := aSession("s1", "R1")
	if err := j.SaveSession(ctx, s); err != nil {
		t.Fatal(err)
	}
	f := aFile("s1", "\xff\n weird")
	if err := j.AddFiles(ctx, []*journal.File{f}); err != nil {
		t.Fatal(err)
	}
	f.State, f.SHA256, f.Fingerprint, f.CRC64 = journal.Uploading, "ab", "cd", 1<<63+5
	f.Upload = storage.Upload{Key: f.Object.Key, ID: "up", RetainUntil: time.Date(2027, 5, 25, 0, 0, 0, 0, time.UTC)}
	if err := j.SaveFile(ctx, f); err != nil {
		t.Fatal(err)
	}
	part := journal.Part{Part: storage.Part{Number: 1, Size: 16, ETag: "e", CRC64: 1<<63 + 9}, FileCRC64: 3, SHA256State: []byte("a"), FingerprintState: []byte("b"), Seam: []byte("c")}
	if err := j.SavePart(ctx, f.ID, part); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	j = open(t, dir)
	defer j.Close()
	got, err := j.Session(ctx, "s1")
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("session came back as %+v, %v", got, err)
	}
	files, err := j.Files(ctx, "s1")
	if err != nil || len(files) != 1 || !reflect.DeepEqual(files[0], f) {
		t.Errorf("file came back as %+v, %v; was %+v", files[0], err, f)
	}
	parts, err := j.Parts(ctx, f.ID)
	if err != nil || !reflect.DeepEqual(parts, []journal.Part{part}) {
		t.Errorf("parts came back as %+v, %v", parts, err)
	}
	f.State = journal.Verified
	if err := j.SaveFile(ctx, f); err != nil {
		t.Fatal(err)
	}
	if parts, err := j.Parts(ctx, f.ID); err != nil || len(parts) != 0 {
		t.Errorf("a verified file keeps %d parts, %v", len(parts), err)
	}
	if _, err := j.Session(ctx, "other"); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("an unknown session gives %v", err)
	}
}

func TestKnownFilesAreOfTheSameRecorderAndVerified(t *testing.T) {
	ctx := t.Context()
	j := open(t, t.TempDir())
	defer j.Close()
	for i, c := range []struct {
		recorder string
		state    journal.FileState
	}{{"R1", journal.Verified}, {"R2", journal.Verified}, {"R3", journal.Stored}, {"R4", journal.Changed}, {"", journal.Verified}} {
		s := aSession(fmt.Sprint("s", i), c.recorder)
		f := aFile(s.ID, "a.mp4")
		f.State = c.state
		if err := errors.Join(j.SaveSession(ctx, s), j.AddFiles(ctx, []*journal.File{f})); err != nil {
			t.Fatal(err)
		}
	}
	e := aFile("", "a.mp4").Entry
	for recorder, want := range map[string]string{"R1": "s0", "R2": "s1", "R3": "", "R4": "", "R9": "", "": "s4"} {
		f, err := j.KnownFiles(ctx, recorder, e.Path, e.Size, e.ModTime)
		if err != nil {
			t.Fatal(err)
		}
		if got := sessionOf(f); got != want {
			t.Errorf("recorder %q: known from session %q, want %q", recorder, got, want)
		}
	}
	for what, f := range map[string]device.Entry{
		"size": {Path: e.Path, Size: e.Size + 1, ModTime: e.ModTime},
		"time": {Path: e.Path, Size: e.Size, ModTime: e.ModTime.Add(1)},
		"path": {Path: "A.mp4", Size: e.Size, ModTime: e.ModTime},
	} {
		if got, err := j.KnownFiles(ctx, "R1", f.Path, f.Size, f.ModTime); err != nil || len(got) != 0 {
			t.Errorf("with another %s it is still known: %v, %v", what, got, err)
		}
	}
}

func sessionOf(files []*journal.File) string {
	if len(files) == 0 {
		return ""
	}
	return files[0].Session
}

func TestOneOwnerManyReaders(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	if _, err := journal.Open(dir, journal.Own); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("a second owner gets %v", err)
	}
	other, err := journal.Open(dir, journal.Share)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		other.AddRecorder(ctx, journal.Recorder{Serial: "R1", Officer: "7", AddedAt: time.Now()}),
		j.SaveSession(ctx, aSession("s1", "R1"))); err != nil {
		t.Fatal(err)
	}
	if all, err := j.Recorders(ctx); err != nil || len(all) != 1 || all[0].Officer != "7" {
		t.Errorf("the owner sees %+v, %v", all, err)
	}
	if all, err := other.Sessions(ctx); err != nil || len(all) != 1 {
		t.Errorf("the other sees %+v, %v", all, err)
	}
	if err := errors.Join(other.Close(), j.Close()); err != nil {
		t.Error(err)
	}
	j = open(t, dir) // the lock went with its owner
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func TestOneBadChangeDoesNotTakeOthersWithIt(t *testing.T) {
	ctx := t.Context()
	j := open(t, t.TempDir())
	defer j.Close()
	if err := j.SaveSession(ctx, aSession("s1", "R1")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			session := "s1"
			if i%10 == 0 {
				session = "there is none" // breaks the foreign key
			}
			err := j.AddFiles(ctx, []*journal.File{aFile(session, fmt.Sprint(i))})
			if (err != nil) != (i%10 == 0) {
				t.Errorf("file %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if files, err := j.Files(ctx, "s1"); err != nil || len(files) != 180 {
		t.Errorf("%d files, %v; want 180", len(files), err)
	}
}

func TestTimeNeverFallsBack(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	if err := j.SaveSession(ctx, aSession("s1", "R1")); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	// As if the journal had last been written next year, or the clock had since
	// fallen back by one.
	later := time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Second)
	db, err := sql.Open("sqlite", filepath.Join(dir, journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE meta SET value = ? WHERE name = 'last_seen'", later.Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	defer j.Close()
	if now := j.Now(); now.Before(later) {
		t.Errorf("now is %s, the journal has seen %s", now, later)
	}
	if back := j.ClockFellBack(); back < 300*24*time.Hour {
		t.Errorf("the clock is said to have fallen back %s", back)
	}
	if err := j.SaveSession(ctx, aSession("s2", "R1")); err != nil {
		t.Fatal(err)
	}
	if now := j.Now(); now.Before(later) {
		t.Errorf("after a commit now is %s", now)
	}
}

func TestAForeignVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(dir, journal.Own); err == nil {
		t.Error("a journal of another version was opened")
	}
}

// A journal of an earlier release is brought up to date with all that is in it.
func TestAnEarlierVersionIsBroughtUpToDate(t *testing.T) {
	dir := t.TempDir()
	old, err := os.ReadFile("testdata/schema-1.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(old) + `PRAGMA user_version = 1;
		INSERT INTO recorders VALUES ('R1', '052507', 'spare', '2026-11-24T00:00:00Z');
		INSERT INTO sessions VALUES ('s1','sealed','R1','052507','1','{}','{"kind":"unknown"}','{}','T/2026-11-24/s1/','readback',
			'2026-11-24T00:00:00Z','','','','','','',NULL,NULL);`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		j := open(t, dir)
		all, err := j.Recorders(t.Context())
		if err != nil || len(all) != 1 || all[0].Officer != "052507" || all[0].Profile != "" {
			t.Errorf("the register: %+v, %v", all, err)
		}
		s, err := j.Session(t.Context(), "s1")
		if err != nil || s.State != journal.StateSealed || s.Condition.Verdict != "" || s.Condition.Bound != nil {
			t.Errorf("the session: %+v, %v", s, err)
		}
		if err := errors.Join(j.Quarantine(t.Context(), journal.Quarantined{Key: "k", Version: "v", Session: "s1"}),
			j.Scrubbed(t.Context(), journal.Scrub{Session: "s1", At: j.Now()})); err != nil {
			t.Errorf("what this release writes down: %v", err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What was refused is remembered over restarts, for that recorder and password
// only, and the file does not hold the password.
func TestARefusedPasswordIsRemembered(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if err := j.PasswordRefused(t.Context(), "R1", "opensesame"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	defer j.Close()
	for _, c := range []struct {
		recorder, password string
		want               bool
	}{{"R1", "opensesame", true}, {"R1", "other", false}, {"R2", "opensesame", false}} {
		if got, err := j.WasPasswordRefused(t.Context(), c.recorder, c.password); err != nil || got != c.want {
			t.Errorf("%s with %s: %v, %v", c.recorder, c.password, got, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err != nil || strings.Contains(string(data), "opensesame") {
			t.Errorf("%s holds the password (%v)", f, err)
		}
	}
}

// A process that is killed at any moment leaves a journal that opens and holds
// everything whose write had returned.
func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	confirmed := 0
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "BODYWORN_JOURNAL_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		target := confirmed + 20*(round+1)
		for confirmed < target {
			var n int
			if _, err := fmt.Fscanln(out, &n); err != nil {
				t.Fatal("the writer ended:", err)
			}
			confirmed = max(confirmed, n)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		// What it had still said before it died counts too.
		for {
			var n int
			if _, err := fmt.Fscanln(out, &n); err != nil {
				break
			}
			confirmed = max(confirmed, n)
		}
		_ = cmd.Wait() // killed
		j := open(t, dir)
		files, err := j.Files(t.Context(), "s1")
		if err != nil {
			t.Fatal(err)
		}
		if len(files) < confirmed {
			t.Errorf("round %d: %d files were confirmed and %d are there", round, confirmed, len(files))
		}
		confirmed = len(files)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeForEver is the process that gets killed: it says a number only after the
// file of that number was written.
func writeForEver(dir string) {
	ctx := context.Background()
	j, err := journal.Open(dir, journal.Own)
	if err != nil {
		panic(err)
	}
	if err := j.SaveSession(ctx, aSession("s1", "R1")); err != nil {
		panic(err)
	}
	files, err := j.Files(ctx, "s1")
	if err != nil {
		panic(err)
	}
	for n := len(files) + 1; ; n++ {
		if err := j.AddFiles(ctx, []*journal.File{aFile("s1", fmt.Sprint(n))}); err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
}
