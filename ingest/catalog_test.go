package ingest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/catalog"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// contents is all that a journal says of its sessions, but for what a bucket can't know.
func contents(t *testing.T, j *journal.Journal) string {
	t.Helper()
	type row struct {
		Session      journal.Session
		Files        []*journal.File
		Scrub        *journal.Scrub
		Quarantined  []journal.Quarantined
		QuarantineOf []string // paths
		Tags         []journal.Tag
		SM3          map[string]string
	}
	sessions, err := j.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var rows []any
	for _, s := range sessions {
		r := row{Session: s}
		var errs [5]error
		r.Files, errs[0] = j.Files(t.Context(), s.ID)
		r.Scrub, errs[1] = j.LastScrub(t.Context(), s.ID)
		r.Quarantined, errs[2] = j.QuarantinedOf(t.Context(), s.ID)
		r.Tags, errs[3] = j.Tags(t.Context(), s.ID)
		r.SM3, errs[4] = j.SM3s(t.Context(), s.ID)
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		for i, q := range r.Quarantined {
			path := "none"
			for _, f := range r.Files {
				if f.ID == q.File {
					path = f.Entry.Path
				}
			}
			r.QuarantineOf = append(r.QuarantineOf, path)
			r.Quarantined[i].File = 0
		}
		for _, f := range r.Files {
			f.ID, f.Fingerprint, f.CRC64, f.Object.ETag = 0, "", 0, ""
			f.Upload.Key = ""
			if f.State.Bad() { // of a file that is not stored only what people are shown
				f.Object.Checksum, f.StoredAt = storage.Checksum{}, time.Time{}
				if f.Object.VersionID == "" {
					f.Object = storage.Object{}
				}
				f.Object.Size = f.Entry.Size
			}
			if f.State == journal.Noted {
				f.Object.Key, f.Object.Size = "", 0
			}
		}
		rows = append(rows, r)
	}
	holds, err1 := j.Holds(t.Context())
	recorders, err2 := j.Recorders(t.Context())
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(append(rows, holds, recorders), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// differ shows where two texts differ first.
func differ(t *testing.T, what, got, want string) {
	t.Helper()
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("%s: line %d differs:\n%s\nwant\n%s", what, i, strings.Join(a[max(0, i-12):min(len(a), i+3)], "\n"), strings.Join(b[max(0, i-3):min(len(b), i+3)], "\n"))
			return
		}
	}
	if len(a) != len(b) {
		t.Errorf("%s: %d lines, want %d", what, len(a), len(b))
	}
}

