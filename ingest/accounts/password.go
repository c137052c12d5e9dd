package accounts

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// MinPassword is how many characters a password has at least, maxPassword how many
// bytes at most.
const (
	MinPassword = 12
	maxPassword = 1024
)

// ErrPassword is a password that can't be one.
var ErrPassword = fmt.Errorf("a password has at least %d characters", MinPassword)

// cost is what a hash takes. It is written in each: what is raised here later leaves
// the older ones valid.
type cost struct {
	memory uint32 // KiB
	time   uint32
	lanes  uint8
}

// present is 64 MiB, three passes, two lanes: about a tenth of a second of one core.
var present = cost{64 << 10, 3, 2}

const (
	saltSize = 16
	hashSize = 32
)

// CheckPassword tells why a password is none that an account may have.
func CheckPassword(password string) error {
	switch {
	case utf8.RuneCountInString(password) < MinPassword:
		return ErrPassword
	case len(password) > maxPassword || !utf8.ValidString(password):
		return fmt.Errorf("a password has at most %d bytes, of UTF-8", maxPassword)
	}
	return nil
}

func hashPassword(password string) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	sum := argon(password, salt, present)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, present.memory, present.time, present.lanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum)), nil
}

func argon(password string, salt []byte, c cost) []byte {
	return argon2.IDKey([]byte(password), salt, c.time, c.memory, c.lanes, hashSize)
}

// nobody is the hash of a password that nobody has: what is tried for an account that
// there is not takes as long.
var nobody = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, present.memory, present.time, present.lanes,
	base64.RawStdEncoding.EncodeToString(make([]byte, saltSize)), base64.RawStdEncoding.EncodeToString(make([]byte, hashSize)))

// matches tells whether a password is that of a hash.
func matches(hash, password string) (bool, error) {
	c, salt, want, err := parseHash(hash)
	if err != nil {
		return false, err
	}
	if len(password) > maxPassword {
		password = password[:maxPassword+1] // is nobody's, and costs no more than others
	}
	return subtle.ConstantTimeCompare(argon(password, salt, c), want) == 1, nil
}

// parseHash reads a PHC string. It refuses what would cost far more than what is
// written here: the journal is a file.
func parseHash(hash string) (c cost, salt, sum []byte, err error) {
	parts := strings.Split(hash, "$")
	bad := errors.New("the hash of the password is not readable: set the password anew, ingestd user passwd")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, bad
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.time, &c.lanes); err != nil || n != 3 {
		return c, nil, nil, bad
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	sum, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2); err != nil || len(salt) < saltSize || len(sum) != hashSize ||
		c.memory > 1<<20 || c.time == 0 || c.time > 16 || c.lanes == 0 {
		return c, nil, nil, bad
	}
	return c, salt, sum, nil
}
