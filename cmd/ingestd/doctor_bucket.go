package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage"
)

// bucketChecks are what Vault.Audit looks at.
var bucketChecks = []string{
	storage.CheckObjectLock, storage.CheckVersioning, storage.CheckDefaultRetention, storage.CheckLifecycle, storage.CheckLifecycleUploads,
	storage.CheckBucketPolicy, storage.CheckPublicAccess, storage.CheckBucketACL, storage.CheckLockHolds, storage.CheckStationKey,
	storage.CheckTLS, storage.CheckEncryption, storage.CheckBucketMarker, storage.CheckStoreClock, storage.CheckFreeSpace,
}

// bucketSubject names all of them where none could be made.
func bucketSubject() string { return "The bucket (" + strings.Join(bucketChecks, ", ") + ")" }

// openedVault reaches the store without making anything there.
func (d *doctor) openedVault(ctx context.Context) error {
	if d.cfg.Storage.Kind == configs.StorageEmbedded {
		root := d.cfg.Storage.Embedded.Root
		// What every store has; to open one makes it.
		there, known := d.isThere("store", "The embedded store "+root, filepath.Join(root, "credentials.json"))
		if known && !there {
			d.notYet("store", "The embedded store "+root)
		}
		if !there {
			return fmt.Errorf("the embedded store: %w", storage.ErrNotFound)
		}
	}
	reach, err := d.reachStore(ctx, d.app.err)
	if err == nil {
		d.vault, err = storage.Look(reach)
	}
	if err != nil {
		d.found(storage.SeverityError, "store", "The store can't be opened.", "Without it no footage can be taken in, and recorders fill up in the field (第十条).",
			"See the detail, and the settings of storage.", err)
	}
	return err
}

// bucket looks at the settings of the bucket as the running daemon does.
func (d *doctor) bucket(ctx context.Context, tryKey bool) {
	if err := d.openedVault(ctx); err != nil {
		d.bucketUnseen(err)
		return
	}
	b := ingest.BucketAudit{Vault: d.vault, Ring: d.evidence.Ring, Station: d.cfg.Station.ID, TryKey: tryKey}
	if d.store != nil {
		b.StoreSpace = d.storeSpace
	}
	if d.hasJournal(storage.CheckBucketMarker, "Whether this is the bucket that was seen before") {
		var err error
		if b.BucketID, err = d.journal.BucketID(ctx, d.vault.Describe()); err != nil {
			d.notChecked(storage.CheckBucketMarker, "Whether this is the bucket that was seen before", err)
		}
	}
	findings, err := b.Findings(ctx)
	if err != nil {
		d.unseen(err, b.BucketID)
		return
	}
	for _, f := range findings {
		if f.Check == storage.CheckBucketMarker && f.Severity == storage.SeverityWarning && !f.NotChecked {
			f.Mend = "ingestd does it by itself at its next start."
		}
		d.findings = append(d.findings, f)
	}
	what := "The settings of " + d.vault.Describe() + " were looked at."
	if b.BucketID != "" {
		what = "The settings of " + d.vault.Describe() + " were looked at; the station knows it as bucket " + b.BucketID + "."
	}
	d.ok("bucket", what)
}

// unseen tells why nothing of the bucket could be seen.
func (d *doctor) unseen(err error, seen string) {
	const why = "Without the store no footage can be taken in, and recorders fill up in the field (第十条)."
	switch ahead := d.vault.StoreAhead(); {
	case errors.Is(err, storage.ErrNotFound) && seen == "":
		d.notYet("store", "The bucket "+d.vault.Describe())
	case errors.Is(err, storage.ErrNotFound):
		d.found(storage.SeverityError, "store", "The bucket "+d.vault.Describe()+" is gone.",
			"The station has stored into it. Footage must be kept six months at least (第十一条, 第十三条(二)).",
			"Make no new one in its place. Find out who removed it, and whether the store was replaced: its address, its disks, its backups.", err)
	case ahead.Abs() > 15*time.Minute:
		d.found(storage.SeverityError, storage.CheckStoreClock, fmt.Sprintf("The store's clock is %s off the station's.", ahead.Abs().Round(time.Second)),
			"A store refuses every request of a station whose clock is elsewhere.", "Set both by NTP.", err)
	case errors.Is(err, storage.ErrUnavailable):
		d.found(storage.SeverityError, "store", "The store "+d.vault.Describe()+" does not answer.", why,
			"Look whether it runs, and whether the network and storage.s3.endpoint lead to it.", err)
	case errors.Is(err, storage.ErrDenied):
		d.found(storage.SeverityError, "store", "The store "+d.vault.Describe()+" refused the station's key.", why,
			"Look at storage.s3.credentials_file, and at what the key may do: configs/policies/README.md.", err)
	default:
		d.found(storage.SeverityError, "store", "The store "+d.vault.Describe()+" can't be asked.", why, "See the detail.", err)
	}
	d.bucketUnseen(err)
}

// bucketUnseen lists the checks of the bucket as not made. For a station that was never
// started that is no fault.
func (d *doctor) bucketUnseen(err error) {
	d.notChecked("bucket", bucketSubject(), err)
	if d.fresh && errors.Is(err, storage.ErrNotFound) {
		last := &d.findings[len(d.findings)-1]
		last.Severity, last.Mend = storage.SeverityNote, "Run ingestd doctor again when the station was started."
	}
}

// selfTest tells when the store last proved its lock to this station.
func (d *doctor) selfTest(ctx context.Context) {
	const check, subject = "self_test", "When the lock was last tried"
	if !d.hasJournal(check, subject) {
		return
	}
	if d.vault == nil {
		d.notChecked(check, subject, errors.New("the store is not open"))
		return
	}
	passed, err := d.journal.LastSelfTest(ctx, d.vault.Describe())
	switch {
	case err != nil:
		d.notChecked(check, subject, err)
	case passed.IsZero():
		d.found(storage.SeverityNote, check, "The lock of this store was never tried by this station.",
			"A store that answers yes to a lock and deletes all the same is no rarity.", "Nothing: ingestd tries it before it takes anything in.", nil)
	default:
		d.ok(check, "The lock was tried and held on "+when(passed, d.cfg.Station.Timezone)+".")
	}
}
