package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Severity says how soon a person must act.
type Severity string

// The severities of findings.
const (
	SeverityError   Severity = "error"   // footage can be lost, hidden or seen: act now
	SeverityWarning Severity = "warning" // a fence is missing that ought to stand: act soon
	SeverityNote    Severity = "note"    // worth knowing
)

// The checks, stable strings for logs and scripts. A check may give several
// findings, or none where all is well.
const (
	CheckObjectLock       = "object_lock"       // lock is on
	CheckVersioning       = "versioning"        // versioning is Enabled
	CheckDefaultRetention = "default_retention" // of the bucket
	CheckLifecycle        = "lifecycle"         // rules that remove, hide or move objects
	CheckLifecycleUploads = "lifecycle_uploads" // rules that throw parts of uploads away
	CheckBucketPolicy     = "bucket_policy"     // statements that allow what weakens the bucket
	CheckPublicAccess     = "public_access"     // policy or ACL that lets everybody in
	CheckBucketACL        = "bucket_acl"        // grants to others than the owner
	CheckLockHolds        = "lock_holds"        // a locked object resists this key
	CheckStationKey       = "station_key"       // what else the key may do
	CheckTLS              = "tls"               // footage is encrypted on the way
	CheckEncryption       = "encryption"        // and at rest
	CheckBucketMarker     = "bucket_marker"     // it is the bucket that it was
	CheckStoreClock       = "store_clock"       // against the station's
	CheckFreeSpace        = "free_space"        // where it is known
)

// Finding is one thing that a person must know about the bucket.
type Finding struct {
	Check    string   `json:"check"` // one of the Check constants
	Severity Severity `json:"severity"`
	// NotChecked: nothing is known, good or bad, because the check could not be
	// made or was not asked for.
	NotChecked bool   `json:"not_checked,omitempty"`
	What       string `json:"what"`             // what was found
	Why        string `json:"why"`              // why it matters, with the article
	Mend       string `json:"mend"`             // how to mend it, with a command
	Detail     string `json:"detail,omitempty"` // the rule, the statement, the server's words
}

// Audit says how to look at a bucket, and what the caller knows that the bucket
// does not show.
type Audit struct {
	// TryKey tries what the station's key may do. It stores up to three objects
	// of a few bytes below SelfTestPrefix, locked for a minute, and puts settings
	// back exactly as they were read. A key that may not delete leaves the objects
	// there; a lifecycle rule for that prefix alone may remove them, and is no
	// finding. An administrator who changes one of those
	// settings within the same second may find his change undone: don't try while
	// the bucket is being set up.
	TryKey bool
	// BucketID is what the station has seen as Marker.BucketID; empty: nothing yet.
	BucketID string
	// Verify checks the signature of the marker. Nil: the marker is not checked.
	Verify func(message, signature []byte) error
	// Space is the room in the store; nil where it can't be known.
	Space *Space
}

// Space is the room of a file system, in bytes.
type Space struct {
	Free, Total int64
}

// Audit looks at the bucket as it is and tells what endangers footage there:
// a bucket loses more by its settings than by its disks. It changes nothing,
// except for what Audit.TryKey says. A check that could not be made is a finding
// too, with NotChecked. An error is returned only where nothing at all can be
// said: the store does not answer, the bucket is gone, or the key may see
// nothing.
func (v *Vault) Audit(ctx context.Context, a Audit) ([]Finding, error) {
	r, err := v.newAuditor(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("audit of bucket %s: %w", v.cfg.Bucket, err)
	}
	defer r.settings.close()
	exists, err := v.client.BucketExists(ctx, v.cfg.Bucket)
	switch err = classify(err); {
	case err == nil && !exists:
		return nil, fmt.Errorf("audit of bucket %s at %s: the bucket is gone: %w", v.cfg.Bucket, v.cfg.name(), ErrNotFound)
	case err != nil && !errors.Is(err, ErrDenied):
		return nil, fmt.Errorf("audit of bucket %s at %s: %w", v.cfg.Bucket, v.cfg.name(), err)
	}
	for _, check := range []func(context.Context){
		r.objectLock, r.versioning, r.lifecycle, r.policy, r.acl, r.encryption,
	} {
		check(ctx)
	}
	if r.settings.answers == 0 { // not one setting was shown
		return nil, fmt.Errorf("audit of bucket %s at %s: no setting of it can be read: %w",
			v.cfg.Bucket, v.cfg.name(), errors.Join(r.settings.refusals...))
	}
	r.tls()
	r.marker(ctx)
	r.key(ctx)
	r.space()
	r.clock() // last: each answer above has brought the store's time
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("audit of bucket %s: %w", v.cfg.Bucket, err)
	}
	return r.findings, nil
}

