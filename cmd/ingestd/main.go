// Command ingestd takes in the footage of body-worn recorders (执法记录仪采集):
// from a docked card to locked, verified S3 storage, with an answer that can be
// trusted: safe to undock, or not and why.
//
// This package only parses, wires and prints. What happens to footage is in
// packages device, ingest and storage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// Exit codes, for scripts. Every other code is a failure too.
const (
	exitDone        = 0   // done, nothing found
	exitFailed      = 1   // could not be done
	exitUsage       = 2   // wrong command line
	exitFindings    = 3   // finished, and something is not as it must be
	exitRefused     = 4   // refused by policy
	exitNotFound    = 5   // no such session, folder or recorder
	exitConfig      = 6   // the configuration is not valid
	exitLocked      = 7   // another ingestd works on the same state
	exitInterrupted = 130 // by SIGINT or SIGTERM
)

// exitError is an error with the code to exit with.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

// app is what all commands share.
type app struct {
	configFile string
	output     string // one of the forms in list.go
	lang       string // of what people read
	noHeaders  bool
	quiet      bool
	noProgress bool
	catalog    string // folder of a catalog whose sessions are shown; empty: the station's
	out, err   io.Writer
}

func main() {
	// Footage is not on the heap, only what is known of it: a thousand files are two
	// megabytes. Half the slack costs little and keeps a full station small.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{out: os.Stdout, err: os.Stderr}
	err := a.root().ExecuteContext(ctx)
	code := codeOf(err, ctx.Err() != nil)
	stop()
	if err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, "ingestd:", tame(err.Error()))
	}
	os.Exit(code)
}

// codeOf gives the exit code of what a command returned.
func codeOf(err error, interrupted bool) int {
	var withCode exitError
	var config *configs.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &withCode):
		return withCode.code
	case errors.As(err, &config):
		return exitConfig
	case errors.Is(err, journal.ErrLocked):
		return exitLocked
	case errors.Is(err, journal.ErrNotFound), errors.Is(err, os.ErrNotExist), errors.Is(err, custody.ErrNothing):
		return exitNotFound
	case errors.Is(err, ingest.ErrUnregistered), errors.Is(err, ingest.ErrConflict), errors.Is(err, custody.ErrRefused):
		return exitRefused
	case interrupted:
		return exitInterrupted
	}
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ingestd",
		Short: "Take in the footage of body-worn recorders: copied, verified, locked, and only then safe to undock",
		Long: `ingestd takes in the footage of body-worn recorders (执法记录仪采集): it copies
everything on a docked card to S3 storage with Object Lock, reads it back, keeps
it no less than six months, and only then says that the recorder may be taken.

Exit codes: 0 done · 1 failed · 2 wrong command line · 3 finished, with findings ·
4 refused by policy · 5 not found · 6 configuration not valid · 7 another ingestd
works on the same state · 130 interrupted.`,
		SilenceUsage: true, SilenceErrors: true,
		Args:              cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.checkForm(cmd) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.configFile, "config", "", "settings `FILE` (default "+configs.DefaultPath+" if it is there)")
	flags.StringVarP(&a.output, "output", "o", "table", "form of the result: table or json; of lists jsonl and csv too")
	flags.BoolVar(&a.noHeaders, "no-headers", false, "no line of headings above tables")
	flags.StringVar(&a.lang, "lang", "", "`LANGUAGE` of headings: zh-CN or en; empty: as LC_ALL, LC_MESSAGES or LANG say")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print the result and errors only")
	flags.BoolVar(&a.noProgress, "no-progress", false, "no progress bar on a terminal")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(a.ingestCmd(), a.runCmd(), a.sessionsCmd(), a.verifyCmd(), a.retentionCmd(),
		a.recordersCmd(), a.slotsCmd(), a.demoCmd(), a.doctorCmd(), a.configCmd(), a.storeCmd(), a.privilegedCmd(), a.versionCmd())
	root.AddCommand(a.ledgerCmd())
	root.AddCommand(a.keyCmd())
	root.AddCommand(a.tagCmd(), a.holdCmd(), a.catalogCmd(), a.userCmd(), a.setupCmd(), a.statsCmd(), a.manCmd(root))
	usageErrors(root)
	return root
}

func usage(err error) error { return exitError{exitUsage, err} }

// usageErrors gives wrong arguments their exit code: cobra has none for them.
func usageErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage(fmt.Errorf("%w; see %s --help", err, cmd.CommandPath()))
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		usageErrors(sub)
	}
}

// group is a command that only holds others.
func group(name, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var names []string
			for _, s := range cmd.Commands() {
				names = append(names, s.Name())
			}
			return usage(fmt.Errorf("%s needs one of: %s", cmd.CommandPath(), strings.Join(names, ", ")))
		},
	}
	cmd.AddCommand(subs...)
	return cmd
}
