package storage_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/crc64nvme"
	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// vault is a vault in a fresh bucket, with what an attacker from outside has: a
// plain client with the store's root credentials.
type vault struct {
	*testing.T
	*storage.Vault
	cfg    storage.Config
	server *storetest.Server
	raw    *minio.Client
}

// TestConformance runs one suite against every server that is claimed to work.
// Where servers differ, the check says so; README.md lists it.
func TestConformance(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *storetest.Server{
		"embedded":  func(t *testing.T) *storetest.Server { return storetest.Embedded(t) },
		"minio":     func(t *testing.T) *storetest.Server { return storetest.MinIO(t, false) },
		"minio-tls": func(t *testing.T) *storetest.Server { return storetest.MinIO(t, true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			for what, check := range map[string]func(*vault){
				"BucketsWithoutLockAreRefused":     bucketsWithoutLockAreRefused,
				"WrongCredentialsAreDenied":        wrongCredentialsAreDenied,
				"CreateKeepsAndLocks":              createKeepsAndLocks,
				"CreateRefusesDamagedBytes":        createRefusesDamagedBytes,
				"CreateNeverOverwrites":            createNeverOverwrites,
				"RacersMakeOneVersion":             racersMakeOneVersion,
				"LocksBelowTheFloorNeverGoOut":     locksBelowTheFloorNeverGoOut,
				"LockedObjectsStay":                lockedObjectsStay,
				"LocksOnlyGrow":                    locksOnlyGrow,
				"AHoldOutlivesTheLock":             aHoldOutlivesTheLock,
				"PartsMakeALockedObject":           partsMakeALockedObject,
				"DamagedPartsAreRefused":           damagedPartsAreRefused,
				"UploadsAreResumed":                uploadsAreResumed,
				"CompletedTwiceIsOneObject":        completedTwiceIsOneObject,
				"UploadsNeverOverwrite":            uploadsNeverOverwrite,
				"OddNamesComeBack":                 oddNamesComeBack,
				"ListingsAreWhole":                 listingsAreWhole,
				"DeleteMarkersShow":                deleteMarkersShow,
				"SelfTestPasses":                   selfTestPasses,
				"WhatIsNotThereIsNotFound":         whatIsNotThereIsNotFound,
				"TheBucketKeepsItsLockAndVersions": theBucketKeepsItsLockAndVersions,
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

// holds proves from outside that one version has these bytes under lock.
func (v *vault) holds(o storage.Object, body []byte) {
	v.Helper()
	sum := sha256.Sum256(body)
	got, size, err := v.ReadBack(v.Context(), o.Key, o.VersionID, nil)
	if err != nil || got != hex.EncodeToString(sum[:]) || size != int64(len(body)) {
		v.Errorf("%s: read back %d bytes, SHA-256 %s, %v; want %d bytes, %x", o.Key, size, got, err, len(body), sum)
	}
	mode, until, err := v.raw.GetObjectRetention(v.Context(), v.cfg.Bucket, o.Key, o.VersionID)
	if v.server.Name == "embedded" {
		// versitygw's answer has a root element that minio-go does not read; the
		// headers of HEAD tell the same.
		info, statErr := v.raw.StatObject(v.Context(), v.cfg.Bucket, o.Key, minio.StatObjectOptions{VersionID: o.VersionID})
		at, parseErr := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		m := minio.RetentionMode(info.Metadata.Get("X-Amz-Object-Lock-Mode"))
		mode, until, err = &m, &at, errors.Join(statErr, parseErr)
	}
	if err != nil || mode == nil || *mode != minio.Compliance || until.Before(time.Now().AddDate(0, 6, 0)) {
		v.Errorf("%s: lock %v until %v, %v", o.Key, mode, until, err)
	}
	if n := len(v.versions(o.Key)); n != 1 {
		v.Errorf("%s: %d versions", o.Key, n)
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

// refused: any 4xx is a no; what counts is that the object is still there.
func (v *vault) refused(what string, err error) {
	v.Helper()
	if status := minio.ToErrorResponse(err).StatusCode; status < 400 || status >= 500 {
		v.Errorf("%s: %v", what, err)
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
	_, err = storage.Open(v.Context(), cfg)
	if !errors.Is(err, storage.ErrNoLock) || !strings.Contains(err.Error(), "--with-lock") {
		v.Errorf("a bucket without lock gives %v", err)
	}
}

func theBucketKeepsItsLockAndVersions(v *vault) {
	lock, _, _, _, err := v.raw.GetObjectLockConfig(v.Context(), v.cfg.Bucket)
	if err != nil || lock != "Enabled" {
		v.Errorf("lock is %q, %v", lock, err)
	}
	v.refused("suspend versioning", v.raw.SuspendVersioning(v.Context(), v.cfg.Bucket))
	if _, err := storage.Open(v.Context(), v.cfg); err != nil {
		v.Errorf("opened again: %v", err)
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

func createKeepsAndLocks(v *vault) {
	for key, body := range map[string][]byte{"s/a.mp4": []byte("footage"), "s/zero": {}, "s/large": random(9 << 20)} {
		o := v.create(key, body)
		if o.Checksum.Algorithm != storage.SHA256 || o.Size != int64(len(body)) {
			v.Errorf("%s: confirmed %+v", key, o)
		}
		v.holds(o, body)
	}
}

func createRefusesDamagedBytes(v *vault) {
	_, err := v.Create(v.Context(), "s/a", []byte("sent"), sha256.Sum256([]byte("meant")), v.RetainUntil())
	if !errors.Is(err, storage.ErrCorrupt) {
		v.Errorf("a wrong SHA-256 gives %v", err)
	}
	if n := len(v.versions("s/")); n != 0 {
		v.Errorf("%d versions are left", n)
	}
}

func createNeverOverwrites(v *vault) {
	first := v.create("s/a", []byte("footage"))
	if again := v.create("s/a", []byte("footage")); again.VersionID != first.VersionID {
		v.Errorf("the same again made version %s beside %s", again.VersionID, first.VersionID)
	}
	for _, other := range []string{"forgery", "footage and more"} {
		_, err := v.Create(v.Context(), "s/a", []byte(other), sha256.Sum256([]byte(other)), v.RetainUntil())
		if !errors.Is(err, storage.ErrTaken) {
			v.Errorf("other content gives %v", err)
		}
	}
	v.holds(first, []byte("footage"))
}

func racersMakeOneVersion(v *vault) {
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			body := []byte("footage")
			if _, err := v.Create(v.Context(), "s/a", body, sha256.Sum256(body), v.RetainUntil()); err != nil && !errors.Is(err, storage.ErrUnavailable) {
				v.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(v.versions("s/a")); n != 1 {
		v.Errorf("%d versions", n)
	}
}

func locksBelowTheFloorNeverGoOut(v *vault) {
	body := []byte("footage")
	short := time.Now().In(storetest.Zone).AddDate(0, 6, 0).Add(-time.Hour)
	if _, err := v.Create(v.Context(), "s/a", body, sha256.Sum256(body), short); err == nil || !strings.Contains(err.Error(), "第十一条") {
		v.Errorf("Create gives %v", err)
	}
	if _, err := v.Begin(v.Context(), "s/b", short); err == nil || !strings.Contains(err.Error(), "第十一条") {
		v.Errorf("Begin gives %v", err)
	}
	if n := len(v.versions("s/")); n != 0 {
		v.Errorf("%d versions were made", n)
	}
}

func lockedObjectsStay(v *vault) {
	body := []byte("footage")
	o := v.create("s/a", body)
	for _, bypass := range []bool{false, true} {
		v.refused("delete", v.raw.RemoveObject(v.Context(), v.cfg.Bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: bypass}))
	}
	gone := make(chan minio.ObjectInfo, 1)
	gone <- minio.ObjectInfo{Key: o.Key, VersionID: o.VersionID}
	close(gone)
	refusals := 0
	for r := range v.raw.RemoveObjects(v.Context(), v.cfg.Bucket, gone, minio.RemoveObjectsOptions{GovernanceBypass: true}) {
		if r.Err != nil {
			refusals++
		}
	}
	if refusals != 1 {
		v.Error("a multi-delete was not refused")
	}
	v.holds(o, body)
}

func locksOnlyGrow(v *vault) {
	body := []byte("footage")
	o := v.create("s/a", body)
	earlier := o.RetainUntil.AddDate(0, 0, -1)
	for _, mode := range []minio.RetentionMode{minio.Compliance, minio.Governance} {
		v.refused("shorten, "+string(mode), v.raw.PutObjectRetention(v.Context(), v.cfg.Bucket, o.Key,
			minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &earlier, VersionID: o.VersionID, GovernanceBypass: true}))
	}
	later := o.RetainUntil.AddDate(1, 0, 0)
	if err := v.Extend(v.Context(), o.Key, o.VersionID, later); err != nil {
		v.Fatal(err)
	}
	got, err := v.Stat(v.Context(), o.Key, o.VersionID)
	if err != nil || !got.RetainUntil.Equal(later.Truncate(time.Second)) {
		v.Errorf("extended to %s, it is %s, %v", later, got.RetainUntil, err)
	}
	if err := v.Extend(v.Context(), o.Key, o.VersionID, time.Now().AddDate(0, 1, 0)); err == nil {
		v.Error("Extend went below the floor")
	}
	v.holds(o, body)
}

func aHoldOutlivesTheLock(v *vault) {
	key := storage.SelfTestPrefix + "hold"
	until := time.Now().Add(3 * time.Second).Truncate(time.Second)
	info, err := v.raw.PutObject(v.Context(), v.cfg.Bucket, key, strings.NewReader("x"), 1, minio.PutObjectOptions{
		Mode: minio.Compliance, RetainUntilDate: until, DisableContentSha256: true, Checksum: minio.ChecksumSHA256,
	})
	if err != nil {
		v.Fatal(err)
	}
	hold := func(status minio.LegalHoldStatus) {
		v.Helper()
		if err := v.raw.PutObjectLegalHold(v.Context(), v.cfg.Bucket, key, minio.PutObjectLegalHoldOptions{VersionID: info.VersionID, Status: &status}); err != nil {
			v.Fatal(err)
		}
	}
	hold(minio.LegalHoldEnabled)
	time.Sleep(time.Until(until.Add(time.Second))) // what is tested is the time after it
	v.refused("delete under a hold, lock expired", v.raw.RemoveObject(v.Context(), v.cfg.Bucket, key, minio.RemoveObjectOptions{VersionID: info.VersionID}))
	if _, err := v.Stat(v.Context(), key, info.VersionID); err != nil {
		v.Error(err)
	}
	hold(minio.LegalHoldDisabled)
	if err := v.raw.RemoveObject(v.Context(), v.cfg.Bucket, key, minio.RemoveObjectOptions{VersionID: info.VersionID}); err != nil {
		v.Errorf("with no hold and no lock: %v", err)
	}
}

const partSize = 5 << 20

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// upload sends the parts of body from the given number on.
func (v *vault) upload(u storage.Upload, body []byte, from int) (parts []storage.Part) {
	v.Helper()
	for n := 1; (n-1)*partSize < len(body); n++ {
		data := body[(n-1)*partSize : min(n*partSize, len(body))]
		if n < from {
			continue
		}
		p, err := v.PutPart(v.Context(), u, n, data, crc64nvme.Checksum(data))
		if err != nil {
			v.Fatal(err)
		}
		parts = append(parts, p)
	}
	return parts
}

func (v *vault) begin(key string) storage.Upload {
	v.Helper()
	u, err := v.Begin(v.Context(), key, v.RetainUntil())
	if err != nil {
		v.Fatal(err)
	}
	return u
}

func partsMakeALockedObject(v *vault) {
	body := random(2*partSize + 17)
	u := v.begin("s/a")
	parts := v.upload(u, body, 1)
	if n := len(v.versions("s/")); n != 0 {
		v.Errorf("%d versions show before the upload is complete", n)
	}
	o, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body))
	if err != nil {
		v.Fatal(err)
	}
	if o.Checksum.Algorithm != storage.CRC64NVME {
		v.Errorf("confirmed %+v", o)
	}
	v.holds(o, body)
}

func damagedPartsAreRefused(v *vault) {
	body := random(partSize + 17)
	u := v.begin("s/a")
	if _, err := v.PutPart(v.Context(), u, 1, body[:partSize], crc64nvme.Checksum(body[1:partSize])); !errors.Is(err, storage.ErrCorrupt) {
		v.Errorf("a wrong CRC of a part gives %v", err)
	}
	parts := v.upload(u, body, 1)
	if _, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body)+1); err == nil {
		v.Error("a wrong CRC of the whole was taken")
	}
	if n := len(v.versions("s/")); n != 0 {
		v.Errorf("%d versions were made", n)
	}
}

func uploadsAreResumed(v *vault) {
	body := random(3*partSize + 17)
	u := v.begin("s/a")
	first := v.upload(u, body[:2*partSize], 1)
	other, err := storage.Open(v.Context(), v.cfg) // as a new process does
	if err != nil {
		v.Fatal(err)
	}
	kept, err := other.Kept(v.Context(), u)
	if err != nil || len(kept) != 2 || kept[1].ETag != first[0].ETag || kept[2].Size != partSize {
		v.Fatalf("kept %+v, %v; sent %+v", kept, err, first)
	}
	o, err := other.Complete(v.Context(), u, append(first, v.upload(u, body, 3)...), int64(len(body)), crc64nvme.Checksum(body))
	if err != nil {
		v.Fatal(err)
	}
	v.holds(o, body)
	if _, err := other.Kept(v.Context(), u); !errors.Is(err, storage.ErrNotFound) {
		v.Errorf("after completion the parts give %v", err)
	}
}

func completedTwiceIsOneObject(v *vault) {
	body := random(partSize + 17)
	u := v.begin("s/a")
	parts := v.upload(u, body, 1)
	first, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body))
	if err != nil {
		v.Fatal(err)
	}
	again, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body))
	if err != nil || again.VersionID != first.VersionID {
		v.Errorf("the second completion gives %+v, %v", again, err)
	}
	v.holds(first, body)
}

func uploadsNeverOverwrite(v *vault) {
	body := random(partSize + 17)
	u := v.begin("s/a")
	parts := v.upload(u, body, 1)
	first := v.create("s/a", []byte("came first"))
	if _, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body)); !errors.Is(err, storage.ErrTaken) {
		v.Errorf("a key that was taken meanwhile gives %v", err)
	}
	v.holds(first, []byte("came first"))
	for range 2 {
		if err := v.Abort(v.Context(), u); err != nil {
			v.Error(err)
		}
	}
}

