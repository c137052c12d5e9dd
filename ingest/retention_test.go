package ingest_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/policy"
)

// rules is a policy whose default is the floor, with more rules behind it.
func rules(t *testing.T, more string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("retention.yaml", []byte("version: 1\ndefault: {months: 6, why: 第十一条}\nrules: ["+more+"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	unitFor36 = "{name: archive, match: {unit: [法制大队]}, months: 36, why: 行政执法档案}"
	unitFor7  = "{name: short, match: {unit: [法制大队]}, months: 7, why: 短}"
)

// under is a world whose vault locks for months, with a register of two recorders, of
// which R1 belongs to a unit.
func under(t *testing.T, months int, p *policy.Policy) *world {
	t.Helper()
	w := newWorld(t)
	w.store.Months, w.cfg.Policy = months, p
	w.restart()
	if err := errors.Join(
		w.journal.AddRecorder(t.Context(), journal.Recorder{Serial: "R1", Officer: "150525", Unit: "法制大队"}),
		w.journal.AddRecorder(t.Context(), journal.Recorder{Serial: "R2", Officer: "150526"}),
	); err != nil {
		t.Fatal(err)
	}
	return w
}

// checkLocks proves, with a plain S3 client, that every object of a session is locked
// for as many months, to the day, and that the manifest says so and by which rule.
func (w *world) checkLocks(r ingest.Report, months int, rule *manifest.Retention) {
	w.t.Helper()
	want := storage.RetainUntil(r.Session.EndedAt, months, w.cfg.Location)
	if storage.RetainUntil(r.Session.DockedAt, months, w.cfg.Location) != want {
		w.t.Skip("midnight has passed meanwhile")
	}
	n := 0
	for o := range w.server.Client().ListObjectsIter(w.t.Context(), w.store.Bucket, minio.ListObjectsOptions{Prefix: r.Session.Prefix, Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			w.t.Fatal(o.Err)
		}
		if until := w.lockOf(o.Key, o.VersionID); !until.Equal(want) {
			w.t.Errorf("%s is locked until %s, want %d months: %s", o.Key, until, months, want)
		}
		n++
	}
	if want := r.Totals.Stored + 4; n != want {
		w.t.Errorf("%d objects in the session's folder, want its %d files and four documents", n, r.Totals.Stored)
	}
	m := w.manifestOf(r)
	if !m.Session.RetainUntil.Equal(want) || !r.Session.RetainUntil.Equal(want) {
		w.t.Errorf("until %s in the manifest, %s in the journal, want %s", m.Session.RetainUntil, r.Session.RetainUntil, want)
	}
	if got := m.Session.Retention; (got == nil) != (rule == nil) || got != nil && *got != *rule {
		w.t.Errorf("the manifest has the rule %+v, want %+v", got, rule)
	}
}

func TestTheLongestOfMonthsAndRulesLocksASession(t *testing.T) {
	t.Parallel()
	by := func(name string, months int, why string) *manifest.Retention {
		return &manifest.Retention{Name: name, Months: months, Permanent: months == policy.PermanentMonths, Why: why}
	}
	floor := by("default", 6, "第十一条")
	byMonths := by(ingest.MonthsRule, 12, "the station keeps all footage for as long, which is longer than its rules ask for")
	type dock struct {
		recorder string
		months   int
		by       *manifest.Retention
	}
	for name, c := range map[string]struct {
		months int
		rules  string // none: no policy
		docks  []dock
	}{
		"no policy": {6, "none", []dock{{"R1", 6, nil}}},
		"rules": {6, unitFor36 + `,
  {name: officer, match: {officer: ['150526']}, months: 9, why: o},
  {name: serial, match: {recorder: [R3]}, months: 10, why: s},
  {name: for-ever, match: {recorder: [R4]}, months: permanent, why: p},
  {name: later, match: {recorder: [R5]}, from: 9000-01-01, months: 11, why: l}`, []dock{
			{"R1", 36, by("archive", 36, "行政执法档案")},
			{"R2", 9, by("officer", 9, "o")},
			{"R3", 10, by("serial", 10, "s")},
			{"R4", 1200, by("for-ever", 1200, "p")},
			{"R5", 6, floor},
		}},
		"shorter rules":         {12, unitFor7, []dock{{"R1", 12, byMonths}, {"R2", 12, byMonths}}},
		"as long as the months": {7, unitFor7, []dock{{"R1", 7, by("short", 7, "短")}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p *policy.Policy
			if c.rules != "none" {
				p = rules(t, c.rules)
			}
			w := under(t, c.months, p)
			for _, d := range c.docks {
				card := t.TempDir()
				write(t, card, map[string]int{"tiny.mp4": 100, "small.mp4": 1 << 20, "large.mp4": partSize + 1})
				w.checkLocks(w.mustDock(card, ingest.Options{Recorder: d.recorder}), d.months, d.by)
			}
			if n := w.saw("retention.undecided"); n != 0 {
				t.Errorf("undecided %d times", n)
			}
		})
	}
}

// No object waits for the end of its session to have its lock: one that is never
// resumed is kept as long.
func TestTheLockIsThereFromTheFirstMoment(t *testing.T) {
	t.Parallel()
	w := under(t, 6, rules(t, unitFor36))
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 1 << 20, "c.mp4": partSize + 1, "d.mp4": 1000})
	var locks map[string]time.Time
	_, err := w.dock(card, ingest.Options{Recorder: "R1"}, &faults{opened: func(e device.Entry) error {
		if e.Path != "d.mp4" {
			return nil
		}
		for deadline := time.Now().Add(time.Minute); len(locks) < 3 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			locks = w.footageLocks()
		}
		return device.ErrRemoved
	}})
	if !errors.Is(err, device.ErrRemoved) || len(locks) != 3 {
		t.Fatalf("%v, locks %v", err, locks)
	}
	for key, until := range locks {
		if least := time.Now().In(w.cfg.Location).AddDate(0, 36, -1); until.Before(least) {
			t.Errorf("%s is locked until %s before its session is sealed", key, until)
		}
	}
}

