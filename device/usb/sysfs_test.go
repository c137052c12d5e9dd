package usb_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/bodyworn/ingestd/device/usb"
)

func scan(t testing.TB, s *station) []usb.Device {
	t.Helper()
	devices, err := usb.Scan(s.sys)
	if err != nil {
		t.Fatal(err)
	}
	return devices
}

func TestScanReadsAllThatSysfsTells(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	files := stick()
	files["bNumInterfaces"] = " 2\n"
	for name, text := range map[string]string{"Number": "03\n", "Class": "ff\n", "SubClass": "42\n", "Protocol": "01\n"} {
		files[":1.3/bInterface"+name] = text
	}
	// A second LUN without a medium, and one disk whose partitions are not in the
	// order of their names.
	maps.Copy(files, disk("", "6:0:0:1", "sda", "0\n", "0\n"))
	maps.Copy(files, disk("", "6:0:0:0", "sdb", "62333952\n", "1\n"))
	block := ":1.0/host6/target6:0:0/6:0:0:0/block/sdb/"
	for name, number := range map[string]string{"sdb10": "10\n", "sdb2": "2\n"} {
		files[block+name+"/partition"], files[block+name+"/size"] = number, "2048\n"
	}
	s.plug("1-1.10", files)
	s.plug("1-1", map[string]string{
		"idVendor": "05e3\n", "idProduct": "0608\n", "bcdDevice": "8536\n", "bDeviceClass": "09\n", "bNumInterfaces": " 0\n",
	})
	s.plug("1-1.2", stick())

	devices := scan(t, s)
	ports := []string{}
	for _, d := range devices {
		ports = append(ports, d.Port)
	}
	if want := []string{"1-1", "1-1.2", "1-1.10"}; !slices.Equal(ports, want) {
		t.Fatalf("ports are %v, want %v: hubs but no root hub, in order", ports, want)
	}
	if devices[0].Class != usb.ClassHub || devices[0].Serial != "" {
		t.Errorf("the hub is %+v", devices[0])
	}
	want := usb.Device{
		Port: "1-1.10", Bus: 1, Address: 2, Vendor: 0x0781, Product: 0x5567, Release: 0x0126,
		Manufacturer: "SanDisk", ProductName: "Cruzer Blade", Serial: "0000", Speed: "480",
		Interfaces: []usb.Interface{
			{Number: 0, Class: 8, SubClass: 6, Protocol: 0x50},
			{Number: 3, Class: 0xff, SubClass: 0x42, Protocol: 1},
		},
		Disks: []usb.Disk{
			{Name: "sdb", Node: "/dev/sdb", LUN: 0, Size: 62333952 * 512, ReadOnly: true, Partitions: []usb.Partition{
				{Name: "sdb2", Node: "/dev/sdb2", Size: 1 << 20}, {Name: "sdb10", Node: "/dev/sdb10", Size: 1 << 20},
			}},
			{Name: "sda", Node: "/dev/sda", LUN: 1},
		},
		Path: filepath.Join(s.devices(), "1-1.10"),
	}
	if !reflect.DeepEqual(devices[2], want) {
		t.Errorf("read\n%+v, want\n%+v", devices[2], want)
	}
}

func TestScanLeavesOutWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(files map[string]string){
		"no vendor":              func(f map[string]string) { delete(f, "idVendor") },
		"vendor is no number":    func(f map[string]string) { f["idVendor"] = "pear\n" },
		"empty class":            func(f map[string]string) { f["bDeviceClass"] = "" },
		"an interface to come":   func(f map[string]string) { f["bNumInterfaces"] = " 2\n" },
		"no configuration":       func(f map[string]string) { f["bNumInterfaces"] = "\n" },
		"interface in the make":  func(f map[string]string) { delete(f, ":1.0/bInterfaceClass") },
		"no number of its own":   func(f map[string]string) { f["devnum"] = "\n" },
		"class larger than byte": func(f map[string]string) { f[":1.0/bInterfaceClass"] = "108\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			files := stick()
			change(files)
			s.plug("1-1", files)
			s.plug("1-2", stick())
			if devices := scan(t, s); len(devices) != 1 || devices[0].Port != "1-2" {
				t.Errorf("devices are %+v, want the whole one in 1-2 alone", devices)
			}
		})
	}
}

