package staging_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/staging"
)

var errSector = errors.New("input/output error \xfe")

func TestAFileThatCannotBeReadIsInTheCopyWithItsReason(t *testing.T) {
	big := strings.Repeat("x", 600_000)
	faults := map[string]func(*fake){
		"to open": func(r *fake) {
			r.opened = func(e device.Entry) error { return when(e.Path == "b", errSector) }
		},
		"in the middle": func(r *fake) {
			r.read = func(e device.Entry, at int64) error { return when(e.Path == "b" && at > 0, errSector) }
		},
		"to look at again": func(r *fake) {
			r.stat = func(e device.Entry) (int64, error) { return e.Size, when(e.Path == "b", errSector) }
		},
		"to examine": func(r *fake) { r.files[1].Err = errSector },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			b, r := newBench(t), newFake("first", big, "last")
			fault(r)
			if _, err := b.stage(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			b.reopen(t)
			copied := b.only(t)
			if copied.Files != 2 || copied.Unreadable != 1 || copied.Bytes != int64(len("first")+len("last")) {
				t.Errorf("the copy tells of %d files, %d unreadable, %d bytes", copied.Files, copied.Unreadable, copied.Bytes)
			}
			staged, err := copied.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = staged.Close() }()
			entries := inventory(t, staged)
			if len(entries) != 3 {
				t.Fatalf("%d paths", len(entries))
			}
			lost := entries[1]
			if lost.Path != "b" || lost.Size != int64(len(big)) || lost.Err == nil || !strings.Contains(lost.Err.Error(), errSector.Error()) {
				t.Errorf("the unreadable file is listed as %+v", lost)
			}
			if f, err := staged.Open(t.Context(), lost, 0); err == nil {
				t.Error("it could be opened")
				_ = f.Close()
			}
			if got, err := read(t, staged, entries[2], 0); err != nil || string(got) != "last" {
				t.Errorf("behind it comes %q, %v", got, err)
			}
			if blobs, err := filepath.Glob(filepath.Join(b.path, copied.ID, "0*.age")); err != nil || len(blobs) != 2 {
				t.Errorf("%d encrypted files, %v", len(blobs), err)
			}
		})
	}
}

func when(yes bool, err error) error {
	if yes {
		return err
	}
	return nil
}

func TestAChangingRecorderGivesNoCopy(t *testing.T) {
	second := func(change func(f []fakeFile) []fakeFile) func(*fake) {
		return func(r *fake) {
			r.listed = func(look int, f []fakeFile) []fakeFile {
				if look == 2 {
					return change(f)
				}
				return f
			}
		}
	}
	entry := func(path string, kind device.Kind) fakeFile {
		return fakeFile{Entry: device.Entry{Path: path, Kind: kind}}
	}
	changes := map[string]func(*fake){
		"a new file at the end":   second(func(f []fakeFile) []fakeFile { return append(f, entry("z", device.KindFile)) }),
		"a new file in between":   second(func(f []fakeFile) []fakeFile { return append(f, entry("aa", device.KindFile)) }),
		"a new folder":            second(func(f []fakeFile) []fakeFile { return append(f, entry("0", device.KindDir)) }),
		"a twin of a name":        second(func(f []fakeFile) []fakeFile { return append(f, f[0]) }),
		"the first file gone":     second(func(f []fakeFile) []fakeFile { return f[1:] }),
		"the last file gone":      second(func(f []fakeFile) []fakeFile { return f[:1] }),
		"all gone":                second(func([]fakeFile) []fakeFile { return nil }),
		"a file of another size":  second(func(f []fakeFile) []fakeFile { f[1].Size++; return f }),
		"a file of another time":  second(func(f []fakeFile) []fakeFile { f[0].ModTime = f[0].ModTime.Add(time.Second); return f }),
		"a file became a folder":  second(func(f []fakeFile) []fakeFile { f[0].Kind = device.KindDir; return f }),
		"a file became bad":       second(func(f []fakeFile) []fakeFile { f[0].Err = errSector; return f }),
		"a file that grew":        func(r *fake) { r.files[0].content += "!" },
		"a file that shrank":      func(r *fake) { r.files[0].content = "fir" },
		"another size after read": func(r *fake) { r.stat = func(e device.Entry) (int64, error) { return e.Size + 1, nil } },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			b, r := newBench(t), newFake("first", "last")
			change(r)
			if made, err := b.stage(t.Context(), r); !errors.Is(err, staging.ErrChanged) {
				t.Errorf("it gives %+v, %v", made, err)
			}
			b.checkEmpty(t)
		})
	}
}

