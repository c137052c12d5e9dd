package ingest_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/catalog"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
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
		s.EarlyRemovals = nil // the bucket does not tell, and a rebuilt journal says so
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

// newWorldWith is the same station with another journal.
func newWorldWith(w *world, j *journal.Journal) *world {
	return &world{t: w.t, server: w.server, store: w.store, cfg: w.cfg, vault: w.vault, journal: j, evidence: w.evidence,
		station: ingest.NewStation(w.cfg, w.vault, j, w.evidence)}
}
