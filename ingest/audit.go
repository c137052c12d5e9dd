package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// MarkerNamespace is the purpose for which a station's key signs the marker of a bucket.
const MarkerNamespace = "ingestd-marker"

const (
	// auditEvery is how often a running station looks at the settings of its bucket.
	auditEvery = 24 * time.Hour
	// auditRetry is when it looks again if the store did not answer.
	auditRetry = 10 * time.Minute
)

// knowBucket refuses a bucket that is not the one that the station has seen under this
// name (第十条: designated storage only). The first one that it sees is taken and
// remembered; one without a marker gets one:
//
//  1. the marker is in the bucket, locked. A crash here: it is found by the next start.
//  2. the ledger has it. A crash here: the next start writes it once more.
//  3. the journal knows its id. From here on no other bucket is taken.
func (s *Station) knowBucket(ctx context.Context) error {
	store := s.vault.Describe()
	seen, err := s.journal.BucketID(ctx, store)
	if err != nil {
		return err
	}
	var m storage.Marker
	var how string
	err = s.withStore(ctx, func() (err error) {
		m, how, err = s.marker(ctx, seen)
		return err
	})
	switch {
	case errors.Is(err, storage.ErrWrongBucket):
		return s.refusedBucket(ctx, fmt.Errorf("nothing is ingested: %w: compare storage.bucket and the store's address or folder with what was set up, and ask who moved or replaced the store; "+
			"a store that is new on purpose gets another bucket name, and is then taken as a new one", err))
	case errors.Is(err, storage.ErrDenied):
		return fmt.Errorf("nothing is ingested, which bucket this is can't be told: %w: let the station's key read and write below .ingestd/, as configs/policies/README.md shows", err)
	case err != nil:
		return fmt.Errorf("nothing is ingested, which bucket this is can't be told: %w", err)
	case seen != "":
		return nil
	}
	if err := s.Record(ctx, ledger.Entry{
		Event: "bucket.marked", Detail: map[string]string{"store": store, "bucket_id": m.BucketID, "how": how},
	}); err != nil {
		return err
	}
	if err := s.journal.SawBucket(ctx, store, m.BucketID); err != nil {
		return err
	}
	s.emit(Event{Name: "storage.marked", Message: fmt.Sprintf("bucket %s has id %s, %s; another one under this name is refused from now on", store, m.BucketID, how)})
	return nil
}

// refusedBucket tells the ledger why nothing is stored in a bucket, and gives the
// reason back.
func (s *Station) refusedBucket(ctx context.Context, reason error) error {
	return errors.Join(reason, s.RecordRefusal(ctx, ledger.Entry{
		Event: "bucket.refused", Reason: ReasonOf(reason), Detail: map[string]string{"store": s.vault.Describe()},
	}))
}

// marker gives the marker of the bucket, and makes it where there is none and none was
// seen. how tells where it comes from.
func (s *Station) marker(ctx context.Context, seen string) (m storage.Marker, how string, err error) {
	for try := 1; ; try++ {
		c, err := newMarkerCheck(ctx, s.vault, s.evidence.Ring, s.cfg.ID)
		if err != nil {
			return m, "", err
		}
		m, err := s.vault.CheckMarker(ctx, seen, c.verify)
		if !errors.Is(err, storage.ErrNotFound) {
			how := "marked by station " + m.Station
			if c.unchecked {
				how += " (its signature was not checked: that station's key is not among those that are trusted here)"
			}
			return m, how, err
		}
		m, err = s.vault.MakeMarker(ctx, s.cfg.ID, s.signMarker)
		// Another station that shares the bucket has made it in this moment.
		if errors.Is(err, storage.ErrTaken) && try == 1 {
			continue
		}
		return m, "which this station has given it", err
	}
}

// signMarker signs what this station itself can verify later. The marker is locked for
// months: one that can't be verified would close the bucket to the station.
func (s *Station) signMarker(message []byte) ([]byte, error) {
	signature, err := s.evidence.Key.Sign(MarkerNamespace, message)
	if err != nil {
		return nil, err
	}
	if _, err := s.evidence.Ring.Verify(MarkerNamespace, message, signature, s.journal.Now()); err != nil {
		return nil, fmt.Errorf("the marker could not be verified later: %w", err)
	}
	return signature, nil
}

