package profile_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/textgadget"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

// The built-in profile for the 4255:0001 class, from the bus to the disk, with a
// simulated recorder that answers as one may.
func TestTheProfileWithCommandsUnlocksASimulatedRecorder(t *testing.T) {
	r := textgadget.New(textgadget.Config{
		Serial: "NMQ0007", Password: "13572468", PadTo: 64,
		Now: func() time.Time { return time.Now().In(china).Add(-37 * time.Hour) },
	})
	pipe := gadget.NewPipe(r, 0)
	d := usb.Device{Vendor: 0x4255, Product: 1, Interfaces: []usb.Interface{{Number: 0, Class: usb.ClassVendor}}}
	p, ok := builtIn(t).ForUSB(d)
	if !ok || p.Commands == nil {
		t.Fatalf("%v, %v", p, ok)
	}
	if n, ok := p.Commands.Interface.In(d); !ok || n != 0 {
		t.Fatalf("interface %d, %v", n, ok)
	}
	s, err := vendorcmd.New(pipe, *p.Commands, "13572468")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := s.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if serial, _, _ := p.Identify(profile.Evidence{Device: d, Answer: id}); serial.Value != "NMQ0007" {
		t.Errorf("serial %+v", serial)
	}
	setting, err := s.SetClock(t.Context(), p.Clock.Zone.Or(china))
	if err != nil || setting.After.Kind != device.ClockUnknown {
		t.Errorf("%+v, %v", setting, err)
	}
	if offset := time.Until(r.Now()); offset < -time.Minute || offset > time.Minute {
		t.Errorf("the clock, 37 h slow before, is off by %s", offset)
	}
	if err := s.DiskMode(t.Context()); err != nil {
		t.Error(err)
	}
	if c := r.Counts(); c.Logins != 1 || c.WrongPasswords != 0 || c.Malformed != 0 || c.Refused != 0 {
		t.Errorf("%+v", c)
	}
}

// A recorder that has a second password, as the one public program hints at, gets
// the wrong one once and is not locked.
func TestTheProfileWithCommandsDoesNotLockARecorder(t *testing.T) {
	for name, c := range map[string]textgadget.Config{
		"wrong password":    {Password: "99999999"},
		"a second password": {Password: "13572468", OtherPassword: "12345678"},
	} {
		r := textgadget.New(c)
		pipe := gadget.NewPipe(r, 0)
		p, _ := builtIn(t).Named("ambarella-text")
		s, err := vendorcmd.New(pipe, *p.Commands, "13572468")
		if err != nil {
			t.Fatal(err)
		}
		err = s.Login(t.Context())
		if err == nil {
			_, err = s.Identity(t.Context())
		}
		_, setErr := s.SetClock(t.Context(), china)
		diskErr := s.DiskMode(t.Context())
		if !errors.Is(err, device.ErrNeedsPerson) || setErr == nil || diskErr == nil || strings.Contains(err.Error(), "13572468") {
			t.Errorf("%s: %v, %v, %v", name, err, setErr, diskErr)
		}
		if c := r.Counts(); c.WrongPasswords != 1 || c.Locked {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
