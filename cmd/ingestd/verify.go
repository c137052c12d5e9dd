package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

func (a *app) verifyCmd() *cobra.Command {
	var all bool
	var sample string
	var seed uint64
	var f folderFlags
	cmd := &cobra.Command{
		Use:   "verify ID… | --all | --sample 5% | --folder DIR",
		Short: "Read stored footage again and compare it with the manifests",
		Long: `verify reads every byte of the named sessions, or of all of them, from the
store, compares it with the manifests, looks at the locks, and lists what is
missing, different, unlocked, hidden or not accounted for. It may run beside the
daemon. The ledger has a line of it, or it is said why not.

With --sample it reads that part of all stored objects, drawn at random, and prints
the seed: with --seed the same ones are drawn again, as long as nothing was stored
in between. It does not look for what lies beside.

With --folder it checks one session, or folders STATION/DATE/SESSION, that any S3 client
has fetched; it needs no settings, store, journal or network, and trusts the keys in
--signers alone: what its owner got from elsewhere than the bucket, for example the
station's allowed_signers with the fingerprint compared on paper. What can't be checked,
as without --signers, is said so and is no success. With --ledger it looks for the line
of each session in what the bucket has below STATION/ledger, and with --checkpoint
whether that ledger still has what was signed then.

With -o jsonl it tells every two seconds how far it is ("type":"status"), then each
finding, and at last a summary, or an error with the exit code; not with --folder.

Exit codes: 0 all is as it must be · 3 there are findings, or something could not be
checked · 5 no such session or folder.`,
		Args: cobra.ArbitraryArgs, Annotations: streams,
		RunE: func(cmd *cobra.Command, args []string) error {
			ways := 0
			for _, way := range []bool{all, len(args) > 0, sample != "", f.dir != ""} {
				if way {
					ways++
				}
			}
			if ways != 1 {
				return usage(errors.New("verify needs session IDs, --all, --sample or --folder, and not both; see ingestd sessions list"))
			}
			if f.dir == "" && f.given() {
				return usage(errors.New("--signers, --signed-at, --ledger and --checkpoint are for --folder"))
			}
			if f.dir != "" && a.output == asJSONL {
				return usage(errors.New("-o jsonl is not for --folder: take json"))
			}
			if f.dir != "" {
				if cmd.Flags().Changed("seed") {
					return usage(errors.New("--seed is for --sample"))
				}
				return a.verifyFolder(cmd.Context(), f)
			}
			if sample == "" {
				if cmd.Flags().Changed("seed") {
					return usage(errors.New("--seed is for --sample"))
				}
				scope := strings.Join(args, " ")
				if all {
					scope = "all"
				}
				return a.verify(cmd.Context(), scope, func(ctx context.Context, v *ingest.Verifier) (ingest.Verification, error) {
					if all {
						return v.All(ctx)
					}
					return v.Sessions(ctx, args)
				})
			}
			percent, err := parsePercent(sample)
			if err != nil {
				return usage(err)
			}
			if !cmd.Flags().Changed("seed") {
				seed = uint64(rand.Uint32()) // short enough to be typed
			}
			return a.verify(cmd.Context(), "sample of "+sample, func(ctx context.Context, v *ingest.Verifier) (ingest.Verification, error) {
				return v.Sample(ctx, percent, seed)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all sessions, and the station's whole part of the bucket")
	cmd.Flags().StringVar(&sample, "sample", "", "a random `PART` of all stored objects, such as 5%")
	cmd.Flags().Uint64Var(&seed, "seed", 0, "`NUMBER` of an earlier sample, to draw it again")
	f.add(cmd)
	return cmd
}

func parsePercent(text string) (float64, error) {
	number, ok := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(percent > 0 && percent <= 100) { // NaN, too, is out
		return 0, fmt.Errorf("--sample %s: it is a part such as 5%% or 0.1%%, above 0%% and at most 100%%", text)
	}
	return percent, nil
}

func (a *app) verify(ctx context.Context, scope string, read func(context.Context, *ingest.Verifier) (ingest.Verification, error)) (err error) {
	w, err := a.open(ctx, journal.Share, a.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.openRing(); err != nil {
		return err
	}
	v := &ingest.Verifier{Vault: w.vault, Journal: w.journal, Station: w.cfg.Station.ID, Ring: w.evidence.Ring}
	ctx, release := w.whileStored(ctx)
	defer release()
	var stop func()
	v.Progress, stop = a.meter()
	result, err := read(ctx, v)
	stop()
	if a.output == asJSONL {
		defer func() {
			if err != nil {
				err = errors.Join(err, a.endLine(err))
			}
		}()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	if err := w.recordVerification(ctx, a.toldRepair, scope, result); err != nil && !errors.Is(err, errNothingSigned) {
		// Whoever may read the store may look whether it is whole, also without the key.
		fmt.Fprintln(a.err, "ingestd: the ledger does not have this verification, or not in the bucket:", tame(err.Error()))
	}
	whole := struct {
		Schema string `json:"schema"`
		ingest.Verification
	}{"ingestd.verify/1", result}
	switch a.output {
	case asJSON:
		err = printJSON(a.out, whole)
	case asJSONL:
		for _, f := range result.Findings {
			err = errors.Join(err, a.line("finding", f))
		}
		if len(result.Findings) == 0 {
			err = errors.Join(err, a.line("summary", whole))
		}
	default:
		a.printVerification(result)
	}
	if err == nil && len(result.Findings) > 0 {
		err = exitError{exitFindings, fmt.Errorf("not everything is as it must be: %d finding(s)", len(result.Findings))}
	}
	return err
}

// foundAtMost bounds the objects that one line names; all findings are counted.
const foundAtMost = 200

// recordVerification tells the ledger what was read and found, before it is shown, and
// publishes it.
func (w *workplace) recordVerification(ctx context.Context, told func(ledger.Repair), scope string, r ingest.Verification) error {
	if err := w.joinEvidence(ctx, told); err != nil {
		return err
	}
	e := ledger.Entry{Event: "verify.done", Detail: map[string]string{
		"scope": scope, "sessions": strconv.Itoa(r.Sessions), "objects": strconv.Itoa(r.Objects),
		"bytes": strconv.FormatInt(r.Bytes, 10), "findings": strconv.Itoa(len(r.Findings)),
	}}
	if r.Sample != nil {
		e.Detail["seed"] = strconv.FormatUint(r.Sample.Seed, 10)
	}
	kinds := map[ingest.Problem]int{}
	for i, f := range r.Findings {
		kinds[f.Problem]++
		if i < foundAtMost {
			e.Objects = append(e.Objects, ledger.Object{Key: strings.ToValidUTF8(f.Key, "\uFFFD"), Version: f.Version})
		}
	}
	for kind, n := range kinds {
		e.Detail[string(kind)] = strconv.Itoa(n)
	}
	if err := w.record(ctx, e); err != nil {
		return err
	}
	return w.station(nil).Publish(ctx)
}

func (a *app) printVerification(r ingest.Verification) {
	for _, f := range r.Findings {
		fmt.Fprintf(a.out, "%-9s %s\n          %s\n", f.Problem, shown(f.Key), tame(f.Detail))
	}
	for _, f := range r.Quarantined {
		fmt.Fprintf(a.out, "%s %s\n          known to be corrupt since %s\n", f.Problem, shown(f.Key), tame(f.Detail))
	}
	if r.ReadTwice > 0 {
		fmt.Fprintf(a.out, "%d objects came back right only when they were read once more: something on the way damages bytes\n", r.ReadTwice)
	}
	if s := r.Sample; s != nil {
		fmt.Fprintf(a.out, "sample of %d of %d objects (%v%%), --seed %d\n", s.Size, s.Population, s.Percent, s.Seed)
	}
	fmt.Fprintf(a.out, "%d sessions, %d objects, %s read back, %d findings", r.Sessions, r.Objects, size(r.Bytes), len(r.Findings))
	if r.Open > 0 {
		fmt.Fprintf(a.out, "; %d sessions have not ended", r.Open)
	}
	if r.Disposed > 0 {
		fmt.Fprintf(a.out, "; of %d sessions the footage was disposed of 到期销毁", r.Disposed)
	}
	if r.Elsewhere > 0 {
		fmt.Fprintf(a.out, "; %d sessions lie in another bucket and were not looked at", r.Elsewhere)
	}
	fmt.Fprintln(a.out)
}
