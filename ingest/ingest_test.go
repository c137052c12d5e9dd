package ingest_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

func stateOf(r ingest.Report, path string) journal.FileState {
	var last journal.FileState
	for _, f := range r.Files {
		if f.Entry.Path == path {
			last = f.State
		}
	}
	return last
}

func TestARecordersCardIsTakenInWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	made, err := (simulator.Card{Recorder: "NMQ0031", Officer: "150525", Clips: 3, ClipBytes: 7 << 20}).Write(card)
	if err != nil {
		t.Fatal(err)
	}
	r := w.mustDock(card, ingest.Options{})
	if !r.Safe || r.Totals.Stored != len(made.Files) || r.Totals.Bytes != made.Bytes {
		t.Errorf("%d of %d files stored, %d of %d bytes, %s", r.Totals.Stored, len(made.Files), r.Totals.Bytes, made.Bytes, r.State)
	}
	if r.Session.Recorder != "NMQ0031" || r.Session.Officer != "150525" {
		t.Errorf("recorder %q, officer %q", r.Session.Recorder, r.Session.Officer)
	}
	// Beside the inventory the card is read once: the identity file is read
	// twice, and each file's end is looked behind, which gives no byte.
	if r.BytesRead != made.Bytes {
		t.Errorf("%d bytes of %d were read", r.BytesRead, made.Bytes)
	}

	before := w.objects()
	again := w.mustDock(card, ingest.Options{})
	if !again.Safe || again.Totals.Identical != len(made.Files) || again.Totals.Stored != 0 {
		t.Errorf("docked again: %d identical, %d stored, %s", again.Totals.Identical, again.Totals.Stored, again.State)
	}
	if added := w.objects() - before; added != 4 {
		t.Errorf("docked again, %d objects were added, not just the manifest, the sums and their signatures", added)
	}
	if again.BytesRead >= made.Bytes/2 {
		t.Errorf("docked again, %d bytes of %d were read", again.BytesRead, made.Bytes)
	}
}

func TestHostileNamesAndShapes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	made, err := simulator.Odd(card)
	if err != nil {
		t.Fatal(err)
	}
	// Besides those: a file whose key another's folder would need, were names
	// only made safe one by one.
	write(t, card, map[string]int{"meet/a%2Fb": 10, "meet/a/b": 10, "meet/x%0Ay": 10, "meet/x\ny": 10})
	r := w.mustDock(card, ingest.Options{})
	for _, o := range made {
		if o.Skipped != "" {
			continue
		}
		want := journal.Noted
		if o.Mode.IsRegular() {
			want = journal.Verified
		}
		if os.Geteuid() != 0 && o.Mode.Perm() == 0 {
			want = journal.Unreadable
		}
		if got := stateOf(r, o.Path); got != want {
			t.Errorf("%q (%s): %q, want %q", o.Path, o.Why, got, want)
		}
	}
	exact := 0
	for _, f := range w.manifestOf(r).Files {
		if f.PathBase64 != "" {
			exact++
		}
	}
	if exact == 0 {
		t.Error("no name in the manifest has its exact bytes, though some are not UTF-8")
	}
}