// tell writes to the ledger what has been written to the journal.
func (w *world) tell(at time.Time, e ledger.Entry) {
	w.t.Helper()
	e.Station, e.Actor, e.Time = w.cfg.ID, "uid 1000", at.In(w.cfg.Location)
	if _, err := w.evidence.Ledger.Append(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) must(errs ...error) {
	w.t.Helper()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}

// rebuilt makes a journal from the bucket in a folder of its own.
func (w *world) rebuilt(change func(*catalog.Builder)) (*journal.Journal, catalog.Result) {
	w.t.Helper()
	j, result, err := w.rebuild(w.t.TempDir(), change)
	w.must(err)
	w.t.Cleanup(func() { w.must(j.Close()) })
	return j, result
}

// rebuild gives a journal that the caller closes.
func (w *world) rebuild(dir string, change func(*catalog.Builder)) (*journal.Journal, catalog.Result, error) {
	w.t.Helper()
	j, err := journal.Open(dir, journal.Own)
	w.must(err)
	b := &catalog.Builder{Vault: w.vault, Journal: j, Dir: dir, Station: w.cfg.ID, Ring: w.evidence.Ring}
	if change != nil {
		change(b)
	}
	result, err := b.Build(w.t.Context())
	if left, _ := filepath.Glob(filepath.Join(dir, "catalog.building-*")); len(left) != 0 {
		w.t.Errorf("left behind: %v", left)
	}
	return j, result, err
}

// attend docks a recorder with a clock.
func (w *world) attend(r device.Recorder) ingest.Report {
	w.t.Helper()
	d, remove := docking(r)
	defer remove()
	report, err := w.station.Ingest(w.t.Context(), d, ingest.Options{})
	w.must(err)
	return report
}

// rich fills a station with sessions of every kind, and with what becomes of them
// later.
func rich(t *testing.T, w *world) {
	t.Helper()
	ctx := t.Context()
	w.wear()
	w.must(w.station.Prepare(ctx))

	odd := t.TempDir()
	if _, err := simulator.Odd(odd); err != nil {
		t.Fatal(err)
	}
	write(t, odd, map[string]int{"meet/a%2Fb": 10, "meet/a/b": 10, "meet/x\ny": 10, "DCIM/large.mp4": 2*partSize + 1})
	plain := w.mustDock(odd, ingest.Options{Recorder: "R1", Officer: "052507"})
	w.cfg.SM3 = true // of what is there already it is unknown
	w.wear()
	w.mustDock(odd, ingest.Options{Recorder: "R1", Officer: "052507"}) // identical

	card := t.TempDir()
	write(t, card, map[string]int{"A.MP4": 1000, "B.MP4": 3000})
	set := wornOn(t, card, "R2")
	set.clock = reading(192*time.Second, time.Now().Add(-24*time.Hour))
	full := 90
	set.health.BatteryPercent = &full
	w.attend(set)
	drifted := wornOn(t, card, "R2")
	eventually(t, func() bool { // the number is free again some time after the removal
		drifted = wornOn(t, card, "R2")
		d, remove := docking(drifted)
		defer remove()
		_, err := w.station.Ingest(ctx, d, ingest.Options{})
		return err == nil
	})
	bounded := wornOn(t, card, "R3")
	bounded.clock = device.ClockReading{Kind: device.ClockUnknown, Method: "a disk has no clock", StationTime: time.Now()}
	late := time.Now().Add(time.Hour)
	w.must(os.Chtimes(filepath.Join(card, "B.MP4"), late, late))
	w.attend(bounded)
	failed := wornOn(t, card, "R4")
	failed.spoiled = "A.MP4"
	if r := w.attend(failed); r.State != ingest.Failed {
		t.Fatal(r.State)
	}

	// What came after the seal. The station tells the ledger of most of it by itself.
	now := w.journal.Now()
	sessions, err := w.journal.Sessions(ctx)
	w.must(err)
	for _, s := range sessions {
		if p := s.Condition.PreUse; p != nil {
			text, err := json.Marshal(p)
			w.must(err)
			w.tell(now, ledger.Entry{Event: "preuse.checked", Session: s.ID, Detail: map[string]string{"preuse": string(text)}})
		}
	}
	id := plain.Session.ID
	f := fileOf(t, plain, "DCIM/large.mp4")
	for i := range 2 {
		at := now.Add(time.Duration(i) * time.Second)
		w.tell(at, ledger.Entry{Event: "session.scrubbed", Session: id, Detail: map[string]string{"objects": "7", "bytes": "123", "findings": strconv.Itoa(i)}})
		w.must(w.journal.Scrubbed(ctx, journal.Scrub{Session: id, At: at, Objects: 7, Bytes: 123, Findings: i}))
	}
	w.tell(now, ledger.Entry{Event: "object.quarantined", Session: id, Reason: "rot", Objects: []ledger.Object{{Key: f.Object.Key, Version: f.Object.VersionID}}})
	w.must(w.journal.Quarantine(ctx, journal.Quarantined{Key: f.Object.Key, Version: f.Object.VersionID, Session: id, Reason: "rot", At: now}))
	for _, tag := range []string{"案件", "gone"} {
		w.tell(now, ledger.Entry{Event: "tag.added", Session: id, Detail: map[string]string{"tag": tag}})
		w.must(w.journal.AddTag(ctx, journal.Tag{Session: id, Tag: tag, AddedAt: now, AddedBy: "uid 1000"}))
	}
	w.tell(now, ledger.Entry{Event: "tag.removed", Session: id, Detail: map[string]string{"tag": "gone"}})
	w.must(w.journal.RemoveTag(ctx, id, "gone"))
	for _, serial := range []string{"R1", "R9"} {
		w.tell(now, ledger.Entry{Event: "recorder.registered", Recorder: serial, Detail: map[string]string{"officer": "150525", "unit": "一队", "profile": ""}})
		w.must(w.journal.AddRecorder(ctx, journal.Recorder{Serial: serial, Officer: "150525", Unit: "一队", AddedAt: now}))
	}
	w.tell(now, ledger.Entry{Event: "recorder.registered", Recorder: "R0", Detail: map[string]string{"officer": "1"}})
	w.tell(now, ledger.Entry{Event: "recorder.removed", Recorder: "R0"})

	// One is locked for longer as the ledger says, another as only the store shows.
	for i, s := range []journal.Session{sessions[0], sessions[1]} {
		until := s.RetainUntil.Add(100 * 24 * time.Hour)
		files, err := w.journal.Files(ctx, s.ID)
		w.must(err)
		for _, f := range files {
			if f.Object.VersionID != "" && f.State.Good() {
				w.must(w.vault.Extend(ctx, f.Object.Key, f.Object.VersionID, until))
			}
		}
		w.must(w.vault.Extend(ctx, s.Manifest.Key, s.Manifest.VersionID, until))
		if i == 0 {
			w.tell(now, ledger.Entry{Event: "retention.extended", Session: s.ID, Detail: map[string]string{"to": until.In(w.cfg.Location).Format(time.RFC3339), "permanent": "true"}})
		}
		w.must(w.journal.Lengthened(ctx, s.ID, until, i == 0))
	}
	gone := sessions[2].RetainUntil.Add(time.Hour) // its lock has ended
	w.tell(gone, ledger.Entry{Event: "disposal.session", Session: sessions[2].ID})
	w.must(w.journal.Disposed(ctx, sessions[2].ID, gone))

	hold := func(h journal.Hold, e ledger.Entry) {
		e.Event, e.Reason = "hold.added", h.Reason
		e.Detail["hold"], e.Detail["case"] = h.ID, h.Case
		w.tell(now, e)
		w.must(w.journal.AddHold(ctx, h))
	}
	hold(journal.Hold{ID: "H1", State: journal.HoldSetting, Case: "案 1", Reason: "whole", AskedFor: "officer 1", AddedAt: now, AddedBy: "uid 1000",
		Of: []journal.Held{{Session: id}, {Session: sessions[1].ID}}},
		ledger.Entry{Detail: map[string]string{"query": "officer 1", "sessions": "2", "session_ids": id + " " + sessions[1].ID}})
	hold(journal.Hold{ID: "H2", State: journal.HoldReleasing, Case: "案 2", Reason: "one recording", AddedAt: now, AddedBy: "uid 1000", Of: []journal.Held{{Session: id, Path: f.Entry.Path}},
		ReleasedAt: now, ReleasedBy: "uid 1000", ReleaseReason: "closed"},
		ledger.Entry{Session: id, Detail: map[string]string{"sessions": "1"}, Objects: []ledger.Object{{Key: f.Object.Key, Version: f.Object.VersionID}}})
	w.tell(now, ledger.Entry{Event: "hold.released", Reason: "closed", Detail: map[string]string{"hold": "H2"}})
	w.must(w.station.Publish(ctx))
}

// Whoever has only the bucket gets back what the lost journal had.
func TestACatalogIsTheLostJournal(t *testing.T) {
	t.Parallel()
	for _, server := range []func(testing.TB) *storetest.Server{storetest.Embedded, func(t testing.TB) *storetest.Server { return storetest.MinIO(t, false) }} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, server(t))
			rich(t, w)
			before := contents(t, w.journal)
			bucket, err := w.journal.BucketID(t.Context(), w.vault.Describe())
			w.must(err)
			for name, change := range map[string]func(*catalog.Builder){
				"by the station's ring": nil,
				"by keys of the bucket": func(b *catalog.Builder) { b.Ring = nil },
				"with its ledger":       func(b *catalog.Builder) { b.Ledger = filepath.Join(w.dir, "ledger") },
			} {
				j, result := w.rebuilt(change)
				differ(t, name, contents(t, j), before)
				if len(result.Problems) != 0 || result.BucketID != bucket || bucket == "" || len(result.Stations) != 1 || result.Stations[0].Ledger == 0 {
					t.Errorf("%s: %+v", name, result)
				}
				if fromBucket := result.Stations[0].Keys == catalog.KeysBucket; fromBucket != strings.Contains(name, "keys") ||
					fromBucket != slices.ContainsFunc(result.Told, func(p catalog.Problem) bool { return p.Kind == catalog.BucketKeys }) {
					t.Errorf("%s: keys %s, told %+v", name, result.Stations[0].Keys, result.Told)
				}
				if seen, err := j.BucketID(t.Context(), w.vault.Describe()); err != nil || seen != bucket {
					t.Errorf("%s: bucket %q, want %q (%v)", name, seen, bucket, err)
				}
				if back := w.journal.Now().Sub(j.Now()); back > time.Minute {
					t.Errorf("%s: time fell back by %s", name, back)
				}
			}
		})
	}
}

