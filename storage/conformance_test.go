package storage_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

func TestMain(m *testing.M) {
	// Most tests wait, for a lock to end or for a disk: two cores do for eight.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	storetest.Main(m)
}

// servers are all that are claimed to work and can be had here.
var servers = map[string]func(testing.TB) *storetest.Server{
	"embedded":  storetest.Embedded,
	"minio":     func(t testing.TB) *storetest.Server { return storetest.MinIO(t, false) },
	"minio-tls": func(t testing.TB) *storetest.Server { return storetest.MinIO(t, true) },
}

// vault is a vault in a fresh bucket, with what an attacker from outside has: a
// plain client with the store's root credentials.
type vault struct {
	*testing.T
	*storage.Vault
	cfg    storage.Config
	server *storetest.Server
	raw    *minio.Client
}

// TestConformance runs one suite against every server. Where servers differ, the
// check says so in a comment that begins with "A difference:"; README.md lists
// them.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			for what, check := range map[string]func(*vault){
				"TheBucketKeepsItsLockAndVersions": theBucketKeepsItsLockAndVersions,
				"BucketsWithoutLockAreRefused":     bucketsWithoutLockAreRefused,
				"WrongCredentialsAreDenied":        wrongCredentialsAreDenied,
				"CreateKeepsAndLocks":              createKeepsAndLocks,
				"CreateRefusesDamagedBytes":        createRefusesDamagedBytes,
				"CreateNeverOverwrites":            createNeverOverwrites,
				"RacersMakeOneVersion":             racersMakeOneVersion,
				"LocksBelowTheFloorNeverGoOut":     locksBelowTheFloorNeverGoOut,
				"LockedObjectsStay":                lockedObjectsStay,
				"LocksOnlyGrow":                    locksOnlyGrow,
				"LocksGrowAcrossMidnight":          locksGrowAcrossMidnight,
				"LocksAreShown":                    locksAreShown,
				"AHoldOutlivesTheLock":             aHoldOutlivesTheLock,
				"PartsMakeALockedObject":           partsMakeALockedObject,
				"DamagedPartsAreRefused":           damagedPartsAreRefused,
				"UploadsAreResumed":                uploadsAreResumed,
				"PartsAreListedBeyondAPage":        partsAreListedBeyondAPage,
				"CompletedTwiceIsOneObject":        completedTwiceIsOneObject,
				"UploadsNeverOverwrite":            uploadsNeverOverwrite,
				"UploadsAreThrownAway":             uploadsAreThrownAway,
				"OddNamesComeBack":                 oddNamesComeBack,
				"ListingsAreWhole":                 listingsAreWhole,
				"DeleteMarkersShow":                deleteMarkersShow,
				"WhatIsNotThereIsNotFound":         whatIsNotThereIsNotFound,
				"SelfTestPasses":                   selfTestPasses,
			} {
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					v, cfg := server.Vault(t)
					check(&vault{T: t, Vault: v, cfg: cfg, server: server, raw: server.Client()})
				})
			}
		})
	}
}

func (v *vault) create(key string, body []byte) storage.Object {
	v.Helper()
	o, err := v.Create(v.Context(), key, body, sha256.Sum256(body), v.RetainUntil())
	if err != nil {
		v.Fatal(err)
	}
	return o
}

// holds proves from outside that one version, and no other, has these bytes
// under a lock of six months.
func (v *vault) holds(o storage.Object, body []byte) {
	v.Helper()
	v.reads(o, body)
	info, err := v.raw.StatObject(v.Context(), v.cfg.Bucket, o.Key, minio.StatObjectOptions{VersionID: o.VersionID})
	if err != nil {
		v.Error(err)
		return
	}
	mode := info.Metadata.Get("X-Amz-Object-Lock-Mode")
	until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil || mode != "COMPLIANCE" || until.Before(time.Now().In(storetest.Zone).AddDate(0, 6, 0)) || !until.Equal(o.RetainUntil) {
		v.Errorf("%s: lock %q until %s, %v; confirmed was %s", o.Key, mode, until, err, o.RetainUntil)
	}
	if n := len(v.versions(o.Key)); n != 1 || o.VersionID == "" {
		v.Errorf("%s: version %q is one of %d", o.Key, o.VersionID, n)
	}
}

