package metrics_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/metrics"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
	"github.com/bodyworn/ingestd/storage/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// world is a station with a real store, whose events are counted.
type world struct {
	t       *testing.T
	server  *storetest.Server
	journal *journal.Journal
	station *ingest.Station
	metrics *metrics.Metrics
	clock   device.StationClock // the station's; changed between dockings alone
	free    int64               // in the store
}

func newWorld(t *testing.T, slots ...string) *world {
	t.Helper()
	w := &world{t: t, server: storetest.Embedded(t), metrics: metrics.New(metrics.Build{Version: "test", Commit: "0123"}, slots), free: 1 << 40}
	w.clock = device.StationClock{Synchronised: true}
	dir := t.TempDir()
	var err error
	if w.journal, err = journal.Open(dir, journal.Own); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.must(w.journal.Close()) })
	store := w.server.Config()
	store.Now = w.journal.Now
	vault, err := storage.Open(t.Context(), store)
	w.must(err)
	w.station = ingest.NewStation(ingest.Config{
		ID: "TEST-01", Location: storetest.Zone, Software: "ingestd test", Parallel: 2, PartSize: 5 << 20, BufferMemory: 40 << 20,
		Verification: ingest.ReadBack, Patience: time.Second, ClockWarnOver: 5 * time.Second,
		StationClock: func() device.StationClock { return w.clock },
		StoreSpace:   func() (int64, int64, error) { return w.free, 1 << 41, nil },
		Events:       w.metrics.Observe,
	}, vault, w.journal, w.evidence(dir))
	// The lock self-test, which takes seconds, has tests of its own.
	w.must(w.journal.SelfTestPassed(t.Context(), vault.Describe()))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) evidence(dir string) (e ingest.Evidence) {
	w.t.Helper()
	var err error
	e.Key, err = stationkey.Create(filepath.Join(dir, "station.key"), "TEST-01")
	w.must(err)
	e.Ring = &stationkey.Ring{}
	w.must(e.Ring.Add(stationkey.Signer{Principal: "TEST-01", Key: e.Key.Public()}))
	e.Ledger, err = ledger.Open(w.t.Context(), filepath.Join(dir, "ledger"), ingest.LedgerSigner(e.Key, "TEST-01"), func(r ledger.Repair) { w.t.Error(r) })
	w.must(err)
	return e
}

func (w *world) sources() metrics.Sources {
	return metrics.Sources{
		Ready: w.station.Ready, Counts: w.journal.Counts, Audit: w.station.LastAudit,
		Clock: func() device.StationClock { return w.clock }, Behind: w.journal.ClockFellBack, CertificateEnds: func() time.Time { return time.Unix(1800000000, 0) }, Room: w.station.Room,
		Volumes: map[string]func() (int64, int64, error){"store": func() (int64, int64, error) { return w.free, 1 << 41, nil }},
	}
}

// recorder is a folder's, with a clock and a battery, and something wrong with it.
type recorder struct {
	device.Recorder
	offset  time.Duration
	battery int
	open    func(device.Entry) error // may be nil
}

func (r *recorder) Clock(context.Context) (device.ClockReading, error) {
	exact := time.Duration(0)
	return device.ClockReading{Kind: device.ClockMeasured, Method: "told", Offset: &r.offset, Uncertainty: &exact, StationTime: time.Now()}, nil
}

func (r *recorder) Health(context.Context) (device.Health, error) {
	return device.Health{BatteryPercent: &r.battery}, nil
}

func (r *recorder) Open(ctx context.Context, e device.Entry, offset int64) (device.File, error) {
	if r.open != nil {
		if err := r.open(e); err != nil {
			return nil, err
		}
	}
	return r.Recorder.Open(ctx, e, offset)
}

// card makes a folder with files of these sizes.
func card(t *testing.T, files map[string]int) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(name[:1], size)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// dock takes in a card in a slot; open, which may be nil, gets between.
func (w *world) dock(slot, dir string, open func(device.Entry) error) (ingest.Report, error) {
	removed := make(chan struct{})
	return w.station.Ingest(w.t.Context(), device.Docking{Slot: slot, Removed: removed, Open: func(context.Context) (device.Recorder, error) {
		r, err := folder.Open(dir)
		return &recorder{Recorder: r, offset: time.Hour + time.Minute, battery: 40, open: func(e device.Entry) error {
			if open == nil {
				return nil
			}
			err := open(e)
			if errors.Is(err, device.ErrRemoved) {
				close(removed)
			}
			return err
		}}, err
	}}, ingest.Options{})
}

var errCard = syscall.EIO

// get asks a handler made for this one question, so that no answer is an old one.
func get(t *testing.T, h http.Handler, path string) (body string, code int) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:9790"+path, nil)
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, request)
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), answer.Code
}

// values takes a scrape apart: name{labels} → value.
func values(t *testing.T, scrape string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(scrape) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all[line[:i]] = value
	}
	return all
}
