package ingest_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// lines gives the entries of an event in the ledger.
func (w *world) lines(event string) (found []ledger.Entry) {
	w.t.Helper()
	for stored, err := range w.evidence.Ledger.Read(w.t.Context(), 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		if stored.Entry.Event == event {
			found = append(found, stored.Entry)
		}
	}
	return found
}

// lockLedger makes a ledger that can be read and not appended to, for root too.
func (w *world) lockLedger() (unlock func()) {
	w.t.Helper()
	path := filepath.Join(w.dir, "ledger/unsigned.jsonl")
	if err := os.WriteFile(path, []byte("0\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			w.t.Fatal(err)
		}
	}
}

// quarantined gives the corrupt objects of a session, as the journal has them.
func (w *world) quarantined(session string) []journal.Quarantined {
	w.t.Helper()
	all, err := w.journal.QuarantinedOf(w.t.Context(), session)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func TestWhoAndWhenAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	if err := errors.Join(w.station.Record(t.Context(), ledger.Entry{Event: "probe"}),
		w.station.Record(t.Context(), ledger.Entry{Event: "probe", Actor: "uid 7", Station: "OTHER-01", Time: at})); err != nil {
		t.Fatal(err)
	}
	all := w.lines("probe")
	if all[0].Actor != "station" || time.Since(all[0].Time) > time.Hour || all[0].Clock == "" {
		t.Errorf("%+v", all[0])
	}
	if all[1].Actor != "uid 7" || all[1].Station != w.cfg.ID || !all[1].Time.Equal(at) {
		t.Errorf("%+v", all[1])
	}
}

// The same refusal is one line within the hour, as long as nothing else happens; every
// other one is its own.
func TestRefusalsDoNotFillTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	refuse := func(want int, e ledger.Entry) {
		t.Helper()
		e.Event = "probe.refused"
		if err := w.station.RecordRefusal(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if n := len(w.lines("probe.refused")); n != want {
			t.Errorf("%+v: %d lines, want %d", e, n, want)
		}
	}
	refuse(1, ledger.Entry{Reason: "a", Time: time.Now().Add(-2 * time.Hour)})
	refuse(2, ledger.Entry{Reason: "a"})
	refuse(2, ledger.Entry{Reason: "a"})
	refuse(3, ledger.Entry{Reason: "b"})
	refuse(4, ledger.Entry{Reason: "b", Actor: "uid 0"})
	refuse(5, ledger.Entry{Reason: "b"})
	if err := w.station.Record(t.Context(), ledger.Entry{Event: "probe"}); err != nil {
		t.Fatal(err)
	}
	refuse(6, ledger.Entry{Reason: "b"})
}

func TestReasonsFitALine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := errors.New("\xff" + strings.Repeat("案", ledger.MaxLine))
	if err := w.station.Record(t.Context(), ledger.Entry{Event: "probe", Reason: ingest.ReasonOf(long)}); err != nil {
		t.Error(err)
	}
	if got := ingest.ReasonOf(errors.New("会话 x")); got != "会话 x" {
		t.Errorf("%q", got)
	}
}

// The ledger has a bucket's marker before the journal trusts it, and a bucket that is
// refused; what it can't have is not done.
func TestTheLedgerHasWhatBucketItIs(t *testing.T) {
	t.Parallel()
	w := trusting(t)
	unlock := w.lockLedger()
	if err := w.station.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "bucket.marked to the ledger") {
		t.Errorf("without a ledger: %v", err)
	}
	seen, err := w.journal.BucketID(t.Context(), w.vault.Describe())
	if err != nil || seen != "" || len(w.allTold("storage.marked")) != 0 {
		t.Errorf("bucket %q is known and not in the ledger, %v", seen, err)
	}
	unlock()
	for range 2 {
		if err := w.station.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	seen, err = w.journal.BucketID(t.Context(), w.vault.Describe())
	marked := w.lines("bucket.marked")
	if err != nil || len(marked) != 1 || marked[0].Detail["bucket_id"] != seen || marked[0].Detail["store"] != w.vault.Describe() || marked[0].Detail["how"] == "" {
		t.Errorf("bucket %q: %+v, %v", seen, marked, err)
	}
}

