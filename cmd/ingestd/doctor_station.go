package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// The room that the state directory needs, in bytes: some KiB for each file of a
// card, and a disk that is full stops every session.
const (
	stateSpaceError   = 256 << 20
	stateSpaceWarning = 2 << 30
)

// fellBackOver is how far a clock may be behind what was seen before, as at the start
// of the daemon.
const fellBackOver = time.Minute

// isThere looks for a file without opening it. Where that can't be told, the check is
// listed as not made.
func (d *doctor) isThere(check, subject, path string) (there, known bool) {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return true, true
	case errors.Is(err, fs.ErrNotExist):
		return false, true
	}
	d.notChecked(check, subject, err)
	return false, false
}

func (d *doctor) stateDir(context.Context) {
	const check = "state_dir"
	dir := d.cfg.StateDir
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.notYet(check, "The state directory "+dir)
		return
	case err != nil:
		d.notChecked(check, "The state directory "+dir, err)
		return
	}
	switch mode := info.Mode(); {
	case !mode.IsDir():
		d.found(storage.SeverityError, check, dir+" is no directory.", "The station keeps its journal, key and ledger there.", "Set state_dir to a directory of the station's own.", nil)
	case mode.Perm()&0o022 != 0:
		d.found(storage.SeverityError, check, fmt.Sprintf("Others can write into %s, its mode is %04o.", dir, mode.Perm()),
			"Whoever can write there can put another journal, key or ledger in the place of the station's, and so hide what is lost (第十三条(三)).",
			"chmod 0700 "+dir+", then find out what was changed there.", nil)
	case mode.Perm()&0o055 != 0:
		d.found(storage.SeverityWarning, check, fmt.Sprintf("Others can list %s, its mode is %04o.", dir, mode.Perm()),
			"What officers recorded, and when, is internal material (第十二条).", "chmod 0700 "+dir, nil)
	default:
		d.ok(check, dir+" is closed to others.")
	}
	free, _, err := spaceOf(dir)
	const spaceCheck = "state_space"
	const why = "Without room the journal can't be written, and no recorder can be taken in (第十条: storage space is checked before use)."
	what := fmt.Sprintf("%s are free for %s.", size(free), dir)
	switch mend := "Make room on that disk, or move state_dir to a larger one: stop ingestd, copy the directory with cp -a, set state_dir, start it."; {
	case err != nil:
		d.notChecked(spaceCheck, "The room for the state directory", err)
	case free < stateSpaceError:
		d.found(storage.SeverityError, spaceCheck, what, why, mend, nil)
	case free < stateSpaceWarning:
		d.found(storage.SeverityWarning, spaceCheck, what, why, mend, nil)
	default:
		d.ok(spaceCheck, what)
	}
}

func (d *doctor) stationKey(context.Context) {
	const check, subject = "signing_key", "The station's key"
	path := d.keyFile()
	key, err := stationkey.Load(path)
	switch {
	case err == nil:
		d.evidence.Key = key
		if d.rotationCutOff() {
			d.found(storage.SeverityWarning, check, "A change of the station's key was cut off.",
				"Until it is finished the ledger can't be read with the keys that are trusted.", "Start ingestd, or: ingestd key rotate.", nil)
			return
		}
		d.ok(check, path+" is the key "+key.Fingerprint()+", closed to others.")
	case errors.Is(err, stationkey.ErrNone):
		for _, left := range []string{ringName, ledgerName} {
			there, known := d.isThere(check, subject, filepath.Join(d.cfg.StateDir, left))
			if !known {
				return
			}
			if there {
				d.found(storage.SeverityError, check, "The station's key "+path+" is gone; "+left+" shows that there was one.",
					"ingestd does not start: what a new key signs nobody could tell from a forgery (第十三条(三)).",
					"Put the key back from its backup.", err)
				return
			}
		}
		d.notYet(check, subject)
	case errors.Is(err, fs.ErrPermission):
		d.notChecked(check, subject, err)
	default:
		d.found(storage.SeverityError, check, "The station's key can't be used.",
			"ingestd does not start with it. With a key that others can read, anybody can sign manifests in the station's name (第十三条(三)).",
			"Do what the detail says: "+path+" must be an Ed25519 key with mode 0600.", err)
	}
}

