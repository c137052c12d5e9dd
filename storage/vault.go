package storage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// What a caller acts on. Every other error is worth telling a person, no more.
var (
	// ErrUnavailable: the store did not answer, or answered that it can't now.
	// Trying again later may help; the bytes are not stored.
	ErrUnavailable = errors.New("the store is not available")
	// ErrFull: there is no room for it. Waiting does not help; a person must make
	// room or add storage.
	ErrFull = errors.New("the store is full")
	// ErrNoLock: the bucket, or the store, does not protect footage. Nothing may
	// be ingested.
	ErrNoLock = errors.New("footage would not be locked there")
	// ErrDenied: the store knows us but does not let us, or does not know us.
	ErrDenied = errors.New("the store refused the credentials")
	// ErrTaken: the key holds something else than what was to be stored.
	ErrTaken = errors.New("the key is taken by other content")
	// ErrCorrupt: what the store holds is not what was sent to it.
	ErrCorrupt = errors.New("the stored bytes differ")
	// ErrNotFound: there is no such object, version or upload.
	ErrNotFound = errors.New("not found in the store")
)

// maxSkew is how far the store's clock may be from the station's. S3 refuses
// signatures beyond 15 minutes; a lock date needs no better.
const maxSkew = 15 * time.Minute

// Config says which bucket is the vault and how it is reached.
type Config struct {
	// Name tells people which store it is; empty: the endpoint.
	Name      string
	Endpoint  string // host:port
	Region    string
	Bucket    string
	TLS       bool
	CAFile    string // PEM of a private certificate authority; empty: the system's
	AccessKey string
	SecretKey string
	// Transport reaches a store that has no address, the embedded one. Nil: TCP.
	Transport *http.Transport
	// Months is the policy; fewer than FloorMonths count as FloorMonths.
	Months int
	// Location is the station's time zone, in which months are counted.
	Location *time.Location
	// Now is the station's best knowledge of the time, never earlier than what
	// it has seen before. Nil: the system clock.
	Now func() time.Time
}

// Vault is one bucket with Object Lock. It is safe for concurrent use.
type Vault struct {
	cfg    Config
	client *minio.Client
	core   minio.Core
	// storeAhead is how far the store's clock was ahead of the station's at the
	// last answer, in nanoseconds; written by every response.
	storeAhead atomic.Int64
}

