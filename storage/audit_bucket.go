package storage

import (
	"context"
	"encoding/xml"
	"fmt"
	"net"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/sse"
)

// floorDays is the floor where only days can be said: six calendar months are
// 181 to 184 days, the longest run counts.
const floorDays = 184

// lockRule is the lock setting of a bucket (S3: ObjectLockConfiguration).
type lockRule struct {
	Enabled string `xml:"ObjectLockEnabled"`
	Default struct {
		Mode  string `xml:"Mode"`
		Days  int    `xml:"Days"`
		Years int    `xml:"Years"`
	} `xml:"Rule>DefaultRetention"`
}

func (r *auditor) objectLock(ctx context.Context) {
	got, err := r.settings.get(ctx, "object-lock")
	if err != nil {
		r.notChecked(CheckObjectLock, "Whether the bucket has Object Lock", err)
		return
	}
	var rule lockRule
	if got.set() {
		if err := xml.Unmarshal(got.body, &rule); err != nil {
			r.notChecked(CheckObjectLock, "Whether the bucket has Object Lock", fmt.Errorf("the answer can't be read: %w", err))
			return
		}
	}
	if rule.Enabled != "Enabled" {
		r.found(Finding{
			Check: CheckObjectLock, Severity: SeverityError,
			What: "The bucket has no Object Lock.",
			Why:  "Whoever has its keys can delete footage before six months have passed (第十一条, 第十三条(四)).",
			Mend: "A lock is had at creation: mc mb --with-lock ALIAS/NEW-BUCKET, or aws s3api create-bucket --object-lock-enabled-for-bucket; then set storage.bucket to that.",
		})
		return
	}
	r.defaultRetention(rule)
}

// defaultRetention: none is fine, for each object is locked by the request that
// creates it. A weak one says that somebody takes it for the protection.
func (r *auditor) defaultRetention(rule lockRule) {
	d := rule.Default
	days := d.Days
	words := fmt.Sprintf("%s %d days", d.Mode, d.Days)
	if d.Years > 0 {
		days, words = d.Years*365, fmt.Sprintf("%s %d years", d.Mode, d.Years)
	}
	if d.Mode == "" || d.Mode == string(minio.Compliance) && days >= floorDays {
		return
	}
	r.found(Finding{
		Check: CheckDefaultRetention, Severity: SeverityWarning,
		What:   "The default retention of the bucket is weaker than the law: " + words + ".",
		Why:    "ingestd locks each object by itself, in COMPLIANCE mode for six calendar months at least (第十一条), so its footage is safe. Whatever other tools store here gets the weak lock: GOVERNANCE can be bypassed, and fewer than 184 days may be fewer than six months.",
		Mend:   "mc retention set --default COMPLIANCE 184d " + alias + r.bucket() + "; or none at all: mc retention clear --default " + alias + r.bucket(),
		Detail: words,
	})
}

func (r *auditor) versioning(ctx context.Context) {
	const subject = "Whether versioning is on"
	got, err := r.settings.get(ctx, "versioning")
	if err != nil {
		r.notChecked(CheckVersioning, subject, err)
		return
	}
	var state minio.BucketVersioningConfiguration
	if got.set() {
		if err := xml.Unmarshal(got.body, &state); err != nil {
			r.notChecked(CheckVersioning, subject, fmt.Errorf("the answer can't be read: %w", err))
			return
		}
	}
	if !state.Enabled() {
		r.found(Finding{
			Check: CheckVersioning, Severity: SeverityError,
			What: fmt.Sprintf("Versioning of the bucket is %q, it must be Enabled.", state.Status),
			Why:  "Without versions a lock protects nothing: a new object takes the place of the old (第十三条(三)(四)).",
			Mend: "mc version enable " + alias + r.bucket() + ", or aws s3api put-bucket-versioning --bucket " + r.bucket() + " --versioning-configuration Status=Enabled; then find out who suspended it.",
		})
	}
	if len(state.ExcludedPrefixes) > 0 || state.ExcludeFolders { // MinIO
		r.found(Finding{
			Check: CheckVersioning, Severity: SeverityError,
			What:   "Versioning leaves some prefixes out.",
			Why:    "Objects below them are replaced when they are written again (第十三条(三)(四)).",
			Mend:   "mc version enable " + alias + r.bucket() + " without --excluded-prefixes and --exclude-folders.",
			Detail: string(got.body),
		})
	}
}

// encryption only tells: what is right depends on where the disks stand, which
// the bucket does not know.
func (r *auditor) encryption(ctx context.Context) {
	f := Finding{
		Check: CheckEncryption, Severity: SeverityNote,
		Why: "Footage is internal material and may hold secrets and personal data (第十二条). Disks are stolen, sent in for repair and thrown away.",
	}
	if r.embedded() {
		f.What = "The embedded store does not encrypt what it keeps."
		f.Mend = "Encrypt the disk below it, for example with LUKS (cryptsetup luksFormat), and keep the key off the machine."
		r.found(f)
		return
	}
	got, err := r.settings.get(ctx, "encryption")
	if err != nil {
		r.notChecked(CheckEncryption, "Whether the store encrypts what it keeps", err)
		return
	}
	f.What = "The bucket shows no default encryption."
	f.Mend = "Turn it on (MinIO with a KMS: mc encrypt set sse-s3 " + alias + r.bucket() + "), or encrypt the disks of the store."
	if got.set() {
		var config sse.Configuration
		if err := xml.Unmarshal(got.body, &config); err != nil {
			r.notChecked(CheckEncryption, "Whether the store encrypts what it keeps", fmt.Errorf("the answer can't be read: %w", err))
			return
		}
		var algorithms []string
		for _, rule := range config.Rules {
			algorithms = append(algorithms, rule.Apply.SSEAlgorithm)
		}
		f.What = "The bucket shows default encryption: " + strings.Join(algorithms, ", ") + "."
		f.Mend = "Nothing, but keep the keys: whoever loses them has lost the footage (第十三条(二))."
	}
	r.found(f)
}

func (r *auditor) tls() {
	host, _, err := net.SplitHostPort(r.v.cfg.Endpoint)
	if err != nil {
		host = r.v.cfg.Endpoint // without a port
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	if r.v.cfg.TLS || r.embedded() || host == "localhost" || ip != nil && ip.IsLoopback() {
		return
	}
	r.found(Finding{
		Check: CheckTLS, Severity: SeverityError,
		What: "Footage goes to " + r.v.cfg.Endpoint + " without TLS.",
		Why:  "Whoever is on the network can see footage on its way, which is internal material (第十二条, 第十三条(五)), and can answer in place of the store.",
		Mend: "Give the store a certificate (MinIO: public.crt and private.key in --certs-dir), set storage.s3.tls to true and, for an authority of your own, storage.s3.ca_file to its PEM file.",
	})
}