// markerCheck verifies the marker of one bucket.
type markerCheck struct {
	ring     *stationkey.Ring
	station  string
	storedAt time.Time // by the store: the holder of a stolen key can't choose it
	// unchecked: the marker is of another station whose key the ring does not have.
	unchecked bool
}

// newMarkerCheck asks the store when the marker came into it. Whether there is one, and
// may be read, is for the check itself to tell.
func newMarkerCheck(ctx context.Context, vault *storage.Vault, ring *stationkey.Ring, station string) (*markerCheck, error) {
	o, err := vault.Stat(ctx, storage.MarkerKey, "")
	if errors.Is(err, storage.ErrUnavailable) {
		return nil, err
	}
	return &markerCheck{ring: ring, station: station, storedAt: o.StoredAt}, nil
}

func (c *markerCheck) verify(message, signature []byte) error {
	var m storage.Marker
	if err := json.Unmarshal(message, &m); err != nil {
		return err
	}
	if m.Station == "" {
		return fmt.Errorf("it names no station: %w", stationkey.ErrSignature)
	}
	if m.Station != c.station && !c.knows(m.Station) {
		c.unchecked = true
		return nil
	}
	signer, err := c.ring.Verify(MarkerNamespace, message, signature, c.storedAt)
	if err == nil && signer.Principal != m.Station {
		err = fmt.Errorf("it names station %s and was signed by %s: %w", m.Station, signer.Principal, stationkey.ErrUntrusted)
	}
	return err
}

func (c *markerCheck) knows(station string) bool {
	for _, s := range c.ring.Signers() {
		if s.Principal == station {
			return true
		}
	}
	return false
}

// BucketAudit is what a station brings to the audit of its bucket.
type BucketAudit struct {
	Vault    *storage.Vault
	Ring     *stationkey.Ring // nil: the marker is not checked
	Station  string           // its id
	BucketID string           // that it has seen; empty: none
	TryKey   bool             // see storage.Audit
	// StoreSpace is as in Config.
	StoreSpace func() (free, total int64, err error)
}

// Marker reads the marker of the bucket; see Vault.CheckMarker for the errors. That of
// another station, whose key the ring does not have, is taken as it is.
func (b BucketAudit) Marker(ctx context.Context) (storage.Marker, error) {
	check, err := newMarkerCheck(ctx, b.Vault, b.Ring, b.Station)
	if err != nil {
		return storage.Marker{}, err
	}
	return b.Vault.CheckMarker(ctx, b.BucketID, check.verify)
}

// Findings looks at the bucket; see Vault.Audit also for the error. A marker of another
// station, whose key the ring does not have, gives a note that it was not verified.
func (b BucketAudit) Findings(ctx context.Context) ([]storage.Finding, error) {
	a := storage.Audit{TryKey: b.TryKey, BucketID: b.BucketID}
	var marker *markerCheck
	if b.Ring != nil {
		var err error
		if marker, err = newMarkerCheck(ctx, b.Vault, b.Ring, b.Station); err != nil {
			return nil, fmt.Errorf("audit of bucket %s: %w", b.Vault.Describe(), err)
		}
		a.Verify = marker.verify
	}
	var spaceErr error
	if b.StoreSpace != nil {
		free, total, err := b.StoreSpace()
		if spaceErr = err; err == nil {
			a.Space = &storage.Space{Free: free, Total: total}
		}
	}
	findings, err := b.Vault.Audit(ctx, a)
	if err != nil {
		return nil, err
	}
	for i := range findings {
		if f := &findings[i]; spaceErr != nil && f.Check == storage.CheckFreeSpace {
			f.Severity, f.Detail = storage.SeverityWarning, spaceErr.Error()
			f.Mend = "Look at the store's folder: df -h, and whether the station may enter it."
		}
	}
	if marker != nil && marker.unchecked {
		findings = append(findings, storage.Finding{
			Check: storage.CheckBucketMarker, Severity: storage.SeverityNote, NotChecked: true,
			What: "The signature of the bucket's marker was not checked: another station made it, whose key is not among those that are trusted here.",
			Why:  "Stations may share a bucket. That it is the same one as before is told by its id (第十条).",
			Mend: "Add the public key of that station to allowed_signers, if the signature is to be checked here too.",
		})
	}
	return findings, nil
}