// What the store has spoilt is known to be spoilt again.
func TestACatalogKnowsCorruptObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store.Name = "store"
	reads := map[string]int{}
	w.through(&line{answer: func(r *http.Response) error {
		again := footageOf(r.Request, "again.mp4")
		if again {
			reads[r.Request.URL.Path]++
		}
		if r.Request.Method == http.MethodGet && (again || strings.Contains(r.Request.URL.Path, "/footage/never.mp4")) {
			r.Body = &flipping{r.Body, 500}
		}
		return nil
	}})
	w.must(w.station.Prepare(t.Context()))
	card := t.TempDir()
	write(t, card, map[string]int{"again.mp4": 1000, "never.mp4": 1000, "good.mp4": 1000})
	r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil)
	w.must(err)
	if stateOf(r, "never.mp4") != journal.Corrupt || stateOf(r, "again.mp4") != journal.Verified {
		t.Fatalf("never.mp4 is %s, again.mp4 %s", stateOf(r, "never.mp4"), stateOf(r, "again.mp4"))
	}
	w.mend()
	all, err := w.journal.QuarantinedOf(t.Context(), r.Session.ID)
	w.must(err)
	if len(all) != 3 {
		t.Fatalf("%d objects in quarantine", len(all))
	}
	for _, q := range all {
		w.tell(q.At, ledger.Entry{Event: "object.quarantined", Session: q.Session, Reason: q.Reason, Objects: []ledger.Object{{Key: q.Key, Version: q.Version}}})
	}
	w.must(w.station.Publish(t.Context()))
	before := contents(t, w.journal)
	j, result := w.rebuilt(nil)
	differ(t, "rebuilt", contents(t, j), before)
	if len(result.Problems) != 0 {
		t.Errorf("%+v", result.Problems)
	}
}

