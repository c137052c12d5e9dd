package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device/staging"
)

// stagingCredential is the name of the systemd credential with the key.
const stagingCredential = "staging"

// openStaging opens the staging folder of the settings; nil where there is none.
func openStaging(c *configs.Config) (*staging.Dir, error) {
	if c.Staging.Dir == "" {
		return nil, nil
	}
	key, err := stagingKey(c.Staging.KeyFile)
	if err != nil {
		return nil, exitError{exitConfig, fmt.Errorf("staging.key_file: %w", err)}
	}
	dir, err := staging.Open(c.Staging.Dir, key)
	switch {
	case errors.Is(err, staging.ErrLocked):
		return nil, exitError{exitLocked, err}
	case err != nil:
		return nil, fmt.Errorf("staging.dir: %w", err)
	}
	dir.Reserve = int64(c.Staging.Reserve)
	return dir, nil
}

// stagingKey reads the key, and makes one where the file is not there yet.
func stagingKey(path string) (staging.Key, error) {
	if path == "" {
		return staging.ReadCredential(stagingCredential)
	}
	key, err := staging.ReadKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return staging.NewKeyFile(path)
	}
	return key, err
}
