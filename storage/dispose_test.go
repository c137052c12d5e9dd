package storage_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

const footageKey = "station-1/2026-01-01/a/footage/DCIM/0001.MP4"

// sevenMonths is beyond the floor of all that is stored in a test.
func sevenMonths() time.Duration { return time.Until(time.Now().AddDate(0, 7, 0)) }

// TestDisposal shows that a version goes when all is as it must be, and that without
// any one of these things no request to delete it is even sent.
func TestDisposal(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *storetest.Server{"embedded": servers["embedded"], "minio": servers["minio"]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			for what, check := range map[string]func(*vault){
				"ExpiredFootageGoes":           expiredFootageGoes,
				"OneVersionOfTwoGoes":          oneVersionOfTwoGoes,
				"LockedFootageStays":           lockedFootageStays,
				"TheFloorOutlastsTheLock":      theFloorOutlastsTheLock,
				"OneClockAloneShortensNothing": oneClockAloneShortensNothing,
				"TheClockBehindCounts":         theClockBehindCounts,
				"UnknownTimeKeeps":             unknownTimeKeeps,
				"HeldFootageStays":             heldFootageStays,
				"UnknownHoldKeeps":             unknownHoldKeeps,
				"WhatIsNotPlannedStays":        whatIsNotPlannedStays,
				"NothingButFootageGoes":        nothingButFootageGoes,
				"ALyingAnswerIsSeen":           aLyingAnswerIsSeen,
				"ALostBucketIsNotGoneFootage":  aLostBucketIsNotGoneFootage,
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

// expired stores footage whose lock has ended, for the store itself too.
func (v *vault) expired(key string, body []byte) storage.Object {
	v.Helper()
	return v.lockedUntil(key, body, time.Now().Add(2*time.Second))
}

// lockedUntil stores footage with any lock at all; it waits for one that ends soon.
func (v *vault) lockedUntil(key string, body []byte, until time.Time) storage.Object {
	v.Helper()
	until = until.Truncate(time.Second)
	var o storage.Object
	if v.server.Name == "embedded" { // which takes no such lock
		o = v.create(key, body)
		if err := v.server.Relock(v.cfg.Bucket, key, until); err != nil {
			v.Fatal(err)
		}
	} else {
		_, err := v.raw.PutObject(v.Context(), v.cfg.Bucket, key, strings.NewReader(string(body)), int64(len(body)), minio.PutObjectOptions{
			Mode: minio.Compliance, RetainUntilDate: until, DisableContentSha256: true, Checksum: minio.ChecksumSHA256,
		})
		if err != nil {
			v.Fatal(err)
		}
	}
	if wait := time.Until(until.Add(time.Second)); wait < 10*time.Second {
		time.Sleep(wait) // what is tested is the time after it
	}
	o, err := v.Stat(v.Context(), key, "")
	if err != nil || !o.RetainUntil.Equal(until) || o.Size != int64(len(body)) {
		v.Fatalf("stored %+v, %v", o, err)
	}
	return o
}

// planned is the row of a plan for what was stored.
func planned(o storage.Object, body []byte) storage.Disposable {
	sum := sha256.Sum256(body)
	return storage.Disposable{Key: o.Key, VersionID: o.VersionID, Size: o.Size, SHA256: hex.EncodeToString(sum[:])}
}

// at is the same vault when the station's clock and the store's are ahead by so much,
// and the requests to delete that it sends.
func (v *vault) at(station, store time.Duration) (*storage.Vault, *deletions) {
	v.Helper()
	return v.behind(v.cfg, station, store)
}

func (v *vault) behind(cfg storage.Config, station, store time.Duration) (*storage.Vault, *deletions) {
	v.Helper()
	sent := &deletions{}
	cfg.Bucket = v.cfg.Bucket
	cfg = storetest.Later(v, cfg, store, sent.see)
	cfg.Now = func() time.Time { return time.Now().Add(station) }
	later, err := storage.Look(cfg)
	if err != nil {
		v.Fatal(err)
	}
	return later, sent
}

// deletions are the requests that take something out of a bucket.
type deletions struct {
	mu   sync.Mutex
	sent []*http.Request // guarded by mu
}

func (d *deletions) see(r *http.Request) {
	if r.Method == http.MethodDelete || r.Method == http.MethodPost && r.URL.Query().Has("delete") {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.sent = append(d.sent, r.Clone(r.Context()))
	}
}

func (d *deletions) all() []*http.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sent
}

// keeps: it is refused, no request to delete went out, and every version is there.
func (v *vault) keeps(what string, d storage.Disposable, later *storage.Vault, sent *deletions) error {
	v.Helper()
	before := v.versions("")
	err := later.Dispose(v.Context(), d)
	if err == nil || errors.Is(err, storage.ErrNotFound) {
		v.Errorf("%s: disposed of, %v", what, err)
	}
	if n := len(sent.all()); n != 0 {
		v.Errorf("%s: %d requests to delete were sent", what, n)
	}
	if after := v.versions(""); len(after) == 0 || fmt.Sprint(after) != fmt.Sprint(before) {
		v.Errorf("%s: there was %+v and is %+v", what, before, after)
	}
	return err
}

// refuses is keeps, by a rule.
func (v *vault) refuses(what string, d storage.Disposable, later *storage.Vault, sent *deletions) {
	v.Helper()
	if err := v.keeps(what, d, later, sent); !errors.Is(err, storage.ErrNotExpired) {
		v.Errorf("%s gives %v", what, err)
	}
}

func expiredFootageGoes(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	manifest := v.create("station-1/2026-01-01/a/manifest.json", []byte("{}"))
	later, sent := v.at(sevenMonths(), sevenMonths())
	if err := later.Dispose(v.Context(), planned(o, body)); err != nil {
		v.Error(err)
	}
	left := v.versions("")
	if len(left) != 1 || left[0].VersionID != manifest.VersionID || left[0].DeleteMarker {
		v.Errorf("left is %+v", left)
	}
	requests := sent.all()
	if len(requests) != 1 || requests[0].Method != http.MethodDelete || requests[0].URL.Query().Get("versionId") != o.VersionID ||
		requests[0].URL.Path != "/"+v.cfg.Bucket+"/"+o.Key {
		v.Errorf("sent was %v", requests)
	}
	for _, r := range requests {
		if r.Header.Get("X-Amz-Bypass-Governance-Retention") != "" || r.Header.Get("X-Minio-Force-Delete") != "" {
			v.Errorf("sent with %v", r.Header)
		}
	}
	// A plan that is resumed.
	if err := later.Dispose(v.Context(), planned(o, body)); !errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrNotExpired) {
		v.Errorf("a second time gives %v", err)
	}
	if n := len(sent.all()); n != 1 {
		v.Errorf("%d requests to delete were sent", n)
	}
}

// oneVersionOfTwoGoes: the other stays, also where the key is the same.
func oneVersionOfTwoGoes(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	forged, err := v.raw.PutObject(v.Context(), v.cfg.Bucket, o.Key, strings.NewReader("forged"), 6, minio.PutObjectOptions{
		Mode: minio.Compliance, RetainUntilDate: time.Now().AddDate(1, 0, 0), DisableContentSha256: true, Checksum: minio.ChecksumSHA256,
	})
	if err != nil {
		v.Fatal(err)
	}
	d := planned(o, body)
	d.SHA256 = "" // as of a file that went up in parts
	later, sent := v.at(sevenMonths(), sevenMonths())
	if err := later.Dispose(v.Context(), d); err != nil {
		v.Error(err)
	}
	if left := v.versions(""); len(left) != 1 || left[0].VersionID != forged.VersionID || left[0].DeleteMarker {
		v.Errorf("left is %+v", left)
	}
	v.refuses("the other", storage.Disposable{Key: o.Key, VersionID: forged.VersionID, Size: 6}, later, &deletions{})
	if n := len(sent.all()); n != 1 {
		v.Errorf("%d requests to delete were sent", n)
	}
}

func lockedFootageStays(v *vault) {
	body := []byte("footage")
	locked := v.create(footageKey, body)
	now, sent := v.at(0, 0)
	v.refuses("locked", planned(locked, body), now, sent)
	long := v.lockedUntil(footageKey+"2", body, time.Now().AddDate(1, 0, 0))
	later, sent := v.at(sevenMonths(), sevenMonths())
	v.refuses("locked for longer than the floor", planned(long, body), later, sent)
	unseen, sent := v.behind(liar{answer: func(r *http.Response) { r.Header.Del(lockMode) }}.front(v.T, v.server), sevenMonths(), sevenMonths())
	v.refuses("a lock that is not shown", planned(locked, body), unseen, sent)
}

func theFloorOutlastsTheLock(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	now, sent := v.at(0, 0)
	v.refuses("stored today", planned(o, body), now, sent)
	fiveMonths := time.Until(time.Now().AddDate(0, 5, 0))
	later, sent := v.at(fiveMonths, fiveMonths)
	v.refuses("stored five months ago", planned(o, body), later, sent)
}

func oneClockAloneShortensNothing(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	year := time.Until(time.Now().AddDate(1, 0, 0))
	for what, ahead := range map[string][2]time.Duration{
		"the station's clock is a year ahead": {year, 0},
		"the store's clock is a year ahead":   {0, year},
		"the clocks are months apart":         {sevenMonths(), year}, // though both are past all dates
		"the clocks are months apart again":   {year, sevenMonths()},
	} {
		later, sent := v.at(ahead[0], ahead[1])
		v.refuses(what, planned(o, body), later, sent)
	}
}

// theClockBehindCounts: within the 15 minutes that clocks may be apart.
func theClockBehindCounts(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	floor := storage.RetainUntil(o.StoredAt, storage.FloorMonths, storetest.Zone)
	locked := v.lockedUntil(footageKey+"2", body, floor.AddDate(0, 1, 0))
	for what, end := range map[string]struct {
		time.Time
		storage.Object
	}{"floor": {floor, o}, "lock": {locked.RetainUntil, locked}} {
		before, after := time.Until(end.Add(-5*time.Minute)), time.Until(end.Add(5*time.Minute))
		for _, ahead := range [][2]time.Duration{{before, after}, {after, before}} {
			later, sent := v.at(ahead[0], ahead[1])
			v.refuses(what+" has ended by one clock", planned(end.Object, body), later, sent)
		}
	}
	// Both are past it: it was nothing else that was refused.
	after := time.Until(floor.Add(5 * time.Minute))
	later, _ := v.at(after, after)
	if err := later.Dispose(v.Context(), planned(o, body)); err != nil {
		v.Error(err)
	}
}

func unknownTimeKeeps(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	cfg := liar{answer: func(r *http.Response) { r.Header.Set("Date", "soon") }}.front(v.T, v.server)
	cfg.Bucket, cfg.Now = v.cfg.Bucket, func() time.Time { return time.Now().Add(sevenMonths()) }
	later, err := storage.Look(cfg)
	if err != nil {
		v.Fatal(err)
	}
	v.refuses("a store that tells no time", planned(o, body), later, &deletions{})
}

func heldFootageStays(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	later, sent := v.at(sevenMonths(), sevenMonths())
	if err := v.SetHold(v.Context(), o.Key, o.VersionID, true); err != nil {
		v.Fatal(err)
	}
	v.refuses("held", planned(o, body), later, sent)
	if err := v.keeps("held", planned(o, body), later, sent); !errors.Is(err, storage.ErrHeld) {
		v.Errorf("held gives %v", err)
	}
	// HEAD alone knows of it, as a store may that answers for another version.
	half, sent2 := v.behind(liar{instead: answersHolds(http.StatusOK, `<LegalHold><Status>OFF</Status></LegalHold>`)}.front(v.T, v.server), sevenMonths(), sevenMonths())
	if err := v.keeps("held by HEAD", planned(o, body), half, sent2); !errors.Is(err, storage.ErrHeld) {
		v.Errorf("held by HEAD gives %v", err)
	}
	// And the question alone.
	half, sent2 = v.behind(liar{answer: func(r *http.Response) { r.Header.Del("X-Amz-Object-Lock-Legal-Hold") }}.front(v.T, v.server), sevenMonths(), sevenMonths())
	if err := v.keeps("held, not by HEAD", planned(o, body), half, sent2); !errors.Is(err, storage.ErrHeld) {
		v.Errorf("held, not by HEAD, gives %v", err)
	}
	if err := v.SetHold(v.Context(), o.Key, o.VersionID, false); err != nil {
		v.Fatal(err)
	}
	if err := later.Dispose(v.Context(), planned(o, body)); err != nil {
		v.Errorf("no longer held: %v", err)
	}
	v.isEmpty("")
}

// unknownHoldKeeps: whatever is not a clear answer counts as a hold.
func unknownHoldKeeps(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	for what, l := range map[string]liar{
		"500":               {instead: answersHolds(http.StatusInternalServerError, "")},
		"403":               {instead: answersHolds(http.StatusForbidden, `<Error><Code>AccessDenied</Code></Error>`)},
		"404":               {instead: answersHolds(http.StatusNotFound, "")},
		"404 of another":    {instead: answersHolds(http.StatusNotFound, `<Error><Code>NoSuchBucketPolicy</Code></Error>`)},
		"not implemented":   {instead: answersHolds(http.StatusNotImplemented, `<Error><Code>NotImplemented</Code></Error>`)},
		"nothing":           {instead: answersHolds(http.StatusOK, "")},
		"the object itself": {instead: answersHolds(http.StatusOK, "footage")},
		"no status":         {instead: answersHolds(http.StatusOK, `<LegalHold></LegalHold>`)},
		"an odd status":     {instead: answersHolds(http.StatusOK, `<LegalHold><Status>off</Status></LegalHold>`)},
	} {
		later, sent := v.behind(l.front(v.T, v.server), sevenMonths(), sevenMonths())
		v.refuses("a hold is asked for and the answer is "+what, planned(o, body), later, sent)
		if held, err := later.Held(v.Context(), o.Key, o.VersionID); err == nil {
			v.Errorf("%s is taken for %t", what, held)
		}
	}
}

// answersHolds answers by itself whoever asks for a hold.
func answersHolds(status int, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !r.URL.Query().Has("legal-hold") {
			return false
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return true
	}
}

func whatIsNotPlannedStays(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	later, sent := v.at(sevenMonths(), sevenMonths())
	for what, change := range map[string]func(*storage.Disposable){
		"no version":         func(d *storage.Disposable) { d.VersionID = "" },
		"a byte more":        func(d *storage.Disposable) { d.Size++ },
		"another SHA-256":    func(d *storage.Disposable) { d.SHA256 = strings.Repeat("0", 64) },
		"a SHA-256 of words": func(d *storage.Disposable) { d.SHA256 = "unknown" },
	} {
		d := planned(o, body)
		change(&d)
		v.refuses(what, d, later, sent)
	}
	// A store that shows another version than was asked for would delete another.
	other, sent := v.behind(liar{answer: func(r *http.Response) { r.Header.Set("X-Amz-Version-Id", "another") }}.front(v.T, v.server), sevenMonths(), sevenMonths())
	v.refuses("another version is shown", planned(o, body), other, sent)
	if v.server.Name != "embedded" { // which makes no delete markers
		if err := v.remove(o.Key, "", false); err != nil {
			v.Fatal(err)
		}
		for _, version := range v.versions(o.Key) {
			if version.DeleteMarker {
				_ = v.keeps("a delete marker", storage.Disposable{Key: version.Key, VersionID: version.VersionID}, later, sent)
			}
		}
	}
}

// nothingButFootageGoes, though its lock has ended.
func nothingButFootageGoes(v *vault) {
	later, sent := v.at(sevenMonths(), sevenMonths())
	var made sync.WaitGroup
	for _, key := range []string{
		storage.MarkerKey, ".ingestd/2026-01-01/a/footage/b",
		"station-1/ledger/checkpoint/7", "station-1/ledger/a/footage/b", "station-1/keys/2026.pub", "station-1/keys/a/footage/b",
		"station-1/2026-01-01/a/manifest.json", "station-1/2026-01-01/a/manifest.json.sig",
		"station-1/2026-01-01/a/SHA256SUMS", "station-1/2026-01-01/a/SHA256SUMS.sig",
		"station-1/2026-01-01/a/footage", "station-1/2026-01-01/a/b/footage/c", "2026-01-01/a/footage/b",
	} {
		made.Go(func() {
			v.lockedUntil(key, []byte("document"), time.Now().Add(2*time.Second))
		})
	}
	made.Wait()
	if v.Failed() {
		return
	}
	all := v.versions("")
	if len(all) != 13 {
		v.Fatalf("%d are stored", len(all))
	}
	for _, o := range all {
		v.refuses(o.Key, storage.Disposable{Key: o.Key, VersionID: o.VersionID, Size: o.Size}, later, sent)
	}
	for _, key := range []string{"", "station-1/2026-01-01/a/footage/", "station-1/2026-01-01/a/footage/../manifest.json", "station-1/2026-01-01/../footage/x"} {
		v.refuses(key, storage.Disposable{Key: key, VersionID: all[0].VersionID, Size: 8}, later, sent)
	}
}

// aLyingAnswerIsSeen: yes and no to the deletion are words, what HEAD shows counts.
func aLyingAnswerIsSeen(v *vault) {
	body := []byte("footage")
	o := v.expired(footageKey, body)
	deleted := func(r *http.Request) bool { return r.Method == http.MethodDelete }
	for _, status := range []int{http.StatusNoContent, http.StatusForbidden} {
		later, _ := v.behind(liar{instead: instead(status, deleted)}.front(v.T, v.server), sevenMonths(), sevenMonths())
		if err := later.Dispose(v.Context(), planned(o, body)); err == nil || errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrNotExpired) {
			v.Errorf("%d and nothing done gives %v", status, err)
		}
	}
	if n := len(v.versions("")); n != 1 {
		v.Errorf("%d versions", n)
	}
	// An answer that is lost after it was done.
	lost := liar{answer: func(r *http.Response) {
		if r.Request.Method == http.MethodDelete {
			r.StatusCode = http.StatusBadRequest
		}
	}}
	later, _ := v.behind(lost.front(v.T, v.server), sevenMonths(), sevenMonths())
	if err := later.Dispose(v.Context(), planned(o, body)); err != nil {
		v.Errorf("done, and answered with no: %v", err)
	}
	v.isEmpty("")
}

// aLostBucketIsNotGoneFootage: HEAD answers 404 to both.
func aLostBucketIsNotGoneFootage(v *vault) {
	body := []byte("footage")
	d := planned(v.create(footageKey, body), body)
	cfg := v.cfg
	cfg.Bucket += "-none"
	elsewhere, err := storage.Look(cfg)
	if err != nil {
		v.Fatal(err)
	}
	if err := elsewhere.Dispose(v.Context(), d); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrNotFound) {
		v.Errorf("a bucket that is not there gives %v", err)
	}
}
