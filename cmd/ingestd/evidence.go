package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
// first line. What a crash had left and was put right is told.
func (w *workplace) openEvidence(ctx context.Context, emit func(ingest.Event)) (err error) {
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
	e.Ledger, err = ledger.Open(ctx, filepath.Join(w.cfg.StateDir, ledgerName), ingest.LedgerSigner(e.Key, w.cfg.Station.ID), func(r ledger.Repair) {
		emit(ingest.Event{Name: "ledger.repaired", Level: ingest.Warn, Message: r.String()})
	})
	if err != nil {
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
	return w.openRing()
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

// writeDurably writes a file that is there whole or not at all.
func writeDurably(path string, body []byte) (err error) {
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
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
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
