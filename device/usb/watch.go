package usb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// debounce lets a burst of events pass before one look.
	debounce = 100 * time.Millisecond
	// echo is a second look after a burst: a node may go some time before its
	// folder in sysfs does.
	echo = time.Second
	// sweepEvery is the net below the events: inotify can lose some.
	sweepEvery = 2 * time.Minute
	// blindEvery is the time between looks where no events can be had.
	blindEvery = 2 * time.Second
	// halfEvery is the longest time between looks at a device that is not set up.
	halfEvery = 5 * time.Second
	// patience is how long a device may take to be set up before it is told.
	patience = 3 * time.Second
)

// Slot is a socket of the station.
type Slot struct {
	Name string // as people call it
	Port string // as Device.Port
}

// Watcher sees devices come into the station's ports and leave them. The truth is
// what a look at sysfs shows; events only say when to look, so that lost, doubled
// and late ones do no harm. Hubs are never docked.
//
// While nothing happens it sleeps until the next sweep.
type Watcher struct {
	// Sys and Dev are where sysfs and devtmpfs are mounted. Empty: /sys and /dev.
	Sys, Dev string
	// Slots are the ports to attend. A socket that is wired to two ports, one for
	// USB 2 and one for USB 3, is two slots of one name.
	Slots []Slot
	// All has ports attended that no slot names; their slot's name is the port's.
	All bool
	// Docked is called, in a goroutine of its own, for each device that comes into
	// an attended port. It returns when the docking has ended; the device is not
	// docked again as long as it stays. The next device in that port does not wait
	// for it: two calls may run for one slot, the older with its Plug removed.
	Docked func(ctx context.Context, p *Plug)
	// Gone is called, from Run, when a device has left its slot: right after its
	// Removed was closed, without waiting for Docked. It may be nil.
	Gone func(slot string)
	// Trouble is called, from Run, with what hinders seeing devices; once until it
	// is over or becomes another. It may be nil.
	Trouble func(error)
	// Asked is received from between two looks: whoever can send sees that Run turns
	// over. It may be nil.
	Asked <-chan struct{}
	// Sweep is the longest time between two looks. 0: two minutes.
	Sweep time.Duration

	// What follows is owned by Run.
	tree     *tree
	slots    map[string]string // names by port
	plugs    map[string]*Plug  // by port
	half     map[string]delay  // devices that are not set up yet, by port
	said     map[string]string // troubles that were told, by topic
	handlers sync.WaitGroup
	poke     chan struct{} // a Plug asks for a look
}

// delay spaces the looks at something that is not ready: each waits twice as long.
type delay struct {
	id    identity
	since time.Time
	next  time.Duration
}

// Run watches until ctx ends and then waits for all handlers. Devices that are
// plugged in when it starts are docked, too. No Plug is removed by its end.
func (w *Watcher) Run(ctx context.Context) error {
	if w.Docked == nil {
		return errors.New("watch USB: nobody to tell of devices")
	}
	w.prepare()
	defer w.handlers.Wait()
	var events chan fsnotify.Event
	var troubles chan error
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.trouble("events", fmt.Errorf("watch USB: no events can be had (raise fs.inotify.max_user_instances), "+
			"so the ports are looked at every %v: %w", blindEvery, err))
	} else {
		events, troubles = notify.Events, notify.Errors
		defer func() { _ = notify.Close() }() // nothing is lost with it
	}
	next := newAlarm()
	defer next.timer.Stop()
	echoes := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Asked:
		case e := <-events:
			// Permissions and contents of nodes say nothing about what is plugged in.
			if e.Has(fsnotify.Create) || e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
				next.within(debounce)
				echoes = true
			}
		case err := <-troubles:
			if !errors.Is(err, fsnotify.ErrEventOverflow) { // then the look is all that is needed
				w.trouble("inotify", fmt.Errorf("watch USB: %w", err))
			}
			next.within(debounce)
		case <-w.poke:
			next.within(0)
		case <-next.timer.C:
			next.due = time.Time{}
			next.within(w.look(ctx, notify))
			if echoes {
				next.within(echo)
			}
			echoes = false
		}
	}
}

func (w *Watcher) prepare() {
	w.tree, w.slots = newTree(orElse(w.Sys, "/sys")), map[string]string{}
	w.plugs, w.half, w.said = map[string]*Plug{}, map[string]delay{}, map[string]string{}
	w.poke = make(chan struct{}, 1)
	for _, s := range w.Slots {
		if _, taken := w.slots[s.Port]; !taken {
			w.slots[s.Port] = s.Name
		}
	}
}

