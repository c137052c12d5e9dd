package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// The files of the station's evidence in its state directory.
const (
	keyName    = "station.key"
	ringName   = "allowed_signers"
	ledgerName = "ledger"
	// keysName is the folder of what is published of changes of the key.
	keysName = "keys"
	// keyCredential is the systemd credential that has the key instead.
	keyCredential = "station-key"
)

// keyFile is where the station's key is, or is to be.
func (w *workplace) keyFile() string {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		path := filepath.Join(dir, keyCredential)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return filepath.Join(w.cfg.StateDir, keyName)
}

// openEvidence opens key, ledger and ring of a station that signs; a new station's are
// made, in this order, so that a ring shows that there was a key, and a ledger with its
// first line. What a crash had left and was put right is told, and a change of the key
// that was cut off is brought to its end.
func (w *workplace) openEvidence(ctx context.Context, emit func(ingest.Event)) (err error) {
	if _, err := w.settleRotation(ctx, emit); err != nil {
		return err
	}
	e := &w.evidence
	e.Key, err = stationkey.Load(w.keyFile())
	made := errors.Is(err, stationkey.ErrNone)
	if made {
		e.Key, err = w.makeKey()
	}
	if err != nil {
		return err
	}
	if err := w.ledgerIsThere(ctx, made); err != nil {
		return err
	}
	former, err := w.keysBefore(e.Key)
	if err != nil {
		return err
	}
	if e.Ledger, err = w.signedLedger(ctx, e.Key, former, emit); err != nil {
		if _, gone := os.Lstat(filepath.Join(w.cfg.StateDir, ringName)); errors.Is(gone, fs.ErrNotExist) {
			err = fmt.Errorf("%w; the keys that are trusted, %s, are gone: put them back from their backup", err, ringName)
		}
		return err
	}
	size, err := e.Ledger.Size()
	if err == nil && size == 0 {
		err = w.record(ctx, ledger.Entry{
			Event: "key.made", Detail: map[string]string{"fingerprint": e.Key.Fingerprint(), "public_key": e.Key.AuthorizedKey()},
		})
	}
	if err != nil {
		return err
	}
	if e.Documents, err = w.keyDocuments(); err != nil {
		return err
	}
	return w.openRing()
}

// signedLedger opens the ledger for whoever signs it.
func (w *workplace) signedLedger(ctx context.Context, key *stationkey.Key, former ledger.Keys, emit func(ingest.Event)) (*ledger.Ledger, error) {
	return ledger.Open(ctx, w.ledgerDir(), ingest.LedgerSigner(key, w.cfg.Station.ID), func(r ledger.Repair) {
		emit(ingest.Event{Name: "ledger.repaired", Level: ingest.Warn, Message: r.String()})
	}, former...)
}

// keysBefore gives the keys that signed before this one. It refuses a key that the list
// of trusted keys does not have as the present one: nobody would trust what it signs,
// and a new key is only ever brought in by the word of the one before it.
func (w *workplace) keysBefore(key *stationkey.Key) (ledger.Keys, error) {
	path := filepath.Join(w.cfg.StateDir, ringName)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the first key; or the list is lost, and the ledger tells of more
	}
	if err := w.openRing(); err != nil {
		return nil, err
	}
	var present *stationkey.Signer
	var other string
	for _, s := range w.evidence.Ring.Signers() {
		switch {
		case s.Principal != w.cfg.Station.ID:
		case s.Key.Equal(key.Public()):
			present = &s
		case s.ValidBefore.IsZero():
			other = s.Fingerprint()
		}
	}
	if present == nil || other != "" {
		return nil, fmt.Errorf("the station's key %s is %s, but the one that is trusted, by %s, is %s: put that one back from its backup; a new key comes in its place only with its word: ingestd key rotate",
			w.keyFile(), key.Fingerprint(), path, cmp.Or(other, "none of them"))
	}
	keys := ingest.LedgerKeys(w.evidence.Ring, *present)
	return keys[:len(keys)-1], nil
}