func (d *doctor) trustedKeys(context.Context) {
	const check, subject = "trusted_keys", "The list of trusted keys"
	path := filepath.Join(d.cfg.StateDir, ringName)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.evidence.Key == nil:
		d.notYet(check, subject+" "+path)
		return
	case errors.Is(err, fs.ErrNotExist):
		d.found(storage.SeverityWarning, check, "The list of trusted keys "+path+" is gone.",
			"ingestd makes a new one with the present key alone: what an earlier key has signed can't be verified here then.",
			"Put it back from its backup before ingestd is started again.", nil)
		return
	case err != nil:
		d.notChecked(check, subject, err)
		return
	}
	ring, err := stationkey.ParseRing(text)
	if err != nil {
		d.found(storage.SeverityError, check, "The list of trusted keys "+path+" can't be read.", "ingestd does not start, and no signature can be verified.",
			"Put it back from its backup.", err)
		return
	}
	d.evidence.Ring = ring
	if d.evidence.Key == nil {
		d.notChecked(check, "Whether the list of trusted keys has the station's key", errors.New("the station's key could not be loaded"))
		return
	}
	if err := d.signs(manifest.Namespace); err != nil {
		d.found(storage.SeverityError, check, "What the station's key signs is not trusted by "+path+".",
			"Nobody can verify the manifests of this station (第十三条(三)).",
			"Put both files back from the same backup. Never add a key by hand that nobody can vouch for.", err)
		return
	}
	d.ok(check, fmt.Sprintf("%s has %d key(s), and trusts what the station's key signs.", path, len(ring.Signers())))
}

// signs tries whether the ring takes what the key signs now.
func (d *doctor) signs(namespace string) error {
	probe := []byte("ingestd doctor tries whether this key is trusted\n")
	signature, err := d.evidence.Key.Sign(namespace, probe)
	if err != nil {
		return err
	}
	signer, err := d.evidence.Ring.Verify(namespace, probe, signature, time.Now())
	if err == nil && signer.Principal != d.cfg.Station.ID {
		err = fmt.Errorf("the list has it as the key of %q, this is station %q", signer.Principal, d.cfg.Station.ID)
	}
	return err
}

func (d *doctor) ledger(ctx context.Context) {
	const check, subject = "ledger", "The ledger"
	dir := filepath.Join(d.cfg.StateDir, ledgerName)
	switch there, known := d.isThere(check, subject, dir); {
	case !known:
		return
	case !there && d.evidence.Key == nil:
		d.notYet(check, subject+" "+dir)
		return
	case !there:
		d.found(storage.SeverityError, check, "The ledger "+dir+" is gone.",
			"ingestd does not start without it where it was (第十三条(三)). What was published is in the bucket still.",
			"Put it back from its backup, or take it from the bucket: ingestd ledger fetch.", nil)
		return
	case d.evidence.Key == nil:
		d.notChecked(check, subject, errors.New("the station's key, with which it is verified, could not be loaded"))
		return
	}
	present := stationkey.Signer{Principal: d.cfg.Station.ID, Key: d.evidence.Key.Public()}
	keys := ledger.Keys{present.Key}
	if d.evidence.Ring != nil {
		keys = ingest.LedgerKeys(d.evidence.Ring, present)
	}
	report, err := ledger.Verify(ctx, dir, keys, ingest.LedgerOrigin(d.cfg.Station.ID))
	if err != nil {
		d.notChecked(check, subject, err)
		return
	}
	if len(report.Told) > 0 {
		d.found(storage.SeverityNote, check, "Something about the ledger is worth knowing; nothing of it is broken.", "", "", wordsOf(report.Told))
	}
	if len(report.Findings) > 0 {
		d.found(storage.SeverityError, check, "The ledger "+dir+" is not what was signed.",
			"It is the record of what happened at this station (第十三条(三)). ingestd does not start on it.",
			"Change nothing in it. Keep a copy, and compare it with what is in the bucket and with checkpoints that were kept elsewhere.", wordsOf(report.Findings))
		return
	}
	d.ok(check, fmt.Sprintf("%d line(s) are as they were signed.", report.Checkpoint.Size))
}