// A card that is docked again is recognised: nothing is stored twice, though the
// fingerprints are gone, and from then on it is quick again.
func TestIdenticalFilesAreKnownAfterARebuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.station.Prepare(t.Context()))
	card := t.TempDir()
	write(t, card, map[string]int{"large.mp4": 3 * partSize, "b.mp4": 3000})
	w.mustDock(card, ingest.Options{Recorder: "R1"})
	before := w.objects()
	dir := t.TempDir()
	j, _, err := w.rebuild(dir, nil)
	w.must(err, j.Close(), w.journal.Close(), os.Rename(filepath.Join(dir, journal.FileName), filepath.Join(w.dir, journal.FileName)))
	w.start()
	const documents = 4
	for i, reads := range []int64{3*partSize + 3000, 2<<20 + 3000} { // all of it; then the first and last MiB
		r := w.mustDock(card, ingest.Options{Recorder: "R1"})
		if r.Totals.Identical != 2 || w.objects() != before+(i+1)*documents || r.BytesRead != reads {
			t.Errorf("docking %d: %+v, %d objects, %d bytes read", i, r.Totals, w.objects()-before, r.BytesRead)
		}
	}
	// Another recording with the same name, size, time and ends is none of those.
	large := filepath.Join(card, "large.mp4")
	info, err := os.Stat(large)
	w.must(err)
	j, _ = w.rebuilt(nil)
	other := newWorldWith(w, j)
	body, err := os.ReadFile(large)
	w.must(err)
	body[len(body)/2] ^= 1
	w.must(os.WriteFile(large, body, 0o600), os.Chtimes(large, info.ModTime(), info.ModTime()))
	r, err := other.dock(card, ingest.Options{Recorder: "R1"}, nil)
	w.must(err)
	if r.Totals.Identical != 1 || r.Totals.Stored != 1 {
		t.Errorf("changed in the middle: %+v", r.Totals)
	}
}

