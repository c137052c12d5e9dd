package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

func (a *app) ledgerCmd() *cobra.Command {
	return group("ledger", "What happened here, in a form that can't be changed unseen",
		a.ledgerTailCmd(), a.ledgerVerifyCmd(), a.ledgerCheckpointCmd(), a.ledgerProveCmd(), a.ledgerFetchCmd())
}

func (a *app) ledgerTailCmd() *cobra.Command {
	var lines int
	var from int64
	cmd := &cobra.Command{
		Use: "tail", Short: "Show the last entries, or those from an index on", Args: cobra.NoArgs, Annotations: isList,
		Long: `tail shows the last entries of the ledger. With --from it shows those from that
index on, all of them unless -n is given too. It may run beside the daemon.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin, bounded := cmd.Flags().Changed("from"), cmd.Flags().Changed("lines")
			if lines < 1 || from < 0 {
				return usage(errors.New("-n is at least 1, and --from at least 0"))
			}
			return a.ledgerTail(cmd.Context(), func(size int64) (first, end int64) {
				switch {
				case !begin:
					return max(0, size-int64(lines)), size
				case bounded && from <= size:
					return from, from + min(int64(lines), size-from)
				}
				return from, size
			})
		},
	}
	cmd.Flags().IntVarP(&lines, "lines", "n", 20, "`NUMBER` of entries")
	cmd.Flags().Int64Var(&from, "from", 0, "`INDEX` of the first entry")
	return cmd
}

type ledgerLine struct {
	Index int64        `json:"index"`
	Entry ledger.Entry `json:"entry"`
}

func (a *app) ledgerTail(ctx context.Context, span func(size int64) (first, end int64)) (err error) {
	l, err := a.openLedger(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	size, err := l.Size()
	if err != nil {
		return err
	}
	first, end := span(size)
	if first > size {
		return exitError{exitNotFound, fmt.Errorf("there is no entry %d: the ledger has %d, counted from 0", first, size)}
	}
	items := []ledgerLine{}
	if first < end {
		for stored, err := range l.Read(ctx, first) {
			if err != nil {
				return broken(err)
			}
			items = append(items, ledgerLine{stored.Index, stored.Entry})
			if stored.Index+1 == end {
				break
			}
		}
	}
	if a.output == asJSON {
		return printJSON(a.out, map[string]any{"schema": "ingestd.ledger-entries/1", "size": size, "items": items})
	}
	var rows [][]any
	for _, i := range items {
		e := i.Entry
		rows = append(rows, []any{i.Index, when(e.Time, l.cfg.Station.Timezone), e.Event, orDash(tame(e.Session)), tame(e.Actor), orDash(tame(e.Reason))})
	}
	return printList(a, "ingestd.ledger-entries/1", items, "", []string{"INDEX", "TIME", "EVENT", "SESSION", "ACTOR", "REASON"}, rows, 1)
}

func (a *app) ledgerCheckpointCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "checkpoint", Short: "Print the signed checkpoint of the present size, to be kept elsewhere", Args: cobra.NoArgs,
		Long: `checkpoint prints what the station signs for now: the number of entries and the
root of the tree over them, as a signed note (C2SP tlog-checkpoint). Kept on a disc or
on paper, it shows later, with ledger verify --checkpoint, that nothing up to then was
changed or taken away. It may run beside the daemon.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.ledgerCheckpoint(cmd.Context(), file) },
	}
	cmd.Flags().StringVar(&file, "out", "", "write it to a new `FILE`; none is ever replaced")
	return cmd
}

