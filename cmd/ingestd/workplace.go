package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator/rack"
	"github.com/bodyworn/ingestd/device/staging"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/embedded"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/tsa"
)

const (
	// openStoreWithin bounds the start of the embedded store.
	openStoreWithin = time.Minute
	// openTries is how often a store is opened that ends while it is.
	openTries = 3
	// patience is how long a session waits for a store that does not answer.
	patience = 2 * time.Minute
)

// workplace is a configured station: settings, journal, store and vault.
type workplace struct {
	cfg     *configs.Config
	journal *journal.Journal
	store   *embedded.Store // nil with an external one
	vault   *storage.Vault
	// credentials is a file with another key of the store than the station's; empty: its.
	credentials string
	staging     *staging.Dir // nil: none; opened by the daemon alone
	service     *supervised  // nil but for the daemon
	rack        *rack.Rack   // nil but for the demo
	// evidence is opened by whoever signs; its ring by whoever checks.
	evidence ingest.Evidence
}

// openJournal loads the settings and opens the journal alone.
func (a *app) openJournal(access journal.Access) (*workplace, error) {
	cfg, err := configs.Load(a.configFile)
	if err != nil {
		return nil, err
	}
	return openJournalOf(cfg, access)
}

func openJournalOf(cfg *configs.Config, access journal.Access) (_ *workplace, err error) {
	w := &workplace{cfg: cfg}
	if w.journal, err = journal.Open(w.cfg.StateDir, access); err != nil {
		return nil, err
	}
	return w, nil
}

// open opens all of it. What the embedded store says goes to log. What is refused is
// written to the ledger, if there is one.
func (a *app) open(ctx context.Context, access journal.Access, log io.Writer) (_ *workplace, err error) {
	cfg, err := a.loadSettings(ctx)
	if err != nil {
		return nil, err
	}
	w, err := openJournalOf(cfg, access)
	if err != nil {
		return nil, err
	}
	if w.cfg.File() == "" && !a.quiet {
		fmt.Fprintf(a.err, "ingestd: no settings file (%s, or --config): built-in defaults, station %s, store %s\n",
			configs.DefaultPath, w.cfg.Station.ID, w.cfg.Storage.Embedded.Root)
	}
	for try := 1; ; try++ {
		err := w.openVault(ctx, log)
		if err == nil {
			return w, nil
		}
		// Another ingestd, whose store it was, has ended in this moment. The next one
		// is ours.
		if again := try < openTries && w.store != nil && !w.store.Started() && w.store.Err() != nil; !again {
			if access == journal.Own && errors.Is(err, storage.ErrNoLock) {
				a.tellRefusal(ctx, w.cfg, ledger.Entry{Event: "bucket.refused", Reason: ingest.ReasonOf(err), Detail: map[string]string{"store": w.cfg.Storage.Bucket}})
			}
			return nil, errors.Join(err, w.close())
		}
		if err := w.store.Close(); err != nil {
			return nil, errors.Join(err, w.close())
		}
		w.store = nil
	}
}

