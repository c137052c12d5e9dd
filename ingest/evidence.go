package ingest

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
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
	// Documents tell how the key came from those before it, by their names below
	// STATION/keys/ in the bucket.
	Documents map[string][]byte
}

// Views is how often the footage of sessions was played or saved, by their ids, as the
// ledger tells it; ledger.ErrBroken where nothing that it tells can be trusted.
func Views(ctx context.Context, l *ledger.Ledger) (map[string]int, error) {
	views := map[string]int{}
	for line, err := range l.Events(ctx, "view.file") {
		if err != nil {
			return nil, err
		}
		views[line.Entry.Session]++
	}
	return views, nil
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

// LedgerKeys are the keys that have signed a station's ledger, up to the present one.
// In the list each stands before the one that it has handed over to.
func LedgerKeys(ring *stationkey.Ring, present stationkey.Signer) ledger.Keys {
	var keys ledger.Keys
	for _, s := range ring.Signers() {
		if s.Principal == present.Principal && !s.Key.Equal(present.Key) {
			keys = append(keys, s.Key)
		}
	}
	return append(keys, present.Key)
}

// LedgerOrigin is the name of a station's ledger, the first line of its checkpoints.
func LedgerOrigin(station string) string { return "ingestd/" + station }

// LedgerPrefix is where a station's ledger lies in the bucket. Folders of sessions are
// named by a date.
func LedgerPrefix(station string) string { return station + "/ledger" }

// KeysPrefix is where its public keys lie.
func KeysPrefix(station string) string { return station + "/keys/" }

// Record writes down what has happened; it is durable and signed for when this
// returns. What is shown of it to anybody comes after. Station and clock are filled in;
// where none is given, the actor is the station and the time is now.
func (s *Station) Record(ctx context.Context, e ledger.Entry) error {
	e.Station, e.Actor = s.cfg.ID, cmp.Or(e.Actor, "station")
	if e.Time.IsZero() {
		e.Time = s.journal.Now()
	}
	e.Time = e.Time.In(s.cfg.Location)
	e.Clock = ClockWords(s.Clock())
	if _, err := s.evidence.Ledger.Append(ctx, e); err != nil {
		return fmt.Errorf("write %s to the ledger: %w", e.Event, err)
	}
	return nil
}

// RecordRefusal is Record for what was refused, unless it repeats what was just told;
// see RepeatsRefusal.
func (s *Station) RecordRefusal(ctx context.Context, e ledger.Entry) error {
	e.Actor = cmp.Or(e.Actor, "station")
	again, err := RepeatsRefusal(ctx, s.evidence.Ledger, e, s.journal.Now())
	if err != nil {
		return fmt.Errorf("write %s to the ledger: %w", e.Event, err)
	}
	if again {
		return nil
	}
	return s.Record(ctx, e)
}

// refusedAgain is how long the same refusal is one line: a supervisor starts a daemon
// that is refused again and again, and the ledger would be full of it.
const refusedAgain = time.Hour

// RepeatsRefusal tells whether the last line of a ledger is the same refusal, by the
// same actor and for the same reason, and not an hour old.
func RepeatsRefusal(ctx context.Context, l *ledger.Ledger, e ledger.Entry, now time.Time) (bool, error) {
	size, err := l.Size()
	if err != nil || size == 0 {
		return false, err
	}
	for last, err := range l.Read(ctx, size-1) {
		if err != nil {
			return false, err
		}
		age := now.Sub(last.Entry.Time)
		return last.Entry.Event == e.Event && last.Entry.Actor == e.Actor && last.Entry.Reason == e.Reason && age >= 0 && age < refusedAgain, nil
	}
	return false, nil
}

// reasonAtMost bounds the words of an error in the ledger, in bytes: they may list all
// that is wrong with a file.
const reasonAtMost = 16 << 10

// ReasonOf gives an error the form that a line of the ledger can hold.
func ReasonOf(err error) string {
	words := err.Error()
	if len(words) > reasonAtMost {
		words = words[:reasonAtMost] + "…"
	}
	return strings.ToValidUTF8(words, "\uFFFD")
}

// ClockWords is the state of a station's clock in the words of the ledger.
func ClockWords(clock device.StationClock) string {
	if clock.Synchronised {
		return "kept by a time service"
	}
	return clock.Why
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

// Publish brings what the ledger has by now into the bucket. How much is there is
// remembered: a bucket that has less later was emptied.
func (s *Station) Publish(ctx context.Context) error {
	if err := s.missPublished(ctx); err != nil {
		return err
	}
	size, err := s.evidence.Ledger.Size() // of what is there for sure when it was published
	if err != nil {
		return err
	}
	store, err := s.ledgerStore(ctx)
	if err != nil {
		return err
	}
	if err := s.evidence.Ledger.Publish(ctx, store, LedgerPrefix(s.cfg.ID)); err != nil {
		return err
	}
	select {
	case s.published <- struct{}{}:
	default: // KeepStamping will come to it
	}
	return s.journal.LedgerPublished(ctx, s.vault.Describe(), size)
}

// ledgerStore locks what it is given for as long as the longest-kept footage that the
// ledger can tell of.
func (s *Station) ledgerStore(ctx context.Context) (LedgerStore, error) {
	longest, err := s.journal.LongestLock(ctx)
	return LedgerStore{s.vault, longest}, err
}

// missPublished tells of lines that were in the bucket and are not any more. To publish
// them again is right and would hide that: it is written down before.
func (s *Station) missPublished(ctx context.Context) error {
	store := s.vault.Describe()
	known, err := s.journal.PublishedLedger(ctx, store)
	if err != nil || known == 0 {
		return err
	}
	there, err := ledger.PublishedSize(ctx, LedgerStore{Vault: s.vault}, LedgerPrefix(s.cfg.ID))
	if err != nil || there >= known {
		return err
	}
	if err := s.RecordRefusal(ctx, ledger.Entry{
		Event: "ledger.republished", Reason: "lines that were published are not in the bucket any more, and are published again",
		Detail: map[string]string{"store": store, "published": strconv.FormatInt(known, 10), "found": strconv.FormatInt(there, 10)},
	}); err != nil {
		return err
	}
	s.emit(Event{Name: "ledger.republished", Level: Alarm, Message: fmt.Sprintf(
		"%d lines of the ledger were in the bucket, and %d are: find out who has emptied it, and what else is gone: ingestd verify --all", known, there)})
	return nil
}

// publishKeys puts the public key where the documents are that it signs, and how it
// came from those before it, for as long as what they vouch for is kept.
func (s *Station) publishKeys(ctx context.Context) error {
	longest, err := s.journal.LongestLock(ctx)
	if err != nil {
		return err
	}
	return s.withStore(ctx, func() error { return PublishKeys(ctx, LedgerStore{s.vault, longest}, s.cfg.ID, s.evidence) })
}

// EvidencePrefixes are where everything lies that must outlast the footage it tells of:
// the ledger and the public keys.
func (s *Station) EvidencePrefixes() []string {
	return []string{LedgerPrefix(s.cfg.ID) + "/", KeysPrefix(s.cfg.ID)}
}

// VerifyLedger reads the ledger in the bucket and in the station's folder anew and
// compares both with everything that was signed.
func (s *Station) VerifyLedger(ctx context.Context) (*ledger.Report, error) {
	return s.evidence.Ledger.VerifyPublished(ctx, LedgerStore{Vault: s.vault}, LedgerPrefix(s.cfg.ID))
}

// PublishKeys puts the public key of a station in its vault, with the documents about
// it. What is there already and the same is taken.
func PublishKeys(ctx context.Context, to LedgerStore, station string, e Evidence) error {
	objects := maps.Clone(e.Documents)
	if objects == nil {
		objects = map[string][]byte{}
	}
	objects[KeyDocument(e.Key.Fingerprint(), ".pub")] = []byte(e.Key.AuthorizedKey() + "\n")
	for name, body := range objects {
		if err := to.Create(ctx, KeysPrefix(station)+name, body); err != nil {
			return fmt.Errorf("publish the station's key, %s: %w", name, err)
		}
	}
	return nil
}

// KeyDocument names a document about a key by the key's fingerprint.
func KeyDocument(fingerprint, suffix string) string {
	return strings.NewReplacer("SHA256:", "", "/", "_", "+", "-").Replace(fingerprint) + suffix
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
