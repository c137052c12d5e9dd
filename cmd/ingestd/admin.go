package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/register"
	"github.com/bodyworn/ingestd/storage/embedded"
)

func (a *app) recordersCmd() *cobra.Command {
	var r journal.Recorder
	add := &cobra.Command{
		Use: "add SERIAL", Short: "Put a recorder into the register, or change its entry", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Serial = args[0]
			return a.recordersAdd(cmd.Context(), r)
		},
	}
	add.Flags().StringVar(&r.Officer, "officer", "", "`ID` of the officer whom it is assigned to")
	add.Flags().StringVar(&r.Profile, "profile", "", "`NAME` of its make's profile; empty: as it is recognised")
	add.Flags().StringVar(&r.Unit, "unit", "", "`NAME` of the unit (部门) that it belongs to, for rules of the retention file")
	add.Flags().StringVar(&r.Note, "note", "", "anything worth noting; no names of people")
	remove := &cobra.Command{
		Use: "remove SERIAL", Short: "Take a recorder out of the register; its sessions stay", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.recordersRemove(cmd.Context(), args[0]) },
	}
	return group("recorders", "The register of recorders (台账), and the makes that are known", add, remove, a.recordersProfilesCmd(), a.recordersTestCmd(), &cobra.Command{
		Use: "list", Short: "List the register", Args: cobra.NoArgs, Annotations: isList,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.recordersList(cmd.Context()) },
	})
}

func (a *app) recordersAdd(ctx context.Context, r journal.Recorder) (err error) {
	return a.changeRegister(ctx, func(ctx context.Context, all register.Register) error { return all.Add(ctx, r) })
}

func (a *app) recordersRemove(ctx context.Context, serial string) (err error) {
	return a.changeRegister(ctx, func(ctx context.Context, all register.Register) error { return all.Remove(ctx, serial) })
}

