package embedded

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// call sends a signed request, so that a refusal is the guard's and not one of
// a missing signature or checksum.
func call(t *testing.T, s *Store, method, target, body string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), method, "http://"+s.Endpoint()+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name := range header {
		req.Header.Set(name, header.Get(name))
	}
	sum, md := sha256.Sum256([]byte(body)), md5.Sum([]byte(body))
	if req.Header.Get("X-Amz-Content-Sha256") == "" {
		req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	}
	if body != "" && req.Header.Get("X-Amz-Checksum-Sha256") == "" {
		req.Header.Set("Content-Md5", base64.StdEncoding.EncodeToString(md[:]))
	}
	res, err := s.Transport().RoundTrip(signer.SignV4(*req, s.AccessKey(), s.SecretKey(), "", s.Region()))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

func TestRefusedSettings(t *testing.T) {
	s, c := openVault(t)
	data := footage(7, 1000)
	info := mustPut(t, c, "a", data, minio.PutObjectOptions{})
	const lockRule = `<ObjectLockConfiguration><ObjectLockEnabled>%s</ObjectLockEnabled><Rule><DefaultRetention><Mode>%s</Mode><Days>%d</Days></DefaultRetention></Rule></ObjectLockConfiguration>`
	const account = `<Account><Access>x</Access><Secret>y</Secret><Role>admin</Role></Account>`
	copyOf := http.Header{"X-Amz-Copy-Source": {"/" + bucket + "/a"}}
	for _, tc := range []struct {
		name, method, target, body string
		header                     http.Header
		want                       int
	}{
		{"policy", "PUT", "/vault?policy", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::vault","arn:aws:s3:::vault/*"]}]}`, nil, 403},
		{"no policy", "DELETE", "/vault?policy", "", nil, 403},
		{"bucket acl", "PUT", "/vault?acl", "", http.Header{"X-Amz-Acl": {"public-read"}}, 400},
		{"object acl", "PUT", "/vault/a?acl", "", http.Header{"X-Amz-Acl": {"public-read"}}, 403},
		{"ownership", "PUT", "/vault?ownershipControls", `<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>`, nil, 403},
		{"no ownership", "DELETE", "/vault?ownershipControls", "", nil, 403},
		{"cors", "PUT", "/vault?cors", `<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>`, nil, 403},
		{"no cors", "DELETE", "/vault?cors", "", nil, 403},
		{"website", "PUT", "/vault?website", `<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>`, nil, 403},
		{"no website", "DELETE", "/vault?website", "", nil, 403},
		{"lifecycle", "PUT", "/vault?lifecycle", `<LifecycleConfiguration/>`, nil, 501},
		{"no lifecycle", "DELETE", "/vault?lifecycle", "", nil, 501},
		{"encryption", "PUT", "/vault?encryption", `<x/>`, nil, 501},
		{"replication", "PUT", "/vault?replication", `<x/>`, nil, 501},
		{"public access", "DELETE", "/vault?publicAccessBlock", "", nil, 501},
		{"suspend versioning", "PUT", "/vault?versioning", `<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>`, nil, 403},
		{"lock off", "PUT", "/vault?object-lock", fmt.Sprintf(lockRule, "Disabled", "COMPLIANCE", 400), nil, 400},
		{"weak lock rule", "PUT", "/vault?object-lock", fmt.Sprintf(lockRule, "Enabled", "GOVERNANCE", 1), nil, 403},
		{"strong lock rule", "PUT", "/vault?object-lock", fmt.Sprintf(lockRule, "Enabled", "COMPLIANCE", 4000), nil, 403},
		{"bucket tags", "PUT", "/vault?tagging", `<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>`, nil, 403},
		{"no bucket tags", "DELETE", "/vault?tagging", "", nil, 403},
		{"delete bucket", "DELETE", "/vault", "", nil, 403},
		{"bucket without lock", "PUT", "/other", "", nil, 403},
		{"copy", "PUT", "/vault/b", "", copyOf, 501},
		{"copy part", "PUT", "/vault/b?partNumber=1&uploadId=x", "", copyOf, 501},
		{"create user", "PATCH", "/create-user", account, nil, 405},
		{"delete user", "PATCH", "/delete-user?access=x", "", nil, 405},
		{"list users", "PATCH", "/list-users", "", nil, 405},
		{"change owner", "PATCH", "/change-bucket-owner?bucket=vault&owner=x", "", nil, 405},
		{"admin create bucket", "PATCH", "/other/create", "", nil, 405},
		{"preflight", "OPTIONS", "/vault/a", "", nil, 405},

		{"key with folder name", "PUT", "/vault/dir/", "", nil, 400},
		{"key with empty part", "PUT", "/vault/x//y", "z", nil, 400},
		{"key leaving its prefix", "PUT", "/vault/ingestd-selftest/..%2Fy", "z", nil, 400},
		{"key among the parts", "PUT", "/vault/.sgwtmp/y", "z", nil, 400},
		{"delete among the parts", "DELETE", "/vault/.sgwtmp/multipart?versionId=null", "", nil, 400},
		{"abort outside", "DELETE", "/vault/a?uploadId=" + url.QueryEscape("../../../../vault"), "", nil, 404},
		{"part outside", "PUT", "/vault/a?partNumber=1&uploadId=" + url.QueryEscape("../../../../vault"), "z", nil, 404},
		{"version outside", "DELETE", "/vault/a?versionId=" + url.QueryEscape("../../../../../../././lock"), "", nil, 400},
		{"unlocked upload", "POST", "/vault/a?uploadId=" + url.QueryEscape("../../x"), `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>d41d8cd98f00b204e9800998ecf8427e</ETag></Part></CompleteMultipartUpload>`, nil, 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, answer := call(t, s, tc.method, tc.target, tc.body, tc.header); got != tc.want {
				t.Errorf("%s %s: got %d, want %d\n%s", tc.method, tc.target, got, tc.want, answer)
			}
		})
	}

	checkWholeAndLocked(t, c, "a", info.VersionID, data)
	if keys := listKeys(t, c); len(keys) != 1 {
		t.Errorf("keys are %v, want one", keys)
	}
	buckets, err := c.ListBuckets(within(t))
	if err != nil || len(buckets) != 1 {
		t.Errorf("buckets are %v, %v; want one", buckets, err)
	}
	versioning, err := c.GetBucketVersioning(within(t), bucket)
	if err != nil || !versioning.Enabled() {
		t.Errorf("versioning is %v, %v", versioning, err)
	}
	lock, mode, _, _, err := c.GetObjectLockConfig(within(t), bucket)
	if err != nil || lock != "Enabled" || mode != nil && *mode != "" {
		t.Errorf("object lock is %q with rule %v, %v", lock, mode, err)
	}
	if err := c.EnableVersioning(within(t), bucket); err != nil {
		t.Errorf("enabling what is enabled: %v", err)
	}
}
