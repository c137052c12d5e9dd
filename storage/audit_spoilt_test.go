package storage_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// usual of any bucket, where nothing is asked for beyond a look.
var usual = []string{"bucket_marker note not checked", "encryption note", "free_space note not checked", "station_key note not checked"}

// spoilt is one setting that a bucket should not have, and exactly what the
// audit must say of it.
type spoilt struct {
	spoil func(t *testing.T, c *minio.Client, bucket string)
	want  []string // check, severity: a word of What or Detail
}

func rule(r lifecycle.Rule) func(*testing.T, *minio.Client, string) {
	return func(t *testing.T, c *minio.Client, bucket string) {
		t.Helper()
		r.ID, r.Status = "tidy", "Enabled"
		config := lifecycle.NewConfiguration()
		config.Rules = []lifecycle.Rule{r}
		if err := c.SetBucketLifecycle(t.Context(), bucket, config); err != nil {
			t.Fatal(err)
		}
	}
}

func defaultRetention(mode minio.RetentionMode, n uint, unit minio.ValidityUnit) func(*testing.T, *minio.Client, string) {
	return func(t *testing.T, c *minio.Client, bucket string) {
		t.Helper()
		if err := c.SetBucketObjectLockConfig(t.Context(), bucket, &mode, &n, &unit); err != nil {
			t.Fatal(err)
		}
	}
}

func policy(statements string) func(*testing.T, *minio.Client, string) {
	return func(t *testing.T, c *minio.Client, bucket string) {
		t.Helper()
		text := `{"Version":"2012-10-17","Statement":[` + strings.ReplaceAll(statements, "BUCKET", bucket) + `]}`
		if err := c.SetBucketPolicy(t.Context(), bucket, text); err != nil {
			t.Fatal(err)
		}
	}
}

// auditOfSpoiltBuckets: on a real server, each fault is found, and nothing
// that is not there.
func auditOfSpoiltBuckets(t *testing.T, server *storetest.Server) {
	for name, s := range map[string]spoilt{
		"expires after 30 days": {rule(lifecycle.Rule{Expiration: lifecycle.Expiration{Days: 30}}),
			[]string{`lifecycle error: "tidy"`}},
		"expires after 183 days": {rule(lifecycle.Rule{Expiration: lifecycle.Expiration{Days: 183}}),
			[]string{"lifecycle error: 183 days"}},
		"expires after 184 days": {rule(lifecycle.Rule{Expiration: lifecycle.Expiration{Days: 184}}),
			[]string{"lifecycle warning: 184 days"}},
		"expires below a prefix": {rule(lifecycle.Rule{RuleFilter: lifecycle.Filter{Prefix: "station-1/"}, Expiration: lifecycle.Expiration{Days: 30}}),
			[]string{"lifecycle error: objects below station-1/"}},
		"expires on a date": {rule(lifecycle.Rule{Expiration: lifecycle.Expiration{Date: lifecycle.ExpirationDate{Time: time.Now().UTC().Truncate(24*time.Hour).AddDate(5, 0, 0)}}}),
			[]string{"lifecycle error: behind delete markers from"}},
		"expires noncurrent versions": {rule(lifecycle.Rule{NoncurrentVersionExpiration: lifecycle.NoncurrentVersionExpiration{NoncurrentDays: 7}}),
			[]string{"lifecycle error: no longer current after 7 days"}},
		"removes lone delete markers": {rule(lifecycle.Rule{Expiration: lifecycle.Expiration{DeleteMarker: true}}),
			[]string{"lifecycle note: delete markers"}},
		"cleans up after the self-test": {rule(lifecycle.Rule{RuleFilter: lifecycle.Filter{Prefix: storage.SelfTestPrefix}, Expiration: lifecycle.Expiration{Days: 1}}),
			nil},
		"COMPLIANCE for 184 days": {defaultRetention(minio.Compliance, 184, minio.Days), nil},
		"COMPLIANCE for a year":   {defaultRetention(minio.Compliance, 1, minio.Years), nil},
		"COMPLIANCE for 180 days": {defaultRetention(minio.Compliance, 180, minio.Days), []string{"default_retention warning: COMPLIANCE 180 days"}},
		"GOVERNANCE for a day":    {defaultRetention(minio.Governance, 1, minio.Days), []string{"default_retention warning: GOVERNANCE 1 days"}},
		"GOVERNANCE for a year":   {defaultRetention(minio.Governance, 1, minio.Years), []string{"default_retention warning: GOVERNANCE 1 years"}},
		"everybody may read": {policy(`{"Sid":"web","Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::BUCKET/*"]}`),
			[]string{`public_access error: s3:GetObject`}},
		"everybody may delete": {policy(`{"Effect":"Allow","Principal":"*","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::BUCKET/*"}`),
			[]string{"bucket_policy error: allows s3:DeleteObject", "public_access error: lets everybody in"}},
		"everybody is denied": {policy(`{"Sid":"no","Effect":"Deny","Principal":"*","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::BUCKET/*"}`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, cfg := server.Vault(t)
			s.spoil(t, server.Client(), cfg.Bucket)
			s.mustBeFound(t, v)
		})
	}
}