// whileStored gives a context that ends, with the reason, when the embedded store
// does: whoever works on would only wait for a store that can't come back by
// itself.
func (w *workplace) whileStored(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if w.store != nil {
		go func() {
			select {
			case <-w.store.Done():
				cancel(fmt.Errorf("the embedded store has ended: %w; what is not stored is still on the recorder: start ingestd again", w.store.Err()))
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

func (w *workplace) openVault(ctx context.Context, log io.Writer) error {
	vault, err := w.reachStore(ctx, log)
	if err != nil {
		return err
	}
	w.vault, err = storage.Open(ctx, vault)
	return err
}

// reachStore says how the vault is reached. The embedded store is opened for it.
func (w *workplace) reachStore(ctx context.Context, log io.Writer) (vault storage.Config, err error) {
	c := w.cfg.Storage
	vault = storage.Config{Bucket: c.Bucket, Months: w.cfg.Retention.Months, Location: w.cfg.Station.Timezone}
	if w.journal != nil {
		vault.Now = w.journal.Now
	}
	if c.Kind == configs.StorageEmbedded {
		if w.credentials != "" {
			return vault, usage(errors.New("--credentials: the embedded store has one key, which nobody needs to give"))
		}
		starting, cancel := context.WithTimeout(ctx, openStoreWithin)
		defer cancel()
		w.store, err = embedded.Open(starting, embedded.Options{
			Root:    c.Embedded.Root,
			Command: []string{"/proc/self/exe", "store", "serve", "--root", c.Embedded.Root, "--timezone", w.cfg.Station.Timezone.String()},
			Stderr:  log,
		})
		if err != nil {
			return vault, fmt.Errorf("embedded store: %w", err)
		}
		vault.Name = c.Embedded.Root
		vault.Endpoint, vault.Region = w.store.Endpoint(), w.store.Region()
		vault.AccessKey, vault.SecretKey = w.store.AccessKey(), w.store.SecretKey()
		vault.Transport = w.store.Transport()
	} else {
		vault.Endpoint, vault.Region, vault.TLS, vault.CAFile = c.S3.Endpoint, c.S3.Region, c.S3.TLS, c.S3.CAFile
		if vault.AccessKey, vault.SecretKey, err = w.readCredentials(); err != nil {
			return vault, err
		}
	}
	return vault, nil
}

func (w *workplace) readCredentials() (accessKey, secretKey string, err error) {
	if w.credentials == "" {
		return configs.ReadCredentials(w.cfg)
	}
	return configs.ReadCredentialsFile(w.credentials)
}

func (w *workplace) close() error {
	err := errors.Join(w.journal.Close(), giveBack(w.cfg.StateDir))
	if w.staging != nil {
		err = errors.Join(err, w.staging.Close())
	}
	if w.store != nil {
		err = errors.Join(err, w.store.Close())
	}
	return err
}

// giveBack makes what root has made in a station's folder its owner's: the service, which is
// not root, could not use it. The rest of the folder is left alone.
func giveBack(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil && info.Sys().(*syscall.Stat_t).Uid == 0 {
				err = os.Lchown(path, int(owner.Uid), int(owner.Gid))
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // a daemon beside us has removed it
			return nil
		}
		return err
	})
}

func (w *workplace) station(events func(ingest.Event)) *ingest.Station {
	c := stationConfig(w.cfg, events)
	c.Staging = w.staging
	if w.rack != nil {
		c.Slots = rackSlots(w.rack)
	}
	if w.store != nil {
		c.StoreSpace = w.storeSpace
	}
	return ingest.NewStation(c, w.vault, w.journal, w.evidence)
}

func stationConfig(c *configs.Config, events func(ingest.Event)) ingest.Config {
	return ingest.Config{
		ID: c.Station.ID, Name: c.Station.Name, Location: c.Station.Timezone, Software: "ingestd " + version(),
		Parallel: c.Ingest.Parallel, PartSize: int64(c.Storage.PartSize), BufferMemory: int64(c.Storage.BufferMemory),
		Verification:       string(c.Ingest.Verify),
		IdenticalFull:      c.Ingest.Identical == configs.IdenticalFull,
		SM3:                c.Digest.SM3,
		RefuseUnregistered: c.Recorders.Unregistered == configs.UnregisteredRefuse,
		Patience:           patience,
		StallAfter:         c.Ingest.StallAfter,
		ScrubEvery:         c.Scrub.Every,
		ScrubBandwidth:     int64(c.Scrub.Bandwidth),
		Policy:             c.Retention.Rules(),
		ClockWarnOver:      c.Clock.WarnOver,
		SetClocks:          c.Clock.Set,
		Timestamp:          authority(c.Timestamp),
		PreUse:             device.PreUseLimits{BatteryPercent: c.PreUse.Battery, FreeBytes: int64(c.PreUse.Free)},
		Slots:              slotNames(c),
		Events:             events,
	}
}

// authority is the one that stamps the ledger; nil: none.
func authority(c configs.Timestamp) *tsa.Authority {
	if c.URL == "" {
		return nil
	}
	return &tsa.Authority{URL: c.URL, CAFile: c.CAFile}
}
