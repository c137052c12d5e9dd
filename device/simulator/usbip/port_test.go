package usbip_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/usbip"
)

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree is sysfs with two controllers of three ports for high speed each.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "vhci_hcd.0")
	put(t, filepath.Join(dir, "status"), `hub port sta spd dev      sockfd local_busid
hs  0000 006 003 00010002 000009 3-1
hs  0001 004 000 00000000 000000 0-0
hs  0002 005 000 00000000 000011 0-0
ss  0003 004 000 00000000 000000 0-0
ss  0004 004 000 00000000 000000 0-0
ss  0005 004 000 00000000 000000 0-0
`)
	put(t, filepath.Join(dir, "status.1"), `hub port sta spd dev      sockfd local_busid
hs  0006 004 000 00000000 000000 0-0
hs  0007 004 000 00000000 000000 0-0
hs  0008 006 003 00010002 000013 5-3
ss  0009 004 000 00000000 000000 0-0
`)
	put(t, filepath.Join(dir, "usb3", "speed"), "480\n")
	put(t, filepath.Join(dir, "usb4", "speed"), "5000\n")
	put(t, filepath.Join(root, "vhci_hcd.1", "usb5", "speed"), "480\n")
	put(t, filepath.Join(root, "vhci_hcd.1", "usb6", "speed"), "5000\n")
	return dir
}

func TestPorts(t *testing.T) {
	c := usbip.Controller{Dir: tree(t)}
	all, err := c.Ports()
	want := []usbip.PortStatus{{0, false, "3-1"}, {1, true, ""}, {2, false, ""}, {6, true, ""}, {7, true, ""}, {8, false, "5-3"}}
	if err != nil || !slices.Equal(all, want) {
		t.Errorf("%+v, %v", all, err)
	}
	if free, err := c.Free(); err != nil || !slices.Equal(free, []int{1, 6, 7}) {
		t.Errorf("%v, %v", free, err)
	}
	for port, want := range map[int]string{0: "3-1", 2: "3-3", 6: "5-1", 8: "5-3"} {
		if path, err := c.PortPath(port); err != nil || path != want {
			t.Errorf("port %d: %q, %v; not %s", port, path, err, want)
		}
	}
	if _, err := c.PortPath(3); err == nil {
		t.Error("a port for super speed has a path")
	}
	if _, err := c.Status(4); err == nil {
		t.Error("a port for super speed has a status")
	}
}