// Folders change their time when a file in them is opened on some recorders.
func TestAFoldersTimeIsNoChange(t *testing.T) {
	b, r := newBench(t), newFake("first")
	r.files = append(r.files, fakeFile{Entry: device.Entry{Path: "dir", Kind: device.KindDir}})
	r.listed = func(look int, f []fakeFile) []fakeFile {
		f[1].ModTime = time.Unix(int64(look), 0)
		return f
	}
	if _, err := b.stage(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func TestARecorderThatIsPulledGivesNoCopy(t *testing.T) {
	pulled := fmt.Errorf("usb: %w", device.ErrRemoved)
	b, r := newBench(t), newFake("first", "last")
	r.read = func(e device.Entry, _ int64) error { return when(e.Path == "b", pulled) }
	if _, err := b.stage(t.Context(), r); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("it gives %v", err)
	}
	b.checkEmpty(t)
	r.read = nil
	r.opened = func(device.Entry) error { return pulled }
	if _, err := b.stage(t.Context(), r); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("it gives %v", err)
	}
	b.checkEmpty(t)
}

func TestACancelledCopyLeavesNothing(t *testing.T) {
	enough := errors.New("the station is stopped")
	for _, at := range []string{"a", "b"} {
		b, r := newBench(t), newFake("first", "last")
		ctx, cancel := context.WithCancelCause(t.Context())
		r.read = func(e device.Entry, _ int64) error {
			if e.Path == at {
				cancel(enough)
				return context.Canceled // as a driver may put it: no fault of the file
			}
			return nil
		}
		if _, err := b.stage(ctx, r); !errors.Is(err, enough) {
			t.Errorf("it gives %v", err)
		}
		b.checkEmpty(t)
	}
}

// The disk changes what was written before it is read back.
func TestWhatTheDiskGivesBackIsCompared(t *testing.T) {
	b := newBench(t)
	big := strings.Repeat("0123456789abcdef", 20_000)
	for name, harm := range map[string]func(name string){
		"first byte":           func(name string) { flip(t, name, 0) },
		"a byte in the middle": func(name string) { flip(t, name, 0.5) },
		"last byte":            func(name string) { flip(t, name, 1) },
		"other bytes":          func(name string) { b.encryptTo(t, name, []byte(strings.ToUpper(big))) },
		"fewer bytes":          func(name string) { b.encryptTo(t, name, []byte(big[1:])) },
		"no bytes":             func(name string) { b.encryptTo(t, name, nil) },
	} {
		r := newFake("first", big)
		r.stat = func(e device.Entry) (int64, error) {
			if e.Path == "b" {
				names, err := filepath.Glob(filepath.Join(b.path, "*.partial", "000002.age"))
				if err != nil || len(names) != 1 {
					t.Fatal(names, err)
				}
				harm(names[0])
			}
			return e.Size, nil
		}
		if _, err := b.stage(t.Context(), r); !errors.Is(err, staging.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		b.checkEmpty(t)
	}
}

// flip changes one bit of a file, at that part of its length.
func flip(t testing.TB, name string, at float64) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[int(float64(len(data)-1)*at)] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEveryFileIsReadOnce(t *testing.T) {
	b, r := newBench(t), newFake("first", strings.Repeat("x", 1_000_000), "")
	r.piece = 70_001 // odd, and no multiple of anything
	opened := map[string]int{}
	r.opened = func(e device.Entry) error { opened[e.Path]++; return nil }
	made, err := b.stage(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for path, n := range opened {
		if n != 1 {
			t.Errorf("%q was opened %d times", path, n)
		}
	}
	if len(opened) != 3 || r.looks != 2 {
		t.Errorf("%d files opened, %d looks", len(opened), r.looks)
	}
	r.opened = nil
	checkSame(t, made, r)
}