// newWorldWith is the same station with another journal.
func newWorldWith(w *world, j *journal.Journal) *world {
	return &world{t: w.t, server: w.server, store: w.store, cfg: w.cfg, vault: w.vault, journal: j, evidence: w.evidence,
		station: ingest.NewStation(w.cfg, w.vault, j, w.evidence)}
}

// What somebody puts over a manifest, or over its signature, or in front of it, changes
// nothing; and what can't be had is told, and stops nothing else.
func TestACatalogBelievesOnlyTheStation(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	w := newWorldOn(t, server)
	w.must(w.station.Prepare(t.Context()))
	var reports []ingest.Report
	for i := range 6 {
		card := t.TempDir()
		write(t, card, map[string]int{"a.mp4": 1000 + i})
		reports = append(reports, w.mustDock(card, ingest.Options{Recorder: "R" + strconv.Itoa(i)}))
	}
	before := contents(t, w.journal)
	client, bucket := server.Client(), w.store.Bucket
	over := func(key string, body []byte) {
		_, err := client.PutObject(t.Context(), bucket, key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
		w.must(err)
	}
	edit := func(body []byte) []byte { return bytes.Replace(body, []byte(`"slot": "`), []byte(`"slot": "X`), 1) }
	key := func(i int) string { return reports[i].Session.Manifest.Key }
	original := func(i int) []byte {
		body, _ := w.fetch(key(i), reports[i].Session.Manifest.VersionID)
		return body
	}
	thief, err := stationkey.Create(filepath.Join(t.TempDir(), "thief"), "TEST-99")
	w.must(err, w.evidence.Ring.Add(stationkey.Signer{Principal: "TEST-99", Key: thief.Public()}))
	forged := edit(original(1))
	signed, err := thief.Sign("ingestd-manifest", forged)
	w.must(err)
	over(key(0), edit(original(0)))                                                       // edited
	over(key(1), forged)                                                                  // and signed by another
	over(key(1)+".sig", signed)                                                           //
	w.must(client.RemoveObject(t.Context(), bucket, key(2), minio.RemoveObjectOptions{})) // hidden
	over(key(3), original(4))                                                             // another's, with its good signature
	sig, _ := w.fetch(key(4)+".sig", "")
	over(key(3)+".sig", sig)
	over(w.cfg.ID+"/2020-01-01/"+reports[4].Session.ID+"/manifest.json", original(4)) // at another place
	for o := range client.ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Prefix: w.cfg.ID + "/ledger/", Recursive: true}) {
		w.must(o.Err, client.RemoveObject(t.Context(), bucket, o.Key, minio.RemoveObjectOptions{})) // the ledger is hidden
	}
	j, result := w.rebuilt(nil)
	differ(t, "rebuilt", contents(t, j), before)
	passed := 0
	for _, p := range result.Told {
		if p.Kind == catalog.Passed {
			passed++
		}
	}
	if len(result.Problems) != 1 || !strings.Contains(result.Problems[0].Detail, "2020-01-01") || passed != 3 {
		t.Errorf("%d were passed over, %+v", passed, result)
	}

	// The station has signed two, and only the ledger tells which one it sealed with.
	second := edit(original(5))
	secondSig, err := w.evidence.Key.Sign("ingestd-manifest", second)
	w.must(err)
	over(key(5), second)
	over(key(5)+".sig", secondSig)
	j, result = w.rebuilt(nil)
	differ(t, "two are signed", contents(t, j), before)
	if len(result.Problems) != 1 {
		t.Errorf("two are signed: %+v", result.Problems)
	}

	// Without the ledger a signature decides, and where it can't, nothing is guessed.
	over(w.cfg.ID+"/ledger/entries/0000000000009999-0000000000010000.jsonl", []byte("x\n")) // foreign: it is no ledger now
	j, result = w.rebuilt(nil)
	var rows []json.RawMessage
	w.must(json.Unmarshal([]byte(before), &rows))
	rows = slices.DeleteFunc(rows, func(row json.RawMessage) bool { return strings.Contains(string(row), reports[5].Session.ID) })
	text, err := json.MarshalIndent(rows, "", " ")
	w.must(err)
	fewer := string(text)
	differ(t, "without the ledger", contents(t, j), fewer)
	if len(result.Problems) != 3 || result.Problems[0].Kind != catalog.NoLedger || !strings.Contains(result.Problems[1].Detail, "2020-01-01") ||
		result.Problems[2].Kind != catalog.BadManifest || result.Problems[2].Session != reports[5].Session.ID || !strings.Contains(result.Problems[2].Detail, "names neither") {
		t.Errorf("%+v", result.Problems)
	}

	// A session whose manifest is nowhere, and one that had not ended.
	prefix := w.cfg.ID + "/2026-01-02/20260102-030405-aaaaaaaa/"
	over(prefix+"footage/a.mp4", []byte("a"))
	over(prefix+"footage/b.mp4", []byte("b"))
	bad := w.cfg.ID + "/2026-01-03/20260103-030405-bbbbbbbb/"
	over(bad+"manifest.json", []byte("{}"))
	over(bad+"footage/a.mp4", []byte("a"))
	j, result = w.rebuilt(nil)
	differ(t, "the others", contents(t, j), fewer)
	kinds := map[catalog.Kind]catalog.Problem{}
	for _, p := range result.Problems {
		if p.Session != reports[5].Session.ID && p.Session != reports[4].Session.ID {
			kinds[p.Kind] = p
		}
	}
	if len(kinds) != 3 || kinds[catalog.NoManifest].Objects != 2 || !strings.Contains(kinds[catalog.NoManifest].Detail, "without manifest, 2 objects") ||
		kinds[catalog.BadManifest].Session != "20260103-030405-bbbbbbbb" {
		t.Errorf("%+v", result.Problems)
	}
}

