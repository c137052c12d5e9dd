package storage_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/crc64nvme"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/lifecycle"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// lesser is a front to MinIO that acts with a key of the given policy, whatever
// key the client has: a temporary one of AssumeRole, whose policy stands inline.
func lesser(t *testing.T, server *storetest.Server, bucket, policyFile string) (front storage.Config) {
	t.Helper()
	text, err := os.ReadFile("../configs/policies/" + policyFile)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer // such a policy may have 2048 bytes
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	root := server.Config()
	sts, err := credentials.NewSTSAssumeRole("http://"+root.Endpoint, credentials.STSAssumeRoleOptions{
		AccessKey: root.AccessKey, SecretKey: root.SecretKey, Location: root.Region, DurationSeconds: 3600,
		Policy: strings.NewReplacer("BUCKET", bucket, "STATION", "station-1").Replace(compact.String()),
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := sts.GetWithContext(&credentials.CredContext{Client: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: actingAs{key, root.Region},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", root.Endpoint, root.Endpoint
		},
	})
	t.Cleanup(proxy.Close)
	front = root
	front.Endpoint, front.Bucket = strings.TrimPrefix(proxy.URL, "http://"), bucket
	return front
}

// actingAs signs every request with another key than the client has.
type actingAs struct {
	key    credentials.Value
	region string
}

func (a actingAs) RoundTrip(r *http.Request) (*http.Response, error) {
	for _, name := range []string{"Authorization", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		r.Header.Del(name)
	}
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	return http.DefaultTransport.RoundTrip(signer.SignV4(*r, a.key.AccessKeyID, a.key.SecretAccessKey, a.key.SessionToken, a.region))
}

func client(t *testing.T, cfg storage.Config) *minio.Client {
	t.Helper()
	c, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""), Region: cfg.Region, BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stationPolicy: with the least key a station does its work, passes the
// self-test and the audit, and can do nothing else.
func stationPolicy(t *testing.T, server *storetest.Server) {
	_, cfg := server.Vault(t)
	front := lesser(t, server, cfg.Bucket, "station-minio.json")
	station, err := storage.Open(t.Context(), front)
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{T: t, Vault: station, cfg: cfg, server: server, raw: server.Client()}

	remarks, err := station.SelfTest(t.Context())
	if err != nil || len(remarks) > 0 {
		t.Errorf("the self-test gives %q, %v", remarks, err)
	}
	m, err := station.MakeMarker(t.Context(), "station-1", sign)
	if err != nil {
		t.Fatal(err)
	}
	body := random(partSize)
	small := v.create("station-1/2026-01-01/a/small", body[:1000])
	v.holds(small, body[:1000])
	u, err := station.Begin(t.Context(), "station-1/2026-01-01/a/large", station.RetainUntil())
	if err != nil {
		t.Fatal(err)
	}
	part, err := station.PutPart(t.Context(), u, 1, body, crc64nvme.Checksum(body))
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := station.Kept(t.Context(), u); err != nil || len(kept) != 1 {
		t.Errorf("parts %v, %v", kept, err)
	}
	large, err := station.Complete(t.Context(), u, []storage.Part{part}, partSize, part.CRC64)
	if err != nil {
		t.Fatal(err)
	}
	if sum, n, err := station.ReadBack(t.Context(), large.Key, large.VersionID, nil); err != nil || n != partSize || sum != fmt.Sprintf("%x", sha256.Sum256(body)) {
		t.Errorf("read back %s, %d, %v", sum, n, err)
	}
	if err := station.Extend(t.Context(), large.Key, large.VersionID, large.RetainUntil.AddDate(0, 1, 0)); err != nil {
		t.Error(err)
	}
	if u, err = station.Begin(t.Context(), "station-1/2026-01-01/a/given-up", station.RetainUntil()); err == nil {
		err = station.Abort(t.Context(), u)
	}
	if err != nil {
		t.Error(err)
	}
	var listed int
	for _, err := range station.List(t.Context(), "station-1/") {
		if err != nil {
			t.Fatal(err)
		}
		listed++
	}
	if listed != 2 {
		t.Errorf("%d versions are listed", listed)
	}

	findings := audit(t, station, storage.Audit{TryKey: true, BucketID: m.BucketID, Verify: verify})
	want := []string{"encryption note", "free_space note not checked", "station_key note not checked"} // GOVERNANCE is denied
	if got := told(findings); strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("the audit gives %q, want %q\n%+v", got, want, findings)
	}
	if _, err := station.Create(t.Context(), "station-2/x", body[:1], sha256.Sum256(body[:1]), station.RetainUntil()); err == nil {
		t.Error("the station wrote below the prefix of another")
	}
	if _, err := station.Fetch(t.Context(), "station-2/x", ""); err == nil {
		t.Error("the station may read what another has stored")
	}
	mustBeDenied(t, client(t, front), cfg.Bucket, small)
	v.holds(small, body[:1000])
}

