// Package catalog makes the journal of a station anew from its bucket. It stands beside
// the flow: nothing is ingested by it, and nothing in the bucket is changed.
//
// What it reads, and what it believes of it:
//   - manifest.json of each session, if the station has signed it and, where the ledger
//     has a line of the session, if it is the one that the line names. Of several
//     versions under one key the right one is found, also below a delete marker.
//   - the ledger, for what came after the seal: the check before use, proofs of reading
//     again, quarantine, tags, holds, longer locks, disposal, and the register.
//   - the locks in the store, where one is longer than either of them says.
//
// Its promises:
//   - A session that has ended is in the new journal as it was in the lost one, but for
//     what no one but the lost one knew: fingerprints of files, which are learned again.
//   - What can't be had is told, session by session, and never made up. One session
//     that can't be had does not stop the others.
//   - A journal that has anything is left alone, and a crash leaves an empty one empty.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// atOnce is how many sessions are read at once, a few small requests each.
const atOnce = 8

// buildingName begins the names of the folders in which journals are made. One that a
// crash has left is removed by the next rebuilding.
const buildingName = "catalog.building-"

// Builder makes a journal anew.
type Builder struct {
	Vault   *storage.Vault
	Journal *journal.Journal // that gets all of it; it must be empty and owned
	Dir     string           // its folder
	// Station is whose sessions they are; empty: all stations of the bucket, into
	// a journal that is for reading only.
	Station string
	// Ring holds the keys that are trusted. For a station of which it has none, the keys
	// that the bucket itself has are taken, which is told.
	Ring *stationkey.Ring
	// Ledger is the folder of the station's ledger; empty: as it was published.
	Ledger string
	// Progress is called as sessions are read; it may be nil.
	Progress func(done, total int)
}

// Result is what was found in the bucket.
type Result struct {
	BucketID  string    `json:"bucket_id"` // empty: it has no marker
	Stations  []Station `json:"stations"`
	Sessions  int       `json:"sessions"`
	Files     int       `json:"files"`
	Recorders int       `json:"recorders"`
	// Problems are what could not be had, and footage that has no manifest.
	Problems []Problem `json:"problems"`
	// Told is worth knowing and makes the catalog no less complete.
	Told []Problem `json:"told"`
}

// Station is one of whom there was something.
type Station struct {
	ID       string `json:"id"`
	Sessions int    `json:"sessions"`
	// Keys says where the keys come from that its signatures were checked by.
	Keys string `json:"keys"`
	// Ledger is how many of its lines were read.
	Ledger int64 `json:"ledger_entries"`
}

// Where keys come from.
const (
	KeysGiven  = "given"  // the caller's ring
	KeysBucket = "bucket" // the bucket itself, not checked against anything kept elsewhere
)

// Kind classes a problem. The strings are stable.
type Kind string

// What can be told of a bucket.
const (
	NoManifest  Kind = "no_manifest"  // footage of a session that has none: it is not complete
	BadManifest Kind = "bad_manifest" // none of its versions can be believed
	NoSession   Kind = "no_session"   // the ledger names a session that is not there
	NoLedger    Kind = "no_ledger"    // it can't be read: what only it tells is not in the catalog
	BadEntry    Kind = "bad_entry"    // one of its lines can't be understood
	NoMarker    Kind = "no_marker"    // nothing says which bucket it is
	Passed      Kind = "passed"       // a version that is not the station's was passed over
	Held        Kind = "held"         // a hold is to be seen to again
	BucketKeys  Kind = "bucket_keys"  // signatures were checked by keys from the bucket itself
)

// Problem is one thing that a person should know.
type Problem struct {
	Kind    Kind   `json:"kind"`
	Station string `json:"station,omitempty"`
	Session string `json:"session,omitempty"`
	Objects int    `json:"objects,omitempty"` // versions of footage that lie there
	Detail  string `json:"detail"`
}

// building is the work on one journal.
type building struct {
	*Builder
	result   Result
	into     *journal.Journal
	dir      string
	newest   time.Time // of all that was seen to have happened
	register map[string]journal.Recorder
	bucket   string
	stations []*station
	done     int
	total    int
}

// Build reads the bucket. What is durable after each step, and what a crash there leaves:
//
//  1. A journal in a folder of its own has all that was found. Crash: the folder is
//     removed by the next try.
//  2. The empty journal has taken it over, in one transaction. Crash: it is done.
//  3. The folder is removed.
//
// The error is for what ends the work; the Result is good without it.
func (b *Builder) Build(ctx context.Context) (Result, error) {
	w := &building{Builder: b, register: map[string]journal.Recorder{}, result: Result{Stations: []Station{}, Problems: []Problem{}, Told: []Problem{}}}
	err := w.build(ctx)
	if err != nil {
		err = fmt.Errorf("catalog of bucket %s: %w", b.Vault.Describe(), err)
	}
	return w.result, err
}

func (w *building) build(ctx context.Context) (err error) {
	if err := w.Journal.MustBeEmpty(ctx); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(w.Dir, buildingName+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if w.dir, err = os.MkdirTemp(w.Dir, buildingName); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(w.dir)) }()
	if w.into, err = journal.Open(w.dir, journal.Own); err != nil {
		return err
	}
	err = w.fill(ctx)
	if err = errors.Join(err, w.into.Close()); err != nil {
		return err
	}
	return w.Journal.TakeOver(ctx, w.dir)
}

