package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/storage/policy"
)

// consoleDesk is where accounts of the console give orders, by the settings in force. Who
// may is decided by the role of the account.
func (r *running) consoleDesk() *custody.Desk {
	d := r.workplace.desk(r.station)
	retention := r.retention.Load()
	d.Policy, d.Months, d.TwoPersons = retention.Rules(), retention.Months, r.twoPersons.Load()
	return d
}

// retentionFile is the retention file as the console changes it.
type retentionFile struct{ *running }

// InForce implements console.Retention.
func (r retentionFile) InForce() (*policy.Policy, string) {
	retention := r.retention.Load()
	return retention.Rules(), retention.Policy
}

// Save implements console.Retention: the file is there whole or as it was, and what can't
// be taken over does not stay.
func (r retentionFile) Save(ctx context.Context, text []byte) error {
	file, err := filepath.EvalSymlinks(r.retention.Load().Policy)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	before, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if onDisk, err := policy.Parse(file, before); err != nil || onDisk.Digest() != r.retention.Load().Rules().Digest() {
		return errors.Join(errors.New("the file was changed on the machine and is not in force: have it loaded first (systemctl reload ingestd), and open this page again"), err)
	}
	if err := replaceFile(file, text, info.Mode().Perm()); err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			return fmt.Errorf("%w: the daemon may not write it: put the file into state_dir and name it there in retention.policy, or change it on the machine", err)
		}
		return err
	}
	if err := r.reloadNow(ctx); err != nil {
		return errors.Join(fmt.Errorf("it was not taken over, and is as it was: %w", err), replaceFile(file, before, info.Mode().Perm()))
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, text) {
		return errors.Join(errors.New("somebody else has changed the file in this moment: look which is in force"), err)
	}
	return nil
}
