package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

const (
	// nextKeyName is the new key while the change is under way. That it is there says
	// that one is; whether it has begun, the ledger says.
	nextKeyName = keyName + ".next"
	// The documents of a change, by the new key's fingerprint.
	handOverSuffix = ".handover.json"
	signersSuffix  = ".allowed_signers"

	// mostAhead is how far the store's clock may be from the station's. The change has
	// the store's time, by which signatures are checked; a list of keys that begins in the
	// future would not trust the new key yet.
	mostAhead = time.Minute

	rotationCutOff = "a change of the station's key was cut off: start ingestd or give `ingestd key rotate` again, and it is brought to its end"
)

func (a *app) keyRotateCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "rotate --reason TEXT", Short: "Sign with a new key from now on, by the word of the present one", Args: cobra.NoArgs,
		Long: `rotate makes a new key and has the present one hand over to it: by a line of the
ledger, after which the former key may sign no checkpoint, and by a document that both
keys sign. They are published in the bucket, with the list of keys that are trusted.
What was signed before stays valid. Then the former private key is removed: remove
its backups too, make one of the new key, and write the new fingerprint on paper.

If it is cut off, it goes on when ingestd is started or the command is given again;
nothing is ever signed with a key that could not be trusted. It refuses to run beside
the daemon, and must be given as the user who owns the key.

Where the service has the key as the systemd credential ` + keyCredential + `, which can't be
written from here: stop the service, decrypt the credential into station.key in the
state directory (systemd-creds decrypt; chown it to the service's user, chmod 600),
rotate as that user, encrypt station.key as the new credential, try that the service
starts, and remove station.key.

Exit codes: 0 the new key signs · 1 failed; the message says which key is in force ·
4 refused · 7 a daemon runs.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return usage(errors.New("key rotate needs --reason: it stands in the ledger for as long as footage does"))
			}
			return a.keyRotate(cmd.Context(), reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` that says why, for the ledger")
	return cmd
}

// rotationJSON tells of a change of the key.
type rotationJSON struct {
	Schema  string `json:"schema"`
	Station string `json:"station"`
	// OldKey and NewKey are fingerprints.
	OldKey string    `json:"old_key"`
	NewKey string    `json:"new_key"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	// LastSize is the largest size of the ledger that the old key may sign.
	LastSize int64 `json:"last_size"`
	// Resumed: the change had begun before.
	Resumed bool `json:"resumed"`
}

func (a *app) keyRotate(ctx context.Context, reason string) (err error) {
	w, err := a.open(ctx, journal.Own, a.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ctx, release := w.whileStored(ctx)
	defer release()
	log := newLogger(a.err, w.cfg.Log)
	emit := func(e ingest.Event) {
		if e.Level > ingest.Info && !a.quiet {
			logEvent(log, e)
		}
	}
	if err := w.mayRotate(); err != nil {
		return exitError{exitRefused, err}
	}
	done, err := w.settleRotation(ctx, emit)
	if err == nil && done == nil {
		done, err = w.rotate(ctx, reason, emit)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w: %w", err, cause) // the error says which key is in force
	}
	if err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(a.out, done)
	}
	fmt.Fprintf(a.out, "station 采集站      %s\nformer key 原密钥   %s\nnew key 新密钥      %s\nsince 启用时间      %s\nreason 原因         %s\nledger 存证日志     the former key may sign for its first %d entries, and for no more\n",
		done.Station, done.OldKey, done.NewKey, when(done.At, w.cfg.Station.Timezone), tame(done.Reason), done.LastSize)
	if done.Resumed {
		fmt.Fprintln(a.out, "this change was cut off before and is finished now; the reason is that of then")
	}
	if !a.quiet {
		fmt.Fprintf(a.out, `请将新的公钥指纹抄写在纸上，另存 %s 的副本，并销毁原密钥的所有副本。
Write the new fingerprint down on paper beside the old one, make a backup of
%[1]s,
and destroy all copies of the former private key: here it is removed.
`, shown(filepath.Join(w.cfg.StateDir, keyName)))
	}
	return nil
}

// mayRotate refuses what would leave a station that can't sign.
func (w *workplace) mayRotate() error {
	if err := w.keyIsFile(); err != nil {
		return err
	}
	path := filepath.Join(w.cfg.StateDir, keyName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no key %s: nothing was signed here yet, it is lost, or the service has it as a credential; see ingestd key rotate --help", path)
	}
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user: give this command as that one, or the service could not read the new key", path)
	}
	return nil
}

func (w *workplace) keyIsFile() error {
	if in := w.keyFile(); in != filepath.Join(w.cfg.StateDir, keyName) {
		return fmt.Errorf("the key is the credential %s, which can't be written from here; see ingestd key rotate --help for how it is done in two steps", in)
	}
	return nil
}

// rotate changes the key of a station that is in order.
func (w *workplace) rotate(ctx context.Context, reason string, emit func(ingest.Event)) (*rotationJSON, error) {
	if err := w.openEvidence(ctx, emit); err != nil {
		return nil, err
	}
	old := w.evidence.Key
	// Sessions that were cut off while they were being sealed have their signatures
	// already: they go into the store now, by whose time they are checked.
	station := w.station(emit)
	if err := station.Prepare(ctx); err != nil {
		return nil, fmt.Errorf("the key is the same: %w", err)
	}
	half, err := w.journal.HalfSealed(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range half {
		emit(ingest.Event{Name: "key.session_left", Level: ingest.Warn, Session: s.ID,
			Message: "the session can't be sealed now; its manifest is signed with the former key, and if it is stored later, verify will not trust it"})
	}
	if ahead := w.vault.StoreAhead(); ahead.Abs() > mostAhead {
		return nil, exitError{exitRefused, fmt.Errorf("the key is the same: the clocks of station and store differ by %s, and the list of keys goes by them: set them right first", ahead.Abs())}
	}
	if err := station.Publish(ctx); err != nil {
		return nil, fmt.Errorf("the key is the same: %w", err)
	}
	rotationStep("published")
	next, err := stationkey.Create(filepath.Join(w.cfg.StateDir, nextKeyName), w.cfg.Station.ID)
	if err != nil {
		return nil, fmt.Errorf("the key is the same: %w", err)
	}
	rotationStep("made")
	former, err := w.keysBefore(old)
	if err != nil {
		return nil, err
	}
	r := &rotation{old: old, next: next, former: append(former, old.Public())}
	// What would be refused behind the line must not be found out there.
	if _, _, err := w.handOver(r, reason, w.vault.Now()); err != nil {
		return nil, errors.Join(fmt.Errorf("the key is the same: %w", err), w.dropNextKey())
	}
	e, err := ledger.Rotated(ledger.Entry{
		Time: w.journal.Now().In(w.cfg.Station.Timezone), Station: w.cfg.Station.ID, Actor: actor(), Reason: reason,
		Detail: map[string]string{
			"old_fingerprint": old.Fingerprint(), "new_fingerprint": next.Fingerprint(), "new_public_key": next.AuthorizedKey(),
		},
	}, w.origin(), old.Public(), next.Public())
	if err == nil {
		_, err = w.evidence.Ledger.Append(ctx, e)
	}
	if err != nil {
		return nil, fmt.Errorf("whether the change has begun is seen when ingestd is started: %w", err)
	}
	rotationStep("begun")
	return w.finishRotation(ctx, r, emit)
}
