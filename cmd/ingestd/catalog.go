package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest/catalog"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// catalogOrder is what `catalog rebuild` was asked for.
type catalogOrder struct {
	signers string // file; empty: what the station has
	all     bool
	into    string // folder, for all
}

func (a *app) catalogCmd() *cobra.Command {
	var o catalogOrder
	rebuild := &cobra.Command{
		Use: "rebuild [--allowed-signers FILE] [--all-stations --into DIR]", Short: "Make the lost journal anew from the bucket", Args: cobra.NoArgs,
		Long: `rebuild makes the journal of the station anew from what lies in its bucket: the
signed manifests, the ledger and the locks. It never touches a journal that has
anything, and no daemon may run. Where the ledger is lost too, fetch that first:
ingestd ledger fetch.

Signatures are checked by --allowed-signers, else by the list in the state directory,
else by the key there; where none of these is left, by the keys in the bucket itself,
and it says so: those prove nothing to whom the bucket is not trusted.

What can't be had is listed, and the rest is there all the same. Sessions that had not
ended have no manifest: their footage is listed, and comes again with the recorder.

With --all-stations the sessions of all stations of the bucket come into a catalog in
a new folder, for reading only: ingestd sessions list --catalog DIR.

Exit codes: 0 all of it is there · 3 not all of it could be had · 4 there is a journal
already · 5 nothing of the station is in the bucket · 7 another ingestd works here.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.all != (o.into != "") {
				return usage(errors.New("--all-stations and --into go together"))
			}
			return a.catalogRebuild(cmd.Context(), o)
		},
	}
	rebuild.Flags().StringVar(&o.signers, "allowed-signers", "", "`FILE` with the keys that are trusted, as ssh-keygen reads it")
	rebuild.Flags().BoolVar(&o.all, "all-stations", false, "all stations of the bucket, for reading only")
	rebuild.Flags().StringVar(&o.into, "into", "", "new folder `DIR`, for --all-stations")
	return group("catalog", "The journal, made anew from the bucket", rebuild)
}

func (a *app) catalogRebuild(ctx context.Context, o catalogOrder) (err error) {
	w, b, err := a.openCatalogued(ctx, o)
	if errors.Is(err, journal.ErrCatalog) {
		return exitError{exitRefused, err}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ctx, release := w.whileStored(ctx)
	defer release()
	stop := a.countSessions(b)
	result, err := b.Build(ctx)
	stop()
	switch cause := context.Cause(ctx); {
	case err != nil && cause != nil:
		return cause
	case errors.Is(err, journal.ErrNotEmpty):
		return exitError{exitRefused, fmt.Errorf("%s has a journal already, which is left as it is: %w", b.Dir, err)}
	case errors.Is(err, storage.ErrNotFound):
		return exitError{exitNotFound, err}
	case err != nil:
		return err
	}
	if a.output == "json" {
		err = printJSON(a.out, struct {
			Schema string `json:"schema"`
			catalog.Result
		}{"ingestd.catalog/1", result})
	} else {
		a.printCatalog(b, result)
	}
	if err == nil && len(result.Problems) > 0 {
		err = exitError{exitFindings, fmt.Errorf("not all of it could be had: %d problem(s)", len(result.Problems))}
	}
	return err
}

// openCatalogued opens the store, and the journal that is to be filled.
func (a *app) openCatalogued(ctx context.Context, o catalogOrder) (_ *workplace, _ *catalog.Builder, err error) {
	w := &workplace{}
	if w.cfg, err = configs.Load(a.configFile); err != nil {
		return nil, nil, err
	}
	b := &catalog.Builder{Dir: w.cfg.StateDir, Station: w.cfg.Station.ID, Ledger: w.ledgerDir()}
	if o.all {
		b.Dir, b.Station, b.Ledger = o.into, "", ""
		if isDir(o.into, w.cfg.StateDir) {
			return nil, nil, usage(fmt.Errorf("--into %s is the station's own state directory: give a new folder", o.into))
		}
	} else if there, err := w.hasLedger(); err != nil || !there {
		b.Ledger = ""
		if err != nil {
			return nil, nil, err
		}
	}
	if b.Ring, err = w.trusted(o.signers); err != nil {
		return nil, nil, err
	}
	if w.journal, err = journal.Open(b.Dir, journal.Own); err != nil {
		return nil, nil, err
	}
	if err := w.openVault(ctx, a.err); err != nil {
		return nil, nil, errors.Join(err, w.close())
	}
	b.Journal, b.Vault = w.journal, w.vault
	return w, b, nil
}

func isDir(path, dir string) bool {
	a, err1 := os.Stat(path)
	b, err2 := os.Stat(dir)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// trusted gives the keys that signatures are checked by; an empty ring: none are known.
func (w *workplace) trusted(file string) (*stationkey.Ring, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the keys that are trusted: %w", err)
		}
		ring, err := stationkey.ParseRing(text)
		if err != nil {
			return nil, usage(fmt.Errorf("%s: %w", file, err))
		}
		return ring, nil
	}
	if err := w.openRing(); err != nil {
		return nil, err
	}
	key, err := stationkey.Load(w.keyFile())
	switch {
	case len(w.evidence.Ring.Signers()) > 0 || errors.Is(err, stationkey.ErrNone):
		return w.evidence.Ring, nil
	case err != nil:
		return nil, err
	}
	return w.evidence.Ring, w.evidence.Ring.Add(stationkey.Signer{Principal: w.cfg.Station.ID, Key: key.Public()})
}

// countSessions shows on a terminal how far it is, until stop is called.
func (a *app) countSessions(b *catalog.Builder) (stop func()) {
	f, ok := a.err.(*os.File)
	if a.quiet || a.noProgress || !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	var shown time.Time
	b.Progress = func(done, total int) {
		if now := time.Now(); done == total || now.Sub(shown) > redraw {
			shown = now
			fmt.Fprintf(a.err, "\r%d / %d sessions", done, total)
		}
	}
	return func() { fmt.Fprintln(a.err) }
}

func (a *app) printCatalog(b *catalog.Builder, r catalog.Result) {
	for _, p := range r.Problems {
		fmt.Fprintf(a.out, "%-12s %s %s\n             %s\n", p.Kind, orDash(p.Station), tame(p.Session), tame(p.Detail))
	}
	for _, p := range r.Told {
		fmt.Fprintf(a.out, "to know      %s %s\n             %s\n", orDash(p.Station), tame(p.Session), tame(p.Detail))
	}
	for _, s := range r.Stations {
		keys := "keys that were given"
		if s.Keys == catalog.KeysBucket {
			keys = "KEYS FROM THE BUCKET ITSELF, not checked against anything kept elsewhere"
		}
		fmt.Fprintf(a.out, "%-12s %d sessions, %d entries of the ledger; signatures checked by %s\n", s.ID, s.Sessions, s.Ledger, keys)
	}
	fmt.Fprintf(a.out, "%s has %d sessions with %d paths, and %d recorders in the register\n", shown(filepath.Join(b.Dir, journal.FileName)), r.Sessions, r.Files, r.Recorders)
}

// openSessions opens the journal whose sessions are to be shown: the station's, or
// a catalog.
func (a *app) openSessions() (*workplace, error) {
	if a.catalog == "" {
		return a.openJournal(journal.Share)
	}
	w := &workplace{}
	var err error
	if w.cfg, err = configs.Load(a.configFile); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(a.catalog, journal.FileName)); err != nil {
		return nil, fmt.Errorf("the catalog: %w", err)
	}
	w.journal, err = journal.Open(a.catalog, journal.Share)
	return w, err
}
