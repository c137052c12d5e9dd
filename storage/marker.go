package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// MarkerKey is where a bucket says which one it is. A station's id, the first
// part of every key of footage, has no dot.
const MarkerKey = ".ingestd/marker.json"

// MarkerSchema is the form of Marker.
const MarkerSchema = "ingestd.marker/1"

// maxMarker is far above the size of a marker, in bytes.
const maxMarker = 64 << 10

// ErrWrongBucket says that the bucket is not the one that the station knows,
// though it has its name. Nothing may be stored there: footage goes onto the designated
// storage only (第十条).
var ErrWrongBucket = errors.New("this is not the bucket that the station knows")

// Marker says which bucket this is. It is signed, and locked like footage. What
// it can't show is that the whole bucket was copied to another server that took
// over the name and the address; TLS shows that.
type Marker struct {
	Schema   string    `json:"schema"`
	BucketID string    `json:"bucket_id"` // random, of this bucket alone
	Bucket   string    `json:"bucket"`    // its name
	Station  string    `json:"station"`   // that made it
	MadeAt   time.Time `json:"made_at"`   // by the station's clock
}

// signedMarker is what is stored: the exact text that was signed, and the
// signature in base64. With ordinary tools:
//
//	jq -rj .marker marker.json > m; jq -r .signature marker.json | base64 -d > m.sig
type signedMarker struct {
	Marker    string `json:"marker"`
	Signature []byte `json:"signature"`
}

// MakeMarker marks the bucket, at set-up, once. It is ErrTaken where the bucket
// has a marker: another station shares it, see CheckMarker. The signature is in
// the form of the caller's key.
func (v *Vault) MakeMarker(ctx context.Context, station string, sign func(message []byte) ([]byte, error)) (Marker, error) {
	if _, err := v.Stat(ctx, MarkerKey, ""); !errors.Is(err, ErrNotFound) {
		if err == nil {
			err = ErrTaken
		}
		return Marker{}, fmt.Errorf("mark bucket %s: %w", v.cfg.Bucket, err)
	}
	m := Marker{
		Schema: MarkerSchema, BucketID: rand.Text(), Bucket: v.cfg.Bucket, Station: station,
		MadeAt: v.cfg.Now().In(v.cfg.Location).Truncate(time.Second),
	}
	text, err := json.Marshal(m)
	if err != nil {
		return Marker{}, fmt.Errorf("mark bucket %s: %w", v.cfg.Bucket, err)
	}
	signature, err := sign(text)
	if err != nil {
		return Marker{}, fmt.Errorf("mark bucket %s: sign: %w", v.cfg.Bucket, err)
	}
	stored, err := json.Marshal(signedMarker{string(text), signature})
	if err != nil {
		return Marker{}, fmt.Errorf("mark bucket %s: %w", v.cfg.Bucket, err)
	}
	// Two stations may do this at once: the key is created once, the other gets
	// ErrTaken.
	if _, err := v.Create(ctx, MarkerKey, stored, sha256.Sum256(stored), v.RetainUntil()); err != nil {
		return Marker{}, fmt.Errorf("mark bucket %s: %w", v.cfg.Bucket, err)
	}
	return m, nil
}

// CheckMarker reads the marker and compares it with what the station knows:
// bucketID is the Marker.BucketID that it has seen here before, empty if it has
// seen none. It is ErrNotFound where the bucket has no marker and none was seen;
// ErrWrongBucket where there was one and is none, where it has another id or
// another bucket's name, or where verify does not accept the signature. Other
// errors say that the store did not answer, which says nothing about the bucket.
func (v *Vault) CheckMarker(ctx context.Context, bucketID string, verify func(message, signature []byte) error) (Marker, error) {
	m, err := v.checkMarker(ctx, bucketID, verify)
	if err != nil {
		return Marker{}, fmt.Errorf("bucket %s at %s: %w", v.cfg.Bucket, v.cfg.name(), err)
	}
	return m, nil
}

func (v *Vault) checkMarker(ctx context.Context, bucketID string, verify func(message, signature []byte) error) (Marker, error) {
	body, err := v.Fetch(ctx, MarkerKey, "")
	if errors.Is(err, ErrNotFound) && bucketID != "" {
		return Marker{}, fmt.Errorf("its marker is gone, the station has seen %s: %w", bucketID, ErrWrongBucket)
	}
	if err != nil {
		return Marker{}, err
	}
	defer func() { _ = body.Close() }() // only read from
	stored, err := io.ReadAll(io.LimitReader(body, maxMarker))
	if err != nil {
		return Marker{}, fmt.Errorf("read %s: %w", MarkerKey, classify(err))
	}
	var signed signedMarker
	if err := json.Unmarshal(stored, &signed); err != nil {
		return Marker{}, fmt.Errorf("its marker can't be read: %w: %w", err, ErrWrongBucket)
	}
	// Before a word of it is believed.
	if err := verify([]byte(signed.Marker), signed.Signature); err != nil {
		return Marker{}, fmt.Errorf("the signature of its marker is not good: %w: %w", err, ErrWrongBucket)
	}
	var m Marker
	if err := json.Unmarshal([]byte(signed.Marker), &m); err != nil {
		return Marker{}, fmt.Errorf("its marker can't be read: %w: %w", err, ErrWrongBucket)
	}
	switch {
	case m.Schema != MarkerSchema || m.BucketID == "":
		return Marker{}, fmt.Errorf("its marker has schema %q and id %q, want %q and any id: %w", m.Schema, m.BucketID, MarkerSchema, ErrWrongBucket)
	case m.Bucket != v.cfg.Bucket:
		return Marker{}, fmt.Errorf("its marker was made for bucket %q: %w", m.Bucket, ErrWrongBucket)
	case bucketID != "" && m.BucketID != bucketID:
		return Marker{}, fmt.Errorf("its marker has id %s, the station has seen %s: %w", m.BucketID, bucketID, ErrWrongBucket)
	}
	return m, nil
}

// marker checks it as part of the audit.
func (r *auditor) marker(ctx context.Context) {
	if r.a.Verify == nil {
		r.found(Finding{
			Check: CheckBucketMarker, Severity: SeverityNote, NotChecked: true,
			What: "Whether this is the bucket that the station knows was not checked.",
			Why:  "Footage goes onto the designated storage only (第十条).",
			Mend: "Give the audit the station's key, so that it can verify the marker " + MarkerKey + ".",
		})
		return
	}
	_, err := r.v.CheckMarker(ctx, r.a.BucketID, r.a.Verify)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound):
		r.found(Finding{
			Check: CheckBucketMarker, Severity: SeverityWarning,
			What: "The bucket has no marker that says which bucket it is.",
			Why:  "Footage goes onto the designated storage only (第十条). Without the marker the station can't tell this bucket from another one of the same name.",
			Mend: "Mark the bucket once, at the set-up of its first station.",
		})
	case errors.Is(err, ErrWrongBucket):
		r.found(Finding{
			Check: CheckBucketMarker, Severity: SeverityError,
			What:   "This is not the bucket that the station knows.",
			Why:    "Footage goes onto the designated storage only (第十条). What is stored in a bucket that somebody put in its place may be gone tomorrow (第十三条(二)).",
			Mend:   "Compare storage.s3.endpoint and storage.s3.bucket with what was set up, and ask who moved the store. Its marker: mc cat " + alias + r.bucket() + "/" + MarkerKey + "; older versions of it: mc ls --versions on the same.",
			Detail: err.Error(),
		})
	default:
		r.notChecked(CheckBucketMarker, "Whether this is the bucket that the station knows", err)
	}
}
