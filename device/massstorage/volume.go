package massstorage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/device/usb"
)

// slot is a place where a volume may be: a partition, or a disk without any.
type slot struct {
	key  string // lun0-part1
	node *node
	size int64 // bytes
	// missing says that a partition table names this partition and the kernel does
	// not show it; node is the whole disk then.
	missing bool
}

func (s slot) same(other slot) bool {
	return s.key == other.key && s.node.path == other.node.path && s.size == other.size && s.missing == other.missing
}

// layout says which slots the disks have, in order of LUN and partition.
func layout(disks []usb.Disk) []slot {
	disks = slices.Clone(disks)
	slices.SortFunc(disks, func(a, b usb.Disk) int {
		if a.LUN != b.LUN {
			return a.LUN - b.LUN
		}
		return strings.Compare(a.Name, b.Name)
	})
	var slots []slot
	taken := map[string]bool{}
	for _, d := range disks {
		if d.Size == 0 {
			continue // no medium
		}
		key := "lun" + strconv.Itoa(d.LUN)
		for taken[key] { // a device with several interfaces can have a LUN twice
			key += "b"
		}
		taken[key] = true
		shown := map[int]bool{}
		for _, p := range d.Partitions {
			number := partitionNumber(d.Name, p.Name)
			shown[number] = true
			slots = append(slots, slot{key: fmt.Sprintf("%s-part%d", key, number), node: newNode(p.Name, p.Node, d.Node), size: p.Size})
		}
		listed, isTable := partitionsOf(d)
		for _, number := range listed {
			if !shown[number] {
				slots = append(slots, slot{key: fmt.Sprintf("%s-part%d", key, number), node: newNode(d.Name, d.Node, d.Node), size: d.Size, missing: true})
			}
		}
		if len(d.Partitions) == 0 && len(listed) == 0 {
			// An empty table is looked at as a disk, and found unknown.
			slots = append(slots, slot{key: key, node: newNode(d.Name, d.Node, d.Node), size: d.Size, missing: isTable})
		}
	}
	return slots
}

// partitionNumber: sda1 of sda, mmcblk0p1 of mmcblk0.
func partitionNumber(disk, partition string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(partition, disk), "p"))
	if err != nil {
		return 0
	}
	return n
}

// partitionsOf reads the partition table itself, to compare it with what the
// kernel shows: it leaves out a partition that reaches beyond the disk's end.
func partitionsOf(d usb.Disk) (numbers []int, isTable bool) {
	f, err := os.Open(d.Node)
	if err != nil {
		return nil, false // opening the volume will say why
	}
	defer func() { _ = f.Close() }() // only read from
	found, err := Probe(f, d.Size)
	if err != nil {
		return nil, false
	}
	return found.Partitions, found.Table != ""
}

// volume is a slot with what was found in it. Of mount, err and found.Blank
// exactly one says how it stands.
type volume struct {
	slot
	found Found
	mount *mount
	files *folder.Recorder
	err   error // why it can't be read
	// prefixed says that its paths begin with its name.
	prefixed bool
	config   Config
	unclosed *mount // could not be released yet
}

// containerBytes is the size up to which a partition that holds a table is the
// extended one of an MBR: the kernel shows its first sectors, and what is in it as
// partitions of their own.
const containerBytes = 4096

func openVolume(ctx context.Context, s slot, config Config) *volume {
	v := &volume{slot: s, config: config}
	if err := v.open(ctx); err != nil {
		v.err = fmt.Errorf("%s (%s%s): %w", v.key, v.node.name, v.foundText(), err)
	}
	return v
}

func (v *volume) foundText() string {
	switch {
	case v.found.FileSystem != "" && v.found.Label != "":
		return fmt.Sprintf(", %s %q", v.found.FileSystem, v.found.Label)
	case v.found.FileSystem != "":
		return ", " + v.found.FileSystem
	}
	return ""
}

func (v *volume) open(ctx context.Context) error {
	if v.missing {
		return fmt.Errorf("there is a partition table with something in it that the kernel does not show: the card may be damaged: %w", device.ErrNeedsPerson)
	}
	f, err := os.Open(v.node.path)
	if err != nil {
		return explainOpen(v.node, err)
	}
	v.found, err = Probe(f, v.size)
	_ = f.Close() // only read from
	switch {
	case err != nil:
		return v.node.orRemoved(err)
	case v.found.Blank:
		return nil
	case v.found.Table != "" && v.size <= containerBytes:
		v.found.Blank = true
		return nil
	}
	switch v.found.FileSystem {
	case "":
		return fmt.Errorf("what is on it is not known, perhaps encrypted or damaged; the recorder or its maker's program may have to unlock it first: %w", device.ErrNeedsPerson)
	case "luks", "bitlocker":
		return fmt.Errorf("it is encrypted; it has to be unlocked first: %w", device.ErrNeedsPerson)
	}
	return v.mountFiles(ctx)
}

func (v *volume) mountFiles(ctx context.Context) error {
	m, err := mountNode(ctx, v.node, v.found.FileSystem, v.config.Zone, false)
	if err != nil {
		return err
	}
	v.mount = m
	v.files = folder.OpenRoot(m.root, v.node.path, v.gone)
	return nil
}