func (a *app) ledgerCheckpoint(ctx context.Context, file string) (err error) {
	l, err := a.openLedger(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	signed, c, err := l.signed()
	if err != nil {
		return err
	}
	verifier, err := ledger.VerifierKey(l.origin(), l.signer.Key)
	if err != nil {
		return err
	}
	if file != "" {
		if err := writeNew(file, signed); err != nil {
			return fmt.Errorf("write the checkpoint: %w", err)
		}
	}
	switch {
	case a.output == "json":
		return printJSON(a.out, map[string]any{
			"schema": "ingestd.ledger-checkpoint/1", "origin": l.origin(), "size": c.Size, "root": c.Root.String(),
			"key": l.signer.Fingerprint(), "verifier_key": verifier, "checkpoint": string(signed),
		})
	case file == "":
		_, err = a.out.Write(signed)
	case !a.quiet:
		fmt.Fprintf(a.out, "%s: the first %d entries of %s, root %s\n", shown(file), c.Size, l.origin(), c.Root)
	}
	return err
}

// writeNew writes a file where none is: the one that is there may be an older
// checkpoint, and those are worth more.
func writeNew(path string, body []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func (a *app) ledgerProveCmd() *cobra.Command {
	var check, key string
	cmd := &cobra.Command{
		Use: "prove INDEX | --check FILE [--key FILE]", Short: "Prove one entry to somebody else, or check such a proof",
		Long: `prove prints a JSON document with one entry, the proof that it is in the ledger
(RFC 6962) and the signed checkpoint that the proof leads to. Whoever gets it needs
no more than the station's public key.

With --check it checks such a document, and shows the entry. It needs nothing of the
station but its public key, from --key: one line, as ` + "`ingestd key show`" + ` prints it;
compare its fingerprint with the one on paper. Without --key it takes the key of the
station that it runs on; of a former key of that station it takes only what fits the
ledger there, because that key may be in other hands now, which nobody can tell who
gives it with --key. It never takes a key from the document.

Exit codes: 0 done, or the proof holds · 3 it does not hold · 5 no such entry.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if check != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if check != "" {
				return a.ledgerCheckProof(cmd.Context(), check, key)
			}
			if key != "" {
				return usage(errors.New("--key is for --check"))
			}
			index, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || index < 0 {
				return usage(fmt.Errorf("%q is no index: it is the number that ledger tail shows", args[0]))
			}
			return a.ledgerProve(cmd.Context(), index)
		},
	}
	cmd.Flags().StringVar(&check, "check", "", "check the document in `FILE`")
	cmd.Flags().StringVar(&key, "key", "", "`FILE` with the station's public key, for --check")
	return cmd
}

func (a *app) ledgerProve(ctx context.Context, index int64) (err error) {
	l, err := a.openLedger(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	p, err := l.prove(ctx, index)
	if err != nil {
		return err
	}
	return printJSON(a.out, p)
}

// openedLedger is the ledger for whoever only reads it.
type openedLedger struct {
	*workplace
	*ledger.Ledger
	signer stationkey.Signer
}

// openLedger opens the ledger without the private key. What a process had left that
// died while it appended is put right, and told.
func (a *app) openLedger(ctx context.Context) (_ *openedLedger, err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	l := &openedLedger{workplace: w}
	// Opening makes one where there is none, and a station with a ledger but without
	// a key is taken for one that has lost it.
	there, err := w.hasLedger()
	if err == nil && !there {
		err = noLedger(w)
	}
	if err != nil {
		return nil, err
	}
	if l.signer, err = w.currentSigner(); err != nil {
		return nil, err
	}
	keys := ingest.LedgerKeys(w.evidence.Ring, l.signer)
	l.Ledger, err = ledger.Open(ctx, w.ledgerDir(), readOnlySigner{l.origin(), l.signer.Key}, func(r ledger.Repair) {
		fmt.Fprintln(a.err, "ingestd: the ledger was put right:", tame(r.String()))
	}, keys[:len(keys)-1]...)
	if err != nil && w.rotationCutOff() {
		err = fmt.Errorf("%s: %w", rotationCutOff, err)
	}
	return l, broken(err)
}

// readOnlySigner lets a ledger be read without the private key.
type readOnlySigner struct {
	name string
	pub  ed25519.PublicKey
}

func (s readOnlySigner) Name() string                 { return s.name }
func (s readOnlySigner) PublicKey() ed25519.PublicKey { return s.pub }

// SignRaw gives no signature. The ledger reads what it has signed, so it refuses this
// before anything is written.
func (s readOnlySigner) SignRaw([]byte) []byte { return nil }

func (w *workplace) origin() string    { return ingest.LedgerOrigin(w.cfg.Station.ID) }
func (w *workplace) ledgerDir() string { return filepath.Join(w.cfg.StateDir, ledgerName) }

func (w *workplace) hasLedger() (bool, error) {
	_, err := os.Stat(w.ledgerDir())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func noLedger(w *workplace) error {
	return exitError{exitNotFound, fmt.Errorf("there is no ledger in %s: nothing was signed here yet, or it was lost and must be put back", w.ledgerDir())}
}

// broken gives what is wrong with a ledger the code of a finding.
func broken(err error) error {
	if errors.Is(err, ledger.ErrBroken) || errors.Is(err, ledger.ErrHandedOver) || errors.Is(err, ledger.ErrNotHandedOver) {
		return exitError{exitFindings, err}
	}
	return err
}

// signed is the present checkpoint.
func (l *openedLedger) signed() ([]byte, ledger.Checkpoint, error) {
	signed, err := l.Checkpoint()
	if err != nil {
		return nil, ledger.Checkpoint{}, err
	}
	c, err := ledger.ParseCheckpoint(signed, l.signer.Key, l.origin())
	return signed, c, err
}
