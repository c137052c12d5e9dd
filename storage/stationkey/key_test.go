package stationkey_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/storage/stationkey"
)

const station = "NMQ-01"

// create makes a key in a folder of its own.
func create(t testing.TB) (*stationkey.Key, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "station_ed25519")
	key, err := stationkey.Create(path, station)
	if err != nil {
		t.Fatal(err)
	}
	return key, path
}

// sshKeygen runs the tool and gives what it wrote and whether it agreed.
func sshKeygen(t testing.TB, stdin []byte, args ...string) (string, bool) {
	t.Helper()
	tool, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skipf("ssh-keygen is not installed, so nothing can be compared with it: %v", err)
	}
	cmd := exec.Command(tool, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var refused *exec.ExitError
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("ssh-keygen %q: %v", args, err)
	}
	return string(out), err == nil
}

// mustSSHKeygen is sshKeygen where it must agree.
func mustSSHKeygen(t testing.TB, stdin []byte, args ...string) string {
	t.Helper()
	out, ok := sshKeygen(t, stdin, args...)
	if !ok {
		t.Fatalf("ssh-keygen %q: %s", args, out)
	}
	return out
}

func write(t testing.TB, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestCreatedKeysAreLoaded(t *testing.T) {
	t.Parallel()
	key, path := create(t)
	if got := names(t, filepath.Dir(path)); got != "station_ed25519 station_ed25519.pub" {
		t.Errorf("the folder holds %q", got)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, path + ".pub": 0o644} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, not %v", name, info.Mode(), want)
		}
	}
	loaded, err := stationkey.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.AuthorizedKey() != key.AuthorizedKey() || !bytes.Equal(loaded.SignRaw([]byte("a note\n")), key.SignRaw([]byte("a note\n"))) {
		t.Errorf("created %s, loaded %s", key.AuthorizedKey(), loaded.AuthorizedKey())
	}
	if got := string(read(t, path+".pub")); got != key.AuthorizedKey()+"\n" || !strings.HasSuffix(got, " "+station+"\n") {
		t.Errorf(".pub holds %q", got)
	}
}

func TestSSHKeygenReadsOurKeys(t *testing.T) {
	t.Parallel()
	key, path := create(t)
	if got := strings.TrimSpace(mustSSHKeygen(t, nil, "-y", "-f", path)); got != key.AuthorizedKey() {
		t.Errorf("ssh-keygen -y: %q, AuthorizedKey: %q", got, key.AuthorizedKey())
	}
	for _, name := range []string{path, path + ".pub"} {
		want := fmt.Sprintf("256 %s %s (ED25519)\n", key.Fingerprint(), station)
		if got := mustSSHKeygen(t, nil, "-l", "-f", name); got != want {
			t.Errorf("ssh-keygen -l: %q, expected %q", got, want)
		}
	}
}

func TestKeysOfSSHKeygenAreLoaded(t *testing.T) {
	t.Parallel()
	for _, comment := range []string{"", "two words", "采集站"} {
		path := filepath.Join(t.TempDir(), "key")
		mustSSHKeygen(t, nil, "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path)
		key, err := stationkey.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := key.AuthorizedKey(), strings.TrimSpace(string(read(t, path+".pub"))); got != want {
			t.Errorf("AuthorizedKey: %q, its .pub: %q", got, want)
		}
	}
}

func TestCreateNeverReplacesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	// What lies there before; the names are relative to the folder.
	for what, before := range map[string][]string{
		"a private key": {"key"},
		"a public key":  {"key.pub"},
		"both":          {"key", "key.pub"},
	} {
		dir := t.TempDir()
		for _, name := range before {
			write(t, filepath.Join(dir, name), []byte("precious"), 0o600)
		}
		key, err := stationkey.Create(filepath.Join(dir, "key"), station)
		if !errors.Is(err, fs.ErrExist) || key != nil {
			t.Errorf("%s: %v, %v", what, key, err)
		}
		if got := names(t, dir); got != strings.Join(before, " ") {
			t.Errorf("%s: the folder then holds %q", what, got)
		}
		for _, name := range before {
			if got := read(t, filepath.Join(dir, name)); string(got) != "precious" {
				t.Errorf("%s: %s was replaced", what, name)
			}
		}
	}
	dir := t.TempDir()
	// Room for the private name, none for the public one.
	long := strings.Repeat("k", 255-len(".pub")+1)
	if _, err := stationkey.Create(filepath.Join(dir, long), station); err == nil {
		t.Error("it made a key whose .pub can have no name")
	}
	if _, err := stationkey.Create(filepath.Join(dir, "key"), "one\ntwo"); err == nil {
		t.Error("it took a comment of two lines")
	}
	if got := names(t, dir); got != "" {
		t.Errorf("failures left %q", got)
	}
	if _, err := stationkey.Create(filepath.Join(dir, "missing", "key"), station); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a folder that is missing: %v", err)
	}
}

