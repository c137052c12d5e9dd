package usb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Scan lists the USB devices that are plugged in, hubs too, in the order of their
// ports; the root hubs are left out, since they are the host's own. sys is where
// sysfs is mounted, /sys.
//
// A device that vanishes meanwhile is not listed, and neither is one that the
// kernel has not finished setting up: the next Scan has it whole. The error is
// about the list as a whole; it is fs.ErrNotExist where there is no USB at all.
func Scan(sys string) ([]Device, error) {
	seen, err := newTree(sys).scan()
	if err != nil {
		return nil, err
	}
	devices := []Device{}
	for _, s := range seen {
		if s.unfinished == nil {
			devices = append(devices, s.device)
		}
	}
	slices.SortFunc(devices, func(a, b Device) int { return comparePorts(a.Port, b.Port) })
	return devices, nil
}

// identity tells one enumeration of a device from all others. Addresses are used
// again, after 127 others or when a bus comes anew; the number of a folder in
// sysfs is not.
type identity struct {
	bus, address int
	folder       uint64
}

// sighting is what a look at one port showed.
type sighting struct {
	id     identity // zero: could not be read
	device Device
	// unfinished says what could not be read of the device; it is there all the
	// same. Nil: all was read.
	unfinished error
}

// errNoConfiguration is how a device stays that the kernel will not use.
var errNoConfiguration = errors.New("the kernel gave it no configuration: " +
	"the port can't power it, or it is not authorized")

// lookLimit bounds the wait for one look. Strings and the configuration are read
// under the device's lock, which a driver can hold for long at a broken device:
// that must not keep the other ports waiting.
const lookLimit = time.Second

// tree reads the devices' folders in sysfs. It remembers what does not change
// while a device is plugged in, so that most looks need no such lock.
type tree struct {
	dir string

	mu    sync.Mutex
	known map[string]known  // by port
	looks map[string]*aLook // that have not ended, by port; never two at one port
}

type known struct {
	id     identity
	device Device   // without interfaces and disks
	names  []string // of the folders of its interfaces, when they were complete
}

// aLook is one reading of a port. The results are set once done is closed.
type aLook struct {
	done  chan struct{}
	seen  sighting
	there bool
}

func newTree(sys string) *tree {
	return &tree{
		dir:   filepath.Join(sys, "bus/usb/devices"),
		known: map[string]known{}, looks: map[string]*aLook{},
	}
}