// auditor is one run of Audit.
type auditor struct {
	v        *Vault
	a        Audit
	settings *settings
	findings []Finding
}

func (v *Vault) newAuditor(ctx context.Context, a Audit) (*auditor, error) {
	s, err := v.openSettings(ctx)
	if err != nil {
		return nil, err
	}
	return &auditor{v: v, a: a, settings: s}, nil
}

func (r *auditor) found(f Finding) { r.findings = append(r.findings, f) }

// notChecked tells that a check could not be made, and why.
func (r *auditor) notChecked(check, subject string, err error) {
	f := Finding{
		Check: check, Severity: SeverityWarning, NotChecked: true,
		What:   subject + " could not be checked.",
		Why:    "What the audit can't see may be in order or not. 第十三条(二) holds whoever keeps footage answerable for its loss, also by a setting that nobody looked at.",
		Mend:   "Run the audit again when the store answers; if it stays so, look at the setting by hand.",
		Detail: err.Error(),
	}
	switch {
	case notImplemented(err):
		f.Severity = SeverityNote
		f.Why = "The store says that it has no such setting. Then none can do harm, but that is the store's word, not a proof."
		f.Mend = "Nothing needs to be done."
	case errors.Is(classify(err), ErrDenied):
		f.Mend = "Let the station's key read the settings of the bucket: the statement \"See\" of configs/policies/station-minio.json or station-aws.json has the actions."
	}
	r.found(f)
}

// alias stands in commands for the name that the administrator's mc gives to
// the store.
const alias = "ALIAS/"

func (r *auditor) bucket() string { return r.v.cfg.Bucket }

// embedded: only the embedded store is reached through a transport of its own.
// It has one key by nature, and refuses by itself what could weaken it.
func (r *auditor) embedded() bool { return r.v.cfg.Transport != nil }

// Limits of the clock check. At maxSkew a store refuses every signature.
const (
	skewNote    = 2 * time.Second // the grain of the Date header
	skewWarning = time.Minute
)

func (r *auditor) clock() {
	ahead := r.v.StoreAhead()
	if ahead.Abs() < skewNote {
		return
	}
	f := Finding{
		Check: CheckStoreClock, Severity: SeverityNote,
		What: fmt.Sprintf("The store's clock is %s the station's.", offsetWords(ahead)),
		Why:  "The store's clock ends the locks that keep footage six months (第十一条), and the station's clock is what recorders are compared with (第十条). Beyond 15 minutes the store refuses every request.",
		Mend: "Set both by NTP. On the station: chronyc tracking, or timedatectl timesync-status; then the same on the store.",
	}
	switch {
	case ahead.Abs() > maxSkew:
		f.Severity = SeverityError
	case ahead.Abs() > skewWarning:
		f.Severity = SeverityWarning
	}
	r.found(f)
}

// Shares of the whole, in percent, below which little room is left. A recorder
// brings up to 128 GB, and clearing up takes people days, not minutes.
const (
	spaceWarning = 10
	spaceError   = 2
)

func (r *auditor) space() {
	s := r.a.Space
	if s == nil {
		r.found(Finding{
			Check: CheckFreeSpace, Severity: SeverityNote, NotChecked: true,
			What: "The room left in the store is not known to the station.",
			Why:  "A full store takes no footage, and recorders then fill up in the field (第十条: storage space is checked before use).",
			Mend: "Watch it at the store. MinIO: mc admin info ALIAS. A cloud store has no such limit, but a bill and quotas.",
		})
		return
	}
	if s.Total > 0 && s.Free >= s.Total/100*spaceWarning {
		return
	}
	f := Finding{
		Check: CheckFreeSpace, Severity: SeverityWarning,
		What: fmt.Sprintf("%d MiB of %d MiB are free in the store.", s.Free>>20, s.Total>>20),
		Why:  "A full store takes no footage. What is there is locked for six months (第十一条) and can't be removed to make room.",
		Mend: "Add disks, or move the store to a larger one, before it is full. Delete nothing by hand: only expired footage may go, by a disposal plan.",
	}
	if s.Free < s.Total/100*spaceError || s.Total <= 0 {
		f.Severity = SeverityError
	}
	r.found(f)
}