// The ledger has a session of which the bucket has nothing, and one that was sealed with
// another manifest than the one that is there, though the station has signed that too.
func TestACatalogMissesWhatTheLedgerNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.station.Prepare(t.Context()))
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	m := w.manifestOf(w.mustDock(card, ingest.Options{}))
	m.Session.ID, m.Vault.Prefix = "other", "TEST-01/2026-01-01/other/"
	body, err := m.Encode()
	w.must(err)
	sig, err := w.evidence.Key.Sign("ingestd-manifest", body)
	w.must(err)
	for name, body := range map[string][]byte{"manifest.json": body, "manifest.json.sig": sig} {
		_, err := w.vault.Create(t.Context(), m.Vault.Prefix+name, body, sha256.Sum256(body), w.vault.RetainUntil())
		w.must(err)
	}
	w.tell(time.Now(), ledger.Entry{Event: "session.sealed", Session: "other", Objects: []ledger.Object{{Key: m.Vault.Prefix + "manifest.json", SHA256: strings.Repeat("0", 64)}}})
	w.tell(time.Now(), ledger.Entry{Event: "session.sealed", Session: "gone", Objects: []ledger.Object{{Key: "TEST-01/2026-01-01/gone/manifest.json", SHA256: strings.Repeat("0", 64)}}})
	w.tell(time.Now(), ledger.Entry{Event: "session.scrubbed", Session: "gone", Detail: map[string]string{"objects": "many"}})
	w.must(w.station.Publish(t.Context()))
	_, result := w.rebuilt(nil)
	var kinds []catalog.Kind
	for _, p := range result.Problems {
		kinds = append(kinds, p.Kind)
	}
	if !slices.Equal(kinds, []catalog.Kind{catalog.BadEntry, catalog.BadManifest, catalog.NoSession}) || result.Sessions != 1 {
		t.Errorf("%+v", result)
	}
}

