package usb

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// sectorBytes is the unit of every size in sysfs, whatever the disk's own sectors.
const sectorBytes = 512

// readDisks finds the block devices below the folder of an interface:
// host6/target6:0:0/6:0:0:1/block/sda. The last number is the LUN. What is there
// only in part is left out; it is there whole at the next look. An error means
// that it is not known which disks there are.
func readDisks(dir string) ([]Disk, error) {
	disks := []Disk{}
	units, err := below([]string{dir}, isHost, isTarget, isUnit)
	if err != nil {
		return nil, err
	}
	for _, unit := range units {
		name := filepath.Base(unit)
		lun, err := strconv.Atoi(name[strings.LastIndexByte(name, ':')+1:])
		if err != nil {
			continue // no name that the kernel gives
		}
		blocks, err := below([]string{filepath.Join(unit, "block")}, anyName)
		if err != nil {
			return nil, err
		}
		for _, block := range blocks {
			disk, err := readDisk(block, lun)
			if vanished(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			disks = append(disks, disk)
		}
	}
	slices.SortFunc(disks, func(a, b Disk) int {
		if a.LUN != b.LUN {
			return a.LUN - b.LUN
		}
		return strings.Compare(a.Name, b.Name)
	})
	return disks, nil
}

func readDisk(dir string, lun int) (Disk, error) {
	d := Disk{Name: filepath.Base(dir), Node: node(dir), LUN: lun}
	var err error
	if d.Size, err = sizeOf(dir); err != nil {
		return Disk{}, err
	}
	ro, err := number(dir, "ro", 10, 8)
	if err != nil {
		return Disk{}, err
	}
	d.ReadOnly = ro != 0
	folders, err := below([]string{dir}, func(name string) bool { return strings.HasPrefix(name, d.Name) })
	if err != nil {
		return Disk{}, err
	}
	order := map[string]uint64{}
	for _, folder := range folders {
		n, err := number(folder, "partition", 10, 31)
		if vanished(err) {
			continue // another folder, or a partition that is coming or going
		}
		if err != nil {
			return Disk{}, err
		}
		size, err := sizeOf(folder)
		if vanished(err) {
			continue
		}
		if err != nil {
			return Disk{}, err
		}
		p := Partition{Name: filepath.Base(folder), Node: node(folder), Size: size}
		order[p.Name] = n
		d.Partitions = append(d.Partitions, p)
	}
	slices.SortFunc(d.Partitions, func(a, b Partition) int { return int(order[a.Name]) - int(order[b.Name]) })
	return d, nil
}

func sizeOf(dir string) (int64, error) {
	sectors, err := number(dir, "size", 10, 63)
	if err != nil {
		return 0, err
	}
	if sectors > math.MaxInt64/sectorBytes {
		return 0, &fs.PathError{Op: "read the size of", Path: dir, Err: syscall.ERANGE}
	}
	return int64(sectors) * sectorBytes, nil
}

// node is the name of a block device below /dev. The kernel writes a slash in it
// as an exclamation mark.
func node(dir string) string {
	return "/dev/" + strings.ReplaceAll(filepath.Base(dir), "!", "/")
}

// below walks down one level of folders for each test of names.
func below(dirs []string, levels ...func(name string) bool) ([]string, error) {
	for _, wanted := range levels {
		var found []string
		for _, dir := range dirs {
			entries, err := os.ReadDir(dir)
			if err != nil && !vanished(err) {
				return nil, err
			}
			for _, e := range entries {
				if e.IsDir() && wanted(e.Name()) {
					found = append(found, filepath.Join(dir, e.Name()))
				}
			}
		}
		dirs = found
	}
	return dirs, nil
}

// vanished tells the errors of what is not there, or not any more: the kernel
// answers ENODEV for an attribute whose device has gone.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENXIO)
}

func anyName(string) bool { return true }

func isHost(name string) bool {
	return strings.HasPrefix(name, "host") && isNumber(name[len("host"):])
}

func isTarget(name string) bool { return strings.HasPrefix(name, "target") }

// isUnit knows a SCSI address, host:channel:target:LUN.
func isUnit(name string) bool {
	parts := strings.Split(name, ":")
	return len(parts) == 4 && !slices.ContainsFunc(parts, func(p string) bool { return !isNumber(p) })
}
