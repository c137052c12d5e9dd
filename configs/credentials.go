package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	credentialName     = "s3"     // in $CREDENTIALS_DIRECTORY
	maxCredentialsSize = 64 << 10 // bytes
)

// ReadCredentials reads the keys of the S3 store from
// storage.s3.credentials_file or, when that is empty, from the systemd
// credential s3. They stay out of Config so that nothing which shows or logs
// settings can show them. Call it only when storage.kind is s3. The error is an
// *Error and never holds a part of the file.
func ReadCredentials(cfg *Config) (accessKey, secretKey string, err error) {
	accessKey, secretKey, err = readCredentials(cfg.Storage.S3.CredentialsFile)
	if err != nil {
		const key = "storage.s3.credentials_file"
		from := cfg.origin(key)
		return "", "", &Error{File: cfg.file, Problems: []Problem{{
			Key: key, Line: from.line, Source: from.source, Text: err.Error(), cause: err,
		}}}
	}
	return accessKey, secretKey, nil
}

// ReadCredentialsFile reads the keys from a file of the same form, which the settings
// do not name: those of a person, for what the station's own may not do.
func ReadCredentialsFile(path string) (accessKey, secretKey string, err error) {
	if path == "" {
		return "", "", errors.New("no file with keys is named")
	}
	if accessKey, secretKey, err = readCredentials(path); err != nil {
		return "", "", fmt.Errorf("the keys in %s: %w", path, err)
	}
	return accessKey, secretKey, nil
}

func readCredentials(path string) (accessKey, secretKey string, err error) {
	if path == "" {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", "", errors.New("is empty and there is no systemd credential s3: name a file with access_key and secret_key")
		}
		path = filepath.Join(dir, credentialName)
	}
	data, err := readClosed(path)
	if err != nil {
		return "", "", err
	}
	if accessKey, secretKey, err = parseCredentials(data); err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	return accessKey, secretKey, nil
}

// readClosed reads a file with a secret, which must be closed to other users.
func readClosed(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of the open file: what is checked is what is read
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	case mode.Perm()&0o027 != 0:
		// The group may read: the file is often root's with the daemon's group,
		// and the ACL of a systemd credential shows as a group bit.
		return nil, fmt.Errorf("%s has mode %04o and is open to other users: chmod 0600 %[1]s", path, mode.Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCredentialsSize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(data) > maxCredentialsSize {
		return nil, fmt.Errorf("%s is larger than %d bytes; this is not a file with keys", path, maxCredentialsSize)
	}
	return data, nil
}

// parseCredentials reads lines name: value or name=value. It is no YAML parser
// because the messages of one may quote the secret.
func parseCredentials(data []byte) (accessKey, secretKey string, err error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || line == "---" {
			continue
		}
		target := &accessKey
		at := strings.IndexAny(line, ":=")
		switch name := strings.TrimSpace(line[:max(at, 0)]); name {
		case "access_key":
		case "secret_key":
			target = &secretKey
		default:
			return "", "", fmt.Errorf("line %d is neither access_key: … nor secret_key: …", i+1)
		}
		if *target != "" {
			return "", "", fmt.Errorf("line %d sets its key a second time", i+1)
		}
		*target = unquote(strings.TrimSpace(line[at+1:]))
		if strings.ContainsFunc(*target, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", "", fmt.Errorf("line %d has a space or a character outside ASCII in its key", i+1)
		}
	}
	if accessKey == "" {
		return "", "", errors.New("access_key is missing")
	}
	if secretKey == "" {
		return "", "", errors.New("secret_key is missing")
	}
	return accessKey, secretKey, nil
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
