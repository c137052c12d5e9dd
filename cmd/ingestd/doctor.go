package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage"
)

// severityOK is of a check that was made and found nothing wrong.
const severityOK storage.Severity = "ok"

// severities in the order in which they are shown, with their headings.
var severities = []struct {
	severity storage.Severity
	heading  string
}{
	{storage.SeverityError, "错误 ERROR"}, {storage.SeverityWarning, "警告 WARNING"}, {storage.SeverityNote, "提示 NOTE"}, {severityOK, "正常 OK"},
}

func (a *app) doctorCmd() *cobra.Command {
	var tryKey bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the station and the bucket, and tell what endangers footage and how to mend it",
		Long: `doctor looks at settings, key, ledger, journal, disks and clock of this station and
at the settings of its bucket, and tells of each finding why it matters and how to
mend it. It works beside a running daemon and changes nothing. Run it as the user of
the daemon; a check that could not be made is listed as not checked, with the reason.

With --try-key it also tries what the station's key may do that a station does not
need. That stores up to three objects of a few bytes below ingestd-selftest/, locked
for a minute, and writes settings of the bucket back exactly as they were read: not
while somebody is setting the bucket up.

Exit codes: 0 no error and no warning · 3 there are.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), tryKey) },
	}
	cmd.Flags().BoolVar(&tryKey, "try-key", false, "try what the station's key may do; stores small objects")
	return cmd
}

// doctor is one look. What it opens, close closes.
type doctor struct {
	*workplace // its journal, store and vault are nil where they could not be opened
	app        *app
	fresh      bool // there is no journal: the station was never started here
	findings   []storage.Finding
}

// localChecks are the checks of the station itself, and the look at the bucket, in
// their order: later ones use what earlier ones have opened.
var localChecks = []struct {
	name, subject string
	check         func(*doctor, context.Context)
}{
	{"state_dir", "The state directory", (*doctor).stateDir},
	{"signing_key", "The station's key", (*doctor).stationKey},
	{"trusted_keys", "The list of trusted keys", (*doctor).trustedKeys},
	{"ledger", "The ledger", (*doctor).ledger},
	{"journal", "The journal", (*doctor).openedJournal},
	{"station_clock", "The station's clock", (*doctor).stationClock},
	{"timezone", "The time zone", (*doctor).timezone},
	{"usb", "The USB sockets", (*doctor).usbBus},
}

func (a *app) doctor(ctx context.Context, tryKey bool) (err error) {
	d := &doctor{app: a, workplace: &workplace{}}
	defer func() { err = errors.Join(err, d.close()) }()
	if d.cfg, err = configs.Load(a.configFile); err == nil {
		d.settings()
		for _, c := range localChecks {
			c.check(d, ctx)
		}
		d.bucket(ctx, tryKey)
		d.selfTest(ctx)
	} else {
		d.found(storage.SeverityError, "settings", "The settings are not valid.",
			"ingestd does not start with them, and recorders are not taken in.",
			"Correct them; ingestd config check tells the same.", err)
		for _, c := range localChecks {
			d.notChecked(c.name, c.subject, errors.New("the settings are not valid"))
		}
		d.notChecked("bucket", bucketSubject(), errors.New("the settings are not valid"))
		d.notChecked("self_test", "When the lock was last tried", errors.New("the settings are not valid"))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return d.report()
}

func (d *doctor) settings() {
	file := d.cfg.File()
	if file == "" {
		file = "the built-in defaults, for there is no " + configs.DefaultPath
	}
	d.ok("settings", "The settings are valid: "+file+".")
}

func (d *doctor) close() error {
	var err error
	if d.journal != nil {
		err = d.journal.Close()
	}
	if d.store != nil {
		err = errors.Join(err, d.store.Close())
	}
	return err
}

func (d *doctor) ok(check, what string) {
	d.findings = append(d.findings, storage.Finding{Check: check, Severity: severityOK, What: what})
}

// found tells of a finding; its detail may be nil.
func (d *doctor) found(s storage.Severity, check, what, why, mend string, detail error) {
	f := storage.Finding{Check: check, Severity: s, What: what, Why: why, Mend: mend}
	if detail != nil {
		f.Detail = detail.Error()
	}
	d.findings = append(d.findings, f)
}

// notChecked tells of a check that should have been made and could not.
func (d *doctor) notChecked(check, subject string, reason error) {
	d.findings = append(d.findings, storage.Finding{
		Check: check, Severity: storage.SeverityWarning, NotChecked: true,
		What:   subject + " could not be checked.",
		Why:    "What was not looked at may be in order or not.",
		Mend:   "Run ingestd doctor again as the user of the daemon, when what hindered it is mended.",
		Detail: reason.Error(),
	})
}

// notYet tells of what a station makes at its first start.
func (d *doctor) notYet(check, subject string) {
	d.findings = append(d.findings, storage.Finding{
		Check: check, Severity: storage.SeverityNote, NotChecked: true,
		What: subject + " is not there yet.", Why: "This station has not been started here so far.",
		Mend: "Nothing: ingestd makes it at its first start. If this station has worked before, state_dir is wrong, or was lost.",
	})
}

// hasJournal tells whether a check can ask the journal, and lists it if not.
func (d *doctor) hasJournal(check, subject string) bool {
	switch {
	case d.journal != nil:
		return true
	case d.fresh:
		d.findings = append(d.findings, storage.Finding{
			Check: check, Severity: storage.SeverityNote, NotChecked: true,
			What: subject + " is not known: the journal is not there yet.", Why: "This station has not been started here so far.", Mend: "Nothing.",
		})
	default:
		d.notChecked(check, subject, errors.New("the journal, which knows it, is not open"))
	}
	return false
}

// report prints what was found and gives the exit code.
func (d *doctor) report() error {
	order := func(s storage.Severity) int {
		for i, known := range severities {
			if known.severity == s {
				return i
			}
		}
		return len(severities)
	}
	slices.SortStableFunc(d.findings, func(x, y storage.Finding) int { return order(x.Severity) - order(y.Severity) })
	count := map[storage.Severity]int{}
	for _, f := range d.findings {
		count[f.Severity]++
	}
	bad := count[storage.SeverityError] + count[storage.SeverityWarning]
	if d.app.output == "json" {
		if err := printJSON(d.app.out, map[string]any{
			"schema": "ingestd.doctor/1", "errors": count[storage.SeverityError], "warnings": count[storage.SeverityWarning], "findings": d.findings,
		}); err != nil {
			return err
		}
	} else {
		d.print(count)
	}
	if bad > 0 {
		return exitError{exitFindings, fmt.Errorf("%d error(s), %d warning(s)", count[storage.SeverityError], count[storage.SeverityWarning])}
	}
	return nil
}

// The widths of what is printed, in columns.
const (
	checkWidth = 18
	wordsWidth = 78
)

func (d *doctor) print(count map[storage.Severity]int) {
	for _, s := range severities {
		if count[s.severity] == 0 {
			continue
		}
		fmt.Fprintf(d.app.out, "%s  %d\n", s.heading, count[s.severity])
		for _, f := range d.findings {
			if f.Severity == s.severity {
				d.printFinding(f)
			}
		}
	}
	fmt.Fprintf(d.app.out, "%d error(s), %d warning(s)\n", count[storage.SeverityError], count[storage.SeverityWarning])
}

func (d *doctor) printFinding(f storage.Finding) {
	what := f.What
	if f.NotChecked {
		what = "未检查 not checked: " + what
	}
	d.printWords(f.Check, what)
	if f.Severity == storage.SeverityError || f.Severity == storage.SeverityWarning {
		d.printWords("  why", f.Why)
		d.printWords("  mend", f.Mend)
	}
	if f.Severity != severityOK || f.NotChecked {
		d.printWords("  detail", f.Detail)
	}
}

// printWords prints a label and the words beside it, wrapped below each other.
func (d *doctor) printWords(label, words string) {
	if words == "" {
		return
	}
	for line := range strings.Lines(text.WrapSoft(tame(words), wordsWidth)) {
		fmt.Fprintf(d.app.out, "  %-*s %s\n", checkWidth, label, strings.TrimRight(line, " \n"))
		label = ""
	}
}

// checkBucket is the look at the bucket of a daemon that does not stay. What endangers
// footage there was told as events; it does not keep a daemon from working.
func (a *app) checkBucket(ctx context.Context, station *ingest.Station) error {
	findings, err := station.Audit(ctx)
	if err != nil {
		return err
	}
	count := map[storage.Severity]int{}
	for _, f := range findings {
		count[f.Severity]++
	}
	errs, warnings := count[storage.SeverityError], count[storage.SeverityWarning]
	if errs > 0 {
		return exitError{exitFindings, fmt.Errorf("ingestd could run, but the settings of the bucket endanger footage: %d error(s), %d warning(s), see ingestd doctor", errs, warnings)}
	}
	if warnings > 0 {
		fmt.Fprintf(a.out, "ready: settings, profiles, journal, store and lock are in order; %d warning(s) about the bucket, see ingestd doctor\n", warnings)
		return nil
	}
	fmt.Fprintln(a.out, "ready: settings, profiles, journal, store and lock are in order")
	return nil
}

// storeSpace is the room in the embedded store.
func (w *workplace) storeSpace() (free, total int64, err error) {
	return spaceOf(w.cfg.Storage.Embedded.Root)
}

// spaceOf is the room on the file system of a folder, in bytes; free is what others
// than root may use.
func spaceOf(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}
