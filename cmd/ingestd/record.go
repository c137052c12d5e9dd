package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// errNothingSigned says that the station never had a ledger, as far as can be seen.
var errNothingSigned = errors.New("nothing was signed here yet")

// joinEvidence opens key and ledger for a command that writes to the ledger, perhaps
// beside a daemon. It makes neither.
func (w *workplace) joinEvidence(ctx context.Context, told func(ledger.Repair)) error {
	there, err := w.hasLedger()
	if err != nil {
		return err
	}
	if !there {
		if err := w.ledgerIsThere(ctx, false); err != nil {
			return err
		}
		return errNothingSigned
	}
	return w.openToWrite(ctx, told)
}

// openToWrite opens a key and a ledger that are there.
func (w *workplace) openToWrite(ctx context.Context, told func(ledger.Repair)) (err error) {
	if w.evidence.Key, err = stationkey.Load(w.keyFile()); err != nil {
		return fmt.Errorf("only the station's key can write to the ledger: run this as the user, and with the credentials, of the daemon: %w", err)
	}
	former, err := w.keysBefore(w.evidence.Key)
	if err != nil {
		return err
	}
	w.evidence.Ledger, err = ledger.Open(ctx, w.ledgerDir(), ingest.LedgerSigner(w.evidence.Key, w.cfg.Station.ID), told, former...)
	return err
}

// toldRepair tells what a crash had left of the ledger and was put right.
func (a *app) toldRepair(r ledger.Repair) {
	fmt.Fprintln(a.err, "ingestd: the ledger was put right:", tame(r.String()))
}

// record writes what the one who gives the command does. What is shown of it comes
// after.
func (w *workplace) record(ctx context.Context, e ledger.Entry) error {
	e.Station, e.Actor, e.Clock = w.cfg.Station.ID, actor(), ingest.ClockWords(device.ReadStationClock())
	if e.Time.IsZero() {
		e.Time = time.Now()
		if w.journal != nil {
			e.Time = w.journal.Now()
		}
	}
	e.Time = e.Time.In(w.cfg.Station.Timezone)
	if _, err := w.evidence.Ledger.Append(ctx, e); err != nil {
		return fmt.Errorf("write %s to the ledger: %w", e.Event, err)
	}
	return nil
}

// loadSettings loads the settings for a command that works on the station. That they
// are refused is written to its ledger, where it can be found.
func (a *app) loadSettings(ctx context.Context) (*configs.Config, error) {
	cfg, err := configs.Load(a.configFile)
	var refused *configs.Error
	if errors.As(err, &refused) {
		a.tellSettingsRefused(ctx, refused)
	}
	return cfg, err
}

func (a *app) tellSettingsRefused(ctx context.Context, refused *configs.Error) {
	if refused.StateDir == "" || refused.StationID == "" || refused.Timezone == nil {
		fmt.Fprintln(a.err, "ingestd: that the settings are refused is in no ledger: state_dir, station.id or station.timezone are not known")
		return
	}
	known := &configs.Config{StateDir: refused.StateDir, Station: configs.Station{ID: refused.StationID, Timezone: refused.Timezone}}
	a.tellRefusal(ctx, known, settingsRefused(refused))
}

func settingsRefused(err error) ledger.Entry {
	e := ledger.Entry{Event: "config.refused", Reason: ingest.ReasonOf(err)}
	if refused := (*configs.Error)(nil); errors.As(err, &refused) && refused.File != "" {
		e.Detail = map[string]string{"file": strings.ToValidUTF8(refused.File, "\uFFFD")}
	}
	return e
}

// tellRefusal writes to the ledger what keeps a station from working at all. It hides
// nothing of that: where it can't write, it says so beside it.
func (a *app) tellRefusal(ctx context.Context, cfg *configs.Config, e ledger.Entry) {
	w := &workplace{cfg: cfg}
	there, err := w.hasLedger()
	if err == nil && !there {
		return // one that is lost is told when it is missed
	}
	if err == nil {
		err = w.openToWrite(ctx, a.toldRepair)
	}
	again := false
	if err == nil {
		e.Actor = actor()
		again, err = ingest.RepeatsRefusal(ctx, w.evidence.Ledger, e, time.Now())
	}
	if err == nil && !again {
		err = w.record(ctx, e)
	}
	if err != nil {
		fmt.Fprintf(a.err, "ingestd: %s is not in the ledger %s: %s\n", e.Event, filepath.Join(cfg.StateDir, ledgerName), tame(err.Error()))
	}
}

// settingsMatter is what the journal remembers of the settings that the ledger knows.
const settingsMatter = "settings"

// takeSettings tells the ledger which settings the station works by, unless it was told
// last.
func (w *workplace) takeSettings(ctx context.Context) error {
	before, err := w.journal.Told(ctx, settingsMatter)
	if err != nil || before == settingsMark(w.cfg) {
		return err
	}
	if err := w.record(ctx, ledger.Entry{Event: "config.taken", Detail: settingsDetail(w.cfg)}); err != nil {
		return err
	}
	return w.journal.SetTold(ctx, settingsMatter, settingsMark(w.cfg))
}

func settingsMark(c *configs.Config) string { return settingsDigest(c) + " " + version() }

// settingsDetail names the settings without showing them: who has them can compare.
func settingsDetail(c *configs.Config) map[string]string {
	d := map[string]string{
		"settings_sha256": settingsDigest(c), "retention_months": strconv.Itoa(c.Retention.Months), "software": "ingestd " + version(),
	}
	if rules := c.Retention.Rules(); rules != nil {
		d["retention_sha256"] = rules.Digest()
	}
	return d
}

// settingsDigest is the SHA-256 of a line KEY=VALUE for each setting that is in use, in
// the order and with the values of `ingestd config show`.
func settingsDigest(c *configs.Config) string {
	h := sha256.New()
	for _, s := range c.Effective() {
		fmt.Fprintf(h, "%s=%s\n", s.Key, shownValue(c, s))
	}
	return hex.EncodeToString(h.Sum(nil))
}
