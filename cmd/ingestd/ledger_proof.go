package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

const ledgerProofSchema = "ingestd.ledger-proof/1"

// ledgerProof proves to somebody who has only the station's public key that one entry
// is in the ledger.
type ledgerProof struct {
	Schema string `json:"schema"`
	Origin string `json:"origin"`
	// Key is the fingerprint of the key that signed, so that the right one is looked
	// for. The key itself is not here: from here nobody may trust it.
	Key   string `json:"key"`
	Index int64  `json:"index"`
	Size  int64  `json:"size"`
	Line  string `json:"line"` // without its newline
	// Proof is the inclusion proof of RFC 6962, 2.1.1, in its order.
	Proof      tlog.RecordProof `json:"proof"`
	Checkpoint string           `json:"checkpoint"`
}

// prove proves the entry at index, and checks the proof before anybody sees it.
func (l *openedLedger) prove(ctx context.Context, index int64) (*ledgerProof, error) {
	signed, c, err := l.signed()
	if err != nil {
		return nil, err
	}
	if index >= c.Size {
		return nil, exitError{exitNotFound, fmt.Errorf("there is no entry %d: the ledger has %d, counted from 0", index, c.Size)}
	}
	p := &ledgerProof{
		Schema: ledgerProofSchema, Origin: l.origin(), Key: l.signer.Fingerprint(),
		Index: index, Size: c.Size, Checkpoint: string(signed),
	}
	for stored, err := range l.Read(ctx, index) {
		if err != nil {
			return nil, broken(err)
		}
		p.Line = string(stored.Line)
		break
	}
	// The ledger may have grown meanwhile; the size stays the one that was signed.
	if p.Proof, err = l.Prove(ctx, index, c.Size); err != nil {
		return nil, broken(err)
	}
	if p.Proof == nil {
		p.Proof = tlog.RecordProof{} // a list in JSON, also for a log of one line
	}
	if _, err := p.check(l.signer.Key, p.Key); err != nil {
		return nil, fmt.Errorf("the proof that was made does not hold, look with ingestd ledger verify: %w", err)
	}
	return p, nil
}

// check checks a proof with a key that comes from elsewhere, and gives the entry.
func (p *ledgerProof) check(key ed25519.PublicKey, fingerprint string) (ledger.Entry, error) {
	if p.Schema != ledgerProofSchema {
		return ledger.Entry{}, fmt.Errorf("its schema is %q, not %s", p.Schema, ledgerProofSchema)
	}
	if p.Key != fingerprint {
		return ledger.Entry{}, fmt.Errorf("it names the key %q, the one given is %s", p.Key, fingerprint)
	}
	c, err := ledger.ParseCheckpoint([]byte(p.Checkpoint), key, p.Origin)
	if err != nil {
		return ledger.Entry{}, err
	}
	if p.Size != c.Size {
		return ledger.Entry{}, fmt.Errorf("it names the size %d, the checkpoint is of %d", p.Size, c.Size)
	}
	if err := ledger.CheckInclusion(p.Proof, c, p.Index, []byte(p.Line)); err != nil {
		return ledger.Entry{}, err
	}
	e, err := ledger.ParseLine([]byte(p.Line))
	if err == nil && ingest.LedgerOrigin(e.Station) != p.Origin {
		err = fmt.Errorf("the entry is of station %q, the ledger is %q", e.Station, p.Origin)
	}
	return e, err
}

// readProof reads a document and refuses what it does not fully understand.
func readProof(text []byte) (*ledgerProof, error) {
	from := json.NewDecoder(bytes.NewReader(text))
	from.DisallowUnknownFields()
	p := &ledgerProof{}
	if err := from.Decode(p); err != nil {
		return nil, fmt.Errorf("it is not the document of a proof: %w", err)
	}
	if _, err := from.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is not the document of a proof alone: more is behind it")
	}
	return p, nil
}

