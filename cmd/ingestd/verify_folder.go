package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/bodyworn/ingestd/ingest/fetched"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// folderFlags are those of verify --folder.
type folderFlags struct {
	dir, signers, signedAt, ledger string
	checkpoints                    []string
}

func (f *folderFlags) add(cmd *cobra.Command) {
	to := cmd.Flags()
	to.StringVar(&f.dir, "folder", "", "a fetched session, or several, in `DIR`")
	to.StringVar(&f.signers, "signers", "", "`FILE` with the keys that are trusted (allowed_signers), for --folder")
	to.StringVar(&f.signedAt, "signed-at", "", "`TIME` of the signatures, RFC 3339, as the store has it, where a key has ended since; for --folder")
	to.StringVar(&f.ledger, "ledger", "", "`DIR` with the station's fetched ledger, for --folder")
	to.StringArrayVar(&f.checkpoints, "checkpoint", nil, "checkpoint in a `FILE` that was kept elsewhere, for --ledger; may be given several times")
}

// given says that a flag is set that only --folder knows.
func (f *folderFlags) given() bool {
	return f.signers != "" || f.signedAt != "" || f.ledger != "" || len(f.checkpoints) > 0
}

// options reads what the flags name.
func (f *folderFlags) options() (o fetched.Options, err error) {
	o.Ledger = f.ledger
	if f.signers != "" {
		text, err := os.ReadFile(f.signers)
		if err != nil {
			return o, fmt.Errorf("the keys that are trusted: %w", err)
		}
		if o.Ring, err = stationkey.ParseRing(text); err == nil && len(o.Ring.Signers()) == 0 {
			err = errors.New("there is no key in it")
		}
		if err != nil {
			return o, usage(fmt.Errorf("the keys that are trusted, %s: %w", f.signers, err))
		}
	}
	if f.signedAt != "" {
		if o.SignedAt, err = time.Parse(time.RFC3339, f.signedAt); err != nil {
			return o, usage(fmt.Errorf("--signed-at: %w", err))
		}
	}
	if f.ledger == "" && len(f.checkpoints) > 0 {
		return o, usage(errors.New("--checkpoint is for --ledger"))
	}
	for _, file := range f.checkpoints {
		signed, err := os.ReadFile(file)
		if err != nil {
			return o, fmt.Errorf("the older checkpoint: %w", err)
		}
		o.Checkpoints = append(o.Checkpoints, signed)
	}
	return o, nil
}

func (a *app) verifyFolder(ctx context.Context, f folderFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	progress, stop := a.watchReading()
	o.Progress = progress
	r, err := fetched.Check(ctx, f.dir, o)
	stop()
	if err != nil {
		return err
	}
	if a.output == "json" {
		err = printJSON(a.out, struct {
			Schema string `json:"schema"`
			Whole  bool   `json:"whole"`
			*fetched.Report
		}{"ingestd.verify-folder/1", r.Whole(), r})
	} else {
		a.printFolder(r)
	}
	if err == nil && !r.Whole() {
		err = exitError{exitFindings, fmt.Errorf("not everything is shown to be as it must be: %d finding(s), %d not checked", len(r.Findings), len(r.NotChecked))}
	}
	return err
}

// shownAtMost is how many lines of one kind are printed: a card that was docked again
// can have thousands of files that lie in an earlier session.
const shownAtMost = 50

func (a *app) printFolder(r *fetched.Report) {
	list := func(head string, all []fetched.Finding) {
		for i, f := range all {
			if i == shownAtMost {
				fmt.Fprintf(a.out, "%s … and %d more; -o json has them all\n", head, len(all)-i)
				break
			}
			fmt.Fprintf(a.out, "%s %s %s\n             %s\n", head, f.Problem, shown(f.Path), tame(f.Detail))
		}
	}
	list("FINDING     ", r.Findings)
	list("NOT CHECKED ", r.NotChecked)
	list("to know     ", r.Quarantined)
	if l := r.Ledger; l != nil {
		for _, words := range l.Told {
			fmt.Fprintf(a.out, "to know      ledger\n             %s\n", tame(words))
		}
		fmt.Fprintf(a.out, "ledger       %s: %d entries, root %s, %d checkpoints hold, key %s\n", tame(l.Station), l.Size, l.Root, l.Held, l.Key)
	}
	for _, s := range r.Sessions {
		if s.ID == "" {
			fmt.Fprintf(a.out, "session      %s: which one it is is not known: it has no manifest that can be read\n", shown(s.Path))
			continue
		}
		fmt.Fprintf(a.out, "session      %s of station %s, recorder %s, docked %s, to be kept until %s: %s\n", tame(s.ID), tame(s.Station), orUnknown(tame(s.Recorder)),
			s.DockedAt.Format(time.RFC3339), s.RetainUntil.Format(time.RFC3339), tame(s.Result))
		fmt.Fprintf(a.out, "             %d files are here as listed, %d in other sessions; manifest SHA-256 %s\n", s.Files, s.Elsewhere, s.ManifestSHA256)
		fmt.Fprintf(a.out, "             signed by: %s", orUnknown(s.SignedBy))
		if s.LedgerLine != nil {
			fmt.Fprintf(a.out, "; line %d of the ledger tells of it", *s.LedgerLine)
		}
		fmt.Fprintln(a.out)
		if !s.NamedByFolder {
			fmt.Fprintf(a.out, "             that it is this session says the manifest only: the folder %s has another name\n", shown(s.Path))
		}
		for i, f := range s.NotStored {
			if i == shownAtMost {
				fmt.Fprintf(a.out, "             … and %d more were not stored; -o json has them all\n", len(s.NotStored)-i)
				break
			}
			fmt.Fprintf(a.out, "             was not stored, as the manifest tells: %s: %s: %s\n", shown(f.Path), tame(f.Result), tame(f.Reason))
		}
	}
	fmt.Fprintf(a.out, "%d sessions, %d files, %s read, %d findings, %d not checked\n", len(r.Sessions), r.Files, size(r.Bytes), len(r.Findings), len(r.NotChecked))
}

func orUnknown(s string) string {
	if s == "" {
		return "未知 unknown"
	}
	return s
}

// watchReading shows on a terminal how much is read. The function that it gives is
// called with bytes, by one goroutine; stop removes the bar.
func (a *app) watchReading() (progress func(done, total int64), stop func()) {
	f, ok := a.err.(*os.File)
	if a.quiet || a.noProgress || !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, func() {}
	}
	bars := mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(40), mpb.WithRefreshRate(redraw))
	b := bars.New(0, mpb.BarStyle(), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name("校验 verifying "), decor.CountersKibiByte("% .1f / % .1f ")), mpb.AppendDecorators(decor.Percentage()))
	return func(done, total int64) {
			b.SetTotal(total+1, false) // it is over when stop says so
			b.SetCurrent(done)
		}, func() {
			b.Abort(true)
			bars.Wait()
		}
}