func TestScanLeavesOutDisksThatAreNotWhole(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	files := stick()
	maps.Copy(files, disk("", "6:0:0:0", "sda", "100\n", "0\n"))
	maps.Copy(files, disk("", "6:0:0:1", "sdb", "100\n", "0\n"))
	delete(files, ":1.0/host6/target6:0:0/6:0:0:1/block/sdb/size")
	files[":1.0/host6/target6:0:0/6:0:0:0/block/sda/sda1/partition"] = "1\n"
	s.plug("1-1", files)
	devices := scan(t, s)
	if len(devices) != 1 || len(devices[0].Disks) != 1 || devices[0].Disks[0].Name != "sda" {
		t.Fatalf("devices are %+v, want one with sda", devices)
	}
	if p := devices[0].Disks[0].Partitions; len(p) != 0 {
		t.Errorf("partitions are %+v: one without a size is not there yet", p)
	}
}

func TestStringsOfADeviceAreHarmless(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	files := stick()
	files["serial"] = "A\x1b[2J\xff\u202eB  \n"
	files["product"] = "执法记录仪 T5\n"
	s.plug("1-1", files)
	d := scan(t, s)[0]
	if want := `A\u001b[2J\xff\u202eB`; d.Serial != want {
		t.Errorf("serial is %q, want %q", d.Serial, want)
	}
	if d.ProductName != "执法记录仪 T5" {
		t.Errorf("product is %q", d.ProductName)
	}
}

// The machine may have USB or not: neither is a reason to fail.
func TestThisMachine(t *testing.T) {
	t.Parallel()
	devices, err := usb.Scan("/sys")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Scan: %v", err)
	}
	t.Logf("Scan: %d devices, %v; Available: %v", len(devices), err, usb.Available())
}

// FuzzScan gives a device the strings and numbers that it could tell of itself.
func FuzzScan(f *testing.F) {
	f.Add([]byte("0000\n"), []byte("0781\n"), []byte("62333952\n"), []byte("1\n"))
	f.Add([]byte("\x1b]0;\xff\u2028"), []byte("0781\n"), []byte("2048\n"), []byte("2\n"))
	f.Add([]byte("0\n"), []byte("-1\n"), []byte("9223372036854775807\n"), []byte("\n"))
	f.Add([]byte{}, []byte("ffff"), []byte("36028797018963968\n"), []byte("999999999999\n"))
	s := newStation(f)
	s.plug("1-1", stick())
	f.Fuzz(func(t *testing.T, serial, vendor, size, partition []byte) {
		s.t = t
		files := inPort("1-1", disk("", "6:0:0:0", "sda", string(size), "0\n"))
		part := "1-1:1.0/host6/target6:0:0/6:0:0:0/block/sda/sda1/"
		files[part+"partition"], files[part+"size"] = string(partition), string(size)
		files["serial"], files["product"], files["idVendor"] = string(serial), string(size), string(vendor)
		s.write("1-1", files)
		for _, d := range scan(t, s) {
			for _, text := range []string{d.Serial, d.ProductName} {
				bad := func(r rune) bool { return !unicode.IsGraphic(r) }
				if !utf8.ValidString(text) || strings.ContainsFunc(text, bad) {
					t.Errorf("not harmless: %q", text)
				}
			}
			for _, disk := range d.Disks {
				if disk.Size < 0 || disk.Size%512 != 0 {
					t.Errorf("%s has %d bytes", disk.Name, disk.Size)
				}
			}
		}
	})
}

func TestScanWithoutUSBSaysSo(t *testing.T) {
	t.Parallel()
	if _, err := usb.Scan(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v, want one that is ErrNotExist", err)
	}
}
