package fetched

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// LedgerReport is what a ledger was found to be that was fetched, too.
type LedgerReport struct {
	Station string `json:"station"`
	Key     string `json:"key"` // fingerprint of the present key; it was checked with the former ones too
	// Size and Root are computed from the lines, not taken from a checkpoint; Held
	// counts the checkpoints that they agree with, those given included.
	Size int64  `json:"size"`
	Root string `json:"root"`
	Held int    `json:"checkpoints_that_hold"`
	// Told is what a person should know, though nothing is broken.
	Told []string `json:"told"`
}

// ledgerKeys is what the keys of a fetched ledger begin with here.
const ledgerKeys = "ledger"

// ledger checks the ledger as a whole, and then that it tells of each manifest: a tree
// whose root was signed proves every line in it.
func (c *checker) ledger(ctx context.Context) (err error) {
	root, err := os.OpenRoot(c.Ledger)
	if err != nil {
		return fmt.Errorf("the ledger: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	store := &readOnce{root: root, bodies: map[string][]byte{}}
	checkpoints, err := store.List(ctx, ledgerKeys+"/checkpoint/")
	if err != nil {
		return fmt.Errorf("the ledger: %w", err)
	}
	if len(checkpoints) == 0 {
		return fmt.Errorf("the ledger: there is no checkpoint in %s: it is what the bucket has below STATION/ledger: %w", c.Ledger, fs.ErrNotExist)
	}
	station, signer, err := c.ledgerOf(ctx, store, checkpoints)
	if err != nil {
		return fmt.Errorf("the ledger: %w", err)
	}
	if signer == nil {
		return nil // that is told
	}
	origin := ingest.LedgerOrigin(station)
	r, err := ledger.VerifyPublished(ctx, store, ledgerKeys, "", ingest.LedgerKeys(c.Ring, *signer), origin, c.Checkpoints...)
	if err != nil {
		return err
	}
	c.report.Ledger = &LedgerReport{Station: station, Key: signer.Fingerprint(), Size: r.Checkpoint.Size, Root: r.Checkpoint.Root.String(), Held: r.Held, Told: []string{}}
	for _, f := range r.Told {
		c.report.Ledger.Told = append(c.report.Ledger.Told, f.String())
	}
	for _, f := range r.Findings {
		c.finding(nil, Ledger, c.Ledger, "%s", f)
	}
	if r.Omitted > 0 {
		c.finding(nil, Ledger, c.Ledger, "%d more findings of the ledger are left out", r.Omitted)
	}
	if !r.Sound() {
		return nil // its lines prove nothing
	}
	last, err := store.Get(ctx, slices.Max(checkpoints)) // numbers of one length
	if err != nil {
		return err
	}
	signed, err := ledger.ParseCheckpoint(last, signer.Key, origin)
	if err != nil {
		return err
	}
	return c.inLedger(ctx, store, station, signed.Size)
}

// ledgerOf tells which station's ledger it says it is, and by which key that is to be
// believed: that of the first checkpoint whose station the ring knows.
func (c *checker) ledgerOf(ctx context.Context, store *readOnce, checkpoints []string) (station string, present *stationkey.Signer, err error) {
	if c.Ring == nil {
		c.unchecked(nil, LedgerUnread, c.Ledger, "ledger not checked: not known whose: no trusted keys were given")
		return "", nil, nil
	}
	for _, at := range checkpoints {
		signed, err := store.Get(ctx, at)
		if err != nil {
			return "", nil, err
		}
		origin, _, _ := strings.Cut(string(signed), "\n")
		station := strings.TrimPrefix(origin, ingest.LedgerOrigin(""))
		var keys []stationkey.Signer // those that it may be signed with now
		for _, s := range c.Ring.Signers() {
			if s.Principal == station && s.ValidBefore.IsZero() {
				keys = append(keys, s)
			}
		}
		if len(keys) == 1 {
			return station, &keys[0], nil
		}
		if len(keys) > 1 {
			c.unchecked(nil, LedgerUnread, c.Ledger, "ledger not checked: station %s has %d trusted keys without an end, and signs with one", station, len(keys))
			return "", nil, nil
		}
	}
	c.unchecked(nil, LedgerUnread, c.Ledger, "ledger not checked: no trusted key is of the station that its checkpoints name")
	return "", nil, nil
}

// inLedger looks for the line of each session among those that were signed.
func (c *checker) inLedger(ctx context.Context, store *readOnce, station string, signed int64) error {
	sessions := map[string]*session{} // by the key of the manifest
	other := map[*session]bool{}      // of which the ledger has another manifest
	for _, s := range c.sessions {
		if s.of == nil || s.foreign {
			continue
		}
		if s.Station != station {
			c.unchecked(s, LedgerUnread, s.Path, "the session is of station %s, the ledger of %s", s.Station, station)
			continue
		}
		sessions[s.of.Vault.Prefix+manifest.FileName] = s
	}
	segments, err := store.List(ctx, ledgerKeys+"/entries/")
	if err != nil {
		return err
	}
	slices.Sort(segments)
	index := int64(0)
	for _, segment := range segments {
		body, err := store.Get(ctx, segment)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(body) {
			if index == signed {
				break
			}
			e, err := ledger.ParseLine(bytes.TrimSuffix(line, []byte("\n")))
			if err != nil {
				return err // it was sound a moment ago
			}
			if e.Event == "session."+string(journal.StateSealed) || e.Event == "session."+string(journal.StateFailed) {
				for _, o := range e.Objects {
					s := sessions[o.Key]
					switch {
					case s == nil:
					case o.SHA256 == s.ManifestSHA256 && e.Event == "session."+s.Result:
						at := index
						s.LedgerLine = &at
					default:
						other[s] = true
						c.finding(s, Ledger, s.path(manifest.FileName), "its SHA-256 is %s; line %d of the ledger has %s with %s", s.ManifestSHA256, index, e.Event, o.SHA256)
					}
				}
			}
			index++
		}
	}
	for _, key := range sorted(sessions) {
		if s := sessions[key]; s.LedgerLine == nil && !other[s] {
			c.finding(s, Ledger, s.path(manifest.FileName), "none of the %d lines that were signed tells of this session; if it was sealed after the ledger was fetched, fetch that again", signed)
		}
	}
	return nil
}

// readOnce is a fetched ledger as ledger.Store. What was read is kept, so that the
// lines that are looked at are those that were proven.
type readOnce struct {
	root   *os.Root
	bodies map[string][]byte
}

// Create implements ledger.Store; nobody writes here.
func (r *readOnce) Create(_ context.Context, key string, _ []byte) error {
	return fmt.Errorf("make %s: %w", key, fs.ErrPermission)
}

// Get implements ledger.Store.
func (r *readOnce) Get(ctx context.Context, key string) ([]byte, error) {
	if body, ok := r.bodies[key]; ok {
		return body, ctx.Err()
	}
	name := strings.TrimPrefix(key, ledgerKeys+"/")
	if info, err := r.root.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is no file; links are not followed", path.Join(r.root.Name(), name)))
	}
	body, err := r.root.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r.bodies[key] = body
	return body, ctx.Err()
}

// List implements ledger.Store, for the prefixes that are folders.
func (r *readOnce) List(ctx context.Context, prefix string) (keys []string, err error) {
	dir := strings.Trim(strings.TrimPrefix(prefix, ledgerKeys), "/")
	entries, err := fs.ReadDir(r.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ctx.Err() // as a bucket, which has no folders
	}
	for _, e := range entries {
		keys = append(keys, prefix+e.Name())
	}
	return keys, errors.Join(err, ctx.Err())
}
