package storage_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// told are the findings in short, sorted: check, severity, whether unchecked.
func told(findings []storage.Finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, short(f))
	}
	slices.Sort(all)
	return all
}

func short(f storage.Finding) string {
	if f.NotChecked {
		return fmt.Sprintf("%s %s not checked", f.Check, f.Severity)
	}
	return fmt.Sprintf("%s %s", f.Check, f.Severity)
}

// forPeople: every finding says what, why and how to mend it, with the article.
func forPeople(t *testing.T, findings []storage.Finding) {
	t.Helper()
	for _, f := range findings {
		article := strings.Contains(f.Why, "第") || f.NotChecked
		if !strings.HasSuffix(f.What, ".") || !article || f.Mend == "" || strings.Contains(f.What+f.Why+f.Mend, "%!") {
			t.Errorf("not fit for a person: %+v", f)
		}
	}
}

func audit(t *testing.T, v *storage.Vault, a storage.Audit) []storage.Finding {
	t.Helper()
	findings, err := v.Audit(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	forPeople(t, findings)
	return findings
}

func sign(message []byte) ([]byte, error) { return append([]byte("signed "), message...), nil }

func verify(message, signature []byte) error {
	if string(signature) != "signed "+string(message) {
		return errors.New("bad signature")
	}
	return nil
}

// A bucket as it should be, looked at with the server's root key, gives exactly
// this, and nothing of the bucket is changed by looking.
func TestAuditOfAGoodBucket(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"embedded": {
			"encryption note",
			"lifecycle note not checked", // this store has none
			"station_key note",           // the one key of the store
		},
		"minio":     {"encryption note", "station_key warning"},
		"minio-tls": {"encryption note", "station_key warning"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, cfg := servers[name](t).Vault(t)
			m := markerIsMade(t, v, cfg)
			a := storage.Audit{TryKey: true, BucketID: m.BucketID, Verify: verify, Space: &storage.Space{Free: 50, Total: 100}}
			findings := audit(t, v, a)
			if got := told(findings); !slices.Equal(got, want) {
				t.Errorf("got %q\nwant %q\n%+v", got, want, findings)
			}
			for version, err := range v.List(t.Context(), "") {
				if err != nil || version.DeleteMarker || version.Key != storage.MarkerKey && !strings.HasPrefix(version.Key, storage.SelfTestPrefix) {
					t.Errorf("the audit left %+v, %v", version, err)
				}
			}
			if again := told(audit(t, v, a)); !slices.Equal(again, want) {
				t.Errorf("the second time it gives %q", again)
			}
		})
	}
}

// TestAuditOnMinIO shares one server, which takes seconds to start, among what
// does not disturb each other.
func TestAuditOnMinIO(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	for name, check := range map[string]func(*testing.T, *storetest.Server){
		"OnlyLooks":       auditOnlyLooks,
		"RoomAndLine":     auditOfTheRoomAndTheLine,
		"SpoiltBuckets":   auditOfSpoiltBuckets,
		"OtherServers":    auditOfOtherServers,
		"TriesKeepAll":    triesChangeNothing,
		"SettingsAreLost": aChangedSettingIsFound,
		"LookAlikes":      lookAlikes,
		"StationPolicy":   stationPolicy,
		"DisposalPolicy":  disposalPolicy,
		"HoldPolicy":      holdPolicy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, server)
		})
	}
}

// What is not asked for is told as not checked, and nothing is written.
func auditOnlyLooks(t *testing.T, server *storetest.Server) {
	v, _ := server.Vault(t)
	want := []string{"bucket_marker note not checked", "encryption note", "free_space note not checked", "station_key note not checked"}
	if got := told(audit(t, v, storage.Audit{})); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for version, err := range v.List(t.Context(), "") {
		t.Errorf("the audit left %+v, %v", version, err)
	}
}