func oddNamesComeBack(v *vault) {
	names := storage.NewNamer("st/day/session/footage/", nil)
	want := map[string]string{}
	for _, path := range []string{
		"plain.mp4", "图片/现场 照片.JPG", "a\nb", `q"uo'te`, `back\slash`, "..", "../..", "-rf", "trail.", "trail ", " lead", "100%", "a+b&c=d?e#f;g",
		"\xd6\xb4\xb7\xa8.mp4", "\xff\xfe", strings.Repeat("x", 255), strings.Repeat("深/", 400) + "end", "A", "a", "emoji 🎥.mp4",
		"e\u0301", "\u00e9", "xl.meta", "d/xl.meta", "a__XLDIR__", ".sgwtmp", "d/.sgwtmp/x", "~", "~long/x", "a:b*c|d<e>f", "\t", "\u2028",
	} {
		key := names.Key(path)
		v.create(key, []byte(path))
		want[key] = path
	}
	for _, o := range v.versions("st/") {
		if _, ok := want[o.Key]; !ok {
			v.Errorf("listed is %q, which nobody created", o.Key)
		}
		body := []byte(want[o.Key])
		delete(want, o.Key)
		sum := sha256.Sum256(body)
		if got, _, err := v.ReadBack(v.Context(), o.Key, o.VersionID, nil); err != nil || got != hex.EncodeToString(sum[:]) {
			v.Errorf("%q: %v", o.Key, err)
		}
	}
	for key, path := range want {
		v.Errorf("%q, the key of %q, is not listed", key, path)
	}
}