// look compares what is there with what was, and says when to look again.
func (w *Watcher) look(ctx context.Context, notify *fsnotify.Watcher) (again time.Duration) {
	again = w.Sweep
	if again <= 0 {
		again = sweepEvery
	}
	// Watch first, then list: what comes in between is in the list or makes an event.
	noNodes, blind := w.watchNodes(notify)
	seen, err := w.tree.scan()
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing:
		err = fmt.Errorf("watch USB: this machine shows no USB: load its driver (modprobe xhci_pci), or, "+
			"in a container, mount sysfs; recorders are seen as soon as it is there: %w", err)
	case err != nil:
		err = fmt.Errorf("watch USB: %w", err)
	case noNodes != nil:
		noNodes = fmt.Errorf("watch USB: no device can be talked to: load the driver of the USB controller "+
			"(modprobe xhci_pci), or, in a container, pass it /dev/bus/usb; "+
			"the ports are looked at every %v: %w", blindEvery, noNodes)
	}
	if missing { // that is what was told
		noNodes = nil
	}
	w.trouble("list", err)
	w.trouble("nodes", noNodes)
	w.trouble("watches", blind)
	if notify == nil || noNodes != nil || blind != nil || (err != nil && !missing) {
		again = min(again, blindEvery)
	}
	if err != nil && !missing {
		return again // not seen is not gone
	}
	return min(again, w.reconcile(ctx, seen))
}

// reconcile ends the dockings whose device has left and begins those of the ones
// that have come.
func (w *Watcher) reconcile(ctx context.Context, seen map[string]sighting) (again time.Duration) {
	now := time.Now()
	again = sweepEvery
	for port, p := range w.plugs {
		s, there := seen[port]
		p.mu.Lock()
		p.ended = !p.meet(s, there, now)
		ended, expecting, until := p.ended, p.expecting, p.until
		p.mu.Unlock()
		switch {
		case ended:
			close(p.removed)
			delete(w.plugs, port)
			if w.Gone != nil {
				w.Gone(p.slot)
			}
		case expecting:
			again = min(again, max(until.Sub(now), debounce))
		}
	}
	for port, s := range seen {
		slot, attended := w.slots[port]
		if !attended && w.All {
			slot, attended = port, true
		}
		if !attended {
			continue
		}
		if s.unfinished != nil {
			again = min(again, w.unfinished(port, slot, s, now))
			continue
		}
		w.finished(port)
		if w.plugs[port] != nil || s.device.Class == ClassHub {
			continue
		}
		p := &Plug{
			slot: slot, port: port, tree: w.tree, poke: w.lookSoon,
			removed: make(chan struct{}), device: s.device, id: s.id,
		}
		w.plugs[port] = p
		w.handlers.Go(func() { w.Docked(ctx, p) })
	}
	for port := range w.half {
		if _, there := seen[port]; !there {
			w.finished(port)
		}
	}
	return again
}

// unfinished says when to look again at a device that the kernel is setting up.
func (w *Watcher) unfinished(port, slot string, s sighting, now time.Time) time.Duration {
	d, known := w.half[port]
	if !known || (s.id != identity{} && s.id != d.id) {
		d = delay{id: s.id, since: now, next: debounce}
	}
	again := d.next
	d.next = min(2*d.next, halfEvery)
	w.half[port] = d
	// Nobody is told to unplug what is being read.
	if now.Sub(d.since) >= patience && w.plugs[port] == nil {
		w.trouble("port "+port, fmt.Errorf("the device in slot %s, port %s, is not ready: "+
			"plug it in again, or use another cable or port: %w", slot, port, s.unfinished))
	}
	return again
}

func (w *Watcher) finished(port string) {
	delete(w.half, port)
	w.trouble("port "+port, nil)
}

// lookSoon has Run look. It never blocks: one look serves all who ask.
func (w *Watcher) lookSoon() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// trouble tells each trouble once, until it is over (nil) or becomes another.
func (w *Watcher) trouble(topic string, err error) {
	if err == nil {
		delete(w.said, topic)
		return
	}
	if w.said[topic] == err.Error() {
		return
	}
	w.said[topic] = err.Error()
	if w.Trouble != nil {
		w.Trouble(err)
	}
}

func (w *Watcher) nodes(elements ...string) string {
	return filepath.Join(append([]string{orElse(w.Dev, "/dev")}, elements...)...)
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
