package staging_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/device/simulator"
	"github.com/bodyworn/ingestd/device/staging"
)

var dockedAt = time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 8*3600))

// bench is a staging folder and its key file.
type bench struct {
	*staging.Dir
	path, keyFile string
	key           staging.Key
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{path: filepath.Join(t.TempDir(), "staging"), keyFile: filepath.Join(t.TempDir(), "key")}
	var err error
	if b.key, err = staging.NewKeyFile(b.keyFile); err != nil {
		t.Fatal(err)
	}
	b.open(t)
	return b
}

func (b *bench) open(t testing.TB) {
	t.Helper()
	d, err := staging.Open(b.path, b.key)
	if err != nil {
		t.Fatal(err)
	}
	d.Reserve = 1 << 20
	b.Dir = d
	t.Cleanup(func() { _ = d.Close() }) // some tests close it themselves
}

func (b *bench) reopen(t testing.TB) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.open(t)
}

func (b *bench) stage(ctx context.Context, r device.Recorder) (staging.Copy, error) {
	return b.Stage(ctx, r, clock(), health(), "slot-3", dockedAt, nil)
}

// only gives the one sealed copy that is there.
func (b *bench) only(t testing.TB) staging.Copy {
	t.Helper()
	copies, err := b.Copies(t.Context())
	if err != nil || len(copies) != 1 {
		t.Fatalf("%d copies, %v", len(copies), err)
	}
	return copies[0]
}

// checkEmpty makes sure that the folder holds nothing but its lock.
func (b *bench) checkEmpty(t testing.TB) {
	t.Helper()
	names, err := os.ReadDir(b.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if n.Name() != "staging.lock" {
			t.Errorf("%s was left behind", n.Name())
		}
	}
}

func clock() device.ClockReading {
	offset, uncertainty := 192*time.Second, 50*time.Millisecond
	return device.ClockReading{Kind: device.ClockMeasured, Method: "asked", Offset: &offset, Uncertainty: &uncertainty, StationTime: dockedAt.UTC()}
}

func health() device.Health {
	battery := 41
	return device.Health{BatteryPercent: &battery, Volumes: []device.Volume{{Name: "sda1", Label: device.Fact{Source: "volume", Value: "DSJ"}}}}
}

