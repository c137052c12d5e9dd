package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// rotationStep is told of every step that is durable; tests die there.
var rotationStep = func(string) {}

func (w *workplace) rotationCutOff() bool {
	_, err := os.Lstat(filepath.Join(w.cfg.StateDir, nextKeyName))
	return err == nil
}

// settleRotation brings a change that was cut off to its end: where the ledger has its
// line the new key comes into force, else the old one stays. It gives nil where there
// was none to finish.
func (w *workplace) settleRotation(ctx context.Context, emit func(ingest.Event)) (*rotationJSON, error) {
	path := filepath.Join(w.cfg.StateDir, nextKeyName)
	next, err := stationkey.Load(path)
	if errors.Is(err, stationkey.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := w.keyIsFile(); err != nil {
		return nil, fmt.Errorf("a change of the station's key was cut off: finish it with ingestd key rotate before the service starts: %w", err)
	}
	old, err := stationkey.Load(filepath.Join(w.cfg.StateDir, keyName))
	if err != nil {
		return nil, err
	}
	if there, err := w.hasLedger(); err != nil || !there {
		return nil, errors.Join(err, fmt.Errorf("%s; but the ledger %s is gone: put it back first", rotationCutOff, w.ledgerDir()))
	}
	if err := w.openRing(); err != nil {
		return nil, err
	}
	r := &rotation{old: old, next: next, resumed: true}
	for _, s := range w.evidence.Ring.Signers() {
		if s.Principal == w.cfg.Station.ID && !s.Key.Equal(next.Public()) {
			r.former = append(r.former, s.Key)
		}
	}
	done, err := w.finishRotation(ctx, r, emit)
	if !errors.Is(err, ledger.ErrNotHandedOver) {
		return done, err
	}
	// Nobody has ever been told of that key, unless it is the ledger that was put back to
	// an older state: the bucket knows.
	store, err := w.keptLongest(ctx)
	if err != nil {
		return nil, err
	}
	l, err := w.signedLedger(ctx, old, r.former[:max(0, len(r.former)-1)], emit)
	if err == nil {
		err = l.Publish(ctx, store, ingest.LedgerPrefix(w.cfg.Station.ID))
	}
	if err != nil {
		return nil, fmt.Errorf("whether the ledger was handed over to the key %s can't be told, so it is kept: %w", path, err)
	}
	if err := w.dropNextKey(); err != nil {
		return nil, err
	}
	emit(ingest.Event{Name: "key.not_changed", Level: ingest.Warn, Message: "a change of the station's key was cut off before it had begun; the key is the same: " + old.Fingerprint()})
	return nil, nil
}

// keptLongest is the vault for what must be there as long as any footage.
func (w *workplace) keptLongest(ctx context.Context) (ingest.LedgerStore, error) {
	longest, err := w.journal.LongestLock(ctx)
	return ingest.LedgerStore{Vault: w.vault, Until: longest}, err
}

// dropNextKey removes a key to which nothing was handed over.
func (w *workplace) dropNextKey() error {
	path := filepath.Join(w.cfg.StateDir, nextKeyName)
	return errors.Join(removeIfThere(path+".pub"), removeIfThere(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// rotation is a change that has begun.
type rotation struct {
	old, next *stationkey.Key
	former    []ed25519.PublicKey // up to old
	resumed   bool
}

// finishRotation brings a change to its end whose line may be in the ledger; else it is
// ErrNotHandedOver and nothing was done. Every step may be done twice. The order, and
// what a crash leaves after each step:
//
//  1. The line that hands over, signed by the old key, is published: nothing signs from
//     here on until the rest is done; the old key may not, and nobody knows the new one.
//  2. The documents are in the state directory: their time is fixed. It is the store's, of
//     when it took the line: not before anything that the old key signed, and not after
//     anything that the new one will sign.
//  3. The documents and the new public key are published: whoever trusts the old key can
//     find out that the new one is to be trusted.
//  4. The new key has signed a line, and that is published: whoever knows it can tell this
//     ledger from one that a thief of the old key goes on with.
//  5. The list of trusted keys has the new key.
//  6. The new key takes the place of the old one, which is gone with it.
func (w *workplace) finishRotation(ctx context.Context, r *rotation, emit func(ingest.Event)) (*rotationJSON, error) {
	l, err := w.signedLedger(ctx, r.next, r.former, emit)
	if err != nil {
		return nil, err
	}
	done, err := w.finishSteps(ctx, r, l)
	if err != nil {
		return nil, fmt.Errorf("the change of the station's key has begun, and goes on when ingestd is started or `ingestd key rotate` is given again: %w", err)
	}
	emit(ingest.Event{Name: "key.changed", Message: fmt.Sprintf("the station signs with the key %s now, no more with %s", done.NewKey, done.OldKey)})
	return done, nil
}

func (w *workplace) finishSteps(ctx context.Context, r *rotation, l *ledger.Ledger) (*rotationJSON, error) {
	id := w.cfg.Station.ID
	prefix := ingest.LedgerPrefix(id)
	store, err := w.keptLongest(ctx)
	if err != nil {
		return nil, err
	}
	sizes, err := l.LastSizes(ctx)
	if err != nil {
		return nil, err
	}
	last := sizes[len(sizes)-1]
	line, err := entryAt(ctx, l, last-1)
	if err != nil {
		return nil, err
	}
	if line == nil {
		return nil, fmt.Errorf("the ledger has lost line %d", last-1)
	}
	if err := l.Publish(ctx, store, prefix); err != nil {
		return nil, err
	}
	rotationStep("line published")
	h, err := w.writeHandOver(ctx, r, line.Reason, ledger.CheckpointKey(prefix, last))
	if err != nil {
		return nil, err
	}
	rotationStep("documents written")
	documents, err := w.keyDocuments()
	if err == nil {
		err = ingest.PublishKeys(ctx, store, id, ingest.Evidence{Key: r.next, Documents: documents})
	}
	if err != nil {
		return nil, err
	}
	rotationStep("documents published")
	signed, err := entryAt(ctx, l, last)
	if err != nil {
		return nil, err
	}
	if signed == nil {
		if _, err := l.Append(ctx, ledger.Entry{
			Time: w.journal.Now().In(w.cfg.Station.Timezone), Station: id, Actor: actor(), Event: "key.in_force",
			Detail: map[string]string{"fingerprint": r.next.Fingerprint(), "public_key": r.next.AuthorizedKey()},
		}); err != nil {
			return nil, err
		}
	}
	rotationStep("new key signed")
	if err := l.Publish(ctx, store, prefix); err != nil {
		return nil, err
	}
	rotationStep("new key published")
	if err := w.evidence.Ring.Accept(h); err != nil {
		return nil, err
	}
	if err := writeDurably(filepath.Join(w.cfg.StateDir, ringName), w.evidence.Ring.Format()); err != nil {
		return nil, err
	}
	rotationStep("trusted")
	if err := w.replaceKey(r.next); err != nil {
		return nil, err
	}
	rotationStep("replaced")
	return &rotationJSON{
		Schema: "ingestd.key-rotation/1", Station: id, OldKey: r.old.Fingerprint(), NewKey: r.next.Fingerprint(),
		At: h.HandOver.At, Reason: h.HandOver.Reason, LastSize: last, Resumed: r.resumed,
	}, nil
}

// entryAt gives nil where the ledger ends before.
func entryAt(ctx context.Context, l *ledger.Ledger, index int64) (*ledger.Entry, error) {
	for stored, err := range l.Read(ctx, index) {
		return &stored.Entry, err
	}
	return nil, nil //nolint:nilnil // there is none
}

// handOver gives the document of a change, and the list of the station's keys with it.
func (w *workplace) handOver(r *rotation, reason string, at time.Time) (h stationkey.SignedHandOver, list []byte, err error) {
	ring, err := stationkey.ParseRing(w.evidence.Ring.Format()) // the ring itself is not to change yet
	if err != nil {
		return h, nil, err
	}
	for _, s := range ring.Signers() {
		if s.Key.Equal(r.old.Public()) && !at.Truncate(time.Second).After(s.ValidAfter) {
			at = s.ValidAfter.Add(time.Second) // two changes in one second, or a clock that was set back
		}
	}
	if h, err = stationkey.NewHandOver(r.old, r.next, w.cfg.Station.ID, reason, at); err != nil {
		return h, nil, err
	}
	if err := ring.Accept(h); err != nil {
		return h, nil, err
	}
	own := &stationkey.Ring{}
	for _, s := range ring.Signers() {
		if s.Principal != w.cfg.Station.ID {
			continue
		}
		if err := own.Add(s); err != nil {
			return h, nil, err
		}
	}
	return h, own.Format(), nil
}

// writeHandOver makes the documents of a change durable, or finds them; they never
// change. The time is that of the object whose key is given.
func (w *workplace) writeHandOver(ctx context.Context, r *rotation, reason, key string) (h stationkey.SignedHandOver, err error) {
	dir := filepath.Join(w.cfg.StateDir, keysName)
	name := func(suffix string) string {
		return filepath.Join(dir, ingest.KeyDocument(r.next.Fingerprint(), suffix))
	}
	text, err := os.ReadFile(name(handOverSuffix))
	if err == nil {
		return stationkey.DecodeHandOver(text)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return h, err
	}
	o, err := w.vault.Stat(ctx, key, "")
	if err != nil {
		return h, err
	}
	h, list, err := w.handOver(r, reason, o.StoredAt)
	if err != nil {
		return h, err
	}
	if text, err = h.Encode(); err != nil {
		return h, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return h, err
	}
	// The hand-over comes last: where it is, the list is too.
	return h, errors.Join(writeDurably(name(signersSuffix), list), writeDurably(name(handOverSuffix), text))
}

// replaceKey puts the new key in the place of the old one. The private half comes last:
// as long as it is not there, the change is under way.
func (w *workplace) replaceKey(next *stationkey.Key) error {
	path, from := filepath.Join(w.cfg.StateDir, keyName), filepath.Join(w.cfg.StateDir, nextKeyName)
	if err := writeDurably(path+".pub", []byte(next.AuthorizedKey()+"\n")); err != nil {
		return err
	}
	if err := removeIfThere(from + ".pub"); err != nil {
		return err
	}
	if err := os.Rename(from, path); err != nil {
		return err
	}
	return syncFolder(w.cfg.StateDir)
}