// gone tells folder whether the disk is there; after an error of reading the
// kernel gets time to notice that it isn't.
func (v *volume) gone(cause error) bool {
	if v.node.left() {
		return true
	}
	if cause == nil {
		return false
	}
	// Also what does not exist: that is how FAT shows a folder it can't read.
	return v.node.leaves() || !slices.ContainsFunc(v.config.Disks(), func(d usb.Disk) bool { return d.Node == v.node.disk })
}

func (v *volume) health(ctx context.Context) (device.Volume, error) {
	told := device.Volume{Name: v.node.name, FileSystem: v.found.FileSystem, Trouble: v.trouble()}
	if v.found.Label != "" {
		told.Label = device.Fact{Source: "file system", Value: v.found.Label}
	}
	if v.files == nil {
		size := v.size
		told.CapacityBytes = &size
		return told, nil
	}
	h, err := v.files.Health(ctx)
	if errors.Is(err, device.ErrRemoved) {
		return device.Volume{}, err
	}
	if err != nil { // unknown then, which does not keep footage from being read
		told.Trouble = strings.TrimPrefix(told.Trouble+"; "+err.Error(), "; ")
	}
	told.CapacityBytes, told.FreeBytes = h.CapacityBytes, h.FreeBytes
	return told, nil
}

func (v *volume) trouble() string {
	var all []string
	if v.err != nil {
		all = append(all, v.err.Error())
	}
	if v.found.Blank {
		all = append(all, "empty: no file system was ever made on it")
	}
	if v.found.JournalPending {
		all = append(all, "its journal has not been replayed")
	}
	if v.found.Dirty {
		all = append(all, "it was not unmounted in order")
	}
	if v.found.Faulty {
		all = append(all, "errors were noted in it: have the card checked")
	}
	if v.found.Also != "" {
		all = append(all, "there are signs of "+v.found.Also+" too")
	}
	return strings.Join(all, "; ")
}

// errJournal ends a session as failed although everything that can be seen is
// stored: without its journal the newest files may not be seen.
var errJournal = fmt.Errorf("changes are in the file system's journal that are not in its folders yet, so that the newest files may be missing: start the recorder, switch it off in order, and dock it again: %w", device.ErrNeedsPerson)

func (v *volume) inventory(ctx context.Context, found func(device.Entry) error) error {
	switch {
	case v.err != nil:
		return found(device.Entry{Path: v.key, Kind: device.KindSpecial, Note: "volume", Err: v.err})
	case v.found.Blank:
		return nil
	case v.files == nil:
		return found(device.Entry{Path: v.key, Kind: device.KindSpecial, Note: "volume", Err: errors.New("it is closed")})
	}
	top := device.Entry{Path: ".", Kind: device.KindDir}
	if v.prefixed {
		top.Path = v.key
	}
	if v.found.JournalPending {
		top.Err = errJournal
	}
	if v.prefixed || top.Err != nil {
		if err := found(top); err != nil {
			return err
		}
	}
	return v.list(ctx, top.Path, found)
}

// listings is how often a volume is listed while its disk reports errors.
const listings = 3

// list lists the files. FAT in the kernel passes over a part of a folder that
// can't be read, without an error: so the disk itself is asked, by its count of
// errors and its state. If the count has grown the volume is listed again, for what
// is there after all; if it still grows, an entry says that files may be missing.
func (v *volume) list(ctx context.Context, top string, found func(device.Entry) error) error {
	seen := map[string]bool{}
	before, counted := countErrors(v.node)
	for range listings {
		if err := v.listOnce(ctx, found, seen); err != nil {
			return err
		}
		after, still := countErrors(v.node)
		steady := !v.node.offline() && (!counted || still && after == before)
		if !steady && v.node.leaves() || v.node.left() {
			return fmt.Errorf("list %s: %w", v.key, device.ErrRemoved)
		}
		if steady {
			return nil
		}
		before = after
	}
	return found(device.Entry{Path: top, Kind: device.KindDir, Err: errors.New("the card reports read errors while its folders are listed: files may be missing from the list: try another reader or cable, and have the card read by someone who can")})
}

// countErrors is replaced in tests.
var countErrors = (*node).readErrors

// listOnce passes on what was not seen before.
func (v *volume) listOnce(ctx context.Context, found func(device.Entry) error, seen map[string]bool) error {
	var stopped error
	err := v.files.Inventory(ctx, func(e device.Entry) error {
		if v.prefixed {
			e.Path = v.key + "/" + e.Path
		}
		if seen[e.Path] {
			return nil
		}
		seen[e.Path] = true
		stopped = found(e)
		return stopped
	})
	switch {
	case err == nil, stopped != nil, ctx.Err() != nil, errors.Is(err, device.ErrRemoved), !v.prefixed:
		return err
	}
	// The other volumes go on.
	return found(device.Entry{Path: v.key, Kind: device.KindDir, Err: err})
}

// close unmounts. After an error it can be called again.
func (v *volume) close() error {
	var err error
	if v.mount != nil {
		err = v.mount.close()
		if err != nil {
			v.unclosed = v.mount
		}
		v.mount, v.files = nil, nil
	} else if v.unclosed != nil {
		if err = v.unclosed.close(); err == nil {
			v.unclosed = nil
		}
	}
	if err == nil {
		v.node.close()
		return nil
	}
	return fmt.Errorf("%s: %w", v.key, err)
}
