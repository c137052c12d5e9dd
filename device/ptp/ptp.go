// Package ptp reads recorders that show themselves as a still image device, by the
// Picture Transfer Protocol and its extension MTP: PIMA 15740:2000, MTP 1.1, over
// the transport of the USB Still Image Capture Device Definition 1.0. It is a driver
// of package device; package dock gives it the claimed interface, a usb.Pipe.
//
// Sent are questions only, and the setting of the clock where that is allowed. A file
// is handed out as the recorder announces it: a data phase that is shorter or longer
// than its own length is an error, never the end of a file.
//
// There is one transaction at a time. What a Recorder and its Files do is therefore
// done in turn, under one lock; a file that is being streamed while something else is
// asked is cut off and goes on afterwards at the same byte.
//
// No real recorder could be tried.
package ptp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
)

// Config says what is known of a recorder before it is opened.
type Config struct {
	// Identity as far as it is known: place, profile, the serial number of the USB
	// descriptor. The driver adds itself, and what DeviceInfo tells.
	Identity device.Identity
	// Zone is that of the recorder's clock where its times tell none; nil is the
	// station's.
	Zone *time.Location
	// SetClock allows SetClock. Without it the recorder is only read.
	SetClock bool
	// Patience is how long the recorder may take for one transfer; 0 is 20 s.
	Patience time.Duration
}

// Recorder is one recorder in an open session. Its methods can be called from
// several goroutines.
type Recorder struct {
	cfg      Config
	identity device.Identity
	info     DeviceInfo

	// mu is held for each transaction and guards all that is below. A stream keeps the
	// link to itself between two reads; active is that file, and yields when another
	// takes the lock.
	mu     sync.Mutex
	link   *link
	active *file
	closed bool
	// listed is the inventory taken last, by path. Handles are good for this session
	// only (PIMA 15740 §6.3), so that one from an earlier docking is never used.
	listed map[string]*object
	// sizesAsked and sizesFailed count the questions for 64-bit sizes: one who never
	// answers is not asked for ten thousand objects.
	sizesAsked, sizesFailed int
	// partial is the operation that reads a part of a file; 0: none that works.
	partial uint16
}

var (
	_ device.Recorder    = (*Recorder)(nil)
	_ device.ClockSetter = (*Recorder)(nil)
)

// Open opens a session. The pipe belongs to the Recorder from then on, and is closed
// if Open fails.
func Open(ctx context.Context, pipe usb.Pipe, cfg Config) (*Recorder, error) {
	if cfg.Patience <= 0 {
		cfg.Patience = 20 * time.Second
	}
	if cfg.Zone == nil {
		cfg.Zone = time.Local
	}
	r := &Recorder{cfg: cfg, identity: cfg.Identity, link: newLink(pipe, cfg.Patience)}
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the recorder at %s: %w", cfg.Identity.Place, err), pipe.Close())
	}
	return r, nil
}

func (r *Recorder) open(ctx context.Context) error {
	// A session that an earlier user left open may be in the middle of something:
	// what comes before the first answer is not ours.
	r.link.dirty = true
	_, _, err := r.link.do(ctx, OpOpenSession, 1)
	if refusedWith(err, RespSessionOpen) {
		// Handles and transaction ids of another's session are not to be relied on.
		if _, _, err = r.link.do(ctx, OpCloseSession); err == nil || refused(err) {
			_, _, err = r.link.do(ctx, OpOpenSession, 1)
		}
	}
	if err != nil {
		return err
	}
	r.link.inSession = true
	data, _, err := r.link.do(ctx, OpGetDeviceInfo)
	if err != nil {
		return err
	}
	if r.info, err = ParseDeviceInfo(data); err != nil {
		return err
	}
	switch {
	case r.info.Has(OpGetPartialObject64):
		r.partial = OpGetPartialObject64
	case r.info.Has(OpGetPartialObject):
		r.partial = OpGetPartialObject
	}
	r.identify()
	return nil
}

func (r *Recorder) identify() {
	id := &r.identity
	id.Driver = "ptp"
	if !individual(id.Serial.Value) {
		id.Serial = device.Fact{}
		if serial := strings.TrimSpace(r.info.Serial); individual(serial) {
			id.Serial = device.Fact{Value: serial, Source: "PTP DeviceInfo"}
		}
	}
	if model := strings.TrimSpace(r.info.Model); !id.Model.Known() && printable(model) {
		id.Model = device.Fact{Value: model, Source: "PTP DeviceInfo"}
	}
}

// individual tells a serial number from what makers put there when they number
// nothing: zeros, one character, digits in a row. Two recorders with such a number
// would be taken for one.
func individual(serial string) bool {
	if !printable(serial) {
		return false
	}
	s := strings.ToLower(serial)
	if strings.Trim(s, s[:1]) == "" { // such as 0000
		return false
	}
	switch s {
	case "unknown", "none", "null", "n/a", "serial", "serialnumber", "default":
		return false
	}
	for _, row := range []string{"0123456789abcdef", "123456789abcdef", "1234567890", "abcdefghijklmnopqrstuvwxyz"} {
		// As a beginning of the row, or as the row again and again.
		if strings.HasPrefix(row, s) || strings.Trim(strings.ReplaceAll(s, row, ""), "0") == "" {
			return false
		}
	}
	return true
}

func printable(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f || c == '\ufffd' })
}

// Identity implements device.Recorder.
func (r *Recorder) Identity() device.Identity { return r.identity }

// Close implements device.Recorder: it ends the session and closes the pipe.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	ctx, stop := context.WithTimeout(context.Background(), 3*r.cfg.Patience)
	defer stop()
	err := r.endSession(ctx)
	if err = errors.Join(err, r.link.pipe.Close()); err != nil {
		return fmt.Errorf("close the recorder at %s: %w", r.identity.Place, err)
	}
	return nil
}

func (r *Recorder) endSession(ctx context.Context) error {
	if err := r.yield(); err != nil {
		return err
	}
	_, _, err := r.link.do(ctx, OpCloseSession)
	// One that refuses has answered: it is at rest, and nothing is under way.
	if err != nil && !refused(err) && (!errors.Is(err, usb.ErrStall) || r.link.dead != nil) {
		return err
	}
	return nil
}

// ask runs an operation with a small answer. The lock is held.
func (r *Recorder) ask(ctx context.Context, op uint16, params ...uint32) ([]byte, response, error) {
	return r.exchange(ctx, op, nil, params...)
}

func (r *Recorder) exchange(ctx context.Context, op uint16, out []byte, params ...uint32) ([]byte, response, error) {
	if err := r.ready(); err != nil {
		return nil, response{}, err
	}
	return r.link.exchange(ctx, op, out, params...)
}

// begin starts an operation whose data are streamed; a busy recorder is asked again.
func (r *Recorder) begin(ctx context.Context, op uint16, params ...uint32) (t *transaction, err error) {
	err = r.link.patiently(ctx, func() error {
		t, err = r.link.begin(ctx, op, nil, params...)
		return err
	})
	return t, err
}

// ready gets the link free for a transaction.
func (r *Recorder) ready() error {
	if r.closed {
		return errors.New("the recorder is closed")
	}
	return r.yield()
}

func (r *Recorder) yield() error {
	if r.active == nil {
		return nil
	}
	return r.active.cut()
}

func refused(err error) bool {
	var refusal *Refusal
	return errors.As(err, &refusal)
}

func refusedWith(err error, codes ...uint16) bool {
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		return false
	}
	for _, code := range codes {
		if refusal.Response == code {
			return true
		}
	}
	return false
}