func TestCardsWithoutFootage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	empty, junk := t.TempDir(), t.TempDir()
	for _, dir := range []string{"LOST.DIR", "System Volume Information/x"} {
		if err := os.MkdirAll(filepath.Join(junk, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("/etc", filepath.Join(junk, "link")), syscall.Mkfifo(filepath.Join(junk, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, card := range []string{empty, junk} {
		r := w.mustDock(card, ingest.Options{})
		if !r.Safe || r.Totals.Files != 0 {
			t.Errorf("%s: %s with %d files", card, r.State, r.Totals.Files)
		}
	}
}

func TestABadFileDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	const big = 2*partSize + 1000
	for name, spoil := range map[string]func(card string) *faults{
		"read error in the middle": func(string) *faults {
			return &faults{atByte: func(e device.Entry, at int64) error {
				if strings.HasPrefix(e.Path, "bad") && at > 300 {
					return syscall.EIO
				}
				return nil
			}}
		},
		"can't be opened": func(string) *faults {
			return &faults{opened: func(e device.Entry) error {
				if strings.HasPrefix(e.Path, "bad") {
					return syscall.EACCES
				}
				return nil
			}}
		},
		"its directory can't be read": func(string) *faults {
			return &faults{listed: func(e device.Entry) device.Entry {
				if strings.HasPrefix(e.Path, "bad") {
					e.Err = syscall.EIO
				}
				return e
			}}
		},
		"truncated while read": func(card string) *faults {
			return onceOpened("bad", func(p string) error { return os.Truncate(filepath.Join(card, p), 100) })
		},
		"growing while read": func(card string) *faults {
			return onceOpened("bad", func(p string) error {
				f, err := os.OpenFile(filepath.Join(card, p), os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.WriteString("more")
				return errors.Join(err, f.Close())
			})
		},
		"vanishing while read": func(card string) *faults {
			return onceOpened("bad", func(p string) error { return os.Remove(filepath.Join(card, p)) })
		},
		"replaced while read": func(card string) *faults {
			return onceOpened("bad", func(p string) error {
				path := filepath.Join(card, p)
				info, err := os.Stat(path)
				if err != nil {
					return err
				}
				// The same size: only the time tells.
				if err := os.WriteFile(path+"~", make([]byte, info.Size()), 0o600); err != nil {
					return err
				}
				return os.Rename(path+"~", path)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			card := t.TempDir()
			write(t, card, map[string]int{"a.mp4": 1000, "bad1.mp4": 1000, "bad2.mp4": big, "c.mp4": big, "d.mp4": 1000})
			f := spoil(card)
			r, err := w.dock(card, ingest.Options{Recorder: "R1"}, f)
			if err != nil {
				t.Fatal(err)
			}
			w.check(card, r)
			if r.Safe || r.State != ingest.Failed || r.Session.State != journal.StateFailed {
				t.Errorf("state %s, session %s, safe %v", r.State, r.Session.State, r.Safe)
			}
			for _, good := range []string{"a.mp4", "c.mp4", "d.mp4"} {
				if s := stateOf(r, good); s != journal.Verified {
					t.Errorf("%s is %s", good, s)
				}
			}
			bad := 0
			for _, f := range r.Files {
				if strings.HasPrefix(f.Entry.Path, "bad") && f.State.Bad() {
					bad++
					if f.Reason == "" {
						t.Errorf("%s is %s without a reason", f.Entry.Path, f.State)
					}
				}
			}
			if bad < 2 {
				t.Errorf("%d bad files are told of, there are 2", bad)
			}

			// The recorder mended and docked again: the rest is taken in.
			again := w.mustDock(card, ingest.Options{Recorder: "R1"})
			if !again.Safe || again.Totals.Identical != 3 {
				t.Errorf("docked again: %s, %d identical, %d stored", again.State, again.Totals.Identical, again.Totals.Stored)
			}
		})
	}
}

func TestADirectoryThatCannotBeListedIsNotSafe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000})
	if err := os.Mkdir(filepath.Join(card, "DCIM"), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := w.dock(card, ingest.Options{}, &faults{listed: func(e device.Entry) device.Entry {
		if e.Path == "DCIM" {
			e.Err = syscall.EIO
		}
		return e
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.check(card, r)
	if r.Safe || r.Session.State != journal.StateFailed || stateOf(r, "DCIM") != journal.Unreadable {
		t.Errorf("%s; DCIM, which may hold anything, is %s", r.State, stateOf(r, "DCIM"))
	}
}

// onceOpened does something to each file of a prefix when it is first opened.
func onceOpened(prefix string, do func(path string) error) *faults {
	done := map[string]bool{}
	return &faults{atByte: func(e device.Entry, at int64) error {
		if !strings.HasPrefix(e.Path, prefix) || done[e.Path] || at < 0 {
			return nil
		}
		done[e.Path] = true
		return do(e.Path)
	}}
}

func TestWhatComesWhileCopyingIsTakenInToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 1000, "b.mp4": 1000})
	f := onceOpened("a.mp4", func(string) error {
		write(t, card, map[string]int{"0-late.mp4": 500})
		return nil
	})
	r, err := w.dock(card, ingest.Options{}, f)
	if err != nil {
		t.Fatal(err)
	}
	w.check(card, r)
	if !r.Safe || stateOf(r, "0-late.mp4") != journal.Verified {
		t.Errorf("%s; the late file is %q", r.State, stateOf(r, "0-late.mp4"))
	}
}

func TestARecorderThatNeverRestsIsNotSafe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"0.mp4": 1000})
	n := 0
	f := &faults{opened: func(device.Entry) error {
		n++
		write(t, card, map[string]int{strings.Repeat("x", n) + ".mp4": 10})
		return nil
	}}
	r, err := w.dock(card, ingest.Options{}, f)
	if err != nil {
		t.Fatal(err)
	}
	if r.Safe || r.State != ingest.Failed {
		t.Errorf("a card that is still written to is called %s", r.State)
	}
}

func TestWhoseRecorderItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	if _, err := (simulator.Card{Recorder: "NMQ0042", Officer: "000000", Clips: -1}).Write(card); err != nil {
		t.Fatal(err)
	}
	if r := w.mustDock(card, ingest.Options{}); r.Session.Officer != "" {
		t.Errorf("the unset officer became %q", r.Session.Officer)
	}
	if err := w.journal.AddRecorder(t.Context(), journal.Recorder{Serial: "NMQ0042", Officer: "150525"}); err != nil {
		t.Fatal(err)
	}
	if r := w.mustDock(card, ingest.Options{}); r.Session.Officer != "150525" || r.Session.Identity.Officer.Source != "register" {
		t.Errorf("registered: %+v", r.Session.Identity.Officer)
	}
	if r := w.mustDock(card, ingest.Options{Officer: "7"}); r.Session.Officer != "7" {
		t.Errorf("named: %q", r.Session.Officer)
	}
	w.cfg.RefuseUnregistered = true
	w.restart()
	r, err := w.dock(card, ingest.Options{Recorder: "OTHER"}, nil)
	if !errors.Is(err, ingest.ErrUnregistered) || r.State != ingest.UnknownDevice || r.Safe {
		t.Errorf("not registered: %s, %v", r.State, err)
	}
	if r := w.mustDock(card, ingest.Options{}); !r.Safe {
		t.Errorf("registered: %s", r.State)
	}
}

func TestTwoRecordersWithOneSerialNumber(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := t.TempDir(), t.TempDir()
	write(t, a, map[string]int{"a.mp4": 100})
	write(t, b, map[string]int{"b.mp4": 100})
	var inner ingest.Report
	var innerErr error
	f := onceOpened("a.mp4", func(string) error {
		inner, innerErr = w.dock(b, ingest.Options{Recorder: "R1"}, nil)
		return nil
	})
	r, err := w.dock(a, ingest.Options{Recorder: "R1"}, f)
	if err != nil || !r.Safe {
		t.Errorf("the first: %s, %v", r.State, err)
	}
	if !errors.Is(innerErr, ingest.ErrConflict) || inner.State != ingest.Conflict || inner.Safe {
		t.Errorf("the second: %s, %v", inner.State, innerErr)
	}
}

func TestARecorderThatCannotBeReleasedIsNotSafe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 100})
	r, err := w.dock(card, ingest.Options{}, &faults{close: syscall.EBUSY})
	if err == nil || r.Safe || r.State == ingest.Safe {
		t.Errorf("%s, safe %v, %v", r.State, r.Safe, err)
	}
}

func TestSeveralAtOnceAndTheRestQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Parallel, w.cfg.BufferMemory = 2, 2*partSize
	w.restart()
	const n = 6
	reports := make(chan ingest.Report, n)
	var cards []string
	for i := range n {
		card := filepath.Join(t.TempDir(), string(rune('a'+i)))
		write(t, card, map[string]int{"x.mp4": 2*partSize + i, "y.mp4": 1000 + i})
		cards = append(cards, card)
		go func() {
			r, err := w.dock(card, ingest.Options{Recorder: filepath.Base(card)}, nil)
			if err != nil {
				t.Error(err)
			}
			reports <- r
		}()
	}
	for range n {
		r := <-reports
		i := slices.IndexFunc(cards, func(c string) bool { return filepath.Base(c) == r.Session.Recorder })
		w.check(cards[i], r)
		if !r.Safe {
			t.Errorf("%s: %s", r.Session.Recorder, r.State)
		}
	}
	if w.saw("ingest.queued") == 0 {
		t.Error("nobody queued although only two may read at once")
	}
}

func TestProgressIsNeverFullBeforeSafe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := t.TempDir()
	write(t, card, map[string]int{"a.mp4": 3 * partSize, "b.mp4": 1000, "zero": 0})
	p := &ingest.Progress{}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for last := 0.0; ; {
			select {
			case <-stop:
				return
			default:
			}
			f := p.Fraction()
			if f >= 1 && p.State() != ingest.Safe {
				t.Errorf("progress is %v in state %s", f, p.State())
			}
			if f < last {
				t.Errorf("progress fell from %v to %v", last, f)
			}
			last = f
			time.Sleep(time.Millisecond)
		}
	}()
	r, err := w.dock(card, ingest.Options{Progress: p}, nil)
	close(stop)
	<-ended
	if err != nil || !r.Safe || p.Fraction() != 1 || p.Done.Load() != 3 {
		t.Errorf("%s, %v, fraction %v, %d files", r.State, err, p.Fraction(), p.Done.Load())
	}
}
