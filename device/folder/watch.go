package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/bodyworn/ingestd/device"
)

// The kinds of source.
const (
	// Mounts: every mount point below the path is a docked recorder.
	Mounts = "mounts"
	// Folders: every folder directly below the path is a card.
	Folders = "folder"
)

const (
	// sweepEvery is the net below the events: inotify can lose some, and a
	// network file system sends none.
	sweepEvery = 30 * time.Second
	// debounce lets a burst of events pass before one look.
	debounce = 200 * time.Millisecond
	// maxWatches bounds the inotify watches of one drop folder; what lies deeper
	// is seen by the sweep.
	maxWatches = 2000
)

// Source is a place where recorders appear.
type Source struct {
	Path string
	Kind string // Mounts or Folders
	Slot string // shown for what appears there; empty: its own name
}

// Watcher sees recorders come and go in its sources. The truth is what a look at
// the sources shows; events only say when to look, so that lost, doubled and
// late ones do no harm.
type Watcher struct {
	Sources []Source
	// Settle is how long a card in a drop folder must stay the same before it is
	// taken: it is being copied there until then.
	Settle time.Duration
	// Docked is called, in a goroutine of its own, for each recorder that has
	// come. It returns when the docking has ended. A card in a drop folder that
	// changes after that is docked again.
	Docked func(context.Context, device.Docking)
	// Gone is called when a recorder has left its slot. It may be nil.
	Gone func(slot string)
	// Trouble is called with what hinders seeing recorders. It may be nil.
	Trouble func(error)
	// Asked is received from between two looks: whoever can send sees that Run turns
	// over. It may be nil.
	Asked <-chan struct{}

	seen     map[string]*sighting // by path; owned by Run
	handlers sync.WaitGroup
	ended    chan struct{} // a handler has returned: look again
}

// sighting is a recorder that is there.
type sighting struct {
	source    Source
	signature string    // what a look at it shows
	since     time.Time // since when it shows that
	docked    string    // the signature that it was docked with; empty: not yet
	removed   chan struct{}
	busy      chan struct{} // closed when its handler has returned; nil: none yet
}

// Run watches until ctx ends and then waits for all handlers.
func (w *Watcher) Run(ctx context.Context) error {
	w.seen, w.ended = map[string]*sighting{}, make(chan struct{}, 1)
	defer w.handlers.Wait()
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch for recorders: %w", err)
	}
	defer func() { _ = events.Close() }() // nothing is lost with it
	mounts, err := watchMounts(ctx)
	if err != nil {
		return fmt.Errorf("watch for recorders: %w", err)
	}
	next := newAlarm()
	defer next.timer.Stop()
	rest := debounce
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Asked:
		case <-events.Events:
			next.within(rest)
		case err := <-events.Errors:
			w.trouble(fmt.Errorf("watch for recorders: %w", err))
			next.within(rest)
		case <-mounts:
			next.within(rest)
		case <-w.ended:
			next.within(rest)
		case <-next.timer.C:
			began := time.Now()
			next.due = time.Time{}
			again := w.look(ctx, events)
			// A large drop folder takes long to look at; under a stream of
			// events looking must not become all that is done.
			rest = max(debounce, 10*time.Since(began))
			next.within(max(again, rest))
		}
	}
}

// alarm goes off at the earliest of the times that were asked for: a stream of
// events can bring the next look nearer but never put it off.
type alarm struct {
	timer *time.Timer
	due   time.Time
}

func newAlarm() *alarm { return &alarm{timer: time.NewTimer(0), due: time.Now()} }

func (a *alarm) within(d time.Duration) {
	if at := time.Now().Add(d); a.due.IsZero() || at.Before(a.due) {
		a.due = at
		a.timer.Reset(d)
	}
}

