//go:build cgo

package usb_test

import (
	"context"
	"errors"
	"testing"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
)

func TestAPipeToADeviceThatIsGone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.plug("1-1", stick())
	d := scan(t, s)[0]
	s.unplug("1-1")
	if _, err := usb.OpenPipe(t.Context(), d, 0); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("gone: %v, want ErrRemoved", err)
	}
	s.plug("1-1", stick()) // another address: another device
	if _, err := usb.OpenPipe(t.Context(), d, 0); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("replaced: %v, want ErrRemoved", err)
	}
}

func TestAPipeIsNotTriedLongerThanWished(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err := usb.OpenPipe(ctx, usb.Device{Port: "250-1", Bus: 250, Address: 120}, 0)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err is %v", err)
	}
	t.Log(err)
}
