package embedded

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"hash/crc64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// What storage relies on; see research on S3, but proven on this store.

func TestSinglePutIsCheckedByTheServer(t *testing.T) {
	s, c := openVault(t)
	data := footage(20, 300_000)
	sum := sha256.Sum256(data)
	for _, tc := range []struct {
		name string
		sum  string
		want int
	}{
		{"right", base64.StdEncoding.EncodeToString(sum[:]), http.StatusOK},
		{"wrong", base64.StdEncoding.EncodeToString(make([]byte, 32)), http.StatusBadRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opts := minio.PutObjectOptions{Mode: minio.Compliance, RetainUntilDate: time.Now().AddDate(1, 0, 0), DisableContentSha256: true, DisableMultipart: true}
			opts.SetMatchETagExcept("*")
			header := opts.Header()
			header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			header.Set("X-Amz-Checksum-Sha256", tc.sum)
			got, _ := call(t, s, "PUT", "/"+bucket+"/"+tc.name, string(data), header)
			if got != tc.want {
				t.Fatalf("got %d, want %d", got, tc.want)
			}
			info, err := c.StatObject(within(t), bucket, tc.name, minio.StatObjectOptions{Checksum: true})
			if tc.want != http.StatusOK {
				if !absent(err) {
					t.Errorf("the object exists: %v", err)
				}
				return
			}
			if err != nil || info.ChecksumSHA256 != tc.sum {
				t.Errorf("head shows %q, %v", info.ChecksumSHA256, err)
			}
			checkWholeAndLocked(t, c, tc.name, "", data)
		})
	}
}

func TestPartsAreListedWithChecksums(t *testing.T) {
	_, c := openVault(t)
	ctx := within(t)
	table := crc64.MakeTable(0x9A6C9329AC4BC9B5)
	sum := func(b []byte) string {
		return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc64.Checksum(b, table)))
	}
	data := footage(21, partBytes+1000)
	id, err := c.NewMultipartUpload(ctx, bucket, "m", minio.PutObjectOptions{
		UserMetadata: map[string]string{"x-amz-checksum-algorithm": "CRC64NVME", "x-amz-checksum-type": "FULL_OBJECT"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var parts []minio.CompletePart
	for n, chunk := range [][]byte{data[:partBytes], data[partBytes:]} {
		header := make(http.Header)
		header.Set("X-Amz-Checksum-Crc64nvme", sum(chunk))
		part, err := c.PutObjectPart(ctx, bucket, "m", id, n+1, bytes.NewReader(chunk), int64(len(chunk)), minio.PutObjectPartOptions{DisableContentSha256: true, CustomHeader: header})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, minio.CompletePart{PartNumber: n + 1, ETag: part.ETag, ChecksumCRC64NVME: sum(chunk)})
	}
	listed, err := c.ListObjectParts(ctx, bucket, "m", id, 0, 1000)
	if err != nil || len(listed.ObjectParts) != 2 {
		t.Fatalf("listed %+v, %v", listed.ObjectParts, err)
	}
	for i, part := range listed.ObjectParts {
		if part.ChecksumCRC64NVME != parts[i].ChecksumCRC64NVME {
			t.Errorf("part %d: checksum %q, want %q", part.PartNumber, part.ChecksumCRC64NVME, parts[i].ChecksumCRC64NVME)
		}
	}
	if _, err := c.CompleteMultipartUpload(ctx, bucket, "m", id, parts, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := c.StatObject(ctx, bucket, "m", minio.StatObjectOptions{Checksum: true})
	if err != nil || info.ChecksumCRC64NVME != sum(data) {
		t.Errorf("head shows %q, want %q (%v)", info.ChecksumCRC64NVME, sum(data), err)
	}
	checkWholeAndLocked(t, c, "m", "", data)
}

func TestVersionsAreListedCompletely(t *testing.T) {
	s, c := openVault(t)
	var want []string
	// Names whose order as keys is not their order as folders.
	for _, key := range []string{"a-b/x", "a/x", "a/y/z", "a.b", "a0", "b"} {
		var ids []string
		for v := range 5 {
			ids = append(ids, mustPut(t, c, key, []byte{byte(v)}, minio.PutObjectOptions{}).VersionID)
		}
		slices.Reverse(ids)
		for _, id := range ids {
			want = append(want, key+" "+id)
		}
	}
	slices.SortStableFunc(want, func(a, b string) int { // by key; versions stay newest first
		return strings.Compare(strings.Fields(a)[0], strings.Fields(b)[0])
	})
	for _, limit := range []int{1, 4, 5, 7, 1000} {
		var got []string
		keyMarker, versionMarker := "", ""
		for more := true; more; {
			page := listVersions(t, s, keyMarker, versionMarker, limit)
			for _, v := range page.Versions {
				got = append(got, v.Key+" "+v.VersionID)
			}
			more, keyMarker, versionMarker = page.IsTruncated, page.NextKeyMarker, page.NextVersionIDMarker
			if len(got) > len(want) {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: got\n%s\nwant\n%s", limit, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	// A page's last version may be gone before the next page is asked for.
	page := listVersions(t, s, "a/x", "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1000)
	if len(page.Versions) != 15 || page.Versions[0].Key != "a/y/z" {
		t.Errorf("after a version that is gone: %d versions", len(page.Versions))
	}
	// As storage asks.
	n := 0
	for o := range c.Client.ListObjects(within(t), bucket, minio.ListObjectsOptions{WithVersions: true, Recursive: true, Prefix: "a"}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if o.IsLatest != (n%5 == 0) || o.Size != 1 || o.ETag == "" {
			t.Errorf("%+v", o)
		}
		n++
	}
	if n != 25 {
		t.Errorf("%d versions below a, want 25", n)
	}
}

type versionPage struct {
	IsTruncated         bool
	NextKeyMarker       string
	NextVersionIDMarker string `xml:"NextVersionIdMarker"`
	Versions            []struct {
		Key       string
		VersionID string `xml:"VersionId"`
	} `xml:"Version"`
}

func listVersions(t *testing.T, s *Store, key, version string, limit int) versionPage {
	t.Helper()
	query := url.Values{"versions": {""}, "max-keys": {itoa(limit)}, "key-marker": {key}, "version-id-marker": {version}}
	code, answer := call(t, s, "GET", "/"+bucket+"?"+query.Encode(), "", nil)
	var page versionPage
	if err := xml.Unmarshal([]byte(answer), &page); err != nil || code != http.StatusOK {
		t.Fatalf("list versions: %d, %v: %s", code, err, answer)
	}
	return page
}