func (a *app) changeRegister(ctx context.Context, change func(context.Context, register.Register) error) (err error) {
	w, err := a.openRegister(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	err = change(ctx, register.Register{Journal: w.journal, Record: w.record, HasProfile: hasProfile(w.cfg)})
	switch {
	case errors.Is(err, register.ErrSerial):
		return usage(err)
	case errors.Is(err, register.ErrProfile):
		return exitError{exitNotFound, err}
	}
	return err
}

func hasProfile(cfg *configs.Config) func(name string) (bool, error) {
	return func(name string) (bool, error) {
		profiles, err := loadProfiles(cfg)
		if err != nil {
			return false, err
		}
		_, there := profiles.Named(name)
		return there, nil
	}
}

// openRegister opens journal and ledger for a change of the register. A station that
// has signed nothing yet begins with it, and no daemon can be at work meanwhile.
func (a *app) openRegister(ctx context.Context) (*workplace, error) {
	cfg, err := a.loadSettings(ctx)
	if err != nil {
		return nil, err
	}
	w, err := openJournalOf(cfg, journal.Share)
	if err != nil {
		return nil, err
	}
	err = w.joinEvidence(ctx, a.toldRepair)
	if err == nil {
		return w, nil
	}
	if err = errors.Join(err, w.close()); !errors.Is(err, errNothingSigned) {
		return nil, err
	}
	if w, err = openJournalOf(cfg, journal.Own); err != nil {
		return nil, err
	}
	err = w.openEvidence(ctx, func(e ingest.Event) { fmt.Fprintln(a.err, "ingestd: the ledger was put right:", tame(e.Message)) })
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (a *app) recordersList(ctx context.Context) (err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	all, err := w.journal.Recorders(ctx)
	if err != nil {
		return err
	}
	loc := w.cfg.Station.Timezone
	items := []map[string]any{}
	for _, r := range all {
		items = append(items, map[string]any{"serial": r.Serial, "officer_id": r.Officer, "unit": r.Unit, "profile": r.Profile, "note": r.Note, "added_at": known(r.AddedAt, loc)})
	}
	var rows [][]any
	for _, r := range all {
		rows = append(rows, []any{r.Serial, orDash(r.Officer), orDash(tame(r.Unit)), orDash(r.Profile), orDash(r.Note), when(r.AddedAt, loc)})
	}
	return printList(a, "ingestd.recorders/1", items, "", []string{"SERIAL", "OFFICER", "UNIT", "PROFILE", "NOTE", "ADDED"}, rows)
}

func (a *app) configCmd() *cobra.Command {
	return group("config", "The settings",
		&cobra.Command{
			Use: "check", Short: "Check the settings and the credentials file", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.configCheck() },
		},
		&cobra.Command{
			Use: "show", Short: "Show every setting that is in use and where it comes from", Args: cobra.NoArgs, Annotations: isList,
			RunE: func(*cobra.Command, []string) error { return a.configShow() },
		})
}

func (a *app) configCheck() error {
	cfg, err := configs.Load(a.configFile)
	if err != nil {
		return err
	}
	if cfg.Storage.Kind == configs.StorageS3 {
		if _, _, err := configs.ReadCredentials(cfg); err != nil {
			return err
		}
	}
	if cfg.Admin.Listen != "" {
		if _, err := configs.ReadConsoleSecrets(cfg); err != nil {
			return err
		}
	}
	file := cfg.File()
	if file == "" {
		file = "built-in defaults (there is no " + configs.DefaultPath + ")"
	}
	fmt.Fprintln(a.out, "valid:", file)
	return nil
}

func (a *app) configShow() error {
	cfg, err := configs.Load(a.configFile)
	if err != nil {
		return err
	}
	items := []map[string]string{}
	for _, s := range cfg.Effective() {
		item := map[string]string{"key": s.Key, "value": s.Value, "source": s.Source}
		if digest := digestOf(cfg, s); digest != "" {
			item["rules_sha256"] = digest
		}
		items = append(items, item)
	}
	var rows [][]any
	for _, s := range cfg.Effective() {
		rows = append(rows, []any{s.Key, shownValue(cfg, s), s.Source})
	}
	return printList(a, "ingestd.config/1", items, "", []string{"SETTING", "VALUE", "FROM"}, rows)
}

// shownValue is a setting's value, for a file with rules with what it says: the path
// stays while that changes.
func shownValue(cfg *configs.Config, s configs.Setting) string {
	if digest := digestOf(cfg, s); digest != "" {
		return s.Value + " (rules SHA-256 " + digest + ")"
	}
	return s.Value
}

// digestOf is that of the rules in the file that a setting names, or "".
func digestOf(cfg *configs.Config, s configs.Setting) string {
	if rules := cfg.Retention.Rules(); s.Key == "retention.policy" && rules != nil {
		return rules.Digest()
	}
	return ""
}

// storeCmd is the embedded store's own process; ingestd starts it by itself.
func (a *app) storeCmd() *cobra.Command {
	var root, timezone string
	serve := &cobra.Command{
		Use: "serve", Short: "Serve the embedded store until standard input ends", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			zone, err := time.LoadLocation(timezone)
			if err != nil {
				return usage(err)
			}
			return embedded.Serve(cmd.Context(), embedded.Config{Root: root, Location: zone, Lifeline: os.Stdin})
		},
	}
	serve.Flags().StringVar(&root, "root", "", "folder of the store")
	serve.Flags().StringVar(&timezone, "timezone", "", "the station's time zone")
	for _, required := range []string{"root", "timezone"} {
		if err := serve.MarkFlagRequired(required); err != nil {
			panic(err) // the flag is defined above
		}
	}
	store := group("store", "The embedded store", serve)
	store.Hidden = true
	return store
}

// release is set by the build of a release.
var release = "dev"

func version() string {
	if of := commit(); len(of) >= 12 {
		return release + " (" + of[:12] + ")"
	}
	return release
}

// commit is what the program was built of; empty: not known.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.output == "json" {
				return printJSON(a.out, map[string]string{"schema": "ingestd.version/1", "version": version()})
			}
			fmt.Fprintln(a.out, "ingestd", version())
			return nil
		},
	}
}
