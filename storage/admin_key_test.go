package storage_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// keyVault is a vault opened by a key of the given policy, when seven months have
// passed for whoever asks.
func (v *vault) keyVault(policyFile string) (*storage.Vault, *deletions) {
	v.Helper()
	return v.behind(lesser(v.T, v.server, v.cfg.Bucket, policyFile), sevenMonths(), sevenMonths())
}

// disposalPolicy: the administrator's key deletes footage that has expired, by
// version, and nothing else; it sets and lifts no hold.
func disposalPolicy(t *testing.T, server *storetest.Server) {
	station, cfg := server.Vault(t)
	v := &vault{T: t, Vault: station, cfg: cfg, server: server, raw: server.Client()}
	m, err := station.MakeMarker(t.Context(), "station-1", sign)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("footage")
	locked := v.create(footageKey+".locked", body)
	expired := v.expired(footageKey, body)
	held := v.expired(footageKey+".held", body)
	if err := v.SetHold(t.Context(), held.Key, held.VersionID, true); err != nil {
		t.Fatal(err)
	}
	manifest := v.expired("station-1/2026-01-01/a/manifest.json", body)

	c := client(t, lesser(t, server, cfg.Bucket, "admin-disposal-minio.json"))
	mustBeDenied(t, c, cfg.Bucket, storage.Object{Key: expired.Key}) // a plain delete would make a marker
	for _, bypass := range []bool{false, true} {
		for _, o := range []storage.Object{locked, held, manifest} {
			if err := c.RemoveObject(t.Context(), cfg.Bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: bypass}); err == nil {
				t.Errorf("%s was deleted", o.Key)
			}
		}
	}
	v.holds(locked, body)

	admin, _ := v.keyVault("admin-disposal-minio.json")
	for _, on := range []bool{true, false} {
		if err := admin.SetHold(t.Context(), held.Key, held.VersionID, on); !errors.Is(err, storage.ErrDenied) {
			t.Errorf("a hold set to %t gives %v", on, err)
		}
	}
	if err := admin.Dispose(t.Context(), planned(held, body)); !errors.Is(err, storage.ErrHeld) {
		t.Errorf("held footage gives %v", err)
	}
	if err := admin.Dispose(t.Context(), planned(locked, body)); err == nil || errors.Is(err, storage.ErrNotFound) {
		t.Errorf("footage that the store has locked gives %v", err)
	}
	if err := admin.Dispose(t.Context(), planned(expired, body)); err != nil {
		t.Errorf("what expired can't be disposed of: %v", err)
	}
	if err := admin.Dispose(t.Context(), planned(expired, body)); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("what is gone gives %v", err)
	}
	if left := v.versions("station-1/"); len(left) != 3 {
		t.Errorf("left is %+v", left)
	}
	v.isHeld(held, true)
	if got, err := station.CheckMarker(t.Context(), m.BucketID, verify); err != nil || got.BucketID != m.BucketID {
		t.Errorf("the marker is %+v, %v", got, err)
	}
}

// holdPolicy: one key sets and lifts holds and reads, and does nothing else; the
// station's can do neither to footage.
func holdPolicy(t *testing.T, server *storetest.Server) {
	station, cfg := server.Vault(t)
	v := &vault{T: t, Vault: station, cfg: cfg, server: server, raw: server.Client()}
	body := []byte("footage")
	locked := v.create(footageKey+".locked", body)
	expired := v.expired(footageKey, body)

	keeper, _ := v.keyVault("admin-hold-minio.json")
	for _, o := range []storage.Object{locked, expired} {
		for _, on := range []bool{true, false, true} {
			if err := keeper.SetHold(t.Context(), o.Key, o.VersionID, on); err != nil {
				t.Errorf("a hold on %s set to %t gives %v", o.Key, on, err)
			}
			v.isHeld(o, on)
		}
	}
	if sum, n, err := keeper.ReadBack(t.Context(), locked.Key, locked.VersionID, nil); err != nil || n != locked.Size {
		t.Errorf("read back %s, %d, %v", sum, n, err)
	}

	thief, _ := v.keyVault("station-minio.json")
	for _, on := range []bool{true, false} {
		if err := thief.SetHold(t.Context(), expired.Key, expired.VersionID, on); !errors.Is(err, storage.ErrDenied) {
			t.Errorf("the station's key: a hold set to %t gives %v", on, err)
		}
	}
	v.isHeld(expired, true)

	// With neither lock nor hold the policy alone is in the way.
	if err := keeper.SetHold(t.Context(), expired.Key, expired.VersionID, false); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]*storage.Vault{"station": thief, "keeper of holds": keeper} {
		if err := key.Dispose(t.Context(), planned(expired, body)); !errors.Is(err, storage.ErrDenied) {
			t.Errorf("the %s's key disposes: %v", name, err)
		}
	}
	c := client(t, lesser(t, server, cfg.Bucket, "admin-hold-minio.json"))
	weaken := weakening(t, c, cfg.Bucket, expired)
	delete(weaken, "hold") // its work
	for what, err := range weaken {
		if status := minio.ToErrorResponse(err).StatusCode; status != http.StatusForbidden {
			t.Errorf("%s: status %d, %v", what, status, err)
		}
	}
	if _, err := c.PutObject(t.Context(), cfg.Bucket, "station-1/new", strings.NewReader("x"), 1, minio.PutObjectOptions{}); minio.ToErrorResponse(err).StatusCode != http.StatusForbidden {
		t.Errorf("it stores: %v", err)
	}
	until, mode := time.Now().AddDate(1, 0, 0), minio.Compliance
	if err := c.PutObjectRetention(t.Context(), cfg.Bucket, expired.Key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until, VersionID: expired.VersionID}); minio.ToErrorResponse(err).StatusCode != http.StatusForbidden {
		t.Errorf("it locks: %v", err)
	}
	if n := len(v.versions("")); n != 2 {
		t.Errorf("%d versions", n)
	}
}
