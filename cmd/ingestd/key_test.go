package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/embedded"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// fetch copies what a plain client of the running daemon's store gets for a prefix.
func (p *place) fetch(prefix, to string) {
	p.t.Helper()
	store, err := embedded.Open(p.t.Context(), embedded.Options{Root: p.path("store")})
	if err != nil {
		p.t.Fatal(err)
	}
	defer store.Close()
	vault, err := storage.Open(p.t.Context(), storage.Config{
		Name: "store", Bucket: "footage", Months: storage.FloorMonths, Location: time.UTC, Now: time.Now,
		Endpoint: store.Endpoint(), Region: store.Region(), AccessKey: store.AccessKey(), SecretKey: store.SecretKey(), Transport: store.Transport(),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	for v, err := range vault.List(p.t.Context(), prefix) {
		if err == nil {
			err = fetchOne(p.t.Context(), vault, v.Key, filepath.Join(to, filepath.FromSlash(v.Key)))
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

func fetchOne(ctx context.Context, vault *storage.Vault, key, file string) error {
	body, err := vault.Fetch(ctx, key, "")
	if err != nil {
		return err
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	return errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, content, 0o600))
}

// sealed docks a card at the daemon and waits until its session is published.
func (d *daemon) sealed(card string, files map[string]string) {
	d.p.t.Helper()
	for name, content := range files {
		d.p.write("drop/"+card+"/"+name, content)
	}
	d.waitFor(`"event":"ingest.finished","slot":"%s"`, card)
}

// sign has the station make its key, list and ledger as the daemon does, without a store.
func (p *place) sign() {
	p.t.Helper()
	w, err := (&app{configFile: p.path("ingestd.yaml")}).openJournal(journal.Own)
	if err != nil {
		p.t.Fatal(err)
	}
	err = w.openEvidence(p.t.Context(), func(e ingest.Event) { p.t.Errorf("told: %+v", e) })
	if err := errors.Join(err, w.close()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) keyShow(want int) (k keyJSON) {
	p.t.Helper()
	out, errs, code := p.run("key", "show", "-o", "json")
	if err := json.Unmarshal([]byte(out), &k); err != nil || code != want {
		p.t.Fatalf("key show: exit %d, want %d, %v\n%s%s", code, want, err, out, errs)
	}
	return k
}

func TestKeyShow(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	if _, errs, code := p.run("key", "show"); code != exitNotFound || !strings.Contains(errs, "nothing was signed here yet") {
		t.Errorf("before there is a key: exit %d\n%s", code, errs)
	}
	p.sign() // it must not be taken for a station that has lost its key
	k := p.keyShow(0)
	listed, err := exec.Command("ssh-keygen", "-lf", p.path("state/station.key.pub")).CombinedOutput()
	if err != nil || strings.Fields(string(listed))[1] != k.Fingerprint {
		t.Errorf("ssh-keygen says %s (%v), we %s", listed, err, k.Fingerprint)
	}
	if line, err := os.ReadFile(p.path("state/station.key.pub")); err != nil || string(line) != k.PublicKey+"\n" {
		t.Errorf("%v: %q is shown, %q is in the file", err, k.PublicKey, line)
	}
	if ring, err := os.ReadFile(p.path("state/allowed_signers")); err != nil || string(ring) != k.AllowedSigners {
		t.Errorf("%v: %q is shown, %q is in the file", err, k.AllowedSigners, ring)
	}
	if !strings.Contains(k.AllowedSigners, `TEST-01 namespaces="ingestd-manifest,ingestd-marker,ingestd-key" ssh-ed25519 `) {
		t.Errorf("the first key may sign for more than it must: %s", k.AllowedSigners)
	}
	if k.PrivateKey != (privateKeyJSON{p.path("state/station.key"), keyPresent}) || k.Findings == nil {
		t.Errorf("%+v", k)
	}
	private, err := os.ReadFile(p.path("state/station.key"))
	if err != nil {
		t.Fatal(err)
	}
	out := p.must("key", "show")
	for _, want := range []string{k.Fingerprint, k.PublicKey, k.AllowedSigners, k.PrivateKey.Path, "on paper", "outside of this machine"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if secret := strings.Split(string(private), "\n")[2]; strings.Contains(out, secret) {
		t.Error("the private key is shown")
	}

	// What the daemon would refuse, or sign with in vain.
	if err := os.Chmod(p.path("state/station.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if k := p.keyShow(exitFindings); k.PrivateKey.State != keyUnsound || len(k.Findings) != 1 {
		t.Errorf("open to all: %+v", k)
	}
	if err := errors.Join(os.Remove(p.path("state/station.key")), os.Remove(p.path("state/station.key.pub"))); err != nil {
		t.Fatal(err)
	}
	if k := p.keyShow(0); k.PrivateKey.State != keyAbsent {
		t.Errorf("away: %+v", k)
	}
	other, err := stationkey.Create(p.path("state/station.key"), "TEST-01")
	if err != nil {
		t.Fatal(err)
	}
	if again := p.keyShow(exitFindings); again.Fingerprint != k.Fingerprint || !strings.Contains(strings.Join(again.Findings, ""), other.Fingerprint()) {
		t.Errorf("another key: %+v", again)
	}
	p.write("state/allowed_signers", k.AllowedSigners+"TEST-01 "+other.AuthorizedKey()+"\n")
	if _, errs, code := p.run("key", "show"); code != exitFailed || !strings.Contains(errs, "2 keys of station TEST-01") {
		t.Errorf("two keys: exit %d\n%s", code, errs)
	}
}

// The recipe in the README of stationkey is run as it stands there, on what a plain
// client fetches from the store, and on what was done to it.
func TestRecipe(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../storage/stationkey/README.md")
	if err != nil {
		t.Fatal(err)
	}
	recipe := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(string(text))
	if recipe == nil {
		t.Fatal("the README has no commands")
	}
	p := newPlace(t, testConfig)
	d := p.startDaemon()
	d.sealed("card1", map[string]string{"a.mp4": "footage", "片段 b.mp4": "other footage"})
	p.write("drop/card1/c.mp4", "third footage")
	d.waitFor(`safe: 3 files, 1 stored, 2 identical`)
	if err := os.Remove(p.path("drop/card1/c.mp4")); err != nil {
		t.Fatal(err)
	}
	d.waitFor(`safe: 2 files, 0 stored, 2 identical`)
	fetched := p.path("fetched")
	p.fetch("TEST-01/", fetched)
	paper := p.keyShow(0).Fingerprint
	sessions, err := filepath.Glob(filepath.Join(fetched, "TEST-01/2*/*"))
	if err != nil || len(sessions) != 3 {
		t.Fatalf("sessions %v (%v)", sessions, err)
	}
	keys, err := filepath.Glob(filepath.Join(fetched, "TEST-01/keys/*.pub"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("keys %v (%v)", keys, err)
	}
	within := func(path string) string { return strings.TrimPrefix(path, fetched+"/") }
	run := func(session, paper string) (string, bool) {
		cmd := exec.Command("sh", "-c", recipe[1])
		cmd.Dir = fetched
		cmd.Env = append(os.Environ(), "station=TEST-01", "session="+within(session), "key="+within(keys[0]), "paper="+paper)
		out, err := cmd.CombinedOutput()
		return string(out), err == nil && strings.HasSuffix(string(out), "the session is whole\n")
	}
	for _, s := range sessions {
		if out, whole := run(s, paper); !whole {
			t.Errorf("%s:\n%s", s, out)
		}
	}
	if _, whole := run(sessions[0], strings.Replace(paper, "SHA256:", "SHA256:x", 1)); whole {
		t.Error("another fingerprint on the paper is taken")
	}
	first, err := filepath.Glob(filepath.Join(fetched, "TEST-01/2*/*/footage/a.mp4"))
	if err != nil || len(first) != 1 {
		t.Fatalf("a.mp4 is stored as %v (%v)", first, err)
	}
	owner := filepath.Dir(filepath.Dir(first[0]))
	var other, empty string // with footage of its own, and without
	for _, s := range sessions {
		_, err := os.Stat(s + "/footage")
		switch {
		case s == owner:
		case err == nil:
			other = s
		default:
			empty = s
		}
	}
	if other == "" || empty == "" {
		t.Fatalf("%v: %q has footage, %q has none", sessions, other, empty)
	}
	copied := func(from, to string) error {
		body, err := os.ReadFile(from)
		return errors.Join(err, os.WriteFile(to, body, 0o600))
	}
	forged := empty + "0"
	for name, c := range map[string]struct {
		session string
		files   []string // to be put back
		spoil   func() error
	}{
		"a changed file":                    {owner, first, func() error { return os.WriteFile(first[0], []byte("Footage"), 0o600) }},
		"a changed file of another session": {other, first, func() error { return os.WriteFile(first[0], []byte("Footage"), 0o600) }},
		"a missing file":                    {owner, first, func() error { return os.Remove(first[0]) }},
		"a changed manifest": {owner, []string{owner + "/manifest.json"}, func() error {
			return rewrite(owner+"/manifest.json", func(b []byte) []byte { return []byte(strings.Replace(string(b), "verified", "Verified", 1)) })
		}},
		"a changed manifest with sums that fit": {owner, []string{owner + "/manifest.json", owner + "/SHA256SUMS"}, func() error {
			err := rewrite(owner+"/manifest.json", func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"slot": "card1"`), []byte(`"slot": "card2"`), 1)
			})
			body, readErr := os.ReadFile(owner + "/manifest.json")
			line := fmt.Sprintf("%x  manifest.json\n", sha256.Sum256(body))
			return errors.Join(err, readErr, rewrite(owner+"/SHA256SUMS", func(b []byte) []byte { return append(b[:len(b)-len(line)], line...) }))
		}},
		"another session under this name": {forged, nil, func() error { return os.CopyFS(forged, os.DirFS(empty)) }},
		"another session's documents": {owner, []string{owner + "/manifest.json", owner + "/manifest.json.sig"}, func() error {
			return errors.Join(copied(other+"/manifest.json", owner+"/manifest.json"), copied(other+"/manifest.json.sig", owner+"/manifest.json.sig"))
		}},
		"another session's sums": {owner, []string{owner + "/SHA256SUMS", owner + "/SHA256SUMS.sig"}, func() error {
			return errors.Join(copied(other+"/SHA256SUMS", owner+"/SHA256SUMS"), copied(other+"/SHA256SUMS.sig", owner+"/SHA256SUMS.sig"))
		}},
		"no signature":        {owner, []string{owner + "/SHA256SUMS.sig"}, func() error { return os.Remove(owner + "/SHA256SUMS.sig") }},
		"a file that is more": {owner, nil, func() error { return os.WriteFile(owner+"/footage/z.mp4", []byte("x"), 0o600) }},
	} {
		kept := map[string][]byte{}
		for _, f := range c.files {
			if kept[f], err = os.ReadFile(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.spoil(); err != nil {
			t.Fatal(name, err)
		}
		if out, whole := run(c.session, paper); whole {
			t.Errorf("%s: not seen\n%s", name, out)
		}
		for f, body := range kept {
			if err := os.WriteFile(f, body, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_ = os.Remove(owner + "/footage/z.mp4") // of the last case
	}
	if out, whole := run(owner, paper); !whole {
		t.Errorf("put back:\n%s", out)
	}
}
