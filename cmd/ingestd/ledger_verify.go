package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// The kinds of finding that only this command can make: it knows both sides.
const (
	findingGone        = "gone"        // the bucket has a ledger, the folder is not there
	findingHidden      = "hidden"      // a published object is listed and can't be read
	findingEmptied     = "emptied"     // the bucket has fewer lines than were published
	findingUnpublished = "unpublished" // told: entries that are not in the bucket yet
	findingUnstamped   = "unstamped"   // told: published entries that no time stamp covers yet
	findingUnchecked   = "unchecked"   // told: by whom the time stamps are can't be told
	findingRotation    = "rotation"    // told: a change of the key was cut off
)

func (a *app) ledgerVerifyCmd() *cobra.Command {
	var files []string
	var local bool
	cmd := &cobra.Command{
		Use: "verify", Short: "Read the ledger anew and compare it with everything that was signed", Args: cobra.NoArgs,
		Long: `verify reads every entry in the bucket and in the station's folder, computes the tree
over them, and compares it with all checkpoints in the bucket and with those in
--checkpoint files: from a disc, or typed from paper. Only checkpoints that were kept
elsewhere show that an older state of everything was put back. It changes nothing and
may run beside the daemon.

It trusts the keys in allowed_signers, each up to the line with which it handed over
to the next: compare the fingerprints with those on paper. Time stamps in the bucket
are checked with the authorities in timestamp.ca_file.

Exit codes: 0 all that was signed is there and unchanged · 3 there are findings ·
5 there is no ledger.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.ledgerVerify(cmd.Context(), files, local) },
	}
	cmd.Flags().StringArrayVar(&files, "checkpoint", nil, "older checkpoint in a `FILE`; may be given several times")
	cmd.Flags().BoolVar(&local, "local", false, "the station's folder alone, without the bucket")
	return cmd
}

// ledgerVerification is what was seen, for machines.
type ledgerVerification struct {
	Schema string `json:"schema"`
	Origin string `json:"origin"`
	Key    string `json:"key"`
	// FormerKeys are those before it, in their order.
	FormerKeys []string `json:"former_keys"`
	Sound      bool     `json:"sound"`
	// Bucket and Folder are absent where they were not read, or are not there.
	Bucket *ledgerCopy `json:"bucket,omitempty"`
	Folder *ledgerCopy `json:"folder,omitempty"`
	// Stamps are those in the bucket; absent where it was not read, or has none and none
	// are asked for.
	Stamps *ledgerStamps `json:"stamps,omitempty"`
	// Checkpoints are the given files, in the order of their numbers in findings.
	Checkpoints []string        `json:"checkpoints"`
	Findings    []ledgerFinding `json:"findings"`
	Told        []ledgerFinding `json:"told"`
	Omitted     int             `json:"omitted"`
}

// ledgerCopy is one of the two places in which the ledger is. Size and root are
// computed from the lines, not taken from a checkpoint.
type ledgerCopy struct {
	Size int64  `json:"size"`
	Root string `json:"root"`
	Held int    `json:"checkpoints_that_hold"`
}

type ledgerFinding struct {
	Kind  string `json:"kind"`
	Line  *int64 `json:"line"` // null: it is about no line
	Words string `json:"words"`
}

func (a *app) ledgerVerify(ctx context.Context, files []string, local bool) (err error) {
	var checkpoints [][]byte
	for _, file := range files {
		signed, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("the older checkpoint: %w", err)
		}
		checkpoints = append(checkpoints, signed)
	}
	var w *workplace
	if local {
		w, err = a.openJournal(journal.Share)
	} else {
		w, err = a.open(ctx, journal.Share, a.err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ctx, release := w.whileStored(ctx)
	defer release()
	v, err := w.verifyLedger(ctx, checkpoints, local)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	v.Checkpoints = append(v.Checkpoints, files...)
	if a.output == "json" {
		err = printJSON(a.out, v)
	} else {
		a.printLedgerVerification(v)
	}
	if err == nil && !v.Sound {
		err = exitError{exitFindings, fmt.Errorf("the ledger is not what was signed: %d finding(s)", len(v.Findings))}
	}
	return err
}

// verifyLedger reads bucket and folder, each anew.
func (w *workplace) verifyLedger(ctx context.Context, checkpoints [][]byte, local bool) (*ledgerVerification, error) {
	signer, err := w.currentSigner()
	if err != nil {
		return nil, err
	}
	v := &ledgerVerification{
		Schema: "ingestd.ledger-verify/1", Origin: w.origin(), Key: signer.Fingerprint(),
		FormerKeys: []string{}, Checkpoints: []string{}, Findings: []ledgerFinding{}, Told: []ledgerFinding{},
	}
	keys := ingest.LedgerKeys(w.evidence.Ring, signer)
	for _, former := range keys[:len(keys)-1] {
		v.FormerKeys = append(v.FormerKeys, stationkey.Signer{Key: former}.Fingerprint())
	}
	if w.rotationCutOff() {
		v.Told = append(v.Told, ledgerFinding{findingRotation, nil, rotationCutOff})
	}
	there, err := w.hasLedger()
	if err != nil {
		return nil, err
	}
	if !there && local {
		return nil, noLedger(w)
	}
	if !local {
		dir := ""
		if there {
			dir = w.ledgerDir()
		}
		// The bucket is read first: what is published is in the folder before.
		r, err := ledger.VerifyPublished(ctx, ingest.LedgerStore{Vault: w.vault}, ingest.LedgerPrefix(w.cfg.Station.ID), dir, keys, w.origin())
		switch {
		case errors.Is(err, storage.ErrNotFound):
			v.find(findingHidden, err.Error())
		case err != nil:
			return nil, err
		default:
			v.Bucket = v.take(r, "")
			published, err := w.journal.PublishedLedger(ctx, w.vault.Describe())
			if err != nil {
				return nil, err
			}
			if v.Bucket.Size < published {
				v.find(findingEmptied, fmt.Sprintf("the bucket has %d entries, and %d were published in it: somebody has taken them away", v.Bucket.Size, published))
			}
		}
	}
	if v.Bucket != nil {
		if err := w.verifyStamps(ctx, v); err != nil {
			return nil, err
		}
	}
	if there {
		r, err := ledger.Verify(ctx, w.ledgerDir(), keys, w.origin(), checkpoints...)
		if err != nil {
			return nil, err
		}
		v.Folder = v.take(r, "in the folder, ")
	}
	switch {
	case !there && v.Bucket != nil && v.Bucket.Size == 0 && len(v.Findings) == 0:
		return nil, noLedger(w)
	case !there:
		v.find(findingGone, fmt.Sprintf("the bucket has a ledger, but %s is not there; the given checkpoints were not compared", w.ledgerDir()))
	case v.Bucket != nil && v.Bucket.Size < v.Folder.Size:
		from := v.Bucket.Size
		v.Told = append(v.Told, ledgerFinding{findingUnpublished, &from, fmt.Sprintf("the entries from %d on are not in the bucket; they come there when the next session ends", from)})
	}
	v.Sound = len(v.Findings) == 0
	return v, nil
}

func (v *ledgerVerification) find(kind, words string) {
	v.Findings = append(v.Findings, ledgerFinding{kind, nil, words})
}

// take takes over what a report says, each thing once: the folder is read twice.
func (v *ledgerVerification) take(r *ledger.Report, before string) *ledgerCopy {
	for _, to := range []struct {
		list *[]ledgerFinding
		from []ledger.Finding
	}{{&v.Findings, r.Findings}, {&v.Told, r.Told}} {
		for _, f := range to.from {
			taken := ledgerFinding{Kind: f.Kind, Words: before + f.Words}
			if f.Index >= 0 {
				taken.Line = &f.Index
			}
			if !slices.ContainsFunc(*to.list, func(had ledgerFinding) bool {
				return had.Kind == f.Kind && (had.Words == taken.Words || had.Words == f.Words)
			}) {
				*to.list = append(*to.list, taken)
			}
		}
	}
	v.Omitted += r.Omitted
	return &ledgerCopy{Size: r.Checkpoint.Size, Root: r.Checkpoint.Root.String(), Held: r.Held}
}

func (a *app) printLedgerVerification(v *ledgerVerification) {
	list := func(head string, all []ledgerFinding) {
		for _, f := range all {
			at := ""
			if f.Line != nil {
				at = fmt.Sprintf(" at line %d", *f.Line)
			}
			fmt.Fprintf(a.out, "%s %s%s\n          %s\n", head, f.Kind, at, tame(f.Words))
		}
	}
	list("FINDING  ", v.Findings)
	list("to know  ", v.Told)
	if v.Omitted > 0 {
		fmt.Fprintf(a.out, "%d more are not shown\n", v.Omitted)
	}
	for n, file := range v.Checkpoints {
		fmt.Fprintf(a.out, "given checkpoint number %d: %s\n", n+1, shown(file))
	}
	for _, c := range []struct {
		name string
		*ledgerCopy
	}{{"bucket", v.Bucket}, {"folder", v.Folder}} {
		if c.ledgerCopy != nil {
			fmt.Fprintf(a.out, "%-9s %d entries, root %s, %d checkpoints hold\n", c.name, c.Size, c.Root, c.Held)
		}
	}
	for _, former := range v.FormerKeys {
		fmt.Fprintf(a.out, "former    %s\n", former)
	}
	printStamps(a.out, v.Stamps)
	fmt.Fprintf(a.out, "key       %s (compare it with the one on paper)\n", v.Key)
	if v.Sound {
		fmt.Fprintf(a.out, "%s: all that was signed is there and unchanged\n", v.Origin)
	} else {
		fmt.Fprintf(a.out, "%s: %d findings\n", v.Origin, len(v.Findings))
	}
}