func listingsAreWhole(v *vault) {
	const n = 1100 // more than a page
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < n; i += 8 {
				v.create("l/"+strings.Repeat("d/", i%3)+hex.EncodeToString([]byte{byte(i >> 8), byte(i)}), []byte{byte(i)})
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, o := range v.versions("l/") {
		if seen[o.Key] {
			v.Errorf("%s is listed twice", o.Key)
		}
		seen[o.Key] = true
	}
	if len(seen) != n {
		v.Errorf("%d of %d objects are listed", len(seen), n)
	}
}

func deleteMarkersShow(v *vault) {
	o := v.create("s/a", []byte("footage"))
	err := v.raw.RemoveObject(v.Context(), v.cfg.Bucket, o.Key, minio.RemoveObjectOptions{})
	if v.server.Name == "embedded" {
		// A difference: the embedded store lets nobody make footage look gone.
		v.refused("delete without a version", err)
		v.holds(o, []byte("footage"))
		return
	}
	if err != nil {
		v.Fatal(err)
	}
	all := v.versions("s/a")
	if len(all) != 2 || all[0].DeleteMarker == all[1].DeleteMarker {
		v.Errorf("listed are %+v", all)
	}
	if _, err := v.Stat(v.Context(), o.Key, o.VersionID); err != nil {
		v.Errorf("under the marker: %v", err)
	}
}

func selfTestPasses(v *vault) {
	if remarks, err := v.SelfTest(v.Context()); err != nil || len(remarks) != 0 {
		v.Errorf("%v, remarks %v", err, remarks)
	}
}

func whatIsNotThereIsNotFound(v *vault) {
	_, err1 := v.Stat(v.Context(), "s/nothing", "")
	_, err2 := v.Fetch(v.Context(), "s/nothing", "")
	_, err3 := v.Kept(v.Context(), storage.Upload{Key: "s/nothing", ID: "6b1f2c7e-3a52-4f0e-9d3a-0c8c1c0a7f11"})
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, storage.ErrNotFound) {
			v.Error(err)
		}
	}
	var body bytes.Buffer
	o := v.create("s/a", body.Bytes())
	if _, err := v.Stat(v.Context(), o.Key, "00000000-0000-0000-0000-000000000000"); err == nil {
		v.Error("a version that never was is found")
	}
}