// A store whose lock does not hold is refused, which the ledger has; one that is away is
// not called bad.
func TestTheLedgerHasAFailedSelfTest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.through(&line{answer: func(r *http.Response) error {
		if r.Request.Method == http.MethodHead {
			r.Header.Del("X-Amz-Object-Lock-Mode")
		}
		return nil
	}})
	for range 2 {
		if err := w.station.Prepare(t.Context()); !errors.Is(err, storage.ErrNoLock) {
			t.Errorf("%v", err)
		}
	}
	refused := w.lines("bucket.refused")
	if len(refused) == 0 || len(refused) > 2 || !strings.Contains(refused[0].Reason, "lock self-test") {
		t.Errorf("%+v", refused)
	}
	w.server.Kill()
	if err := w.station.Prepare(t.Context()); err == nil {
		t.Error("a store that is away")
	}
	if again := w.lines("bucket.refused"); len(again) != len(refused) {
		t.Errorf("%+v", again)
	}
}

// The ledger has what endangers footage in a bucket when it comes, changes and goes, and
// not each day.
func TestTheLedgerHasEachChangeOfTheAudit(t *testing.T) {
	t.Parallel()
	w := trusting(t)
	free := int64(50)
	w.cfg.StoreSpace = func() (int64, int64, error) { return free, 1000 << 30, nil }
	w.station = ingest.NewStation(w.cfg, w.vault, w.journal, w.evidence)
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	audit := func(room int64, want int, errs string) {
		t.Helper()
		free = room
		if _, err := w.station.Audit(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := w.lines("bucket.audited")
		if len(all) != want {
			t.Fatalf("%d lines, want %d: %+v", len(all), want, all)
		}
		if want > 0 && all[want-1].Detail["errors"] != errs {
			t.Errorf("%+v, want %s errors", all[want-1], errs)
		}
	}
	audit(900<<30, 0, "")
	unlock := w.lockLedger()
	free = 0
	if _, err := w.station.Audit(t.Context()); err == nil {
		t.Error("without a ledger: no error")
	}
	unlock()
	audit(0, 1, "1")
	audit(5<<20, 1, "1") // another number, the same finding
	if checks := w.lines("bucket.audited")[0].Detail["checks"]; checks != storage.CheckFreeSpace {
		t.Errorf("checks %q", checks)
	}
	audit(900<<30, 2, "0")
	audit(900<<30, 2, "0")
}

// What was read again, and what was found, is in the ledger before it is in the journal,
// once for each object.
func TestTheLedgerHasProofsAndQuarantine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 1000})
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	w.through(&line{answer: func(a *http.Response) error {
		if a.Request.Method == http.MethodGet && footageOf(a.Request, "a.mp4") {
			a.Body = &flipping{a.Body, 3}
		}
		return nil
	}})
	unlock := w.lockLedger()
	stop := w.scrub(time.Millisecond, 1<<30)
	eventually(t, func() bool { return w.saw("scrub.trouble") > 0 })
	stop()
	if e := w.allTold("scrub.trouble")[0]; e.Err == nil || !strings.Contains(e.Err.Error(), "object.quarantined to the ledger") {
		t.Errorf("without a ledger: %+v", e)
	}
	if p, err := w.journal.LastScrub(t.Context(), r.Session.ID); err != nil || p != nil || len(w.quarantined(r.Session.ID)) != 0 {
		t.Errorf("the journal has what the ledger has not: %+v, %v", p, err)
	}
	unlock()
	stop = w.scrub(time.Millisecond, 1<<30)
	eventually(t, func() bool { return w.saw("scrub.done") > 1 }) // the same finding twice
	stop()
	scrubbed, spoilt, rows := w.lines("session.scrubbed"), w.lines("object.quarantined"), w.quarantined(r.Session.ID)
	bad := fileOf(t, r, "a.mp4").Object
	if len(spoilt) != 1 || len(rows) != 1 || spoilt[0].Session != r.Session.ID || spoilt[0].Reason != rows[0].Reason || !spoilt[0].Time.Equal(rows[0].At) ||
		!reflect.DeepEqual(spoilt[0].Objects, []ledger.Object{{Key: bad.Key, Version: bad.VersionID}}) {
		t.Errorf("the ledger has %+v, the journal %+v", spoilt, rows)
	}
	p, err := w.journal.LastScrub(t.Context(), r.Session.ID)
	if err != nil || p == nil {
		t.Fatalf("%+v, %v", p, err)
	}
	// The last line may be of a proof that was stopped before it was in the journal.
	told := slices.IndexFunc(scrubbed, func(e ledger.Entry) bool { return e.Time.Equal(p.At) })
	want := map[string]string{"findings": "1", "objects": "6", "bytes": strconv.FormatInt(p.Bytes, 10)}
	if told < 0 || scrubbed[told].Session != r.Session.ID || !maps.Equal(scrubbed[told].Detail, want) {
		t.Errorf("the ledger has %+v, the journal %+v", scrubbed, p)
	}
}

