package storage_test

import (
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
)

// What can be found again.

func oddNamesComeBack(v *vault) {
	const prefix = "st/day/session/footage/"
	names := storage.NewNamer(prefix, nil)
	longest := strings.Repeat(strings.Repeat("d", 199)+"/", 4) // with the name below, the longest key that Namer lets be
	longest += strings.Repeat("n", 1024-len("~9999")-len(prefix)-len(longest))
	want := map[string]string{}
	for _, path := range []string{
		"plain.mp4", "图片/现场 照片.JPG", "a\nb", `q"uo'te`, `back\slash`, "..", "../..", "-rf", "trail.", "trail ", " lead", "100%", "a+b&c=d?e#f;g",
		"\xd6\xb4\xb7\xa8.mp4", "\xff\xfe", strings.Repeat("x", 255), strings.Repeat("深/", 400) + "end", longest, "A", "a", "emoji 🎥.mp4",
		"e\u0301", "\u00e9", "xl.meta", "d/xl.meta", "a__XLDIR__", ".sgwtmp", "d/.sgwtmp/x", "~", "~long/x", "a:b*c|d<e>f", "\t", "\u2028",
	} {
		key := names.Key(path)
		v.create(key, []byte(path))
		want[key] = path
	}
	for _, o := range v.versions("st/") {
		path, ok := want[o.Key]
		if !ok {
			v.Errorf("listed is %q, which nobody created", o.Key)
			continue
		}
		delete(want, o.Key)
		v.reads(storage.Object{Key: o.Key, VersionID: o.VersionID}, []byte(path))
	}
	for key, path := range want {
		v.Errorf("%q, the key of %q, is not listed", key, path)
	}
}

func listingsAreWhole(v *vault) {
	const n = 1100 // more than a page
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < n; i += 8 {
				v.create("l/"+strings.Repeat("d/", i%3)+hex.EncodeToString([]byte{byte(i >> 8), byte(i)}), []byte{byte(i)})
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, o := range v.versions("l/") {
		if seen[o.Key] {
			v.Errorf("%s is listed twice", o.Key)
		}
		seen[o.Key] = true
	}
	if len(seen) != n {
		v.Errorf("%d of %d objects are listed", len(seen), n)
	}
}

func deleteMarkersShow(v *vault) {
	o := v.create("s/a", []byte("footage"))
	err := v.raw.RemoveObject(v.Context(), v.cfg.Bucket, o.Key, minio.RemoveObjectOptions{})
	if v.server.Name == "embedded" {
		// A difference: the embedded store lets nobody make footage look gone.
		v.refused("delete without a version", err)
		v.holds(o, []byte("footage"))
		return
	}
	if err != nil {
		v.Fatal(err)
	}
	all := v.versions("s/a")
	if len(all) != 2 || all[0].DeleteMarker == all[1].DeleteMarker {
		v.Errorf("listed are %+v", all)
	}
	if _, err := v.Stat(v.Context(), o.Key, o.VersionID); err != nil {
		v.Errorf("under the marker: %v", err)
	}
}

func whatIsNotThereIsNotFound(v *vault) {
	_, err1 := v.Stat(v.Context(), "s/nothing", "")
	_, err2 := v.Fetch(v.Context(), "s/nothing", "")
	_, err3 := v.Kept(v.Context(), storage.Upload{Key: "s/nothing", ID: "6b1f2c7e-3a52-4f0e-9d3a-0c8c1c0a7f11"})
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, storage.ErrNotFound) {
			v.Error(err)
		}
	}
	o := v.create("s/a", []byte("0123456789"))
	for offset, want := range map[int64]string{0: "0123456789", 1: "123456789", 9: "9"} {
		body, err := v.FetchFrom(v.Context(), o.Key, o.VersionID, offset)
		if err != nil {
			v.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err = errors.Join(err, body.Close()); err != nil || string(got) != want {
			v.Errorf("from byte %d: %q, %v", offset, got, err)
		}
	}
	if _, err := v.Stat(v.Context(), o.Key, "00000000-0000-0000-0000-000000000000"); err == nil {
		v.Error("a version that never was is found")
	}
}