// scan looks at all ports, at the same time.
func (t *tree) scan() (map[string]sighting, error) {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, fmt.Errorf("list the USB devices: %w", err)
	}
	looks := map[string]*aLook{}
	for _, e := range entries {
		if isPort(e.Name()) {
			looks[e.Name()] = t.begin(e.Name())
		}
	}
	limit, stop := context.WithTimeout(context.Background(), lookLimit)
	defer stop()
	seen := map[string]sighting{}
	for port, l := range looks {
		if s, there := l.result(limit); there {
			seen[port] = s
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for port := range t.known {
		if _, there := seen[port]; !there {
			delete(t.known, port)
		}
	}
	return seen, nil
}

// look reads the device in one port, if there is one.
func (t *tree) look(port string) (sighting, bool) {
	limit, stop := context.WithTimeout(context.Background(), lookLimit)
	defer stop()
	return t.begin(port).result(limit)
}

// begin starts a look at a port, or joins the one that goes on. Its goroutine ends
// when the kernel answers.
func (t *tree) begin(port string) *aLook {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.looks[port]; l != nil {
		return l
	}
	l := &aLook{done: make(chan struct{})}
	t.looks[port] = l
	go func() {
		l.seen, l.there = t.examine(port)
		t.mu.Lock()
		delete(t.looks, port)
		t.mu.Unlock()
		close(l.done)
	}()
	return l
}

func (l *aLook) result(limit context.Context) (sighting, bool) {
	select {
	case <-l.done:
		return l.seen, l.there
	default:
	}
	select {
	case <-l.done:
		return l.seen, l.there
	case <-limit.Done():
		return sighting{unfinished: errors.New("the kernel is busy with it")}, true
	}
}

func (t *tree) examine(port string) (sighting, bool) {
	dir := filepath.Join(t.dir, port)
	id, err := identify(dir)
	if err != nil {
		return sighting{unfinished: err}, exists(dir)
	}
	d, err := t.read(port, dir, id)
	// What was read must all be of one device: another one may have come into
	// the port meanwhile.
	if after, again := identify(dir); again != nil || after != id {
		return sighting{unfinished: fmt.Errorf("%s changed while it was read", dir)}, exists(dir)
	}
	return sighting{id: id, device: d, unfinished: err}, true
}

func (t *tree) read(port, dir string, id identity) (Device, error) {
	t.mu.Lock()
	k := t.known[port]
	t.mu.Unlock()
	if k.id != id {
		d, err := readDevice(port, dir, id)
		if err != nil {
			return Device{Port: port, Path: dir}, err
		}
		k = known{id: id, device: d}
	}
	d := k.device
	names, err := interfaceNames(dir, port)
	if err != nil {
		return d, err
	}
	// The number of interfaces waits for whoever is busy with the device, so it is
	// read only if their folders are other ones than before.
	if k.names == nil || !slices.Equal(names, k.names) {
		if err := complete(dir, names); err != nil {
			return d, err
		}
		k.names = names
	}
	t.mu.Lock()
	t.known[port] = k
	t.mu.Unlock()
	for _, name := range names {
		i, err := readInterface(filepath.Join(dir, name))
		if err != nil {
			return d, err
		}
		d.Interfaces = append(d.Interfaces, i)
		if i.Class != ClassMassStorage {
			continue
		}
		disks, err := readDisks(filepath.Join(dir, name))
		if err != nil {
			return d, err
		}
		d.Disks = append(d.Disks, disks...)
	}
	slices.SortFunc(d.Interfaces, func(a, b Interface) int { return a.Number - b.Number })
	return d, nil
}

func identify(dir string) (identity, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return identity{}, err
	}
	bus, err := number(dir, "busnum", 10, 16)
	if err != nil {
		return identity{}, err
	}
	address, err := number(dir, "devnum", 10, 16)
	if err != nil {
		return identity{}, err
	}
	id := identity{bus: int(bus), address: int(address)}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.folder = st.Ino
	}
	return id, nil
}

// readDevice reads what stays the same from one enumeration to the next
// (Documentation/ABI/stable/sysfs-bus-usb of the kernel).
func readDevice(port, dir string, id identity) (Device, error) {
	d := Device{Port: port, Path: dir, Bus: id.bus, Address: id.address}
	var troubles []error
	hex := func(name string, bits int) uint64 {
		n, err := number(dir, name, 16, bits)
		troubles = append(troubles, err)
		return n
	}
	text := func(name string) string {
		s, err := attribute(dir, name)
		if !errors.Is(err, fs.ErrNotExist) { // a device need not have it
			troubles = append(troubles, err)
		}
		return harmless(s)
	}
	d.Vendor, d.Product = uint16(hex("idVendor", 16)), uint16(hex("idProduct", 16))
	d.Release, d.Class = uint16(hex("bcdDevice", 16)), uint8(hex("bDeviceClass", 8))
	d.Manufacturer, d.ProductName, d.Serial = text("manufacturer"), text("product"), text("serial")
	if d.Speed = text("speed"); d.Speed == "unknown" {
		d.Speed = ""
	}
	return d, errors.Join(troubles...)
}

// interfaceNames lists the folders of the interfaces: 2-1.3:1.0 is interface 0 of
// configuration 1.
func interfaceNames(dir, port string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), port+":") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// complete tells whether all interfaces of the configuration have come.
func complete(dir string, names []string) error {
	text, err := attribute(dir, "bNumInterfaces")
	if err != nil {
		return err
	}
	if strings.TrimSpace(text) == "" {
		return errNoConfiguration
	}
	n, err := number(dir, "bNumInterfaces", 10, 8)
	if err != nil {
		return err
	}
	if uint64(len(names)) < n {
		return fmt.Errorf("%s has %d of its %d interfaces so far", dir, len(names), n)
	}
	return nil
}

func readInterface(dir string) (Interface, error) {
	var numbers [4]uint64
	for i, name := range []string{"bInterfaceNumber", "bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol"} {
		n, err := number(dir, name, 16, 8)
		if err != nil {
			return Interface{}, err
		}
		numbers[i] = n
	}
	return Interface{
		Number: int(numbers[0]),
		Class:  uint8(numbers[1]), SubClass: uint8(numbers[2]), Protocol: uint8(numbers[3]),
	}, nil
}
