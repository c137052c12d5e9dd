package usb_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device/usb"
)

// patience is how long a test waits for what must happen; the machines are slow.
const patience = time.Minute

// station is a false /sys and /dev.
type station struct {
	t        testing.TB
	sys, dev string
	address  int
}

func newStation(t testing.TB) *station {
	t.Helper()
	s := &station{t: t, sys: filepath.Join(t.TempDir(), "sys"), dev: filepath.Join(t.TempDir(), "dev"), address: 1}
	s.mkdir(s.devices())
	s.mkdir(filepath.Join(s.dev, "bus/usb/001"))
	// The root hub and its interface stand beside the devices.
	s.write("usb1", map[string]string{"busnum": "1\n", "devnum": "1\n", "idVendor": "1d6b\n", "bDeviceClass": "09\n"})
	s.write("1-0:1.0", map[string]string{"bInterfaceClass": "09\n"})
	return s
}

func (s *station) devices() string { return filepath.Join(s.sys, "bus/usb/devices") }

func (s *station) mkdir(dir string) {
	s.t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
}

func (s *station) rename(from, to string) {
	s.t.Helper()
	if err := os.Rename(from, to); err != nil {
		s.t.Fatal(err)
	}
}

// write makes a folder below the devices with these files.
func (s *station) write(folder string, files map[string]string) {
	s.t.Helper()
	dir := filepath.Join(s.devices(), folder)
	s.mkdir(dir)
	for name, text := range files {
		s.mkdir(filepath.Dir(filepath.Join(dir, name)))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// stick is what sysfs shows of a mass storage device.
func stick() map[string]string {
	return map[string]string{
		"idVendor": "0781\n", "idProduct": "5567\n", "bcdDevice": "0126\n", "bDeviceClass": "00\n",
		"manufacturer": "SanDisk\n", "product": "Cruzer Blade\n", "serial": "0000\n", "speed": "480\n",
		"bNumInterfaces":         " 1\n",
		":1.0/bInterfaceNumber":  "00\n",
		":1.0/bAlternateSetting": " 0\n",
		":1.0/bInterfaceClass":   "08\n", ":1.0/bInterfaceSubClass": "06\n", ":1.0/bInterfaceProtocol": "50\n",
	}
}

// disk is what appears below the interface of a stick; sectors have 512 bytes.
func disk(port, unit, name string, sectors, ro string) map[string]string {
	dir := fmt.Sprintf("%s:1.0/host6/target6:0:0/%s/block/%s/", port, unit, name)
	return map[string]string{dir + "size": sectors, dir + "ro": ro, dir + "queue/rotational": "1\n"}
}

// make prepares a device with the next address, outside the tree.
func (s *station) make(port string, files map[string]string) (folder string) {
	s.t.Helper()
	s.address++
	whole := map[string]string{"busnum": "1\n", "devnum": strconv.Itoa(s.address) + "\n"}
	for name, text := range files {
		if strings.HasPrefix(name, ":") {
			name = port + name
		}
		whole[name] = text
	}
	folder = fmt.Sprintf("../new-%s-%d", port, s.address)
	s.write(folder, whole)
	return filepath.Join(s.devices(), folder)
}

func (s *station) node() string {
	return filepath.Join(s.dev, "bus/usb/001", fmt.Sprintf("%03d", s.address))
}

func (s *station) touch(file string) {
	s.t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// plug puts a device into a port and makes its node.
func (s *station) plug(port string, files map[string]string) {
	s.t.Helper()
	s.rename(s.make(port, files), filepath.Join(s.devices(), port))
	s.touch(s.node())
}

// unplug takes the device out, the folder at once, as it is gone at once from sysfs.
func (s *station) unplug(port string) {
	s.t.Helper()
	old := s.take(port)
	if err := os.RemoveAll(old); err != nil {
		s.t.Fatal(err)
	}
	s.wake()
}

// take takes the folder out without an event.
func (s *station) take(port string) (folder string) {
	s.t.Helper()
	old := filepath.Join(s.devices(), "..", fmt.Sprintf("old-%s-%d", port, s.address))
	s.rename(filepath.Join(s.devices(), port), old)
	return old
}

// wake makes an event of no meaning.
func (s *station) wake() {
	s.t.Helper()
	name := filepath.Join(s.dev, "bus/usb/001/999")
	s.touch(name)
	if err := os.Remove(name); err != nil {
		s.t.Fatal(err)
	}
}

// await fails the test if nothing comes.
func await[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// quiet fails the test if something comes within a while.
func quiet[T any](t *testing.T, what string, c <-chan T) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("%s: %v", what, v)
	case <-time.After(700 * time.Millisecond):
	}
}

// watching is a Watcher that runs until the test ends.
type watching struct {
	docked   chan *usb.Plug
	gone     chan string
	troubles chan error
	release  chan struct{} // closed: handlers return
}

func (s *station) watch(t *testing.T, w *usb.Watcher) *watching {
	t.Helper()
	r := &watching{
		docked: make(chan *usb.Plug, 100), gone: make(chan string, 100),
		troubles: make(chan error, 100), release: make(chan struct{}),
	}
	w.Sys, w.Dev = s.sys, s.dev
	w.Docked = func(ctx context.Context, p *usb.Plug) {
		r.docked <- p
		select {
		case <-r.release:
		case <-ctx.Done():
		}
	}
	w.Gone = func(slot string) { r.gone <- slot }
	w.Trouble = func(err error) { r.troubles <- err }
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := await(t, "the end of Run", ended); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

func slots(names ...string) []usb.Slot {
	var all []usb.Slot
	for i, name := range names {
		all = append(all, usb.Slot{Name: name, Port: fmt.Sprintf("1-%d", i+1)})
	}
	return all
}
