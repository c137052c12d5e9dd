package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/minio/minio-go/v7"
)

// errNoVersion refuses a hold on, or a question about, whatever is current.
var errNoVersion = errors.New("no version is named, and what is current now need not be the footage that was meant: take the version id from the manifest")

// SetHold puts a legal hold (保全) on one named version, or lifts it, and looks
// afterwards whether the store shows what was asked. While it stands nobody can
// delete the version, whether or not its lock has ended. To set what is set, or lift
// what is not there, is no error. Who may do so, and why, is for the caller to decide
// and to record; the station's own key may not (configs/policies).
func (v *Vault) SetHold(ctx context.Context, key, version string, on bool) error {
	what, status := "lift the hold on", minio.LegalHoldDisabled
	if on {
		what, status = "hold", minio.LegalHoldEnabled
	}
	if version == "" {
		return fmt.Errorf("%s %s: %w", what, key, errNoVersion)
	}
	err := v.client.PutObjectLegalHold(ctx, v.cfg.Bucket, key, minio.PutObjectLegalHoldOptions{VersionID: version, Status: &status})
	if err != nil {
		return fmt.Errorf("%s %s (version %s): %w", what, key, version, classifyOf(version, err))
	}
	// An answer to a PUT is a promise. What HEAD shows is what an auditor sees; that it
	// shows none is believed only where the store says so too when it is asked.
	o, err := v.Stat(ctx, key, version)
	if err == nil {
		var held bool
		held, err = v.Held(ctx, key, version)
		switch {
		case err != nil:
		case on && (!held || !o.Held):
			err = fmt.Errorf("the store said yes and does not show the hold; it can be deleted when its lock ends: %w", ErrNoLock)
		case !on && (held || o.Held):
			err = fmt.Errorf("the store said yes and still shows the hold: %w", ErrHeld)
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s (version %s): look whether it is done: %w", what, key, version, err)
	}
	return nil
}

// Held asks the store whether a legal hold is on one named version. False is what the
// store said in so many words: whatever else it answers is an error, also that the
// key may not know (s3:GetObjectLegalHold). HEAD can't tell these apart, it leaves the
// header out (AWS, HeadObject, x-amz-object-lock-legal-hold).
func (v *Vault) Held(ctx context.Context, key, version string) (bool, error) {
	if version == "" {
		return false, fmt.Errorf("ask for a hold on %s: %w", key, errNoVersion)
	}
	status, err := v.client.GetObjectLegalHold(ctx, v.cfg.Bucket, key, minio.GetObjectLegalHoldOptions{VersionID: version})
	if answer(err).Code == "NoSuchObjectLockConfiguration" { // AWS with 404, MinIO and versitygw with 400
		return false, nil // it never had one
	}
	if err != nil {
		return false, fmt.Errorf("ask for a hold on %s (version %s): %w", key, version, classifyOf(version, err))
	}
	switch *status {
	case minio.LegalHoldEnabled:
		return true, nil
	case minio.LegalHoldDisabled:
		return false, nil
	}
	return false, fmt.Errorf("ask for a hold on %s (version %s): the store answers %q, neither ON nor OFF", key, version, *status)
}