// look compares what is there with what was, and says when to look again.
func (w *Watcher) look(ctx context.Context, events *fsnotify.Watcher) (again time.Duration) {
	again = sweepEvery
	there := map[string]bool{}
	for _, src := range w.Sources {
		if err := events.Add(src.Path); err != nil {
			w.trouble(fmt.Errorf("source %s can't be watched: %w", src.Path, err))
			continue
		}
		found, err := src.cards()
		if err != nil {
			w.trouble(fmt.Errorf("source %s can't be listed: %w", src.Path, err))
			// Not seen is not gone: what was there is left as it is.
			for path, s := range w.seen {
				there[path] = there[path] || s.source == src
			}
			continue
		}
		for path, signature := range found {
			there[path] = true
			s := w.seen[path]
			if s == nil {
				s = &sighting{source: src, removed: make(chan struct{})}
				w.seen[path] = s
			}
			if src.Kind == Folders && s.signature != signature {
				w.watchTree(events, path)
			}
			again = min(again, w.consider(ctx, path, s, signature))
		}
	}
	for path, s := range w.seen {
		if !there[path] {
			close(s.removed)
			delete(w.seen, path)
			if w.Gone != nil && s.docked != "" {
				w.Gone(s.slot(path))
			}
		}
	}
	return again
}

// consider docks a recorder that is new, or changed since, and has settled.
func (w *Watcher) consider(ctx context.Context, path string, s *sighting, signature string) (again time.Duration) {
	now := time.Now()
	if s.signature != signature {
		s.signature, s.since = signature, now
	}
	if s.docked == signature {
		return sweepEvery
	}
	if s.busy != nil {
		select {
		case <-s.busy:
		default:
			return sweepEvery // its end wakes us
		}
	}
	if rest := w.settle(s.source) - now.Sub(s.since); rest > 0 {
		return rest
	}
	if s.docked != "" && s.source.Kind == Mounts {
		// Another recorder was mounted on the same place between two looks.
		close(s.removed)
		s.removed = make(chan struct{})
	}
	s.docked, s.busy = signature, make(chan struct{})
	d := device.Docking{
		Slot:    s.slot(path),
		Removed: s.removed,
		Open:    func(context.Context) (device.Recorder, error) { return Open(path) },
	}
	busy := s.busy
	w.handlers.Go(func() {
		defer func() {
			close(busy)
			select {
			case w.ended <- struct{}{}:
			default:
			}
		}()
		w.Docked(ctx, d)
	})
	return sweepEvery
}

func (w *Watcher) settle(src Source) time.Duration {
	if src.Kind == Mounts {
		return 0 // a mount appears whole
	}
	return w.Settle
}

func (s *sighting) slot(path string) string {
	if s.source.Slot != "" {
		return s.source.Slot
	}
	return filepath.Base(path)
}

// cards lists the recorders in a source with a signature of each: what tells one
// docking from the next.
func (src Source) cards() (map[string]string, error) {
	if src.Kind == Mounts {
		return mountsBelow(src.Path)
	}
	entries, err := os.ReadDir(src.Path)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, e := range entries {
		if e.IsDir() {
			path := filepath.Join(src.Path, e.Name())
			found[path] = signature(path)
		}
	}
	return found, nil
}

// signature sums a card up: a file that is added, grows or is replaced changes
// it. Errors are part of it; the session will tell about them.
func signature(dir string) string {
	var files, bytes, troubles, latest int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // troubles are counted
		if err != nil {
			troubles++
			return nil
		}
		files++
		if info, err := d.Info(); err == nil {
			latest = max(latest, info.ModTime().UnixNano())
			if info.Mode().IsRegular() {
				bytes += info.Size()
			}
		}
		return nil
	})
	return fmt.Sprint(files, bytes, troubles, latest)
}

// watchTree has the kernel tell about changes within a card.
func (w *Watcher) watchTree(events *fsnotify.Watcher, dir string) {
	n := 0
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what can't be watched is swept
		if err != nil || !d.IsDir() {
			return nil
		}
		if n++; n > maxWatches || events.Add(path) != nil {
			return fs.SkipAll
		}
		return nil
	})
}

func (w *Watcher) trouble(err error) {
	if w.Trouble != nil && !errors.Is(err, context.Canceled) {
		w.Trouble(err)
	}
}

// mountsBelow reads the mount points below dir; the signature is the mount's id
// and device. The kernel uses ids again, but a mount that is gone wakes a look.
func mountsBelow(dir string) (map[string]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	found := map[string]string{}
	for line := range strings.Lines(string(table)) {
		// proc(5): id, parent, major:minor, root, mount point, …
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount(fields[4])
		if strings.HasPrefix(point, strings.TrimSuffix(dir, "/")+"/") {
			found[point] = fields[0] + " " + fields[2]
		}
	}
	return found, nil
}

// unescapeMount undoes the octal escapes of space, tab, newline and backslash.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
