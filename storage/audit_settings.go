package storage

import (
	"bytes"
	"context"
	"crypto/md5" // Content-MD5 is what S3 asks for, not a safeguard
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// maxSetting is far above any setting of a bucket; a bucket policy has 20 KB.
const maxSetting = 1 << 20

// settings reads and puts back the settings of a bucket in the exact bytes of
// the server. The client of minio-go decodes them and drops what it does not
// know, which must not be lost when they are put back; and it can't read the
// ACL of a bucket.
type settings struct {
	v         *Vault
	region    string
	transport *http.Transport
	client    *http.Client
	answers   int     // settings that were shown, or shown to be absent
	refusals  []error // of the others
}

// setting is one of them as the server gave it. The zero value is one that is
// not set.
type setting struct {
	body   []byte
	header http.Header
}

func (s setting) set() bool { return s.header != nil }

// defaultSizeHeader is a part of a lifecycle configuration of AWS that is not
// in its body: putting the body back alone would reset it.
const defaultSizeHeader = "X-Amz-Transition-Default-Minimum-Object-Size"

func (v *Vault) openSettings(ctx context.Context) (*settings, error) {
	transport, err := v.cfg.transport()
	if err != nil {
		return nil, err
	}
	s := &settings{v: v, region: v.cfg.Region, transport: transport}
	s.client = &http.Client{
		Transport: &clockReader{next: transport, ahead: &v.storeAhead},
		// A signature is good for one host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if s.region == "" {
		if s.region, err = v.client.GetBucketLocation(ctx, v.cfg.Bucket); err != nil || s.region == "" {
			s.region = "us-east-1" // what servers with one region take
		}
	}
	return s, nil
}

func (s *settings) close() { s.transport.CloseIdleConnections() }

// get reads one setting, by the name of its subresource. One that is not set
// is no error.
func (s *settings) get(ctx context.Context, name string) (setting, error) {
	got, err := s.do(ctx, http.MethodGet, name, nil, nil)
	if resp := answer(err); resp.StatusCode == http.StatusNotFound && resp.Code != minio.NoSuchBucket {
		s.answers++
		return setting{}, nil
	}
	if err != nil {
		s.refusals = append(s.refusals, classify(err))
		return setting{}, err
	}
	s.answers++
	return got, nil
}

// putBack writes a setting as it was read; one that was not set is unset.
func (s *settings) putBack(ctx context.Context, name string, old setting) error {
	if !old.set() {
		_, err := s.do(ctx, http.MethodDelete, name, nil, nil)
		return err
	}
	header := http.Header{}
	if size := old.header.Get(defaultSizeHeader); size != "" {
		header.Set(defaultSizeHeader, size)
	}
	_, err := s.do(ctx, http.MethodPut, name, header, old.body)
	return err
}

func (s *settings) do(ctx context.Context, method, name string, header http.Header, body []byte) (setting, error) {
	scheme := "http"
	if s.v.cfg.TLS {
		scheme = "https"
	}
	u := url.URL{Scheme: scheme, Host: s.v.cfg.Endpoint, Path: "/" + s.v.cfg.Bucket + "/", RawQuery: url.Values{name: {""}}.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return setting{}, fmt.Errorf("%s of bucket %s: %w", name, s.v.cfg.Bucket, err)
	}
	for k := range header {
		request.Header.Set(k, header.Get(k))
	}
	sum := sha256.Sum256(body)
	request.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	if method == http.MethodPut {
		md := md5.Sum(body)
		request.Header.Set("Content-Md5", base64.StdEncoding.EncodeToString(md[:]))
	}
	request = signer.SignV4(*request, s.v.cfg.AccessKey, s.v.cfg.SecretKey, "", s.region)
	response, err := s.client.Do(request)
	if err != nil {
		return setting{}, fmt.Errorf("%s of bucket %s: %w", name, s.v.cfg.Bucket, err)
	}
	defer func() { _ = response.Body.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(response.Body, maxSetting))
	if err != nil {
		return setting{}, fmt.Errorf("%s of bucket %s: %w", name, s.v.cfg.Bucket, err)
	}
	if response.StatusCode/100 != 2 {
		return setting{}, fmt.Errorf("%s of bucket %s: %w", name, s.v.cfg.Bucket, refusal(response, text))
	}
	return setting{body: text, header: response.Header}, nil
}

// refusal is the S3 error of an answer, also where its body is none.
func refusal(response *http.Response, text []byte) error {
	var e minio.ErrorResponse
	if xml.Unmarshal(text, &e) != nil || e.Code == "" {
		e = minio.ErrorResponse{Code: response.Status, Message: "The store answered " + response.Status + "."}
		if response.StatusCode == http.StatusForbidden {
			e.Code = minio.AccessDenied
		}
	}
	e.StatusCode = response.StatusCode
	return e
}

// notImplemented: the server does not know the setting. MinIO's and versitygw's
// code is NotImplemented, S3 also has MethodNotAllowed.
func notImplemented(err error) bool {
	resp := answer(err)
	return resp.StatusCode == http.StatusNotImplemented || resp.StatusCode == http.StatusMethodNotAllowed || resp.Code == "NotImplemented"
}
