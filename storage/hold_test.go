package storage_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

func TestHolds(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *storetest.Server{"embedded": servers["embedded"], "minio": servers["minio"]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			for what, check := range map[string]func(*vault){
				"AHoldShowsUntilItIsLifted":     aHoldShowsUntilItIsLifted,
				"AHoldIsOfOneVersion":           aHoldIsOfOneVersion,
				"AHoldThatIsNotShownIsAnError":  aHoldThatIsNotShownIsAnError,
				"AHoldThatIsNotKnownIsAnError":  aHoldThatIsNotKnownIsAnError,
				"AHoldOnNothingIsRefused":       aHoldOnNothingIsRefused,
				"AHoldThatIsNotLiftedIsAnError": aHoldThatIsNotLiftedIsAnError,
			} {
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					v, cfg := server.Vault(t)
					check(&vault{T: t, Vault: v, cfg: cfg, server: server, raw: server.Client()})
				})
			}
		})
	}
}

// isHeld asks in all ways that there are, with an ordinary client too.
func (v *vault) isHeld(o storage.Object, want bool) {
	v.Helper()
	held, err := v.Held(v.Context(), o.Key, o.VersionID)
	if err != nil || held != want {
		v.Errorf("held is %t, %v", held, err)
	}
	shown, err := v.Stat(v.Context(), o.Key, o.VersionID)
	if err != nil || shown.Held != want || !shown.RetainUntil.Equal(o.RetainUntil) {
		v.Errorf("shown is %+v, %v", shown, err)
	}
	status, err := v.raw.GetObjectLegalHold(v.Context(), v.cfg.Bucket, o.Key, minio.GetObjectLegalHoldOptions{VersionID: o.VersionID})
	if on := err == nil && *status == minio.LegalHoldEnabled; on != want {
		v.Errorf("an ordinary client sees %t, %v", on, err)
	}
}

func aHoldShowsUntilItIsLifted(v *vault) {
	body := []byte("footage")
	o := v.create(footageKey, body)
	v.isHeld(o, false)
	for _, on := range []bool{false, true, true, false, false, true, false} { // what is set can be set again
		if err := v.SetHold(v.Context(), o.Key, o.VersionID, on); err != nil {
			v.Errorf("set %t: %v", on, err)
		}
		v.isHeld(o, on)
	}
	v.holds(o, body)
}

func aHoldIsOfOneVersion(v *vault) {
	first := v.create(footageKey, []byte("footage"))
	info, err := v.raw.PutObject(v.Context(), v.cfg.Bucket, footageKey, http.NoBody, 0, minio.PutObjectOptions{
		Mode: minio.Compliance, RetainUntilDate: first.RetainUntil, DisableContentSha256: true, Checksum: minio.ChecksumSHA256,
	})
	if err != nil {
		v.Fatal(err)
	}
	if err := v.SetHold(v.Context(), first.Key, first.VersionID, true); err != nil {
		v.Fatal(err)
	}
	v.isHeld(first, true)
	second, err := v.Stat(v.Context(), footageKey, info.VersionID)
	if err != nil {
		v.Fatal(err)
	}
	v.isHeld(second, false)
}

// liarsVault is the same vault behind a liar.
func (v *vault) liarsVault(l liar) *storage.Vault {
	v.Helper()
	cfg := l.front(v.T, v.server)
	cfg.Bucket = v.cfg.Bucket
	behind, err := storage.Open(v.Context(), cfg)
	if err != nil {
		v.Fatal(err)
	}
	return behind
}

func aHoldThatIsNotShownIsAnError(v *vault) {
	o := v.create(footageKey, []byte("footage"))
	saysYes := liar{instead: instead(http.StatusOK, func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.URL.Query().Has("legal-hold")
	})}
	if err := v.liarsVault(saysYes).SetHold(v.Context(), o.Key, o.VersionID, true); !errors.Is(err, storage.ErrNoLock) {
		v.Errorf("a store that only says yes gives %v", err)
	}
	v.isHeld(o, false)
	notByHead := liar{answer: func(r *http.Response) { r.Header.Del("X-Amz-Object-Lock-Legal-Hold") }}
	if err := v.liarsVault(notByHead).SetHold(v.Context(), o.Key, o.VersionID, true); !errors.Is(err, storage.ErrNoLock) {
		v.Errorf("a store whose HEAD does not show it gives %v", err)
	}
}

func aHoldThatIsNotLiftedIsAnError(v *vault) {
	o := v.create(footageKey, []byte("footage"))
	if err := v.SetHold(v.Context(), o.Key, o.VersionID, true); err != nil {
		v.Fatal(err)
	}
	saysYes := liar{instead: instead(http.StatusOK, func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.URL.Query().Has("legal-hold")
	})}
	if err := v.liarsVault(saysYes).SetHold(v.Context(), o.Key, o.VersionID, false); !errors.Is(err, storage.ErrHeld) {
		v.Errorf("a store that only says yes gives %v", err)
	}
	v.isHeld(o, true)
}

func aHoldThatIsNotKnownIsAnError(v *vault) {
	o := v.create(footageKey, []byte("footage"))
	for _, on := range []bool{true, false} {
		silent := v.liarsVault(liar{instead: answersHolds(http.StatusForbidden, `<Error><Code>AccessDenied</Code></Error>`)})
		if err := silent.SetHold(v.Context(), o.Key, o.VersionID, on); !errors.Is(err, storage.ErrDenied) {
			v.Errorf("set to %t, and it may not be asked: %v", on, err)
		}
	}
}

func aHoldOnNothingIsRefused(v *vault) {
	o := v.create(footageKey, []byte("footage"))
	for _, on := range []bool{true, false} {
		if err := v.SetHold(v.Context(), o.Key, "", on); err == nil {
			v.Error("no version was named")
		}
		if err := v.SetHold(v.Context(), o.Key+"-none", o.VersionID, on); !errors.Is(err, storage.ErrNotFound) {
			v.Errorf("a key that is not there gives %v", err)
		}
		if err := v.SetHold(v.Context(), o.Key, "5f0c4c53-3e4d-4b53-9d5f-1c1f2a3b4c5d", on); !errors.Is(err, storage.ErrNotFound) {
			v.Errorf("a version that is not there gives %v", err)
		}
	}
	if held, err := v.Held(v.Context(), o.Key, ""); err == nil {
		v.Errorf("held is %t of no version", held)
	}
	v.isHeld(o, false)
}