func wordsOf(findings []ledger.Finding) error {
	var lines []string
	for _, f := range findings {
		lines = append(lines, f.String())
	}
	return errors.New(strings.Join(lines, "\n"))
}

func (d *doctor) openedJournal(ctx context.Context) {
	const check, subject = "journal", "The journal"
	path := filepath.Join(d.cfg.StateDir, journal.FileName)
	there, known := d.isThere(check, subject, path)
	if !known {
		return
	}
	if !there { // to open it would make it
		d.fresh = true
		d.notYet(check, subject+" "+path)
		return
	}
	j, err := journal.Open(d.cfg.StateDir, journal.Share)
	var problems []string
	if err == nil {
		d.journal = j
		problems, err = j.QuickCheck(ctx)
	}
	const why = "The journal knows what of a recorder is stored already, and which sessions have to be finished."
	mend := "Stop ingestd, keep a copy of " + path + "*, and put the last good backup in its place. Footage that is stored is not lost: its manifests are in the bucket."
	switch {
	case errors.Is(err, fs.ErrPermission), ctx.Err() != nil:
		d.notChecked(check, subject, err)
	case err != nil:
		d.found(storage.SeverityError, check, "The journal can't be opened or read.", why, mend, err)
	case len(problems) > 0:
		d.found(storage.SeverityError, check, "The journal is damaged.", why, mend, errors.New(strings.Join(problems, "\n")))
	default:
		d.ok(check, path+" is whole.")
	}
}

func (d *doctor) stationClock(context.Context) {
	const check = "station_clock"
	const why = "Retention is counted by this clock (第十一条), and recorders' clocks are compared with it (第十条)."
	if !d.hasJournal(check, "Whether the station's clock fell back") {
		// listed
	} else if back := d.journal.ClockFellBack(); back > fellBackOver {
		d.found(storage.SeverityError, check, fmt.Sprintf("The station's clock is %s behind the latest time that it has seen.", back.Round(time.Second)),
			why, "Set it, and find out who or what set it back: an empty battery of the board, or a hand.", nil)
	}
	clock := device.ReadStationClock()
	if !clock.Synchronised {
		d.found(storage.SeverityWarning, check, "No time service is known to keep the station's clock.", why+" No recorder's clock is set meanwhile.",
			"Set up chrony, ntpd or systemd-timesyncd; then: timedatectl, or chronyc tracking.", errors.New(clock.Why))
		return
	}
	d.ok(check, fmt.Sprintf("A time service keeps the clock, to %s at the worst.", clock.MaxError.Round(time.Millisecond)))
}

func (d *doctor) timezone(context.Context) {
	zone := d.cfg.Station.Timezone
	d.ok("timezone", fmt.Sprintf("%s is known; it is %s there.", zone, time.Now().In(zone).Format("2006-01-02 15:04 -07:00")))
}

// usbBus looks at what the daemon's watch needs to see and to reach recorders.
func (d *doctor) usbBus(context.Context) {
	const check = "usb"
	if d.cfg.USB.Watch == configs.WatchOff {
		d.ok(check, "No socket is to be watched: usb.watch is off.")
		return
	}
	const why = "Recorders are docked there. One that is not seen is not taken in, and its footage stays where it can be lost (第十条)."
	found, err := usb.Scan("/sys")
	if err != nil {
		d.found(storage.SeverityError, check, "The USB bus can't be seen, and usb.watch is not off.", why,
			"Look whether this machine has USB at all (lsusb), and whether /sys shows it to ingestd: containers often hide it.", err)
		return
	}
	nodes, err := os.ReadDir("/dev/bus/usb")
	if err == nil {
		err = usb.Available()
	}
	if err != nil {
		d.found(storage.SeverityWarning, check, "Recorders that are reached by PTP or commands can't be reached; cards are read.", why,
			"ingestd needs /dev/bus/usb and libusb; see the detail.", err)
		return
	}
	d.ok(check, fmt.Sprintf("%d devices on %d buses are seen.", len(found), len(nodes)))
}
