package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/bodyworn/ingestd/ingest/journal"
)

func TestTheFirstBucketOfAStoreStays(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	if id, err := j.BucketID(ctx, "a:9000/footage"); err != nil || id != "" {
		t.Errorf("a new journal knows bucket %q, %v", id, err)
	}
	if err := errors.Join(j.SawBucket(ctx, "a:9000/footage", "ONE"), j.SawBucket(ctx, "a:9000/footage", "TWO"),
		j.SawBucket(ctx, "b:9000/footage", "THREE"), j.Close()); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	defer j.Close()
	for store, want := range map[string]string{"a:9000/footage": "ONE", "b:9000/footage": "THREE", "a:9000/footag": ""} {
		if id, err := j.BucketID(ctx, store); err != nil || id != want {
			t.Errorf("%s is bucket %q, %v; want %q", store, id, err, want)
		}
	}
}

func TestQuickCheckFindsDamage(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	if problems, err := j.QuickCheck(ctx); err != nil || len(problems) != 0 {
		t.Errorf("a sound journal: %q, %v", problems, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, journal.FileName)
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Its header counts free pages that are not there (https://sqlite.org/fileformat.html, 1.3.9).
	body[39] = 5
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	defer j.Close()
	if problems, err := j.QuickCheck(ctx); err != nil || len(problems) == 0 {
		t.Errorf("five pages are lost: %q, %v", problems, err)
	}
}
