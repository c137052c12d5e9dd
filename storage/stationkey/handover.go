package stationkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Namespace is what the signatures below a hand-over are made for.
const Namespace = "ingestd-key"

// The versions of the two documents.
const (
	HandOverSchema       = "ingestd.key-handover/1"
	SignedHandOverSchema = "ingestd.key-handover-signed/1"
)

// HandOver says that a station signs with another key from a time on. The fields
// stand in the order of their keys, so that encoding/json sorts them.
type HandOver struct {
	// At is the last second of the old key and the first of the new one, UTC.
	At time.Time `json:"at"`
	// NewKey and OldKey are public keys, "ssh-ed25519 AAAA…" without a comment.
	NewKey string `json:"new_key"`
	OldKey string `json:"old_key"`
	// Reason is for people, for example "yearly change".
	Reason string `json:"reason"`
	Schema string `json:"schema"`
	// Station is the station's id, the principal of both keys.
	Station string `json:"station"`
}

// SignedHandOver is a hand-over with the word of both keys: the old one says who
// comes after it, the new one that its holder agrees and has it. Both are armored
// SSHSIG of what [HandOver.Encode] gives.
type SignedHandOver struct {
	HandOver                   HandOver
	NewSignature, OldSignature []byte
}

// signedDocument is a SignedHandOver as one JSON document. The hand-over is kept
// as text, the exact bytes that are signed, so that
// `jq -j .document` gives what ssh-keygen checks.
type signedDocument struct {
	Document     string `json:"document"`
	NewSignature string `json:"new_signature"`
	OldSignature string `json:"old_signature"`
	Schema       string `json:"schema"`
}

// NewHandOver hands the station's word over from the old key to the next one. The
// time is cut to its second. Whoever reads it needs [Ring.Accept].
func NewHandOver(old, next *Key, station, reason string, at time.Time) (SignedHandOver, error) {
	h := HandOver{
		Schema: HandOverSchema, Station: station, Reason: reason, At: at.UTC().Truncate(time.Second),
		OldKey: authorizedKey(old.Public()), NewKey: authorizedKey(next.Public()),
	}
	document, err := h.Encode()
	if err != nil {
		return SignedHandOver{}, err
	}
	signed := SignedHandOver{HandOver: h}
	if signed.OldSignature, err = old.Sign(Namespace, document); err != nil {
		return SignedHandOver{}, err
	}
	if signed.NewSignature, err = next.Sign(Namespace, document); err != nil {
		return SignedHandOver{}, err
	}
	return signed, nil
}

// Encode gives the canonical form, which is signed: UTF-8, keys sorted, indented
// by one space, one newline at the end. It fails where the hand-over is not sound.
func (h HandOver) Encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("key hand-over of %.40q: %w", h.Station, err)
	}
	return encode(h)
}

func (h HandOver) check() error {
	if h.Schema != HandOverSchema {
		return fmt.Errorf("schema %.40q, this program knows %q", h.Schema, HandOverSchema)
	}
	if err := checkName(h.Station); err != nil {
		return fmt.Errorf("station %w", err)
	}
	if strings.TrimSpace(h.Reason) == "" || !utf8.ValidString(h.Reason) {
		return errors.New("it needs a reason, in UTF-8")
	}
	if _, offset := h.At.Zone(); h.At.Unix() <= 0 || h.At.Year() > 9999 || offset != 0 || h.At.Nanosecond() != 0 {
		return fmt.Errorf("time %s: it must be after 1970, in UTC and a whole second", h.At.Format(time.RFC3339Nano))
	}
	for _, key := range []string{h.OldKey, h.NewKey} {
		if _, err := parseAuthorizedKey(key); err != nil {
			return err
		}
	}
	if h.OldKey == h.NewKey {
		return errors.New("the old key and the new one are the same")
	}
	return nil
}

// Encode gives the hand-over with both signatures as one JSON document, keys
// sorted, one newline at the end.
func (s SignedHandOver) Encode() ([]byte, error) {
	document, err := s.HandOver.Encode()
	if err != nil {
		return nil, err
	}
	return encode(signedDocument{
		Document: string(document), NewSignature: string(s.NewSignature), OldSignature: string(s.OldSignature),
		Schema: SignedHandOverSchema,
	})
}

