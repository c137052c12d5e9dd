package ptpgadget

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"
)

// Store is one store with what lies in its root.
type Store struct {
	ID             uint32 // 0 is 0x00010001, the next one 0x00020001
	Capacity, Free uint64
	Label          string
	Objects        []*Object
}

// Object is a file or a folder.
type Object struct {
	Name string
	// Handle; 0: one is given.
	Handle uint32
	// Modified is the time string of the date of modification, as it is told.
	Modified string
	// Size in bytes, and the bytes; nil: Pattern of the handle.
	Size    int64
	Content io.ReaderAt
	Folder  bool
	Objects []*Object // in the folder
	// Parent is what it tells as its parent in the place of the right one.
	Parent *uint32
}

// index finds the objects by their handles. A handle that stands at two objects or an
// object that stands in two folders is counted where it is found first.
func (g *Gadget) index() {
	g.objects, g.store, g.parent = map[uint32]*Object{}, map[uint32]uint32{}, map[uint32]uint32{}
	next := uint32(1)
	var walk func(store, parent uint32, in []*Object)
	taken := map[uint32]bool{}
	var note func(in []*Object)
	seen := map[*Object]bool{}
	note = func(in []*Object) {
		for _, o := range in {
			if !seen[o] {
				seen[o] = true
				taken[o.Handle] = true
				note(o.Objects)
			}
		}
	}
	walk = func(store, parent uint32, in []*Object) {
		for _, o := range in {
			for o.Handle == 0 {
				if !taken[next] {
					o.Handle = next
				}
				next++
			}
			if g.objects[o.Handle] != nil {
				continue
			}
			g.objects[o.Handle], g.store[o.Handle], g.parent[o.Handle] = o, store, parent
			walk(store, o.Handle, o.Objects)
		}
	}
	for i := range g.cfg.Stores {
		s := &g.cfg.Stores[i]
		if s.ID == 0 {
			s.ID = uint32(i+1)<<16 | 1
		}
		note(s.Objects)
	}
	for _, s := range g.cfg.Stores {
		walk(s.ID, 0, s.Objects)
	}
}

// content is what the object holds.
func (o *Object) content() io.ReaderAt {
	if o.Content != nil {
		return o.Content
	}
	return Pattern(uint64(o.Handle))
}

// Pattern is endless content that costs no memory, another for each seed.
func Pattern(seed uint64) io.ReaderAt { return pattern(seed) }

type pattern uint64

const patternBlock = 4096

// patternBytes is what a block consists of but for its first eight bytes, which are a
// hash of the seed and the block's number.
var patternBytes = sync.OnceValue(func() []byte {
	b := make([]byte, patternBlock)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], mixed(uint64(i)))
	}
	return b
})

// mixed is SplitMix64.
func mixed(z uint64) uint64 {
	z = (z + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// ReadAt implements io.ReaderAt.
func (p pattern) ReadAt(b []byte, offset int64) (int, error) {
	var head [8]byte
	for n := 0; n < len(b); {
		block, within := (offset+int64(n))/patternBlock, int((offset+int64(n))%patternBlock)
		binary.LittleEndian.PutUint64(head[:], mixed(mixed(uint64(p))+uint64(block)))
		if within < len(head) {
			n += copy(b[n:], head[within:])
			continue
		}
		n += copy(b[n:], patternBytes()[within:])
	}
	return len(b), nil
}

// FromFS makes objects of all folders and regular files below the root of fsys, with
// their times in the zone of the recorder. Contents are read when they are asked for.
func FromFS(fsys fs.FS, zone *time.Location) ([]*Object, error) { return fromFS(fsys, zone, ".") }

func fromFS(fsys fs.FS, zone *time.Location, dir string) ([]*Object, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("simulate a recorder with %s: %w", dir, err)
	}
	var objects []*Object
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("simulate a recorder with %s: %w", name, err)
		}
		o := &Object{Name: e.Name(), Modified: info.ModTime().In(zone).Format("20060102T150405")}
		switch {
		case e.IsDir():
			o.Folder = true
			if o.Objects, err = fromFS(fsys, zone, name); err != nil {
				return nil, err
			}
		case info.Mode().IsRegular():
			o.Size, o.Content = info.Size(), fsFile{fsys, name}
		default:
			continue
		}
		objects = append(objects, o)
	}
	return objects, nil
}

type fsFile struct {
	fsys fs.FS
	name string
}

// ReadAt implements io.ReaderAt; each time the file is opened.
func (f fsFile) ReadAt(p []byte, offset int64) (n int, err error) {
	file, err := f.fsys.Open(f.name)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }() // only read from
	if at, ok := file.(io.ReaderAt); ok {
		return at.ReadAt(p, offset)
	}
	if _, err := io.CopyN(io.Discard, file, offset); err != nil {
		return 0, err
	}
	return io.ReadFull(file, p)
}

// handles answers GetObjectHandles; nil: the parent is refused.
func (g *Gadget) handles(store, parent uint32) []uint32 {
	const root = 0xffffffff
	all := parent == 0 && g.cfg.Root == RootAsSpecified || parent == root && g.cfg.Root == RootListsAll
	top := parent == root || parent == 0 && (g.cfg.Root == RootByZero || g.cfg.Root == RootEither)
	if parent == root && g.cfg.Root == RootByZero {
		return nil
	}
	found := []uint32{}
	if !all && !top {
		o := g.objects[parent]
		if o == nil || !o.Folder {
			return nil
		}
		for _, child := range o.Objects { // also those that are found in other places first
			found = append(found, child.Handle)
		}
		return found
	}
	for handle := range g.objects {
		if (store == root || g.store[handle] == store) && (all || g.parent[handle] == 0) {
			found = append(found, handle)
		}
	}
	slices.Sort(found)
	return found
}
