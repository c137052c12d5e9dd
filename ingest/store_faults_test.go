package ingest_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

// line is a bad line to the real store: a proxy whose rules may spoil a request
// or its answer.
type line struct {
	request func(*http.Request) (refuse int)
	answer  func(*http.Response) error
}

// through puts the world's station behind a bad line.
func (w *world) through(l *line) {
	w.t.Helper()
	transport := w.store.Transport
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "embedded.invalid:80", r.In.Host
		},
		Transport:      transport,
		ModifyResponse: func(r *http.Response) error { return l.answer(r) },
		ErrorHandler:   func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) },
	}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if l.request != nil {
			if status := l.request(r); status != 0 {
				rw.WriteHeader(status)
				return
			}
		}
		proxy.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(front.Close)
	if l.answer == nil {
		l.answer = func(*http.Response) error { return nil }
	}
	w.store.Endpoint, w.store.Transport = strings.TrimPrefix(front.URL, "http://"), nil
	w.restart()
}

// flipping changes one byte of a stream.
type flipping struct {
	io.ReadCloser
	at int64
}

func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if f.at >= 0 && f.at < int64(n) {
		p[f.at] ^= 1
	}
	f.at -= int64(n)
	return n, err
}

func footageOf(r *http.Request, name string) bool {
	return strings.Contains(r.URL.Path, "/footage/") && strings.HasSuffix(r.URL.Path, "/"+name)
}

// The store confirms everything and gives other bytes back: only reading back
// can tell, and it must.
func TestAStoreThatGivesOtherBytesBackIsNotBelieved(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 2*partSize + 1} {
		w := newWorld(t)
		w.through(&line{answer: func(r *http.Response) error {
			if r.Request.Method == http.MethodGet && strings.Contains(r.Request.URL.Path, "/footage/bad.mp4") {
				r.Body = &flipping{r.Body, int64(size / 2)}
			}
			return nil
		}})
		card := t.TempDir()
		write(t, card, map[string]int{"bad.mp4": size, "good.mp4": 1000})
		r, err := w.dock(card, ingest.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Safe || r.State != ingest.Failed || stateOf(r, "bad.mp4") != journal.Corrupt || stateOf(r, "good.mp4") != journal.Verified {
			t.Errorf("%s, safe %v; bad.mp4 is %s, good.mp4 %s", r.State, r.Safe, stateOf(r, "bad.mp4"), stateOf(r, "good.mp4"))
		}
		// One for the object that is tried again, one for the last.
		if w.saw("verify.mismatch") != 2 || w.saw("ingest.sent_again") != 1 {
			t.Errorf("%d events tell of mismatches, %d of another try", w.saw("verify.mismatch"), w.saw("ingest.sent_again"))
		}
	}
}

