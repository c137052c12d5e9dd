package usbip

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// SysFS is where the kernel shows its virtual host controllers, once the module
// vhci_hcd is loaded.
const SysFS = "/sys/devices/platform/vhci_hcd.0"

const (
	speedHigh = 3 // enum usb_device_speed (linux/usb/ch9.h)
	portFree  = 4 // VDEV_ST_NULL of enum usbip_device_status (linux/usbip.h)
)

// ErrNoPort says that all ports for high speed are taken.
var ErrNoPort = errors.New("no port is free")

// Controller is vhci_hcd with the ports of all its buses. The zero value is that of
// this machine. Attaching takes root.
type Controller struct {
	// Dir is its folder in sysfs; empty is SysFS.
	Dir string
	// attach hands the kernel's end to it. Nil writes to the file attach.
	attach func(line string, kernel *os.File) error
}

// PortStatus is a line of the status file.
type PortStatus struct {
	// Number is what Attach takes; counted over all buses.
	Number int
	Free   bool
	// Bus is the name of the device there, such as 3-1: the port path by which package
	// usb knows it. Empty until the kernel has given it an address.
	Bus string
}

func (c Controller) dir() string {
	if c.Dir == "" {
		return SysFS
	}
	return c.Dir
}

// Ports reads the state of all ports for high speed. Those for super speed are left
// out: a gadget can't be plugged into them.
func (c Controller) Ports() ([]PortStatus, error) {
	var all []PortStatus
	for i := 0; ; i++ { // status, status.1, … one for each pair of buses
		name := "status"
		if i > 0 {
			name += "." + strconv.Itoa(i)
		}
		text, err := os.ReadFile(filepath.Join(c.dir(), name))
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the virtual USB ports; is the module vhci_hcd loaded (modprobe vhci_hcd)? %w", err)
		}
		ports, err := parseStatus(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(c.dir(), name), err)
		}
		all = append(all, ports...)
	}
}

// parseStatus reads lines such as "hs  0000 006 003 00010002 000009 3-1"; kernels
// before 4.13 have no first column, and high speed only.
func parseStatus(text string) ([]PortStatus, error) {
	var all []PortStatus
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "hub" || fields[0] == "port" || fields[0] == "prt" {
			continue
		}
		if fields[0] == "ss" {
			continue
		}
		if fields[0] == "hs" {
			fields = fields[1:]
		}
		if len(fields) < 6 {
			return nil, fmt.Errorf("can't read %q; a line has a port, its state, speed, device, socket and bus id", strings.TrimSpace(line))
		}
		number, err := strconv.Atoi(fields[0])
		if err != nil {
			return nil, fmt.Errorf("can't read the port in %q: %w", strings.TrimSpace(line), err)
		}
		state, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, fmt.Errorf("can't read the state in %q: %w", strings.TrimSpace(line), err)
		}
		p := PortStatus{Number: number, Free: state == portFree}
		if bus := fields[len(fields)-1]; bus != "0-0" {
			p.Bus = bus
		}
		all = append(all, p)
	}
	return all, nil
}

// Status is that of one port.
func (c Controller) Status(port int) (PortStatus, error) {
	all, err := c.Ports()
	if err != nil {
		return PortStatus{}, err
	}
	for _, p := range all {
		if p.Number == port {
			return p, nil
		}
	}
	return PortStatus{}, fmt.Errorf("there is no virtual USB port %d for high speed", port)
}

// Free finds ports that nothing is plugged into, in order. None gives ErrNoPort.
func (c Controller) Free() ([]int, error) {
	all, err := c.Ports()
	if err != nil {
		return nil, err
	}
	var free []int
	for _, p := range all {
		if p.Free {
			free = append(free, p.Number)
		}
	}
	if len(free) == 0 {
		return nil, fmt.Errorf("%d virtual USB ports: %w", len(all), ErrNoPort)
	}
	return free, nil
}

// Attach plugs fn into a port, at high speed. It returns when the kernel has the
// gadget; the kernel enumerates it after that.
func (c Controller) Attach(fn gadget.Function, port int) (*Link, error) {
	// Close-on-exec: a program that is started by chance must not hold the cable.
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket pair for the virtual USB port %d: %w", port, err)
	}
	kernel := os.NewFile(uintptr(ends[1]), "vhci")
	defer func() { _ = kernel.Close() }() // the kernel holds its own reference
	ours := os.NewFile(uintptr(ends[0]), "gadget")
	conn, err := net.FileConn(ours)
	_ = ours.Close() // conn has a duplicate
	if err != nil {
		return nil, fmt.Errorf("socket for the virtual USB port %d: %w", port, err)
	}
	attach := c.attach
	if attach == nil {
		attach = func(line string, _ *os.File) error {
			return os.WriteFile(filepath.Join(c.dir(), "attach"), []byte(line), 0)
		}
	}
	// The device id, bus and number at the server, means nothing without a server.
	line := fmt.Sprintf("%d %d %d %d", port, kernel.Fd(), 1<<16|(port+1), speedHigh)
	if err := attach(line, kernel); err != nil {
		_ = conn.Close() // nothing was sent
		what := "attach to"
		switch {
		case errors.Is(err, fs.ErrPermission):
			what = "attach, which takes root, to"
		case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EINVAL):
			what = "attach, which takes a free one, to"
		}
		return nil, fmt.Errorf("%s the virtual USB port %d: %w", what, port, err)
	}
	return Serve(conn, fn)
}

// Attach plugs fn into a port of this machine.
func Attach(fn gadget.Function, port int) (*Link, error) { return Controller{}.Attach(fn, port) }

// PortPath is the path by which package usb knows a port, such as 3-1, before
// anything is plugged in: the bus is that of the controller's hub for high speed, the
// port is counted from 1 on it.
func (c Controller) PortPath(port int) (string, error) {
	all, err := c.Ports()
	if err != nil {
		return "", err
	}
	hubs, err := filepath.Glob(filepath.Join(filepath.Dir(c.dir()), "vhci_hcd.*", "usb*", "speed"))
	if err != nil {
		return "", fmt.Errorf("look for the hubs of vhci_hcd: %w", err)
	}
	buses := map[int]string{} // by the number of the controller
	for _, file := range hubs {
		speed, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("look for the hubs of vhci_hcd: %w", err)
		}
		if strings.TrimSpace(string(speed)) != "480" {
			continue
		}
		hub := filepath.Dir(file)
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(hub)), "vhci_hcd."))
		if err != nil {
			return "", fmt.Errorf("%s is no controller of vhci_hcd: %w", filepath.Dir(hub), err)
		}
		buses[n] = strings.TrimPrefix(filepath.Base(hub), "usb")
	}
	if len(buses) == 0 {
		return "", fmt.Errorf("no hub for high speed in %s", filepath.Dir(c.dir()))
	}
	perHub := len(all) / len(buses)
	for i, p := range all {
		if p.Number == port && perHub > 0 {
			if bus := buses[i/perHub]; bus != "" {
				return bus + "-" + strconv.Itoa(i%perHub+1), nil
			}
		}
	}
	return "", fmt.Errorf("no hub for high speed has the virtual USB port %d", port)
}