// keyDocuments reads what there is about changes of the key.
func (w *workplace) keyDocuments() (map[string][]byte, error) {
	dir := filepath.Join(w.cfg.StateDir, keysName)
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("how the key came from those before it: %w", err)
	}
	documents := map[string][]byte{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), handOverSuffix) && !strings.HasSuffix(f.Name(), signersSuffix) {
			continue // whatever it is, it is not to be locked in the bucket
		}
		if documents[f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
			return nil, fmt.Errorf("how the key came from those before it: %w", err)
		}
	}
	return documents, nil
}

// ledgerIsThere refuses to begin a ledger anew where there was one, as the ring shows,
// or sessions that have ended: the station itself would sign another past. With a key
// that was only made now, those are of a time when nothing was signed.
func (w *workplace) ledgerIsThere(ctx context.Context, keyMade bool) error {
	dir := filepath.Join(w.cfg.StateDir, ledgerName)
	if _, err := os.Lstat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	gone := fmt.Errorf("the ledger %s is gone: put it back from its backup, or take it from the bucket: ingestd ledger fetch", dir)
	if _, err := os.Lstat(filepath.Join(w.cfg.StateDir, ringName)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, gone)
	}
	if keyMade {
		return nil
	}
	all, err := w.journal.Sessions(ctx)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.State == journal.StateSealed || s.State == journal.StateFailed {
			return gone
		}
	}
	return nil
}

// makeKey makes the key of a station that never had one. Where something was signed
// already, a new key would pass for a forger's.
func (w *workplace) makeKey() (*stationkey.Key, error) {
	path := filepath.Join(w.cfg.StateDir, keyName)
	for _, left := range []string{ringName, ledgerName} {
		_, err := os.Lstat(filepath.Join(w.cfg.StateDir, left))
		if err == nil {
			return nil, fmt.Errorf("the station's key %s is gone, and %s shows that there was one: put it back from its backup; what a new key signs nobody could tell from a forgery",
				path, filepath.Join(w.cfg.StateDir, left))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return stationkey.Create(path, w.cfg.Station.ID)
}

// openRing reads the keys that are trusted; the first ring has the key that is there.
func (w *workplace) openRing() error {
	path := filepath.Join(w.cfg.StateDir, ringName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && w.evidence.Key != nil {
		ring := &stationkey.Ring{}
		// It may sign documents and the marker of a bucket, and say who comes after it;
		// nothing else.
		if err := ring.Add(stationkey.Signer{
			Principal: w.cfg.Station.ID, Key: w.evidence.Key.Public(),
			Namespaces: []string{manifest.Namespace, ingest.MarkerNamespace, stationkey.Namespace},
		}); err != nil {
			return err
		}
		w.evidence.Ring = ring
		return writeDurably(path, ring.Format())
	}
	if errors.Is(err, fs.ErrNotExist) {
		w.evidence.Ring = &stationkey.Ring{} // nothing was signed yet
		return nil
	}
	if err != nil {
		return fmt.Errorf("the keys that are trusted: %w", err)
	}
	w.evidence.Ring, err = stationkey.ParseRing(text)
	if err != nil {
		return fmt.Errorf("the keys that are trusted, %s: %w", path, err)
	}
	return nil
}

// writeDurably writes a file that is there whole or not at all, for all to read.
func writeDurably(path string, body []byte) error { return replaceFile(path, body, 0o644) }

// replaceFile puts a file in the place of another, at once and durably.
func replaceFile(path string, body []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(body)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// actor is who gives a command, for the ledger.
func actor() string {
	if name := os.Getenv("SUDO_USER"); name != "" && os.Getuid() == 0 {
		return fmt.Sprintf("uid 0 (by sudo of uid %s)", os.Getenv("SUDO_UID"))
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}
