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

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/catalog"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
	"github.com/bodyworn/ingestd/storage/storetest"
)

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
				sessions, err := j.Sessions(t.Context())
				w.must(err)
				for _, s := range sessions {
					if s.EarlyRemovals != nil {
						t.Errorf("%s: session %s was taken early %d times, which nobody can know", name, s.ID, *s.EarlyRemovals)
					}
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