// A journal that has anything stays as it is, byte for byte.
func TestACatalogReplacesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.station.Prepare(t.Context()))
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	w.mustDock(card, ingest.Options{Recorder: "R1"})
	for name, fill := range map[string]func(*journal.Journal) error{
		"a session": func(j *journal.Journal) error {
			return j.SaveSession(t.Context(), journal.Session{ID: "other", State: journal.StateOpen})
		},
		"a recorder": func(j *journal.Journal) error { return j.AddRecorder(t.Context(), journal.Recorder{Serial: "R7"}) },
	} {
		dir := t.TempDir()
		j, err := journal.Open(dir, journal.Own)
		w.must(err, fill(j))
		before := contents(t, j)
		w.must(j.Close())
		j, _, err = w.rebuild(dir, nil)
		if !errors.Is(err, journal.ErrNotEmpty) || contents(t, j) != before {
			t.Errorf("%s: %v\n%s", name, err, contents(t, j))
		}
		w.must(j.Close())
	}
	// One that is empty keeps what it knows of itself: the latest time, and its bucket.
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Own)
	w.must(err)
	future := time.Now().Add(time.Hour)
	w.must(j.Saw(t.Context(), future), j.Close())
	j, result, err := w.rebuild(dir, nil)
	if err != nil || result.Sessions != 1 || j.Now().Before(future) {
		t.Errorf("%v, %+v, it is %s", err, result, j.Now())
	}
	w.must(j.Close())
	dir = t.TempDir()
	j, err = journal.Open(dir, journal.Own)
	w.must(err, j.SawBucket(t.Context(), w.vault.Describe(), "another"), j.Close())
	if j, _, err = w.rebuild(dir, nil); !errors.Is(err, storage.ErrWrongBucket) {
		t.Errorf("another bucket: %v", err)
	}
	w.must(j.Close())
}

// The sessions of all stations come together to be read, and no station takes that for
// its own journal.
func TestACatalogOfAllStationsIsForReading(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	first := newWorldOn(t, server)
	first.must(first.station.Prepare(t.Context()))
	second := &world{t: t, server: server, store: first.store, cfg: first.cfg, dir: t.TempDir()}
	second.cfg.ID = "TEST-02"
	second.start()
	t.Cleanup(func() { _ = second.journal.Close() })
	second.must(second.station.Prepare(t.Context()))
	for _, w := range []*world{first, second} {
		card := t.TempDir()
		write(t, card, map[string]int{"a.mp4": 1000})
		w.mustDock(card, ingest.Options{Recorder: "R1"})
	}
	dir := t.TempDir()
	j, result, err := first.rebuild(dir, func(b *catalog.Builder) { b.Station = "" })
	first.must(err)
	if len(result.Stations) != 2 || len(result.Problems) != 0 || result.Sessions != 2 ||
		result.Stations[0].Keys != catalog.KeysGiven || result.Stations[1].Keys != catalog.KeysBucket {
		t.Errorf("%+v", result)
	}
	got := contents(t, j)
	for _, w := range []*world{first, second} {
		sessions, err := w.journal.Sessions(t.Context())
		w.must(err)
		if !strings.Contains(got, sessions[0].ID) {
			t.Errorf("session %s of %s is missing", sessions[0].ID, w.cfg.ID)
		}
	}
	first.must(j.Close())
	if _, err := journal.Open(dir, journal.Own); !errors.Is(err, journal.ErrCatalog) {
		t.Errorf("a station takes it for its own: %v", err)
	}
	shared, err := journal.Open(dir, journal.Share)
	first.must(err)
	defer shared.Close()
	if err := shared.AddRecorder(t.Context(), journal.Recorder{Serial: "R7"}); !errors.Is(err, journal.ErrCatalog) {
		t.Errorf("it is written to: %v", err)
	}
	if contents(t, shared) != got {
		t.Error("it reads otherwise now")
	}
}