// A corrupt object of a session at work is in the ledger too.
func TestTheLedgerHasWhatWasStoredAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.through(&line{answer: func(r *http.Response) error {
		if r.Request.Method == http.MethodGet && footageOf(r.Request, "a.mp4") {
			r.Body = &flipping{r.Body, 500}
		}
		return nil
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	r := w.mustDock(card, ingest.Options{Recorder: "R1"})
	spoilt := w.lines("object.quarantined")
	if len(spoilt) != 1 || spoilt[0].Session != r.Session.ID || spoilt[0].Objects[0].Key != r.Session.Prefix+"footage/a.mp4" {
		t.Errorf("%+v", spoilt)
	}
}

// The check before use is in the ledger as the journal has it.
func TestTheLedgerHasTheCheckBeforeUse(t *testing.T) {
	t.Parallel()
	w, card := wornWorld(t)
	worn := wornOn(t, card, "R1")
	battery := 10
	worn.health.BatteryPercent = &battery
	d, remove := docking(worn)
	r, err := w.station.Ingest(t.Context(), d, ingest.Options{})
	remove()
	if err != nil || !r.Safe {
		t.Fatalf("%s, %v", r.State, err)
	}
	row, err := w.journal.Session(t.Context(), r.Session.ID)
	if err != nil {
		t.Fatal(err)
	}
	checked := w.lines("preuse.checked")
	if len(checked) != 1 || checked[0].Session != r.Session.ID || checked[0].Recorder != "R1" {
		t.Fatalf("%+v", checked)
	}
	var back device.PreUseCheckup
	if err := json.Unmarshal([]byte(checked[0].Detail["preuse"]), &back); err != nil || !reflect.DeepEqual(&back, row.Condition.PreUse) || back.Result != device.PreUseUnfit {
		t.Errorf("the ledger has %+v, the journal %+v, %v", back, row.Condition.PreUse, err)
	}
}

// closing is told when the recorder is released, which is after its session was sealed.
type closing struct {
	*worn
	closed func()
}

func (r *closing) Close() error {
	r.closed()
	return r.worn.Close()
}

func TestACheckBeforeUseThatTheLedgerDoesNotHaveIsNone(t *testing.T) {
	t.Parallel()
	w, card := wornWorld(t)
	d, remove := docking(wornOn(t, card, "R1"))
	defer remove()
	unlock := func() {}
	d.Open = func(context.Context) (device.Recorder, error) {
		return &closing{wornOn(t, card, "R1"), func() { unlock = w.lockLedger() }}, nil
	}
	r, err := w.station.Ingest(t.Context(), d, ingest.Options{})
	unlock()
	if err == nil || !strings.Contains(err.Error(), "preuse.checked to the ledger") || r.Safe || r.State != ingest.Failed {
		t.Errorf("%s, %v", r.State, err)
	}
	row, err := w.journal.Session(t.Context(), r.Session.ID)
	if err != nil || row.State != journal.StateSealed || row.Condition.PreUse != nil {
		t.Errorf("%s, checked %+v, %v", row.State, row.Condition.PreUse, err)
	}
}

// A recorder that is turned away is in the ledger, with why.
func TestTheLedgerHasRefusedRecorders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.RefuseUnregistered = true
	w.station.Change(w.cfg)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	if r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil); !errors.Is(err, ingest.ErrUnregistered) || r.State != ingest.UnknownDevice {
		t.Errorf("%s, %v", r.State, err)
	}
	refused := w.lines("recorder.refused")
	if len(refused) != 1 || refused[0].Recorder != "R1" || refused[0].Detail["slot"] != filepath.Base(card) || !strings.Contains(refused[0].Reason, "not in the register") {
		t.Errorf("%+v", refused)
	}
	unlock := w.lockLedger()
	if r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil); !errors.Is(err, ingest.ErrUnregistered) || !strings.Contains(err.Error(), "recorder.refused to the ledger") || r.Safe {
		t.Errorf("without a ledger: %s, %v", r.State, err)
	}
	unlock()
}

// A station that only waits brings its ledger into the bucket all the same.
func TestTheLedgerIsPublishedWithoutASession(t *testing.T) {
	t.Parallel()
	w := trusting(t)
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.station.KeepAuditing(ctx)
	}()
	eventually(t, func() bool {
		n, err := w.journal.PublishedLedger(t.Context(), w.vault.Describe())
		return err == nil && n == 1
	})
	stop()
	<-ended
	there, err := ledger.PublishedSize(t.Context(), ingest.LedgerStore{Vault: w.vault}, ingest.LedgerPrefix(w.cfg.ID))
	if err != nil || there != 1 {
		t.Errorf("%d lines in the bucket, %v", there, err)
	}
}
