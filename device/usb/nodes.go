package usb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watchNodes has the kernel tell of nodes that come and go below /dev/bus/usb, in
// a folder for each bus. missing says that there is no such folder; its coming is
// watched then. blind says why no events can be had.
func (w *Watcher) watchNodes(notify *fsnotify.Watcher) (missing, blind error) {
	top := w.nodes("bus", "usb")
	above := []string{w.nodes(), w.nodes("bus")}
	if notify == nil {
		_, err := os.Stat(top)
		return err, nil // that there are no events was told
	}
	if missing = notify.Add(top); errors.Is(missing, fs.ErrNotExist) {
		// From the top down, so that a folder that comes meanwhile makes an event.
		for _, dir := range append(above, top) {
			if missing = notify.Add(dir); missing != nil {
				break
			}
		}
		if _, err := os.Stat(above[0]); err != nil {
			return missing, cantWatch(err)
		}
	}
	switch {
	case errors.Is(missing, fs.ErrNotExist):
		return missing, nil
	case missing != nil:
		return nil, cantWatch(missing)
	}
	// Not longer than needed: every write to a terminal or to /dev/null is an
	// event in /dev.
	for _, dir := range above {
		if err := notify.Remove(dir); err != nil && !errors.Is(err, fsnotify.ErrNonExistentWatch) {
			return nil, cantWatch(err)
		}
	}
	buses, err := os.ReadDir(top)
	if err != nil {
		return nil, cantWatch(err)
	}
	for _, bus := range buses {
		if !bus.IsDir() {
			continue
		}
		if err := notify.Add(w.nodes("bus", "usb", bus.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, cantWatch(err)
		}
	}
	return nil, nil
}

func cantWatch(err error) error {
	return fmt.Errorf("watch USB: not all events can be had (raise fs.inotify.max_user_watches), "+
		"so the ports are looked at every %v: %w", blindEvery, err)
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
