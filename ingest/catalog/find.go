package catalog

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// station is what the bucket has of one station, and what was made of it.
type station struct {
	id        string
	folders   map[string]*folder // of sessions, by prefix: nobody is kept from using an id twice
	published published
	ring      *stationkey.Ring
	keys      string // where the ring is from
	told      *account
	restored  map[string]bool // sessions that are in the new journal
}

// folder is what lies in the bucket below the prefix of one session.
type folder struct {
	session string
	prefix  string
	objects int // versions, but for the manifest's own
	// manifests and signatures are the versions of the two documents, the oldest first.
	// Delete markers are not among them: they only hide.
	manifests, signatures []storage.Version
}

// find lists the bucket once, with every version. A session's folder is
// STATION/DATE/SESSION/.
func (w *building) find(ctx context.Context) error {
	prefix := ""
	if w.Station != "" {
		prefix = w.Station + "/"
	}
	all := map[string]*station{}
	for v, err := range w.Vault.List(ctx, prefix) {
		if err != nil {
			return err
		}
		parts := strings.SplitN(v.Key, "/", 4)
		if v.DeleteMarker || len(parts) < 3 {
			continue
		}
		of := func() *station {
			if all[parts[0]] == nil {
				all[parts[0]] = &station{id: parts[0], folders: map[string]*folder{}, published: published{w.Vault, map[string]string{}}, restored: map[string]bool{}}
			}
			return all[parts[0]]
		}
		if _, err := time.Parse(time.DateOnly, parts[1]); err == nil && len(parts) == 4 {
			of().sort(v, parts)
		} else if strings.HasPrefix(v.Key, ingest.LedgerPrefix(parts[0])+"/") || strings.HasPrefix(v.Key, ingest.KeysPrefix(parts[0])) {
			of().published.versions[v.Key] = v.VersionID // the last one listed is the oldest
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("nothing lies below %q: look at the station's id, and at the store and the bucket of the settings: %w", prefix, storage.ErrNotFound)
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		s := all[id]
		w.stations = append(w.stations, s)
		w.total += len(s.folders)
		for _, f := range s.folders {
			slices.Reverse(f.manifests)
			slices.Reverse(f.signatures)
		}
		if err := w.trust(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// sort puts a version where it belongs.
func (s *station) sort(v storage.Version, parts []string) {
	prefix := strings.Join(parts[:3], "/") + "/"
	f := s.folders[prefix]
	if f == nil {
		f = &folder{session: parts[2], prefix: prefix}
		s.folders[prefix] = f
	}
	switch parts[3] {
	case manifest.FileName:
		f.manifests = append(f.manifests, v)
		return
	case manifest.FileName + manifest.SigSuffix:
		f.signatures = append(f.signatures, v)
	}
	f.objects++
}

// published reads what a station has published, each thing in its first version: what
// was put over it later, a delete marker too, does not count.
type published struct {
	vault    *storage.Vault
	versions map[string]string // by key
}

// Get implements ledger.Store.
func (p published) Get(ctx context.Context, key string) ([]byte, error) {
	return fetch(ctx, p.vault, key, p.versions[key])
}

// List implements ledger.Store.
func (p published) List(_ context.Context, prefix string) (keys []string, err error) {
	for key := range p.versions {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Create implements ledger.Store. Nothing is written here.
func (p published) Create(_ context.Context, key string, _ []byte) error {
	return fmt.Errorf("create %s: only read from: %w", key, ledger.ErrExists)
}

func fetch(ctx context.Context, vault *storage.Vault, key, version string) ([]byte, error) {
	body, err := vault.Fetch(ctx, key, version)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }() // only read from
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w: %w", key, storage.ErrUnavailable, err)
	}
	return data, nil
}
