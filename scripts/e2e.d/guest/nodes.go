//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// watchNodes tells of each disk's node that is made and of each opening of a disk
// or a USB device: what was never opened was never read or written. The watch is
// on the folders, so that it is there before the nodes are.
func (a *agent) watchNodes() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	folders := map[int32]string{}
	add := func(folder string) error {
		wd, err := unix.InotifyAddWatch(fd, folder, unix.IN_CREATE|unix.IN_OPEN)
		if err != nil {
			return fmt.Errorf("watch %s: %w", folder, err)
		}
		folders[int32(wd)] = folder
		return nil
	}
	buses, err := filepath.Glob("/dev/bus/usb/*")
	if err != nil {
		return err
	}
	for _, folder := range append(buses, "/dev") {
		if err := add(folder); err != nil {
			return err
		}
	}
	go func() { // as long as the machine runs
		buffer := make([]byte, 1<<16)
		for {
			n, err := unix.Read(fd, buffer)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "agent: inotify:", err)
				return
			}
			for at := 0; at+unix.SizeofInotifyEvent <= n; {
				event := (*unix.InotifyEvent)(unsafe.Pointer(&buffer[at]))
				at += unix.SizeofInotifyEvent
				name := unix.ByteSliceToString(buffer[at : at+int(event.Len)])
				at += int(event.Len)
				a.node(event.Mask, filepath.Join(folders[event.Wd], name), name)
			}
		}
	}()
	return nil
}

func (a *agent) node(mask uint32, path, name string) {
	disk := strings.HasPrefix(name, "sd")
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		a.tell(wire.Event{Kind: wire.Open, Name: "overflow", Text: "events were lost"})
	case mask&unix.IN_CREATE != 0 && disk:
		a.tell(wire.Event{Kind: wire.Block, Name: path})
	case mask&unix.IN_OPEN != 0 && mask&unix.IN_ISDIR == 0 && name != "" && (disk || strings.HasPrefix(path, "/dev/bus/")):
		a.tell(wire.Event{Kind: wire.Open, Name: path})
	}
}
