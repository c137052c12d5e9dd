//go:build faults

package faults

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// badCard is a card on a file system of ours, whose files can be spoilt while
// they are read. It refuses every write by not knowing any.
type badCard struct {
	fs.Inode
	server *fuse.Server

	mu    sync.Mutex
	files map[string]*badFile // guarded by mu; by path
	wrote int                 // guarded by mu; opens for writing
}

// badFile is one file. Its fields but card are guarded by card.mu.
type badFile struct {
	fs.Inode
	card    *badCard
	body    []byte
	modTime time.Time
	gone    bool
	opened  int
	// read is called before each read, without the lock, and may give an error or
	// fewer bytes than were asked for. Nil: all is well.
	read func(off int64, n int) (fewer int, errno syscall.Errno)
}

var (
	_ fs.NodeGetattrer = (*badFile)(nil)
	_ fs.NodeOpener    = (*badFile)(nil)
	_ fs.NodeReader    = (*badFile)(nil)
	_ fs.NodeLookuper  = (*badDir)(nil)
	_ fs.NodeGetattrer = (*badDir)(nil)
)

// badDir looks its files up anew, so that they can vanish.
type badDir struct {
	fs.Inode
	card *badCard
	dir  string
}

func (d *badDir) Lookup(_ context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	child := d.GetChild(name)
	if child == nil {
		return nil, syscall.ENOENT
	}
	if f, ok := child.Operations().(*badFile); ok {
		d.card.mu.Lock()
		defer d.card.mu.Unlock()
		if f.gone {
			return nil, syscall.ENOENT
		}
		f.fill(&out.Attr)
	}
	return child, 0
}

func (d *badDir) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Nlink = syscall.S_IFDIR|0o555, 2
	return 0
}

func (f *badFile) fill(a *fuse.Attr) {
	a.Nlink = 1
	a.Mode, a.Size = syscall.S_IFREG|0o444, uint64(len(f.body))
	a.SetTimes(nil, &f.modTime, nil)
}

func (f *badFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.card.mu.Lock()
	defer f.card.mu.Unlock()
	if f.gone {
		return syscall.ENOENT
	}
	f.fill(&out.Attr)
	return 0
}

func (f *badFile) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	f.card.mu.Lock()
	defer f.card.mu.Unlock()
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		f.card.wrote++
		return nil, 0, syscall.EROFS
	}
	if f.gone {
		return nil, 0, syscall.ENOENT
	}
	f.opened++
	// Past the kernel's cache: a short read arrives as one.
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (f *badFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.card.mu.Lock()
	read := f.read
	f.card.mu.Unlock()
	fewer := len(dest)
	if read != nil {
		var errno syscall.Errno
		if fewer, errno = read(off, len(dest)); errno != 0 {
			return nil, errno
		}
	}
	f.card.mu.Lock()
	defer f.card.mu.Unlock()
	if off >= int64(len(f.body)) {
		return fuse.ReadResultData(nil), 0
	}
	end := min(off+int64(min(fewer, len(dest))), int64(len(f.body)))
	return fuse.ReadResultData(append([]byte(nil), f.body[off:end]...)), 0
}

// newBadCard mounts a card with these files at the place's card folder.
func (p *place) newBadCard(files map[string][]byte) *badCard {
	p.t.Helper()
	c := &badCard{files: map[string]*badFile{}}
	for name, body := range files {
		c.files[name] = &badFile{card: c, body: body, modTime: time.Now().Add(-time.Hour).Truncate(time.Second)}
	}
	if err := os.MkdirAll(p.path(cardDir), 0o700); err != nil {
		p.t.Fatal(err)
	}
	c.mount(p)
	return c
}

func (c *badCard) mount(p *place) {
	p.t.Helper()
	root := &badDir{card: c}
	zero := time.Duration(0)
	server, err := fs.Mount(p.path(cardDir), root, &fs.Options{
		EntryTimeout: &zero, AttrTimeout: &zero, NegativeTimeout: &zero,
		MountOptions: fuse.MountOptions{Name: "badcard", FsName: "badcard", DirectMountStrict: os.Geteuid() == 0, Options: []string{"ro"}, Logger: nil},
		OnAdd:        func(ctx context.Context) { c.populate(ctx, root) },
	})
	if err != nil {
		p.t.Fatalf("mount a file system of ours: %v", err)
	}
	c.server = server
	p.t.Cleanup(func() { c.unmount(p) })
}

func (c *badCard) populate(ctx context.Context, root *badDir) {
	for name, f := range c.files {
		dir := &root.Inode
		at := ""
		for _, part := range strings.Split(path.Dir(name), "/") {
			if part == "." {
				continue
			}
			at = path.Join(at, part)
			next := dir.GetChild(part)
			if next == nil {
				next = dir.NewPersistentInode(ctx, &badDir{card: c, dir: at}, fs.StableAttr{Mode: syscall.S_IFDIR})
				dir.AddChild(part, next, true)
			}
			dir = next
		}
		fresh := &badFile{card: c, body: f.body, modTime: f.modTime, gone: f.gone, read: f.read}
		c.files[name] = fresh
		dir.AddChild(path.Base(name), dir.NewPersistentInode(ctx, fresh, fs.StableAttr{Mode: syscall.S_IFREG}), true)
	}
}

// unmount takes the card away, whatever reads it.
func (c *badCard) unmount(p *place) {
	_ = syscall.Unmount(p.path(cardDir), syscall.MNT_DETACH) // it may be gone
}

// unplug is a pulled cable: whoever reads gets an error, and the mount is gone.
func (c *badCard) unplug(p *place) {
	var st syscall.Stat_t
	if err := syscall.Stat(p.path(cardDir), &st); err == nil {
		// The connection has the number of its device.
		abort := fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", st.Dev)
		if _, err := os.Stat(filepath.Dir(abort)); err == nil {
			if err := os.WriteFile(abort, []byte("1"), 0); err != nil {
				p.k.note("%s: the connection could not be cut: %v", p.name, err)
			}
		}
	}
	c.unmount(p)
}

// spoil sets how a file is read.
func (c *badCard) spoil(name string, read func(off int64, n int) (int, syscall.Errno)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[name].read = read
}

// change alters a file, with a new time, and gives what it holds now.
func (c *badCard) change(name string, how func(body []byte) []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.files[name]
	f.body, f.modTime = how(f.body), f.modTime.Add(2*time.Second)
	return f.body
}

func (c *badCard) vanish(name string, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[name].gone = gone
}