// footageLocks asks a plain S3 client for the locks of all footage in the bucket.
func (w *world) footageLocks() map[string]time.Time {
	w.t.Helper()
	locks := map[string]time.Time{}
	for o := range w.server.Client().ListObjectsIter(w.t.Context(), w.store.Bucket, minio.ListObjectsOptions{Prefix: w.cfg.ID + "/", Recursive: true}) {
		if o.Err != nil {
			w.t.Fatal(o.Err)
		}
		if strings.Contains(o.Key, "/"+manifest.FootageDir) {
			locks[o.Key] = w.lockOf(o.Key, "")
		}
	}
	return locks
}

// lockOf asks a plain S3 client for the lock of an object, which must be COMPLIANCE.
func (w *world) lockOf(key, version string) time.Time {
	w.t.Helper()
	info, err := w.server.Client().StatObject(w.t.Context(), w.store.Bucket, key, minio.StatObjectOptions{VersionID: version})
	if err != nil {
		w.t.Fatal(err)
	}
	mode := info.Metadata.Get("X-Amz-Object-Lock-Mode")
	until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil || mode != "COMPLIANCE" {
		w.t.Errorf("%s: lock %q, %v", key, mode, err)
	}
	return until
}

// The end of the recording counts only where the recorder's clock was measured, and
// not where it would lie over a day ahead.
func TestTheEndOfTheRecordingCountsOnlyIfMeasured(t *testing.T) {
	t.Parallel()
	slow := -30 * time.Hour
	bound := 5 * time.Second
	for name, c := range map[string]struct {
		clock  func(now time.Time) device.ClockReading
		ahead  time.Duration // of the file's time over the recording's end, by the recorder's clock
		tooFar bool          // the end is over a day ahead
		counts bool
	}{
		"measured":              {func(now time.Time) device.ClockReading { return reading(0, now) }, 0, false, true},
		"measured and wrong":    {func(now time.Time) device.ClockReading { return reading(slow, now) }, slow, false, true},
		"over a day ahead":      {func(now time.Time) device.ClockReading { return reading(0, now) }, 0, true, false},
		"the offset left alone": {func(now time.Time) device.ClockReading { return reading(-slow, now) }, 0, false, false},
		"bounded": {func(now time.Time) device.ClockReading {
			return device.ClockReading{Kind: device.ClockBounded, AtLeast: &bound, StationTime: now}
		}, 0, false, false},
		"unknown": {func(now time.Time) device.ClockReading {
			return device.ClockReading{Kind: device.ClockUnknown, StationTime: now}
		}, 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, card := wornWorld(t)
			w.cfg.Policy = rules(t, "")
			w.station = ingest.NewStation(w.cfg, w.vault, w.journal, w.evidence)
			now := time.Now()
			y, m, d := now.In(w.cfg.Location).Date()
			end := time.Date(y, m, d+1, 0, 0, 1, 0, w.cfg.Location) // tomorrow, at most a day ahead
			if c.tooFar {
				end = now.Add(25 * time.Hour)
			}
			if err := os.Chtimes(filepath.Join(card, "A.MP4"), end.Add(c.ahead), end.Add(c.ahead)); err != nil {
				t.Fatal(err)
			}
			r := wornOn(t, card, "R1")
			r.clock = c.clock(now)
			docked, remove := docking(r)
			defer remove()
			report, err := w.station.Ingest(t.Context(), docked, ingest.Options{})
			if err != nil || !report.Safe {
				t.Fatalf("%s, %v", report.State, err)
			}
			want := storage.RetainUntil(report.Session.EndedAt, 6, w.cfg.Location)
			if by := storage.RetainUntil(end, 6, w.cfg.Location); c.counts && by.After(want) {
				want = by
			}
			if got := w.manifestOf(report).Session.RetainUntil; !got.Equal(want) {
				t.Errorf("kept until %s, want %s; the recording ended %s", got, want, end)
			}
			w.check(card, report)
		})
	}
}

