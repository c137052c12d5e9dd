package main

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/device/massstorage"
	"github.com/bodyworn/ingestd/device/privileged"
)

// privilegedCmd is the process that may mount; systemd starts it by itself.
func (a *app) privilegedCmd() *cobra.Command {
	return &cobra.Command{
		Use: "privileged", Short: "Mount recorders' disks for the daemon, on a socket of systemd's", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := systemdSocket()
			if err != nil {
				return usage(err)
			}
			s := &privileged.Server{Mount: massstorage.Mount, SetReadOnly: massstorage.SetReadOnly, Clock: privileged.ReadClock}
			return s.Serve(cmd.Context(), l)
		},
	}
}

// systemdSocket is the one that systemd hands over (sd_listen_fds(3)).
func systemdSocket() (*net.UnixListener, error) {
	if os.Getenv("LISTEN_FDS") != "1" || os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) {
		return nil, errors.New("this is started by systemd, by ingestd-privileged.socket")
	}
	f := os.NewFile(3, "the socket of systemd")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket of systemd: %w", err)
	}
	unix, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.New("the socket of systemd is none of this machine alone")
	}
	unix.SetUnlinkOnClose(false) // it is systemd's
	return unix, nil
}