func TestOldAndOddStatusFiles(t *testing.T) {
	dir := t.TempDir()
	c := usbip.Controller{Dir: dir}
	if _, err := c.Ports(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "modprobe") {
		t.Errorf("%v; it should say what to do", err)
	}
	put(t, filepath.Join(dir, "status"), "port sta spd dev      socket           local_busid\n0000 006 003 00010002         c5a7bb80 3-1\n")
	if all, err := c.Ports(); err != nil || !slices.Equal(all, []usbip.PortStatus{{0, false, "3-1"}}) {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := c.Free(); !errors.Is(err, usbip.ErrNoPort) {
		t.Errorf("%v", err)
	}
	for _, odd := range []string{"hs 0000", "hs x 004 000 0 0 0-0", "hs 0 y 000 0 0 0-0"} {
		put(t, filepath.Join(dir, "status"), odd)
		if all, err := c.Ports(); err == nil {
			t.Errorf("%q is %+v", odd, all)
		}
	}
}

// fakeVHCI does what the kernel does with what is written to the file attach: takes
// the socket, shows the port as taken, and as free again some time after the other
// end was closed.
type fakeVHCI struct {
	t    *testing.T
	dir  string
	mu   sync.Mutex
	log  []string
	free map[int]bool
}

func (v *fakeVHCI) show() {
	text := "hub port sta spd dev      sockfd local_busid\n"
	for port := range 2 {
		state := "006 003 00010002 000009 3-1"
		if v.free[port] {
			state = "004 000 00000000 000000 0-0"
		}
		text += fmt.Sprintf("hs  %04d %s\n", port, state)
	}
	// At once, as sysfs does it.
	put(v.t, filepath.Join(v.dir, "new"), text)
	if err := os.Rename(filepath.Join(v.dir, "new"), filepath.Join(v.dir, "status")); err != nil {
		v.t.Error(err)
	}
}

func (v *fakeVHCI) attach(line string, end *os.File) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var port, fd, device, speed int
	if _, err := fmt.Sscanf(line, "%d %d %d %d", &port, &fd, &device, &speed); err != nil || fd != int(end.Fd()) || speed != 3 {
		v.t.Errorf("%q is written to attach: %v", line, err)
	}
	if !v.free[port] {
		return unix.EBUSY
	}
	conn, err := net.FileConn(end)
	if err != nil {
		return err
	}
	v.free[port] = false
	v.show()
	go func() {
		k := newKernel(v.t, conn)
		k.submit(0, true, 18, 0, [8]byte{0x80, 6, 0, 1, 0, 0, 18}, nil)
		r, err := k.reply()
		v.note(fmt.Sprintf("port %d: product %02x%02x, %v", port, r.data[11], r.data[10], err))
		_, err = k.reply()
		v.note(fmt.Sprintf("port %d: %v", port, err))
		time.Sleep(20 * time.Millisecond) // the kernel takes its time
		v.mu.Lock()
		defer v.mu.Unlock()
		v.free[port] = true
		v.show()
	}()
	return nil
}

func (v *fakeVHCI) note(s string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.log = append(v.log, s)
}

func newVHCI(t *testing.T) (*fakeVHCI, usbip.Controller) {
	v := &fakeVHCI{t: t, dir: t.TempDir(), free: map[int]bool{0: true, 1: true}}
	v.show()
	return v, usbip.ControllerWith(v.dir, v.attach)
}

func (v *fakeVHCI) wait(n int) []string {
	v.t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(time.Millisecond) {
		v.mu.Lock()
		log := slices.Clone(v.log)
		v.mu.Unlock()
		if len(log) >= n {
			return log
		}
	}
	v.t.Fatalf("fewer than %d things happen", n)
	return nil
}

// A recorder that changes its mode comes back in the same port, and the port is empty
// in between.
func TestReplace(t *testing.T) {
	v, c := newVHCI(t)
	p := usbip.NewPort(c, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Plug(ctx, &function{}); err != nil {
		t.Fatal(err)
	}
	v.wait(1)
	if err := p.Plug(ctx, &function{}); err == nil {
		t.Error("two in one port")
	}
	if err := p.Replace(ctx, other{&function{}}, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	v.wait(3)
	if err := p.Unplug(ctx); err != nil {
		t.Fatal(err)
	}
	want := []string{"port 1: product ca01, <nil>", "port 1: EOF", "port 1: product ca02, <nil>", "port 1: EOF"}
	if got := v.wait(4); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if s, err := c.Status(1); err != nil || !s.Free {
		t.Errorf("%+v, %v", s, err)
	}
	if err := p.Link().Close(); err != nil {
		t.Error(err)
	}
}

// other is a gadget with another product id.
type other struct{ *function }

func (o other) Descriptors() gadget.Descriptors {
	d := o.function.Descriptors()
	d.Product = 0xca02
	return d
}

func TestAttachToATakenPort(t *testing.T) {
	v, c := newVHCI(t)
	v.free[0] = false
	if _, err := c.Attach(&function{}, 0); !errors.Is(err, unix.EBUSY) {
		t.Error(err)
	}
	v.show()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := usbip.NewPort(c, 0).Plug(ctx, &function{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestAttachWithoutTheModule(t *testing.T) {
	c := usbip.Controller{Dir: filepath.Join(t.TempDir(), "vhci_hcd.0")}
	if _, err := c.Attach(&function{}, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