// Footage does not wait for a decision: it is kept by the months, and that is told.
func TestADecisionThatCannotBeHadStopsNothing(t *testing.T) {
	t.Parallel()
	w := under(t, 7, rules(t, "{name: p, match: {recorder: [R1]}, months: permanent, why: w}"))
	// A hundred years from 9950 are a date that no lock can say.
	late := time.Now().AddDate(9950-time.Now().Year(), 0, 0)
	w.store.Now = func() time.Time { return late }
	var err error
	if w.vault, err = storage.Open(t.Context(), w.store); err != nil {
		t.Fatal(err)
	}
	w.station = ingest.NewStation(w.cfg, w.vault, w.journal, w.evidence)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 2000})
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if want := storage.RetainUntil(late, 7, w.cfg.Location); !r.Safe || !r.Session.RetainUntil.Equal(want) {
		t.Errorf("safe %v, until %s, want %s", r.Safe, r.Session.RetainUntil, want)
	}
	if n := w.saw("retention.undecided"); n != 1 {
		t.Errorf("it was told %d times", n)
	}
	if by := w.manifestOf(r).Session.Retention; by == nil || by.Name != ingest.MonthsRule || by.Months != 7 || !strings.Contains(by.Why, policy.ErrFacts.Error()) {
		t.Errorf("the manifest has the rule %+v", by)
	}
}

// What closes a session is locked as long as its footage, also when a crash lies
// between them and the policy is gone since.
func TestDocumentsAfterACrashAreLockedLikeTheFootage(t *testing.T) {
	t.Parallel()
	w := under(t, 6, rules(t, unitFor36))
	var down atomic.Bool
	w.through(&line{request: func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, manifest.SumsFileName) {
			down.Store(true)
		}
		if down.Load() {
			return http.StatusServiceUnavailable
		}
		return 0
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil)
	if err == nil || r.Safe {
		t.Fatalf("%s, safe %v", r.State, r.Safe)
	}
	w.cfg.Policy = nil
	w.mend()
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.Session, err = w.journal.Session(t.Context(), r.Session.ID); err != nil {
		t.Fatal(err)
	}
	w.checkLocks(r, 36, &manifest.Retention{Name: "archive", Months: 36, Why: "行政执法档案"})
}

