package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

func (a *app) ledgerFetchCmd() *cobra.Command {
	return &cobra.Command{
		Use: "fetch", Short: "Make the ledger's folder anew from the bucket, where it is lost", Args: cobra.NoArgs,
		Long: `fetch makes the folder of the ledger anew from what was published in the bucket. It
refuses where the folder is still there, where a daemon runs, and where the bucket's
copy is not what was signed. What had happened after the last publication is lost:
the ledger goes on from there, and other copies of a later checkpoint will show it.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.ledgerFetch(cmd.Context()) },
	}
}

func (a *app) ledgerFetch(ctx context.Context) (err error) {
	w, err := a.open(ctx, journal.Own, a.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	// Where the list of trusted keys is gone too, it has again the key that signs.
	path, listed := filepath.Join(w.cfg.StateDir, ringName), true
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if w.evidence.Key, err = stationkey.Load(w.keyFile()); err != nil {
			return fmt.Errorf("whose ledger it is can't be told, the list of trusted keys is gone too: %w", err)
		}
		listed = false
	}
	signer, err := w.currentSigner()
	if err != nil {
		return err
	}
	dir, id := filepath.Join(w.cfg.StateDir, ledgerName), w.cfg.Station.ID
	size, unsigned, err := ledger.Fetch(ctx, ingest.LedgerStore{Vault: w.vault}, ingest.LedgerPrefix(id), dir, ingest.LedgerKeys(w.evidence.Ring, signer), ingest.LedgerOrigin(id))
	if err != nil && !listed { // the list that was made for it has one key, and there may have been others before
		err = errors.Join(fmt.Errorf("%w; if the station's key was ever changed, put %s back first: from a backup, or the latest .allowed_signers below %s/keys/ in the bucket, compared with the fingerprints on paper", err, path, id), os.Remove(path))
	}
	if err != nil {
		return broken(err)
	}
	// Its last lines may be missing: what they said of settings and bucket is said again.
	if err := w.journal.ForgetTold(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s has the %d entries that the bucket has\n", dir, size)
	if unsigned > 0 {
		fmt.Fprintf(a.out, "%d more lie in unsigned.jsonl there: whoever can write to the bucket could have put them in; they are left out\n", unsigned)
	}
	return nil
}
