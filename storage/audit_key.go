package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// auditLock is how long the objects are locked on which the key is tried: long
// enough for a slow store, so that no lock ends before the try is over.
const auditLock = time.Minute

// tries is what has come of the tries of one audit.
type tries struct {
	may     []string // what the key may do and should not
	unknown []string // what could not be tried, and why
}

// key tries what the station's key may do beyond its work. Nothing here can
// harm if it succeeds: objects are made for it, below the prefix of the
// self-test, and settings are put back as they are.
func (r *auditor) key(ctx context.Context) {
	if !r.a.TryKey {
		r.found(Finding{
			Check: CheckStationKey, Severity: SeverityNote, NotChecked: true,
			What: "What else the station's key may do was not tried.",
			Why:  "A key that can weaken the bucket is a way to lose footage, for whoever steals it (第十三条(二)).",
			Mend: "Run the audit once with tries.",
		})
		return
	}
	object, ok := r.lockHolds(ctx)
	if !ok {
		return
	}
	var t tries
	r.tryDelete(ctx, &t, object)
	r.tryBypass(ctx, &t)
	for _, s := range []struct{ name, action string }{
		{"object-lock", "change the lock configuration (s3:PutBucketObjectLockConfiguration)"},
		{"policy", "change the bucket policy (s3:PutBucketPolicy)"},
		{"lifecycle", "set lifecycle rules that expire objects (s3:PutLifecycleConfiguration)"},
		{"versioning", "change versioning (s3:PutBucketVersioning)"},
	} {
		if s.name == "versioning" && r.embedded() {
			continue // it takes Enabled, which is true anyway, and nothing else
		}
		r.trySetting(ctx, &t, s.name, s.action)
	}
	r.rights(t)
}

// lockHolds tries to delete a locked object and to shorten its lock, as the
// self-test does.
func (r *auditor) lockHolds(ctx context.Context) (*selfTest, bool) {
	t := &selfTest{v: r.v, key: SelfTestPrefix + "audit-" + rand.Text(), until: ceilSecond(r.v.storeNow().Add(auditLock))}
	err := t.lockIsKept(ctx)
	if err == nil {
		err = errors.Join(t.deleteIsRefused(ctx), t.shorteningIsRefused(ctx))
	}
	switch {
	case err == nil:
		return t, true
	case errors.Is(err, ErrNoLock):
		r.found(Finding{
			Check: CheckLockHolds, Severity: SeverityError,
			What:   "The store did not keep the lock of an object that was made to try it.",
			Why:    "Footage there can be deleted before six months have passed (第十一条, 第十三条(四)).",
			Mend:   "Ingest nothing into this store. Run ingestd's self-test on it, and choose another store if it fails: README.md names those that pass.",
			Detail: err.Error(),
		})
		return nil, false
	}
	r.notChecked(CheckLockHolds, "Whether a locked object resists the station's key", err)
	r.notChecked(CheckStationKey, "What else the station's key may do", err)
	return nil, false
}

// tryDelete deletes without a version, which makes a delete marker over the
// object of the try, and a version that does not exist: the id is of another key.
func (r *auditor) tryDelete(ctx context.Context, t *tries, o *selfTest) {
	b := r.bucket()
	err := r.v.client.RemoveObject(ctx, b, o.key, minio.RemoveObjectOptions{})
	t.note("hide objects behind delete markers (s3:DeleteObject)", err)
	if err == nil {
		r.removeMarkers(ctx, t, o.key)
	}
	err = r.v.client.RemoveObject(ctx, b, o.key+"-none", minio.RemoveObjectOptions{VersionID: o.version})
	t.note("delete versions whose lock has ended (s3:DeleteObjectVersion)", err)
}

// removeMarkers takes back the marker that a try has made. One that stays hides
// nothing but the object of the try.
func (r *auditor) removeMarkers(ctx context.Context, t *tries, key string) {
	for version, err := range r.v.List(ctx, key) {
		if err == nil && version.DeleteMarker {
			err = r.v.client.RemoveObject(ctx, r.bucket(), version.Key, minio.RemoveObjectOptions{VersionID: version.VersionID})
		}
		if err != nil {
			t.unknown = append(t.unknown, fmt.Sprintf("take back the delete marker on %s, which stays: %v", key, err))
			return
		}
	}
}

