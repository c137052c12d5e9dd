package staging_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/bodyworn/ingestd/device/staging"
)

func secretOf(t *testing.T, keyFile string) string {
	t.Helper()
	text, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatal("no secret key in the file")
	return ""
}

func TestAKeyFileIsMadeOnceAndForItsOwnerOnly(t *testing.T) {
	name := filepath.Join(t.TempDir(), "key")
	made, err := staging.NewKeyFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := staging.NewKeyFile(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second key: %v", err)
	}
	if after, err := os.ReadFile(name); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key was replaced, %v", err)
	}
	if all, err := os.ReadDir(filepath.Dir(name)); err != nil || len(all) != 1 {
		t.Errorf("%d files beside the key, %v", len(all), err)
	}
	read, err := staging.ReadKeyFile(name)
	if err != nil || read.Recipient() != made.Recipient() || !strings.HasPrefix(read.Recipient(), "age1") {
		t.Errorf("read %v, %v", read, err)
	}
	secret := secretOf(t, name)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if said := fmt.Sprintf(verb, read); strings.Contains(said, secret) {
			t.Errorf("%s shows the secret", verb)
		}
	}
}

func TestAKeyFileThatOthersCanReadIsRefused(t *testing.T) {
	name := filepath.Join(t.TempDir(), "key")
	if _, err := staging.NewKeyFile(name); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := staging.ReadKeyFile(name); !errors.Is(err, staging.ErrKeyTooOpen) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(name, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := staging.ReadKeyFile(name); err != nil {
		t.Errorf("mode 400: %v", err)
	}
}

func TestWhatIsNoKeyIsRefused(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "comments": "# nothing\n", "text": "secret\n", "recipient": "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z\n",
		"of another kind": hybrid.String() + "\n", "huge": strings.Repeat("#\n", 100_000),
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := staging.ReadKeyFile(path); err == nil {
			t.Errorf("%s was taken for a key", name)
		}
	}
	if _, err := staging.ReadKeyFile(t.TempDir()); err == nil {
		t.Error("a folder was taken for a key")
	}
	if _, err := staging.Open(t.TempDir(), staging.Key{}); err == nil {
		t.Error("no key was taken for one")
	}
}

func TestACredentialOfTheServiceIsAKey(t *testing.T) {
	dir := t.TempDir()
	made, err := staging.NewKeyFile(filepath.Join(dir, "staging-key"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := staging.ReadCredential("staging-key"); err == nil {
		t.Error("a credential without systemd")
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for mode, ok := range map[os.FileMode]bool{0o400: true, 0o440: true, 0o444: false} {
		if err := os.Chmod(filepath.Join(dir, "staging-key"), mode); err != nil {
			t.Fatal(err)
		}
		read, err := staging.ReadCredential("staging-key")
		if ok && (err != nil || read.Recipient() != made.Recipient()) {
			t.Errorf("mode %o: %v, %v", mode, read, err)
		}
		if !ok && !errors.Is(err, staging.ErrKeyTooOpen) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for _, name := range []string{"", "../" + filepath.Base(dir) + "/staging-key", "absent"} {
		if _, err := staging.ReadCredential(name); err == nil {
			t.Errorf("%q was read", name)
		}
	}
}

func TestAnotherKeyOpensNothingAndDeletesNothing(t *testing.T) {
	b, r := newBench(t), newFake("first")
	made, err := b.stage(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	rubbish := filepath.Join(b.path, "20260102T030405Z-00000001.partial")
	if err := os.Mkdir(rubbish, 0o700); err != nil {
		t.Fatal(err)
	}
	newFile := filepath.Join(t.TempDir(), "key")
	other, err := staging.NewKeyFile(newFile)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := staging.Open(b.path, other); !errors.Is(err, staging.ErrWrongKey) {
		t.Errorf("another key: %v, %v", d, err)
	}
	if _, err := os.Stat(rubbish); err != nil {
		t.Error(err)
	}
	// Both keys in one file, the new one first: old copies are read, new ones are
	// encrypted with the new key alone.
	both := secretOf(t, newFile) + "\n" + secretOf(t, b.keyFile) + "\n"
	if err := os.WriteFile(newFile, []byte(both), 0o600); err != nil {
		t.Fatal(err)
	}
	if b.key, err = staging.ReadKeyFile(newFile); err != nil {
		t.Fatal(err)
	}
	b.open(t)
	if copied := b.only(t); copied.ID != made.ID {
		t.Errorf("copy %s", copied.ID)
	}
	checkSame(t, b.only(t), r)
	if err := b.only(t).Remove(t.Context(), sealedSession(r)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.stage(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	b.key = other
	b.reopen(t)
	checkSame(t, b.only(t), r)
}