// Bytes damaged on their way to the store are refused by it, sent again, and
// each time is told.
func TestBytesDamagedOnTheWayAreSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var damaged atomic.Int32
	w.through(&line{request: func(r *http.Request) int {
		if r.Method == http.MethodPut && footageOf(r, "a.mp4") && damaged.Add(1) == 1 {
			r.Body = &flipping{r.Body, 500}
		}
		return 0
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	r := w.mustDock(card, ingest.Options{})
	if !r.Safe || damaged.Load() < 2 || w.saw("storage.corrupted") != 1 {
		t.Errorf("%s after %d tries, %d events tell of damage", r.State, damaged.Load(), w.saw("storage.corrupted"))
	}
}

// A line that always damages gives the file a bad end, not a false good one.
func TestBytesThatAreAlwaysDamagedAreNeverStored(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 2*partSize + 1} {
		w := newWorld(t)
		w.through(&line{request: func(r *http.Request) int {
			if r.Method == http.MethodPut && footageOf(r, "a.mp4") {
				r.Body = &flipping{r.Body, 500}
			}
			return 0
		}})
		card := t.TempDir()
		write(t, card, map[string]int{"a.mp4": size, "b.mp4": 10})
		r, err := w.dock(card, ingest.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Safe || stateOf(r, "a.mp4") != journal.Corrupt || stateOf(r, "b.mp4") != journal.Verified {
			t.Errorf("%s; a.mp4 is %s, b.mp4 %s", r.State, stateOf(r, "a.mp4"), stateOf(r, "b.mp4"))
		}
	}
}

func TestAStoreThatIsAwayForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Patience = time.Minute
	var requests, away atomic.Int32
	w.through(&line{request: func(r *http.Request) int {
		// Away for some requests in the middle of the work.
		if n := requests.Add(1); n > 12 && n < 30 {
			away.Add(1)
			return http.StatusServiceUnavailable
		}
		return 0
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 3 * partSize, "b.mp4": 1000, "c.mp4": 1000})
	r := w.mustDock(card, ingest.Options{})
	if !r.Safe || away.Load() == 0 || w.saw("storage.unavailable") == 0 || w.saw("storage.back") == 0 {
		t.Errorf("%s; away for %d requests, %d and %d events tell of it", r.State, away.Load(), w.saw("storage.unavailable"), w.saw("storage.back"))
	}
}

func TestAStoreThatStaysAwayLeavesTheSessionOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var down atomic.Bool
	w.through(&line{request: func(r *http.Request) int {
		if r.Method == http.MethodPut && strings.Contains(r.URL.RawQuery, "partNumber=3") {
			down.Store(true)
		}
		if down.Load() {
			return http.StatusServiceUnavailable
		}
		return 0
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 6 * partSize})
	r, err := w.dock(card, ingest.Options{Recorder: "R1"}, nil)
	if !errors.Is(err, storage.ErrUnavailable) || r.Safe || r.State != ingest.Failed {
		t.Fatalf("%s, safe %v, %v", r.State, r.Safe, err)
	}
	s, err := w.journal.Session(t.Context(), r.Session.ID)
	if err != nil || s.State != journal.StateOpen || s.Reason == "" {
		t.Errorf("session is %s, reason %q, %v", s.State, s.Reason, err)
	}
	w.mend()
	again := w.mustDock(card, ingest.Options{Recorder: "R1"})
	if !again.Safe || again.Session.ID != r.Session.ID || again.BytesRead >= 6*partSize {
		t.Errorf("%s, session %s after %s, %d bytes read", again.State, again.Session.ID, r.Session.ID, again.BytesRead)
	}
}

// Each request that changes the store is answered with an error after it was
// done: what is there must be found and taken, not sent twice.
func TestAnswersThatGetLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	lost := map[string]bool{} // guarded by mu
	w.through(&line{answer: func(r *http.Response) error {
		what := r.Request.Method + r.Request.URL.Path + r.Request.URL.RawQuery
		mu.Lock()
		defer mu.Unlock()
		if (r.Request.Method == http.MethodPut || r.Request.Method == http.MethodPost) && strings.Contains(r.Request.URL.Path, "TEST-01") && !lost[what] {
			lost[what] = true
			r.StatusCode, r.Body = http.StatusInternalServerError, io.NopCloser(strings.NewReader(""))
			r.Header.Set("Content-Length", "0")
			r.ContentLength = 0
		}
		return nil
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 3*partSize + 1, "b.mp4": 1000, "zero": 0})
	r := w.mustDock(card, ingest.Options{})
	if !r.Safe || len(lost) < 7 {
		t.Errorf("%s after %d lost answers", r.State, len(lost))
	}
	if n := w.objects(); n != 7 {
		t.Errorf("%d objects and versions in the store, want 7", n)
	}
}

// A store that drops the lock of an object is found out before safe is said.
func TestAStoreThatDoesNotLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.through(&line{answer: func(r *http.Response) error {
		// HEAD and GET show it.
		if r.Request.Method != http.MethodPut && footageOf(r.Request, "a.mp4") {
			r.Header.Del("X-Amz-Object-Lock-Mode")
		}
		return nil
	}})
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	r, err := w.dock(card, ingest.Options{}, nil)
	if !errors.Is(err, storage.ErrNoLock) || r.Safe {
		t.Errorf("%s, safe %v, %v", r.State, r.Safe, err)
	}
}

// mend gives the world its good line back.
func (w *world) mend() {
	good := w.server.Config()
	w.store.Endpoint, w.store.Transport = good.Endpoint, good.Transport
	w.restart()
}

// A session that was cut off between its documents and its end is sealed
// without the recorder, with the very same documents.
func TestSealingGoesOnWithoutTheRecorder(t *testing.T) {
	t.Parallel()
	for _, cut := range []string{"SHA256SUMS", "manifest.json"} {
		w := newWorld(t)
		var down atomic.Bool
		w.through(&line{request: func(r *http.Request) int {
			if strings.HasSuffix(r.URL.Path, cut) {
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
			t.Fatalf("%s without its %s, safe %v", r.State, cut, r.Safe)
		}
		w.mend()
		if err := w.station.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := w.journal.Session(t.Context(), r.Session.ID)
		if err != nil || s.State != journal.StateSealed || s.Manifest.VersionID == "" {
			t.Errorf("the session is %s, %v", s.State, err)
		}
		again := w.mustDock(card, ingest.Options{Recorder: "R1"})
		if !again.Safe || again.Totals.Identical != 1 {
			t.Errorf("docked again: %s, %d identical", again.State, again.Totals.Identical)
		}
	}
}

// A station whose clock has fallen back by years must not lock for less.
func TestAClockThatFellBackDoesNotShortenALock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 10})
	w.mustDock(card, ingest.Options{})
	// The journal has seen next year: as if the clock had since lost one.
	later := time.Now().AddDate(1, 0, 0)
	if err := errors.Join(w.journal.Close(), setLastSeen(filepath.Join(w.dir, journal.FileName), later)); err != nil {
		t.Fatal(err)
	}
	w.start()
	if err := w.station.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.saw("clock.station_fell_back") != 1 {
		t.Error("nobody is told of the clock")
	}
	write(t, card, map[string]int{"b.mp4": 10})
	r := w.mustDock(card, ingest.Options{})
	for _, f := range r.Files {
		if f.Entry.Path == "b.mp4" && f.Object.RetainUntil.Before(later.AddDate(0, 6, 0)) {
			t.Errorf("locked until %s although the station has seen %s", f.Object.RetainUntil, later)
		}
	}
}

// The daemon goes on while everything is verified: a session that begins
// meanwhile is not taken for a stranger's.
func TestVerifierBesideADaemonAtWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := t.TempDir(), t.TempDir()
	write(t, first, map[string]int{"a.mp4": 1000})
	write(t, second, map[string]int{"b.mp4": 1000})
	w.mustDock(first, ingest.Options{})
	docked := false
	v := &ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.ID, Ring: w.evidence.Ring, Progress: func(int) {
		if !docked {
			docked = true
			w.mustDock(second, ingest.Options{})
		}
	}}
	result, err := v.All(t.Context())
	if err != nil || !docked || len(result.Findings) != 0 || result.Sessions != 1 {
		t.Errorf("%+v, %v, docked meanwhile %v", result, err, docked)
	}
}

func TestVerifierSeesStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 10, "b.mp4": 2*partSize + 3})
	r := w.mustDock(card, ingest.Options{})
	verify := func() ingest.Verification {
		v := &ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.ID, Ring: w.evidence.Ring}
		result, err := v.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if v := verify(); len(v.Findings) != 0 || v.Objects != 6 || v.Sessions != 1 {
		t.Errorf("undisturbed: %+v", v)
	}
	// Somebody with the keys writes a second version over one object, and
	// another object of his own.
	client := w.server.Client()
	for _, key := range []string{r.Session.Prefix + "footage/a.mp4", w.cfg.ID + "/2020-01-01/x/y"} {
		if _, err := client.PutObject(t.Context(), w.store.Bucket, key, bytes.NewReader([]byte("forged")), 6, minio.PutObjectOptions{DisableContentSha256: true}); err != nil {
			t.Fatal(err)
		}
	}
	v := verify()
	if len(v.Findings) != 2 || v.Findings[0].Problem != ingest.Extra || v.Findings[1].Problem != ingest.Extra {
		t.Errorf("found %+v", v.Findings)
	}
}
