package storage_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// TestConformanceEdges asks what TestConformance leaves open: who wins a race,
// and what root credentials can do to a lock without making it shorter.
func TestConformanceEdges(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *storetest.Server{
		"embedded": func(t *testing.T) *storetest.Server { return storetest.Embedded(t) },
		"minio":    func(t *testing.T) *storetest.Server { return storetest.MinIO(t, false) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			for what, check := range map[string]func(*testing.T, *storetest.Server){
				"StationsMakeOneBucketTogether": stationsMakeOneBucketTogether,
				"OneOfManyContentsWins":         oneOfManyContentsWins,
				"ComplianceIsNeverGovernance":   complianceIsNeverGovernance,
				"AnOverwriteIsASecondVersion":   anOverwriteIsASecondVersion,
				"AHoldBlocksDeletionUnderALock": aHoldBlocksDeletionUnderALock,
				"ALockCannotBeTakenOff":         aLockCannotBeTakenOff,
			} {
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					check(t, server)
				})
			}
		})
	}
}

// stationsMakeOneBucketTogether: several stations are switched on at once in
// front of a new store.
func stationsMakeOneBucketTogether(t *testing.T, server *storetest.Server) {
	cfg := server.Config()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := storage.Open(t.Context(), cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// oneOfManyContentsWins: one racer is told that it stored its bytes, every other
// that the key is taken, and the bytes of the winner are those that stay.
func oneOfManyContentsWins(t *testing.T, server *storetest.Server) {
	v, _ := server.Vault(t)
	var mu sync.Mutex
	var winners []storage.Object // guarded by mu
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			body := fmt.Appendf(nil, "racer %d", i)
			o, err := v.Create(t.Context(), "s/a", body, sha256.Sum256(body), v.RetainUntil())
			switch {
			case err == nil:
				mu.Lock()
				winners = append(winners, o)
				mu.Unlock()
			case !errors.Is(err, storage.ErrTaken):
				t.Errorf("a loser is told %v", err)
			}
		})
	}
	wg.Wait()
	if len(winners) != 1 {
		t.Fatalf("%d racers were told that they won: %+v", len(winners), winners)
	}
	o, err := v.Stat(t.Context(), "s/a", "")
	if err != nil || o.Checksum != winners[0].Checksum || o.VersionID != winners[0].VersionID {
		t.Errorf("the winner stored %+v, kept is %+v, %v", winners[0], o, err)
	}
}

func complianceIsNeverGovernance(t *testing.T, server *storetest.Server) {
	v, cfg, o := stored(t, server)
	mode := minio.Governance
	for _, until := range []int{0, 1} { // the same date, and a year more
		at := o.RetainUntil.AddDate(until, 0, 0)
		err := server.Client().PutObjectRetention(t.Context(), cfg.Bucket, o.Key,
			minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &at, VersionID: o.VersionID, GovernanceBypass: true})
		mustBeRefused(t, fmt.Sprintf("GOVERNANCE, %d years more", until), err)
	}
	stillLocked(t, v, o)
}

// aLockCannotBeTakenOff: an empty retention is how S3 removes a GOVERNANCE lock.
func aLockCannotBeTakenOff(t *testing.T, server *storetest.Server) {
	v, cfg, o := stored(t, server)
	err := server.Client().PutObjectRetention(t.Context(), cfg.Bucket, o.Key,
		minio.PutObjectRetentionOptions{VersionID: o.VersionID, GovernanceBypass: true})
	mustBeRefused(t, "an empty retention", err)
	stillLocked(t, v, o)
}

// anOverwriteIsASecondVersion: someone with the root key who writes over footage
// leaves it readable by its version, and the listing shows both.
func anOverwriteIsASecondVersion(t *testing.T, server *storetest.Server) {
	v, cfg, o := stored(t, server)
	info, err := server.Client().PutObject(t.Context(), cfg.Bucket, o.Key, strings.NewReader("forged"), 6, minio.PutObjectOptions{
		Mode: minio.Compliance, RetainUntilDate: o.RetainUntil, DisableContentSha256: true, Checksum: minio.ChecksumSHA256,
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for version, err := range v.List(t.Context(), o.Key) {
		if err != nil {
			t.Fatal(err)
		}
		if version.DeleteMarker {
			t.Errorf("listed as a delete marker: %+v", version)
		}
		seen[version.VersionID] = true
	}
	if len(seen) != 2 || !seen[o.VersionID] || !seen[info.VersionID] {
		t.Errorf("listed are the versions %v, want %s and %s", seen, o.VersionID, info.VersionID)
	}
	stillLocked(t, v, o)
}

func aHoldBlocksDeletionUnderALock(t *testing.T, server *storetest.Server) {
	v, cfg, o := stored(t, server)
	on := minio.LegalHoldEnabled
	if err := server.Client().PutObjectLegalHold(t.Context(), cfg.Bucket, o.Key, minio.PutObjectLegalHoldOptions{VersionID: o.VersionID, Status: &on}); err != nil {
		t.Fatal(err)
	}
	mustBeRefused(t, "delete", server.Client().RemoveObject(t.Context(), cfg.Bucket, o.Key,
		minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true}))
	stillLocked(t, v, o)
}

func stored(t *testing.T, server *storetest.Server) (*storage.Vault, storage.Config, storage.Object) {
	t.Helper()
	v, cfg := server.Vault(t)
	body := []byte("footage")
	o, err := v.Create(t.Context(), "s/a", body, sha256.Sum256(body), v.RetainUntil())
	if err != nil {
		t.Fatal(err)
	}
	return v, cfg, o
}

func mustBeRefused(t *testing.T, what string, err error) {
	t.Helper()
	if status := minio.ToErrorResponse(err).StatusCode; status < 400 || status >= 500 {
		t.Errorf("%s gives %v, want a refusal", what, err)
	}
}

// stillLocked: Stat reports no date for any mode but COMPLIANCE.
func stillLocked(t *testing.T, v *storage.Vault, o storage.Object) {
	t.Helper()
	now, err := v.Stat(t.Context(), o.Key, o.VersionID)
	if err != nil || now.RetainUntil.Before(o.RetainUntil) || now.Checksum != o.Checksum {
		t.Errorf("it was %+v and is %+v, %v", o, now, err)
	}
}
