package staging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// ErrKeyTooOpen says that others on this machine can read the key file, so that
// encrypting with it would protect nothing.
var ErrKeyTooOpen = errors.New("others than its owner can read or write the key file: `chmod 600` it, and think about making a new key")

// keyFileLimit is far above any key file; what is larger is something else.
const keyFileLimit = 64 << 10

// Key encrypts and decrypts staged copies. It holds one or more age X25519
// identities: the first encrypts, all of them decrypt, so that a key can be
// replaced while copies under the old one still wait. The zero Key is of no use.
type Key struct {
	identities []*age.X25519Identity
}

// NewKeyFile makes a key and writes it to path with mode 0600, in the format of
// age-keygen. It never replaces a file: where there is one the error is
// fs.ErrExist. When it returns nil the file and its name are durable. Whoever
// loses the file loses what is staged with it.
func NewKeyFile(path string) (_ Key, err error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return Key{}, fmt.Errorf("make staging key %s: %w", path, err)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".staging-key-*") // made with 0600
	if err != nil {
		return Key{}, fmt.Errorf("make staging key %s: %w", path, err)
	}
	defer func() {
		if removed := os.Remove(f.Name()); removed != nil {
			err = errors.Join(err, fmt.Errorf("a copy of the staging key stays behind, remove it: %w", removed))
		}
	}()
	_, err = fmt.Fprintf(f, "# created: %s\n# public key: %s\n%s\n", time.Now().Format(time.RFC3339), identity.Recipient(), identity)
	if err == nil {
		err = f.Sync()
	}
	// A link does not replace what is there, as a rename would, and the name
	// never stands for half a key.
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), path)
	}
	if err == nil {
		err = syncFolder(dir)
	}
	if err != nil {
		return Key{}, fmt.Errorf("make staging key %s: %w", path, err)
	}
	return Key{identities: []*age.X25519Identity{identity}}, nil
}

// ReadKeyFile reads a key file as NewKeyFile or age-keygen writes it. With
// ErrKeyTooOpen it refuses one that others can read.
func ReadKeyFile(path string) (Key, error) {
	return readKey(path, 0o077)
}

// ReadCredential reads the key from the credential of that name which systemd
// hands to the service (LoadCredential=, LoadCredentialEncrypted=). Its group bits
// are those of an access list that systemd sets for the service's user, so only a
// file that everybody can read is refused.
func ReadCredential(name string) (Key, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return Key{}, fmt.Errorf("read staging key from credential %q: systemd hands no credentials to this process: set LoadCredential= in its unit", name)
	}
	if name == "" || name != filepath.Base(name) {
		return Key{}, fmt.Errorf("read staging key: %q is no name of a credential", name)
	}
	return readKey(filepath.Join(dir, name), 0o007)
}

func readKey(path string, tooOpen os.FileMode) (Key, error) {
	// O_NONBLOCK: a FIFO of that name must not hold the program up.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Key{}, fmt.Errorf("read staging key: %w", err)
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	switch {
	case err != nil:
		return Key{}, fmt.Errorf("read staging key %s: %w", path, err)
	case !info.Mode().IsRegular():
		return Key{}, fmt.Errorf("read staging key %s: it is no regular file", path)
	case info.Mode().Perm()&tooOpen != 0:
		return Key{}, fmt.Errorf("read staging key %s, mode %04o: %w", path, info.Mode().Perm(), ErrKeyTooOpen)
	}
	text, err := io.ReadAll(io.LimitReader(f, keyFileLimit+1))
	if err == nil && len(text) > keyFileLimit {
		err = errors.New("it is too large for a key file")
	}
	if err != nil {
		return Key{}, fmt.Errorf("read staging key %s: %w", path, err)
	}
	key, err := parseKey(text)
	if err != nil {
		return Key{}, fmt.Errorf("read staging key %s: %w", path, err)
	}
	return key, nil
}

func parseKey(text []byte) (Key, error) {
	all, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return Key{}, err
	}
	var key Key
	for _, one := range all {
		identity, ok := one.(*age.X25519Identity)
		if !ok {
			return Key{}, errors.New("it holds a key of another kind than X25519: make one with `age-keygen`")
		}
		key.identities = append(key.identities, identity)
	}
	return key, nil
}

// Recipient is the public half of the key that encrypts: age1…. It is no secret,
// but it is not written to the staging disk: without it nobody who has only the
// disk can make up a copy.
func (k Key) Recipient() string {
	if len(k.identities) == 0 {
		return ""
	}
	return k.identities[0].Recipient().String()
}

// String is the public half, so that no log ever shows the secret one.
func (k Key) String() string { return "staging key " + k.Recipient() }

// GoString is String: %#v must not show the secret either.
func (k Key) GoString() string { return k.String() }

func (k Key) encrypt(to io.Writer) (io.WriteCloser, error) {
	return age.Encrypt(to, k.identities[0].Recipient())
}

// all are the identities as the library asks for them.
func (k Key) all() []age.Identity {
	all := make([]age.Identity, len(k.identities))
	for i, identity := range k.identities {
		all[i] = identity
	}
	return all
}