func (v *vault) reads(o storage.Object, body []byte) {
	v.Helper()
	sum := sha256.Sum256(body)
	told := 0
	got, size, err := v.ReadBack(v.Context(), o.Key, o.VersionID, func(n int) { told += n })
	if err != nil || got != hex.EncodeToString(sum[:]) || size != int64(len(body)) || told != len(body) {
		v.Errorf("%q: read back %d bytes, %d told, SHA-256 %s, %v; want %d bytes, %x", o.Key, size, told, got, err, len(body), sum)
	}
}

func (v *vault) versions(prefix string) (all []storage.Version) {
	v.Helper()
	for o, err := range v.List(v.Context(), prefix) {
		if err != nil {
			v.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// isEmpty: nothing was made below prefix.
func (v *vault) isEmpty(prefix string) {
	v.Helper()
	if all := v.versions(prefix); len(all) != 0 {
		v.Errorf("below %s there is %+v", prefix, all)
	}
}

// refused: servers differ in the code; any 4xx is a no. Whether the object is
// still there is for the caller to see.
func (v *vault) refused(what string, err error) {
	v.Helper()
	if status := minio.ToErrorResponse(err).StatusCode; status < 400 || status >= 500 {
		v.Errorf("%s: %v", what, err)
	}
}

func (v *vault) remove(key, version string, bypass bool) error {
	return v.raw.RemoveObject(v.Context(), v.cfg.Bucket, key, minio.RemoveObjectOptions{VersionID: version, GovernanceBypass: bypass})
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func theBucketKeepsItsLockAndVersions(v *vault) {
	lock, _, _, _, err := v.raw.GetObjectLockConfig(v.Context(), v.cfg.Bucket)
	if err != nil || lock != "Enabled" {
		v.Errorf("lock is %q, %v", lock, err)
	}
	versioning, err := v.raw.GetBucketVersioning(v.Context(), v.cfg.Bucket)
	if err != nil || !versioning.Enabled() {
		v.Errorf("versioning is %+v, %v", versioning, err)
	}
	v.refused("suspend versioning", v.raw.SuspendVersioning(v.Context(), v.cfg.Bucket))
	if _, err := storage.Open(v.Context(), v.cfg); err != nil {
		v.Errorf("opened again: %v", err)
	}
}

func bucketsWithoutLockAreRefused(v *vault) {
	cfg := v.server.Config()
	err := v.raw.MakeBucket(v.Context(), cfg.Bucket, minio.MakeBucketOptions{})
	if v.server.Name == "embedded" {
		// A difference: the embedded store makes no bucket without lock at all.
		v.refused("make a bucket without lock", err)
		return
	}
	if err != nil {
		v.Fatal(err)
	}
	versioned := v.server.Config() // versions alone protect nothing
	if err := v.raw.MakeBucket(v.Context(), versioned.Bucket, minio.MakeBucketOptions{}); err != nil {
		v.Fatal(err)
	}
	if err := v.raw.EnableVersioning(v.Context(), versioned.Bucket); err != nil {
		v.Fatal(err)
	}
	for _, c := range []storage.Config{cfg, versioned} {
		_, err = storage.Open(v.Context(), c)
		if !errors.Is(err, storage.ErrNoLock) || !strings.Contains(err.Error(), "--with-lock") {
			v.Errorf("a bucket without lock gives %v", err)
		}
	}
}

func wrongCredentialsAreDenied(v *vault) {
	cfg := v.cfg
	cfg.SecretKey = "not the secret"
	if _, err := storage.Open(v.Context(), cfg); !errors.Is(err, storage.ErrDenied) {
		v.Errorf("a wrong secret gives %v", err)
	}
	cfg.AccessKey = "nobody"
	if _, err := storage.Open(v.Context(), cfg); !errors.Is(err, storage.ErrDenied) {
		v.Errorf("an unknown key gives %v", err)
	}
}

func selfTestPasses(v *vault) {
	if remarks, err := v.SelfTest(v.Context()); err != nil || len(remarks) != 0 {
		v.Errorf("%v, remarks %v", err, remarks)
	}
	v.isEmpty(storage.SelfTestPrefix) // it cleans up where it may
}
