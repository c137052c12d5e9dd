package ingest

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// Evidence is what lets others check a station's work: the key that signs its
// documents, and the ledger of what has happened.
type Evidence struct {
	Key    *stationkey.Key
	Ring   *stationkey.Ring // the keys that the station has and had
	Ledger *ledger.Ledger
}

// LedgerSigner signs the checkpoints of a station's ledger.
func LedgerSigner(key *stationkey.Key, station string) ledger.Signer {
	return ledgerSigner{key, station}
}

type ledgerSigner struct {
	*stationkey.Key
	station string
}

func (s ledgerSigner) Name() string                 { return LedgerOrigin(s.station) }
func (s ledgerSigner) PublicKey() ed25519.PublicKey { return s.Public() }

// LedgerOrigin is the name of a station's ledger, the first line of its checkpoints.
func LedgerOrigin(station string) string { return "ingestd/" + station }

// LedgerPrefix is where a station's ledger lies in the bucket. Folders of sessions are
// named by a date.
func LedgerPrefix(station string) string { return station + "/ledger" }

// keysPrefix is where its public keys lie.
func keysPrefix(station string) string { return station + "/keys/" }

// Record writes down what has happened; it is durable and signed for when this
// returns. What is shown of it to anybody comes after. Station, time and clock are
// filled in; the actor is the station where none is given.
func (s *Station) Record(ctx context.Context, e ledger.Entry) error {
	e.Station, e.Actor = s.cfg.ID, cmp.Or(e.Actor, "station")
	e.Time = s.journal.Now().In(s.cfg.Location)
	e.Clock = "kept by a time service"
	if clock := s.stationClock(); !clock.Synchronised {
		e.Clock = clock.Why
	}
	if _, err := s.evidence.Ledger.Append(ctx, e); err != nil {
		return fmt.Errorf("write %s to the ledger: %w", e.Event, err)
	}
	return nil
}

// recordSealed tells the ledger of a session whose documents are in the store. After a
// crash it may be told twice, of the same manifest.
func (s *Station) recordSealed(ctx context.Context, r journal.Session, totals manifest.Totals) error {
	return s.Record(ctx, ledger.Entry{
		Event: "session." + string(r.State), Session: r.ID, Recorder: r.Recorder, Officer: r.Officer, Reason: r.Reason,
		Objects: []ledger.Object{{Key: r.Manifest.Key, Version: r.Manifest.VersionID, SHA256: r.Manifest.SHA256}},
		Detail: map[string]string{
			"files": strconv.Itoa(totals.Files), "stored": strconv.Itoa(totals.Stored), "identical": strconv.Itoa(totals.Identical),
			"not_stored": strconv.Itoa(totals.NotStored), "bytes": strconv.FormatInt(totals.Bytes, 10), "verification": r.Verification,
			"retain_until": s.local(r.RetainUntil).Format("2006-01-02T15:04:05Z07:00"),
		},
	})
}

// publish brings the ledger into the bucket. Footage does not wait for it: what could
// not be published now is with the next session, and that is told.
func (s *Station) publish(ctx context.Context) {
	if err := s.Publish(ctx); err != nil {
		level := Warn
		if errors.Is(err, ledger.ErrBroken) {
			level = Alarm
		}
		s.emit(Event{Name: "ledger.unpublished", Level: level, Err: err, Message: "the ledger could not be brought into the bucket; it is tried again after the next session"})
	}
}

// Publish brings what the ledger has by now into the bucket. It is locked there for as
// long as the longest-kept footage that it can tell of.
func (s *Station) Publish(ctx context.Context) error {
	longest, err := s.journal.LongestLock(ctx)
	if err != nil {
		return err
	}
	return s.evidence.Ledger.Publish(ctx, LedgerStore{s.vault, longest}, LedgerPrefix(s.cfg.ID))
}

// EvidencePrefixes are where everything lies that must outlast the footage it tells of:
// the ledger and the public keys.
func (s *Station) EvidencePrefixes() []string {
	return []string{LedgerPrefix(s.cfg.ID) + "/", keysPrefix(s.cfg.ID)}
}

// publishKey puts the public key where the documents are that it signs.
func (s *Station) publishKey(ctx context.Context) error {
	line := []byte(s.evidence.Key.AuthorizedKey() + "\n")
	name := strings.NewReplacer("SHA256:", "", "/", "_", "+", "-").Replace(s.evidence.Key.Fingerprint())
	key := keysPrefix(s.cfg.ID) + name + ".pub"
	longest, err := s.journal.LongestLock(ctx)
	if err != nil {
		return err
	}
	if err := s.withStore(ctx, func() error {
		until := s.vault.RetainUntil()
		if longest.After(until) {
			until = longest
		}
		_, err := s.vault.Create(ctx, key, line, sha256.Sum256(line), until)
		return err
	}); err != nil {
		return fmt.Errorf("publish the station's key: %w", err)
	}
	return nil
}

// LedgerStore lets a ledger be published in a vault, under its lock.
type LedgerStore struct {
	Vault *storage.Vault
	Until time.Time // what is published is locked at least until then; zero: as all is
}

// Create implements ledger.Store. It takes what is there already and the same.
func (s LedgerStore) Create(ctx context.Context, key string, body []byte) error {
	until := s.Vault.RetainUntil()
	if s.Until.After(until) {
		until = s.Until
	}
	_, err := s.Vault.Create(ctx, key, body, sha256.Sum256(body), until)
	if errors.Is(err, storage.ErrTaken) {
		err = fmt.Errorf("%w: %w", ledger.ErrExists, err)
	}
	return err
}

// Get implements ledger.Store.
func (s LedgerStore) Get(ctx context.Context, key string) (_ []byte, err error) {
	body, err := s.Vault.Fetch(ctx, key, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	return io.ReadAll(body)
}

// List implements ledger.Store.
func (s LedgerStore) List(ctx context.Context, prefix string) (keys []string, err error) {
	for v, err := range s.Vault.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, v.Key) // a delete marker too: what it hides can't be read, and that is told
	}
	return keys, nil
}
