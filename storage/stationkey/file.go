package stationkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// ErrNone says that there is no key file. Make a new one only where the station
// never had a key: with another one nobody trusts it. It wraps [fs.ErrNotExist].
var ErrNone = fmt.Errorf("there is no station key: %w", fs.ErrNotExist)

// publicSuffix is what ssh-keygen adds for the public half.
const publicSuffix = ".pub"

// maxKeyFileBytes is far above any key file; what is larger is something else.
const maxKeyFileBytes = 64 << 10

// Create makes a key and writes it to path in the OpenSSH format, unencrypted,
// with mode 0600, and its public half to path.pub with mode 0644. The comment is
// for people, for example the station's id. Neither file is ever replaced: where
// one is, the error wraps [fs.ErrExist]. When Create returns a key, both files
// and their names are durable; when it returns an error, it has left nothing, or
// the error says what.
func Create(path, comment string) (_ *Key, err error) {
	var made []string // what a failure must not leave
	defer func() {
		if err == nil {
			return
		}
		for _, name := range made {
			if gone := os.Remove(name); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, fmt.Errorf("a file of the failed key stays behind, remove it: %w", gone))
			}
		}
		err = fmt.Errorf("make station key %s: %w", path, err)
	}()
	if err := checkComment(comment); err != nil {
		return nil, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key := newKey(private, comment)
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	for _, file := range []struct {
		path string
		data []byte
		mode os.FileMode
	}{
		{path, pem.EncodeToMemory(block), 0o600},
		{path + publicSuffix, []byte(key.AuthorizedKey() + "\n"), 0o644},
	} {
		// 1. The file is whole and on the disk, under a name that nobody
		//    reads. A crash leaves .stationkey-*, a key that no one has used.
		temp, err := os.CreateTemp(dir, ".stationkey-*") // made with 0600
		if err != nil {
			return nil, err
		}
		made = append(made, temp.Name())
		if err := fill(temp, file.data, file.mode); err != nil {
			return nil, err
		}
		// 2. It has its name. A link fails where a file is, like O_EXCL, and
		//    the name never stands for half a key. A crash between the two
		//    files leaves a key without its .pub, which Load takes.
		if err := link(temp.Name(), file.path); err != nil {
			return nil, err
		}
		made = append(made, file.path)
		if err := os.Remove(temp.Name()); err != nil {
			return nil, err
		}
	}
	// 3. The names are durable.
	if err := syncFolder(dir); err != nil {
		return nil, err
	}
	return key, nil
}

func link(from, to string) error {
	err := os.Link(from, to)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and is never replaced, old signatures may need it: choose another name: %w", to, err)
	}
	return err
}

// fill writes, makes durable and closes.
func fill(f *os.File, data []byte, mode os.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Load reads the key that [Create] or `ssh-keygen -t ed25519 -N ""` made. It
// refuses a file that group or others can read or write, one that is encrypted,
// and one that holds no sound Ed25519 key; the error says what to do. Where there
// is no file it is [ErrNone].
//
// In $CREDENTIALS_DIRECTORY a file of root that its group may read is taken: that
// bit is the mask of the access list by which systemd lets the service's user in.
func Load(path string) (*Key, error) {
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load station key %s: %w", path, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("load station key %s: %w", path, err)
	}
	key, err := parsePrivate(data)
	if err != nil {
		return nil, fmt.Errorf("load station key %s: %w", path, err)
	}
	return key, nil
}

func readPrivate(path string) ([]byte, error) {
	// O_NONBLOCK: a FIFO of that name must not hold the station up.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()            // of the open file: what is checked is what is read
	if err != nil {
		return nil, err
	}
	mode := info.Mode()
	if !mode.IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	tooOpen := os.FileMode(0o077)
	if byRoot(info) && isCredential(path) {
		tooOpen = 0o037
	}
	if mode.Perm()&tooOpen != 0 {
		return nil, fmt.Errorf("others than its owner can read or write it, its mode is %04o: `chmod 600` it, and hand over to a new key if someone may have read it", mode.Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1))
	if err == nil && len(data) > maxKeyFileBytes {
		err = fmt.Errorf("it is larger than %d bytes, so it is no key file", maxKeyFileBytes)
	}
	return data, err
}

// isCredential tells whether a file lies right in the folder of systemd's
// credentials, by whatever name that folder is reached.
func isCredential(path string) bool {
	credentials := os.Getenv("CREDENTIALS_DIRECTORY")
	if credentials == "" {
		return false
	}
	want, err := os.Stat(credentials)
	if err != nil {
		return false // then nothing more is permitted than elsewhere
	}
	got, err := os.Stat(filepath.Dir(path))
	return err == nil && os.SameFile(want, got)
}

func parsePrivate(data []byte) (*Key, error) {
	parsed, err := ssh.ParseRawPrivateKey(data)
	var encrypted *ssh.PassphraseMissingError
	if errors.As(err, &encrypted) {
		return nil, errors.New("it is encrypted, and nobody is there to type a passphrase when the station starts: " +
			"take the passphrase off with `ssh-keygen -p` and give the key as a systemd credential (LoadCredentialEncrypted=)")
	}
	if err != nil {
		return nil, fmt.Errorf("it is no private key in the OpenSSH format: take it from its backup: %w", err)
	}
	found, ok := parsed.(*ed25519.PrivateKey) // a pointer only from the OpenSSH format
	if !ok {
		return nil, fmt.Errorf("it is no Ed25519 key in the OpenSSH format but a %T: make one with `ssh-keygen -t ed25519`", parsed)
	}
	// The file holds the public half beside the seed, and the parser believes it.
	// With a wrong half every signature would be worthless, and two such
	// signatures of one message give the private key away.
	private := ed25519.NewKeyFromSeed(found.Seed())
	if !private.Equal(*found) {
		return nil, errors.New("it is damaged, its public half is not that of its private half: take it from its backup")
	}
	comment, err := readComment(data)
	if err != nil {
		return nil, err
	}
	return newKey(private, comment), nil
}

// readComment finds the comment in an unencrypted key file (OpenSSH's
// PROTOCOL.key), which the library drops.
func readComment(data []byte) (string, error) {
	const magic = "openssh-key-v1\x00"
	var outer struct {
		Cipher, KDF, KDFOptions string
		Keys                    uint32
		Public, Private         []byte
	}
	var inner struct {
		Check1, Check2  uint32
		Kind            string
		Public, Private []byte
		Comment         string
		Padding         []byte `ssh:"rest"`
	}
	block, _ := pem.Decode(data)
	if block == nil || len(block.Bytes) < len(magic) {
		return "", errors.New("it is no private key in the OpenSSH format")
	}
	if err := ssh.Unmarshal(block.Bytes[len(magic):], &outer); err != nil {
		return "", fmt.Errorf("it is damaged: %w", err)
	}
	if err := ssh.Unmarshal(outer.Private, &inner); err != nil {
		return "", fmt.Errorf("it is damaged: %w", err)
	}
	if err := checkComment(inner.Comment); err != nil {
		return "", fmt.Errorf("%w: change it with `ssh-keygen -c`", err)
	}
	return inner.Comment, nil
}

func byRoot(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0
}
