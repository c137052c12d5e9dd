package journal_test

import (
	"database/sql"
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

func TestSM3IsKeptBySHA256(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	for session, files := range map[string]map[string]string{"s1": {"a": "sm3 of 1", "b": ""}, "s2": {"c": "", "d": "sm3 of 2"}} {
		if err := j.SaveSession(ctx, aSession(session, "R1")); err != nil {
			t.Fatal(err)
		}
		sha := map[string]string{"a": "1", "b": "2", "c": "1", "d": "4"}
		for path, sm3 := range files {
			f := aFile(session, path)
			if err := j.AddFiles(ctx, []*journal.File{f}); err != nil {
				t.Fatal(err)
			}
			f.State, f.SHA256, f.SM3 = journal.Verified, sha[path], sm3
			if err := errors.Join(j.SaveFile(ctx, f), j.SaveFile(ctx, f)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	defer j.Close()
	for session, want := range map[string]map[string]string{
		"s1": {"1": "sm3 of 1"},
		"s2": {"1": "sm3 of 1", "4": "sm3 of 2"}, // the bytes of 1 were read in another session
		"s3": {},
	} {
		if got, err := j.SM3s(ctx, session); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", session, got, err, want)
		}
	}
}

func TestPartsKeepTheStateOfSM3(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	f := aFile("s1", "a")
	if err := errors.Join(j.SaveSession(ctx, aSession("s1", "R1")), j.AddFiles(ctx, []*journal.File{f})); err != nil {
		t.Fatal(err)
	}
	parts := []journal.Part{
		{Part: storage.Part{Number: 1, Size: 16}, SHA256State: []byte("sha\x03one"), FingerprintState: []byte("b"), Seam: []byte("c")},
		{Part: storage.Part{Number: 2, Size: 16}, SHA256State: []byte("sha\x03two"), SM3State: []byte("sm3\x03two, longer"), FingerprintState: []byte("b"), Seam: []byte("c")},
	}
	for _, p := range parts {
		if err := j.SavePart(ctx, f.ID, p); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := j.Parts(ctx, f.ID); err != nil || !reflect.DeepEqual(got, parts) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(ctx, "UPDATE parts SET sha256_state = substr(sha256_state, 1, 10) WHERE number = 2")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	defer j.Close()
	if got, err := j.Parts(ctx, f.ID); err == nil {
		t.Errorf("a state that is cut off is taken: %+v", got)
	}
}

func TestDocumentsWithAndWithoutSM3(t *testing.T) {
	ctx := t.Context()
	j := open(t, t.TempDir())
	defer j.Close()
	plain := journal.Documents{Manifest: []byte("m"), Checksums: []byte("c"), ManifestSig: []byte("ms"), ChecksumsSig: []byte("cs")}
	more := plain
	more.SM3Sums, more.SM3SumsSig = []byte("3"), []byte("3s")
	for id, d := range map[string]journal.Documents{"s1": plain, "s2": more} {
		s := aSession(id, "R1")
		if err := errors.Join(j.SaveSession(ctx, s), j.StartSealing(ctx, s, d)); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]journal.Documents{"s1": plain, "s2": more} {
		if got, err := j.Documents(ctx, id); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
		if err := j.FinishSealing(ctx, aSession(id, "R1")); err != nil {
			t.Fatal(err)
		}
		if got, err := j.Documents(ctx, id); err != nil || !reflect.DeepEqual(got, journal.Documents{}) {
			t.Errorf("ended, %s keeps %+v, %v", id, got, err)
		}
	}
}
