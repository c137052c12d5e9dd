package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerifyFindsWhatWasDoneToTheStore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(p *place, file string) error
		want  string
	}{
		"a flipped byte": {func(_ *place, file string) error {
			return rewrite(file, func(b []byte) []byte { b[3] ^= 1; return b })
		}, "mismatch a.mp4"},
		"a cut file": {func(_ *place, file string) error {
			return rewrite(file, func(b []byte) []byte { return b[:len(b)-1] })
		}, "mismatch a.mp4"},
		"a removed file": {func(_ *place, file string) error { return os.Remove(file) }, "missing a.mp4"},
		"a file beside": {func(_ *place, file string) error {
			return os.WriteFile(filepath.Join(filepath.Dir(file), "extra.mp4"), []byte("x"), 0o600)
		}, "extra extra.mp4"},
		"a changed manifest": {func(_ *place, file string) error {
			return rewrite(filepath.Join(filepath.Dir(filepath.Dir(file)), "manifest.json"), func(b []byte) []byte {
				return bytes.Replace(b, []byte("verified"), []byte("Verified"), 1)
			})
		}, "mismatch manifest.json"},
		"a removed manifest": {func(_ *place, file string) error {
			return os.Remove(filepath.Join(filepath.Dir(filepath.Dir(file)), "manifest.json"))
		}, "missing manifest.json"},
		"changed sums": {func(_ *place, file string) error {
			return rewrite(filepath.Join(filepath.Dir(filepath.Dir(file)), "SHA256SUMS"), func(b []byte) []byte { b[0] ^= 1; return b })
		}, "mismatch SHA256SUMS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, testConfig)
			p.write("card/a.mp4", "footage")
			p.write("card/b.mp4", "other footage")
			r := p.ingest(0, "card")
			if found := p.verify(0, "--all"); len(found) != 0 {
				t.Fatalf("before anything was done: %v", found)
			}
			if err := c.spoil(p, p.path("store/data/footage/"+r.Session.Prefix+"footage/a.mp4")); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"--all"}, {r.Session.ID}} {
				if found := p.verify(exitFindings, args...); len(found) == 0 || found[0] != c.want {
					t.Errorf("verify %v found %v, want %s", args, found, c.want)
				}
			}
		})
	}
}

// SM3SUMS is held to the manifest like SHA256SUMS; cksum checks it in the store's folder.
func TestVerifyFindsWhatWasDoneToSM3SUMS(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig+"digest: {sm3: true}\n")
	p.write("card/a.mp4", "footage")
	p.write("card/图.mp4", "other footage")
	r := p.ingest(0, "card")
	folder := p.path("store/data/footage/" + r.Session.Prefix)
	if _, err := exec.LookPath("cksum"); err == nil {
		cmd := exec.Command("cksum", "-a", "sm3", "--strict", "-c", "SM3SUMS")
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 3 {
			t.Errorf("cksum: %v\n%s", err, out)
		}
	}
	if found := p.verify(0, "--all"); len(found) != 0 {
		t.Fatalf("before anything was done: %v", found)
	}
	for _, c := range []struct {
		name  string
		spoil func(file string) error
		want  string
	}{
		{"SM3SUMS", func(file string) error { return rewrite(file, func(b []byte) []byte { b[0] ^= 1; return b }) }, "mismatch SM3SUMS"},
		{"SM3SUMS.sig", func(file string) error { return rewrite(file, func([]byte) []byte { return []byte("x") }) }, "unsigned SM3SUMS.sig"},
		{"SM3SUMS.sig", os.Remove, "missing SM3SUMS.sig"},
		{"SM3SUMS", os.Remove, "missing SM3SUMS"},
	} {
		file := filepath.Join(folder, c.name)
		if out, err := exec.Command("cp", "-a", file, p.path("kept")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := c.spoil(file); err != nil {
			t.Fatal(err)
		}
		if found := p.verify(exitFindings, "--all"); len(found) == 0 || found[0] != c.want {
			t.Errorf("found %v, want %s", found, c.want)
		}
		if err := os.Rename(p.path("kept"), file); err != nil {
			t.Fatal(err)
		}
	}
}

func rewrite(file string, change func([]byte) []byte) error {
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	body = change(body)
	// In place: the extended attributes, which hold the store's metadata, stay.
	if err := os.Chmod(file, 0o600); err != nil {
		return err
	}
	return os.WriteFile(file, body, 0o600)
}