func (s spoilt) mustBeFound(t *testing.T, v *storage.Vault) {
	t.Helper()
	findings := audit(t, v, storage.Audit{})
	left := without(findings, usual)
	slices.SortFunc(left, func(a, b storage.Finding) int { return strings.Compare(short(a), short(b)) })
	if len(left) != len(s.want) {
		t.Fatalf("got %q\nwant %q beyond the usual", told(left), s.want)
	}
	for i, want := range s.want {
		kind, words, _ := strings.Cut(want, ": ")
		if short(left[i]) != kind || !strings.Contains(left[i].What+left[i].Detail, words) {
			t.Errorf("got %s: %s %s\nwant %s", short(left[i]), left[i].What, left[i].Detail, want)
		}
	}
}

// auditOfOtherServers: what MinIO can't be brought to show, in the form of
// the API reference of S3, before a real server.
func auditOfOtherServers(t *testing.T, server *storetest.Server) {
	const (
		ruleForm = `<LifecycleConfiguration><Rule><ID>tidy</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>%</Rule></LifecycleConfiguration>`
		aclForm  = `<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList><Grant><Grantee><ID>me</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant><Grant><Grantee>%</Grantee><Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>`
		stmtForm = `{"Statement":{"Sid":"S1","Effect":"Allow",%}}`
	)
	for name, c := range map[string]struct {
		setting, form, body string
		status              int
		want                []string
	}{
		"expires all": {"lifecycle", ruleForm, `<Expiration><Days>90</Days><ExpiredObjectAllVersions>true</ExpiredObjectAllVersions></Expiration>`, 200,
			[]string{"lifecycle error: removes all versions of objects after 90 days"}},
		"expires all, in MinIO's other form": {"lifecycle", ruleForm, `<AllVersionsExpiration><Days>90</Days></AllVersionsExpiration>`, 200,
			[]string{"lifecycle error: removes all versions of objects after 90 days"}},
		"expires what has a delete marker": {"lifecycle", ruleForm, `<DelMarkerExpiration><Days>9</Days></DelMarkerExpiration>`, 200,
			[]string{"lifecycle error: have a delete marker after 9 days"}},
		"archived":          {"lifecycle", ruleForm, `<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition>`, 200, []string{"lifecycle error: moves objects to GLACIER after 30 days"}},
		"archived later":    {"lifecycle", ruleForm, `<Transition><Days>200</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>`, 200, []string{"lifecycle warning: DEEP_ARCHIVE"}},
		"archived old ones": {"lifecycle", ruleForm, `<NoncurrentVersionTransition><NoncurrentDays>1</NoncurrentDays><StorageClass>TIER2</StorageClass></NoncurrentVersionTransition>`, 200, []string{"lifecycle error: no longer current to TIER2 after 1 days"}},
		"moved and there":   {"lifecycle", ruleForm, `<Transition><Days>30</Days><StorageClass>STANDARD_IA</StorageClass></Transition>`, 200, []string{"lifecycle note: STANDARD_IA"}},
		"archived, both": {"lifecycle", ruleForm, `<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition><NoncurrentVersionTransition><NoncurrentDays>1</NoncurrentDays><StorageClass>GLACIER</StorageClass></NoncurrentVersionTransition>`, 200,
			[]string{"lifecycle error: moves objects", "lifecycle error: no longer current"}},
		"deletes in the self-test": {"policy", stmtForm, `"Principal":{"AWS":"arn:aws:iam::1:role/x"},"Action":["s3:Delete*"],"Resource":"arn:aws-cn:s3:::VAULT/ingestd-selftest/*"`, 200, nil},
		"deletes elsewhere too": {"policy", stmtForm, `"Principal":{"AWS":"arn:aws:iam::1:role/x"},"Action":["s3:Delete*"],"Resource":["arn:aws:s3:::VAULT/ingestd-selftest/*","arn:aws:s3:::VAULT/station-1/*"]`, 200,
			[]string{"bucket_policy error: s3:DeleteObject"}},
		"parts for a day":  {"lifecycle", ruleForm, `<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>`, 200, []string{"lifecycle_uploads warning: after 1 days"}},
		"parts for a week": {"lifecycle", ruleForm, `<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>`, 200, nil},
		"keeps few versions": {"lifecycle", ruleForm, `<NoncurrentVersionExpiration><NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration>`, 200,
			[]string{"lifecycle error: keeps only 2 versions"}},
		"disabled":             {"lifecycle", `<LifecycleConfiguration><Rule><ID>x</ID><Status>Disabled</Status>%</Rule></LifecycleConfiguration>`, `<Expiration><Days>1</Days></Expiration>`, 200, nil},
		"unreadable rules":     {"lifecycle", "%", "<Lifecyc", 200, []string{"lifecycle warning not checked: "}},
		"rules denied":         {"lifecycle", "%", "", 403, []string{"lifecycle warning not checked: Lifecycle rules could not"}},
		"rules not known":      {"lifecycle", "%", "", 501, []string{"lifecycle note not checked: 501"}},
		"rules unavailable":    {"lifecycle", "%", "", 503, []string{"lifecycle warning not checked: 503"}},
		"ACL for all":          {"acl", aclForm, `<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>`, 200, []string{"public_access error: AllUsers"}},
		"ACL for all accounts": {"acl", aclForm, `<URI>http://acs.amazonaws.com/groups/global/AuthenticatedUsers</URI>`, 200, []string{"public_access error: AuthenticatedUsers"}},
		"ACL for another":      {"acl", aclForm, `<ID>you</ID>`, 200, []string{"bucket_acl warning: you"}},
		"ACL denied":           {"acl", "%", "", 403, []string{"bucket_acl warning not checked: "}},
		"deletes by role":      {"policy", stmtForm, `"Principal":{"AWS":"arn:aws:iam::1:role/x"},"Action":["s3:Delete*"],"Resource":"*"`, 200, []string{`bucket_policy error: "S1"`}},
		"any action by role":   {"policy", stmtForm, `"Principal":{"AWS":"arn:aws:iam::1:role/x"},"Action":"S3:*","Resource":"*"`, 200, []string{"bucket_policy error: s3:BypassGovernanceRetention"}},
		"all but reading":      {"policy", stmtForm, `"Principal":{"AWS":"arn:aws:iam::1:role/x"},"NotAction":"s3:Get*","Resource":"*"`, 200, []string{"bucket_policy error: s3:PutLifecycleConfiguration"}},
		"lock rule by role":    {"policy", stmtForm, `"Principal":{"AWS":"arn:aws:iam::1:role/x"},"Action":"s3:PutBucketObjectLockConfiguration","Resource":"*"`, 200, []string{"bucket_policy error: s3:PutBucketObjectLockConfiguration"}},
		"reads by role":        {"policy", stmtForm, `"Principal":{"AWS":"arn:aws:iam::1:role/x"},"Action":["s3:GetObject"],"Resource":"*"`, 200, nil},
		"all but one":          {"policy", stmtForm, `"NotPrincipal":{"AWS":"arn:aws:iam::1:role/x"},"Action":["s3:GetObject"],"Resource":"*"`, 200, []string{"public_access error: S1"}},
		"by condition":         {"policy", stmtForm, `"Principal":"*","Action":["s3:GetObject"],"Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`, 200, []string{"public_access error: under a condition"}},
		"unreadable policy":    {"policy", "%", "{", 200, []string{"bucket_policy warning not checked: "}},
		"policy denied":        {"policy", "%", "", 403, []string{"bucket_policy warning not checked: "}},
		"suspended":            {"versioning", "%", "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>", 200, []string{"versioning error: Suspended"}},
		"not versioned":        {"versioning", "%", "<VersioningConfiguration/>", 200, []string{"versioning error: \"\""}},
		"partly versioned": {"versioning", "%", "<VersioningConfiguration><Status>Enabled</Status><ExcludedPrefixes><Prefix>a/</Prefix></ExcludedPrefixes></VersioningConfiguration>", 200,
			[]string{"versioning error: some prefixes"}},
		"lock lost":   {"object-lock", "%", "", 404, []string{"object_lock error: no Object Lock"}},
		"lock hidden": {"object-lock", "%", "", 403, []string{"object_lock warning not checked: "}},
		"encrypted": {"encryption", "%", "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>", 200,
			nil}, // the usual note, with other words
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bucket string
			spoiling := make(chan struct{}) // closed when the vault is open
			front := liar{instead: func(w http.ResponseWriter, r *http.Request) bool {
				select {
				case <-spoiling:
				default:
					return false
				}
				if r.Method != http.MethodGet || !r.URL.Query().Has(c.setting) {
					return false
				}
				w.WriteHeader(c.status)
				_, err := w.Write([]byte(strings.ReplaceAll(strings.Replace(c.form, "%", c.body, 1), "VAULT", bucket)))
				return err == nil
			}}.front(t, server)
			bucket = front.Bucket
			v, err := storage.Open(t.Context(), front)
			if err != nil {
				t.Fatal(err)
			}
			close(spoiling)
			spoilt{want: c.want}.mustBeFound(t, v)
		})
	}
}
