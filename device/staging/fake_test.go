package staging_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
)

// fakeFile is a path of a fake recorder with its content.
type fakeFile struct {
	device.Entry
	content string
}

// fake is a recorder in memory, with places to interfere. A hook that is nil does
// nothing.
type fake struct {
	files  []fakeFile
	looks  int
	listed func(look int, f []fakeFile) []fakeFile // what an inventory shows
	opened func(device.Entry) error
	read   func(e device.Entry, offset int64) error // before each piece
	stat   func(device.Entry) (size int64, err error)
	piece  int // bytes per Read; 0: as many as are asked for
}

func newFake(contents ...string) *fake {
	r := &fake{}
	for i, c := range contents {
		at := time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC)
		r.files = append(r.files, fakeFile{device.Entry{Path: string(rune('a' + i)), Kind: device.KindFile, Size: int64(len(c)), ModTime: at}, c})
	}
	return r
}

func (r *fake) Identity() device.Identity { return device.Identity{Driver: "fake"} }

func (r *fake) Clock(context.Context) (device.ClockReading, error) {
	return device.ClockReading{Kind: device.ClockUnknown}, nil
}

func (r *fake) Health(context.Context) (device.Health, error) { return device.Health{}, nil }

func (r *fake) Inventory(_ context.Context, found func(device.Entry) error) error {
	r.looks++
	shown := slices.Clone(r.files)
	if r.listed != nil {
		shown = r.listed(r.looks, shown)
	}
	for _, f := range shown {
		if err := found(f.Entry); err != nil {
			return err
		}
	}
	return nil
}

func (r *fake) Open(_ context.Context, e device.Entry, offset int64) (device.File, error) {
	if r.opened != nil {
		if err := r.opened(e); err != nil {
			return nil, err
		}
	}
	i := slices.IndexFunc(r.files, func(f fakeFile) bool { return f.Path == e.Path && f.Handle == e.Handle })
	f := &openFake{recorder: r, entry: e, rest: strings.NewReader(r.files[i].content)}
	_, err := f.rest.Seek(offset, io.SeekStart)
	return f, err
}

func (r *fake) Close() error { return nil }

type openFake struct {
	recorder *fake
	entry    device.Entry
	rest     *strings.Reader
}

func (f *openFake) Read(p []byte) (int, error) {
	if f.recorder.read != nil {
		if err := f.recorder.read(f.entry, f.rest.Size()-int64(f.rest.Len())); err != nil {
			return 0, err
		}
	}
	if n := f.recorder.piece; n > 0 && n < len(p) {
		p = p[:n]
	}
	return f.rest.Read(p)
}

func (f *openFake) Stat() (int64, time.Time, error) {
	if f.recorder.stat != nil {
		size, err := f.recorder.stat(f.entry)
		return size, f.entry.ModTime, err
	}
	return f.entry.Size, f.entry.ModTime, nil
}

func (f *openFake) Close() error { return nil }
