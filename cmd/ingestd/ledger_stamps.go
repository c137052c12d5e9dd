package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/tsa"
)

// ledgerStamps are the time stamps of checkpoints in the bucket.
type ledgerStamps struct {
	Held int `json:"hold"`
	// Authority says that the signers were compared with timestamp.ca_file. Without it
	// a stamp that holds is over the right bytes, and anybody can have made it.
	Authority bool       `json:"authority_checked"`
	LastSize  *int64     `json:"last_size"` // null: there is none that holds
	LastTime  *time.Time `json:"last_time"`
	// LastAge is how old the last one is by the station's clock, in seconds.
	LastAge *float64 `json:"last_age_s"`
}

// verifyStamps checks the time stamps beside the ledger in the bucket.
func (w *workplace) verifyStamps(ctx context.Context, v *ledgerVerification) error {
	c := w.cfg.Timestamp
	var roots *x509.CertPool
	if c.CAFile != "" {
		var err error
		if roots, err = tsa.ReadRoots(c.CAFile); err != nil {
			return err
		}
	}
	seen, err := ledger.VerifyStamps(ctx, ingest.LedgerStore{Vault: w.vault}, ingest.LedgerPrefix(w.cfg.Station.ID), func(stamp, signed []byte) (time.Time, error) {
		s, err := tsa.Check(stamp, signed, roots)
		return s.Time, err
	})
	if errors.Is(err, storage.ErrNotFound) {
		v.find(findingHidden, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range seen.Findings {
		v.find(f.Kind, f.Words)
	}
	v.Omitted += seen.Omitted
	if seen.Held == 0 && len(seen.Findings) == 0 && c.URL == "" {
		return nil
	}
	v.Stamps = &ledgerStamps{Held: seen.Held, Authority: roots != nil}
	tell := func(kind string, index *int64, words string) {
		v.Told = append(v.Told, ledgerFinding{kind, index, words})
	}
	covered := int64(0)
	if last := seen.Last; last != nil {
		at, age := last.Time.In(w.cfg.Station.Timezone), w.journal.Now().Sub(last.Time).Seconds()
		v.Stamps.LastSize, v.Stamps.LastTime, v.Stamps.LastAge = &last.Size, &at, &age
		covered = last.Size
	}
	if seen.Held > 0 && roots == nil {
		tell(findingUnchecked, nil, "who made the time stamps was not checked: set timestamp.ca_file")
	}
	if c.URL != "" && covered < v.Bucket.Size {
		tell(findingUnstamped, &covered, fmt.Sprintf("no time stamp covers the published entries from %d on; see timestamp.failed in the log", covered))
	}
	return nil
}

func printStamps(out io.Writer, s *ledgerStamps) {
	if s == nil {
		return
	}
	words := fmt.Sprintf("%d hold", s.Held)
	if s.LastSize != nil {
		words += fmt.Sprintf("; the last is over the first %d entries, of %s, %s ago", *s.LastSize, s.LastTime.Format("2006-01-02 15:04:05 -07:00"),
			time.Duration(*s.LastAge*float64(time.Second)).Round(time.Second))
	}
	if !s.Authority {
		words += " (by whom was not checked)"
	}
	fmt.Fprintf(out, "stamps    %s\n", words)
}
