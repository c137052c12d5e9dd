package configs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/configs"
)

func TestReadCredentials(t *testing.T) {
	const valid = "access_key: AKIA\nsecret_key: a/b+c=d:e\n"
	tests := map[string]struct {
		text string
		mode os.FileMode
		want string // problem, FILE for the file; empty when the keys are read
	}{
		"colon":        {valid, 0o600, ""},
		"equals":       {"# the store\n\naccess_key=AKIA\r\nsecret_key = 'a/b+c=d:e'", 0o400, ""},
		"group reads":  {valid, 0o640, ""},
		"others read":  {valid, 0o644, "FILE has mode 0644 and is open to other users: chmod 0600 FILE"},
		"group writes": {valid, 0o660, "FILE has mode 0660 and is open to other users: chmod 0600 FILE"},
		"no secret":    {"access_key: hush\n", 0o600, "FILE: secret_key is missing"},
		"no access":    {"secret_key: hush\n", 0o600, "FILE: access_key is missing"},
		"empty":        {"", 0o600, "FILE: access_key is missing"},
		"stray":        {"access_key: hush\nhush\n", 0o600, "FILE: line 2 is neither access_key: … nor secret_key: …"},
		"twice":        {"access_key: hush\naccess_key: hush\n", 0o600, "FILE: line 2 sets its key a second time"},
		"space":        {"access_key: hush hush\n", 0o600, "FILE: line 1 has a space or a character outside ASCII in its key"},
		"huge":         {strings.Repeat("#\n", 40<<10), 0o600, "FILE is larger than 65536 bytes; this is not a file with keys"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "s3")
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, test.mode); err != nil {
				t.Fatal(err)
			}
			cfg := configs.Default()
			cfg.Storage.S3.CredentialsFile = file
			checkCredentials(t, cfg, file, test.want)

			cfg.Storage.S3.CredentialsFile = ""
			t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(file))
			checkCredentials(t, cfg, file, test.want)
		})
	}
}

func checkCredentials(t *testing.T, cfg *configs.Config, file, want string) {
	t.Helper()
	accessKey, secretKey, err := configs.ReadCredentials(cfg)
	if want != "" {
		checkProblems(t, err, file, "storage.s3.credentials_file: "+want)
		if strings.Contains(err.Error(), "hush") || accessKey+secretKey != "" {
			t.Errorf("a secret gets out: %q %q %v", accessKey, secretKey, err)
		}
		return
	}
	if err != nil || accessKey != "AKIA" || secretKey != "a/b+c=d:e" {
		t.Errorf("%q %q %v", accessKey, secretKey, err)
	}
}

func TestReadCredentialsNowhere(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	cfg := configs.Default()
	_, _, err := configs.ReadCredentials(cfg)
	checkProblems(t, err, "FILE", "storage.s3.credentials_file: is empty and there is no systemd credential s3: name a file with access_key and secret_key")

	cfg.Storage.S3.CredentialsFile = t.TempDir()
	_, _, err = configs.ReadCredentials(cfg)
	checkProblems(t, err, cfg.Storage.S3.CredentialsFile, "storage.s3.credentials_file: FILE is not a file")

	cfg.Storage.S3.CredentialsFile += "/none"
	if _, _, err = configs.ReadCredentials(cfg); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
