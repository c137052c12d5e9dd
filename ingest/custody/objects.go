package custody

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

const (
	// atOnce is how many objects the store is asked about at the same time.
	atOnce = 8
	// errorsToldMost bounds an error: a store that has lost a card has lost thousands.
	errorsToldMost = 8
	// objectsInLine is how many objects a line of the ledger names one by one.
	objectsInLine = 100
)

// footageOf gives the objects of a session's files, also those that another session
// has stored and this one found identical; with a path, of that recording alone.
func (d *Desk) footageOf(ctx context.Context, session, path string) ([]ledger.Object, error) {
	files, err := d.Journal.Files(ctx, session)
	if err != nil {
		return nil, err
	}
	var all []ledger.Object
	for _, f := range files {
		stored := f.Entry.Kind == device.KindFile && (f.State == journal.Verified || f.State == journal.Identical) && f.Object.VersionID != ""
		if stored && (path == "" || f.Entry.Path == path) {
			all = append(all, ledger.Object{Key: f.Object.Key, Version: f.Object.VersionID, SHA256: f.SHA256})
		}
	}
	return all, nil
}

// documentsOf gives what lies in the store under the names of a session's documents:
// every version, for the journal knows that of the manifest alone. The error tells of
// those that are not there; the others are given with it.
func (d *Desk) documentsOf(ctx context.Context, s journal.Session) (all []ledger.Object, err error) {
	there := map[string]bool{}
	for _, name := range []string{manifest.FileName, manifest.SumsFileName, manifest.SM3FileName} {
		key := s.Prefix + name
		for v, err := range d.Vault.List(ctx, key) {
			if err != nil {
				return all, err
			}
			if v.DeleteMarker || v.Key != key && v.Key != key+manifest.SigSuffix {
				continue
			}
			all = append(all, ledger.Object{Key: v.Key, Version: v.VersionID})
			there[v.Key] = true
			if v.Key == s.Manifest.Key && v.VersionID == s.Manifest.VersionID {
				there[v.Key+"\x00"] = true
			}
		}
		for _, must := range []string{key, key + manifest.SigSuffix} {
			if !there[must] && name != manifest.SM3FileName { // which few sessions have
				err = errors.Join(err, fmt.Errorf("%s: %w", must, storage.ErrNotFound))
			}
		}
	}
	if !there[s.Manifest.Key+"\x00"] {
		err = errors.Join(err, fmt.Errorf("%s (version %s): %w", s.Manifest.Key, s.Manifest.VersionID, storage.ErrNotFound))
	}
	return all, err
}

// forEach does something to every object once, several at a time. One that fails does
// not keep the others from it, unless the store would fail them all; done is called
// after each, one call at a time, and may be nil.
func forEach(ctx context.Context, objects []ledger.Object, do func(context.Context, ledger.Object) error, done func()) error {
	var (
		mu     sync.Mutex
		errs   []error // guarded by mu
		failed int     // guarded by mu
	)
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	for _, o := range once(objects) {
		all.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := do(ctx, o)
			mu.Lock()
			defer mu.Unlock()
			if done != nil {
				done()
			}
			if err == nil {
				return nil
			}
			if hopeless(err) {
				return err
			}
			if failed++; failed <= errorsToldMost {
				errs = append(errs, err)
			}
			return nil
		})
	}
	err := all.Wait()
	if failed > errorsToldMost {
		errs = append(errs, fmt.Errorf("and %d objects more", failed-errorsToldMost))
	}
	return errors.Join(append(errs, err)...)
}

// version tells objects apart.
type version struct{ key, id string }

func versionOf(o ledger.Object) version { return version{o.Key, o.Version} }

// once leaves out what is there already.
func once(objects []ledger.Object) (all []ledger.Object) {
	seen := map[version]bool{}
	for _, o := range objects {
		if !seen[versionOf(o)] {
			seen[versionOf(o)] = true
			all = append(all, o)
		}
	}
	return all
}

// hopeless: what has failed for this object fails for every other one too.
func hopeless(err error) bool {
	return errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrDenied) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// nameObjects puts objects into a line of the ledger: one by one, or, where they are many, the
// SHA-256 of their list. The list has a line for each, its key, a tab, its version and
// a newline, in the order of bytes.
func nameObjects(e *ledger.Entry, objects []ledger.Object) {
	e.Detail["objects"] = strconv.Itoa(len(objects))
	if len(objects) <= objectsInLine {
		e.Objects = objects
		return
	}
	lines := make([]string, len(objects))
	for i, o := range objects {
		lines[i] = o.Key + "\t" + o.Version + "\n"
	}
	slices.Sort(lines)
	sum := sha256.New()
	for _, line := range lines {
		sum.Write([]byte(line))
	}
	e.Detail["objects_sha256"] = hex.EncodeToString(sum.Sum(nil))
}