// mustBeDenied tries everything that weakens a bucket; each must be denied to the
// key, not only refused by the lock.
func mustBeDenied(t *testing.T, c *minio.Client, bucket string, o storage.Object) {
	t.Helper()
	ctx := t.Context()
	for what, err := range weakening(t, c, bucket, o) {
		if status := minio.ToErrorResponse(err).StatusCode; status != http.StatusForbidden {
			t.Errorf("%s: status %d, %v", what, status, err)
		}
	}
	governance, soon := minio.Governance, time.Now().Add(time.Hour)
	_, err := c.PutObject(ctx, bucket, "station-1/governance", strings.NewReader("x"), 1,
		minio.PutObjectOptions{Mode: minio.Governance, RetainUntilDate: soon})
	if status := minio.ToErrorResponse(err).StatusCode; status != http.StatusForbidden {
		t.Errorf("a GOVERNANCE lock: status %d, %v", status, err)
	}
	// Here MinIO asks the lock before the policy and answers 400.
	err = c.PutObjectRetention(ctx, bucket, o.Key, minio.PutObjectRetentionOptions{Mode: &governance, RetainUntilDate: &soon, VersionID: o.VersionID, GovernanceBypass: true})
	if err == nil {
		t.Error("a lock was made GOVERNANCE")
	}
}

// weakening tries to delete and to weaken, and tells what came of it.
func weakening(t *testing.T, c *minio.Client, bucket string, o storage.Object) map[string]error {
	t.Helper()
	ctx, governance := t.Context(), minio.Governance
	days, unit := uint(1), minio.Days
	return map[string]error{
		"delete":          c.RemoveObject(ctx, bucket, o.Key, minio.RemoveObjectOptions{}),
		"delete version":  c.RemoveObject(ctx, bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID}),
		"bypass":          c.RemoveObject(ctx, bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true}),
		"hold":            c.PutObjectLegalHold(ctx, bucket, o.Key, minio.PutObjectLegalHoldOptions{Status: new(minio.LegalHoldDisabled)}),
		"lock rule":       c.SetBucketObjectLockConfig(ctx, bucket, &governance, &days, &unit),
		"no lock rule":    c.SetBucketObjectLockConfig(ctx, bucket, nil, nil, nil),
		"versioning":      c.SuspendVersioning(ctx, bucket),
		"policy":          c.SetBucketPolicy(ctx, bucket, `{"Version":"2012-10-17","Statement":[]}`),
		"no policy":       c.SetBucketPolicy(ctx, bucket, ""),
		"no lifecycle":    c.SetBucketLifecycle(ctx, bucket, nil),
		"no bucket":       c.RemoveBucket(ctx, bucket),
		"bucket by force": c.RemoveBucketWithOptions(ctx, bucket, minio.RemoveBucketOptions{ForceDelete: true}),
		"another bucket":  c.MakeBucket(ctx, bucket+"-2", minio.MakeBucketOptions{}),
	}
}

// TestPoliciesArePolicies: the forms that no server here can load are at least
// JSON of the grammar, and deny what the loaded ones deny.
func TestPoliciesArePolicies(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"station", "admin-disposal", "admin-hold"} {
		ours, aws := denied(t, kind+"-minio.json"), denied(t, kind+"-aws.json")
		for action := range ours {
			if action != "s3:ForceDeleteBucket" && !aws[action] { // MinIO's own
				t.Errorf("%s-aws.json does not deny %s, as the one for MinIO does", kind, action)
			}
		}
	}
}

