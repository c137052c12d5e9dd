package textgadget

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

func decimal(n int) string { return strconv.Itoa(n) }

// say queues an answer; leave says that the recorder becomes a disk after it.
func (r *Recorder) say(answer string, leave bool) {
	text := []byte(r.fill(answer))
	if len(text) > 0 && len(text) < r.config.PadTo {
		text = append(text, make([]byte, r.config.PadTo-len(text))...)
	}
	var taken chan struct{}
	if leave {
		r.leaving = true
		taken = make(chan struct{})
		go r.leave(r.queue, taken)
	}
	switch {
	case len(text) > 0:
		r.queue.Send(bulkIn, &told{Reader: bytes.NewReader(text), taken: taken}, int64(len(text)))
	case leave:
		close(taken)
	}
}

// told is an answer; taken, if not nil, is closed when the host has it.
type told struct {
	*bytes.Reader
	taken chan struct{}
	once  sync.Once
}

// Sent is called by the gadget.
func (t *told) Sent() {
	if t.taken != nil {
		t.once.Do(func() { close(t.taken) })
	}
}

// leave makes the recorder a disk, soon after the host has been told.
func (r *Recorder) leave(q gadget.Queue, taken <-chan struct{}) {
	patience := time.NewTimer(r.config.SwitchAfter)
	defer patience.Stop()
	select {
	case <-taken:
	case <-patience.C:
	case <-q.Unplugged():
		return // pulled before it came to that
	}
	r.mu.Lock()
	r.counts.Switches++
	r.mu.Unlock()
	if r.config.Switch != nil {
		r.config.Switch()
		return
	}
	q.Unplug()
}

// fill puts the recorder's number and clock into an answer.
func (r *Recorder) fill(answer string) string {
	answer = strings.ReplaceAll(answer, "{serial}", r.config.Serial)
	for {
		before, rest, found := strings.Cut(answer, "{time:")
		layout, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return answer
		}
		answer = before + r.now().Format(layout) + after
	}
}
