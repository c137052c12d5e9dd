package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/folder"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
)

func (a *app) ingestCmd() *cobra.Command {
	var o ingest.Options
	cmd := &cobra.Command{
		Use:   "ingest DIR",
		Short: "Take in one mounted card or directory, in the foreground",
		Long: `ingest copies everything in DIR, a mounted card or any directory, to the store,
reads it back, locks it, and says whether the recorder may be taken. Files that
are stored already are recognised and not stored again. An ingest that was cut
off is resumed by running it again.

Exit codes: 0 safe to undock · 3 finished, but not every file could be stored ·
1 failed, the session stays open · 4 not registered · 5 no such directory.`,
		Example: "  ingestd ingest /media/card --recorder NMQ0007 --officer 150525",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ingest(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().StringVar(&o.Recorder, "recorder", "", "serial `NUMBER` of the recorder, if the card does not tell it")
	cmd.Flags().StringVar(&o.Officer, "officer", "", "`ID` of the officer (警号 or 执法证号), if the card does not tell it")
	return cmd
}

func (a *app) ingest(ctx context.Context, dir string, o ingest.Options) (err error) {
	if info, err := os.Stat(dir); err != nil {
		return exitError{exitNotFound, err}
	} else if !info.IsDir() {
		return usage(fmt.Errorf("%s is not a directory: ingest takes a mounted card or a directory", dir))
	}
	cfg, err := a.loadSettings(ctx)
	if err != nil {
		return err
	}
	if own := ownFolder(dir, cfg); own != "" {
		return usage(fmt.Errorf("%s and %s lie in one another: what ingestd itself writes is no footage", dir, own))
	}
	w, err := a.open(ctx, journal.Own, a.err)
	if err != nil {
		return err
	}
	end := sync.OnceValue(w.close)
	defer func() {
		if closeErr := end(); !errors.Is(err, closeErr) {
			err = errors.Join(err, closeErr)
		}
	}()
	ctx, release := w.whileStored(ctx)
	defer release()
	log := newLogger(a.err, w.cfg.Log)
	emit := func(e ingest.Event) {
		if e.Level > ingest.Info && !a.quiet {
			logEvent(log, e)
		}
	}
	if err := w.openEvidence(ctx, emit); err != nil {
		return err
	}
	if err := w.takeSettings(ctx); err != nil {
		return err
	}
	station := w.station(emit)
	if err := station.Prepare(ctx); err != nil {
		return err
	}
	o.Progress = &ingest.Progress{}
	stop := a.watchProgress(o.Progress)
	report, ingestErr := station.Ingest(ctx, device.Docking{
		Slot: filepath.Base(filepath.Clean(dir)),
		Open: func(context.Context) (device.Recorder, error) { return folder.Open(dir) },
	}, o)
	stop()
	if ingestErr == nil {
		_ = station.StampLedger(ctx) // told where it fails; what was ingested is as safe without it
	}
	// The store and the journal are closed before anything is said: what fails there
	// must not come behind the word that the recorder may be taken.
	release()
	if closeErr := end(); closeErr != nil {
		report.State, report.Safe = ingest.Failed, false
		ingestErr = errors.Join(ingestErr, closeErr)
	}
	if err := a.printReport(w, report, ingestErr); err != nil {
		return err
	}
	if ingestErr != nil {
		return ingestErr
	}
	if !report.Safe {
		return exitError{exitFindings, errors.New(report.Session.Reason)}
	}
	return nil
}

// ownFolder gives the folder of the station that dir lies in or around, or "".
func ownFolder(dir string, cfg *configs.Config) string {
	resolve := func(path string) string {
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			path = resolved
		}
		return strings.TrimSuffix(path, "/") + "/"
	}
	own := []string{cfg.StateDir}
	if cfg.Storage.Kind == configs.StorageEmbedded {
		own = append(own, cfg.Storage.Embedded.Root)
	}
	card := resolve(dir)
	for _, folder := range own {
		if f := resolve(folder); strings.HasPrefix(card, f) || strings.HasPrefix(f, card) {
			return folder
		}
	}
	return ""
}

// reportJSON is the result of an ingest for machines.
type reportJSON struct {
	Schema    string      `json:"schema"`
	State     string      `json:"state"`
	Safe      bool        `json:"safe_to_undock"`
	Error     string      `json:"error,omitempty"`
	Resumed   bool        `json:"resumed"`
	Files     int         `json:"files"`
	Bytes     int64       `json:"bytes"`
	Stored    int         `json:"stored"`
	Identical int         `json:"identical"`
	NotStored int         `json:"not_stored"`
	BytesRead int64       `json:"bytes_read"`
	Store     string      `json:"store"`
	Session   sessionJSON `json:"session"`
}

func (a *app) printReport(w *workplace, r ingest.Report, ingestErr error) error {
	loc := w.cfg.Station.Timezone
	if a.output == "json" {
		j := reportJSON{
			Schema: "ingestd.report/1", State: string(r.State), Safe: r.Safe, Resumed: r.Resumed,
			Files: r.Totals.Files, Bytes: r.Totals.Bytes, Stored: r.Totals.Stored, Identical: r.Totals.Identical,
			NotStored: r.Totals.NotStored, BytesRead: r.BytesRead, Store: w.vault.Describe(),
			Session: toJSON(r.Session, r.Files, loc),
		}
		if ingestErr != nil {
			j.Error = ingestErr.Error()
		}
		return printJSON(a.out, j)
	}
	p := func(label, format string, args ...any) {
		fmt.Fprintf(a.out, "%s  %s\n", label, fmt.Sprintf(format, args...))
	}
	s := r.Session
	p("session  采集批次  ", "%s", orDash(s.ID))
	p("recorder 记录仪    ", "%s", fact(s.Identity.Serial))
	p("officer  执法人员  ", "%s", fact(s.Identity.Officer))
	p("clock    时间偏差  ", "%s", s.Clock.Words())
	p("files    文件      ", "%d (%s): %d stored, %d identical, %d not stored", r.Totals.Files, size(r.Totals.Bytes), r.Totals.Stored, r.Totals.Identical, r.Totals.NotStored)
	p("read     读取      ", "%s from the recorder", size(r.BytesRead))
	if s.State == journal.StateSealed || s.State == journal.StateFailed {
		p("verified 校验      ", "%s", verificationWords(s.Verification))
		p("kept     保存至    ", "%s (%s)", when(s.RetainUntil, loc), loc)
		p("manifest 清单      ", "%s", s.Manifest.Key)
		p("         SHA-256   ", "%s", s.Manifest.SHA256)
	}
	for _, f := range r.Files {
		if f.State.Bad() {
			p("NOT STORED 未入库  ", "%s: %s: %s", shown(f.Entry.Path), f.State, tame(f.Reason))
		} else if f.State == journal.Noted && f.Entry.Kind != device.KindDir {
			p("noted    未读取    ", "%s: %s, no footage in it: %s", shown(f.Entry.Path), f.Entry.Kind, tame(f.Entry.Note))
		}
	}
	if ingestErr != nil && s.State == journal.StateOpen {
		p("resume   续传      ", "the session stays open; dock the recorder again, or run this again, and it goes on")
	}
	if r.Totals.Files == 0 && ingestErr == nil {
		p("note     注意      ", "there was no file on it 卡内没有文件")
	}
	fmt.Fprintf(a.out, "\n%s\n", headlines[r.State])
	return nil
}

func verificationWords(v string) string {
	if v == ingest.ReadBack {
		return "回读 every stored byte read back and hashed (readback)"
	}
	return "仅服务端校验 by the store's checksums only, weaker than readback (checksum)"
}
