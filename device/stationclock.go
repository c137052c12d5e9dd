package device

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device/privileged"
)

// StationClock is what the kernel says of the station's own clock (adjtimex(2)).
type StationClock struct {
	// MaxError is the kernel's bound of the clock's error; nil: none, since it is
	// not synchronised or can't be asked.
	MaxError *time.Duration `json:"max_error_ns,omitempty"`
	// Synchronised says that a time service (chrony, ntpd, timesyncd) keeps it.
	Synchronised bool `json:"synchronised"`
	// Why it is not, or can't be told.
	Why string `json:"why,omitempty"`
}

// ReadStationClock asks the kernel; nothing is changed.
func ReadStationClock() StationClock {
	t, err := privileged.ReadClock()
	if errors.Is(err, unix.EPERM) { // of a service with ProtectClock=
		if other := privileged.Process(); other != nil {
			t, err = other.ReadClock()
		}
	}
	switch {
	case err != nil:
		return StationClock{Why: fmt.Sprintf("the kernel can't be asked: %v", err)}
	case t.State == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		return StationClock{Why: "no time service keeps it: set up chrony, ntpd or systemd-timesyncd"}
	}
	return StationClock{Synchronised: true, MaxError: &t.MaxError}
}
