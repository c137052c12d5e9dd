package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

func (a *app) verifyCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "verify [ID…]",
		Short: "Read stored footage again and compare it with the manifests",
		Long: `verify reads every byte of the named sessions, or of all of them, from the
store, compares it with the manifests, looks at the locks, and lists what is
missing, different, unlocked, hidden or not accounted for. It may run beside the
daemon.

Exit codes: 0 all is as it must be · 3 there are findings · 5 no such session.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usage(errors.New("verify needs session IDs or --all, and not both; see ingestd sessions list"))
			}
			return a.verify(cmd.Context(), args)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all sessions, and the station's whole part of the bucket")
	return cmd
}

func (a *app) verify(ctx context.Context, ids []string) (err error) {
	w, err := a.open(ctx, journal.Share, a.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	v := &ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.Station.ID}
	var result ingest.Verification
	if len(ids) > 0 {
		result, err = v.Sessions(ctx, ids)
	} else {
		result, err = v.All(ctx)
	}
	if err != nil {
		return err
	}
	if a.output == "json" {
		err = printJSON(a.out, struct {
			Schema string `json:"schema"`
			ingest.Verification
		}{"ingestd.verify/1", result})
	} else {
		a.printVerification(result)
	}
	if err == nil && len(result.Findings) > 0 {
		err = exitError{exitFindings, fmt.Errorf("not everything is as it must be: %d finding(s)", len(result.Findings))}
	}
	return err
}

func (a *app) printVerification(r ingest.Verification) {
	for _, f := range r.Findings {
		fmt.Fprintf(a.out, "%-9s %s\n          %s\n", f.Problem, shown(f.Key), tame(f.Detail))
	}
	fmt.Fprintf(a.out, "%d sessions, %d objects, %s read back, %d findings", r.Sessions, r.Objects, size(r.Bytes), len(r.Findings))
	if r.Open > 0 {
		fmt.Fprintf(a.out, "; %d sessions have not ended", r.Open)
	}
	fmt.Fprintln(a.out)
}