func (w *building) fill(ctx context.Context) error {
	if err := w.find(ctx); err != nil {
		return err
	}
	if err := w.knowBucket(ctx); err != nil {
		return err
	}
	for _, s := range w.stations {
		if err := w.station(ctx, s); err != nil {
			return err
		}
	}
	for _, serial := range slices.Sorted(maps.Keys(w.register)) {
		if err := w.into.AddRecorder(ctx, w.register[serial]); err != nil {
			return err
		}
	}
	w.result.Recorders = len(w.register)
	if w.Station == "" {
		if err := w.into.MarkCatalog(ctx, w.Vault.Describe()); err != nil {
			return err
		}
	}
	return w.into.Saw(ctx, w.newest)
}

// knowBucket learns which bucket it is, as a station does that sees it first. With keys
// from the bucket itself the marker proves no more than these.
func (w *building) knowBucket(ctx context.Context) error {
	store := w.Vault.Describe()
	seen, err := w.Journal.BucketID(ctx, store)
	if err != nil {
		return err
	}
	ring := &stationkey.Ring{}
	for _, s := range w.stations {
		for _, signer := range s.ring.Signers() {
			if !slices.ContainsFunc(ring.Signers(), func(had stationkey.Signer) bool { return had.Key.Equal(signer.Key) }) {
				if err := ring.Add(signer); err != nil {
					return err
				}
			}
		}
	}
	m, err := ingest.BucketAudit{Vault: w.Vault, Ring: ring, Station: w.Station, BucketID: seen}.Marker(ctx)
	switch {
	case seen == "" && (errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrWrongBucket)):
		w.problem(Problem{Kind: NoMarker, Detail: "nothing tells which bucket this is: " + err.Error()})
		return nil
	case err != nil:
		return err
	}
	w.bucket, w.result.BucketID = m.BucketID, m.BucketID
	return w.into.SawBucket(ctx, store, m.BucketID)
}

// station reads all of one station, in the order in which its sessions were docked.
func (w *building) station(ctx context.Context, s *station) error {
	if err := w.readLedger(ctx, s); err != nil {
		return err
	}
	for batch := range slices.Chunk(slices.SortedFunc(maps.Values(s.folders), func(a, b *folder) int { return strings.Compare(a.prefix, b.prefix) }), atOnce) {
		read := make([]*session, len(batch))
		all, reading := errgroup.WithContext(ctx)
		for i, f := range batch {
			all.Go(func() (err error) {
				read[i], err = w.read(reading, s, f)
				return err
			})
		}
		if err := all.Wait(); err != nil {
			return err
		}
		for _, r := range read {
			if err := w.restore(ctx, s, r); err != nil {
				return err
			}
			w.done++
			if w.Progress != nil {
				w.Progress(w.done, w.total)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.told.sessions)) {
		t := s.told.sessions[id]
		if len(t.manifests) > 0 && s.folders[strings.TrimSuffix(t.manifests[0].Key, manifest.FileName)] == nil {
			w.problem(Problem{Kind: NoSession, Station: s.id, Session: id, Detail: "the ledger names " + t.manifests[0].Key + ", and nothing of it is in the bucket"})
		}
	}
	w.result.Stations = append(w.result.Stations, Station{ID: s.id, Sessions: len(s.restored), Keys: s.keys, Ledger: s.told.lines})
	w.saw(s.told.newest)
	for _, r := range s.told.recorders {
		if had, ok := w.register[r.Serial]; !ok || had.AddedAt.Before(r.AddedAt) {
			w.register[r.Serial] = r
		}
	}
	return w.holds(ctx, s)
}

// restore writes what was read of a session.
func (w *building) restore(ctx context.Context, s *station, r *session) error {
	w.result.Problems = append(w.result.Problems, r.problems...)
	w.result.Told = append(w.result.Told, r.told...)
	if r.row.ID == "" {
		return nil
	}
	t := s.told.of(r.row.ID)
	if err := w.into.Restore(ctx, journal.Restored{
		Session: r.row, Files: r.files, Scrubs: t.scrubs,
		Tags: slices.SortedFunc(maps.Values(t.tags), func(a, b journal.Tag) int { return strings.Compare(a.Tag, b.Tag) }),
	}); err != nil {
		return err
	}
	for _, q := range t.quarantined {
		if i := r.quarantinedAs(q); i >= 0 {
			q.File = r.files[i].ID
		}
		if err := w.into.Quarantine(ctx, q); err != nil {
			return err
		}
	}
	s.restored[r.row.ID] = true
	w.result.Sessions++
	w.result.Files += len(r.files)
	w.saw(r.row.EndedAt)
	return nil
}

func (w *building) saw(at time.Time) {
	if at.After(w.newest) {
		w.newest = at
	}
}

func (w *building) problem(p Problem) { w.result.Problems = append(w.result.Problems, p) }
func (w *building) tell(p Problem)    { w.result.Told = append(w.result.Told, p) }