func openFolder(t testing.TB, dir string) *folder.Recorder {
	t.Helper()
	r, err := folder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// card is one of clips, with names that are not UTF-8 and an empty file beside.
func card(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "card")
	if _, err := (simulator.Card{Recorder: "NMQ0031", Clips: 1, ClipLength: 400 * time.Millisecond}).Write(dir); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"\xc8\xb1.MP4": "named in GBK", "empty": "", "large": strings.Repeat("0123456789abcdef", 20_000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("\xff-nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func inventory(t testing.TB, r device.Recorder) (all []device.Entry) {
	t.Helper()
	if err := r.Inventory(t.Context(), func(e device.Entry) error {
		all = append(all, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func read(t testing.TB, r device.Recorder, e device.Entry, offset int64) ([]byte, error) {
	t.Helper()
	f, err := r.Open(t.Context(), e, offset)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	size, modTime, err := f.Stat()
	if err != nil || size != e.Size || !modTime.Equal(e.ModTime) {
		t.Errorf("%q: Stat gives %d, %s, %v; the entry %d, %s", e.Path, size, modTime, err, e.Size, e.ModTime)
	}
	return io.ReadAll(f)
}

// checkSame compares a staged copy with the recorder it was made of, path by path
// in the recorder's order and byte by byte.
func checkSame(t testing.TB, copied staging.Copy, original device.Recorder) {
	t.Helper()
	staged, err := copied.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := staged.Close(); err != nil {
			t.Error(err)
		}
	}()
	want, got := inventory(t, original), inventory(t, staged)
	if len(want) != len(got) {
		t.Fatalf("%d paths on the recorder, %d in the copy", len(want), len(got))
	}
	for i, w := range want {
		g := got[i]
		if g.Path != w.Path || g.Kind != w.Kind || g.Size != w.Size || !g.ModTime.Equal(w.ModTime) || g.Note != w.Note || w.Err != nil && g.Err == nil {
			t.Errorf("entry %d is %+v, not %+v", i, g, w)
			continue
		}
		if w.Kind != device.KindFile || w.Err != nil {
			if f, err := staged.Open(t.Context(), g, 0); err == nil {
				t.Errorf("%s %q could be opened", g.Kind, g.Path)
				_ = f.Close()
			}
			continue
		}
		plain, err := read(t, original, w, 0)
		if (err == nil) != (g.Err == nil) {
			t.Errorf("%q: reading it gives %v, the copy says %v", w.Path, err, g.Err)
		}
		if err != nil || g.Err != nil {
			continue // only root reads all of the odd card
		}
		for _, offset := range []int64{0, w.Size / 3, w.Size} {
			if back, err := read(t, staged, g, offset); err != nil || !bytes.Equal(back, plain[offset:]) {
				t.Errorf("%q from byte %d: %d bytes, not the same %d, %v", w.Path, offset, len(back), w.Size-offset, err)
			}
		}
	}
}

func TestAStagedCopyIsWhatTheRecorderHeld(t *testing.T) {
	odd := filepath.Join(t.TempDir(), "odd")
	if _, err := simulator.Odd(odd); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"card": card(t), "odd names": odd} {
		t.Run(name, func(t *testing.T) {
			b, r := newBench(t), openFolder(t, dir)
			progress := 0
			made, err := b.Stage(t.Context(), r, clock(), health(), "slot-3", dockedAt, func(n int) { progress += n })
			if err != nil {
				t.Fatal(err)
			}
			if int64(progress) != made.Bytes {
				t.Errorf("progress tells of %d bytes, the copy has %d", progress, made.Bytes)
			}
			b.reopen(t)
			listed := b.only(t)
			if listed.ID != made.ID || listed.Files != made.Files || listed.Bytes != made.Bytes || listed.Files == 0 || listed.Unreadable != made.Unreadable || made.Unreadable > 0 && os.Geteuid() == 0 {
				t.Errorf("made %+v, listed %+v", made, listed)
			}
			if listed.Slot != "slot-3" || !listed.DockedAt.Equal(dockedAt) || listed.Identity != r.Identity() {
				t.Errorf("the docking is listed as %+v", listed)
			}
			checkSame(t, listed, r)
		})
	}
}

func TestTheDockingComesBackAsItWas(t *testing.T) {
	b, r := newBench(t), openFolder(t, card(t))
	made, err := b.stage(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	staged, err := made.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = staged.Close() }()
	want := r.Identity()
	want.Driver = "staged"
	if got := staged.Identity(); got != want || got.Serial.Value != "NMQ0031" {
		t.Errorf("identity is %+v", got)
	}
	if got, err := staged.Clock(t.Context()); err != nil || !reflect.DeepEqual(got, clock()) {
		t.Errorf("clock is %+v, %v", got, err)
	}
	if got, err := staged.Health(t.Context()); err != nil || !reflect.DeepEqual(got, health()) {
		t.Errorf("health is %+v, %v", got, err)
	}
	if _, ok := staged.(device.ClockSetter); ok {
		t.Error("a copy offers its clock to be set")
	}
}

// Entries with one path twice, and times that RFC 3339 can't say.
func TestOddTimesAndTwinsComeBack(t *testing.T) {
	twin := func(n string, at time.Time) fakeFile {
		return fakeFile{device.Entry{Path: "twin", Kind: device.KindFile, Size: int64(len(n)), ModTime: at, Handle: n}, n}
	}
	r := &fake{files: []fakeFile{
		twin("first", time.Time{}),
		twin("second", time.Date(12026, 1, 1, 0, 0, 0, 7, time.UTC)),
		twin("third one", time.Date(1890, 1, 1, 0, 0, 0, 0, time.FixedZone("LMT", 8*3600+5*60+43))),
		twin("fourth", time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)),
	}}
	b := newBench(t)
	made, err := b.stage(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, made, r)
	staged, err := made.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = staged.Close() }()
	for i, e := range inventory(t, staged) {
		_, want := r.files[i].ModTime.Zone()
		if _, got := e.ModTime.Zone(); got != want || e.ModTime.IsZero() != r.files[i].ModTime.IsZero() {
			t.Errorf("%s came back as %s", r.files[i].ModTime, e.ModTime)
		}
	}
}

// What is on disk is read without this package: by age and encoding/json.
func TestOrdinaryToolsReadACopy(t *testing.T) {
	b, dir := newBench(t), card(t)
	made, err := b.stage(t.Context(), openFolder(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	keys := b.identities(t)
	decrypt := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(b.path, made.ID, name))
		if err != nil {
			t.Fatal(err)
		}
		r, err := age.Decrypt(bytes.NewReader(data), keys...)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return plain
	}
	var account struct {
		Entries []struct {
			Path any
			Blob *struct{ Name string }
		}
	}
	if err := json.Unmarshal(decrypt("copy.json.age"), &account); err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, e := range account.Entries {
		if e.Blob == nil {
			continue
		}
		path, ok := e.Path.(string)
		if !ok {
			raw, err := base64.StdEncoding.DecodeString(e.Path.(map[string]any)["base64"].(string))
			if err != nil {
				t.Fatal(err)
			}
			path = string(raw)
		}
		want, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(decrypt(e.Blob.Name), want) {
			t.Errorf("%q is not the same", path)
		}
		files++
	}
	if files != made.Files || files < 5 {
		t.Errorf("%d files were decrypted, the copy has %d", files, made.Files)
	}
}

func TestNothingOnTheDiskIsReadable(t *testing.T) {
	b, dir := newBench(t), card(t)
	r := openFolder(t, dir)
	secrets := []string{"0123456789abcdef", "named in GBK", "NMQ0031", "slot-3", "Param", b.key.Recipient()}
	for _, e := range inventory(t, r) {
		if base := filepath.Base(e.Path); len(base) > 3 {
			secrets = append(secrets, base)
		}
	}
	if _, err := b.stage(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	looked := 0
	if err := filepath.WalkDir(b.path, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", p, info.Mode())
		}
		text := []byte(strings.TrimPrefix(p, b.path))
		if !entry.IsDir() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text = append(text, data...)
			looked++
		}
		for _, s := range secrets {
			if bytes.Contains(text, []byte(s)) {
				t.Errorf("%s shows %q", p, s)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if looked < 5 {
		t.Errorf("only %d files were looked at", looked)
	}
}