// A session that is at work keeps its rules; the next one has the new ones, and so has
// one that was cut off and goes on.
func TestNewRulesAreForSessionsThatBegin(t *testing.T) {
	t.Parallel()
	w := under(t, 6, rules(t, ""))
	next := w.cfg
	next.Policy = rules(t, unitFor36)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 1000})
	r, err := w.dock(card, ingest.Options{Recorder: "R1"}, &faults{opened: func(device.Entry) error {
		w.station.Change(next)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.checkLocks(r, 6, &manifest.Retention{Name: "default", Months: 6, Why: "第十一条"})
	write(t, card, map[string]int{"c.mp4": 1000})
	archived := &manifest.Retention{Name: "archive", Months: 36, Why: "行政执法档案"}
	w.checkLocks(w.mustDock(card, ingest.Options{Recorder: "R1"}), 36, archived)

	// Cut off under the old rules.
	w.station.Change(w.cfg)
	other := t.TempDir()
	write(t, other, map[string]int{"a.mp4": 1000, "b.mp4": 3*partSize + 1})
	if _, err = w.dock(other, ingest.Options{Recorder: "R1"}, &faults{atByte: func(e device.Entry, at int64) error {
		if at > 2*partSize {
			return device.ErrRemoved
		}
		return nil
	}}); !errors.Is(err, device.ErrRemoved) {
		t.Fatal(err)
	}
	w.station.Change(next)
	again := w.mustDock(other, ingest.Options{Recorder: "R1"})
	if !again.Resumed {
		t.Error("it was not resumed")
	}
	w.checkLocks(again, 36, archived)
}

// What a session finds identical is kept as long as the session that lists it, and the
// ledger in the bucket as long as the longest-kept footage that it tells of.
func TestIdenticalFilesAreKeptAsLongAsTheSessionThatListsThem(t *testing.T) {
	t.Parallel()
	w := under(t, 6, rules(t, unitFor36))
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": partSize + 1, "empty": 0})
	w.mustDock(card, ingest.Options{Recorder: "R2"}) // of no unit
	if err := w.journal.AddRecorder(t.Context(), journal.Recorder{Serial: "R2", Unit: "法制大队"}); err != nil {
		t.Fatal(err)
	}
	r := w.mustDock(card, ingest.Options{Recorder: "R2"})
	if r.Totals.Identical != 3 {
		t.Fatalf("%d of 3 files are identical", r.Totals.Identical)
	}
	for key, until := range w.footageLocks() {
		if until.Before(r.Session.RetainUntil) {
			t.Errorf("%s is locked until %s, the session that lists it says %s", key, until, r.Session.RetainUntil)
		}
	}
	for _, f := range w.manifestOf(r).Files {
		if f.Object != nil && !f.Object.RetainUntil.Equal(r.Session.RetainUntil) {
			t.Errorf("the manifest says of %s that it is locked until %s", f.Path, f.Object.RetainUntil)
		}
	}
	last := ""
	for o := range w.server.Client().ListObjectsIter(t.Context(), w.store.Bucket, minio.ListObjectsOptions{Prefix: ingest.LedgerPrefix(w.cfg.ID) + "/checkpoint/", Recursive: true}) {
		last = o.Key
	}
	if until := w.lockOf(last, ""); until.Before(r.Session.RetainUntil) {
		t.Errorf("the ledger is locked until %s, footage until %s", until, r.Session.RetainUntil)
	}
}

// A session that lies in the bucket that a station had before is counted, not missed.
func TestSessionsInAnotherBucketAreNotMissed(t *testing.T) {
	t.Parallel()
	w := trusting(t)
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	here := w.mustDock(card, ingest.Options{Recorder: "R1"}).Session
	if here.Bucket == "" {
		t.Error("the session does not know its bucket")
	}
	moved := here
	moved.ID, moved.Bucket, moved.Prefix, moved.Manifest.Key = "moved", "another", "TEST-01/2026-01-01/moved/", "TEST-01/2026-01-01/moved/manifest.json"
	if err := w.journal.SaveSession(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	v := ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.ID, Ring: w.evidence.Ring}
	result, err := v.All(t.Context())
	if err != nil || len(result.Findings) != 0 || result.Sessions != 1 || result.Elsewhere != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	if next, _, err := w.journal.LongestUnread(t.Context(), here.Bucket); err != nil || next == nil || next.ID != here.ID {
		t.Errorf("to be read again: %+v, %v", next, err)
	}
}
