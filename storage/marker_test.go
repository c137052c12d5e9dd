package storage_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// markerIsMade marks a new bucket and proves what that means.
func markerIsMade(t *testing.T, v *storage.Vault, cfg storage.Config) storage.Marker {
	t.Helper()
	if _, err := v.CheckMarker(t.Context(), "", verify); !errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrWrongBucket) {
		t.Errorf("a new bucket gives %v", err)
	}
	if _, err := v.CheckMarker(t.Context(), "seen", verify); !errors.Is(err, storage.ErrWrongBucket) {
		t.Errorf("a bucket whose marker is gone gives %v", err)
	}
	failing := errors.New("no key")
	if _, err := v.MakeMarker(t.Context(), "station-1", func([]byte) ([]byte, error) { return nil, failing }); !errors.Is(err, failing) {
		t.Errorf("without a signature it gives %v", err)
	}
	made, err := v.MakeMarker(t.Context(), "station-1", sign)
	if err != nil {
		t.Fatal(err)
	}
	if made.Station != "station-1" || made.Bucket != cfg.Bucket || made.BucketID == "" || made.MadeAt.IsZero() {
		t.Errorf("the marker is %+v", made)
	}
	if _, err := v.MakeMarker(t.Context(), "station-2", sign); !errors.Is(err, storage.ErrTaken) {
		t.Errorf("a second marker gives %v", err)
	}
	for _, seen := range []string{"", made.BucketID} {
		got, err := v.CheckMarker(t.Context(), seen, verify)
		if err != nil || !got.MadeAt.Equal(made.MadeAt) || got.BucketID != made.BucketID {
			t.Errorf("seen %q gives %+v, %v", seen, got, err)
		}
	}
	o, err := v.Stat(t.Context(), storage.MarkerKey, "")
	if err != nil || storage.BelowFloor(o.RetainUntil, made.MadeAt, storetest.Zone) {
		t.Errorf("the marker is locked until %s, %v", o.RetainUntil, err)
	}
	return made
}

// lookAlikes: what is in the place of the marker is refused, and for the
// audit it is an error.
func lookAlikes(t *testing.T, server *storetest.Server) {
	c := server.Client()
	other, otherCfg := server.Vault(t)
	if _, err := other.MakeMarker(t.Context(), "station-1", sign); err != nil {
		t.Fatal(err)
	}
	for name, instead := range map[string]func(made string) string{
		"of another bucket":   func(string) string { return read(t, c, otherCfg.Bucket) },
		"not JSON":            func(string) string { return "marker" },
		"empty":               func(string) string { return "" },
		"changed":             func(made string) string { return strings.Replace(made, "station-1", "station-2", 1) },
		"without a signature": func(made string) string { return signed(t, made, nil, func(*storage.Marker) {}) },
		"with another id": func(made string) string {
			return signed(t, made, sign, func(m *storage.Marker) { m.BucketID = "other" })
		},
		"with another schema":  func(made string) string { return signed(t, made, sign, func(m *storage.Marker) { m.Schema = "x/1" }) },
		"with another name":    func(made string) string { return signed(t, made, sign, func(m *storage.Marker) { m.Bucket = "other" }) },
		"with a marker on top": nil, // deleted, as S3 deletes
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, cfg := server.Vault(t)
			m, err := v.MakeMarker(t.Context(), "station-1", sign)
			if err != nil {
				t.Fatal(err)
			}
			if instead == nil {
				err = c.RemoveObject(t.Context(), cfg.Bucket, storage.MarkerKey, minio.RemoveObjectOptions{})
			} else {
				text := instead(read(t, c, cfg.Bucket))
				_, err = c.PutObject(t.Context(), cfg.Bucket, storage.MarkerKey, strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := v.CheckMarker(t.Context(), m.BucketID, verify); !errors.Is(err, storage.ErrWrongBucket) || got != (storage.Marker{}) {
				t.Errorf("got %+v, %v", got, err)
			}
			findings := audit(t, v, storage.Audit{BucketID: m.BucketID, Verify: verify})
			if got := ofCheck(findings, storage.CheckBucketMarker); got != "bucket_marker error" {
				t.Errorf("the audit gives %q", got)
			}
		})
	}
	t.Run("none yet", func(t *testing.T) {
		v, _ := server.Vault(t)
		if got := ofCheck(audit(t, v, storage.Audit{Verify: verify}), storage.CheckBucketMarker); got != "bucket_marker warning" {
			t.Errorf("a new bucket gives %q", got)
		}
	})
}

func read(t *testing.T, c *minio.Client, bucket string) string {
	t.Helper()
	o, err := c.GetObject(t.Context(), bucket, storage.MarkerKey, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// signed changes a marker and signs it again, as somebody with the key can, or
// with nil leaves the signature out.
func signed(t *testing.T, made string, sign func([]byte) ([]byte, error), change func(*storage.Marker)) string {
	t.Helper()
	var envelope struct {
		Marker    string `json:"marker"`
		Signature []byte `json:"signature"`
	}
	if err := json.Unmarshal([]byte(made), &envelope); err != nil {
		t.Fatal(err)
	}
	var m storage.Marker
	if err := json.Unmarshal([]byte(envelope.Marker), &m); err != nil {
		t.Fatal(err)
	}
	change(&m)
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	envelope.Marker, envelope.Signature = string(text), nil
	if sign != nil {
		if envelope.Signature, err = sign(text); err != nil {
			t.Fatal(err)
		}
	}
	if text, err = json.Marshal(envelope); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