// Audit looks at the settings of the bucket and tells of what endangers footage there:
// storage.audit, an error or a warning each. Nothing of it stops the ingest of footage,
// for recorders would fill up meanwhile. An error says that nothing could be seen; it is
// told too, except where the store does not answer: whoever needs it tells that.
func (s *Station) Audit(ctx context.Context) ([]storage.Finding, error) {
	findings, err := s.audit(ctx)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, storage.ErrUnavailable) {
			s.emit(Event{Name: "storage.audit", Level: Alarm, Err: err, Message: "the settings of the bucket can't be seen; whether footage is safe from them is not known: see ingestd doctor"})
		}
		return nil, err
	}
	s.audited.Store(&audited{findings, time.Now()})
	if err := s.recordErrors(ctx, findings); err != nil {
		s.emit(Event{Name: "storage.audit", Level: Alarm, Err: err, Message: "what endangers footage in the bucket could not be written to the ledger"})
		return findings, err
	}
	for _, f := range findings {
		e := Event{Name: "storage.audit", Level: Warn, Message: fmt.Sprintf("%s: %s %s %s", f.Check, f.What, f.Why, f.Mend)}
		switch f.Severity {
		case storage.SeverityNote:
			continue
		case storage.SeverityError:
			e.Level = Alarm
		}
		s.emit(e)
	}
	return findings, nil
}

// audited is what one look at the bucket has found.
type audited struct {
	findings []storage.Finding
	at       time.Time
}

// LastAudit is what Audit found last, and when; the zero time: it has seen nothing yet.
func (s *Station) LastAudit() ([]storage.Finding, time.Time) {
	last := s.audited.Load()
	if last == nil {
		return nil, time.Time{}
	}
	return last.findings, last.at
}

// recordErrors tells the ledger which findings are errors, when they are others than it
// was told last: the same ones come back every day.
func (s *Station) recordErrors(ctx context.Context, findings []storage.Finding) error {
	var checks, words []string
	for _, f := range findings {
		if f.Severity != storage.SeverityError {
			continue
		}
		checks = append(checks, f.Check)
		// What was measured is another number each time.
		if f.Check == storage.CheckFreeSpace || f.Check == storage.CheckStoreClock {
			words = append(words, f.Check)
		} else {
			words = append(words, f.Check+": "+f.What)
		}
	}
	store, now := s.vault.Describe(), strings.Join(words, "\n")
	matter := "audit of " + store
	before, err := s.journal.Told(ctx, matter)
	if err != nil || before == now {
		return err
	}
	e := ledger.Entry{Event: "bucket.audited", Reason: ReasonOf(errors.New(now)),
		Detail: map[string]string{"store": store, "errors": strconv.Itoa(len(checks)), "checks": strings.Join(checks, " ")}}
	if err := s.Record(ctx, e); err != nil {
		return err
	}
	return s.journal.SetTold(ctx, matter, now)
}

func (s *Station) audit(ctx context.Context) ([]storage.Finding, error) {
	seen, err := s.journal.BucketID(ctx, s.vault.Describe())
	if err != nil {
		return nil, err
	}
	return BucketAudit{
		Vault: s.vault, Ring: s.evidence.Ring, Station: s.cfg.ID, BucketID: seen, StoreSpace: s.cfg.StoreSpace,
	}.Findings(ctx)
}

// KeepAuditing runs Audit now and once a day until ctx ends, and then publishes what
// the ledger has had since, also where no session ends. A store that does not answer is
// asked again sooner.
func (s *Station) KeepAuditing(ctx context.Context) {
	for ctx.Err() == nil {
		wait := auditEvery
		if _, err := s.Audit(ctx); errors.Is(err, storage.ErrUnavailable) {
			wait = auditRetry
		} else if ctx.Err() == nil {
			s.publish(ctx)
		}
		sleep(ctx, wait-rand.N(auditRetry/2)) // stations that share a store don't come as one
	}
}