// DecodeHandOver reads what [SignedHandOver.Encode] wrote and refuses what it does
// not fully understand. It does not check the signatures: [Ring.Accept] does.
func DecodeHandOver(data []byte) (SignedHandOver, error) {
	var outer signedDocument
	if err := json.Unmarshal(data, &outer); err != nil {
		return SignedHandOver{}, fmt.Errorf("read signed key hand-over: %w", err)
	}
	if outer.Schema != SignedHandOverSchema {
		return SignedHandOver{}, fmt.Errorf("read signed key hand-over: schema %.40q, this program knows %q", outer.Schema, SignedHandOverSchema)
	}
	signed := SignedHandOver{NewSignature: []byte(outer.NewSignature), OldSignature: []byte(outer.OldSignature)}
	if err := json.Unmarshal([]byte(outer.Document), &signed.HandOver); err != nil {
		return SignedHandOver{}, fmt.Errorf("read key hand-over: %w", err)
	}
	// What is signed is the text; what is acted on are the fields. They must be
	// one and the same, or a key given twice, or one that encoding/json passes
	// over, would mean two things.
	again, err := signed.Encode()
	if err != nil {
		return SignedHandOver{}, fmt.Errorf("read key hand-over: %w", err)
	}
	if !bytes.Equal(again, data) {
		return SignedHandOver{}, errors.New("read key hand-over: it is not in its canonical form; take the bytes as they were stored")
	}
	return signed, nil
}

// Accept ends the old key and trusts the new one in its place, for the same
// namespaces, from the hand-over's time on. Nothing changes when it refuses; the
// error wraps [ErrSignature] or [ErrUntrusted] where the cause is one of them. It
// demands that
//
//   - both keys signed it;
//   - the old key is in the ring for that station, and may sign for [Namespace];
//   - the time is after the one from which the old key is trusted;
//   - the old key has no end yet. A key that has one may have been ended because
//     it was stolen, and its thief would claim an earlier time;
//   - the new key is not in the ring yet.
//
// A hand-over that the ring has accepted already is accepted again and changes
// nothing, so that a ring can be made anew from all of them. A time in the future
// is not refused, a ring has no clock: the caller must compare.
func (r *Ring) Accept(s SignedHandOver) error {
	if err := r.accept(s); err != nil {
		return fmt.Errorf("accept key hand-over of %.40q: %w", s.HandOver.Station, err)
	}
	return nil
}

func (r *Ring) accept(s SignedHandOver) error {
	h := s.HandOver
	document, err := h.Encode()
	if err != nil {
		return err
	}
	signer, err := r.Verify(Namespace, document, s.OldSignature, h.At)
	if err != nil {
		return fmt.Errorf("signature of the old key: %w", err)
	}
	if authorizedKey(signer.Key) != h.OldKey {
		return fmt.Errorf("signature of the old key: %w: %s made it, which is another key of the ring", ErrUntrusted, signer.Fingerprint())
	}
	newKey, err := signedBy(Namespace, document, s.NewSignature)
	if err != nil {
		return fmt.Errorf("signature of the new key: %w", err)
	}
	if authorizedKey(newKey) != h.NewKey {
		return fmt.Errorf("signature of the new key: %w: %s made it, which is another key", ErrUntrusted, fingerprint(newKey))
	}
	if signer.Principal != h.Station {
		return fmt.Errorf("%w: the old key is that of station %s", ErrUntrusted, signer.Principal)
	}
	if i := r.index(newKey); i >= 0 {
		known := r.signers[i]
		if known.Principal == h.Station && known.ValidAfter.Equal(h.At) && signer.ValidBefore.Equal(h.At) {
			return nil // this very hand-over
		}
		return fmt.Errorf("the new key %s is in the ring already, for %s: make a fresh key", known.Fingerprint(), known.Principal)
	}
	if !signer.ValidBefore.IsZero() {
		return fmt.Errorf("%w: the old key ends at %s already; if that is only its planned end, take it out of the ring's file first",
			ErrUntrusted, signer.ValidBefore.Format(time.RFC3339))
	}
	if !signer.ValidAfter.IsZero() && !h.At.After(signer.ValidAfter) {
		return fmt.Errorf("%w: the old key is trusted from %s, and the hand-over is no later", ErrUntrusted, signer.ValidAfter.Format(time.RFC3339))
	}
	next := Signer{Principal: h.Station, Key: newKey, Namespaces: signer.Namespaces, ValidAfter: h.At}
	if err := r.Add(next); err != nil {
		return err
	}
	r.signers[r.index(signer.Key)].ValidBefore = h.At
	return nil
}

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode key hand-over: %w", err)
	}
	return out.Bytes(), nil
}