// Open connects to the vault, makes the bucket if there is none, and refuses one
// that can't keep footage: without Object Lock or versioning, or with a clock
// that is off by more than 15 minutes.
func Open(ctx context.Context, cfg Config) (*Vault, error) {
	v, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	if err := v.ensureBucket(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// connect makes the client; no request goes out.
func connect(cfg Config) (*Vault, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Location == nil {
		cfg.Location = time.Local
	}
	v := &Vault{cfg: cfg}
	transport, err := cfg.transport()
	if err != nil {
		return nil, err
	}
	v.client, err = minio.New(cfg.Endpoint, &minio.Options{
		Creds:        credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""),
		Secure:       cfg.TLS,
		Region:       cfg.Region,
		Transport:    &clockReader{next: &lender{transport}, ahead: &v.storeAhead},
		BucketLookup: minio.BucketLookupPath,
		// The session decides how long to wait for a store; here only the
		// hiccups of a single connection are bridged.
		MaxRetries: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", cfg.Endpoint, err)
	}
	v.core = minio.Core{Client: v.client}
	return v, nil
}

func (c Config) transport() (*http.Transport, error) {
	t := c.Transport
	if t == nil {
		var err error
		if t, err = minio.DefaultTransport(c.TLS); err != nil {
			return nil, fmt.Errorf("store %s: %w", c.Endpoint, err)
		}
	}
	t = t.Clone()
	// Completing a large upload is one request that a server on a file system
	// answers only when it has put the parts together.
	t.ResponseHeaderTimeout = 15 * time.Minute
	// Small files go many at once, and a connection that is not kept is made anew.
	t.MaxIdleConnsPerHost = max(t.MaxIdleConnsPerHost, 128)
	// A small file goes out with its headers, and comes back with them, in one call
	// of the system; large bodies pass these buffers by.
	t.WriteBufferSize, t.ReadBufferSize = 32<<10, 32<<10
	if !c.TLS {
		lendDirectly(t)
		return t, nil
	}
	// Over TLS they don't, and every write is encrypted and sent by itself.
	t.WriteBufferSize = 128 << 10
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificate authority of the store: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificate authority of the store: no certificate in %s", c.CAFile)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, nil
}

func (v *Vault) ensureBucket(ctx context.Context) error {
	b := v.cfg.Bucket
	exists, err := v.client.BucketExists(ctx, b)
	// First, for a store whose clock is elsewhere refuses every signature, and
	// that looks as if the credentials were wrong.
	if ahead := v.StoreAhead(); ahead.Abs() > maxSkew {
		return fmt.Errorf("bucket %s: the store's clock is %s the station's: set both by NTP, a lock date counts on it: %w",
			b, offsetWords(ahead), ErrUnavailable)
	}
	if err != nil {
		return fmt.Errorf("open bucket %s at %s: %w%s", b, v.cfg.name(), classify(err), trustHint(err))
	}
	if !exists {
		err := v.client.MakeBucket(ctx, b, minio.MakeBucketOptions{Region: v.cfg.Region, ObjectLocking: true})
		// Two stations may make the bucket in the same moment.
		if code := answer(err).Code; err != nil && code != minio.BucketAlreadyOwnedByYou {
			return fmt.Errorf("make bucket %s at %s: %w", b, v.cfg.name(), classify(err))
		}
	}
	// Servers show a bucket before its lock. One that another station is just
	// making gets a second.
	for try := 1; ; try++ {
		err := v.checkProtection(ctx)
		if try == 10 || !errors.Is(err, ErrNoLock) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// checkProtection refuses a bucket that can't keep footage.
func (v *Vault) checkProtection(ctx context.Context) error {
	b := v.cfg.Bucket
	lock, _, _, _, err := v.client.GetObjectLockConfig(ctx, b)
	if err != nil && answer(err).StatusCode != http.StatusNotFound {
		return fmt.Errorf("read the lock setting of bucket %s: %w", b, classify(err))
	}
	if err != nil || lock != "Enabled" {
		return fmt.Errorf("bucket %s has no Object Lock, so anyone with its keys could delete footage: %w; a lock can only be had at creation: make a new bucket with it (mc mb --with-lock, aws s3api create-bucket --object-lock-enabled-for-bucket) and set storage.bucket to that", b, ErrNoLock)
	}
	versioning, err := v.client.GetBucketVersioning(ctx, b)
	if err != nil {
		return fmt.Errorf("read the versioning of bucket %s: %w", b, classify(err))
	}
	if !versioning.Enabled() {
		return fmt.Errorf("bucket %s: versioning is %q, it must be Enabled: %w", b, versioning.Status, ErrNoLock)
	}
	return nil
}

// trustHint says what to do about a certificate that this machine can't check.
func trustHint(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		return ""
	}
	return "; if the store has a certificate authority of its own, set storage.s3.ca_file to its PEM file"
}

// Bucket is the name of the bucket that is the vault.
func (v *Vault) Bucket() string { return v.cfg.Bucket }

// Describe names the vault for a report: where it is, without credentials.
func (v *Vault) Describe() string { return v.cfg.name() + "/" + v.cfg.Bucket }

func (c Config) name() string {
	if c.Name != "" {
		return c.Name
	}
	return c.Endpoint
}

// StoreAhead is how far the store's clock is ahead of the system's, to the
// second, as its last answer told.
func (v *Vault) StoreAhead() time.Duration { return time.Duration(v.storeAhead.Load()) }

// Now is the latest of what the station and the store take for the time:
// whichever clock is slow, a lock that counts from it is never short.
func (v *Vault) Now() time.Time {
	station, store := v.cfg.Now(), v.storeNow()
	if store.After(station) {
		return store
	}
	return station
}

// storeNow is the time by the store's clock, which ends its locks.
func (v *Vault) storeNow() time.Time { return time.Now().Add(v.StoreAhead()) }

// Months is how many calendar months the vault locks for, never below the floor.
func (v *Vault) Months() int { return max(v.cfg.Months, FloorMonths) }

// RetainUntil is the date that an object stored at this moment must be locked
// to, by the policy and never below the floor.
func (v *Vault) RetainUntil() time.Time {
	return RetainUntil(v.Now(), v.cfg.Months, v.cfg.Location)
}

// answer is the S3 error in err, or the zero value where no server answered.
func answer(err error) minio.ErrorResponse {
	var resp minio.ErrorResponse
	errors.As(err, &resp)
	return resp
}

// classify tells apart what a caller can act on, and keeps the server's words.
func classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	resp := answer(err)
	var kind error
	switch resp.Code {
	case minio.AccessDenied, minio.InvalidAccessKeyID, minio.SignatureDoesNotMatch, "ExpiredToken", "AuthorizationHeaderMalformed",
		"XAdminUserNotFound": // versitygw, of an unknown access key
		kind = ErrDenied
	case minio.NoSuchKey, minio.NoSuchUpload, minio.NoSuchVersion, minio.NoSuchBucket:
		kind = ErrNotFound
	case "ConditionalRequestConflict", "OperationAborted": // AWS: another writer at this moment
		kind = ErrUnavailable
	case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest":
		kind = ErrCorrupt
	case "":
		kind = ErrUnavailable // no answer of an S3 server at all
	default:
		switch {
		case resp.StatusCode == http.StatusNotFound:
			kind = ErrNotFound
		case resp.StatusCode == http.StatusInsufficientStorage:
			kind = ErrFull
		case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
			kind = ErrUnavailable
		default:
			return err
		}
	}
	return fmt.Errorf("%w: %w", kind, err)
}

func offsetWords(ahead time.Duration) string {
	if ahead < 0 {
		return (-ahead).Round(time.Second).String() + " behind"
	}
	return ahead.Round(time.Second).String() + " ahead of"
}

// clockReader notes the store's Date header, to whole seconds, with each answer.
type clockReader struct {
	next  http.RoundTripper
	ahead *atomic.Int64
}

func (c *clockReader) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		ahead := time.Until(date)
		if ahead.Abs() < 2*time.Second { // the header's own grain and the way
			ahead = 0
		}
		c.ahead.Store(int64(ahead))
		if asked, ok := r.Context().Value(dateKey{}).(*time.Time); ok {
			*asked = date
		}
	}
	return resp, nil
}

type dateKey struct{}

// withDate has the store's time, as the last answer under the context tells it, written
// to date; it is left alone by an answer that does not. No two requests may use the
// context at once.
func withDate(ctx context.Context, date *time.Time) context.Context {
	return context.WithValue(ctx, dateKey{}, date)
}
