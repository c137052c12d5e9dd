package ptp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/device"
)

const (
	// mostObjects bounds an inventory; a card with more is none of a recorder.
	mostObjects = 1_000_000
	// mostDepth bounds how deep folders lie in each other.
	mostDepth = 64
)

// errTooDeep is of a folder that is not looked into.
var errTooDeep = fmt.Errorf("folders lie more than %d deep: copy what is in them from the card in a reader", mostDepth)

// Inventory implements device.Recorder. It asks for all there is, then calls found,
// folders before what is in them and names in the order of their bytes.
func (r *Recorder) Inventory(ctx context.Context, found func(device.Entry) error) error {
	entries, err := r.inventory(ctx)
	if err != nil {
		return fmt.Errorf("list the recorder at %s: %w", r.identity.Place, err)
	}
	for _, e := range entries {
		if err := found(e); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recorder) inventory(ctx context.Context) ([]device.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stores, err := r.stores(ctx)
	if err != nil {
		return nil, err
	}
	if len(stores) == 0 {
		return nil, fmt.Errorf("it shows no storage: unlock it, choose file transfer on it, or look for its card: %w", device.ErrNeedsPerson)
	}
	listed := map[string]*object{}
	var entries []device.Entry
	seen := 0
	for _, id := range stores {
		w := &walk{recorder: r, store: id, objects: map[uint32]*object{}, troubles: map[uint32]error{}, seen: &seen}
		if err := w.collect(ctx); err != nil {
			return nil, err
		}
		top := ""
		if len(stores) > 1 {
			top = storeName(id)
			entries = append(entries, device.Entry{Path: top, Kind: device.KindDir})
		}
		entries = w.name(top, entries, listed)
	}
	r.listed = listed
	return entries, nil
}

// hasMedium tells the id of a store from that of a slot without a card, which ends in
// 0000 (PIMA 15740 §8.1).
func hasMedium(store uint32) bool { return store&0xffff != 0 }

// stores are the ids of those that have a medium.
func (r *Recorder) stores(ctx context.Context) ([]uint32, error) {
	all, err := r.storeIDs(ctx)
	return slices.DeleteFunc(all, func(id uint32) bool { return !hasMedium(id) }), err
}

func (r *Recorder) storeIDs(ctx context.Context) ([]uint32, error) {
	data, _, err := r.ask(ctx, OpGetStorageIDs)
	if err != nil {
		return nil, err
	}
	ids, err := ParseHandles(data)
	if err != nil {
		return nil, err
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func storeName(id uint32) string { return fmt.Sprintf("storage-%08x", id) }

// walk is the inventory of one store.
type walk struct {
	recorder *Recorder
	store    uint32
	objects  map[uint32]*object
	// troubles are the folders that could not be listed.
	troubles map[uint32]error
	seen     *int // in all stores
}

// collect asks for the root, then for each folder that comes up. An object counts
// once, wherever it comes up again, so that a cycle ends.
func (w *walk) collect(ctx context.Context) error {
	handles, err := w.root(ctx)
	if err != nil {
		return err
	}
	folders, err := w.examine(ctx, RootObjects, handles)
	if err != nil {
		return err
	}
	for depth := 1; len(folders) > 0; depth++ {
		var below []uint32
		for _, folder := range folders {
			if depth > mostDepth {
				w.troubles[folder] = errTooDeep
				continue
			}
			handles, err := w.handles(ctx, folder)
			if err := w.recorder.fatal(ctx, err); err != nil {
				return err
			}
			if err != nil {
				w.troubles[folder] = err
				continue
			}
			more, err := w.examine(ctx, folder, handles)
			if err != nil {
				return err
			}
			below = append(below, more...)
		}
		folders = below
	}
	return nil
}

// root lists the root as the specification has it, by the parent 0xffffffff. There
// are recorders that know it by 0 only, which in others gives all objects there are:
// those are put where they belong by the parent that they tell themselves.
func (w *walk) root(ctx context.Context) ([]uint32, error) {
	handles, err := w.handles(ctx, RootObjects)
	if err == nil && len(handles) > 0 {
		return handles, nil
	}
	if err != nil && !refused(err) {
		return nil, err
	}
	other, otherErr := w.handles(ctx, 0)
	if otherErr == nil {
		return other, nil
	}
	if err != nil {
		return nil, errors.Join(err, otherErr)
	}
	return handles, w.recorder.fatal(ctx, otherErr) // it has refused to be asked so, and the root is empty
}

func (w *walk) handles(ctx context.Context, parent uint32) ([]uint32, error) {
	data, _, err := w.recorder.ask(ctx, OpGetObjectHandles, w.store, 0, parent)
	if err != nil {
		return nil, err
	}
	return ParseHandles(data)
}

// examine asks for the objects that were not seen yet, and gives the folders among
// them.
func (w *walk) examine(ctx context.Context, in uint32, handles []uint32) (folders []uint32, err error) {
	for _, handle := range handles {
		if handle == 0 || handle == RootObjects || w.objects[handle] != nil {
			continue // the first two are no handles (PIMA 15740 §6.3)
		}
		if *w.seen++; *w.seen > mostObjects {
			return nil, fmt.Errorf("it holds more than %d objects", mostObjects)
		}
		o := &object{handle: handle, foundIn: in}
		if err := w.recorder.examine(ctx, o); err != nil {
			return nil, err
		}
		w.objects[handle] = o
		if o.isFolder() {
			folders = append(folders, handle)
		}
	}
	return folders, nil
}

// parent is the folder that an object tells itself, if that is one that was found;
// some tell 0 for all.
func (w *walk) parent(o *object) uint32 {
	if p := w.objects[o.info.Parent]; p != nil && p.isFolder() && p != o {
		return p.handle
	}
	return o.foundIn
}

// name gives every object a path of its own and appends what was found. What hangs
// in no folder that leads to the root, since parents point at each other, is put into
// the root: nothing is left out.
func (w *walk) name(top string, entries []device.Entry, listed map[string]*object) []device.Entry {
	children := map[uint32][]*object{}
	for _, o := range w.objects {
		p := w.parent(o)
		children[p] = append(children[p], o)
	}
	placed := map[uint32]bool{}
	var place func(dir string, depth int, in []*object)
	place = func(dir string, depth int, in []*object) {
		in = slices.DeleteFunc(in, func(o *object) bool { return placed[o.handle] })
		for _, o := range in {
			placed[o.handle] = true
		}
		for _, n := range distinct(in) {
			if n.isFolder() && depth > mostDepth && w.troubles[n.handle] == nil {
				w.troubles[n.handle] = errTooDeep
			}
			p := path.Join(dir, n.name)
			entries = append(entries, w.entry(p, n.object))
			listed[p] = n.object
			if n.isFolder() && depth <= mostDepth {
				place(p, depth+1, children[n.handle])
			}
		}
	}
	place(top, 1, children[RootObjects])
	var stray []*object
	for _, o := range w.objects {
		if !placed[o.handle] {
			stray = append(stray, o)
		}
	}
	if len(stray) > 0 {
		dir := strayFolder(top, listed)
		entries = append(entries, device.Entry{Path: dir, Kind: device.KindDir, Note: "no folder of the recorder: of what is in it no way leads to the root"})
		place(dir, mostDepth+1, stray)
	}
	return entries
}

// strayFolder is a path that nothing else has.
func strayFolder(top string, listed map[string]*object) string {
	dir := path.Join(top, "without-folder")
	for listed[dir] != nil {
		dir += "~"
	}
	return dir
}

func (w *walk) entry(p string, o *object) device.Entry {
	e := device.Entry{Path: p, Kind: device.KindFile, Size: o.size, ModTime: o.modTime, Handle: fmt.Sprintf("%08x", o.handle), Err: o.err}
	if o.isFolder() {
		e.Kind, e.Size = device.KindDir, 0
		if err := w.troubles[o.handle]; err != nil {
			e.Err = err
		}
	}
	return e
}

type named struct {
	name string
	*object
}

// distinct gives the objects of one folder names that are safe and differ. A name
// that repeats, or that is not one, has the handle put to it: clip~0000002a.mp4.
func distinct(in []*object) []named {
	count := map[string]int{}
	for _, o := range in {
		count[safeName(o.info.Name)]++
	}
	names := make([]named, 0, len(in))
	taken := map[string]bool{}
	slices.SortFunc(in, func(a, b *object) int { return cmp.Compare(a.handle, b.handle) })
	for _, o := range in {
		name := safeName(o.info.Name)
		if name == o.info.Name && count[name] == 1 {
			taken[name] = true
			names = append(names, named{name, o})
		}
	}
	for _, o := range in {
		name := safeName(o.info.Name)
		if name == o.info.Name && count[name] == 1 {
			continue
		}
		ext := path.Ext(name)
		stem := strings.TrimSuffix(name, ext)
		unique := fmt.Sprintf("%s~%08x%s", stem, o.handle, ext)
		for taken[unique] {
			stem += "~"
			unique = fmt.Sprintf("%s~%08x%s", stem, o.handle, ext)
		}
		taken[unique] = true
		names = append(names, named{unique, o})
	}
	slices.SortFunc(names, func(a, b named) int { return strings.Compare(a.name, b.name) })
	return names
}

// safeName is a name that stays in its folder.
func safeName(name string) string {
	switch name {
	case "":
		return "object"
	case ".", "..":
		return strings.Repeat("_", len(name))
	}
	return strings.Map(func(c rune) rune {
		if c == '/' || c == 0 {
			return '_'
		}
		return c
	}, name)
}
