package staging_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/staging"
)

// FuzzRecord puts any bytes in the place of a copy's record. None may be listed as
// another copy, lead out of the folder, or give bytes that were never staged.
func FuzzRecord(f *testing.F) {
	b, r := newBench(f), newFake("first", "last")
	made, err := b.stage(f.Context(), r)
	if err != nil {
		f.Fatal(err)
	}
	record := b.record(f, made.ID)
	f.Add(record)
	for _, change := range [][2]string{
		{"000001.age", "../key"}, {"000001.age", "000002.age"}, {`"a"`, `{"base64":"/w=="}`}, {`"a"`, `{"base64":"!"}`}, {`"a"`, `{}`},
		{`"file"`, `"door"`}, {`"size": 5`, `"size": -5`}, {`"blob"`, `"blot"`}, {made.ID, "20260102T030405Z-00000000"},
		{`"2026-01-01T00:00:00Z"`, `{"unix_s":1e99}`}, {`"2026-01-01T00:00:00Z"`, `{"unix_s":-62135596800,"utc_offset_s":9999999}`},
		{"ingestd staged copy 1", "ingestd staged copy 2"}, {"\n}", "\n}{}"},
	} {
		f.Add(bytes.Replace(record, []byte(change[0]), []byte(change[1]), 1))
	}
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b.setRecord(t, made.ID, data)
		copies, err := b.Copies(context.Background())
		if (err == nil) != (len(copies) == 1) {
			t.Fatalf("%d copies, %v", len(copies), err)
		}
		for _, c := range copies {
			if c.ID != made.ID {
				t.Fatalf("it is listed as %q", c.ID)
			}
			checkFuzzed(t, c)
		}
	})
}

// record decrypts the record of a copy without this package.
func (b *bench) record(t testing.TB, id string) []byte {
	t.Helper()
	sealed, err := os.ReadFile(filepath.Join(b.path, id, "copy.json.age"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := age.Decrypt(bytes.NewReader(sealed), b.identities(t)...)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (b *bench) setRecord(t testing.TB, id string, data []byte) {
	t.Helper()
	b.encryptTo(t, filepath.Join(b.path, id, "copy.json.age"), data)
}

// encryptTo writes a file as a station with this key would.
func (b *bench) encryptTo(t testing.TB, name string, data []byte) {
	t.Helper()
	to, err := age.ParseX25519Recipient(b.key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	var coded bytes.Buffer
	w, err := age.Encrypt(&coded, to)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(name, coded.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) identities(t testing.TB) []age.Identity {
	t.Helper()
	text, err := os.ReadFile(b.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func checkFuzzed(t *testing.T, c staging.Copy) {
	t.Helper()
	staged, err := c.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = staged.Close() }()
	if err := staged.Inventory(context.Background(), func(e device.Entry) error {
		opened, err := staged.Open(context.Background(), e, 0)
		if err == nil { // to refuse is right
			got, readErr := io.ReadAll(opened)
			if readErr == nil && string(got) != "first" && string(got) != "last" {
				t.Errorf("%q gives %q", e.Path, got)
			}
			return opened.Close()
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