func TestAuditOfNothing(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	v, cfg := server.Vault(t)
	if err := server.Client().RemoveBucket(t.Context(), cfg.Bucket); err != nil {
		t.Fatal(err)
	}
	if findings, err := v.Audit(t.Context(), storage.Audit{}); !errors.Is(err, storage.ErrNotFound) || findings != nil {
		t.Errorf("a bucket that is gone gives %v, %v", findings, err)
	}
	var denied atomic.Bool
	front := liar{instead: instead(http.StatusForbidden, func(*http.Request) bool { return denied.Load() })}.front(t, server)
	w, err := storage.Open(t.Context(), front)
	if err != nil {
		t.Fatal(err)
	}
	denied.Store(true)
	if findings, err := w.Audit(t.Context(), storage.Audit{}); !errors.Is(err, storage.ErrDenied) || findings != nil {
		t.Errorf("a key that may see nothing gives %v, %v", findings, err)
	}
	server.Kill()
	if findings, err := v.Audit(t.Context(), storage.Audit{}); !errors.Is(err, storage.ErrUnavailable) || findings != nil {
		t.Errorf("a dead store gives %v, %v", findings, err)
	}
	if _, err := v.CheckMarker(t.Context(), "seen", verify); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrWrongBucket) {
		t.Errorf("a dead store gives %v", err)
	}
}

func TestAuditOfTheClock(t *testing.T) {
	t.Parallel()
	var off atomic.Int64
	front := liar{answer: func(r *http.Response) {
		r.Header.Set("Date", time.Now().Add(time.Duration(off.Load())).UTC().Format(http.TimeFormat))
	}}.front(t, storetest.Embedded(t))
	v, err := storage.Open(t.Context(), front)
	if err != nil {
		t.Fatal(err)
	}
	for by, want := range map[time.Duration]string{
		0:                 "",
		30 * time.Second:  "store_clock note",
		-30 * time.Second: "store_clock note",
		5 * time.Minute:   "store_clock warning",
		-5 * time.Minute:  "store_clock warning",
		20 * time.Minute:  "store_clock error",
		-20 * time.Minute: "store_clock error",
	} {
		off.Store(int64(by))
		if got := ofCheck(audit(t, v, storage.Audit{}), storage.CheckStoreClock); got != want {
			t.Errorf("a store %s ahead gives %q, want %q", by, got, want)
		}
	}
}

// ofCheck are the findings of one check in short.
func ofCheck(findings []storage.Finding, check string) string {
	var all []string
	for _, f := range findings {
		if f.Check == check {
			all = append(all, short(f))
		}
	}
	return strings.Join(all, ", ")
}

func auditOfTheRoomAndTheLine(t *testing.T, server *storetest.Server) {
	v, cfg := server.Vault(t)
	for space, want := range map[storage.Space]string{
		{Free: 1 << 40, Total: 2 << 40}: "",
		{Free: 100 << 30, Total: 1e12}:  "",
		{Free: 90 << 30, Total: 1e12}:   "free_space warning",
		{Free: 10 << 30, Total: 1e12}:   "free_space error",
		{}:                              "free_space error",
	} {
		if got := ofCheck(audit(t, v, storage.Audit{Space: &space}), storage.CheckFreeSpace); got != want {
			t.Errorf("%+v gives %q, want %q", space, got, want)
		}
	}
	// 0.0.0.0 reaches this machine too, but it is not a loopback address.
	for endpoint, want := range map[string]string{cfg.Endpoint: "", strings.Replace(cfg.Endpoint, "127.0.0.1", "0.0.0.0", 1): "tls error"} {
		cfg.Endpoint = endpoint
		v, err := storage.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := ofCheck(audit(t, v, storage.Audit{}), storage.CheckTLS); got != want {
			t.Errorf("%s gives %q, want %q", endpoint, got, want)
		}
	}
}

// without gives the findings that are not in both.
func without(findings []storage.Finding, usual []string) []storage.Finding {
	left := maps.Collect(func(yield func(string, bool) bool) {
		for _, u := range usual {
			yield(u, true)
		}
	})
	return slices.DeleteFunc(findings, func(f storage.Finding) bool { return left[short(f)] })
}
