package catalog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// copyOf is a folder with a ledger whose lines were compared with its checkpoint.
type copyOf struct {
	dir  string
	size int64
}

// readLedger has a station's ledger tell what no manifest has. Of the folder and the
// published copy the longer one is read; one that is not what was signed is not. Where
// none can be read, that is told, and the rest goes on.
func (w *building) readLedger(ctx context.Context, s *station) error {
	s.told = newAccount()
	var longest copyOf
	var why []error
	for _, key := range currentKeys(s) {
		for _, read := range []func(context.Context, *station, stationkey.Signer) (copyOf, error){w.localLedger, w.publishedLedger} {
			c, err := read(ctx, s, key)
			switch {
			case errors.Is(err, storage.ErrUnavailable) || ctx.Err() != nil:
				return err
			case err != nil:
				why = append(why, err)
			case c.size > longest.size:
				longest = c
			}
		}
	}
	if longest.dir == "" {
		detail := "no key of the station is known"
		if err := errors.Join(why...); err != nil {
			detail = err.Error()
		}
		w.problem(Problem{Kind: NoLedger, Station: s.id, Detail: "what only the ledger tells is not in the catalog (tags, holds, disposal, longer periods, checks before use, the register): " + detail})
		return nil
	}
	return eachEntry(longest, func(index int64, e ledger.Entry) error {
		err := s.told.take(e)
		if e.Station != s.id {
			err = fmt.Errorf("it is of station %s", e.Station)
		}
		if err != nil {
			w.problem(Problem{Kind: BadEntry, Station: s.id, Session: e.Session, Detail: fmt.Sprintf("line %d of the ledger, %s: %v", index, e.Event, err)})
		}
		return ctx.Err()
	})
}

// currentKeys are those that may sign a station's checkpoints now.
func currentKeys(s *station) (keys []stationkey.Signer) {
	for _, k := range s.ring.Signers() {
		if k.Principal == s.id && k.ValidBefore.IsZero() {
			keys = append(keys, k)
		}
	}
	return keys
}

func (w *building) localLedger(ctx context.Context, s *station, key stationkey.Signer) (copyOf, error) {
	if w.Ledger == "" {
		return copyOf{}, nil
	}
	report, err := ledger.Verify(ctx, w.Ledger, ingest.LedgerKeys(s.ring, key), ingest.LedgerOrigin(s.id))
	if err == nil && !report.Sound() {
		err = fmt.Errorf("ledger %s: %w: %s", w.Ledger, ledger.ErrBroken, report.Findings[0])
	}
	if err != nil {
		return copyOf{}, err
	}
	return copyOf{w.Ledger, report.Checkpoint.Size}, nil
}

func (w *building) publishedLedger(ctx context.Context, s *station, key stationkey.Signer) (copyOf, error) {
	made, err := os.MkdirTemp(w.dir, "ledger-")
	if err != nil {
		return copyOf{}, err
	}
	size, _, err := ledger.Fetch(ctx, s.published, ingest.LedgerPrefix(s.id), made, ingest.LedgerKeys(s.ring, key), ingest.LedgerOrigin(s.id))
	return copyOf{made, size}, err
}

// eachEntry reads the lines that were compared with the checkpoint.
func eachEntry(c copyOf, do func(index int64, e ledger.Entry) error) (err error) {
	f, err := os.Open(filepath.Join(c.dir, "entries.jsonl"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, ledger.MaxLine+1)
	for index := int64(0); index < c.size; index++ {
		if !lines.Scan() {
			return errors.Join(fmt.Errorf("ledger %s: %w: it ends at line %d of %d", c.dir, ledger.ErrBroken, index, c.size), lines.Err())
		}
		e, err := ledger.ParseLine(lines.Bytes())
		if err == nil {
			err = do(index, e)
		}
		if err != nil {
			return fmt.Errorf("ledger %s, line %d: %w", c.dir, index, err)
		}
	}
	return nil
}
