package storage_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

// What keeps footage besides time: holds, doubts, and what was planned.

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
		"a byte more":        func(d *storage.Disposable) { d.Size++ },
		"another SHA-256":    func(d *storage.Disposable) { d.SHA256 = strings.Repeat("0", 64) },
		"a SHA-256 of words": func(d *storage.Disposable) { d.SHA256 = "unknown" },
	} {
		d := planned(o, body)
		change(&d)
		v.refuses(what, d, later, sent)
	}
	// Before the store is asked, which could delete what is current instead.
	d := planned(o, body)
	d.VersionID = ""
	if err := v.keeps("no version", d, later, sent); !strings.Contains(fmt.Sprint(err), "no version is named") || !errors.Is(err, storage.ErrNotExpired) {
		v.Errorf("no version gives %v", err)
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