// tryBypass needs an object under GOVERNANCE, the only mode that can be
// bypassed. A key that may not make one, or a store that makes it COMPLIANCE,
// has nothing to be bypassed.
func (r *auditor) tryBypass(ctx context.Context, t *tries) {
	const right = "bypass GOVERNANCE locks (s3:BypassGovernanceRetention)"
	b, key, body := r.bucket(), SelfTestPrefix+"audit-governance-"+rand.Text(), []byte("ingestd audit\n")
	opts := r.v.lockedOptions(ceilSecond(r.v.storeNow().Add(auditLock)))
	opts.Mode = minio.Governance
	opts.SendContentMd5 = true // with a lock, S3 wants some checksum
	info, err := r.v.core.PutObject(ctx, b, key, bytes.NewReader(body), int64(len(body)), "", "", opts)
	if err != nil {
		t.unknown = append(t.unknown, right+": the key can't make a GOVERNANCE lock to try it on: "+err.Error())
		return
	}
	err = r.v.client.RemoveObject(ctx, b, key, minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: true})
	if _, statErr := r.v.Stat(ctx, key, info.VersionID); err == nil && statErr == nil {
		return // it said yes and kept it
	}
	t.note(right, err)
}

// trySetting puts a setting back in the very bytes in which it was read, and
// looks whether it is still the same.
func (r *auditor) trySetting(ctx context.Context, t *tries, name, right string) {
	before, err := r.settings.get(ctx, name)
	if notImplemented(err) {
		return // what a store does not have, nobody can set
	}
	if err != nil {
		t.unknown = append(t.unknown, right+": it can't be read, so it can't be put back: "+err.Error())
		return
	}
	err = r.settings.putBack(ctx, name, before)
	t.note(right, err)
	if err != nil {
		return
	}
	after, err := r.settings.get(ctx, name)
	if err == nil && bytes.Equal(after.body, before.body) {
		return
	}
	r.found(Finding{
		Check: CheckStationKey, Severity: SeverityError,
		What:   fmt.Sprintf("The setting %s of the bucket is not as it was before the audit put it back.", name),
		Why:    "The audit writes the same bytes that it has read. Either somebody changed the setting in that moment, or the store stores something else than it is given (第十三条(二)).",
		Mend:   "Compare the setting with what it should be, and set it again.",
		Detail: fmt.Sprintf("before: %s after: %s %v", before.body, after.body, err),
	})
}

// note sorts the answer to a try. Only 403 says that the key may not: other
// refusals may be of this one request, and 404 comes after the right was given.
func (t *tries) note(right string, err error) {
	status := answer(err).StatusCode
	switch {
	case err == nil, status == http.StatusNotFound:
		t.may = append(t.may, right)
	case status == http.StatusForbidden, notImplemented(err):
	default:
		t.unknown = append(t.unknown, right+": "+err.Error())
	}
}

func (r *auditor) rights(t tries) {
	if len(t.may) > 0 {
		f := Finding{
			Check: CheckStationKey, Severity: SeverityWarning,
			What:   "The station's key may do more than a station needs: " + strings.Join(t.may, "; ") + ".",
			Why:    "No right breaks a COMPLIANCE lock. But whoever steals this key from the station can hide footage, prepare its loss for the day on which the lock ends, and delete what has expired without a plan (第十一条, 第十三条(二)). The root key of a server has these rights by nature.",
			Mend:   "Make a lesser key, as configs/policies/README.md shows: mc admin policy create ALIAS station station-minio.json; mc admin user add ALIAS station-1; mc admin policy attach ALIAS station --user station-1; then put that key into storage.s3.credentials_file.",
			Detail: strings.Join(t.may, "\n"),
		}
		if r.embedded() {
			f.Severity = SeverityNote
			f.Why = "The embedded store has one key by nature, and refuses by itself to shorten a lock, to hide an object and to change its settings. Who is root on this machine needs no key at all (第十三条(二))."
			f.Mend = "Nothing, as long as the store's folder and this machine are closed to others."
		}
		r.found(f)
	}
	if len(t.unknown) > 0 {
		r.found(Finding{
			Check: CheckStationKey, Severity: SeverityNote, NotChecked: true,
			What:   fmt.Sprintf("%d rights of the station's key could not be tried.", len(t.unknown)),
			Why:    "There was no harmless way to try them, or the store's answer leaves it open. The key may have them (第十三条(二)).",
			Mend:   "Compare the policy of the key with configs/policies/: mc admin policy info ALIAS station; on AWS: aws iam simulate-principal-policy.",
			Detail: strings.Join(t.unknown, "\n"),
		})
	}
}
