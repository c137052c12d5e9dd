package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

// selfTestLock is how long the objects of the self-test are locked: long enough
// for the tries to take place before it ends, on a slow store too.
const selfTestLock = 5 * time.Second

// SelfTest tries on the real bucket whether the store does what evidence needs,
// with objects that are locked for seconds below SelfTestPrefix: servers exist
// that answer 200 to a lock and delete all the same. It takes about six seconds.
// Nothing may be ingested before it has passed. Remarks are what could not be
// tried, for a person to read.
func (v *Vault) SelfTest(ctx context.Context) (remarks []string, err error) {
	t := selfTest{v: v, key: SelfTestPrefix + rand.Text(), until: ceilSecond(v.storeNow().Add(selfTestLock))}
	if err := t.run(ctx); err != nil {
		return t.remarks, fmt.Errorf("lock self-test on bucket %s: %w", v.cfg.Bucket, err)
	}
	return t.remarks, nil
}

type selfTest struct {
	v       *Vault
	key     string
	version string
	until   time.Time
	held    bool
	remarks []string
}

func (t *selfTest) run(ctx context.Context) error {
	steps := []func(context.Context) error{
		t.lockIsKept, t.writesAreCreateOnly, t.checksumsAreChecked,
		t.deleteIsRefused, t.shorteningIsRefused, t.hold,
		t.holdOutlivesTheLock, t.cleanUp,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *selfTest) put(ctx context.Context, body []byte, sum [sha256.Size]byte, onlyNew bool) (minio.UploadInfo, error) {
	opts := t.v.lockedOptions(t.until)
	opts.UserMetadata = map[string]string{"x-amz-checksum-sha256": checksumSHA256(sum).Value}
	if onlyNew {
		opts.SetMatchETagExcept("*")
	}
	return t.v.core.PutObject(ctx, t.v.cfg.Bucket, t.key, bytes.NewReader(body), int64(len(body)), "", "", opts)
}

func (t *selfTest) lockIsKept(ctx context.Context) error {
	body := []byte("ingestd lock self-test\n")
	sum := sha256.Sum256(body)
	info, err := t.put(ctx, body, sum, true)
	if err != nil {
		return fmt.Errorf("store a locked object: %w", classify(err))
	}
	t.version = info.VersionID
	_, err = t.v.confirm(ctx, t.key, t.version, int64(len(body)), checksumSHA256(sum), t.until)
	return err
}

func (t *selfTest) writesAreCreateOnly(ctx context.Context) error {
	body := []byte("another content\n")
	_, err := t.put(ctx, body, sha256.Sum256(body), true)
	switch {
	case err == nil:
		return errors.New("the store overwrote an object although If-None-Match: * was asked; it can't be used")
	case isTaken(err):
		return nil
	}
	return fmt.Errorf("write to a taken key: %w", classify(err))
}

func (t *selfTest) checksumsAreChecked(ctx context.Context) error {
	other := *t
	other.key += "-checksum"
	_, err := other.put(ctx, []byte("sent\n"), sha256.Sum256([]byte("meant\n")), true)
	switch {
	case err == nil:
		return errors.New("the store took bytes with a wrong SHA-256; it can't be used")
	case isRefusal(err):
		return nil
	}
	return fmt.Errorf("write with a wrong SHA-256: %w", classify(err))
}

func (t *selfTest) deleteIsRefused(ctx context.Context) error {
	for _, bypass := range []bool{false, true} {
		if err := t.mustRefuseDelete(ctx, bypass, "a COMPLIANCE lock"); err != nil {
			return err
		}
	}
	return nil
}

func (t *selfTest) mustRefuseDelete(ctx context.Context, bypass bool, under string) error {
	err := t.remove(ctx, bypass)
	if err != nil && !isRefusal(err) {
		return fmt.Errorf("try to delete under %s: %w", under, classify(err))
	}
	// What counts is not the answer but that the object is still there.
	if _, statErr := t.v.Stat(ctx, t.key, t.version); statErr != nil || err == nil {
		return fmt.Errorf("the store deleted an object under %s; it can't be used for footage: %w", under, ErrNoLock)
	}
	return nil
}

func (t *selfTest) remove(ctx context.Context, bypass bool) error {
	return t.v.client.RemoveObject(ctx, t.v.cfg.Bucket, t.key, minio.RemoveObjectOptions{VersionID: t.version, GovernanceBypass: bypass})
}

// isRefusal: servers differ in the code, 403, 400 or 409; all of 4xx is a no.
func isRefusal(err error) bool {
	status := answer(err).StatusCode
	return status >= 400 && status < 500 && status != http.StatusNotFound && status != http.StatusTooManyRequests
}

func (t *selfTest) shorteningIsRefused(ctx context.Context) error {
	shorter := t.until.Add(-2 * time.Second)
	mode := minio.Compliance
	err := t.v.client.PutObjectRetention(ctx, t.v.cfg.Bucket, t.key, minio.PutObjectRetentionOptions{
		Mode: &mode, RetainUntilDate: &shorter, VersionID: t.version, GovernanceBypass: true,
	})
	if err != nil && !isRefusal(err) {
		return fmt.Errorf("try to shorten a lock: %w", classify(err))
	}
	o, statErr := t.v.Stat(ctx, t.key, t.version)
	if statErr != nil {
		return statErr
	}
	if err == nil || o.RetainUntil.Before(t.until) {
		return fmt.Errorf("the store shortened a COMPLIANCE lock; it can't be used for footage: %w", ErrNoLock)
	}
	return nil
}

// hold sets a legal hold. A station's key need not be allowed to: who may set a
// hold may also release it.
func (t *selfTest) hold(ctx context.Context) error {
	err := t.setHold(ctx, minio.LegalHoldEnabled)
	if isRefusal(err) {
		t.remarks = append(t.remarks, "legal hold not tried: the station's key may not set one")
		return nil
	}
	if err != nil {
		return fmt.Errorf("set a legal hold: %w", classify(err))
	}
	t.held = true
	return nil
}

func (t *selfTest) setHold(ctx context.Context, status minio.LegalHoldStatus) error {
	return t.v.client.PutObjectLegalHold(ctx, t.v.cfg.Bucket, t.key, minio.PutObjectLegalHoldOptions{VersionID: t.version, Status: &status})
}

func (t *selfTest) holdOutlivesTheLock(ctx context.Context) error {
	if !t.held {
		return nil
	}
	wait := time.NewTimer(t.until.Sub(t.v.storeNow()) + time.Second)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := t.mustRefuseDelete(ctx, false, "a legal hold whose retention has expired"); err != nil {
		return err
	}
	if err := t.setHold(ctx, minio.LegalHoldDisabled); err != nil {
		return fmt.Errorf("release a legal hold: %w", classify(err))
	}
	return nil
}

// cleanUp removes the object where the key may; one that stays does no harm.
func (t *selfTest) cleanUp(ctx context.Context) error {
	if !t.held {
		return nil
	}
	if err := t.remove(ctx, false); err != nil && !isRefusal(err) {
		return fmt.Errorf("remove the object of the self-test: %w", classify(err))
	}
	return nil
}