// Of many that make the key of one station at once, one does.
func TestRacersMakeOneKey(t *testing.T) {
	t.Parallel()
	const racers = 8
	path := filepath.Join(t.TempDir(), "key")
	type result struct {
		key *stationkey.Key
		err error
	}
	results := make(chan result, racers)
	for range racers {
		go func() {
			key, err := stationkey.Create(path, station)
			results <- result{key, err}
		}()
	}
	var won []*stationkey.Key
	for range racers {
		r := <-results
		if r.err == nil {
			won = append(won, r.key)
		} else if !errors.Is(r.err, fs.ErrExist) {
			t.Error(r.err)
		}
	}
	if len(won) != 1 {
		t.Fatalf("%d of %d made a key", len(won), racers)
	}
	loaded, err := stationkey.Load(path)
	if err != nil || loaded.AuthorizedKey() != won[0].AuthorizedKey() {
		t.Errorf("another key lies there than the one that was made: %v, %v", loaded, err)
	}
	if got := names(t, filepath.Dir(path)); got != "key key.pub" {
		t.Errorf("the folder holds %q", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	_, path := create(t)
	good := read(t, path)
	keygen := func(args ...string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			mustSSHKeygen(t, nil, append(args, "-q", "-f", path)...)
		}
	}
	file := func(data []byte, mode os.FileMode) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { write(t, path, data, mode) }
	}
	for what, c := range map[string]struct {
		make func(t *testing.T, path string)
		says string
	}{
		"group may read":    {file(good, 0o640), "chmod 600"},
		"group may write":   {file(good, 0o620), "chmod 600"},
		"others may read":   {file(good, 0o604), "chmod 600"},
		"others may write":  {file(good, 0o602), "chmod 600"},
		"encrypted":         {keygen("-t", "ed25519", "-N", "secret"), "systemd credential"},
		"RSA":               {keygen("-t", "rsa", "-b", "2048", "-N", ""), "ssh-keygen -t ed25519"},
		"ECDSA":             {keygen("-t", "ecdsa", "-N", ""), "ssh-keygen -t ed25519"},
		"RSA in PEM":        {keygen("-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""), "ssh-keygen -t ed25519"},
		"encrypted PEM":     {keygen("-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret"), "systemd credential"},
		"a public key":      {file(read(t, path+".pub"), 0o600), "no private key"},
		"cut":               {file(good[:len(good)/2], 0o600), "no private key"},
		"empty":             {file(nil, 0o600), "no private key"},
		"huge":              {file(bytes.Repeat([]byte("x"), 1<<20), 0o600), "larger than"},
		"a folder":          {func(t *testing.T, path string) { _ = os.Mkdir(path, 0o700) }, "no regular file"},
		"another public":    {file(otherHalf(t, good), 0o600), "damaged"},
		"comment of 2 rows": {file(bytesInside(t, good, station, "NMQ\n01"), 0o600), "ssh-keygen -c"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key")
			c.make(t, path)
			key, err := stationkey.Load(path)
			if err == nil || key != nil {
				t.Fatalf("loaded %v", key)
			}
			if errors.Is(err, stationkey.ErrNone) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not say %q and the file: %v", c.says, err)
			}
		})
	}
	_, err := stationkey.Load(filepath.Join(t.TempDir(), "key"))
	if !errors.Is(err, stationkey.ErrNone) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// systemd shows a credential to the service's user by an access list, whose mask
// is the group bit.
func TestCredentialsMayBeReadByTheirGroup(t *testing.T) {
	_, path := create(t)
	good := read(t, path)
	credentials, elsewhere := t.TempDir(), t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	load := func(mode os.FileMode, dir string) error {
		path := filepath.Join(dir, "key")
		_ = os.Remove(path) // the one before may be read-only
		write(t, path, good, mode)
		_, err := stationkey.Load(path)
		return err
	}
	if err := load(0o400, credentials); err != nil {
		t.Error(err)
	}
	if os.Getuid() == 0 { // as systemd owns them
		if err := load(0o440, credentials); err != nil {
			t.Error(err)
		}
	} else if load(0o440, credentials) == nil {
		t.Error("it took a file with a group that is not of root")
	}
	for _, mode := range []os.FileMode{0o444, 0o460, 0o450, 0o404} {
		if load(mode, credentials) == nil {
			t.Errorf("it took a credential of mode %04o", mode)
		}
	}
	below := filepath.Join(credentials, "below")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{elsewhere, below} {
		if load(0o440, dir) == nil {
			t.Errorf("it took %s of mode 0440, which is not in the folder of credentials", dir)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if load(0o440, credentials) == nil {
		t.Error("it took mode 0440 though there are no credentials")
	}
	if os.Getuid() == 0 {
		t.Setenv("CREDENTIALS_DIRECTORY", credentials)
		write(t, filepath.Join(credentials, "key"), good, 0o440)
		if err := os.Chown(filepath.Join(credentials, "key"), 65534, 65534); err != nil {
			t.Skipf("this user namespace can give a file to nobody else: %v", err)
		}
		if _, err := stationkey.Load(filepath.Join(credentials, "key")); err == nil {
			t.Error("it took a credential that is not of root, with a group")
		}
	}
}

func TestNoVerbShowsThePrivateHalf(t *testing.T) {
	t.Parallel()
	key, path := create(t)
	seed := seedOf(t, read(t, path))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for what, v := range map[string]any{"pointer": key, "value": *key, "pointer inside": struct{ k *stationkey.Key }{key}, "value inside": struct{ k stationkey.Key }{*key}} {
			shown := strings.ToLower(fmt.Sprintf(verb, v))
			numbers := strings.Trim(fmt.Sprintf("%d", seed[:4]), "[]") // as %v and %d show bytes
			goSyntax := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", seed[:4]), "[]byte{"), "}")
			if strings.Contains(shown, hex.EncodeToString(seed[:4])) || strings.Contains(shown, numbers) || strings.Contains(shown, goSyntax) {
				t.Errorf("%s of a %s shows it: %s", verb, what, shown)
			}
			if !strings.HasSuffix(what, "inside") && !strings.Contains(shown, strings.ToLower(key.Fingerprint())) {
				t.Errorf("%s of a %s does not show the fingerprint: %s", verb, what, shown)
			}
		}
	}
}