func (a *app) ledgerCheckProof(ctx context.Context, file, keyFile string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("the proof: %w", err)
	}
	w, key, fingerprint, err := a.keyToCheckWith(keyFile)
	if err != nil {
		return err
	}
	p, err := readProof(text)
	if err == nil && w != nil {
		key, fingerprint, err = w.keyOf(ctx, p, key, fingerprint)
	}
	var e ledger.Entry
	if err == nil {
		e, err = p.check(key, fingerprint)
	}
	result := struct {
		Schema string        `json:"schema"`
		Holds  bool          `json:"holds"`
		Key    string        `json:"key"`
		Reason string        `json:"reason,omitempty"`
		Origin string        `json:"origin,omitempty"`
		Index  *int64        `json:"index,omitempty"`
		Size   int64         `json:"size,omitempty"`
		Entry  *ledger.Entry `json:"entry,omitempty"`
	}{Schema: "ingestd.ledger-proof-check/1", Holds: err == nil, Key: fingerprint}
	if err != nil {
		err = exitError{exitFindings, fmt.Errorf("%s does not hold: %w", file, err)}
		result.Reason = err.Error()
	} else {
		result.Origin, result.Index, result.Size, result.Entry = p.Origin, &p.Index, p.Size, &e
	}
	if a.output == "json" {
		return errors.Join(err, printJSON(a.out, result))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "holds: this is entry %d of the %d in %s, signed with the key\n%s\n\n", p.Index, p.Size, tame(p.Origin), fingerprint)
	for _, line := range [][2]string{
		{"time", e.Time.Format(time.RFC3339)}, {"event", e.Event}, {"session", e.Session}, {"recorder", e.Recorder}, {"officer", e.Officer},
		{"actor", e.Actor}, {"reason", e.Reason}, {"clock", e.Clock},
	} {
		fmt.Fprintf(a.out, "%-9s %s\n", line[0], orDash(tame(line[1])))
	}
	fmt.Fprintf(a.out, "line      %s\n", tame(p.Line))
	return nil
}

// keyToCheckWith takes the key from a file, or else from the station that this runs on,
// and gives that too.
func (a *app) keyToCheckWith(file string) (_ *workplace, _ ed25519.PublicKey, fingerprint string, err error) {
	if file != "" {
		key, fingerprint, err := readPublicLine(file)
		return nil, key, fingerprint, err
	}
	cfg, err := configs.Load(a.configFile)
	if err != nil {
		return nil, nil, "", err
	}
	// Only the list of trusted keys is read; where there is no station, none is made.
	w := &workplace{cfg: cfg}
	signer, err := w.currentSigner()
	if err != nil {
		return nil, nil, "", fmt.Errorf("no --key was given, and this machine has none: %w", err)
	}
	return w, signer.Key, signer.Fingerprint(), nil
}

// keyOf gives the station's key that a proof names. A former one may be in other hands:
// its checkpoint must be one of the ledger that is here.
func (w *workplace) keyOf(ctx context.Context, p *ledgerProof, present ed25519.PublicKey, fingerprint string) (ed25519.PublicKey, string, error) {
	for _, s := range w.evidence.Ring.Signers() {
		if s.Principal != w.cfg.Station.ID || s.Key.Equal(present) || s.Fingerprint() != p.Key {
			continue
		}
		keys := ingest.LedgerKeys(w.evidence.Ring, stationkey.Signer{Principal: s.Principal, Key: present})
		r, err := ledger.Verify(ctx, w.ledgerDir(), keys, w.origin(), []byte(p.Checkpoint))
		if err != nil {
			return nil, "", fmt.Errorf("it was signed with a former key, and whether that still might can't be seen: %w", err)
		}
		if !r.Sound() {
			return nil, "", fmt.Errorf("it was signed with a former key: %s", r.Findings[0])
		}
		return s.Key, p.Key, nil
	}
	return present, fingerprint, nil
}