func denied(t *testing.T, file string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../configs/policies/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Version   string
		Statement []struct {
			Sid, Effect string
			Action      any
			Resource    any
			Condition   map[string]map[string]string
		}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || p.Version != "2012-10-17" {
		t.Fatalf("%s: version %q, %v", file, p.Version, err)
	}
	all := map[string]bool{}
	for _, s := range p.Statement {
		if s.Sid != "Never" || s.Effect != "Deny" || s.Condition != nil {
			continue
		}
		for _, a := range s.Action.([]any) {
			all[a.(string)] = true
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s denies nothing", file)
	}
	return all
}

// Settings that are there stay exactly as they are when the key is tried.
func triesChangeNothing(t *testing.T, server *storetest.Server) {
	v, cfg := server.Vault(t)
	c := server.Client()
	settings := func() string {
		text, err1 := c.GetBucketPolicy(t.Context(), cfg.Bucket)
		rules, err2 := c.GetBucketLifecycle(t.Context(), cfg.Bucket)
		mode, days, unit, err3 := c.GetBucketObjectLockConfig(t.Context(), cfg.Bucket)
		versions, err4 := c.GetBucketVersioning(t.Context(), cfg.Bucket)
		all, err5 := json.Marshal([]any{text, rules, mode, days, unit, versions, err1, minio.ToErrorResponse(err2).Code, err3, err4})
		if err5 != nil {
			t.Fatal(err5)
		}
		return string(all)
	}
	for _, spoil := range []func(*testing.T, *minio.Client, string){
		func(*testing.T, *minio.Client, string) {},
		defaultRetention(minio.Compliance, 200, minio.Days),
		policy(`{"Sid":"web","Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::BUCKET/*"]}`),
		rule(lifecycle.Rule{RuleFilter: lifecycle.Filter{Prefix: storage.SelfTestPrefix}, Expiration: lifecycle.Expiration{Days: 1}}),
	} {
		spoil(t, c, cfg.Bucket)
		before := settings()
		findings := audit(t, v, storage.Audit{TryKey: true})
		if after := settings(); after != before {
			t.Errorf("before %s\nafter  %s", before, after)
		}
		for _, right := range []string{"s3:DeleteObject)", "s3:DeleteObjectVersion)", "s3:BypassGovernanceRetention)",
			"s3:PutBucketObjectLockConfiguration)", "s3:PutBucketPolicy)", "s3:PutLifecycleConfiguration)", "s3:PutBucketVersioning)"} {
			if !strings.Contains(fmt.Sprint(findings), right) {
				t.Errorf("that the root key has %s was not found", strings.TrimSuffix(right, ")"))
			}
		}
	}
}

// A store that lets a locked object go is an error, whatever else is in order.
func TestAuditFindsLiars(t *testing.T) {
	t.Parallel()
	server := storetest.Embedded(t)
	for name, l := range map[string]liar{
		"says it deleted": {instead: instead(http.StatusNoContent, func(r *http.Request) bool { return r.Method == http.MethodDelete })},
		"says it shortened a lock": {instead: instead(http.StatusOK, func(r *http.Request) bool {
			return r.Method == http.MethodPut && r.URL.Query().Has("retention")
		})},
		"shows no lock": {answer: func(r *http.Response) { r.Header.Del(lockMode) }},
	} {
		v, err := storage.Open(t.Context(), l.front(t, server))
		if err != nil {
			t.Fatal(err)
		}
		if got := ofCheck(audit(t, v, storage.Audit{TryKey: true}), storage.CheckLockHolds); got != "lock_holds error" {
			t.Errorf("a store that %s gives %q", name, got)
		}
	}
}

// A store that takes a setting and then shows another.
func aChangedSettingIsFound(t *testing.T, server *storetest.Server) {
	var spoil atomic.Bool
	l := liar{instead: func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("versioning") {
			return false
		}
		if r.Method == http.MethodPut {
			spoil.Store(true)
		}
		if spoil.Load() && r.Method == http.MethodGet {
			_, err := w.Write([]byte("<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"))
			return err == nil
		}
		return false
	}}
	v, err := storage.Open(t.Context(), l.front(t, server))
	if err != nil {
		t.Fatal(err)
	}
	findings := audit(t, v, storage.Audit{TryKey: true})
	if !strings.Contains(fmt.Sprint(findings), "The setting versioning of the bucket is not as it was") {
		t.Errorf("that a setting changed was not found: %+v", findings)
	}
}
